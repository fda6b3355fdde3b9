"""Addresses as intervals of integers: sets that cost what their gaps cost, never what their size is (invariant I9).

An address is an `ipaddress` object at the edges and an `int` inside; a set of addresses is an `Intervals`.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from kubectl_yoshi.model.errors import UsageMistake

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Cidr: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Span: TypeAlias = tuple[int, int]
"""The first and the last address of a run, both inside."""


@dataclass(frozen=True)
class Intervals:
    """A set of integers as sorted, disjoint spans that do not touch. Make one by `of` or the operators."""

    spans: tuple[Span, ...] = ()

    @classmethod
    def of(cls, spans: Iterable[Span]) -> Intervals:
        """The union of spans in any order, overlapping or not; a span with first > last is empty."""
        merged: list[Span] = []
        for first, last in sorted(spans):
            if first > last:
                continue
            if merged and first <= merged[-1][1] + 1:
                if last > merged[-1][1]:
                    merged[-1] = (merged[-1][0], last)
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @classmethod
    def of_numbers(cls, numbers: Iterable[int]) -> Intervals:
        """The set of these numbers."""
        return cls.of((number, number) for number in numbers)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __len__(self) -> int:  # pragma: no cover - a guard, see `size`
        raise TypeError("an IPv6 set does not fit len(); use .size")

    @property
    def size(self) -> int:
        """How many addresses there are."""
        return sum(last - first + 1 for first, last in self.spans)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.spans, (number, _BEYOND)) - 1
        return at >= 0 and number <= self.spans[at][1]

    def __or__(self, other: Intervals) -> Intervals:
        return Intervals.of(self.spans + other.spans)

    def __and__(self, other: Intervals) -> Intervals:
        common = []
        mine, theirs = 0, 0
        while mine < len(self.spans) and theirs < len(other.spans):
            a, b = self.spans[mine], other.spans[theirs]
            first, last = max(a[0], b[0]), min(a[1], b[1])
            if first <= last:
                common.append((first, last))
            if a[1] < b[1]:
                mine += 1
            else:
                theirs += 1
        return Intervals(tuple(common))

    def __sub__(self, other: Intervals) -> Intervals:
        left: list[Span] = []
        for first, last in self.spans:
            at = max(bisect_right(other.spans, (first, _BEYOND)) - 1, 0)
            while at < len(other.spans) and other.spans[at][0] <= last:
                hole_first, hole_last = other.spans[at]
                if hole_first > first:
                    left.append((first, hole_first - 1))
                first = max(first, hole_last + 1)
                at += 1
            if first <= last:
                left.append((first, last))
        return Intervals(tuple(left))

    def nth(self, index: int) -> int:
        """The address at a place in ascending order, from 0.

        Raises:
            IndexError: there are fewer.
        """
        for first, last in self.spans:
            if index <= last - first:
                return first + index
            index -= last - first + 1
        raise IndexError(index)

    def first_without(self, held: Intervals, start: int | None = None) -> int | None:
        """The lowest member at or above `start` that is not in `held`; None where there is none.

        Costs the number of own spans passed and a binary search in `held` for each, whatever the sets hold.
        """
        for first, last in self.spans:
            here = first if start is None else max(first, start)
            while here <= last:
                at = bisect_right(held.spans, (here, _BEYOND)) - 1
                if at < 0 or held.spans[at][1] < here:
                    return here
                here = held.spans[at][1] + 1
        return None

    def __iter__(self) -> Iterator[int]:
        """Every member in ascending order. Only for sets known to be small."""
        for first, last in self.spans:
            yield from range(first, last + 1)


_BEYOND = 1 << 129


def parse_address(text: str, what: str = "address") -> Address:
    """One IPv4 or IPv6 address.

    Raises:
        UsageMistake: it is none; `what` names the field.
    """
    bare = text.strip()
    address: Address | None
    try:  # ip_address() tries IPv4 first and raises in between, and ledgers have thousands of addresses
        address = ipaddress.IPv6Address(bare) if ":" in bare else ipaddress.IPv4Address(bare)
    except ValueError:
        address = None
    if address is None or "%" in text:  # a zone (RFC 4007) means something on one machine only
        raise UsageMistake(f'{what} "{text}" is not an IP address', "Write one like 10.133.0.10 or fd00::10.")
    return address


def parse_cidr(text: str, what: str = "cidr") -> tuple[Cidr, bool]:
    """A network in CIDR notation (RFC 4632), and whether host bits were set (they are dropped).

    Raises:
        UsageMistake: it is none; `what` names the field.
    """
    written = None
    _, slash, prefix = text.rpartition("/")
    if slash and prefix.strip().isdecimal() and "%" not in text:  # no masks, no zones
        try:
            written = ipaddress.ip_interface(text.strip())
        except ValueError:
            pass
    if written is None:
        raise UsageMistake(
            f'{what} "{text}" is not a network in CIDR notation', "Write one like 10.133.0.0/16 or fd00:133::/64."
        )
    return written.network, written.ip != written.network.network_address


def parse_span(text: str, what: str = "range") -> tuple[Span, int]:
    """A run of addresses, written as "A-B", one address or a CIDR: its first and last, and its IP version (4 or 6).

    Raises:
        UsageMistake: it is none of these, or A is above B.
    """
    if "/" in text:
        cidr, _ = parse_cidr(text, what)
        return span_of(cidr), cidr.version
    first_text, dash, last_text = text.partition("-")
    first = parse_address(first_text, what)
    last = parse_address(last_text, what) if dash else first
    if first.version != last.version:
        raise UsageMistake(f'{what} "{text}" mixes IPv4 and IPv6', "Give both ends in one address family.")
    if int(first) > int(last):
        raise UsageMistake(f'{what} "{text}" ends before it starts', f"Write it as {last}-{first}.")
    return (int(first), int(last)), first.version


def parse_range(text: str, what: str = "range") -> tuple[Address, Address]:
    """The first and last address of a run, written as "A-B" or as a CIDR; one address alone is a slip mostly.

    Raises:
        UsageMistake: it is neither, or A is above B.
    """
    (first, last), version = parse_span(text, what)
    if "-" not in text and "/" not in text:
        raise UsageMistake(
            f'{what} "{text}" has no end', f"Write FIRST-LAST; {text}-{text} where a single address is meant."
        )
    return address_of(first, version), address_of(last, version)


def span_of(cidr: Cidr) -> Span:
    """First and last address of a network, network and broadcast addresses included."""
    return int(cidr.network_address), int(cidr.broadcast_address)


def address_of(number: int, version: int) -> Address:
    """The address object of an integer; version is 4 or 6."""
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)


def word_of(address: Address) -> str:
    """An address as a part of a Kubernetes name, which has no colons: "10.0.0.1", "2001-0db8-0000-…-0005"."""
    return str(address) if address.version == 4 else address.exploded.replace(":", "-")


def address_of_word(word: str) -> Address:
    """What `word_of` was given.

    Raises:
        ValueError: it is no such word.
    """
    return ipaddress.ip_address(word if "." in word else word.replace("-", ":"))


def usable_hosts(cidr: Cidr) -> Intervals:
    """The addresses of a network that a host may have.

    Without the network and broadcast address in IPv4 (RFC 1122 3.2.1.3), except in a /31 (RFC 3021) and a /32;
    without the Subnet-Router anycast address in IPv6 (RFC 4291 2.6.1), except in a /127 (RFC 6164) and a /128.
    """
    first, last = span_of(cidr)
    if last - first >= 2:
        first += 1
        if cidr.version == 4:
            last -= 1
    return Intervals.of([(first, last)])


def written(span: Span, version: int) -> str:
    """A span for people: "10.0.0.1" or "10.0.0.1-10.0.0.9"."""
    first, last = address_of(span[0], version), address_of(span[1], version)
    return str(first) if first == last else f"{first}-{last}"
