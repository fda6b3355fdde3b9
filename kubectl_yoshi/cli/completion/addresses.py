"""The addresses that completion offers: pure functions, which planners do not use.

Raises:
    PreconditionFailed, UsageError: all functions, as plan.records does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from kubectl_yoshi.model.addresses import Intervals, Span
from kubectl_yoshi.model.allocations import SHARD_SIZE, is_large, shard_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.records import load_allocations, load_shards

MAX_ADDRESSES = 20
"""Maximum number of free addresses in a reply, which fits on a screen."""
MAX_SHARDS = 8
"""Maximum number of shards of a large network to read, since a reply must be fast."""


def list_free_addresses(network: Network, typed: str, snapshot: Snapshot) -> list[str]:
    """Return the lowest free addresses with this prefix, MAX_ADDRESSES at most."""
    candidates = network.usable & spans_with_prefix(typed) if network.version == 4 else network.usable
    found = map(network.address, chain.from_iterable(_iter_free(network, candidates, snapshot)))
    return [str(address) for address in islice(found, MAX_ADDRESSES) if str(address).startswith(typed)]


def _iter_free(network: Network, candidates: Intervals, snapshot: Snapshot) -> Iterator[Iterable[int]]:
    """Yield the free addresses among the candidates, shard by shard."""
    for first in islice(_shard_starts(network, candidates), MAX_SHARDS):
        shard = shard_of(network, first)
        held = Intervals.from_numbers(load_shards(network, [shard], snapshot).records())
        yield iter(candidates & Intervals.from_spans([shard.span]) - held)


def _shard_starts(network: Network, candidates: Intervals) -> Iterator[int]:
    if not is_large(network):
        yield 0
        return
    for number in Intervals.from_spans((first // SHARD_SIZE, last // SHARD_SIZE) for first, last in candidates.spans):
        yield number * SHARD_SIZE


def spans_with_prefix(typed: str) -> Intervals:
    """Return the IPv4 addresses whose dotted notation has this prefix, if any.

    "10.1" is the prefix of 10.1.*, of 10.10.* to 10.19.*, and of 10.100.* to 10.199.*.
    """
    *leading, last = typed.split(".")
    octets = [[part] for part in leading] + [[str(number) for number in range(256) if str(number).startswith(last)]]
    if len(octets) > 4 or not all(part.isdecimal() and int(part) < 256 and part == str(int(part)) for part in leading):
        return Intervals()
    bits = 8 * (4 - len(octets))
    prefix = sum(int(part) << 8 * (len(leading) - index) for index, part in enumerate(leading))
    return Intervals.from_spans(_span(prefix + int(number), bits) for number in octets[-1])


def _span(prefix: int, bits: int) -> Span:
    return prefix << bits, ((prefix + 1) << bits) - 1


def list_held_addresses(networks: Iterable[Network], snapshot: Snapshot) -> dict[str, str]:
    """Return the allocated addresses of these networks with their holders, in ascending order."""
    found: dict[str, str] = {}
    for network in networks:
        records = load_allocations(network, snapshot).records()
        found |= {str(network.address(number)): records[number].holder for number in sorted(records)}
    return found
