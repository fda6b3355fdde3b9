"""Rules about allocations and their use: what each finds, and a remedy that is a valid command.

The states of addresses are tested in tests/unit/plan/test_inventory.py.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from kubectl_yoshi.backends.network_annotation import NETWORK_NAME
from kubectl_yoshi.diagnosis.facts import Scope
from kubectl_yoshi.diagnosis.rules import allocations
from kubectl_yoshi.diagnosis.run import diagnose
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import VM
from tests.unit.diagnosis.clusters import healthy, template_of
from tests.unit.diagnosis.diagnosing import facts_of, finding_of, findings_of
from tests.unit.plan.fake_cluster import FakeCluster

BRIDGE: Json = {"name": "default", "bridge": {}}


@pytest.fixture
def cluster() -> FakeCluster:
    """A healthy cluster in which prod/web-1 holds 10.133.0.1 of network prod/blue."""
    cluster = healthy()
    cluster.network()
    cluster.vm()
    cluster.attach()
    return cluster


def test_allocation_of_a_deleted_vm(cluster: FakeCluster) -> None:
    cluster.delete_vm()
    found = finding_of(cluster, allocations.allocation_without_vm)
    assert found.message == "10.133.0.1 on prod/blue: recorded for prod/web-1, but the VM no longer exists"
    assert found.commands == ("kubectl yoshi ips release -n prod blue 10.133.0.1",)
    later = diagnose(facts_of(cluster, age=timedelta(minutes=5)), [allocations.allocation_without_vm])
    assert later.findings[0].observation.commands == ("kubectl yoshi ips gc -n prod --network blue",)


def test_recent_allocation_may_belong_to_an_attachment_in_progress(cluster: FakeCluster) -> None:
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    assert findings_of(cluster, allocations.allocation_without_vm) == []
    later = diagnose(facts_of(cluster, age=timedelta(minutes=5)), [allocations.allocation_without_vm])
    assert len(later.findings) == 1


def test_address_that_was_pinned_by_hand(cluster: FakeCluster) -> None:
    cluster.vm("copy", pin="10.133.0.7")
    found = finding_of(cluster, allocations.use_without_allocation)
    assert "virtualmachine/copy in namespace prod uses it, but it is not recorded" in found.message
    assert found.commands == ("kubectl yoshi ips rebuild -n prod --network blue",)


def test_address_of_another_vm(cluster: FakeCluster) -> None:
    cluster.vm("copy", pin="10.133.0.1")
    found = finding_of(cluster, allocations.used_by_another)
    assert found.commands == ("kubectl yoshi vm attach copy -n prod --network prod/blue=10.133.0.2 --replace",)


def test_running_vm_with_the_address_of_another_one_needs_a_restart(cluster: FakeCluster) -> None:
    cluster.running("copy", pin="10.133.0.1")
    found = findings_of(cluster, allocations.used_by_another)[0].observation
    attach = "kubectl yoshi vm attach copy -n prod --network prod/blue=10.133.0.2 --replace --restart --wait"
    assert found.commands == (attach,)


def cloned(interface: Json, network: str = "blue") -> FakeCluster:
    """Return a cluster in which web-1 is attached, and web-2 with the same interface requests a network."""
    cluster = healthy()
    cluster.network()
    for name in ("web-1", "web-2"):
        cluster.vm(name, template=template_of(interface))
    cluster.attach("web-1")
    request = {NETWORK_NAME: network}
    cluster.api.change(VM.ref("web-2", "prod"), lambda obj: obj["metadata"].update(annotations=request))
    return cluster


def test_mac_address_of_another_vm() -> None:
    cluster = cloned({**BRIDGE, "macAddress": "02:00:00:00:00:0A"})
    found = finding_of(cluster, allocations.duplicate_mac_address)
    assert found.message == "VM prod/web-2 has the MAC address 02:00:00:00:00:0a of VM prod/web-1, both on prod/blue"
    change, attach = found.commands
    assert "/interfaces/0/macAddress" in change
    assert attach == "kubectl yoshi vm attach web-2 -n prod --network prod/blue"
    scope = Scope("prod", vms=frozenset({("prod", "web-1")}))
    assert finding_of(cluster, allocations.duplicate_mac_address, scope).ref == VM.ref("web-1", "prod")


@pytest.mark.parametrize("case", [(BRIDGE, "blue"), ({**BRIDGE, "macAddress": "02:00:00:00:00:0a"}, "other")])
def test_vms_without_mac_addresses_or_on_other_networks_differ(case: tuple[Json, str]) -> None:
    assert findings_of(cloned(*case), allocations.duplicate_mac_address) == []


def test_handle_of_calico_that_keeps_another_address(cluster: FakeCluster) -> None:
    cluster.interrupt_release("10.133.0.9", "web-1")
    (finding, *_) = findings_of(cluster, allocations.cni_disagrees)
    assert "web-1" in finding.observation.message


def test_allocation_of_platform9(cluster: FakeCluster) -> None:
    legacy = {"allocations": {"10.133.0.1": {"kind": "VirtualMachine", "name": "web-1", "namespace": "prod"}}}
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["status"].update(legacy))
    found = finding_of(cluster, allocations.allocation_of_platform9)
    assert found.commands == ("kubectl yoshi vm attach web-1 -n prod --network prod/blue",)


def test_allocation_outside_the_range(cluster: FakeCluster) -> None:
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["spec"].update(range_start="10.133.0.100"))
    found = finding_of(cluster, allocations.unusable_allocation)
    assert "it is outside the range 10.133.0.100-end" in found.message
    assert found.commands == ("kubectl yoshi vm attach web-1 -n prod --network prod/blue=10.133.0.100 --replace",)


def test_reservation_outside_the_range_is_to_be_released() -> None:
    cluster = healthy()
    cluster.network()
    cluster.reserve("10.133.0.7")
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["spec"].update(range_start="10.133.0.100"))
    found = finding_of(cluster, allocations.unusable_allocation)
    assert found.commands == ("kubectl yoshi ips release -n prod blue 10.133.0.7",)


def test_full_network_has_no_address_for_the_other_vm() -> None:
    cluster = healthy()
    cluster.network(cidr="10.133.0.0/30")
    cluster.vm()
    cluster.attach()
    cluster.reserve("10.133.0.2")
    cluster.vm("copy", pin="10.133.0.1")
    found = finding_of(cluster, allocations.used_by_another)
    assert found.commands == ("kubectl yoshi ips show 10.133.0.1",)


def test_vm_of_a_deleted_network(cluster: FakeCluster) -> None:
    cluster.api.drop(NETWORKWIZARD.ref("blue", "prod"))
    found = finding_of(cluster, allocations.vm_of_missing_network)
    assert found.commands == ("kubectl yoshi vm detach web-1 -n prod --network prod/blue",)
