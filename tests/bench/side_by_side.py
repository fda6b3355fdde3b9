"""Many processes at once that all want an address of one network, beside as many of whereabouts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from tests.bench import whereabouts
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, counted, paired
from tests.bench.programs import Failed

NAMESPACE = "bench-side"
GROUPS = ("plumber.k8s.pf9.io", "kubevirt.io")
"""The API groups that this program writes to."""
VMS_A_SECOND = 40
"""How many VMs are made ready for each second; on two cores a process each cannot attach more."""


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
    pairs = []
    for run in bench.each_run(f"{sizes.processes} processes side by side, {sizes.seconds:g} s each"):
        ours = partial(attach, bench, prepared(bench, run))
        theirs = partial(add, peer, f"side-{run}", f"10.{150 + run}.0.0/16")
        pairs.append((together(bench, ours, GROUPS), together(bench, theirs, whereabouts.GROUPS)))
    what, beside = f"{sizes.processes} processes, {sizes.seconds:g} s", f"whereabouts, {sizes.processes} processes"

    def row(name: str, unit: str, of: Callable[[Window], float]) -> Row:
        return paired(f"{what}: {name}", unit, beside, [(of(mine), of(other)) for mine, other in pairs])

    rate = row("one attach each", "/s", lambda window: window.in_time / sizes.seconds)
    yield rate.aims(Target(2, of_ratio=True, at_least=True))
    yield row("conflicts for each", "", lambda window: window.conflicts / max(len(window.given), 1))
    duplicates = [(mine.duplicates, other.duplicates) for mine, other in pairs]
    yield counted(f"{what}: duplicates", beside, duplicates).aims(Target(0))
    yield counted(f"{what}: failed", beside, [(mine.failed, other.failed) for mine, other in pairs]).aims(Target(0))


def prepared(bench: Bench, run: int) -> str:
    """A namespace with a network and more VMs than can be attached in the time."""
    namespace = f"{NAMESPACE}-{run}"
    bench.scene.namespace(namespace)
    bench.scene.vms(namespace, (f"vm-{number}" for number in range(int(VMS_A_SECOND * bench.sizes.seconds))))
    bench.programs.by_yoshi("-n", namespace, "network", "create", "big", "--cidr", f"10.{180 + run}.0.0/16")
    return namespace


def attach(bench: Bench, namespace: str, number: int) -> str:
    """Attaches a VM by a process; gives its address."""
    out = bench.programs.by_yoshi("-n", namespace, "vm", "attach", f"vm-{number}", "--network", "big")
    return str(re.findall(r"\d+(?:\.\d+){3}", out)[-1])


def add(peer: whereabouts.Whereabouts, prefix: str, cidr: str, number: int) -> str:
    """The same by whereabouts, for a pod."""
    return peer.add(f"{prefix}-{number}", cidr)


def together(bench: Bench, do: Callable[[int], str], groups: tuple[str, ...]) -> Window:
    """As many loops as there are processes, each of which begins one after the other until the time is up."""
    window, numbers = Window(), count()
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
