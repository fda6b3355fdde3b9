"""Many concurrent processes that each want an address of one network, compared with as many of whereabouts.

Of this program twice: a process for each attachment, as a shell's loop has it, and processes that go on, as a
controller's would. whereabouts has a process for each ADD always, since that is what a CNI plugin is. With `--other`
also beside another version of this program, in processes that go on.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from subprocess import Popen

from tests.bench import whereabouts
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, counted, paired
from tests.bench.programs import Failed

NAMESPACE = "bench-side"
GROUPS = ("plumber.k8s.pf9.io", "kubevirt.io")
"""The API groups that this program writes to."""
VMS_A_SECOND = 60
"""How many VMs are made ready for each second: far more than two cores can attach."""
LOOPING = Path(__file__).parent / "looping.py"


@dataclass
class Window:
    """What became of a while of processes side by side.

    Attributes:
        in_time: how many of them had succeeded when the time was up.
        given: the addresses that they were given, also those a little late.
        failed: how many gave up.
        conflicts: requests that the API server refused because another writer was faster (409 and 422).
    """

    in_time: int = 0
    given: list[str] = field(default_factory=list)
    failed: int = 0
    conflicts: int = 0

    @property
    def duplicates(self) -> int:
        """Addresses given once too often."""
        return len(self.given) - len(set(self.given))


def measure(bench: Bench) -> Iterator[Row]:
    """A network and a range of its own for each run."""
    sizes, peer = bench.sizes, whereabouts.installed(bench)
    peer.add("warm-up", "10.140.0.0/16")
    turns: list[tuple[Window, Window, Window]] = []
    others: list[tuple[Window, Window]] = []
    for run in bench.each_run(f"{sizes.processes} processes side by side, {sizes.seconds:g} s each"):
        namespace = prepared(bench, f"{NAMESPACE}-{run}", f"10.{180 + run}.0.0/16")
        one_each = partial(attach, bench, namespace)
        theirs = partial(add, peer, f"side-{run}", f"10.{150 + run}.0.0/16")
        with looping(bench, namespace, Path(sys.executable)) as one_after_the_other:
            turns.append(
                (
                    together(bench, one_each, GROUPS, count()),
                    together(bench, one_after_the_other, GROUPS, count(vms_of_a_window(bench))),
                    together(bench, theirs, whereabouts.GROUPS, count()),
                )
            )
        if bench.other is not None:
            others.append(beside_the_other(bench, bench.other, run))
    beside, twice = f"whereabouts, {sizes.processes} processes at a time", Target(1.5, of_ratio=True, at_least=True)
    each, loop = f"{sizes.processes} at a time, a process for each attach", "processes, attaching in a loop"
    yield from rows(bench, each, beside, [t[::2] for t in turns], twice)
    yield from rows(bench, f"{sizes.processes} {loop}", beside, [t[1:] for t in turns], twice)
    if others:
        yield from rows(bench, f"{sizes.processes} {loop}", f"the other version, {sizes.processes} {loop}", others)


def beside_the_other(bench: Bench, other: Path, run: int) -> tuple[Window, Window]:
    """A window of each version, in a network of its own; every second time the other one is first."""
    pythons = {"mine": Path(sys.executable), "other": other / ".venv" / "bin" / "python"}
    windows = {}
    for turn, (name, python) in enumerate(sorted(pythons.items(), reverse=run % 2 == 1)):
        namespace = prepared(bench, f"{NAMESPACE}-{name}-{run}", f"10.{100 + 2 * run + turn}.0.0/16")
        with looping(bench, namespace, python) as attach_by_it:
            windows[name] = together(bench, attach_by_it, GROUPS, count())
    return windows["mine"], windows["other"]


def rows(
    bench: Bench, what: str, beside: str, pairs: Sequence[tuple[Window, ...]], target: Target | None = None
) -> Iterator[Row]:
    """What became of the windows of this program, beside those of the peer."""

    def row(name: str, unit: str, of: Callable[[Window], float]) -> Row:
        return paired(f"{what}: {name}", unit, beside, [(of(mine), of(other)) for mine, other in pairs])

    def never(name: str, of: Callable[[Window], int]) -> Row:
        return counted(f"{what}: {name}", beside, [(of(mine), of(other)) for mine, other in pairs]).aims(Target(0))

    rate = row(f"in {bench.sizes.seconds:g} s", "/s", lambda window: window.in_time / bench.sizes.seconds)
    yield rate.aims(target) if target else rate
    yield row("conflicts for each", "", lambda window: window.conflicts / max(len(window.given), 1))
    yield never("duplicates", lambda window: window.duplicates)
    yield never("failed", lambda window: window.failed)


def vms_of_a_window(bench: Bench) -> int:
    """More than can be attached in the time."""
    return int(VMS_A_SECOND * bench.sizes.seconds)


def prepared(bench: Bench, namespace: str, cidr: str) -> str:
    """A namespace with a network, one VM attached to it, which does not count, and VMs for two windows."""
    last = 2 * vms_of_a_window(bench)
    bench.scene.namespace(namespace)
    bench.scene.vms(namespace, (f"vm-{number}" for number in range(last + 1)))
    bench.programs.by_yoshi("-n", namespace, "network", "create", "big", "--cidr", cidr)
    attach(bench, namespace, last)
    return namespace


def attach(bench: Bench, namespace: str, number: int) -> str:
    """Attaches a VM by a process of its own; gives its address."""
    out = bench.programs.by_yoshi("-n", namespace, "vm", "attach", f"vm-{number}", "--network", "big")
    return address_in(out)


@contextmanager
def looping(bench: Bench, namespace: str, python: Path) -> Iterator[Callable[[int], str]]:
    """Processes that are there already; gives what attaches a VM by one of them that has nothing to do.

    `python` is of the virtual environment that has the program.
    """
    words = ("-n", namespace, "vm", "attach", "{}", "--network", "big")
    free: SimpleQueue[Popen[str]] = SimpleQueue()
    with ExitStack() as ended:
        for _ in range(bench.sizes.processes):
            free.put(ended.enter_context(bench.programs.going_on(python, LOOPING, *words)))

        def do(number: int) -> str:
            process = free.get()
            try:
                return address_in(asked(process, f"vm-{number}"))
            finally:
                free.put(process)

        yield do


def asked(process: Popen[str], name: str) -> str:
    """The line that a looping process answers with."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if answer.strip() in ("", "failed"):
        raise Failed(1, process.args, answer, f"attaching {name}")
    return answer


def address_in(text: str) -> str:
    """The last address that is named."""
    return str(re.findall(r"\d+(?:\.\d+){3}", text)[-1])


def add(peer: whereabouts.Whereabouts, prefix: str, cidr: str, number: int) -> str:
    """The same by whereabouts, for a pod."""
    return peer.add(f"{prefix}-{number}", cidr)


def together(bench: Bench, do: Callable[[int], str], groups: tuple[str, ...], numbers: Iterator[int]) -> Window:
    """As many loops as there are processes, each of which begins one after the other until the time is up."""
    window = Window()
    before = conflicts(bench, groups)
    end = time.monotonic() + bench.sizes.seconds

    def loop(_: int) -> None:
        while time.monotonic() < end:
            try:
                window.given.append(do(next(numbers)))
            except Failed:
                window.failed += 1
            else:
                window.in_time += time.monotonic() <= end

    with ThreadPoolExecutor(bench.sizes.processes) as pool:
        list(pool.map(loop, range(bench.sizes.processes)))
    window.conflicts = conflicts(bench, groups) - before
    return window


def conflicts(bench: Bench, groups: tuple[str, ...]) -> int:
    """How many requests of these API groups the server has answered with 409 or 422 since its start."""
    lines = str(bench.lab.api.get("/metrics", accept="text/plain")).splitlines()
    refused = re.compile(rf'apiserver_request_total{{.*code="(409|422)".*group="({"|".join(groups)})"')
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if refused.match(line))
