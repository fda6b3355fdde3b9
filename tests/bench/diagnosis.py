"""`doctor -A` and `status -A`, beside kubectl listing the VMs of all namespaces."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.bench import Bench, compared
from tests.bench.measuring import Row, Target

NAMESPACE = "bench-diagnosis"
VMS = ("get", "vm", "-A")


def measure(bench: Bench) -> Iterator[Row]:
    """All VMs are on one network; they are removed afterwards, since lists of all namespaces are measured later."""
    count, scene = bench.sizes.diagnosis, bench.scene
    with bench.progress.task(f"make {count:,} VMs"):
        scene.namespace(NAMESPACE)
        scene.attached_vms(scene.network(NAMESPACE, "big", "10.207.0.0/16"), count)
    turns = bench.in_turns(
        "diagnose",
        bench.programs.yoshi_words("doctor", "-A", "--fail-on", "never"),
        bench.programs.yoshi_words("status", "-A"),
        bench.programs.kubectl_words(*VMS),
        more_often=bench.sizes.more_often,
    )
    beside = f"kubectl {' '.join(VMS)}"
    doctors, states = [(doctor, vms) for doctor, _, vms in turns], [(status, vms) for _, status, vms in turns]
    yield from compared(f"doctor -A, {count:,} VMs", beside, doctors, Target(3, of_ratio=True))
    yield from compared(f"status -A, {count:,} VMs", beside, states)
    bench.programs.by_yoshi("-n", NAMESPACE, "network", "delete", "big", "--force", "--yes")
    bench.programs.by_kubectl("-n", NAMESPACE, "delete", "vm", "--all", "--wait=false")
