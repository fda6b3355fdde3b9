"""Represent sets of addresses as intervals of integers.

The cost depends on the number of gaps, not on the size of a set (invariant I9). Interfaces use `ipaddress` objects for
addresses, computations use `int`; a set of addresses is an `Intervals`. No library used here has such a set: netaddr's
IPSet stores CIDRs.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from kubectl_yoshi.model.errors import UsageError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Cidr: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Span: TypeAlias = tuple[int, int]
"""The first and last address of a run, both inclusive."""


@dataclass(frozen=True)
class Intervals:
    """A set of integers as sorted, disjoint, non-adjacent spans; create it with `from_spans` or operators."""

    spans: tuple[Span, ...] = ()

    @classmethod
    def from_spans(cls, spans: Iterable[Span]) -> Intervals:
        """Return the union of spans in any order, overlapping or not; a span with first > last is empty."""
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
    def from_numbers(cls, numbers: Iterable[int]) -> Intervals:
        """Return the set of these numbers."""
        return cls.from_spans((number, number) for number in numbers)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __len__(self) -> int:  # pragma: no cover - a guard, see `size`
        raise TypeError("an IPv6 set does not fit len(); use .size")

    @property
    def size(self) -> int:
        """Return the number of addresses."""
        return sum(last - first + 1 for first, last in self.spans)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self.spans, (number, _BEYOND)) - 1
        return index >= 0 and number <= self.spans[index][1]

    def __or__(self, other: Intervals) -> Intervals:
        return Intervals.from_spans(self.spans + other.spans)

    def __and__(self, other: Intervals) -> Intervals:
        intersection = []
        i, j = 0, 0
        while i < len(self.spans) and j < len(other.spans):
            a, b = self.spans[i], other.spans[j]
            first, last = max(a[0], b[0]), min(a[1], b[1])
            if first <= last:
                intersection.append((first, last))
            if a[1] < b[1]:
                i += 1
            else:
                j += 1
        return Intervals(tuple(intersection))

    def __sub__(self, other: Intervals) -> Intervals:
        remaining: list[Span] = []
        for first, last in self.spans:
            index = max(bisect_right(other.spans, (first, _BEYOND)) - 1, 0)
            while index < len(other.spans) and other.spans[index][0] <= last:
                hole_first, hole_last = other.spans[index]
                if hole_first > first:
                    remaining.append((first, hole_first - 1))
                first = max(first, hole_last + 1)
                index += 1
            if first <= last:
                remaining.append((first, last))
        return Intervals(tuple(remaining))

    def nth(self, index: int) -> int:
        """Return the address at an index in ascending order, from 0.

        Raises:
            IndexError: the set has fewer addresses.
        """
        for first, last in self.spans:
            if index <= last - first:
                return first + index
            index -= last - first + 1
        raise IndexError(index)

    def first_not_in(self, excluded: Intervals, start: int | None = None) -> int | None:
        """Return the lowest member at or above `start` that is not in `excluded`; None if there is none.

        The cost is the number of own spans passed, with a binary search in `excluded` for each, whatever their size.
        """
        for first, last in self.spans:
            candidate = first if start is None else max(first, start)
            while candidate <= last:
                index = bisect_right(excluded.spans, (candidate, _BEYOND)) - 1
                if index < 0 or excluded.spans[index][1] < candidate:
                    return candidate
                candidate = excluded.spans[index][1] + 1
        return None

    def __iter__(self) -> Iterator[int]:
        """Yield every member in ascending order. Use this only for sets known to be small."""
        for first, last in self.spans:
            yield from range(first, last + 1)


_BEYOND = 1 << 129


def parse_address(text: str, field_name: str = "address") -> Address:
    """Parse an IPv4 or IPv6 address.

    Raises:
        UsageError: the text is not an address; `field_name` names the field.
    """
    stripped = text.strip()
    address: Address | None
    try:  # ip_address() is slower: it tries IPv4 first and raises internally, and thousands of addresses are parsed
        address = ipaddress.IPv6Address(stripped) if ":" in stripped else ipaddress.IPv4Address(stripped)
    except ValueError:
        address = None
    if address is None or "%" in text:  # a zone (RFC 4007) has a meaning on one machine only
        raise UsageError(f'{field_name} "{text}" is not an IP address', "Write one like 10.133.0.10 or fd00::10.")
    return address


def parse_cidr(text: str, field_name: str = "cidr") -> tuple[Cidr, bool]:
    """Parse a network in CIDR notation (RFC 4632); also return whether host bits were set, which are dropped.

    Raises:
        UsageError: the text is not a network; `field_name` names the field.
    """
    interface = None
    _, slash, prefix = text.rpartition("/")
    if slash and prefix.strip().isdecimal() and "%" not in text:  # neither masks nor zones
        try:
            interface = ipaddress.ip_interface(text.strip())
        except ValueError:
            pass
    if interface is None:
        raise UsageError(
            f'{field_name} "{text}" is not a network in CIDR notation', "Write one like 10.133.0.0/16 or fd00:133::/64."
        )
    return interface.network, interface.ip != interface.network.network_address


def parse_span(text: str, field_name: str = "range") -> tuple[Span, int]:
    """Parse a run of addresses, written as "A-B", one address or a CIDR.

    Returns:
        the first and last address, and the IP version (4 or 6).

    Raises:
        UsageError: the text has none of these forms, or A is above B.
    """
    if "/" in text:
        cidr, _ = parse_cidr(text, field_name)
        return span_of(cidr), cidr.version
    first_text, dash, last_text = text.partition("-")
    first = parse_address(first_text, field_name)
    last = parse_address(last_text, field_name) if dash else first
    if first.version != last.version:
        raise UsageError(f'{field_name} "{text}" mixes IPv4 and IPv6', "Give both ends in one address family.")
    if int(first) > int(last):
        raise UsageError(f'{field_name} "{text}" ends before it starts', f"Write it as {last}-{first}.")
    return (int(first), int(last)), first.version


def parse_range(text: str, field_name: str = "range") -> tuple[Address, Address]:
    """Parse a run of addresses, written as "A-B" or as a CIDR, into its first and last address.

    A single address is rejected, since it is usually a mistake.

    Raises:
        UsageError: the text has neither form, or A is above B.
    """
    (first, last), version = parse_span(text, field_name)
    if "-" not in text and "/" not in text:
        raise UsageError(
            f'{field_name} "{text}" has no end', f"Write FIRST-LAST; {text}-{text} where a single address is meant."
        )
    return address_of(first, version), address_of(last, version)


def span_of(cidr: Cidr) -> Span:
    """Return the first and last address of a network, including the network and broadcast address."""
    return int(cidr.network_address), int(cidr.broadcast_address)


def overlap(one: Cidr | None, other: Cidr | None) -> bool:
    """Return whether two networks have a common address; False if one of them has no CIDR."""
    return one is not None and other is not None and one.version == other.version and one.overlaps(other)


def address_of(number: int, version: int) -> Address:
    """Convert an integer to an address; version is 4 or 6."""
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)


def to_name_part(address: Address) -> str:
    """Return an address as a part of a Kubernetes name, which has no colons: "10.0.0.1", "2001-0db8-0000-…-0005"."""
    return str(address) if address.version == 4 else address.exploded.replace(":", "-")


def parse_name_part(word: str) -> Address:
    """Return the address that `to_name_part` converted.

    Raises:
        ValueError: the text is not such a name part.
    """
    return ipaddress.ip_address(word if "." in word else word.replace("-", ":"))


def usable_hosts(cidr: Cidr) -> Intervals:
    """Return the addresses of a network that hosts may use.

    IPv4 excludes the network and broadcast address (RFC 1122 3.2.1.3), except in a /31 (RFC 3021) and a /32. IPv6
    excludes the Subnet-Router anycast address (RFC 4291 2.6.1), except in a /127 (RFC 6164) and a /128.
    """
    first, last = span_of(cidr)
    if last - first >= 2:
        first += 1
        if cidr.version == 4:
            last -= 1
    return Intervals.from_spans([(first, last)])


def format_span(span: Span, version: int) -> str:
    """Return a span as printed: "10.0.0.1" or "10.0.0.1-10.0.0.9"."""
    first, last = address_of(span[0], version), address_of(span[1], version)
    return str(first) if first == last else f"{first}-{last}"
