"""Choosing a free address, for IPv4 /8 to /32 and IPv6 /48 to /128, with any allocations (I4, I9)."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.addresses import Intervals, parse_address, span_of
from kubectl_yoshi.model.allocations import Allocations, Shard, build_block
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.plan.attach.allocate import Allocator, ShardReader, find_free_address
from kubectl_yoshi.plan.context import RunContext

pytestmark = [pytest.mark.I4, pytest.mark.I9]

NOBODY = Intervals()
CHANCES = st.none() | st.integers().map(random.Random)


def network(cidr: str, **spec: Any) -> Network:
    return parse_network(
        {
            "apiVersion": "plumber.k8s.pf9.io/v1",
            "kind": "NetworkWizard",
            "metadata": {"name": "blue", "namespace": "prod", "uid": "uid-blue"},
            "spec": {"plugin": "calico", "cidr": cidr, **spec},
        }
    )


def number(text: str) -> int:
    return int(parse_address(text))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A network of any size, with or without a range, exclusions and a gateway."""
    version = draw(st.sampled_from([4, 6]))
    prefix = draw(st.integers(8, 32) if version == 4 else st.integers(48, 128))
    cidr = ip_network((draw(st.ip_addresses(v=version)), prefix), strict=False)
    first, last = span_of(cidr)
    inside = st.integers(first, last).map(lambda n: cidr.network_address + (n - first))
    spec: dict[str, Any] = {}
    if draw(st.booleans()) and last - first > 8:
        low, high = sorted((draw(inside), draw(inside)))
        spec |= {"range_start": str(low), "range_end": str(high)}
    if draw(st.booleans()) and last - first > 8:
        pairs = draw(st.lists(st.tuples(inside, inside).map(sorted), max_size=3))
        spec["exclude"] = [f"{low}-{high}" for low, high in pairs]
        spec["gateway"] = str(draw(inside))
    try:
        return network(str(cidr), **spec)
    except UsageError:  # nothing was left of it
        return network(str(cidr))


@st.composite
def crowded(draw: st.DrawFn) -> tuple[Network, Intervals]:
    """A network and a random held set of it: single addresses, runs, all, or all but a few."""
    net = draw(networks())
    spans = net.usable.spans
    low, high = spans[0][0], spans[-1][1]
    anywhere = st.integers(low, high)
    runs = draw(st.lists(st.tuples(anywhere, anywhere).map(sorted).map(tuple), max_size=6))
    ones = draw(st.lists(st.tuples(anywhere), max_size=10))
    held = Intervals.from_spans([*runs, *((one, one) for (one,) in ones)])
    if draw(st.booleans()):
        held = net.cidr_addresses - held
    if draw(st.integers(0, 4)) == 0:
        held = net.cidr_addresses
    return net, held


@given(crowded())
def test_find_free_address_returns_the_lowest_free_usable_address(case: tuple[Network, Intervals]) -> None:
    net, held = case
    free = net.usable - held
    chosen = find_free_address(net.usable, held, None)
    assert chosen == (free.nth(0) if free else None)


@given(crowded(), st.integers())
def test_find_free_address_with_rng_returns_any_free_address_or_none_if_full(
    case: tuple[Network, Intervals], seed: int
) -> None:
    net, held = case
    free = net.usable - held
    chosen = find_free_address(net.usable, held, random.Random(seed))
    assert (chosen is None) == (not free)
    assert chosen is None or chosen in free


@given(crowded(), CHANCES)
def test_find_free_address_never_returns_an_unusable_address(
    case: tuple[Network, Intervals], rng: random.Random | None
) -> None:
    net, held = case
    chosen = find_free_address(net.usable, held, rng)
    if chosen is not None:
        assert net.unusable_reason(net.address(chosen)) == ""
        assert chosen not in held


def test_find_free_address_with_rng_reaches_every_free_address() -> None:
    net = network("10.133.0.0/28", exclude=["10.133.0.4-10.133.0.6"])
    held = Intervals.from_numbers([number("10.133.0.9"), number("10.133.0.14")])
    rng = random.Random(1)
    chosen = {find_free_address(net.usable, held, rng) for _ in range(300)}
    assert chosen == set(net.usable - held)


class Counting(int):
    """A number that counts how often numbers are compared."""

    compared = 0

    def __lt__(self, other: Any) -> bool:
        Counting.compared += 1
        return int(self) < int(other)


@pytest.mark.parametrize("rng", [None, random.Random(7)])
def test_find_free_address_in_a_slash_8_with_100000_allocations_takes_few_steps(
    rng: random.Random | None,
) -> None:
    net = network("10.0.0.0/8")
    first = number("10.0.0.1")
    held = Intervals(tuple((Counting(first + 150 * n), Counting(first + 150 * n)) for n in range(100_000)))
    Counting.compared = 0
    chosen = find_free_address(net.usable, held, rng)
    assert chosen is not None
    assert chosen not in held
    assert Counting.compared <= 200


class AllocationTables:
    """Address blocks, and which of them were read."""

    def __init__(self, net: Network, held: Intervals = NOBODY) -> None:
        self.network, self.held = net, held
        self.opened: list[Shard] = []

    def __call__(self, shards: Iterable[Shard]) -> Allocations:
        return Allocations(self.network, {shard: self.open(shard) for shard in shards})

    def open(self, shard: Shard) -> Json:
        self.opened.append(shard)
        here = self.held & Intervals.from_spans([shard.span])
        obj = {**(build_block(self.network, shard) if shard.is_block else self.network.raw)}
        obj["status"] = {"allocations": {str(self.network.address(n)): {"kind": "Reservation"} for n in here}}
        return obj


def allocator(books: AllocationTables, taken: Intervals = NOBODY, rng: Any = None) -> Allocator:
    run = RunContext() if rng is None else RunContext(1, rng=rng)
    return Allocator(ShardReader(books.network, books), taken, run)


SMALLISH = st.sampled_from(["10.133.0.0/22", "10.133.0.0/24", "10.133.0.0/30", "10.133.0.1/32", "fd00::/118"])


@given(SMALLISH, st.data(), CHANCES)
def test_allocator_assigns_every_free_address_once_until_full(
    cidr: str, data: st.DataObject, rng: random.Random | None
) -> None:
    net = network(cidr)
    anywhere = st.integers(*net.cidr_addresses.spans[0])
    # The free ones are few, so that an example is quick.
    free = Intervals.from_numbers(data.draw(st.lists(anywhere, max_size=12))) & net.usable
    held = net.usable - free
    taken = Intervals.from_numbers(data.draw(st.lists(anywhere, max_size=3)))
    excluded = Intervals.from_numbers(data.draw(st.lists(anywhere, max_size=3)))
    books = AllocationTables(net, held)
    wanted = set(free - taken - excluded)
    got: list[int] = []
    with pytest.raises(PreconditionFailed, match="network prod/blue is full"):
        chosen = allocator(books, taken=taken, rng=rng)
        chosen.exclude(excluded)
        while True:
            got.append(chosen.next_address())
    assert len(got) == len(set(got))
    assert set(got) == wanted
    assert len(books.opened) == len(set(books.opened))


def test_allocator_fills_a_small_network_from_the_lowest_address() -> None:
    chosen = allocator(AllocationTables(network("10.133.0.0/29")))
    assert [str(network("10.133.0.0/29").address(chosen.next_address())) for _ in range(6)] == [
        f"10.133.0.{last}" for last in range(1, 7)
    ]


def test_allocator_fills_a_large_network_by_blocks_with_their_edge_addresses_last() -> None:
    net = network("10.133.0.0/23")
    chosen = allocator(AllocationTables(net))
    order = [str(net.address(chosen.next_address())) for _ in range(510)]
    low, high = ([f"10.133.{third}.{last}" for last in range(1, 255)] for third in (0, 1))
    assert order == [*low, "10.133.0.255", *high, "10.133.1.0"]


def test_allocator_reads_only_as_many_blocks_as_needed() -> None:
    books = AllocationTables(network("10.0.0.0/8"))
    chosen = allocator(books)
    for _ in range(255):  # its first address is the network's own
        chosen.next_address()
    assert len(books.opened) == 1
    chosen.next_address()
    assert len(books.opened) == 2


def searched_from(net: Network, address: str) -> Network:
    return replace(net, raw={**net.raw, "status": {"searchFrom": address}})


@pytest.mark.parametrize(
    ("hint", "first"),
    [
        ("fd00::4:0", "fd00::4:0"),
        ("fd00::4:07", "fd00::4:0"),  # any address of the block
        ("fd00:0:0:1::", "fd00::1"),  # outside the network
        ("10.0.0.1", "fd00::1"),
        ("nonsense", "fd00::1"),
    ],
)
def test_allocator_starts_in_the_block_named_by_the_status(hint: str, first: str) -> None:
    net = searched_from(network("fd00::/64"), hint)
    chosen = allocator(AllocationTables(net))
    assert str(net.address(chosen.next_address())) == first
    assert chosen.hint.start == number(first) // 256 * 256


def test_allocator_skips_a_full_block_and_updates_the_search_start() -> None:
    net = searched_from(network("10.0.0.0/8"), "10.0.4.0")
    held = Intervals.from_spans(
        [(number("10.0.0.0"), number("10.0.1.255")), (number("10.0.4.0"), number("10.0.4.255"))]
    )
    books = AllocationTables(net, held)
    chosen = allocator(books)
    assert str(net.address(chosen.next_address())) == "10.0.2.1"
    assert chosen.hint.start == number("10.0.2.0")
