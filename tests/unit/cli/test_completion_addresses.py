"""Which addresses a shell offers: what begins as typed, free or held, of small and large networks, with few reads."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.cli.completion.addresses import (
    MAX_ADDRESSES,
    MAX_SHARDS,
    list_free_addresses,
    list_held_addresses,
    spans_with_prefix,
)
from kubectl_yoshi.model.allocations import block_name, shard_of
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot

HOLDER = {"kind": "VirtualMachine", "namespace": "prod", "name": "web-1", "uid": "u"}


def network(cidr: str, held: dict[str, Any] | None = None, **spec: Any) -> Network:
    return parse_network(
        {
            "metadata": {"name": "blue", "namespace": "prod", "uid": "n"},
            "spec": {"plugin": "calico", "cidr": cidr, **spec},
            "status": {"allocations": held or {}},
        }
    )


class Cluster:
    """Answers what is asked for, and counts."""

    def __init__(self, one: Network, *blocks: Json) -> None:
        self.one, self.blocks = one, blocks
        self.reads = 0

    def answer(self, question: Any) -> Any:
        snapshot = Snapshot()
        while True:
            try:
                return question(snapshot)
            except MissingQueriesError as more:
                self.reads += len(more.queries)
                snapshot = snapshot.with_results({read: self.find(read) for read in more.queries})

    def find(self, read: Query) -> tuple[Json, ...]:
        objects = self.blocks if read.resource == ADDRESSBLOCK else (self.one.raw,)
        assert read.resource in (ADDRESSBLOCK, NETWORKWIZARD)
        return tuple(obj for obj in objects if not read.name or obj["metadata"]["name"] == read.name)

    def free(self, typed: str = "") -> list[str]:
        found: list[str] = self.answer(lambda snapshot: list_free_addresses(self.one, typed, snapshot))
        return found


def block(one: Network, first: str, held: int) -> Json:
    """A block whose `held` lowest addresses are held."""
    number = int(ipaddress.ip_address(first))
    return {
        "metadata": {"name": block_name(one, number), "namespace": "prod"},
        "spec": {"network": "blue", "networkUID": "n", "first": first},
        "status": {"allocations": {str(one.address(number + offset)): HOLDER for offset in range(held)}},
    }


def test_lowest_free_addresses_are_completed() -> None:
    one = network("10.0.0.0/29", {"10.0.0.2": HOLDER, "10.0.0.5": "web-2"}, gateway="10.0.0.1")
    assert Cluster(one).free() == ["10.0.0.3", "10.0.0.4", "10.0.0.6"]


def test_number_of_completed_addresses_is_limited() -> None:
    assert len(Cluster(network("10.0.0.0/24")).free()) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("typed", "first"),
    [("10.0.0.25", "10.0.0.25"), ("10.0.0.2", "10.0.0.2"), ("10.0.0.100", "10.0.0.100"), ("10", "10.0.0.1")],
)
def test_completed_addresses_start_with_the_typed_text(typed: str, first: str) -> None:
    found = Cluster(network("10.0.0.0/24")).free(typed)
    assert found[0] == first
    assert all(address.startswith(typed) for address in found)


@pytest.mark.parametrize("typed", ["10.0.1.", "10.0.0.256", "10.0.0.1.", "11", "x", "10..", "10.00.0.1", "::"])
def test_no_address_is_completed_for_an_impossible_prefix(typed: str) -> None:
    assert Cluster(network("10.0.0.0/24")).free(typed) == []


def test_only_matching_blocks_of_a_large_network_are_read() -> None:
    one = network("10.0.0.0/8")
    cluster = Cluster(one, block(one, "10.7.3.0", held=10))
    assert cluster.free("10.7.3.")[0] == "10.7.3.10"
    assert cluster.reads == 1


def test_full_block_continues_with_the_next_one() -> None:
    one = network("10.0.0.0/16")
    cluster = Cluster(one, block(one, "10.0.0.0", held=256), block(one, "10.0.1.0", held=255))
    assert cluster.free()[:2] == ["10.0.1.255", "10.0.2.0"]


def test_number_of_block_reads_is_limited() -> None:
    one = network("10.0.0.0/16")
    cluster = Cluster(one, *(block(one, f"10.0.{number}.0", held=256) for number in range(20)))
    assert cluster.free() == []
    assert cluster.reads == MAX_SHARDS


def test_ipv6_addresses_are_completed() -> None:
    one = network("fd00::/64")
    assert Cluster(one).free("fd00::")[:2] == ["fd00::1", "fd00::2"]
    assert Cluster(one).free("fe") == []
    assert shard_of(one, int(ipaddress.ip_address("fd00::1"))).is_block


def test_allocated_addresses_have_their_owner_in_order() -> None:
    one = network("10.0.0.0/24", {"10.0.0.10": HOLDER, "10.0.0.9": {"kind": "Reservation", "note": "printer"}})
    found = Cluster(one).answer(lambda snapshot: list_held_addresses([one], snapshot))
    assert list(found.items()) == [("10.0.0.9", "reserved (printer)"), ("10.0.0.10", "prod/web-1")]


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 15))
def test_spans_with_prefix_contain_every_matching_address(number: int, length: int) -> None:
    typed = str(ipaddress.IPv4Address(number))[:length]
    assert number in spans_with_prefix(typed)


@given(st.from_regex(r"[0-9]{0,3}(\.[0-9]{0,3}){0,4}", fullmatch=True), st.integers(0, (1 << 32) - 1))
def test_spans_with_prefix_contain_only_matching_addresses(typed: str, number: int) -> None:
    spans = spans_with_prefix(typed)
    for first, last in spans.spans:
        assert str(ipaddress.IPv4Address(first)).startswith(typed)
        assert str(ipaddress.IPv4Address(last)).startswith(typed)
    assert (number in spans) == str(ipaddress.IPv4Address(number)).startswith(typed)
