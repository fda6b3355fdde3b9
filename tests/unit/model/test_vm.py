"""A VirtualMachine, its instance and its pods."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import (
    LAUNCHER_SELECTOR,
    LIST_THRESHOLD,
    POD,
    VMI,
    Vm,
    find_instance,
    instance_queries,
    list_launcher_pods,
)


def vm(name: str = "web-1", uid: str = "uid-1", **spec: Any) -> Vm:
    return Vm({"metadata": {"name": name, "namespace": "prod", "uid": uid}, "spec": spec})


def with_template(spec: Json) -> Vm:
    return vm(template={"spec": spec})


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"runStrategy": "RerunOnFailure"}, "RerunOnFailure"),
        ({"running": True}, "Always"),
        ({"running": False}, "Halted"),
        ({}, "Halted"),
    ],
)
def test_deprecated_running_is_a_run_strategy(spec: Json, wanted: str) -> None:
    assert vm(**spec).run_strategy == wanted


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, {}),
        ({"domain": {"devices": {"autoattachPodInterface": False}}}, None),
        (
            {
                "networks": [{"name": "default", "pod": {}}],
                "domain": {"devices": {"interfaces": [{"name": "default", "bridge": {}}]}},
            },
            {"name": "default", "bridge": {}},
        ),
        (
            {
                "networks": [{"name": "lan", "multus": {"networkName": "lan"}}],
                "domain": {"devices": {"interfaces": [{"name": "lan", "bridge": {}}]}},
            },
            None,
        ),
        (
            {
                "networks": [{"name": "lan", "multus": {}}, {"name": "pods", "pod": {"vmNetworkCIDR": "10.9.0.0/24"}}],
                "domain": {"devices": {"interfaces": [{"name": "lan"}, {"name": "pods", "masquerade": {}}]}},
            },
            {"name": "pods", "masquerade": {}},
        ),
    ],
)
def test_pod_interface_is_found(spec: Json, wanted: Json | None) -> None:
    assert with_template(spec).pod_interface == wanted


@pytest.mark.parametrize(
    ("name", "spec", "wanted"),
    [
        ("web-1", {}, "web-1"),
        ("web-1", {"hostname": "www"}, "www"),
        ("a" * 62 + "-b", {}, "a" * 62),
        ("web.one", {}, "web"),
        ("web.one", {"hostname": ""}, "web"),
        ("web.one", {"hostname": "www"}, "www"),
    ],
)
def test_hostname_is_the_kubevirt_pod_label(name: str, spec: Json, wanted: str) -> None:
    assert vm(name, template={"spec": spec}).hostname == wanted


def test_minimal_vm_has_no_annotations() -> None:
    bare = Vm({"metadata": {"name": "web-1", "namespace": "prod"}, "spec": {"template": {"metadata": None}}})
    assert bare.annotations == {}
    assert bare.template_annotations == {}
    assert bare.uid == ""
    assert bare.full_name == "prod/web-1"


def vmi(phase: str = "Running", owner: str = "uid-1", name: str = "web-1") -> Json:
    owners = [{"kind": "VirtualMachine", "name": name, "uid": owner}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "prod", "ownerReferences": owners},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize("phase", ["Pending", "Scheduling", "Scheduled", "Running", "Unknown", ""])
def test_find_instance_returns_an_instance_that_has_not_ended(phase: str) -> None:
    assert find_instance(vm(), Snapshot(results={Query(VMI, "prod"): (vmi(phase),)})) == vmi(phase)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ((), "there is none"),
        ((vmi("Succeeded"),), "it has ended"),
        ((vmi("Failed"),), "it has failed"),
        ((vmi(owner="uid-0"),), "an earlier VM of that name made it"),
        ((vmi(name="web-2"),), "it is another VM's"),
    ],
)
def test_find_instance_ignores_other_and_ended_instances(found: tuple[Json, ...], why: str) -> None:
    assert find_instance(vm(), Snapshot(results={Query(VMI, "prod"): found})) is None, why


def pod(name: str, domain: str = "", owner: str = "", phase: str = "Running", role: str = "virt-launcher") -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": "prod",
            "labels": {"kubevirt.io": role},
            "annotations": {"kubevirt.io/domain": domain} if domain else {},
            "ownerReferences": [{"kind": "VirtualMachineInstance", "name": owner}] if owner else [],
        },
        "status": {"phase": phase},
    }


def test_launcher_pods_of_a_vm_exclude_ended_and_foreign_ones() -> None:
    pods = (
        pod("source", domain="web-1"),
        pod("target", domain="web-1", phase="Pending"),
        pod("by-owner", owner="web-1"),
        pod("over", domain="web-1", phase="Succeeded"),
        pod("broken", domain="web-1", phase="Failed"),
        pod("another-vms", domain="web-2"),
        pod("no-launcher", domain="web-1", role="hotplug-disk"),
    )
    found = list_launcher_pods("prod", "web-1", Snapshot(results={Query(POD, "prod"): pods}))
    assert [one["metadata"]["name"] for one in found] == ["source", "target", "by-owner"]


def test_instance_queries_use_lists_for_many_vms() -> None:
    few = instance_queries([vm("a"), vm("b")])
    assert set(few) == {
        Query(VMI, "prod", "a"),
        Query(POD, "prod", label_selector=f"{LAUNCHER_SELECTOR},vm.kubevirt.io/name=a"),
        Query(VMI, "prod", "b"),
        Query(POD, "prod", label_selector=f"{LAUNCHER_SELECTOR},vm.kubevirt.io/name=b"),
    }
    many = instance_queries([vm(f"vm-{number}") for number in range(LIST_THRESHOLD)])
    assert set(many) == {Query(VMI, "prod"), Query(POD, "prod", label_selector=LAUNCHER_SELECTOR)}
