"""Many VMs attached by one command, compared with bare patches of VMs, and with whereabouts once per address."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import whereabouts
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, paired, single, timed

NAMESPACE = "bench-bulk"
PEER_RANGE = "10.140.0.0/16"


def measure(bench: Bench) -> Iterator[Row]:
    """Measure VMs per second attached to an empty /16, a new one in each run.

    The bare patches set an annotation of the same VMs, as many in parallel as the command sends. The peer's ADDs are in
    the same range in all runs.
    """
    programs, count = bench.programs, bench.sizes.bulk
    peer = whereabouts.installed(bench)
    peer.add("warm-up", PEER_RANGE)
    names = [f"vm-{number}" for number in range(count)]
    rates, bare_rates = [], []
    for run in bench.each_run(f"attach {count:,} VMs by one command, and by whereabouts"):
        namespace = f"{NAMESPACE}-{run}"
        bench.scene.namespace(namespace)
        bench.scene.vms(namespace, names, group="db")
        here = ("-n", namespace)
        programs.by_yoshi(*here, "network", "create", "big", "--cidr", f"10.{160 + run}.0.0/16")
        bare = timed(lambda: bench.scene.annotate_vms(namespace, names))  # noqa: B023
        ours = timed(lambda: programs.by_yoshi(*here, "vm", "attach", "-l", "group=db", "--network", "big"))  # noqa: B023
        theirs = timed(lambda: [peer.add(f"pod-{run}-{number}", PEER_RANGE) for number in range(bench.sizes.adds)])  # noqa: B023
        rates.append((count / ours * 1000, bench.sizes.adds / theirs * 1000))
        bare_rates.append((count / ours * 1000, count / bare * 1000))
    what = f"vm attach -l group=db --network /16, {count:,} VMs"
    beside = f"whereabouts, {bench.sizes.adds * bench.runs:,} ADDs one after the other"
    yield paired(what, "VMs/s", beside, rates).aims(Target(20, of_ratio=True, at_least=True))
    yield single(what, "VMs/s", [ours for ours, _ in rates]).aims(Target(200, at_least=True))
    yield paired(what, "VMs/s", f"one JSON Patch of each of {count:,} VMs, by the same client", bare_rates).aims(
        Target(0.8, of_ratio=True, at_least=True)
    )
