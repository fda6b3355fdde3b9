"""Several networks by one command: each with its address, and each flag for the networks that it is meant for.

| networks | flags |
|---|---|
| of any kind, each once | an address behind "=", for one VM |
| private, at most one | --mac, if it is the only interface |
| Layer 2 | --interface-name and --mac for one of them, --interface-model, --cloud-init and --hotplug for all |
| public | --port for all |
"""

from __future__ import annotations

import json

import click
import pytest

from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.cli.completion.sources import NameRequest, list_known_names
from kubectl_yoshi.cli.param_types import NameKind
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.cli.vm.attach import attach as attach_command
from kubectl_yoshi.model.objects import dig
from kubectl_yoshi.model.vm import VM
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_layer2 import layer2
from tests.unit.plan.test_public import make_public, public


@pytest.fixture
def cluster() -> FakeCluster:
    """web-1 and web-2, and networks blue and green (private), lab and fast (Layer 2), pub and edge (public)."""
    found = public(announce="metallb-l2")
    assert not make_public(found, "edge", "198.51.100.0/24", "metallb-l2").errors
    found.network()
    found.network("green", "10.134.0.0/24")
    layer2(found)
    layer2(found, "fast", "10.21.0.0/24", vlan=21)
    for name in ("web-1", "web-2"):
        found.vm(name)
    found.api.writes.clear()
    return found


def attach(cluster: FakeCluster, line: str, *vms: str) -> CliResult:
    return run(cluster, "vm", "attach", *(vms or ("web-1",)), *line.split())


def macs(cluster: FakeCluster) -> dict[str, str]:
    """Network -> MAC address of web-1's interface, or of its pod."""
    template = cluster.api.get(VM.ref("web-1", "prod"))["spec"]["template"]
    nics = dig(template, "spec", "domain", "devices", "interfaces", default=[])
    networks = {
        one["name"]: dig(one, "multus", "networkName", default="")
        for one in dig(template, "spec", "networks", default=[])
    }
    found = {networks[nic["name"]].rpartition("/")[2]: nic.get("macAddress", "") for nic in nics}
    annotation = dig(template, "metadata", "annotations", "cni.projectcalico.org/hwAddr", default="")
    return {name: mac for name, mac in {**found, "blue": annotation}.items() if name and mac}


def ports(cluster: FakeCluster) -> list[list[int]]:
    return [[port["port"] for port in service["spec"]["ports"]] for service in cluster.api.every(SERVICE)]


def test_attach_assigns_an_address_of_each_network(cluster: FakeCluster) -> None:
    said = attach(cluster, "--network blue=10.133.0.10 --network nw/lab --network prod/pub=203.0.113.9")
    assert (said.code, said.out.splitlines()) == (
        0,
        [
            "virtualmachine.kubevirt.io/web-1 attached to blue: 10.133.0.10",
            "virtualmachine.kubevirt.io/web-1 attached to lab: 10.20.0.2",
            "virtualmachine.kubevirt.io/web-1 attached to pub: 203.0.113.9",
        ],
    )
    assert cluster.holders()["10.133.0.10"] == "prod/web-1"
    again = attach(cluster, "--network blue --network lab --public-network pub")
    assert again.out == said.out.replace("\n", " (unchanged)\n")


def test_detach_releases_the_addresses_of_each_network(cluster: FakeCluster) -> None:
    assert attach(cluster, "--network blue --network lab --network fast --network pub", "web-1", "web-2").code == 0
    names = ("blue", "lab", "fast", "pub")
    said = run(cluster, "vm", "detach", "web-1", *(word for name in names for word in ("--network", name)))
    assert said.out.splitlines() == [f"virtualmachine.kubevirt.io/web-1 detached from {name}" for name in names]
    for name in names:
        assert "prod/web-1" not in cluster.holders(name).values()
        assert "prod/web-2" in cluster.holders(name).values()


def test_one_refused_network_leaves_the_vm_as_it_was(cluster: FakeCluster) -> None:
    cluster.api.refuse("create", SERVICE)
    cluster.api.writes.clear()
    said = attach(cluster, "--network blue --network lab --network pub")
    assert (said.code, said.out) == (1, "")
    assert "may not create services" in said.err
    assert cluster.api.writes == []


@pytest.mark.parametrize(
    ("line", "vms", "message"),
    [
        ("--network blue --network prod/blue", 1, "network prod/blue is named twice"),
        ("--network blue=10.133.0.5 --network blue=10.133.0.6", 1, "network prod/blue is named twice"),
        ("--network pub --public-ip 203.0.113.9", 1, "network prod/pub is named twice"),
        ("--network blue=10.133.0.5 --network lab", 2, "--network blue=10.133.0.5 is for one VM"),
        ("--network blue=10.133.0.5 --ip 10.133.0.5", 1, "--ip is for a single --network without an address"),
        ("--network blue --network lab --ip 10.133.0.5", 1, "--ip is for a single --network without an address"),
        ("--network blue=", 1, '--network blue: address "" is not an IP address'),
        ("--network =10.133.0.5", 1, '"" is not the name of a network'),
        ("--network blue --network green", 1, "a VM can be on one private network, not on prod/blue and prod/green"),
        ("--network blue --network lab --port 22", 1, "--port is for public networks, and none of these networks is"),
        ("--network blue --network pub --hotplug", 1, "--hotplug is for Layer 2 networks, and none of these"),
        ("--network pub --network edge --mac 02:00:00:00:00:01", 1, "--mac is for private or Layer 2 networks, and"),
        ("--public-network pub --mac 02:00:00:00:00:01", 1, "--mac is for an interface: name a private or Layer 2"),
        (
            "--network blue --network lab --mac 02:00:00:00:00:01",
            1,
            "--mac is for one network, and may apply to prod/blue, prod/lab",
        ),
        (
            "--network lab --network fast --interface-name data",
            1,
            "--interface-name is for one network, and may apply to prod/lab, prod/fast",
        ),
    ],
)
def test_usage_errors(cluster: FakeCluster, line: str, vms: int, message: str) -> None:
    said = attach(cluster, line, *["web-1", "web-2"][:vms])
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {message}")
    assert cluster.api.writes == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--network pub --mac 02:00:00:00:00:01", "network prod/pub is public: its addresses are on no interface"),
        ("--network blue --port 22", "network prod/blue is private: ports are opened on public addresses only"),
        ("--network blue --interface-name data", "network prod/blue adds no interface to its VMs"),
        ("--network blue --network nowhere", 'network "nowhere" not found'),
    ],
)
def test_flag_of_another_kind_and_missing_networks_are_refused(cluster: FakeCluster, line: str, message: str) -> None:
    said = attach(cluster, line)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"error: {message}")
    assert cluster.api.writes == []


def test_flags_apply_to_the_networks_that_they_are_meant_for(cluster: FakeCluster) -> None:
    line = "--network lab --network pub --network edge --mac 02:00:00:00:00:01 --interface-name data --port 22,53/udp"
    assert attach(cluster, line).code == 0
    assert macs(cluster) == {"lab": "02:00:00:00:00:01"}
    assert ports(cluster) == [[22, 53], [22, 53]]
    assert attach(cluster, "--network blue --network fast --interface-model e1000e").code == 0
    template = cluster.api.get(VM.ref("web-1", "prod"))["spec"]["template"]
    models = {nic["name"]: nic.get("model") for nic in template["spec"]["domain"]["devices"]["interfaces"]}
    assert (models["data"], models["fast"]) == (None, "e1000e")
    assert json.loads(template["metadata"]["annotations"]["cni.projectcalico.org/ipAddrs"]) == ["10.133.0.1"]


@pytest.mark.parametrize("first", ["", "blue", "lab"])
def test_running_vm_is_restarted_once(cluster: FakeCluster, first: str) -> None:
    """Whichever of the networks it runs with already."""
    cluster.running("run-1")
    if first:
        assert attach(cluster, f"--network {first} --restart", "run-1").code == 0
        cluster.time_passes()
    cluster.api.writes.clear()
    said = attach(cluster, "--network blue --network lab --network fast --network pub --restart", "run-1")
    assert said.code == 0
    assert "restart needed" not in said.err
    # Calico keeps the address of a running VM, which is then stopped and started again.
    assert sum(write.startswith(("restart ", "stop ")) for write in cluster.api.writes) == 1
    cluster.time_passes()
    cluster.api.writes.clear()
    assert attach(cluster, "--network blue --network lab --network fast --restart", "run-1").err == ""
    assert cluster.api.writes == []


def test_free_addresses_are_completed_after_the_name(cluster: FakeCluster) -> None:
    param = next(param for param in attach_command.params if param.name == "networks")
    session = Session({"namespace": "prod"}, api=cluster.api)  # type: ignore[arg-type]
    cluster.reserve("10.133.0.251")
    request = NameRequest(session, click.Context(attach_command), param, "blue=10.133.0.25")
    found = [item.value for item in list_known_names(NameKind.NETWORK_ADDRESS, request)]
    assert found == [f"blue=10.133.0.{number}" for number in (25, 250, 252, 253, 254)]


def test_dry_run_shows_the_changes_of_each_network(cluster: FakeCluster) -> None:
    said = attach(cluster, "--network blue --network pub --dry-run=client")
    assert "record 10.133.0.1 for prod/web-1" in said.out
    assert "record 203.0.113.1 for prod/web-1" in said.out
    assert cluster.api.writes == []
