"""What a person waits for: help, version, a list, one attachment; each beside kubectl in the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from tests.bench.measuring import Bench, Budget, Row, paired, timed

NAMESPACE = "bench"
NETWORKS = ("red", "green", "blue")
VMS = 50


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of issue 3."""
    programs = bench.programs
    yield programs.beside_kubectl(["--help"], ["--help"], bench.runs).within(Budget(150))
    yield programs.beside_kubectl(["version"], ["version", "--client"], bench.runs).within(Budget(150))
    set_up(bench)
    here = ("-n", NAMESPACE)
    lists = [*here, "ips", "list"]
    networks = [*here, "get", "networkwizards"]
    row = programs.beside_kubectl(lists, networks, bench.runs * 2).within(Budget(5, of_ratio=True))
    yield replace(row, what=f"ips list, {len(NETWORKS)} networks, {VMS} VMs", beside="kubectl get networkwizards")
    yield one_attach(bench)


def set_up(bench: Bench) -> None:
    """Three networks, and VMs spread over them."""
    programs = bench.programs
    programs.by_kubectl("create", "namespace", NAMESPACE)
    for number, network in enumerate(NETWORKS):
        programs.by_yoshi("-n", NAMESPACE, "network", "create", network, "--cidr", f"10.200.{number}.0/24")
    vms = [vm(f"vm-{number}", NETWORKS[number % len(NETWORKS)]) for number in range(VMS)]
    vms += [vm(f"one-{number}", "") for number in range(bench.runs + 1)]
    programs.by_kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": vms}))
    for network in NETWORKS:
        programs.by_yoshi("-n", NAMESPACE, "vm", "attach", "-l", f"network={network}", "--network", network)


def vm(name: str, network: str) -> dict[str, object]:
    """A VirtualMachine that does not run, as one writes it."""
    interfaces = [{"name": "default", "masquerade": {}}]
    spec = {"domain": {"devices": {"interfaces": interfaces}}, "networks": [{"name": "default", "pod": {}}]}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"network": network}},
        "spec": {"runStrategy": "Halted", "template": {"spec": spec}},
    }


def one_attach(bench: Bench) -> Row:
    """Another VM each time, beside kubectl annotating the same one."""
    programs = bench.programs

    def attach(name: str) -> str:
        return programs.by_yoshi("-n", NAMESPACE, "vm", "attach", name, "--network", "red")

    def annotate(name: str) -> str:
        return programs.by_kubectl("-n", NAMESPACE, "annotate", "vm", name, "example.com/bench=yes")

    attach("one-0")
    annotate("one-0")
    names = [f"one-{number}" for number in range(1, bench.runs + 1)]
    pairs = [(timed(lambda: attach(name)), timed(lambda: annotate(name))) for name in names]  # noqa: B023
    return paired("vm attach VM --network red", "ms", "kubectl annotate vm VM", pairs)
