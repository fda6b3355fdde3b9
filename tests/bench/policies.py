"""Many VMs attached by one command of a tenant to the only network, with admission policies and without them.

The tenant has the roles of the guide: `edit`, with `yoshi-user`, in the namespace of the VMs and the network.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from kubectl_yoshi.model.network import NETWORKWIZARD
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, paired

NAMESPACE = "bench-policies"
TENANT = "bench-tenant"
ADDRESS_USE = ("yoshi-address-use", "yoshi-address-use-blocks", "yoshi-address-format")
SETTLED_SECONDS = 2.0
"""How long an API server may still apply policies as they were."""


def measure(bench: Bench) -> Iterator[Row]:
    """Seconds of the command, in turns."""
    count = bench.sizes.bulk
    bench.programs.by_kubectl(
        "create", "clusterrolebinding", TENANT, "--clusterrole", "yoshi-calico-reader", "--user", TENANT
    )
    turns = []
    for run in bench.each_run(f"{count} VMs attached with the admission policies and without"):
        install(bench, "off")
        without = attach(bench, 3 * run)
        install(bench, "enforce")
        with_all = attach(bench, 3 * run + 1)
        bench.programs.by_kubectl("delete", "validatingadmissionpolicybinding", *ADDRESS_USE)
        time.sleep(SETTLED_SECONDS)
        turns.append((without, attach(bench, 3 * run + 2), with_all))
    install(bench, "enforce")
    what = f"vm attach, {count} VMs of a tenant"
    allocations = [(limited, without) for without, limited, _ in turns]
    yield paired(f"{what}, policies for allocations", "s", "no policies", allocations).aims(Target(1.1, of_ratio=True))
    yield paired(f"{what}, all policies", "s", "no policies", [(all_, without) for without, _, all_ in turns])


def install(bench: Bench, policy: str) -> None:
    bench.programs.by_yoshi("install", "--policy", policy)
    time.sleep(SETTLED_SECONDS)


def attach(bench: Bench, number: int) -> float:
    """Return the seconds of a command that attaches VMs to a new network."""
    namespace = f"{NAMESPACE}-{number}"
    names = [f"vm-{place}" for place in range(bench.sizes.bulk)]
    bench.scene.namespace(namespace)
    bench.scene.vms(namespace, names)
    here, tenant = ("-n", namespace), ("--as", TENANT)
    for role in ("edit", "yoshi-user"):
        bench.programs.by_kubectl(*here, "create", "rolebinding", role, "--clusterrole", role, "--user", TENANT)
    cidr = f"10.{203 + number // 16}.{number % 16 * 16}.0/20"
    bench.programs.by_yoshi(*here, "network", "create", "red", "--cidr", cidr)
    start = time.monotonic()
    bench.programs.by_yoshi(*here, *tenant, "vm", "attach", *names, "--network", "red")
    seconds = time.monotonic() - start
    bench.scene.api.delete(NETWORKWIZARD.ref("red", namespace))  # later runs are not compared with it
    return seconds
