"""What Calico itself keeps for a VM, an IPAMHandle and its IPAMBlock, made by hand as its programs make them.

attach, halted VM      another address is released: the block with its resourceVersion, then the handle
attach, VM runs        refused, with the way out
detach                 releases it in Calico, then on the template, then in the allocations
gc                     releases what a VM left that was stopped and then deleted; never what is anybody's who exists
pods                   what Calico gave to a pod is neither assigned nor released
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from lab.testing import Cluster
from tests.cluster.calico_ipam import HANDLES, Calico
from tests.cluster.checker import check
from tests.cluster.harness import Yoshi, get, make, make_vms, reported_address
from tests.cluster.vm_assertions import POOLS

pytestmark = [pytest.mark.I5, pytest.mark.I6, pytest.mark.I10]

PIN = "cni.projectcalico.org/ipAddrs"


@pytest.fixture
def first(yoshi: Yoshi, cidr: Callable[[int], str]) -> str:
    """The first three octets of a network blue."""
    network = cidr(24)
    yoshi.done("network", "create", "blue", "--cidr", network)
    return network.removesuffix(".0/24")


def writes(told: str) -> list[tuple[str, str]]:
    """Method and resource of every write in the output of -v 6, in order."""
    kinds = "networkwizards|virtualmachines|ipamblocks|ipamhandles"
    return re.findall(rf"(PUT|PATCH|DELETE|POST) \S+/({kinds})/\S+ 20\d", told)


def run_vmi(cluster: Cluster, namespace: str, name: str, *addresses: str) -> None:
    owner = get(cluster, "virtualmachine", name, namespace=namespace)
    reference = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "controller": True}
    make(
        cluster,
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "ownerReferences": [{**reference, "uid": owner["metadata"]["uid"]}],
            },
            "spec": {"domain": {"devices": {}}},
            "status": {
                "phase": "Running",
                "interfaces": [{"name": "default", "ipAddress": address} for address in addresses],
            },
        },
    )


def test_ipam_address_of_a_halted_vm_is_released_in_the_block_and_then_in_the_handle(
    yoshi: Yoshi, installed: Cluster, calico: Calico, first: str
) -> None:
    make_vms(installed, yoshi.namespace, "web")
    other = calico.hold(f"{first}.9", handle=f"k8s-pod-network.{yoshi.namespace}-container", owner={"pod": "pod-1"})
    calico.hold(f"{first}.10", vm="web")
    last = calico.hold(f"{first}.11", handle=f"k8s-pod-network.{yoshi.namespace}-another", owner={"pod": "pod-2"})
    ran = yoshi.run("vm", "attach", "web", "--network", "blue", "--ip", f"{first}.20", "-v", "6")
    assert ran.code == 0, str(ran)
    assert writes(ran.err) == [
        ("PATCH", "networkwizards"),
        ("PUT", "ipamblocks"),
        ("DELETE", "ipamhandles"),
        ("PATCH", "virtualmachines"),
    ]
    assert calico.holders() == {f"{first}.9": other, f"{first}.11": last}
    assert calico.handles() == set()
    check(installed, yoshi.namespace, settled=True)


def test_ipam_address_of_the_vm_itself_is_kept(yoshi: Yoshi, installed: Cluster, calico: Calico, first: str) -> None:
    make_vms(installed, yoshi.namespace, "web")
    handle = calico.hold(f"{first}.10", vm="web")
    ran = yoshi.run("vm", "attach", "web", "--network", "blue", "--ip", f"{first}.10")
    assert reported_address(ran) == f"{first}.10"
    assert calico.holders() == {f"{first}.10": handle}


def test_handle_with_two_addresses_keeps_only_the_requested_one(
    yoshi: Yoshi, installed: Cluster, calico: Calico, first: str
) -> None:
    make_vms(installed, yoshi.namespace, "web")
    handle = calico.hold(f"{first}.10", f"{first}.70", f"{first}.71", vm="web")
    yoshi.done("vm", "attach", "web", "--network", "blue", "--ip", f"{first}.70")
    assert calico.holders() == {f"{first}.70": handle}
    spec = get(installed, HANDLES, handle)["spec"]
    assert spec["block"] == {f"{first}.64/26": 1}


def test_attach_of_a_running_vm_with_another_ipam_address_is_refused_with_a_hint(
    yoshi: Yoshi, installed: Cluster, calico: Calico, first: str
) -> None:
    make_vms(installed, yoshi.namespace, "web", run_strategy="Always")
    handle = calico.hold(f"{first}.10", vm="web", owner={"vmi-name": "web", "namespace": yoshi.namespace})
    run_vmi(installed, yoshi.namespace, "web", f"{first}.10")
    said = yoshi.refused("vm", "attach", "web", "--network", "blue", "--ip", f"{first}.20")
    assert f"Calico holds {first}.10 for VM {yoshi.namespace}/web" in said
    assert "--restart" in said
    assert calico.holders() == {f"{first}.10": handle}
    found = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)
    assert found["status"]["allocations"] == {}
    assert PIN not in json.dumps(get(installed, "virtualmachine", "web", namespace=yoshi.namespace))


def test_detach_writes_ipam_then_the_template_then_the_allocation(
    yoshi: Yoshi, installed: Cluster, calico: Calico, first: str
) -> None:
    make_vms(installed, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue", "--ip", f"{first}.10")
    calico.hold(f"{first}.10", vm="web")
    ran = yoshi.run("vm", "detach", "web", "--network", "blue", "-v", "6")
    assert ran.code == 0, str(ran)
    assert writes(ran.err) == [
        ("PUT", "ipamblocks"),
        ("DELETE", "ipamhandles"),
        ("PATCH", "virtualmachines"),
        ("PATCH", "networkwizards"),
    ]
    assert (calico.holders(), calico.handles()) == ({}, set())
    check(installed, yoshi.namespace, settled=True)


def test_gc_releases_ipam_addresses_of_deleted_vms_and_never_of_existing_vms(
    yoshi: Yoshi, installed: Cluster, calico: Calico, first: str
) -> None:
    make_vms(installed, yoshi.namespace, "gone", "halted", "moved", "strange")
    yoshi.done("vm", "attach", "gone", "halted", "--network", "blue")
    calico.hold(f"{first}.1", vm="gone")
    halted = calico.hold(f"{first}.2", vm="halted")
    moved = calico.hold(f"{first}.30", vm="moved")  # of a VM that exists, though nobody recorded it
    never = calico.hold(f"{first}.40", vm="never-seen")  # of a VM that nobody knows
    instance = calico.hold(f"{first}.50", vm="strange")
    run_vmi(installed, yoshi.namespace, "strange", f"{first}.50")
    installed.kubectl("delete", "vm", "gone", "strange", "-n", yoshi.namespace, "--cascade=orphan")
    pod = calico.hold(f"{first}.60", handle=f"k8s-pod-network.{yoshi.namespace}-container", owner={"pod": "pod-1"})

    told = yoshi.done("ips", "gc", "--network", "blue", "--yes", "--grace", "0s")
    assert f" {first}.1 of {yoshi.namespace}/gone" in told
    assert calico.holders() == {
        f"{first}.2": halted,
        f"{first}.30": moved,
        f"{first}.50": instance,
        f"{first}.60": pod,
    }
    assert never not in calico.handles()
    assert "nothing to collect" in yoshi.done("ips", "gc", "--network", "blue", "--yes", "--grace", "0s")
    assert reported_address(yoshi.run("vm", "attach", "halted", "--network", "blue")) == f"{first}.2"


def test_ipam_is_consistent_after_two_gc_runs_and_an_attach_at_the_same_time(
    yoshi: Yoshi, installed: Cluster, calico: Calico, first: str
) -> None:
    names = [f"gone-{number}" for number in range(5)]
    for number, name in enumerate(names):
        calico.hold(f"{first}.{10 + number}", vm=name)
    make_vms(installed, yoshi.namespace, "web")
    keeps = calico.hold(f"{first}.20", vm="web")
    collect = ("ips", "gc", "--network", "blue", "--yes", "--grace", "0s")
    rans = yoshi.together(collect, collect, ("vm", "attach", "web", "--network", "blue", "--ip", f"{first}.20"))
    for ran in rans:
        assert ran.code == 0, str(ran)
    # What Calico keeps for a VM without an allocation is released, if a gc comes before the attach.
    assert calico.holders() in ({}, {f"{first}.20": keeps})
    assert calico.handles() == {*calico.holders().values()}
    check(installed, yoshi.namespace, settled=True)


def test_address_of_a_pod_in_ipam_is_not_assigned(yoshi: Yoshi, installed: Cluster, calico: Calico, first: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "db")
    pod = calico.hold(f"{first}.1", handle=f"k8s-pod-network.{yoshi.namespace}-container", owner={"pod": "pod-1"})
    assert reported_address(yoshi.run("vm", "attach", "web", "--network", "blue")) == f"{first}.2"
    said = yoshi.refused("vm", "attach", "db", "--network", "blue", "--ip", f"{first}.1")
    assert f"{first}.1 is not free" in said
    assert "is not free" in yoshi.refused("ips", "reserve", "blue", f"{first}.1")
    assert yoshi.done("ips", "reserve", "blue").split()[0] == f"{first}.3"
    assert calico.holders() == {f"{first}.1": pod}


def test_pool_is_kept_while_ipam_holds_an_address_of_it(
    yoshi: Yoshi, installed: Cluster, calico: Calico, first: str
) -> None:
    calico.hold(f"{first}.7", vm="left-behind")
    said = yoshi.refused("network", "delete", "blue")
    assert f"{yoshi.namespace}/left-behind" in said
    assert "ips gc" in said
    pool = f"{yoshi.namespace}.blue"
    assert get(installed, POOLS, pool)["spec"]["disabled"] is False
    network = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]
    assert "deleting" not in network
    assert (network["created"], network["reason"]) == (True, "")
    yoshi.done("ips", "gc", "--network", "blue", "--yes")
    yoshi.done("network", "delete", "blue")
    assert pool not in installed.kubectl("get", POOLS, "-o", "name")
