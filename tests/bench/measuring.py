"""Measurements: medians, and peers measured alternately with what they are compared to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

LEAST_RUNS = 5
MOST_RUNS = 20
"""Each run of some measurements has a network of its own, and the CIDRs are assigned by twenties."""


@dataclass(frozen=True)
class Target:
    """What a row is to reach.

    Attributes:
        limit: the measured value's, or the ratio's.
        of_ratio: whether it is the ratio's.
        at_least: the value must not be below it; otherwise not above it.
    """

    limit: float
    of_ratio: bool = False
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{'x' if self.of_ratio else ''}"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: what was measured.
        value: the median, in `unit`; of what is counted, the sum.
        unit: "ms", "µs", "VMs/s", …
        beside: what it is compared to; "" for nothing.
        peer: the median of that, in the same unit, taken in the same run.
        ratio: the median of value/peer of each pair; None without peer, or where a peer's value is 0.
        target: None for a row that only informs.
        samples, peer_samples: what the medians are of, in the order taken.
    """

    what: str
    value: float
    unit: str
    beside: str = ""
    peer: float | None = None
    ratio: float | None = None
    target: Target | None = None
    samples: tuple[float, ...] = ()
    peer_samples: tuple[float, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        value = self.ratio if self.target.of_ratio else self.value
        if value is None:
            return False
        return value >= self.target.limit if self.target.at_least else value <= self.target.limit

    def aims(self, target: Target) -> Row:
        """This row with a target."""
        return replace(self, target=target)


def single(what: str, unit: str, samples: Sequence[float]) -> Row:
    """A row that is compared to nothing."""
    return Row(what, statistics.median(samples), unit, samples=tuple(samples))


def paired(what: str, unit: str, beside: str, pairs: Sequence[tuple[float, float]]) -> Row:
    """A row of values and their peers, which were measured one after the other."""
    values, peers = tuple(value for value, _ in pairs), tuple(peer for _, peer in pairs)
    ratio = statistics.median(value / peer for value, peer in pairs) if all(peers) else None
    return Row(
        what, statistics.median(values), unit, beside, statistics.median(peers), ratio,
        samples=values, peer_samples=peers,
    )  # fmt: skip


def counted(what: str, beside: str, pairs: Sequence[tuple[int, int]]) -> Row:
    """A row of what is counted in all runs together: a median would hide it where it happens in two of five."""
    values, peers = tuple(value for value, _ in pairs), tuple(peer for _, peer in pairs)
    return Row(f"{what}, in all runs", sum(values), "", beside, sum(peers), samples=values, peer_samples=peers)


def timed(do: Callable[[], object]) -> float:
    """Milliseconds that something takes once."""
    start = time.perf_counter()
    do()
    return (time.perf_counter() - start) * 1000


def microseconds(do: Callable[[], object], runs: int, least_seconds: float = 0.02) -> tuple[float, ...]:
    """Microseconds of CPU of a call, `runs` times, each the mean of as many calls as fill the time."""

    def many(calls: int) -> float:
        start = time.process_time()
        for _ in range(calls):
            do()
        return time.process_time() - start

    calls = 1
    while many(calls) < least_seconds:
        calls *= 4
    return tuple(many(calls) * 1e6 / calls for _ in range(runs))
