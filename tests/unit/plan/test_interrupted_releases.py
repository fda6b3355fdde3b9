"""Releases interrupted between Calico's block and handle, and their effects on VMs.

The handle counts an address that its block does not contain; Calico takes that for an allocation in progress, and the
VM does not start.

no pod of the VM          every command that releases or inspects repairs it
a pod that hangs          it is reported with the command that repairs it: the VM is no healthy one
a pod that runs           it is reported; nothing is written
cannot be read            nothing is written
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.ipam import handle_name
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network
from kubectl_yoshi.model.objects import ObjectRef, name_of
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import POD, VM
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.inventory import InventoryRow, build_inventory
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from kubectl_yoshi.plan.sync.tasks import RepairTask
from tests.unit.diagnosis.diagnosing import allocation_lines
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster

pytestmark = pytest.mark.I10

WEB = handle_name("prod", "web-1")
COUNTS = f"IPAMHandle {WEB} counts 1 address that block 10.133.0.0/26 does not contain"


def handles(cluster: FakeCluster) -> list[str]:
    return [name_of(handle) for handle in cluster.api.every(RAW.handle)]


def sync(cluster: FakeCluster) -> Any:
    def plan(task: RepairTask, ctx: PlanContext) -> Plan:
        return task.plan({}, ctx)

    return cluster.run(plan, RepairTask((("prod", "blue"),), "prod"))


def rebuild(cluster: FakeCluster) -> Any:
    return cluster.run(plan_rebuild, RebuildRequest())


REPAIRING: dict[str, Callable[[FakeCluster], Any]] = {
    "attach": lambda cluster: cluster.attach(),
    "detach": lambda cluster: cluster.detach(),
    "release": lambda cluster: (cluster.delete_vm(), cluster.release("10.133.0.9"), cluster.vm()),
    "gc": lambda cluster: cluster.collect(),
    "sync": sync,
    "rebuild": rebuild,
    "network delete": lambda cluster: cluster.delete_network(force=True),
}


def hang(cluster: FakeCluster, name: str = "web-1") -> None:
    """The VM is started, and its pod does not get an address."""
    cluster.api.change(VM.ref(name, "prod"), lambda obj: obj["spec"].update(runStrategy="Always"))
    cluster.time_passes()
    assert cluster.runs_with(name) == ""
    assert cluster.api.look(POD.ref(f"virt-launcher-{name}", "prod"))


def looked_at(cluster: FakeCluster, age: timedelta = timedelta(hours=1)) -> tuple[dict[str, InventoryRow], list[str]]:
    """The rows of prod/blue by address, and what `ips check` says of it."""
    now = datetime.now(timezone.utc) + age

    def ask(snapshot: Snapshot) -> tuple[dict[str, InventoryRow], list[str]]:
        network = parse_network(cluster.api.get(NETWORKWIZARD.ref("blue", "prod")))
        rows = build_inventory(network, PlanContext(snapshot, BACKENDS, RunContext(now=now)), False, exact=True)
        return {row.address: row for row in rows}, allocation_lines(cluster, age=age)

    return ask(new_snapshot(cluster.api))  # type: ignore[arg-type]


@pytest.mark.parametrize("command", REPAIRING)
def test_handle_mismatch_is_repaired_while_the_vm_has_no_pod(cluster: FakeCluster, command: str) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.interrupt_release("10.133.0.9")
    REPAIRING[command](cluster)
    assert handles(cluster) == []
    hang_not(cluster)


def hang_not(cluster: FakeCluster) -> None:
    """The VM starts."""
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Always"))
    cluster.time_passes()
    assert cluster.runs_with() != ""


@pytest.mark.parametrize("command", ["gc", "sync", "rebuild", "network delete"])
def test_handle_mismatch_is_repaired_without_vm_and_allocation(cluster: FakeCluster, command: str) -> None:
    cluster.interrupt_release("10.133.0.9")
    assert looked_at(cluster)[1] == [
        f"{COUNTS}: VM prod/web-1 cannot start (`kubectl yoshi ips gc --network prod/blue`)"
    ]
    REPAIRING[command](cluster)
    assert handles(cluster) == []


def test_repaired_handle_counts_the_remaining_addresses(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.70")
    cluster.hold("10.133.0.70", WEB)
    cluster.interrupt_release("10.133.0.9")
    cluster.collect()
    assert cluster.api.get(RAW.handle.ref(WEB))["spec"]["block"] == {"10.133.0.64/26": 1}


@pytest.mark.parametrize("command", ["gc", "sync", "rebuild"])
def test_handle_mismatch_of_a_pending_pod_is_reported_with_its_repair_command(
    cluster: FakeCluster, command: str
) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.interrupt_release("10.133.0.9")
    hang(cluster)
    cluster.api.writes.clear()
    done = REPAIRING[command](cluster)
    repairs = "`kubectl yoshi vm attach web-1 -n prod --network blue --restart`"
    assert done.notes == (f"{COUNTS}: VM prod/web-1 cannot start ({repairs})",)
    assert cluster.api.writes == []
    rows, said = looked_at(cluster)
    assert said == [f"10.133.0.9 on prod/blue: {COUNTS}: VM prod/web-1 cannot start ({repairs})"]
    assert rows["10.133.0.9"].state is AddressState.CONFLICT


def test_pending_vm_after_an_interrupted_detach_is_reported_during_the_grace_period(
    cluster: FakeCluster,
) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.hold("10.133.0.9", WEB)

    def die(verb: str, ref: ObjectRef) -> None:
        if verb == "delete" and ref.resource == RAW.handle:
            raise KeyboardInterrupt

    cluster.api.before.append(die)
    with pytest.raises(KeyboardInterrupt):
        cluster.detach()
    cluster.api.before.clear()
    assert (cluster.pin(), [*cluster.records()]) == ("10.133.0.9", ["10.133.0.9"])
    hang(cluster)
    rows, said = looked_at(cluster, age=timedelta())
    assert rows["10.133.0.9"].state is AddressState.CONFLICT
    repairs = "`kubectl yoshi vm attach web-1 -n prod --network blue --restart`"
    assert said == [f"10.133.0.9 on prod/blue: {COUNTS}: VM prod/web-1 cannot start ({repairs})"]


def test_pending_vm_is_attached_only_with_restart(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.interrupt_release("10.133.0.9")
    hang(cluster)
    cluster.api.writes.clear()
    (error,) = cluster.attach().errors.values()
    assert error.message.startswith(COUNTS)
    assert "--restart" in error.hint
    assert cluster.api.writes == []
    assert cluster.attach(restart=True).results == {"prod/web-1": "10.133.0.9"}
    cluster.time_passes()
    assert cluster.runs_with() == "10.133.0.9"
    assert cluster.held_in_calico() == {"10.133.0.9": WEB}
    assert looked_at(cluster)[1] == []


def test_running_vm_is_attached_and_its_handle_mismatch_only_reported(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.70")
    hang_not(cluster)
    cluster.interrupt_release("10.133.0.9")
    done = cluster.attach()
    assert done.results == {"prod/web-1": "10.133.0.70"}
    assert [note for note in done.notes if note.startswith(COUNTS)]
    assert handles(cluster) == [WEB]
    (said,) = looked_at(cluster)[1]
    assert said.endswith("(`virtctl stop web-1 -n prod`)"), "after that, gc repairs it"
    assert "cannot start" not in said


def test_ipam_allocation_started_during_the_repair_is_preserved(cluster: FakeCluster) -> None:
    """Calico counts in the handle first: so the handle is not as it was read, and the write is refused."""
    cluster.vm()
    cluster.interrupt_release("10.133.0.9")
    began: list[str] = []

    def begin(verb: str, ref: ObjectRef) -> None:
        if verb == "delete" and ref.resource == RAW.handle and not began:
            began.append("")
            cluster.api.before.clear()
            cluster.hold("10.133.0.9", WEB)
            cluster.api.change(RAW.handle.ref(WEB), lambda obj: obj["spec"].update(block={"10.133.0.0/26": 1}))

    cluster.api.before.append(begin)
    cluster.collect()
    assert began
    assert cluster.held_in_calico() == {"10.133.0.9": WEB}


def test_ipam_allocation_in_progress_is_not_repaired(cluster: FakeCluster) -> None:
    cluster.interrupt_release("10.133.0.9")
    labels = {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "web-1"}
    domain = {"kubevirt.io/domain": "web-1"}
    cluster.api.put(
        POD, {"metadata": {"name": "virt-launcher-x", "namespace": "prod", "labels": labels, "annotations": domain}}
    )
    cluster.collect()
    assert handles(cluster) == [WEB]


@pytest.mark.parametrize("resource", [RAW.block, POD])
def test_handle_mismatch_is_not_repaired_if_blocks_or_pods_are_unreadable(cluster: FakeCluster, resource: Any) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.interrupt_release("10.133.0.9")
    cluster.api.refuse("get", resource)
    cluster.api.refuse("list", resource)
    cluster.attach()
    cluster.collect()
    sync(cluster)
    assert handles(cluster) == [WEB]


def test_unreadable_handles_are_reported_once(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.interrupt_release("10.133.0.9")
    cluster.api.refuse("list", RAW.handle)
    rows, said = looked_at(cluster)
    assert (rows["10.133.0.9"].state, said) == (AddressState.BOUND, [])


def test_halted_vm_with_another_ipam_address_is_reported(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.50")
    cluster.hold("10.133.0.251", WEB)
    repairs = "`kubectl yoshi vm attach web-1 -n prod --network blue`"
    rows, said = looked_at(cluster)
    assert f"10.133.0.50 on prod/blue: Calico would assign 10.133.0.251 to VM prod/web-1 ({repairs})" in said
    assert rows["10.133.0.50"].state is AddressState.CONFLICT
    assert cluster.attach().results == {"prod/web-1": "10.133.0.50"}
    assert looked_at(cluster)[1] == []
    hang_not(cluster)
    assert cluster.runs_with() == "10.133.0.50"


def test_running_vm_with_another_ipam_address_needs_more_than_a_restart(
    cluster: FakeCluster,
) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.50")
    cluster.hold("10.133.0.251", WEB)
    hang_not(cluster)
    assert cluster.runs_with() == "10.133.0.251"
    rows, said = looked_at(cluster)
    assert rows["10.133.0.50"].state is AddressState.RESTART_NEEDED
    repairs = "`kubectl yoshi vm attach web-1 -n prod --network blue --restart`"
    assert f"10.133.0.50 on prod/blue: Calico would assign 10.133.0.251 to VM prod/web-1 ({repairs})" in said
    assert not [sentence for sentence in said if "it needs a restart" in sentence]


def test_block_with_an_address_of_a_missing_handle_is_reported(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.hold("10.133.0.9", WEB)
    cluster.api.drop(RAW.handle.ref(WEB))
    contains = f"block 10.133.0.0/26 contains 1 address of IPAMHandle {WEB}, which counts 0"
    release = "`calicoctl ipam release --ip=10.133.0.9`"
    assert looked_at(cluster)[1] == [f"10.133.0.9 on prod/blue: {contains} ({release})"]


def test_address_without_a_handle_is_not_matched_to_a_vm_with_a_hashed_name(
    cluster: FakeCluster,
) -> None:
    long = "w" * 128
    cluster.vm(long)
    cluster.attach(f"prod/{long}", ip="10.133.0.50")
    cluster.hold("10.133.0.251", "")
    rows, said = looked_at(cluster)
    assert rows["10.133.0.50"].state is AddressState.BOUND
    assert not [sentence for sentence in said if "Calico would assign" in sentence]


@pytest.mark.parametrize("otherwise", [False, True])
def test_number_of_requests_of_check_does_not_grow_with_the_vms(otherwise: bool) -> None:
    def requests(count: int) -> int:
        cluster = FakeCluster()
        cluster.network()
        for number in range(count):
            cluster.vm(f"web-{number}")
            cluster.attach(f"web-{number}", ip=f"10.133.0.{number + 1}")
            cluster.hold(f"10.133.0.{100 + number if otherwise else number + 1}", handle_name("prod", f"web-{number}"))
        asked: list[str] = []
        cluster.api.before.append(lambda verb, ref: asked.append(verb))
        rows, _ = looked_at(cluster)
        assert [rows[f"10.133.0.{number + 1}"].state for number in range(count)] == [
            AddressState.CONFLICT if otherwise else AddressState.BOUND
        ] * count
        return len(asked)

    assert requests(2) == requests(12)
