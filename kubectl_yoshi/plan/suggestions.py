"""Which addresses a shell offers while one is being typed. Pure; nothing is decided by it.

Raises:
    NeedMore, Refused, UsageMistake: all functions, as plan.books does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from kubectl_yoshi.model.addresses import Intervals, Span
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import SHELF_SIZE, is_large, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.plan.books import open_shelves, open_whole

MOST_FREE = 20
"""Free addresses offered at once: a screen's worth."""
MOST_SHELVES = 8
"""Objects of a large network that are read for them: what is slow is of no use while somebody types."""


def free_addresses(network: Network, typed: str, facts: Facts) -> list[str]:
    """The lowest free addresses that begin with what was typed, as many as people can look through."""
    candidates = network.usable & spans_beginning(typed) if network.version == 4 else network.usable
    found = map(network.address, chain.from_iterable(_free(network, candidates, facts)))
    return [str(address) for address in islice(found, MOST_FREE) if str(address).startswith(typed)]


def _free(network: Network, candidates: Intervals, facts: Facts) -> Iterator[Iterable[int]]:
    """Free ones of the candidates, shelf by shelf."""
    for first in islice(_shelf_starts(network, candidates), MOST_SHELVES):
        shelf = shelf_of(network, first)
        held = Intervals.of_numbers(open_shelves(network, [shelf], facts).records())
        yield iter(candidates & Intervals.of([shelf.span]) - held)


def _shelf_starts(network: Network, candidates: Intervals) -> Iterator[int]:
    if not is_large(network):
        yield 0
        return
    for number in Intervals.of((first // SHELF_SIZE, last // SHELF_SIZE) for first, last in candidates.spans):
        yield number * SHELF_SIZE


def spans_beginning(typed: str) -> Intervals:
    """The IPv4 addresses whose dotted notation begins like this: "10.1" is 10.1.*, 10.10.* to 10.19.*, 10.100.* and on.

    Empty where no address does.
    """
    *whole, last = typed.split(".")
    octets = [[part] for part in whole] + [[str(number) for number in range(256) if str(number).startswith(last)]]
    if len(octets) > 4 or not all(part.isdecimal() and int(part) < 256 and part == str(int(part)) for part in whole):
        return Intervals()
    bits = 8 * (4 - len(octets))
    prefix = sum(int(part) << 8 * (len(whole) - at) for at, part in enumerate(whole))
    return Intervals.of(_span(prefix + int(number), bits) for number in octets[-1])


def _span(prefix: int, bits: int) -> Span:
    return prefix << bits, ((prefix + 1) << bits) - 1


def held_addresses(networks: Iterable[Network], facts: Facts) -> dict[str, str]:
    """Every recorded address of these networks -> who holds it, in ascending order."""
    found: dict[str, str] = {}
    for network in networks:
        records = open_whole(network, facts).records()
        found |= {str(network.address(number)): records[number].holder for number in sorted(records)}
    return found
