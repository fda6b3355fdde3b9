"""Rules about VMs, their instances and pods: what each finds, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.annotations import HW_ADDR_ANNOTATION
from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.kubevirt import ALLOW_MIGRATION_ANNOTATION
from kubectl_yoshi.diagnosis.rules import RULES, vms
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.vm import VM, VMI
from tests.unit.diagnosis.clusters import healthy, template_of
from tests.unit.diagnosis.diagnosing import diagnosis_of, finding_of, findings_of, reasons_unchecked
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_layer2 import layer2

BRIDGE: Json = {"name": "default", "bridge": {}}
MASQUERADE: Json = {"name": "default", "masquerade": {}}
MIGRATES = {ALLOW_MIGRATION_ANNOTATION: "true"}


def attached(interface: Json | None = None, runs: bool = True, **more: Any) -> FakeCluster:
    """Return a healthy cluster in which prod/web-1 is on a network that live migration works with."""
    cluster = healthy(more.pop("keeps", True))
    cluster.network(calico={"liveMigration": True})
    template = template_of(interface or MASQUERADE, more.pop("annotations", None), **more)
    cluster.vm(template=template, runStrategy="Always" if runs else "Halted")
    cluster.attach(restart=True)
    cluster.time_passes()
    return cluster


def report(cluster: FakeCluster, *interfaces: Json, **status: Any) -> None:
    """KubeVirt reports these interfaces in the status of prod/web-1's instance."""
    cluster.api.change(VMI.ref("web-1", "prod"), lambda obj: obj["status"].update(interfaces=[*interfaces], **status))


def codes(cluster: FakeCluster) -> list[str]:
    """Return the codes of all findings."""
    return [finding.rule.number for finding in diagnosis_of(cluster).findings]


@pytest.mark.parametrize("interface", [MASQUERADE, {**BRIDGE, "macAddress": "02:00:00:00:00:01"}])
@pytest.mark.parametrize("runs", [True, False])
def test_attached_vm_without_problems_is_not_reported(interface: Json, runs: bool) -> None:
    assert codes(attached(interface, runs, annotations=MIGRATES, evictionStrategy="LiveMigrate")) == []


def test_vm_that_was_attached_while_it_ran_needs_a_restart_and_nothing_else() -> None:
    cluster = healthy(False)
    cluster.network()
    cluster.running(template=template_of(MASQUERADE))
    cluster.attach()
    report(cluster)
    assert codes(cluster) == ["1101"]


def test_vm_that_runs_with_its_former_template_needs_a_restart() -> None:
    cluster = healthy()
    cluster.network()
    cluster.running(pin="10.133.0.9")
    cluster.attach()
    cluster.detach()
    found = finding_of(cluster, vms.restart_needed)
    assert found.commands == ("virtctl restart web-1 -n prod",)
    assert codes(cluster) == ["1101"]


@pytest.mark.parametrize("interfaces", [(), ({"name": "default"},)])
def test_running_vm_without_an_address_is_reported(interfaces: tuple[Json, ...]) -> None:
    cluster = attached()
    report(cluster, *interfaces)
    found = finding_of(cluster, vms.running_without_address)
    assert (
        found.message == "VM prod/web-1 on prod/blue: its interface default has no address, and should have 10.133.0.1"
    )
    assert found.commands[-1] == "virtctl restart web-1 -n prod"
    assert vms.running_without_address.is_volatile
    assert codes(cluster) == ["1102"]


def test_starting_vm_needs_no_address_yet() -> None:
    cluster = attached()
    report(cluster, phase="Scheduling")
    assert codes(cluster) == []


@pytest.mark.parametrize(("connected", "expected"), [("True", ["1102"]), ("False", [])])
def test_address_on_a_layer2_network_is_known_from_the_guest_agent_only(connected: str, expected: list[str]) -> None:
    cluster = healthy()
    layer2(cluster)
    cluster.vm(runStrategy="Always")
    cluster.attach(network="prod/lab", restart=True)
    cluster.time_passes()
    condition = {"type": "AgentConnected", "status": connected}
    reported = [{"name": "default", "ipAddress": "192.168.0.1"}, {"name": "lab", "mac": "02:00:00:00:00:01"}]
    report(cluster, *reported, conditions=[condition])
    assert [code for code in codes(cluster) if code.startswith("1")] == expected


def test_vm_with_another_address_than_it_was_started_with_is_reported() -> None:
    cluster = attached()
    report(cluster, {"name": "default", "ipAddress": "10.99.0.9", "ipAddresses": ["10.99.0.9", "fe80::1"]})
    found = finding_of(cluster, vms.other_address_than_allocated)
    assert found.message == "VM prod/web-1 on prod/blue: it runs with 10.99.0.9, and should have 10.133.0.1"
    assert vms.other_address_than_allocated.is_volatile
    assert "1101" not in codes(cluster)


@pytest.mark.parametrize("reported", [["10.133.0.1", "10.99.0.9"], ["10.99.0.9", "10.133.0.1"], ["fd00::1"]])
def test_further_addresses_of_a_guest_are_not_reported(reported: list[str]) -> None:
    cluster = attached()
    report(cluster, {"name": "default", "ipAddress": reported[0], "ipAddresses": reported})
    assert findings_of(cluster, vms.other_address_than_allocated) == []


def test_calico_that_cannot_keep_an_address_is_reported() -> None:
    found = finding_of(attached(keeps=False, evictionStrategy="LiveMigrate"), vms.migration_blocked)
    assert found.message == (
        "VM prod/web-1 on prod/blue: it cannot be live-migrated with its address: "
        "Calico v3.31 does not keep the addresses of VMs (v3.32 and later do)"
    )


def test_each_obstacle_to_a_migration_has_a_remedy() -> None:
    cluster = healthy()
    cluster.network()
    cluster.vm(template=template_of({**BRIDGE, "macAddress": "02:00:00:00:00:01"}, evictionStrategy="LiveMigrate"))
    cluster.attach()
    cluster.api.change(
        RAW.config.ref("default"), lambda obj: obj["spec"].update(kubeVirtVMAddressPersistence="Disabled")
    )
    found = finding_of(cluster, vms.migration_blocked)
    assert [command.split()[:3] for command in found.commands] == [
        ["kubectl", "yoshi", "network"],
        ["kubectl", "patch", "virtualmachines.kubevirt.io"],
        ["kubectl", "patch", "ipamconfigs.crd.projectcalico.org"],
    ]


def test_calico_whose_version_cannot_be_read_is_unchecked() -> None:
    cluster = attached(evictionStrategy="LiveMigrate")
    cluster.api.refuse("get", RAW.information)
    assert "clusterinformations" in reasons_unchecked(cluster, vms.migration_blocked)[0]


def test_bridge_binding_without_a_mac_address_is_reported_if_the_vm_can_be_migrated() -> None:
    cluster = attached(BRIDGE, annotations=MIGRATES)
    assert findings_of(cluster, vms.bridge_without_mac) == []  # Calico gives its pod a MAC address

    def remove_mac(obj: Json) -> None:
        del obj["spec"]["template"]["metadata"]["annotations"][HW_ADDR_ANNOTATION]

    cluster.api.change(VM.ref("web-1", "prod"), remove_mac)
    report(cluster, {"name": "default", "ipAddress": "10.133.0.1", "mac": "02:AA:00:00:00:07"})
    found = finding_of(cluster, vms.bridge_without_mac)
    assert found.commands == (
        "kubectl yoshi vm attach web-1 -n prod --network prod/blue --mac 02:aa:00:00:00:07",
        "virtctl restart web-1 -n prod",
    )
    assert "kubevirt#16696" in found.message


@pytest.mark.parametrize(
    ("interface", "annotations"),
    [(BRIDGE, {}), ({**BRIDGE, "macAddress": "02:00:00:00:00:01"}, MIGRATES), (MASQUERADE, MIGRATES)],
)
def test_vm_that_keeps_its_mac_address_or_is_not_migrated_is_not_reported(interface: Json, annotations: Json) -> None:
    cluster = attached(interface, annotations=annotations)
    cluster.api.change(
        VM.ref("web-1", "prod"),
        lambda obj: obj["spec"]["template"]["metadata"]["annotations"].pop(HW_ADDR_ANNOTATION, None),
    )
    assert findings_of(cluster, vms.bridge_without_mac) == []


def test_mac_address_of_a_stopped_vm_is_derived_from_it() -> None:
    cluster = attached(BRIDGE, runs=False, annotations=MIGRATES)
    cluster.attach(mac="")
    cluster.api.change(
        VM.ref("web-1", "prod"),
        lambda obj: obj["spec"]["template"]["metadata"]["annotations"].pop(HW_ADDR_ANNOTATION, None),
    )
    (command,) = finding_of(cluster, vms.bridge_without_mac).commands
    assert command == finding_of(cluster, vms.bridge_without_mac).commands[0]
    assert command.rpartition(" ")[2].startswith("02:")


def test_masquerade_network_that_overlaps_the_network_is_reported() -> None:
    cluster = healthy()
    cluster.network(cidr="10.0.2.0/25")
    cluster.vm(template=template_of(MASQUERADE))
    cluster.vm("web-2", template=template_of(BRIDGE))
    cluster.attach("web-1", "web-2")
    found = finding_of(cluster, vms.masquerade_overlap)
    assert (
        found.message == "VM prod/web-1 on prod/blue: the guest's masquerade network 10.0.2.0/24 overlaps 10.0.2.0/25"
    )


def test_vm_without_the_interface_of_its_address_is_reported() -> None:
    cluster = attached()

    def leave_pod_network(obj: Json) -> None:
        spec = dig(obj, "spec", "template", "spec")
        spec["networks"] = [{"name": "default", "multus": {"networkName": "other"}}]

    cluster.api.change(VM.ref("web-1", "prod"), leave_pod_network)
    found = finding_of(cluster, vms.address_without_interface)
    assert found.message == "VM prod/web-1 on prod/blue: it has no interface for 10.133.0.1"


def test_rules_about_vms_without_permission_to_list_them_are_unchecked() -> None:
    cluster = attached()
    cluster.api.refuse("list", VMI)
    for rule in (vms.running_without_address, vms.other_address_than_allocated):
        assert "virtualmachineinstances" in reasons_unchecked(cluster, rule)[0]
    cluster.api.refuse("list", VM)
    for rule in (rule for rule in RULES if rule.number in ("1201", "1203", "1204", "1206")):
        assert "virtualmachines" in reasons_unchecked(cluster, rule)[0]
