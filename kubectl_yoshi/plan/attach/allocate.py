"""Choosing free addresses: the lowest one, or a random one of the same shard after a conflict.

Nothing is enumerated: the free addresses are the gaps between intervals (invariant I9).

A large network's status says in which block the search begins (`status.searchFrom`; without it, in the first). Where
that block is full, one Table of all blocks' counts gives the lowest one with room, which is written there: once for
each 256 addresses. Releasing an address of a lower block writes that block, unless addresses cool down, since nobody
may have it yet. The field is a hint: it is written after the allocations, and its failure is ignored. Where it is out
of date an address is still found, though perhaps not the lowest one until that block is full; then the Table is read
again. Older versions, and CRDs without the field, need nothing.

Simultaneous writers all choose the lowest free address. The slower one chooses a random address of the same block, and
writes `status.contendedAt`; for CONTENDED_SECONDS every writer takes a random address of one of the next
CONTENDED_SHARDS blocks at once, so that conflicts, which cost another read, are rare. After that the gaps are filled
from the lowest on.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import Allocations, SearchHint, Shard, block_label, is_large, iter_shards
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, Network
from kubectl_yoshi.model.objects import dig, name_of
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.plan.context import PlanContext, RunContext, seconds_between
from kubectl_yoshi.plan.cool_down import cooling_down
from kubectl_yoshi.plan.records import STATUS_ALLOCATIONS

MAX_SHARDS_AT_ONCE = 64
"""Limit of shards loaded at the same time; each may be 60 KB."""
CONTENDED_SHARDS = 8
"""Shards over which contending writers spread: they then test different addresses, and send smaller patches."""
CONTENDED_SECONDS = 60.0
"""How long after a conflict, in seconds, other writers choose at random at once; each conflict costs another round."""


@dataclass(frozen=True)
class BlockCounts:
    """The number of records in each block of a network: a hint where to search first, which may be outdated.

    Attributes:
        previous_snapshot: the snapshot of the previous round of the run; None in the first round.
    """

    network: Network
    snapshot: Snapshot
    previous_snapshot: Snapshot | None = None

    def known(self) -> Mapping[str, int]:
        """Return block name -> number of records, as far as the previous round has read it."""
        if self.previous_snapshot is None or not is_large(self.network):
            return {}
        own_blocks = {
            name_of(block): len(dig(block, *STATUS_ALLOCATIONS, default={}))
            for block in self.previous_snapshot.list_objects(ADDRESSBLOCK, self.network.namespace)
            if dig(block, "spec", "networkUID") == self.network.uid
        }
        return {**_used_by_block(self.previous_snapshot, self._query), **own_blocks}

    def load_all(self) -> Mapping[str, int]:
        """Return block name -> number of records of all blocks; a missing one does not exist or has no counter yet."""
        if not is_large(self.network) or (
            self.previous_snapshot is not None and self._query in self.previous_snapshot.results
        ):
            return self.known()
        self.snapshot.lookup(self._query)
        return _used_by_block(self.snapshot, self._query)

    @property
    def _query(self) -> Query:
        selector = "=".join(block_label(self.network))
        return Query(ADDRESSBLOCK, self.network.namespace, label_selector=selector, as_table=True)


def _used_by_block(snapshot: Snapshot, query: Query) -> dict[str, int]:
    rows = snapshot.lookup(query) if query in snapshot.results else []
    return {row["Name"]: row["Used"] for row in rows if isinstance(row.get("Used"), int)}


@dataclass(frozen=True)
class ShardReader:
    """What an Allocator reads.

    Attributes:
        network: the network.
        load: load the allocations of some shards, in one round of reads.
        counts: the shards that are full according to their counters are loaded last; None if there are no counters.
    """

    network: Network
    load: Callable[[Collection[Shard]], Allocations]
    counts: BlockCounts | None = None


class Allocator:
    """Allocates addresses of a network, each once, for one plan.

    Args:
        shards: the network's shards.
        taken: addresses that are used without a record.
        run: the first attempt chooses the lowest free address, later ones a random address of the shard. While writers
            contend for the network's addresses, even the first attempt chooses a random one of the next few shards.
        wanted: how many addresses will be requested; as many shards as have room for them are loaded at once.

    Attributes:
        hint: where the next search starts: at the shard of the last address, unless that shard was chosen at random.
    """

    def __init__(self, shards: ShardReader, taken: Intervals, run: RunContext, *, wanted: int = 1) -> None:
        self._network = network = shards.network
        rng = random.Random(run.seed)
        contended = is_large(network) and is_contended(network, run)
        self._shards = self._order_shards(shards.counts, rng if contended else None)
        self._load_shards = shards.load
        self._taken = taken
        self._rng = rng if run.attempt_number or contended else None
        self._now = run.now
        self._cooling_seconds: dict[int, float] = {}
        self._wanted = wanted
        self._random_shard: Shard | None = None
        self._loaded: deque[tuple[Shard, Allocations]] = deque()
        self._contended_at = run.timestamp if run.attempt_number and not contended else ""
        self.hint = SearchHint(network.search_from, self._contended_at)
        self._usable = Intervals()
        self._preferred = Intervals()
        self._held = Intervals()
        self._advance_to_next_shard()

    def next_address(self) -> int:
        """Return one more free address.

        Raises:
            PreconditionFailed: the network is full.
        """
        while True:
            number = find_free_address(self._preferred, self._held, self._rng)
            if number is None:
                number = find_free_address(self._usable, self._held, self._rng)
            if number is not None:
                allocated = Intervals.from_numbers([number])
                self._preferred -= allocated
                self._usable -= allocated
                self._wanted -= 1
                return number
            self._advance_to_next_shard()

    def exclude(self, numbers: Iterable[int]) -> None:
        """Exclude addresses that the same plan assigns otherwise."""
        more = Intervals.from_numbers(numbers)
        self._taken |= more
        self._held |= more

    def _advance_to_next_shard(self) -> None:
        if not self._loaded:
            self._load_more_shards()
        shard, allocations = self._loaded.popleft()
        if shard != self._random_shard:
            self.hint = SearchHint(shard.span[0], self._contended_at)
        self._usable = self._preferred = self._usable_in(shard)
        if shard.is_block and self._network.version == 4:
            # x.x.x.0 and x.x.x.255 are ordinary hosts here, but users and old guests take them for the network and
            # broadcast address of a /24; they are allocated last.
            self._preferred -= Intervals.from_numbers(shard.span)
        cooling = {
            number: seconds
            for number, seconds in cooling_down(allocations, self._now).items()
            if number in self._usable
        }
        self._cooling_seconds |= cooling
        self._held = Intervals.from_numbers({*allocations.records(), *cooling}) | self._taken

    def _load_more_shards(self) -> None:
        """Load as many shards as are expected to have room for the remaining addresses, all of them at once."""
        shards: list[Shard] = []
        room = 0
        while room < max(self._wanted, 1) and len(shards) < MAX_SHARDS_AT_ONCE:
            shard, expected = next(self._shards, (None, 0))
            if shard is None:
                break
            shards.append(shard)
            room += expected
        if not shards:
            if self._cooling_seconds:
                raise PreconditionFailed(
                    f"network {self._network.full_name} is full: no address of {self._network.cidr} is free, "
                    f"{len(self._cooling_seconds)} are cooling down, the first is free in "
                    f"{format_duration(min(self._cooling_seconds.values()))}",
                    "Wait, or shorten the time (spec.coolDown): "
                    f"kubectl edit networkwizard {self._network.name} -n {self._network.namespace}",
                )
            raise PreconditionFailed(
                f"network {self._network.full_name} is full: no address of {self._network.cidr} is free",
                "See who holds them with `kubectl yoshi ips list`; `kubectl yoshi ips gc` releases unused addresses.",
            )
        loaded = self._load_shards(shards).objects
        self._loaded.extend((shard, Allocations(self._network, {shard: loaded[shard]})) for shard in shards)

    def _order_shards(self, counts: BlockCounts | None, rng: random.Random | None) -> Iterator[tuple[Shard, int]]:
        """Yield every shard once, with its expected number of free addresses.

        The shard where the search starts comes first; if it does not suffice, all others follow from the lowest on, and
        last those that are full according to their counters. With `rng`, the first one is a random one of the next few
        shards.
        """
        used = counts.known() if counts else {}
        deferred: list[Shard] = []
        first, *nearby = islice(iter_shards(self._network, self._network.search_from), CONTENDED_SHARDS)
        if rng is not None and (choice := rng.choice([first, *nearby])) != first:
            first = self._random_shard = choice
        others = (shard for shard in iter_shards(self._network) if shard != first)
        for position, shard in enumerate(chain((first,), others)):
            if position == 1 and counts:
                used = {**used, **counts.load_all()}
            room = self._usable_in(shard).size - used.get(shard.ref.name, 0)
            if room > 0:
                yield shard, room
            else:
                deferred.append(shard)
        for shard in deferred:
            yield shard, 0

    def _usable_in(self, shard: Shard) -> Intervals:
        return self._network.usable & Intervals.from_spans([shard.span])


@dataclass(frozen=True)
class FreeAddresses:
    """Free addresses that were chosen.

    Attributes:
        hint: see Allocator.
    """

    numbers: list[int]
    hint: SearchHint


def find_unused_addresses(
    network: Network,
    backend: Backend,
    count: int,
    load_shards: Callable[[Collection[Shard]], Allocations],
    ctx: PlanContext,
) -> FreeAddresses | PreconditionFailed:
    """Return free addresses that nothing uses, even without a record, or why there are not enough."""
    taken = Intervals()
    shards = ShardReader(network, load_shards, BlockCounts(network, ctx.snapshot, ctx.run.previous_snapshot))
    while True:
        allocator = Allocator(shards, taken, ctx.run, wanted=count)
        try:
            numbers = [allocator.next_address() for _ in range(count)]
        except PreconditionFailed as error:
            return error
        address_uses = backend.address_uses(network, (), Intervals.from_numbers(numbers), ctx.snapshot)
        used = {use.number for use in address_uses} & {*numbers}
        if not used:
            return FreeAddresses(numbers, allocator.hint)
        taken |= Intervals.from_numbers(used)


def is_contended(network: Network, run: RunContext) -> bool:
    """Return whether writers had a conflict in a large network recently, by the clock of one of them."""
    return abs(seconds_between(network.contended_at, run.now)) < CONTENDED_SECONDS


def find_free_address(usable: Intervals, held: Intervals, rng: random.Random | None) -> int | None:
    """Return a usable address that is not held: the lowest, or with `rng` the next one after a random position.

    It costs one pass over the intervals of `usable` and a binary search in `held`. Returns None if all are held.
    """
    if not usable:
        return None
    if rng is None:
        return usable.first_not_in(held)
    start = usable.nth(rng.randrange(usable.size))
    number = usable.first_not_in(held, start)
    return usable.first_not_in(held) if number is None else number
