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
NO_POLICIES, FOR_ALLOCATIONS, ALL_POLICIES = VARIANTS = ("no policies", "policies for allocations", "all policies")
SETTLED_SECONDS = 2.0
"""How long an API server may still apply policies as they were, and be busy with VMs that were just created."""


def measure(bench: Bench) -> Iterator[Row]:
    """Seconds of the command, in turns of which each begins with another variant."""
    count = bench.sizes.bulk
    bench.programs.by_kubectl(
        "create", "clusterrolebinding", TENANT, "--clusterrole", "yoshi-calico-reader", "--user", TENANT
    )
    turns = []
    number = 0
    for run in bench.each_run(f"{count} VMs attached with the admission policies and without", bench.sizes.more_often):
        first = run % len(VARIANTS)
        seconds = {}
        for variant in VARIANTS[first:] + VARIANTS[:first]:
            install(bench, variant)
            seconds[variant] = attach(bench, number)
            number += 1
        turns.append(seconds)
    install(bench, ALL_POLICIES)
    for variant, target in ((FOR_ALLOCATIONS, Target(1.1, of_ratio=True)), (ALL_POLICIES, None)):
        what = f"vm attach, {count} VMs of a tenant, {variant}"
        row = paired(what, "s", NO_POLICIES, [(seconds[variant], seconds[NO_POLICIES]) for seconds in turns])
        yield row.aims(target) if target else row


def install(bench: Bench, variant: str) -> None:
    bench.programs.by_yoshi("install", "--policy", "off" if variant == NO_POLICIES else "enforce")
    if variant == FOR_ALLOCATIONS:
        bench.programs.by_kubectl("delete", "validatingadmissionpolicybinding", *ADDRESS_USE)


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
    time.sleep(SETTLED_SECONDS)
    start = time.monotonic()
    bench.programs.by_yoshi(*here, *tenant, "vm", "attach", *names, "--network", "red")
    seconds = time.monotonic() - start
    bench.scene.api.delete(NETWORKWIZARD.ref("red", namespace))  # later runs are not compared with it
    return seconds
