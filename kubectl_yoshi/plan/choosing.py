"""Choosing free addresses: the lowest one in the owner's shelf, or a random one when somebody was faster.

Nothing is enumerated: the free addresses are the gaps between intervals (invariant I9).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.ledger import Ledger, shelves_in_order
from kubectl_yoshi.model.network import Network


class Chooser:
    """Hands out addresses of a network, each once, while one plan is made.

    Args:
        network: whose addresses.
        seed: who asks (a uid); it decides where in a large network the search begins.
        open_shelf: gives the ledger of one shelf; may raise facts.NeedMore.
        taken: addresses that are used though the ledger does not say so.
        chance: None for the lowest free address, else the source of a random choice.

    Raises:
        NeedMore: the first shelf was not read yet.
    """

    def __init__(
        self,
        network: Network,
        seed: str,
        open_shelf: Callable[..., Ledger],
        taken: Intervals,
        chance: random.Random | None,
    ) -> None:
        self._network = network
        self._shelves = shelves_in_order(network, seed)
        self._open_shelf = open_shelf
        self._taken = taken
        self._chance = chance
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
                self._held |= Intervals.of_numbers([number])
                return number
            self._turn_to_next_shelf()

    def _turn_to_next_shelf(self) -> None:
        shelf = next(self._shelves, None)
        if shelf is None:
            raise Refused(
                f"network {self._network.full_name} is full: no address of {self._network.cidr} is free",
                "See who holds them with `kubectl yoshi ips list`; `kubectl yoshi ips gc` gives back the unused.",
            )
        ledger = self._open_shelf(shelf)
        self._usable = self._network.usable & Intervals.of([shelf.span])
        self._pleasant = self._usable
        if shelf.is_block and self._network.version == 4:
            # x.x.x.0 and x.x.x.255 are hosts like others here, but people and old guests take them for what they
            # are in a /24: they go last.
            first, last = shelf.span
            self._pleasant -= Intervals.of_numbers([first, last])
        self._held = Intervals.of_numbers(ledger.records()) | self._taken

    def exclude(self, numbers: Iterable[int]) -> None:
        """These are not to be handed out either (somebody of the same plan has asked for them)."""
        more = Intervals.of_numbers(numbers)
        self._taken |= more
        self._held |= more


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
