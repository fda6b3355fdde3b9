"""The state of an address, and the findings about it.

record   VM                          runs                     state
-------  --------------------------  -----------------------  --------------
none     -                           -                        Unrecorded
person   -                           -                        Reserved
VM       carries it                  no                       Bound
VM       carries it                  with it                  Bound
VM       carries it                  without it               RestartNeeded
VM       does not carry it           with it                  RestartNeeded
VM       does not carry it, young    no                       Pending
VM       does not carry it, old      no                       Orphaned
VM       gone, or another one        no                       Orphaned
VM       cannot be seen              cannot be seen           Unknown
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, parse_network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot
from kubectl_yoshi.model.vm import VM, VMI
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.inventory import InventoryRow, build_inventory
from tests.unit.diagnosis.diagnosing import allocation_messages
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster, refusal

BLUE = NETWORKWIZARD.ref("blue", "prod")
SOON = timedelta(seconds=1)
LATER = timedelta(hours=1)


def surveyed(
    cluster: FakeCluster, age: timedelta = SOON, all_namespaces: bool = True, exact: bool = False
) -> tuple[dict[str, InventoryRow], list[str]]:
    """The rows by address, and what is wrong."""
    now = datetime.now(timezone.utc) + age

    def ask(snapshot: Snapshot) -> tuple[InventoryRow, ...]:
        network = parse_network(cluster.api.get(BLUE))
        return build_inventory(network, PlanContext(snapshot, BACKENDS, RunContext(now=now)), all_namespaces, exact)

    rows = ask(new_snapshot(cluster.api))  # type: ignore[arg-type]
    assert [row.number for row in rows] == sorted(row.number for row in rows)
    return {row.address: row for row in rows}, allocation_messages(cluster, age=age)


def state_of(cluster: FakeCluster, address: str, **more: Any) -> AddressState:
    return surveyed(cluster, **more)[0][address].state


def unpin(cluster: FakeCluster, name: str = "web-1") -> None:
    cluster.api.change(VM.ref(name, "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))


CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])


@CIDRS
def test_halted_vm_with_its_address_is_bound(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    vm = cluster.vm()
    cluster.attach(ip="10.133.0.9")
    rows, wrong = surveyed(cluster)
    row = rows["10.133.0.9"]
    assert (row.state, row.holder, row.running) == (AddressState.BOUND, "prod/web-1", False)
    assert row.vm is not None
    assert row.vm.uid == vm.uid
    assert wrong == []


def test_vm_running_with_its_address_is_bound(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.9")
    cluster.attach()
    rows, wrong = surveyed(cluster)
    assert (rows["10.133.0.9"].state, rows["10.133.0.9"].running) == (AddressState.BOUND, True)
    assert wrong == []


def test_vm_running_without_its_address_needs_a_restart(old_calico: FakeCluster) -> None:
    old_calico.running()
    old_calico.attach()
    rows, wrong = surveyed(old_calico)
    assert rows["10.133.0.1"].state is AddressState.RESTART_NEEDED
    assert wrong == [
        "10.133.0.1 on prod/blue: prod/web-1 runs without its template's latest changes; it needs a restart"
    ]


def test_vm_detached_while_running_needs_a_restart(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.9")
    cluster.attach()
    cluster.detach()
    assert state_of(cluster, "10.133.0.9") is AddressState.RESTART_NEEDED


def test_vm_with_its_old_ipam_address_needs_a_restart(cluster: FakeCluster) -> None:
    """The instance and the pod are pinned to the one and have the other: calico's handle was stronger."""
    cluster.hold("192.168.0.9", "k8s-pod-network.vmi.prod.web-1")
    cluster.vm(pin="10.133.0.9")
    cluster.api.refuse("get", RAW.handle)
    cluster.attach()
    cluster.api.allow_everything()
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Always"))
    cluster.time_passes()
    assert cluster.runs_with() == "192.168.0.9"
    assert state_of(cluster, "10.133.0.9") is AddressState.RESTART_NEEDED


def test_allocation_without_address_on_the_vm_is_pending_and_then_orphaned(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    unpin(cluster)
    rows, wrong = surveyed(cluster)
    assert rows["10.133.0.1"].state is AddressState.PENDING
    assert wrong == []
    rows, wrong = surveyed(cluster, LATER)
    assert rows["10.133.0.1"].state is AddressState.ORPHANED
    assert wrong == [
        (
            "10.133.0.1 on prod/blue: recorded for prod/web-1, but virtualmachine/web-1 in namespace prod does not "
            "request it"
        )
    ]


def test_allocation_of_a_deleted_vm_is_orphaned(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    rows, wrong = surveyed(cluster, LATER)
    assert (rows["10.133.0.1"].state, rows["10.133.0.1"].vm) == (AddressState.ORPHANED, None)
    assert wrong == ["10.133.0.1 on prod/blue: recorded for prod/web-1, but the VM no longer exists"]


def test_allocation_of_a_recreated_vm_is_orphaned(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    cluster.vm()
    assert state_of(cluster, "10.133.0.1", age=LATER) is AddressState.ORPHANED


def test_reservation_is_reserved(cluster: FakeCluster) -> None:
    cluster.reserve("10.133.0.9", note="printer")
    rows, wrong = surveyed(cluster)
    assert (rows["10.133.0.9"].state, rows["10.133.0.9"].holder) == (AddressState.RESERVED, "reserved (printer)")
    assert wrong == []


def test_address_in_use_without_an_allocation_is_unrecorded(cluster: FakeCluster) -> None:
    cluster.vm("web-9", "dev", pin="10.133.0.7")
    cluster.hold_by_pod("10.133.0.8")
    cluster.hold_by_pod("10.133.0.9", "shop")
    rows, wrong = surveyed(cluster)
    assert {address: (row.state, row.holder) for address, row in rows.items()} == {
        "10.133.0.7": (AddressState.UNRECORDED, "dev/web-9"),
        "10.133.0.8": (AddressState.UNRECORDED, "ipamblock/10-133-0-0-26"),
        "10.133.0.9": (AddressState.UNRECORDED, "pod/shop in namespace dev"),
    }
    assert wrong == [
        "10.133.0.7 on prod/blue: virtualmachine/web-9 in namespace dev uses it, but it is not recorded",
        "10.133.0.8 on prod/blue: ipamblock/10-133-0-0-26 uses it, but it is not recorded",
        "10.133.0.9 on prod/blue: pod/shop in namespace dev uses it, but it is not recorded",
    ]


def test_address_cooling_down_in_ipam_is_no_finding_and_not_assigned(cluster: FakeCluster) -> None:
    cluster.hold("10.133.0.8", "gone")
    [block] = cluster.api.every(RAW.block)
    block["spec"]["attributes"] = [{"releasedAt": "2026-01-01T00:00:00Z"}]
    cluster.api.put(RAW.block, block)
    rows, wrong = surveyed(cluster)
    assert (rows["10.133.0.8"].state, wrong) == (AddressState.RELEASED, [])
    cluster.vm("web-9")
    said = refusal(cluster.attach("web-9", ip="10.133.0.8"), "prod/web-9").message
    assert said == "10.133.0.8 is not free: it is cooling down in Calico, which released it at 2026-01-01T00:00:00Z"


@CIDRS
def test_address_cooling_down_on_its_network_is_released(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr, coolDown="10m")
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.detach()
    rows, wrong = surveyed(cluster)
    assert (rows["10.133.0.9"].state, wrong) == (AddressState.RELEASED, [])
    assert re.fullmatch(r"it cools down until \S+Z: prod/web-1 had it", rows["10.133.0.9"].reason)
    assert surveyed(cluster, LATER)[0] == {}


def test_unrecorded_address_is_one_finding_naming_all_users(cluster: FakeCluster) -> None:
    cluster.running("web-9", pin="10.133.0.7")
    (wrong,) = surveyed(cluster)[1]
    here = "in namespace prod"
    used_by = (
        f"virtualmachine/web-9 {here}, virtualmachineinstance/web-9 {here}, pod/virt-launcher-web-9 {here} and "
        "ipamblock/10-133-0-0-26"
    )
    assert wrong == f"10.133.0.7 on prod/blue: {used_by} use it, but it is not recorded"


def test_unrecorded_uses_in_other_namespaces_need_an_exact_inventory(
    cluster: FakeCluster,
) -> None:
    cluster.vm("web-9", "dev", pin="10.133.0.7")
    assert "10.133.0.7" not in surveyed(cluster, all_namespaces=False)[0]
    assert "10.133.0.7" in surveyed(cluster, all_namespaces=False, exact=True)[0]


def test_vms_of_other_namespaces_with_allocations_are_read(cluster: FakeCluster) -> None:
    cluster.vm("web-9", "dev")
    cluster.attach("dev/web-9")
    assert state_of(cluster, "10.133.0.1", all_namespaces=False) is AddressState.BOUND


@pytest.mark.parametrize("all_namespaces", [True, False])
def test_blocks_and_vms_are_read_in_one_round(all_namespaces: bool) -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/16")
    network = parse_network(cluster.api.get(BLUE))
    with pytest.raises(MissingQueriesError) as caught:
        build_inventory(network, PlanContext(Snapshot(cluster.api.served), BACKENDS, RunContext()), all_namespaces)
    namespace = None if all_namespaces else network.namespace
    assert {Query(kind, namespace) for kind in (ADDRESSBLOCK, VM, VMI)} <= {*caught.value.queries}


@pytest.mark.parametrize("all_namespaces", [True, False])
@pytest.mark.parametrize("kind", [VM, VMI], ids=["VMs", "instances"])
def test_unreadable_objects_are_unknown_and_no_finding(cluster: FakeCluster, kind: Any, all_namespaces: bool) -> None:
    cluster.vm("web-1")
    cluster.running("web-2", pin="10.133.0.2")
    cluster.attach("web-1", "web-2")
    cluster.reserve("10.133.0.9")
    cluster.api.refuse("list", kind)
    cluster.api.refuse("list", RAW.block)
    rows, wrong = surveyed(cluster, LATER, all_namespaces)
    states = {address: row.state for address, row in rows.items()}
    # That the pod of web-2 has its address is enough to know that it runs with it.
    bound = AddressState.UNKNOWN if kind is VM else AddressState.BOUND
    assert states == {"10.133.0.1": AddressState.UNKNOWN, "10.133.0.2": bound, "10.133.0.9": AddressState.RESERVED}
    assert wrong == []


def test_address_on_two_vms_is_a_finding(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.attach("web-1")
    cluster.vm("web-2", pin="10.133.0.1")
    assert surveyed(cluster)[1] == [
        "10.133.0.1 on prod/blue: recorded for prod/web-1, but virtualmachine/web-2 in namespace prod uses it too"
    ]


def test_legacy_allocation_is_a_finding(cluster: FakeCluster) -> None:
    cluster.vm(pin="10.133.0.5")
    cluster.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.5": "web-1"}))
    rows, wrong = surveyed(cluster)
    assert rows["10.133.0.5"].state is AddressState.BOUND
    assert wrong == [
        (
            "10.133.0.5 on prod/blue: recorded in the format of Platform9 yoshi, without the VM's uid; "
            "attach prod/web-1 again"
        )
    ]


def test_allocation_of_an_unusable_address_is_a_finding(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(exclude=["10.133.0.1"]))
    assert surveyed(cluster)[1] == ["10.133.0.1 on prod/blue: recorded for prod/web-1, but it is excluded"]


def test_blocks_of_other_networks_are_ignored() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/16")
    cluster.network("red", "10.144.0.0/16")
    cluster.vm()
    cluster.attach(network="prod/red")
    assert len(cluster.api.every(ADDRESSBLOCK)) == 1
    assert surveyed(cluster)[0] == {}


def test_ended_instance_uses_no_address(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.9")
    cluster.attach()

    def end(obj: Json) -> None:
        obj["status"]["phase"] = "Succeeded"

    cluster.api.change(VMI.ref("web-1", "prod"), end)
    cluster.drop_pod("web-1")
    rows, _ = surveyed(cluster)
    assert (rows["10.133.0.9"].state, rows["10.133.0.9"].running) == (AddressState.BOUND, False)
