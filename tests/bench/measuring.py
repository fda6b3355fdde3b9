"""What a measurement is, and how it is taken: medians, and peers measured in turns with what they are compared to."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

LEAST_RUNS = 5


@dataclass(frozen=True)
class Budget:
    """What a row must keep to.

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
        value: the median, in `unit`.
        unit: "ms", "µs", "VMs/s", …
        beside: what it is compared to; "" for nothing.
        peer: the median of that, in the same unit, taken in the same run.
        ratio: the median of value/peer of each pair; of the medians where they were not taken in pairs.
        budget: None for a row that only informs.
    """

    what: str
    value: float
    unit: str
    beside: str = ""
    peer: float | None = None
    ratio: float | None = None
    budget: Budget | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the budget is kept; None where there is none."""
        if self.budget is None:
            return None
        value = self.ratio if self.budget.of_ratio else self.value
        if value is None:
            return False
        return value >= self.budget.limit if self.budget.at_least else value <= self.budget.limit

    def within(self, budget: Budget) -> Row:
        """This row with a budget."""
        return replace(self, budget=budget)


def paired(what: str, unit: str, beside: str, pairs: Sequence[tuple[float, float]]) -> Row:
    """A row of values and their peers, which were measured one after the other."""
    values, peers = [value for value, _ in pairs], [peer for _, peer in pairs]
    ratio = statistics.median(value / peer for value, peer in pairs)
    return Row(what, statistics.median(values), unit, beside, statistics.median(peers), ratio)


def timed(do: Callable[[], object]) -> float:
    """Milliseconds that something takes once."""
    start = time.perf_counter()
    do()
    return (time.perf_counter() - start) * 1000


def microseconds(do: Callable[[], object], runs: int, least_seconds: float = 0.02) -> float:
    """The median over `runs` of the microseconds of a call, each run as many calls as fill the time."""

    def many(calls: int) -> float:
        return timed(lambda: [do() for _ in range(calls)] and None)

    calls = 1
    while many(calls) < least_seconds * 1000:
        calls *= 4
    return statistics.median(many(calls) for _ in range(runs)) * 1000 / calls


@dataclass(frozen=True)
class Programs:
    """Runs programs as a user does, in an environment like that of an installed program.

    Attributes:
        yoshi, kubectl: the programs.
        kubeconfig: whose cluster.
        folder: for what they cache. An installed program's bytecode is compiled; a source tree's may not be, and is
            compiled into this folder in a first run that does not count.
    """

    yoshi: Path
    kubectl: str
    kubeconfig: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """KUBECONFIG and the compiled bytecode."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        bytecode = str(self.folder / "bytecode")
        return {**kept, "KUBECONFIG": str(self.kubeconfig), "PYTHONPYCACHEPREFIX": bytecode}

    def run(self, *command: str | Path, input: str | None = None) -> str:
        """A program's stdout; CalledProcessError with its stderr where it fails."""
        result = subprocess.run(
            [str(word) for word in command],
            input=input,
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        if result.returncode:
            raise subprocess.CalledProcessError(result.returncode, command, result.stdout, result.stderr)
        return result.stdout

    def by_yoshi(self, *words: str) -> str:
        """What this program prints."""
        return self.run(self.yoshi, *words)

    def by_kubectl(self, *words: str, input: str | None = None) -> str:
        """What kubectl prints; its discovery cache is in the folder."""
        return self.run(self.kubectl, f"--cache-dir={self.folder / 'discovery'}", *words, input=input)

    def beside_kubectl(self, ours: Sequence[str], theirs: Sequence[str], runs: int) -> Row:
        """One command of this program and one of kubectl, in turns, after one of each that does not count."""
        self.by_yoshi(*ours)
        self.by_kubectl(*theirs)
        pairs = [
            (timed(lambda: self.by_yoshi(*ours)), timed(lambda: self.by_kubectl(*theirs)))
            for _ in range(max(runs, LEAST_RUNS))
        ]
        return paired(" ".join(ours), "ms", f"kubectl {' '.join(theirs)}", pairs)


@dataclass(frozen=True)
class Bench:
    """What every measurement may use.

    Attributes:
        programs: on a lab of the bench's own, where `kubectl yoshi install` was run.
        runs: how often each is measured, at least.
    """

    programs: Programs
    runs: int
