"""The cost of choosing an address depends on the gaps, not on the network's size (invariant I9)."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Iterator
from functools import partial

from kubectl_yoshi.model.addresses import Cidr, Intervals, address_of, span_of
from kubectl_yoshi.model.allocations import SHARD_SIZE, Allocation, Allocations, Shard, shard_of
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.plan.attach.allocate import Allocator, ShardReader, find_free_address
from kubectl_yoshi.plan.context import RunContext
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, microseconds, paired, single

NETWORKS = ("10.0.0.0/8", "fd00:133::/64")
SOON = Target(1000)


def measure(bench: Bench) -> Iterator[Row]:
    """In an IPv4 /8 and an IPv6 /64: one choice, one choice as a plan makes it, and how both grow with what is held."""
    most = bench.sizes.choosing
    for text in NETWORKS:
        cidr = ipaddress.ip_network(text)
        network = network_of(cidr)
        for how, numbers in (("scattered", scattered(cidr, most)), ("in a row", in_a_row(cidr, most))):
            held = Intervals.from_numbers(numbers)
            samples = microseconds(partial(find_free_address, network.usable, held, None), bench.runs)
            yield single(f"choose in {text}, {most:,} held {how}", "µs", samples).aims(SOON)
        yield single(f"choose in {text}, parsing a block with 128 held", "µs", planned(network, bench.runs)).aims(SOON)
    yield growth(bench, NETWORKS[0])


def growth(bench: Bench, text: str) -> Row:
    """A choice at random, beside one where a thousandth is held."""
    cidr = ipaddress.ip_network(text)
    network = network_of(cidr)
    most, least = bench.sizes.choosing, bench.sizes.choosing // 1000

    def samples(count: int) -> tuple[float, ...]:
        held = Intervals.from_numbers(scattered(cidr, count))
        return microseconds(partial(find_free_address, network.usable, held, random.Random(1)), bench.runs)

    pairs = list(zip(samples(most), samples(least), strict=True))
    row = paired(f"choose at random in {text}, {most:,} held", "µs", f"{least:,} held", pairs)
    return row.aims(Target(10, of_ratio=True))


def network_of(cidr: Cidr) -> Network:
    """A network of a CIDR that is there."""
    spec = {"plugin": "calico", "cidr": str(cidr)}
    return parse_network({"metadata": {"namespace": "bench", "name": "large", "uid": "u"}, "spec": spec})


def scattered(cidr: Cidr, count: int) -> set[int]:
    """That many addresses, hardly any beside another: as many intervals as addresses."""
    first, last = span_of(cidr)
    rng = random.Random(7)
    return {rng.randint(first, last) for _ in range(count)}


def in_a_row(cidr: Cidr, count: int) -> range:
    """That many addresses from the second on."""
    first, _ = span_of(cidr)
    return range(first + 1, first + 1 + count)


def planned(network: Network, runs: int) -> tuple[float, ...]:
    """Microseconds of a choice as an attachment makes it: the order of the blocks, the records of the first block
    parsed (half of it held), the lowest free address of it."""
    record = Allocation("VirtualMachine", "bench", "vm", uid="u", since="2026-01-01T00:00:00Z").to_json()

    def load_shards(shards: Iterable[Shard]) -> Allocations:
        return Allocations(network, dict.fromkeys(shards, block))

    block: Json = {}
    shards = ShardReader(network, load_shards)
    probe = Allocator(shards, Intervals(), RunContext())
    number = probe.next_address()
    shard = shard_of(network, number)
    held = range(shard.span[0], shard.span[0] + SHARD_SIZE // 2)
    block["status"] = {"allocations": {str(address_of(n, network.version)): record for n in held}}
    return microseconds(lambda: Allocator(shards, Intervals(), RunContext()).next_address(), runs)
