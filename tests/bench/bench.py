"""What every measurement may use: the programs, a cluster of the bench's own, how much and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab import Lab
from lab.progress import Progress
from tests.bench.measuring import Row, Target, paired
from tests.bench.programs import Programs, Used
from tests.bench.scene import Scene


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are what issue and table speak of.

    Attributes:
        bulk: VMs attached by one command.
        adds: the peer's ADDs beside each of these commands; in five runs as many as VMs of one command.
        processes, seconds: how many processes side by side, and how long.
        list: addresses of a list, once for each.
        everything: addresses, and VMs, of the list over all namespaces.
        growth: addresses held in one network while VMs are attached to it.
        growth_vms: how many VMs then.
        choosing: addresses held when one is chosen.
    """

    bulk: int = 1000
    adds: int = 200
    processes: int = 8
    seconds: float = 20
    list: tuple[int, ...] = (1_000, 10_000)
    everything: int = 20_000
    growth: tuple[int, ...] = (100, 1_000, 10_000, 60_000)
    growth_vms: int = 50
    choosing: int = 100_000


@dataclass(frozen=True)
class Bench:
    """What every measurement may use.

    Attributes:
        programs: on a lab of the bench's own, where `kubectl yoshi install` was run.
        lab: that lab.
        scene: puts objects into it.
        runs: how often each is measured.
        progress: tells a person what is going on.
        sizes: how much.
    """

    programs: Programs
    lab: Lab
    scene: Scene
    runs: int
    progress: Progress
    sizes: Sizes = Sizes()

    def each_run(self, what: str) -> Iterator[int]:
        """Counts the runs, and tells."""
        with self.progress.task(what):
            for number in range(self.runs):
                self.progress.update(what, f"{number + 1} of {self.runs}")
                yield number

    def beside(self, what: str, ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[Used, Used]]:
        """Two command lines in turns, after one of each that does not count."""
        measured = self.programs.measured
        measured(*ours), measured(*theirs)
        return [(measured(*ours), measured(*theirs)) for _ in self.each_run(what)]

    def beside_kubectl(self, ours: Sequence[str], theirs: Sequence[str], target: Target | None = None) -> Row:
        """Milliseconds of a command of this program and of one of kubectl."""
        what = " ".join(ours)
        pairs = self.beside(what, self.programs.yoshi_words(*ours), self.programs.kubectl_words(*theirs))
        times = [(mine.milliseconds, other.milliseconds) for mine, other in pairs]
        row = paired(what, "ms", f"kubectl {' '.join(theirs)}", times)
        return row.aims(target) if target else row
