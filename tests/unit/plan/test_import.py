"""Importing addresses that VMs have already.

| where it is seen | what becomes of it |
|---|---|
| a VM runs with it | a record, the pin, the MAC address that it runs with; no restart |
| an annotation of OVN-Kubernetes, Calico's IPAM | the same |
| recorded so already | nothing |
| another VM's, reserved, never assigned, outside, said of two VMs | refused, with the reason, the others adopted |
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.annotations import IP_ADDRS_ANNOTATION
from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.ipam import handle_name
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import POD, VM, VMI
from kubectl_yoshi.plan.attach.context import ExistingAddress
from kubectl_yoshi.plan.import_.planner import ImportRequest, plan_import
from kubectl_yoshi.plan.import_.sources import (
    ADDRESSES_ANNOTATION,
    Observation,
    SearchScope,
    Source,
    list_observations,
    match_networks,
)
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster

CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])
EVERYWHERE = SearchScope(None, None, "prod")


def runs_with(cluster: FakeCluster, address: str, name: str = "web-1", mac: str = "0a:00:00:00:00:01") -> None:
    """A VM that runs with an address that nobody pinned: an ordinary pod's, as Calico chose it."""
    cluster.running(name, pin=address)

    def unpin(obj: Json) -> None:
        obj["spec"]["template"].pop("metadata", None)

    def with_mac(obj: Json) -> None:
        obj["status"]["interfaces"][0]["mac"] = mac
        obj["metadata"].pop("annotations", None)

    cluster.api.change(VM.ref(name, "prod"), unpin)
    cluster.api.change(VMI.ref(name, "prod"), with_mac)


def seen(cluster: FakeCluster, source: Source = Source.VMS, where: SearchScope = EVERYWHERE) -> list[Observation]:
    return list_observations(source, where, BACKENDS, new_snapshot(cluster.api))


def adopt(cluster: FakeCluster, *existing: ExistingAddress | tuple[str, str], **options: Any) -> RunResult:
    """Adopts what is given, as pairs of VM and address too; all that is seen on VMs where nothing is."""
    told = [
        one if isinstance(one, ExistingAddress) else ExistingAddress(("prod", one[0]), parse_address(one[1]))
        for one in existing
    ]
    request = ImportRequest(("prod", "blue"), tuple(told or [one.existing for one in seen(cluster)]))
    return cluster.run(plan_import, request, **options)


def said(done: RunResult, name: str = "web-1") -> str:
    return done.errors[f"prod/{name}"].message


@CIDRS
@pytest.mark.parametrize("keeps", [True, False], ids=["v3.32", "v3.31"])
def test_import_of_a_running_vm_records_address_and_mac_without_a_restart(cidr: str, keeps: bool) -> None:
    cluster = FakeCluster(keeps)
    cluster.network(cidr=cidr)
    runs_with(cluster, "10.133.0.77")
    if not keeps:
        as_older_calico(cluster, "10.133.0.77", "virt-launcher-web-1")
    done = adopt(cluster)
    assert not done.errors
    assert done.plan.results == {"prod/web-1": "10.133.0.77"}
    assert not [note for note in done.notes if "restart" in note]
    assert cluster.pin() == "10.133.0.77"
    record = cluster.records()["10.133.0.77"]
    assert (record.holder, record.uid, record.mac) == ("prod/web-1", cluster.now().uid, "0a:00:00:00:00:01")
    assert cluster.mac() == "0a:00:00:00:00:01"
    cluster.check()
    cluster.api.writes.clear()
    assert not adopt(cluster).errors
    assert cluster.api.writes == []


def test_import_of_a_vm_pinned_to_another_address_prints_a_hint() -> None:
    cluster = FakeCluster()
    cluster.network()
    runs_with(cluster, "10.133.0.77")
    pins = {"annotations": {IP_ADDRS_ANNOTATION: '["10.133.0.9"]'}}
    cluster.api.change(cluster.now().ref, lambda obj: obj["spec"]["template"].update(metadata=pins))
    command = "kubectl yoshi vm attach web-1 -n prod --network blue --ip 10.133.0.77 --replace"
    assert said(adopt(cluster)) == (
        f"VM prod/web-1 runs with 10.133.0.77, but 10.133.0.9 is set on it (`{command}` changes that)"
    )
    assert not cluster.records()
    assert not cluster.attach(ip="10.133.0.77", replace=True).errors
    assert cluster.holders() == {"10.133.0.77": "prod/web-1"}


def as_older_calico(cluster: FakeCluster, address: str, pod: str) -> None:
    """Calico before v3.32 writes down the pod, not the VM."""

    def change(obj: Json) -> None:
        for attribute in obj["spec"]["attributes"]:
            attribute["secondary"] = {"namespace": "prod", "pod": pod, "node": "node-1"}

    for block in cluster.api.every(RAW.block):
        cluster.api.change(RAW.block.ref(block["metadata"]["name"]), change)
    assert address in cluster.held_in_calico()


def test_import_dry_run_writes_nothing() -> None:
    cluster = FakeCluster()
    cluster.network()
    runs_with(cluster, "10.133.0.77")
    cluster.api.writes.clear()
    assert (
        next(change.summary for change in adopt(cluster, dry_run="client").plan) == "record 10.133.0.77 for prod/web-1"
    )
    assert cluster.api.writes == []


def test_import_from_ovn_kubernetes_ignores_invalid_annotations() -> None:
    cluster = FakeCluster()
    cluster.network()
    for name, text in {
        "right": '{"net1": ["10.133.0.9/24", "fd00::9/64"]}',
        "text": '{"net1": "10.133.0.10"}',
        "broken": '{"net1": [',
        "list": '["10.133.0.11"]',
        "none": '{"net1": ["10.133.0.999"]}',
        "elsewhere": '{"net1": ["10.134.0.9/24"]}',
    }.items():
        cluster.vm(
            name,
            template={"metadata": {"annotations": {ADDRESSES_ANNOTATION: text}}, "spec": {"domain": {"devices": {}}}},
        )
    assert {one.existing.vm[1]: str(one.existing.address) for one in seen(cluster)} == {
        "right": "10.133.0.9", "text": "10.133.0.10",
    }  # fmt: skip
    assert not adopt(cluster).errors
    assert cluster.pin("right") == "10.133.0.9"
    cluster.check()


def test_import_from_ipam_includes_stopped_vms() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1")
    cluster.hold("10.133.0.77", handle_name("prod", "web-1"))
    cluster.hold_by_pod("10.133.0.78")
    (one,) = seen(cluster, Source.CALICO)
    assert "ipamblock/10-133-0-64-26 holds it for the VM" in one.evidence
    assert not adopt(cluster, one.existing).errors
    assert cluster.pin() == "10.133.0.77"
    cluster.check()


def test_import_reports_each_refusal_and_imports_the_others() -> None:
    cluster = FakeCluster()
    cluster.network(gateway="10.133.0.1", exclude=["10.133.0.20-10.133.0.29"])
    for name in ("a", "b", "c", "d", "e", "f", "g", "owner", "well"):
        cluster.vm(name)
    cluster.attach("owner", ip="10.133.0.50")
    cluster.attach("g", ip="10.133.0.60")
    cluster.reserve("10.133.0.51", note="printer")
    cluster.vm("pinned", pin="10.133.0.53")
    cluster.hold_by_pod("10.133.0.52")
    done = adopt(
        cluster,
        ("a", "10.133.0.50"), ("b", "10.133.0.51"), ("c", "10.133.0.52"), ("d", "10.133.0.1"), ("e", "10.133.0.25"),
        ("f", "10.134.0.9"), ("g", "10.133.0.61"), ("missing", "10.133.0.62"), ("well", "10.133.0.63"),
        ("pinned", "10.133.0.53"),
    )  # fmt: skip
    assert "10.133.0.50 is also used by virtualmachine/owner" in said(done, "a")
    assert "reserved (printer)" in said(done, "b")
    assert "also used by ipamblock/10-133-0-0-26" in said(done, "c")
    assert "it is the gateway" in said(done, "d")
    assert "it is excluded" in said(done, "e")
    assert "it is outside 10.133.0.0/24" in said(done, "f")
    assert "but 10.133.0.60 is set on it" in said(done, "g")
    assert 'VM "missing" not found' in said(done, "missing")
    assert len(done.errors) == 8
    assert cluster.pin("well") == "10.133.0.63"
    assert cluster.pin("pinned") == "10.133.0.53"
    assert cluster.holders() == {
        "10.133.0.50": "prod/owner", "10.133.0.51": "reserved (printer)", "10.133.0.53": "prod/pinned",
        "10.133.0.60": "prod/g", "10.133.0.63": "prod/well",
    }  # fmt: skip
    cluster.check()


def test_import_refuses_ambiguous_addresses_and_vms() -> None:
    cluster = FakeCluster()
    cluster.network()
    for name in ("a", "b", "two"):
        cluster.vm(name)
    done = adopt(
        cluster, ("a", "10.133.0.9"), ("b", "10.133.0.9"), ("two", "10.133.0.10"), ("two", "10.133.0.11"),
        ("two", "10.133.0.10"),
    )  # fmt: skip
    assert "also reported for prod/b" in said(done, "a")
    assert "also reported for prod/a" in said(done, "b")
    assert "10.133.0.10 and 10.133.0.11 are both reported for the VM" in said(done, "two")
    assert cluster.records() == {}


def test_import_of_an_ambiguous_address_keeps_its_current_owner() -> None:
    cluster = FakeCluster()
    cluster.network()
    for name in ("a", "b"):
        cluster.vm(name)
    cluster.attach("a", ip="10.133.0.9")
    done = adopt(cluster, ("a", "10.133.0.9"), ("b", "10.133.0.9"))
    assert {*done.errors} == {"prod/b"}
    assert "virtualmachine/a" in said(done, "b")
    assert cluster.holders() == {"10.133.0.9": "prod/a"}


def test_import_of_two_vms_running_with_one_address_refuses_both() -> None:
    cluster = FakeCluster()
    cluster.network()
    runs_with(cluster, "10.133.0.77", "a")
    cluster.vm("b")
    cluster.api.put(
        POD,
        {
            "metadata": {
                "name": "virt-launcher-b", "namespace": "prod", "labels": {"kubevirt.io": "virt-launcher"},
                "annotations": {"kubevirt.io/domain": "b"},
            },
            "status": {"phase": "Running", "podIPs": [{"ip": "10.133.0.77"}]},
        },
    )  # fmt: skip
    done = adopt(cluster)
    assert {*done.errors} == {"prod/a", "prod/b"}
    assert cluster.records() == {}


def test_import_with_unreadable_instances_is_refused() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.api.refuse("list", VMI)
    with pytest.raises(PreconditionFailed, match="cannot determine which VM has which address"):
        seen(cluster)


def test_import_matches_addresses_to_their_networks() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.network("green", "10.134.0.0/24")
    told = [
        (ExistingAddress(("prod", "a"), parse_address(text)), text)
        for text in ("10.134.0.9", "10.133.0.9", "10.135.0.9")
    ]
    found = match_networks(told, EVERYWHERE, new_snapshot(cluster.api))
    assert [one.network for one in found] == [("prod", "green"), ("prod", "blue"), None]
    only = SearchScope(("prod", "blue"), None, "prod")
    found = match_networks(told, only, new_snapshot(cluster.api))
    assert {one.network for one in found} == {("prod", "blue")}


@pytest.mark.parametrize("seed", range(8))
def test_concurrent_import_and_attach_assign_no_address_twice(seed: int) -> None:
    cluster = FakeCluster()
    cluster.network()
    for number in range(4):
        cluster.vm(f"told-{number}")
        cluster.vm(f"free-{number}")
    told = [(f"told-{n}", f"10.133.0.{n + 1}") for n in range(4)]
    errands: list[Any] = [
        lambda other: adopt(other, *told),
        lambda other: adopt(other, *told),
        lambda other: other.attach(*(f"free-{n}" for n in range(4))),
    ]
    random.Random(seed).shuffle(errands)
    cluster.run_concurrently(*errands, seed=seed)
    cluster.collect()
    cluster.check()
    assert len(cluster.records()) >= 4
