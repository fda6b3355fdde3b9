"""Many VMs attached by one command to the only network, with the admission policies and without them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kubectl_yoshi.model.network import NETWORKWIZARD
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, paired

NAMESPACE = "bench-policies"
WITHDRAWN_SECONDS = 2.0
"""How long an API server may still apply policies that were deleted."""


def measure(bench: Bench) -> Iterator[Row]:
    """Seconds of the command, in turns."""
    count = bench.sizes.bulk
    pairs = [
        (attach(bench, 2 * run, "enforce"), attach(bench, 2 * run + 1, "off"))
        for run in bench.each_run(f"{count} VMs attached with the admission policies and without")
    ]
    bench.programs.by_yoshi("install", "--policy", "enforce")
    what = f"vm attach, {count} VMs, with the admission policies"
    yield paired(what, "s", "the same without", pairs).aims(Target(1.1, of_ratio=True))


def attach(bench: Bench, number: int, policy: str) -> float:
    """Return the seconds of a command that attaches VMs to a new network."""
    namespace = f"{NAMESPACE}-{number}"
    names = [f"vm-{place}" for place in range(bench.sizes.bulk)]
    bench.scene.namespace(namespace)
    bench.scene.vms(namespace, names)
    bench.programs.by_yoshi("install", "--policy", policy)
    if policy == "off":
        time.sleep(WITHDRAWN_SECONDS)
    here = ("-n", namespace)
    bench.programs.by_yoshi(*here, "network", "create", "red", "--cidr", f"10.{203 + number}.0.0/16")
    start = time.monotonic()
    bench.programs.by_yoshi(*here, "vm", "attach", *names, "--network", "red")
    seconds = time.monotonic() - start
    bench.scene.api.delete(NETWORKWIZARD.ref("red", namespace))  # later runs are not compared with it
    return seconds
