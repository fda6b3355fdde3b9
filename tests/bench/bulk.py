"""Many VMs attached by one command, compared with whereabouts, which runs once for each address."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import whereabouts
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, paired, single, timed

NAMESPACE = "bench-bulk"
PEER_RANGE = "10.140.0.0/16"


def measure(bench: Bench) -> Iterator[Row]:
    """VMs a second to an empty /16, another one each run; the peer's ADDs go on in one range from run to run."""
    programs, count = bench.programs, bench.sizes.bulk
    peer = whereabouts.installed(bench)
    peer.add("warm-up", PEER_RANGE)
    rates = []
    for run in bench.each_run(f"attach {count:,} VMs by one command, and by whereabouts"):
        namespace = f"{NAMESPACE}-{run}"
        bench.scene.namespace(namespace)
        bench.scene.vms(namespace, (f"vm-{number}" for number in range(count)), group="db")
        here = ("-n", namespace)
        programs.by_yoshi(*here, "network", "create", "big", "--cidr", f"10.{160 + run}.0.0/16")
        ours = timed(lambda: programs.by_yoshi(*here, "vm", "attach", "-l", "group=db", "--network", "big"))  # noqa: B023
        theirs = timed(lambda: [peer.add(f"pod-{run}-{number}", PEER_RANGE) for number in range(bench.sizes.adds)])  # noqa: B023
        rates.append((count / ours * 1000, bench.sizes.adds / theirs * 1000))
    what = f"vm attach -l group=db --network /16, {count:,} VMs"
    beside = f"whereabouts, {bench.sizes.adds * bench.runs:,} ADDs one after the other"
    yield paired(what, "VMs/s", beside, rates).aims(Target(20, of_ratio=True, at_least=True))
    yield single(what, "VMs/s", [ours for ours, _ in rates]).aims(Target(200, at_least=True))
