"""What every measurement uses: the programs, a cluster of the benchmark's own, sizes and repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join

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
        block_vms, block_writers: VMs whose addresses are in one Calico block, at most 60, and other writers of it.
        block_seconds: how long these writers' rate is measured before the VMs change their addresses.
        diagnosis: VMs that are diagnosed.
        list: addresses of a list, once for each.
        everything: addresses, and VMs, of the list over all namespaces.
        growth: addresses held in one network while VMs are attached to it.
        growth_vms: how many VMs then.
        choosing: addresses held when one is chosen.
        map: addresses in use of a map.
        map_cells: cells of a map of which each has an address in use.
        blocks: AddressBlocks of a network when a VM gets one of its addresses.
        more_often: how many times as often as the rest is measured what varies more, as times below a second do.
    """

    bulk: int = 1000
    adds: int = 200
    processes: int = 8
    seconds: float = 20
    block_vms: int = 50
    block_writers: int = 20
    block_seconds: float = 3
    diagnosis: int = 1000
    list: tuple[int, ...] = (1_000, 10_000)
    everything: int = 20_000
    growth: tuple[int, ...] = (100, 1_000, 10_000, 60_000)
    growth_vms: int = 50
    choosing: int = 100_000
    map: int = 60_000
    map_cells: int = 65_536
    blocks: tuple[int, ...] = (1, 10, 250)
    more_often: int = 3


QUICK = Sizes(
    bulk=20,
    adds=2,
    processes=2,
    seconds=2,
    block_vms=5,
    block_writers=3,
    block_seconds=0.5,
    diagnosis=20,
    list=(60,),
    everything=120,
    growth=(20, 300),
    growth_vms=5,
    choosing=2000,
    map=600,
    map_cells=1000,
    blocks=(1, 2),
    more_often=1,
)
"""Enough to see that everything works, and too little to say how fast."""


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
        other: a checkout of another version of this program, with its virtual environment in .venv; None for none.
    """

    programs: Programs
    lab: Lab
    scene: Scene
    runs: int
    progress: Progress
    sizes: Sizes = Sizes()
    other: Path | None = None

    def each_run(self, what: str, more_often: int = 1) -> Iterator[int]:
        """Counts the runs, and tells."""
        count = self.runs * more_often
        with self.progress.task(what):
            for number in range(count):
                self.progress.update(what, f"{number + 1} of {count}")
                yield number

    def in_turns(self, what: str, *commands: Sequence[str], more_often: int = 1) -> list[tuple[Used, ...]]:
        """What command lines take, one after the other and that again and again; the first time does not count."""
        for command in commands:
            self.programs.measured(*command)
        return [
            tuple(self.programs.measured(*command) for command in commands) for _ in self.each_run(what, more_often)
        ]

    def beside_kubectl(self, ours: Sequence[str], theirs: Sequence[str], target: Target | None = None) -> Iterator[Row]:
        """A command of this program and one of kubectl, both of less than a second."""
        what = join(ours)
        commands = self.programs.yoshi_words(*ours), self.programs.kubectl_words(*theirs)
        turns = self.in_turns(what, *commands, more_often=self.sizes.more_often)
        return compared(what, f"kubectl {join(theirs)}", [(mine, other) for mine, other in turns], target)


def compared(what: str, beside: str, pairs: Sequence[tuple[Used, Used]], target: Target | None = None) -> Iterator[Row]:
    """The time that commands take, which has the target, and their CPU, which says the same on a busy machine."""
    row = paired(what, "ms", beside, [(mine.milliseconds, other.milliseconds) for mine, other in pairs])
    yield row.aims(target) if target else row
    yield paired(f"{what}, CPU", "ms", beside, [(mine.cpu, other.cpu) for mine, other in pairs])
