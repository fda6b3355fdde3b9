"""Which VMs keep their addresses if they are migrated, restarted or deleted: a table of cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.annotations import HW_ADDR_ANNOTATION
from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.kubevirt import ALLOW_MIGRATION_ANNOTATION
from kubectl_yoshi.diagnosis.facts import Scope
from kubectl_yoshi.diagnosis.preflight import Action, PreflightRow, check_preflight, list_vms_on_node
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import VM, VMI
from tests.unit.diagnosis.clusters import healthy, template_of
from tests.unit.diagnosis.diagnosing import facts_of
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_layer2 import layer2
from tests.unit.plan.test_public import FIRST, public

BRIDGE: Json = {"name": "default", "bridge": {}}
WITH_MAC: Json = {**BRIDGE, "macAddress": "02:00:00:00:00:01"}
MASQUERADE: Json = {"name": "default", "masquerade": {}}
MIGRATES = {ALLOW_MIGRATION_ANNOTATION: "true"}


def running(interface: Json, keeps: bool = True, annotations: Json | None = None, **network: Any) -> FakeCluster:
    """Return a cluster in which prod/web-1 runs with an address of a network that live migration works with."""
    cluster = healthy(keeps)
    cluster.network(**{"calico": {"liveMigration": True}, **network})
    cluster.vm(template=template_of(interface, annotations), runStrategy="Always")
    cluster.attach(restart=True)
    cluster.time_passes()
    return cluster


def edit_template(cluster: FakeCluster, change: Callable[[Json], object]) -> FakeCluster:
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: change(obj["spec"]["template"]))
    return cluster


def without_hw_addr(template: Json) -> None:
    del template["metadata"]["annotations"][HW_ADDR_ANNOTATION]


def bridge_without_mac() -> FakeCluster:
    return edit_template(running(BRIDGE, annotations=MIGRATES), without_hw_addr)


def halted() -> FakeCluster:
    cluster = healthy()
    cluster.network()
    cluster.vm()
    cluster.attach()
    return cluster


def detached_while_running() -> FakeCluster:
    cluster = running(MASQUERADE)
    cluster.detach()
    return cluster


def attached_while_running() -> FakeCluster:
    cluster = healthy()
    cluster.network(calico={"liveMigration": True})
    cluster.running(template=template_of(MASQUERADE))
    cluster.forget("web-1")
    cluster.attach()
    return cluster


def unattached(runs: bool) -> FakeCluster:
    cluster = healthy()
    cluster.network()
    if runs:
        cluster.running(template=template_of(MASQUERADE))
    else:
        cluster.vm()
    return cluster


def with_unreadable_version() -> FakeCluster:
    cluster = running(MASQUERADE)
    cluster.api.refuse("get", RAW.information)
    return cluster


def with_unreadable_instances() -> FakeCluster:
    cluster = unattached(runs=True)
    cluster.api.refuse("list", RAW.block)
    return cluster


def reserved(**more: Any) -> FakeCluster:
    cluster = halted()
    cluster.detach(keep=True)
    cluster.attach()
    return cluster


def on_public_network() -> FakeCluster:
    cluster = public()
    cluster.vm("web-1", runStrategy="Always")
    cluster.time_passes()
    cluster.attach("web-1", network="prod/pub", ip=FIRST)
    return cluster


def on_layer2_network(mac: bool = True) -> FakeCluster:
    cluster = healthy()
    layer2(cluster)
    cluster.vm(runStrategy="Always")
    cluster.attach(network="prod/lab", restart=True)
    cluster.time_passes()
    if not mac:
        edit_template(
            cluster, lambda one: [i.pop("macAddress", 0) for i in one["spec"]["domain"]["devices"]["interfaces"]]
        )
    return cluster


CASES: dict[str, tuple[str, Callable[[], FakeCluster], bool | None, str]] = {
    "masquerade": ("migrate", lambda: running(MASQUERADE), True, "the guest keeps its own of 10.0.2.0/24"),
    "bridge with a MAC address": (
        "migrate", lambda: running(WITH_MAC, annotations=MIGRATES), True, "the new pod gets it",
    ),
    "bridge with Calico's MAC address": (
        "migrate", lambda: running(BRIDGE, annotations=MIGRATES), True, "the new pod gets it",
    ),
    "bridge without a MAC address": (
        "migrate", bridge_without_mac, False, "kubevirt#16696",
    ),
    "bridge without the annotation": ("migrate", lambda: running(BRIDGE), False, "bridge binding without annotation"),
    "old Calico": ("migrate", lambda: running(MASQUERADE, keeps=False), False, "Calico v3.31 does not keep"),
    "overlay": ("migrate", lambda: running(MASQUERADE, calico={}), False, "has VXLAN and NAT"),
    "unknown Calico": ("migrate", with_unreadable_version, None, "cannot determine Calico's version"),
    "stopped VM": ("migrate", halted, True, "does not run"),
    "not restarted yet": ("migrate", attached_while_running, False, "YOSHI-1101"),
    "public address": ("migrate", on_public_network, True, "its Service follows the VM"),
    "Layer 2 network": ("migrate", on_layer2_network, True, "keeps its MAC address"),
    "Layer 2 without a MAC address": ("restart", lambda: on_layer2_network(False), False, "YOSHI-1203"),
    "restart": ("restart", lambda: running(MASQUERADE), True, "template requests it"),
    "restart with old Calico": ("restart", lambda: running(BRIDGE, keeps=False), True, "template requests it"),
    "restart that is due": ("restart", attached_while_running, True, "template requests it"),
    "restart after a detachment": ("restart", detached_while_running, False, "template does not request it"),
    "no network": ("restart", lambda: unattached(runs=True), None, "depends on the CNI plugin"),
    "no network, deleted": ("delete", lambda: unattached(runs=True), False, "no network holds it"),
    "no address": ("delete", lambda: unattached(runs=False), True, "has no address"),
    "unreadable blocks": ("restart", with_unreadable_instances, None, "cannot check its networks"),
    "deletion": ("delete", halted, False, "--keep` reserves it"),
    "deletion with a cool-down": ("delete", lambda: running(MASQUERADE, coolDown="10m"), False, "cools down for 10m"),
    "deletion with a reservation": ("delete", reserved, True, "stays reserved for vm/prod/web-1"),
    "deletion with a public address": ("delete", on_public_network, False, "`kubectl yoshi ips gc` releases it"),
}  # fmt: skip


def rows_of(action: str, cluster: FakeCluster) -> tuple[PreflightRow, ...]:
    return check_preflight(Action(action), [("prod", "web-1")], facts_of(cluster, Scope("prod")))


@pytest.mark.parametrize("case", CASES)
def test_vm_keeps_its_address(case: str) -> None:
    action, build, keeps, reason = CASES[case]
    (row,) = rows_of(action, build())
    assert (row.verdict.keeps, reason in row.verdict.reason) == (keeps, True), row.verdict.reason


def test_row_has_the_interface_of_the_address() -> None:
    (row,) = rows_of("migrate", running(WITH_MAC, annotations=MIGRATES))
    assert (row.network, row.address, row.binding, row.mac) == (
        ("prod", "blue"), "10.133.0.1", "bridge", "02:00:00:00:00:01",
    )  # fmt: skip
    (row,) = rows_of("migrate", on_public_network())
    assert (row.address, row.binding, row.mac) == (FIRST, "", "")


def test_handle_that_prevents_the_start_loses_the_address() -> None:
    cluster = halted()
    cluster.interrupt_release("10.133.0.1")
    (row,) = rows_of("restart", cluster)
    assert row.verdict.keeps is False


def test_missing_vm_is_an_error() -> None:
    with pytest.raises(PreconditionFailed, match='VM "web-1" not found in namespace "prod"'):
        rows_of("restart", healthy())


def test_vms_of_a_node_are_those_that_run_there() -> None:
    cluster = healthy()
    for name, node in (("a", "node1"), ("b", "node2")):
        cluster.running(name)
        cluster.api.change(VMI.ref(name, "prod"), lambda obj, node=node: obj["status"].update(nodeName=node))
    cluster.vm("halted")
    assert list_vms_on_node("node1", facts_of(cluster)) == (("prod", "a"),)
