"""Choosing free addresses: the lowest one, or one at random in the same shelf when somebody was faster.

Nothing is enumerated: the free addresses are the gaps between intervals (invariant I9). A large network's status says
in which block to begin (`status.searchFrom`, a hint); where that is full, one table of all blocks' counts tells which
others have room.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts, NeedMore, Read
from kubectl_yoshi.model.ledger import Ledger, SearchHint, Shelf, block_label, is_large, shelves_from
from kubectl_yoshi.model.network import ADDRESSBLOCK, Network
from kubectl_yoshi.model.objects import dig, name_of
from kubectl_yoshi.plan.attempt import Attempt, seconds_between
from kubectl_yoshi.plan.books import STATUS_ALLOCATIONS
from kubectl_yoshi.plan.cooling import cooling_down, duration

MOST_AT_ONCE = 64
"""Shelves that are opened at the same time, at most: each may be 60 KB."""
NEAR = 8
"""Shelves over which writers spread who contend: they test different addresses, and what each sends is smaller."""
CONTENDED_SECONDS = 60.0
"""For how long after somebody was faster others choose at random at once. Who is slower pays with a second look."""


@dataclass(frozen=True)
class Counts:
    """How many records the blocks of a network are said to have: where to look first, and no more than that.

    Attributes:
        network: whose blocks.
        facts: what was read.
        earlier: what an earlier round of the run had read; None in the first.
    """

    network: Network
    facts: Facts
    earlier: Facts | None = None

    def known(self) -> Mapping[str, int]:
        """Block -> records, as far as an earlier round has seen it."""
        if self.earlier is None or not is_large(self.network):
            return {}
        mine = {
            name_of(block): len(dig(block, *STATUS_ALLOCATIONS, default={}))
            for block in self.earlier.all(ADDRESSBLOCK, self.network.namespace)
            if dig(block, "spec", "networkUID") == self.network.uid
        }
        return {**_counted(self.earlier, self._read), **mine}

    def asked(self) -> Mapping[str, int]:
        """Block -> records, of all blocks. One that is missing does not exist, or had no count yet.

        Raises:
            NeedMore: they were not read yet.
        """
        if not is_large(self.network) or (self.earlier is not None and self._read in self.earlier.answers):
            return self.known()
        self.facts.ask(self._read)
        return _counted(self.facts, self._read)

    @property
    def _read(self) -> Read:
        selector = "=".join(block_label(self.network))
        return Read(ADDRESSBLOCK, self.network.namespace, label_selector=selector, as_table=True)


def _counted(facts: Facts, read: Read) -> dict[str, int]:
    rows = facts.ask(read) if read in facts.answers else []
    return {row["Name"]: row["Used"] for row in rows if isinstance(row.get("Used"), int)}


class Chooser:
    """Hands out addresses of a network, each once, while one plan is made.

    Args:
        network: whose addresses.
        open_shelf: gives the ledger of one shelf; may raise NeedMore.
        taken: addresses that are used though the ledger does not say so.
        attempt: in the first, the lowest free address is chosen, in a later one a random address of its shelf. While
            writers contend for the network's addresses, a random one of the next few shelves at once.
        wanted: how many will be asked for: as many shelves as have room for them are opened at once.
        counts: which shelves are said to be full; they are opened last.
        resting: tells which addresses of a shelf are not handed out yet, and for how many seconds.

    Attributes:
        hint: for whoever chooses next: to begin where the last address came from, unless that was a random shelf.

    Raises:
        NeedMore: the first shelves were not read yet.
    """

    def __init__(
        self,
        network: Network,
        open_shelf: Callable[..., Ledger],
        taken: Intervals,
        attempt: Attempt,
        *,
        wanted: int = 1,
        counts: Counts | None = None,
        resting: Callable[[Ledger], Mapping[int, float]] = lambda _: {},
    ) -> None:
        self._network = network
        chance = random.Random(attempt.draw)
        contended = is_large(network) and is_contended(network, attempt)
        self._shelves = self._in_order(counts, chance if contended else None)
        self._open_shelf = open_shelf
        self._taken = taken
        self._chance = chance if attempt.number or contended else None
        self._resting = resting
        self._rest: dict[int, float] = {}
        self._wanted = wanted
        self._strayed_to: Shelf | None = None
        self._opened: deque[tuple[Shelf, Ledger]] = deque()
        self._contended_at = attempt.stamp if attempt.number and not contended else ""
        self.hint = SearchHint(network.search_from, self._contended_at)
        self._usable = Intervals()
        self._pleasant = Intervals()
        self._held = Intervals()
        self._turn_to_next_shelf()

    def next(self) -> int:
        """One more free address.

        Raises:
            Refused: the network is full.
            NeedMore: a shelf was not read yet.
        """
        while True:
            number = choose(self._pleasant, self._held, self._chance)
            if number is None:
                number = choose(self._usable, self._held, self._chance)
            if number is not None:
                given = Intervals.of_numbers([number])
                self._pleasant -= given
                self._usable -= given
                self._wanted -= 1
                return number
            self._turn_to_next_shelf()

    def exclude(self, numbers: Iterable[int]) -> None:
        """These are not to be handed out either (somebody of the same plan has asked for them)."""
        more = Intervals.of_numbers(numbers)
        self._taken |= more
        self._held |= more

    def _turn_to_next_shelf(self) -> None:
        if not self._opened:
            self._open_more()
        shelf, ledger = self._opened.popleft()
        if shelf != self._strayed_to:
            self.hint = SearchHint(shelf.span[0], self._contended_at)
        self._usable = self._pleasant = self._usable_of(shelf)
        if shelf.is_block and self._network.version == 4:
            # x.x.x.0 and x.x.x.255 are hosts like others here, but people and old guests take them for what they
            # are in a /24: they go last.
            self._pleasant -= Intervals.of_numbers(shelf.span)
        rest = {number: seconds for number, seconds in self._resting(ledger).items() if number in self._usable}
        self._rest |= rest
        self._held = Intervals.of_numbers({*ledger.records(), *rest}) | self._taken

    def _open_more(self) -> None:
        """Opens as many shelves as will have room for what is still wanted, all of them at once."""
        shelves: list[Shelf] = []
        room = 0
        while room < max(self._wanted, 1) and len(shelves) < MOST_AT_ONCE:
            shelf, expected = next(self._shelves, (None, 0))
            if shelf is None:
                break
            shelves.append(shelf)
            room += expected
        if not shelves:
            if self._rest:
                raise Refused(
                    f"network {self._network.full_name} is full: no address of {self._network.cidr} is free, "
                    f"{len(self._rest)} cool down, the first for another {duration(min(self._rest.values()))}",
                    "Wait, or shorten the time (spec.coolDown): "
                    f"kubectl edit networkwizard {self._network.name} -n {self._network.namespace}",
                )
            raise Refused(
                f"network {self._network.full_name} is full: no address of {self._network.cidr} is free",
                "See who holds them with `kubectl yoshi ips list`; `kubectl yoshi ips gc` gives back the unused.",
            )
        needed: list[Read] = []
        for shelf in shelves:
            try:
                self._opened.append((shelf, self._open_shelf(shelf)))
            except NeedMore as more:
                needed += more.wanted
        if needed:
            raise NeedMore(tuple(needed))

    def _in_order(self, counts: Counts | None, chance: random.Random | None) -> Iterator[tuple[Shelf, int]]:
        """Every shelf once, with the room that it is expected to have: the one where the search begins; when that is
        not enough, all others from the lowest on, those last that are said to be full.

        With `chance` the first one is a random one of those next to where the search begins.
        """
        said = counts.known() if counts else {}
        put_off: list[Shelf] = []
        first, *near = islice(shelves_from(self._network, self._network.search_from), NEAR)
        if chance is not None and (choice := chance.choice([first, *near])) != first:
            first = self._strayed_to = choice
        others = (shelf for shelf in shelves_from(self._network) if shelf != first)
        for place, shelf in enumerate(chain((first,), others)):
            if place == 1 and counts:
                said = {**said, **counts.asked()}
            room = self._usable_of(shelf).size - said.get(shelf.ref.name, 0)
            if room > 0:
                yield shelf, room
            else:
                put_off.append(shelf)
        for shelf in put_off:
            yield shelf, 0

    def _usable_of(self, shelf: Shelf) -> Intervals:
        return self._network.usable & Intervals.of([shelf.span])


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        numbers: free addresses.
        hint: see Chooser.
    """

    numbers: list[int]
    hint: SearchHint


def choose_unused(
    network: Network,
    backend: Backend,
    count: int,
    open_shelf: Callable[..., Ledger],
    facts: Facts,
    attempt: Attempt,
) -> Chosen | Refused:
    """Free addresses that nothing uses either, whatever the ledger says; why there are not so many, where that is so.

    Raises:
        NeedMore: more must be read first.
    """
    taken = Intervals()
    while True:
        chooser = Chooser(
            network,
            open_shelf,
            taken,
            attempt,
            wanted=count,
            counts=Counts(network, facts, attempt.earlier),
            resting=lambda ledger: cooling_down(ledger, attempt.now),
        )
        try:
            chosen = [chooser.next() for _ in range(count)]
        except Refused as full:
            return full
        uses = backend.uses(network, (), Intervals.of_numbers(chosen), facts)
        used = {use.number for use in uses} & {*chosen}
        if not used:
            return Chosen(chosen, chooser.hint)
        taken |= Intervals.of_numbers(used)


def is_contended(network: Network, attempt: Attempt) -> bool:
    """Whether writers have wanted one address of a large network a moment ago, by the clock of one of them."""
    return abs(seconds_between(network.contended_at, attempt.now)) < CONTENDED_SECONDS


def choose(usable: Intervals, held: Intervals, chance: random.Random | None) -> int | None:
    """A usable address that is not held: the lowest, or with `chance` the next one from a random place on.

    Costs the number of intervals of `usable`, and a binary search in `held`; None where all are held.
    """
    if not usable:
        return None
    if chance is None:
        return usable.first_without(held)
    start = usable.nth(chance.randrange(usable.size))
    number = usable.first_without(held, start)
    return usable.first_without(held) if number is None else number
