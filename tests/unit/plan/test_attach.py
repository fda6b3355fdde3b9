"""Attaching on a small cluster: the VM, the allocations and the output."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.backend import ALLOW_MIGRATION_ANNOTATION, HW_ADDR_ANNOTATION, IP_ADDRS_ANNOTATION
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.kube.errors import ApiError
from kubectl_yoshi.model.allocations import VIRTUALMACHINE
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.vm import VM, VMI
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION
from tests.unit.plan.fake_cluster import FakeCluster, is_killed, refusal, requested_network, wizard

pytestmark = pytest.mark.I2

BLUE = NETWORKWIZARD.ref("blue", "prod")


def annotate_template(cluster: FakeCluster, name: str, key: str, value: str) -> None:
    def change(obj: Json) -> None:
        template = obj["spec"]["template"].setdefault("metadata", {})
        template["annotations"] = {**template.get("annotations", {}), key: value}

    cluster.api.change(VM.ref(name, "prod"), change)


def once_before(cluster: FakeCluster, verb: str, kind: str, happens: Any) -> None:
    """Lets something happen right before the first request of that verb on that kind."""

    def look(asked: str, ref: ObjectRef) -> None:
        if asked == verb and ref.resource.kind == kind and look in cluster.api.before:
            cluster.api.before.remove(look)
            happens()

    cluster.api.before.append(look)


# -- a VM gets an address -------------------------------------------------------------------------------------------


def test_attach_of_a_halted_vm_assigns_the_lowest_free_address_and_changes_nothing_else(cluster: FakeCluster) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"domain": {"devices": {}}, "unheardOf": [1, {"x": None}]}}
    before = cluster.vm(template=template, runStrategy="Halted", newField={"deep": ["y"]})
    done = cluster.attach()
    assert done.results == {"prod/web-1": "10.133.0.1"}
    assert not done.errors
    record = cluster.records()["10.133.0.1"]
    assert (record.kind, record.namespace, record.name, record.uid) == (VIRTUALMACHINE, "prod", "web-1", before.uid)
    after = cluster.now().raw
    annotations = after["spec"]["template"]["metadata"].pop("annotations")
    assert annotations == {IP_ADDRS_ANNOTATION: '["10.133.0.1"]', HW_ADDR_ANNOTATION: record.mac}
    assert after["spec"] == before.raw["spec"]
    assert requested_network(cluster.now()) == "blue"
    cluster.check()


def test_attach_writes_the_allocation_before_the_vm(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.api.writes.clear()
    cluster.attach()
    assert cluster.api.writes == ["patch networkwizard/blue status", "patch virtualmachine/web-1"]


def test_attach_is_idempotent(cluster: FakeCluster) -> None:
    cluster.vm()
    first = cluster.attach()
    cluster.api.writes.clear()
    again = cluster.attach()
    assert again.results == first.results
    assert not again.has_changed()
    assert cluster.api.writes == []


def test_requested_address_is_assigned(cluster: FakeCluster) -> None:
    cluster.vm()
    assert cluster.attach(ip="10.133.0.77").results == {"prod/web-1": "10.133.0.77"}
    assert cluster.pin() == "10.133.0.77"
    assert not cluster.attach(ip="10.133.0.77").has_changed()
    cluster.check()


@pytest.mark.parametrize(
    ("ip", "why"),
    [
        ("10.133.0.0", "network or broadcast"),
        ("10.133.0.255", "network or broadcast"),
        ("10.134.0.1", "outside 10.133.0.0/24"),
        ("fd00::1", "outside 10.133.0.0/24"),
    ],
)
def test_unusable_address_is_refused(cluster: FakeCluster, ip: str, why: str) -> None:
    cluster.vm()
    with pytest.raises(PreconditionFailed, match=why):
        cluster.attach(ip=ip)
    assert cluster.records() == {}


def test_vm_in_another_namespace_names_the_network_with_its_namespace(cluster: FakeCluster) -> None:
    cluster.vm("web-1", "dev")
    cluster.attach("dev/web-1")
    assert requested_network(cluster.now("web-1", "dev")) == "prod/blue"
    assert cluster.holders() == {"10.133.0.1": "dev/web-1"}
    cluster.check()


def test_many_vms_get_distinct_addresses_by_one_patch_of_the_network(cluster: FakeCluster) -> None:
    names = [f"web-{number}" for number in range(1, 31)]
    for name in names:
        cluster.vm(name)
    cluster.api.writes.clear()
    done = cluster.attach(*names)
    assert not done.errors
    assert len(set(done.results.values())) == 30
    assert cluster.api.writes.count("patch networkwizard/blue status") == 1
    assert len(cluster.api.writes) == 31
    cluster.check()


def test_many_vms_on_a_large_network_need_one_patch_per_address_block() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.0.0.0/8")
    names = [f"web-{number}" for number in range(1, 31)]
    for name in names:
        cluster.vm(name)
    cluster.api.writes.clear()
    assert len(set(cluster.attach(*names).results.values())) == 30
    kinds = [write.partition("/")[0] for write in cluster.api.writes]
    assert kinds.count("create addressblock") == kinds.count("patch addressblock") == 1
    assert "allocations" not in cluster.api.get(BLUE)["status"] or not cluster.api.get(BLUE)["status"]["allocations"]
    cluster.check()


def test_error_of_one_vm_does_not_stop_the_others(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.vm("web-3")
    done = cluster.attach("web-1", "web-2", "web-3")
    assert sorted(done.results) == ["prod/web-1", "prod/web-3"]
    assert 'VM "web-2" not found in namespace "prod"' in refusal(done, "prod/web-2").message
    assert sorted(cluster.holders().values()) == ["prod/web-1", "prod/web-3"]
    cluster.check()


@pytest.mark.parametrize("cidr", ["10.133.0.0/30", "10.133.0.0/31", "fd00::/126", "10.133.0.9/32"])
def test_full_network_is_reported_and_not_changed(cidr: str) -> None:
    cluster = FakeCluster()
    usable = cluster.network(cidr=cidr).usable.size
    names = [f"web-{number}" for number in range(usable + 1)]
    for name in names:
        cluster.vm(name)
    done = cluster.attach(*names)
    assert len(set(done.results.values())) == usable
    (left,) = done.errors
    assert "network prod/blue is full" in refusal(done, left).message
    assert not cluster.now(left.partition("/")[2]).template_annotations
    assert len(cluster.records()) == usable
    cluster.check()


def test_vm_being_deleted_is_refused(cluster: FakeCluster) -> None:
    vm = cluster.vm()
    cluster.api.change(vm.ref, lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    assert "is being deleted" in refusal(cluster.attach()).message
    assert cluster.records() == {}


def test_network_being_deleted_assigns_no_address(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.api.change(BLUE, lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    assert "is being deleted" in refusal(cluster.attach()).message
    assert cluster.records() == {}


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/20"])
def test_attached_vm_is_not_refused_while_its_network_is_being_deleted(cidr: str) -> None:
    """The mark may come between the last write of an attachment and its last look, and be removed again."""
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    vm = cluster.vm()
    address = cluster.attach().results[vm.full_name]
    cluster.api.change(BLUE, lambda obj: obj["status"].update(deleting="2026-01-01T00:00:00Z"))
    again = cluster.attach()
    assert not again.errors
    assert again.results == {vm.full_name: address}
    assert not again.executed
    assert "is being deleted" in refusal(cluster.attach(ip="10.133.0.77", replace=True)).message
    cluster.vm("web-2")
    assert "is being deleted" in refusal(cluster.attach("web-2"), "prod/web-2").message


def test_missing_network_is_refused(cluster: FakeCluster) -> None:
    cluster.vm()
    with pytest.raises(PreconditionFailed, match='network "red" not found in namespace "prod"'):
        cluster.attach(network="prod/red")


def test_unknown_plugin_is_named(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(plugin="weave"))
    with pytest.raises(PreconditionFailed, match='"weave"'):
        cluster.attach()


# -- what is taken --------------------------------------------------------------------------------------------------


def test_address_of_another_vm_is_refused_with_its_name(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.vm("web-2")
    cluster.attach("web-1", ip="10.133.0.9")
    refused = refusal(cluster.attach("web-2", ip="10.133.0.9"), "prod/web-2")
    assert "10.133.0.9 is not free: prod/web-1 holds it" in refused.message
    assert "ips show 10.133.0.9" in refused.hint
    assert cluster.holders() == {"10.133.0.9": "prod/web-1"}
    assert cluster.pin("web-2") == ""


def test_allocation_of_another_vm_with_the_same_uid_is_not_taken_over(cluster: FakeCluster) -> None:
    vm = cluster.vm()
    forged = {"kind": VIRTUALMACHINE, "namespace": "dev", "name": "evil", "uid": vm.uid}
    cluster.api.change(BLUE, lambda obj: obj["status"]["allocations"].update({"10.133.0.9": forged}))
    assert cluster.attach().results == {"prod/web-1": "10.133.0.1"}
    assert cluster.holders() == {"10.133.0.1": "prod/web-1", "10.133.0.9": "dev/evil"}


def test_reserved_address_is_refused_and_never_chosen(cluster: FakeCluster) -> None:
    cluster.reserve("10.133.0.1", note="printer")
    cluster.vm()
    assert "reserved (printer)" in refusal(cluster.attach(ip="10.133.0.1")).message
    assert cluster.attach().results == {"prod/web-1": "10.133.0.2"}


def test_address_of_a_pod_is_refused_and_never_chosen(cluster: FakeCluster) -> None:
    for last in (1, 2, 4):
        cluster.hold_by_pod(f"10.133.0.{last}")
    cluster.vm()
    assert "10.133.0.2 is not free: ipamblock/10-133-0-0-26 uses it" in refusal(cluster.attach(ip="10.133.0.2")).message
    assert cluster.attach().results == {"prod/web-1": "10.133.0.3"}
    cluster.check()


def test_ipam_block_without_free_addresses_is_skipped(cluster: FakeCluster) -> None:
    for last in range(64):
        cluster.hold_by_pod(f"10.133.0.{last}")
    cluster.vm("web-1")
    cluster.vm("web-2")
    assert sorted(cluster.attach("web-1", "web-2").results.values()) == ["10.133.0.64", "10.133.0.65"]


def test_ipam_blocks_are_read_by_the_block_size_of_the_pool() -> None:
    cluster = FakeCluster()
    cluster.network(calico={"blockSize": 28})
    cluster.api.change(BLUE, lambda obj: obj["spec"]["calico"].update(blockSize=27))
    cluster.hold_by_pod("10.133.0.1")
    cluster.hold_by_pod("10.133.0.17")
    cluster.vm()
    assert "10.133.0.17 is not free: ipamblock/" in refusal(cluster.attach(ip="10.133.0.17")).message
    assert cluster.attach().results == {"prod/web-1": "10.133.0.2"}


def test_legacy_allocation_is_respected(cluster: FakeCluster) -> None:
    cluster.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.1": "web-9"}))
    cluster.vm()
    assert cluster.attach().results == {"prod/web-1": "10.133.0.2"}


def test_legacy_allocation_is_converted_when_its_vm_is_attached(cluster: FakeCluster) -> None:
    vm = cluster.vm(pin="10.133.0.5")
    cluster.api.change(
        BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.5": "web-1", "10.133.0.6": "web-2"})
    )
    assert cluster.attach().results == {"prod/web-1": "10.133.0.5"}
    records = cluster.records()
    assert records["10.133.0.5"].uid == vm.uid
    assert records["10.133.0.6"].as_written == "web-2"


def test_legacy_allocations_of_a_large_network_are_respected_and_converted_on_write() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/16")
    cluster.api.change(
        BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.5": "web-1", "10.133.0.6": "web-2"})
    )
    cluster.vm("web-1", pin="10.133.0.5")
    cluster.vm("web-3")
    assert "prod/web-2 holds it" in refusal(cluster.attach("web-3", ip="10.133.0.6"), "prod/web-3").message
    assert cluster.attach("web-1").results == {"prod/web-1": "10.133.0.5"}
    assert cluster.api.get(BLUE)["status"]["allocations"] == {"10.133.0.6": "web-2"}
    assert cluster.records()["10.133.0.5"].uid == cluster.now().uid


# -- what a VM carries already --------------------------------------------------------------------------------------


def test_free_address_on_the_template_is_adopted(cluster: FakeCluster) -> None:
    vm = cluster.vm(pin="10.133.0.42")
    assert cluster.attach().results == {"prod/web-1": "10.133.0.42"}
    assert cluster.records()["10.133.0.42"].uid == vm.uid
    cluster.check()


def test_address_on_the_template_that_another_vm_holds_is_not_adopted(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.42")
    cluster.vm("web-2", pin="10.133.0.42")
    message = refusal(cluster.attach("web-2"), "prod/web-2").message
    assert "10.133.0.42" in message
    assert "prod/web-1 holds it" in message
    assert cluster.holders() == {"10.133.0.42": "prod/web-1"}


def test_address_on_the_template_that_a_pod_uses_is_not_adopted(cluster: FakeCluster) -> None:
    cluster.vm(pin="10.133.0.42")
    cluster.hold_by_pod("10.133.0.42")
    assert "10.133.0.42 is not free: ipamblock/10-133-0-0-26 uses it" in refusal(cluster.attach()).message
    assert cluster.records() == {}


def test_unusable_address_on_the_template_is_not_adopted() -> None:
    cluster = FakeCluster()
    cluster.network(exclude=["10.133.0.40-10.133.0.49"])
    cluster.vm(pin="10.133.0.42")
    assert "it is excluded" in refusal(cluster.attach()).message
    assert cluster.records() == {}


def test_vm_with_an_address_needs_replace_to_get_another_one(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    refused = refusal(cluster.attach(ip="10.133.0.9"))
    assert "VM prod/web-1 already has 10.133.0.1 on network prod/blue" in refused.message
    assert "--replace" in refused.hint
    assert cluster.pin() == "10.133.0.1"


def test_replace_assigns_the_new_address_and_releases_the_old_one(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    mac = cluster.mac()
    assert cluster.attach(ip="10.133.0.9", replace=True).results == {"prod/web-1": "10.133.0.9"}
    assert cluster.pin() == "10.133.0.9"
    assert cluster.mac() == mac
    assert cluster.holders() == {"10.133.0.9": "prod/web-1"}
    cluster.check()


def test_replace_without_an_address_keeps_the_current_one(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    assert not cluster.attach(replace=True).has_changed()


def test_vm_on_another_network_is_refused_without_replace(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.vm()
    cluster.attach()
    refused = refusal(cluster.attach(network="prod/red"))
    assert "already has 10.133.0.1 on network blue" in refused.message
    assert "--replace" in refused.hint
    assert cluster.records("red") == {}


def test_replace_moves_a_vm_to_another_network_in_one_run(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.vm()
    cluster.attach()
    assert cluster.attach(network="prod/red", replace=True).results == {"prod/web-1": "10.144.0.1"}
    assert cluster.pin() == "10.144.0.1"
    assert requested_network(cluster.now()) == "red"
    assert cluster.records("blue") == {}
    assert cluster.holders("red") == {"10.144.0.1": "prod/web-1"}
    cluster.check()


def test_dual_stack_pin_is_refused_without_replace(cluster: FakeCluster) -> None:
    """From Calico 3.32 on such a VM does not start."""
    cluster.vm()
    annotate_template(cluster, "web-1", IP_ADDRS_ANNOTATION, '["10.133.0.9", "fd00::9"]')
    refused = refusal(cluster.attach())
    assert "VM prod/web-1 has 10.133.0.9 and fd00::9" in refused.message
    assert "--replace" in refused.hint
    assert cluster.records() == {}
    assert cluster.attach(replace=True).results == {"prod/web-1": "10.133.0.9"}
    assert cluster.pin() == "10.133.0.9"
    cluster.check()


def test_networks_of_the_same_name_in_two_namespaces_are_independent(cluster: FakeCluster) -> None:
    cluster.network("blue", "10.144.0.0/24", "dev")
    cluster.vm("web-1")
    cluster.vm("web-1", "dev")
    cluster.attach("web-1")
    cluster.attach("dev/web-1", network="dev/blue")
    assert (cluster.pin(), cluster.pin("web-1", "dev")) == ("10.133.0.1", "10.144.0.1")
    cluster.check()


# -- the MAC address ------------------------------------------------------------------------------------------------


def test_random_local_mac_is_written_and_kept(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    mac = cluster.mac()
    assert re.fullmatch("02(:[0-9a-f]{2}){5}", mac)
    assert cluster.records()["10.133.0.1"].mac == mac
    cluster.attach()
    assert cluster.mac() == mac


def test_no_mac_is_written_with_mac_none(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(mac="")
    assert cluster.mac() == ""
    assert cluster.records()["10.133.0.1"].mac == ""
    assert not cluster.attach(mac="").has_changed()


def test_requested_mac_is_written(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(mac="02:00:00:ab:cd:ef")
    assert cluster.mac() == cluster.records()["10.133.0.1"].mac == "02:00:00:ab:cd:ef"


def test_mac_of_the_interface_is_recorded_and_not_written_again(cluster: FakeCluster) -> None:
    own = {"name": "default", "bridge": {}, "macAddress": "02:11:22:33:44:55"}
    spec = {"domain": {"devices": {"interfaces": [own]}}, "networks": [{"name": "default", "pod": {}}]}
    cluster.vm(template={"spec": spec})
    cluster.attach()
    assert cluster.mac() == ""
    assert cluster.records()["10.133.0.1"].mac == "02:11:22:33:44:55"


# -- others at the same time ----------------------------------------------------------------------------------------


def test_slower_of_two_runs_choosing_one_address_chooses_another(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.vm("web-2")
    once_before(cluster, "patch", "NetworkWizard", lambda: cluster.attach("web-2"))
    done = cluster.attach("web-1")
    assert cluster.pin("web-2") == "10.133.0.1"
    assert done.results["prod/web-1"] == cluster.pin("web-1") != "10.133.0.1"
    cluster.check()


def test_slower_of_two_runs_attaching_one_vm_reports_the_assigned_address(cluster: FakeCluster) -> None:
    cluster.vm()
    once_before(cluster, "patch", "VirtualMachine", lambda: cluster.attach())
    done = cluster.attach()
    assert done.results == {"prod/web-1": cluster.pin()}
    assert cluster.holders() == {cluster.pin(): "prod/web-1"}
    cluster.check()


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.0.0.0/8"])
def test_address_written_to_the_vm_concurrently_wins_and_the_new_one_is_released(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    theirs = "10.133.0.99" if cidr.endswith("24") else "10.1.2.3"
    once_before(cluster, "patch", "VirtualMachine", lambda: cluster.attach(ip=theirs))
    done = cluster.attach()
    assert done.results == {"prod/web-1": theirs}
    assert cluster.holders() == {theirs: "prod/web-1"}
    cluster.check()


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_requested_address_is_released_and_refused_if_another_was_written_concurrently(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    theirs = "10.133.0.99" if cidr.endswith("24") else "10.133.9.99"
    once_before(cluster, "patch", "VirtualMachine", lambda: cluster.attach(ip=theirs))
    refused = refusal(cluster.attach(ip="10.133.0.50"))
    assert f"already has {theirs}" in refused.message
    assert cluster.holders() == {theirs: "prod/web-1"}
    cluster.check()


def test_address_is_released_if_the_vm_is_attached_to_another_network_concurrently(
    cluster: FakeCluster,
) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.vm()
    once_before(cluster, "patch", "VirtualMachine", lambda: cluster.attach(network="prod/red"))
    refused = refusal(cluster.attach())
    assert "already has 10.144.0.1 on network red" in refused.message
    assert cluster.records("blue") == {}
    assert cluster.holders("red") == {"10.144.0.1": "prod/web-1"}
    cluster.check()


def test_concurrent_change_of_the_vm_is_preserved(cluster: FakeCluster) -> None:
    cluster.vm()
    once_before(cluster, "patch", "VirtualMachine", lambda: annotate_template(cluster, "web-1", "team", "a"))
    cluster.attach()
    assert cluster.now().template_annotations["team"] == "a"
    assert cluster.pin() == "10.133.0.1"
    cluster.check()


def test_address_is_released_if_the_vm_is_deleted_concurrently(cluster: FakeCluster) -> None:
    cluster.vm()
    once_before(cluster, "patch", "VirtualMachine", lambda: cluster.delete_vm())
    assert 'VM "web-1" not found' in refusal(cluster.attach()).message
    assert cluster.records() == {}


def test_vm_recreated_concurrently_gets_one_address(cluster: FakeCluster) -> None:
    cluster.vm()

    def recreate() -> None:
        cluster.delete_vm()
        cluster.vm()

    once_before(cluster, "patch", "VirtualMachine", recreate)
    done = cluster.attach()
    assert done.results == {"prod/web-1": cluster.pin()}
    assert cluster.records()[cluster.pin()].uid == cluster.now().uid
    cluster.check()


def test_network_recreated_concurrently_assigns_the_address(cluster: FakeCluster) -> None:
    cluster.vm()

    def recreate() -> None:
        cluster.delete_network()
        cluster.network(cidr="10.155.0.0/24")

    once_before(cluster, "patch", "NetworkWizard", recreate)
    assert cluster.attach().results == {"prod/web-1": cluster.pin()}
    assert cluster.pin().startswith("10.155.0.")
    cluster.check()


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.0.0.0/8"])
def test_address_is_released_if_patching_the_vm_is_forbidden(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    cluster.api.refuse("patch", VM)
    refused = refusal(cluster.attach())
    assert isinstance(refused, ApiError)
    assert "may not patch virtualmachines" in refused.message
    assert cluster.records() == {}
    assert cluster.api.every(ADDRESSBLOCK) == []


def test_only_the_vm_refused_by_a_webhook_loses_its_address(cluster: FakeCluster) -> None:
    for name in ("web-1", "web-2", "web-3"):
        cluster.vm(name)

    def refuse(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.name == "web-2":
            cluster.api.refuse("patch", VM, 400, 'admission webhook "x" denied the request: no')
        elif ref.resource == VM:
            cluster.api.allow_everything()

    cluster.api.before.append(refuse)
    done = cluster.attach("web-1", "web-2", "web-3")
    assert sorted(done.results) == ["prod/web-1", "prod/web-3"]
    assert "denied the request" in refusal(done, "prod/web-2").message
    assert sorted(cluster.holders().values()) == ["prod/web-1", "prod/web-3"]
    cluster.check()


def test_no_vm_is_changed_if_writing_the_allocation_is_forbidden(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.vm("web-2")
    cluster.api.refuse("patch", NETWORKWIZARD)
    done = cluster.attach("web-1", "web-2")
    assert sorted(done.errors) == ["prod/web-1", "prod/web-2"]
    assert cluster.pin("web-1") == cluster.pin("web-2") == ""


def test_attach_killed_between_its_writes_is_completed_by_a_second_run(cluster: FakeCluster) -> None:
    cluster.vm()

    def killed() -> None:
        raise KeyboardInterrupt

    once_before(cluster, "patch", "VirtualMachine", killed)
    with pytest.raises(KeyboardInterrupt):
        cluster.attach()
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    assert cluster.pin() == ""
    assert cluster.attach().results == {"prod/web-1": "10.133.0.1"}
    cluster.check()


def test_killed_attach_on_a_large_network_is_completed_by_a_second_run() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.0.0.0/8")
    cluster.vm()

    def killed() -> None:
        raise KeyboardInterrupt

    once_before(cluster, "patch", "VirtualMachine", killed)
    with pytest.raises(KeyboardInterrupt):
        cluster.attach()
    (left,) = cluster.records()
    assert cluster.attach().results == {"prod/web-1": left}
    cluster.check()


# -- a VM recreated under its name ----------------------------------------------------------------------------------


def test_recreated_vm_gets_its_old_address_if_it_is_free(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    cluster.delete_vm()
    anew = cluster.vm()
    assert cluster.attach().results == {"prod/web-1": "10.133.0.9"}
    assert cluster.records()["10.133.0.9"].uid == anew.uid
    cluster.check()


def test_recreated_vm_does_not_get_the_address_of_an_old_running_instance(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.9")
    cluster.attach()
    old = cluster.api.get(VMI.ref("web-1", "prod"))
    cluster.api.drop(VM.ref("web-1", "prod"))
    cluster.api.put(VMI, old)  # as it is while its pod ends, or if only the VM was deleted (--cascade=orphan)
    cluster.vm()
    done = cluster.attach()
    assert cluster.pin() != "10.133.0.9"
    assert cluster.holders()["10.133.0.9"] == "prod/web-1"
    assert done.errors or done.results == {"prod/web-1": cluster.pin()}


def test_recreated_vm_with_the_old_template_adopts_its_address(cluster: FakeCluster) -> None:
    cluster.vm(pin="10.133.0.9")
    cluster.attach()
    cluster.delete_vm()
    anew = cluster.vm(pin="10.133.0.9")
    assert cluster.attach().results == {"prod/web-1": "10.133.0.9"}
    assert cluster.records()["10.133.0.9"].uid == anew.uid
    cluster.check()


# -- VMs that run ---------------------------------------------------------------------------------------------------


def test_attach_of_a_running_vm_reports_that_a_restart_is_needed(old_calico: FakeCluster) -> None:
    old_calico.running()
    old_calico.api.writes.clear()
    done = old_calico.attach()
    assert done.results == {"prod/web-1": "10.133.0.1"}
    assert any("restart needed: virtualmachine/web-1" in note for note in done.notes)
    assert [write for write in old_calico.api.writes if write.startswith(("stop", "restart"))] == []
    old_calico.check()


def test_needed_restart_is_reported_until_the_vm_runs_with_its_address(old_calico: FakeCluster) -> None:
    old_calico.running()
    old_calico.attach()
    assert any("restart needed" in note for note in old_calico.attach().notes)
    old_calico.api.call(_call("web-1"), "restart")
    old_calico.time_passes()
    assert old_calico.runs_with() == "10.133.0.1"
    assert not any("restart needed" in note for note in old_calico.attach().notes)


def _call(name: str) -> ObjectRef:
    from kubectl_yoshi.model.vm import VM_SUBRESOURCES

    return VM_SUBRESOURCES.ref(name, "prod")


@pytest.mark.parametrize("spec", [{"runStrategy": "Always"}, {"runStrategy": "RerunOnFailure"}, {"running": True}])
def test_restart_flag_restarts_the_vm_once(old_calico: FakeCluster, spec: dict[str, Any]) -> None:
    old_calico.running(**spec)
    done = old_calico.attach(restart=True)
    assert old_calico.api.writes.count("restart virtualmachine/web-1") == 1
    assert not any("restart needed" in note for note in done.notes)
    old_calico.time_passes()
    assert old_calico.runs_with() == "10.133.0.1"
    old_calico.api.writes.clear()
    assert not old_calico.attach(restart=True).has_changed()
    old_calico.check()


def test_vm_already_running_with_the_address_is_not_restarted(old_calico: FakeCluster) -> None:
    old_calico.running(pin="10.133.0.7")
    done = old_calico.attach(restart=True)
    assert done.results == {"prod/web-1": "10.133.0.7"}
    assert not [write for write in old_calico.api.writes if write.startswith(("stop", "restart"))]


def test_address_in_use_stays_allocated_when_the_attach_is_refused(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    cluster.detach()
    assert (cluster.pin(), cluster.holders()) == ("", {"10.133.0.7": "prod/web-1"})
    cluster.api.refuse("patch", VM)
    assert "may not patch" in refusal(cluster.attach(ip="10.133.0.7")).message
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}


def test_old_address_of_a_running_vm_stays_allocated_until_its_restart(old_calico: FakeCluster) -> None:
    old_calico.running(pin="10.133.0.7")
    old_calico.attach()
    done = old_calico.attach(ip="10.133.0.8", replace=True)
    assert old_calico.holders() == {"10.133.0.7": "prod/web-1", "10.133.0.8": "prod/web-1"}
    assert any("10.133.0.7 stays recorded" in note for note in done.notes)


# -- what Calico holds ----------------------------------------------------------------------------------------------


def test_ipam_address_of_a_halted_vm_is_released_in_the_block_and_then_in_the_handle(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.hold("192.168.0.9", "k8s-pod-network.vmi.prod.web-1")
    cluster.hold_by_pod("192.168.0.10")
    cluster.api.writes.clear()
    assert cluster.attach().results == {"prod/web-1": "10.133.0.1"}
    assert cluster.held_in_calico() == {"192.168.0.10": "k8s-pod-network.some-container-10"}
    ours = [write for write in cluster.api.writes if "ipam" in write]
    assert ours == ["replace ipamblock/192-168-0-0-26", "delete ipamhandle/k8s-pod-network.vmi.prod.web-1"]
    cluster.check()


def test_ipam_address_of_the_vm_is_adopted_without_release(cluster: FakeCluster) -> None:
    cluster.vm(pin="10.133.0.9")
    cluster.hold("10.133.0.9", "k8s-pod-network.vmi.prod.web-1")
    assert cluster.attach().results == {"prod/web-1": "10.133.0.9"}
    assert cluster.held_in_calico() == {"10.133.0.9": "k8s-pod-network.vmi.prod.web-1"}


def test_both_old_addresses_of_a_dual_stack_vm_are_released(cluster: FakeCluster) -> None:
    cluster.vm()
    for address in ("fd00:9::5", "192.168.0.9"):
        cluster.hold(address, "k8s-pod-network.vmi.prod.web-1")
    assert cluster.attach().results == {"prod/web-1": "10.133.0.1"}
    assert cluster.held_in_calico() == {}


def test_ipv6_address_in_ipam_of_a_running_vm_is_named(cluster: FakeCluster) -> None:
    cluster.running()
    cluster.forget("web-1")
    cluster.hold("fd00:9::5", "k8s-pod-network.vmi.prod.web-1")
    assert "Calico holds fd00:9::5 for VM prod/web-1" in refusal(cluster.attach()).message


def test_running_vm_with_another_ipam_address_is_refused_with_a_hint(cluster: FakeCluster) -> None:
    cluster.running()
    cluster.api.writes.clear()
    refused = refusal(cluster.attach())
    assert "Calico holds 192.168.0.1 for VM prod/web-1 and would assign it again" in refused.message
    assert "--restart" in refused.hint
    assert cluster.api.writes == []
    assert cluster.records() == {}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_vm_with_a_shut_down_guest_counts_as_halted_after_its_pod_ended(
    cluster: FakeCluster, restart: bool, phase: str
) -> None:
    """KubeVirt keeps the instance of Manual and Once until somebody starts the VM."""
    cluster.running(runStrategy="Manual")
    cluster.api.change(VMI.ref("web-1", "prod"), lambda vmi: vmi["status"].update(phase=phase))
    assert "virt-launcher-web-1 in namespace prod exists" in refusal(cluster.attach()).message
    cluster.drop_pod("web-1")
    cluster.api.writes.clear()
    assert cluster.attach(restart=restart).results == {"prod/web-1": "10.133.0.1"}
    assert cluster.held_in_calico() == {}
    assert not [write for write in cluster.api.writes if write.startswith(("stop", "start"))]
    cluster.detach()
    assert cluster.records() == {}


SPECS = [
    {"runStrategy": "Always"},
    {"runStrategy": "RerunOnFailure"},
    {"runStrategy": "Manual"},
    {"runStrategy": "Once"},
    {"running": True},
]


@pytest.mark.parametrize("spec", SPECS, ids=[str(*spec.values()) for spec in SPECS])
def test_restart_stops_releases_and_starts_with_the_same_run_strategy(
    cluster: FakeCluster, spec: dict[str, Any]
) -> None:
    before = cluster.running(**spec)
    cluster.api.writes.clear()
    done = cluster.attach(restart=True)
    assert done.results == {"prod/web-1": "10.133.0.1"}
    order = [write.split("/")[0] for write in cluster.api.writes]
    assert order.index("stop virtualmachine") < order.index("replace ipamblock") < order.index("delete ipamhandle")
    cluster.time_passes()
    assert cluster.runs_with() == "10.133.0.1"
    after = cluster.now()
    assert {key: after.raw["spec"].get(key) for key in spec} == spec
    assert set(after.raw["spec"]) == set(before.raw["spec"])
    assert START_AGAIN_ANNOTATION not in after.annotations
    cluster.check()


@pytest.mark.parametrize("spec", SPECS, ids=[str(*spec.values()) for spec in SPECS])
@pytest.mark.parametrize("attached", [False, True])
def test_vm_stopped_in_vain_is_started_again_with_the_same_run_strategy(
    cluster: FakeCluster, spec: dict[str, Any], attached: bool
) -> None:
    cluster.running(**spec)
    if attached:
        cluster.attach(restart=True)
        cluster.time_passes()
    ran_with = cluster.runs_with()
    cluster.forbid_ipam_writes(reviews=False)
    for _ in range(2):
        done = cluster.attach(ip="10.133.0.9", replace=True, restart=True)
        cluster.time_passes()
        told = refusal(done)
        assert "may not update ipamblocks" in told.message
        assert "stop virtualmachine/web-1" in told.changes_so_far
        assert "virtualmachine/web-1 in namespace prod is started again unchanged" in done.notes
        assert cluster.runs_with() == ran_with
        assert {key: cluster.now().raw["spec"].get(key) for key in spec} == spec
        assert START_AGAIN_ANNOTATION not in cluster.now().annotations


def test_vm_stopped_by_a_killed_run_is_started_by_a_run_without_ipam_permissions(
    cluster: FakeCluster,
) -> None:
    cluster.running()
    once_before(cluster, "update", "IPAMBlock", lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        cluster.attach(restart=True)
    cluster.time_passes()
    assert not cluster.runs_with()
    cluster.forbid_ipam_writes(reviews=False)
    assert "may not update ipamblocks" in refusal(cluster.attach()).message
    cluster.time_passes()
    assert cluster.runs_with()
    assert START_AGAIN_ANNOTATION not in cluster.now().annotations


def test_vm_that_does_not_stop_in_time_is_reported_and_started_by_the_next_run(cluster: FakeCluster) -> None:
    cluster.running()
    cluster.slow.add("web-1")
    assert "still" in refusal(cluster.attach(restart=True)).message
    cluster.slow.clear()
    cluster.time_passes()
    assert cluster.runs_with() == ""
    assert cluster.attach(restart=True).results == {"prod/web-1": cluster.pin()}
    cluster.time_passes()
    assert cluster.runs_with() == cluster.pin() != ""
    assert cluster.now().run_strategy == "Always"
    assert START_AGAIN_ANNOTATION not in cluster.now().annotations
    cluster.check()


@pytest.mark.parametrize("spec", SPECS, ids=[str(*spec.values()) for spec in SPECS])
def test_restart_killed_at_any_write_is_completed_by_a_second_run(spec: dict[str, Any]) -> None:
    for writes in itertools.count():
        cluster = FakeCluster()
        cluster.network()
        cluster.running(**spec)
        killed = is_killed(cluster, writes, lambda cluster: cluster.attach(restart=True))
        if killed:
            cluster.time_passes()
        done = cluster.attach(restart=True)
        cluster.time_passes()
        assert done.results == {"prod/web-1": cluster.pin()}
        assert cluster.runs_with() == cluster.pin() != ""
        assert {key: cluster.now().raw["spec"].get(key) for key in spec} == spec
        assert START_AGAIN_ANNOTATION not in cluster.now().annotations
        assert cluster.held_in_calico() == {cluster.pin(): "k8s-pod-network.vmi.prod.web-1"}
        cluster.check()
        if not killed:
            break
    assert writes > 5, "so many writes at least have had a kill before them"


def test_restart_waits_until_a_remaining_pod_is_gone(cluster: FakeCluster) -> None:
    cluster.running()
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    cluster.api.drop(VMI.ref("web-1", "prod"))
    assert "pod/virt-launcher-web-1" in refusal(cluster.attach()).message
    waited: list[float] = []

    def pod_goes() -> None:
        waited.append(cluster.api.clock.time)
        if len(waited) == 3:
            cluster.drop_pod("web-1")

    cluster.api.clock._meanwhile = pod_goes
    assert cluster.attach(restart=True).results == {"prod/web-1": "10.133.0.1"}
    assert cluster.held_in_calico() == {}
    assert len(waited) >= 3
    cluster.check()


def test_halted_vm_is_attached_with_a_note_if_ipam_is_unreadable(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.api.refuse("get", RAW.handle)
    done = cluster.attach()
    assert done.results == {"prod/web-1": "10.133.0.1"}
    assert any("whether Calico holds other addresses" in note for note in done.notes)


def test_concurrent_change_of_the_ipam_block_is_preserved(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.hold("192.168.0.9", "k8s-pod-network.vmi.prod.web-1")
    once_before(cluster, "update", "IPAMBlock", lambda: cluster.hold_by_pod("192.168.0.10"))
    assert cluster.attach().results == {"prod/web-1": "10.133.0.1"}
    assert cluster.held_in_calico() == {"192.168.0.10": "k8s-pod-network.some-container-10"}


# -- showing only ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", ["client", "server"])
def test_dry_run_changes_nothing_and_prints_the_address(cluster: FakeCluster, dry_run: str) -> None:
    cluster.vm()
    cluster.api.writes.clear()
    done = cluster.attach(dry_run=dry_run)
    assert done.results == {"prod/web-1": "10.133.0.1"}
    assert [change.ref.resource.kind for change in done.plan] == ["NetworkWizard", "VirtualMachine"]
    assert cluster.api.writes == []
    assert cluster.records() == {}


def test_network_with_an_invalid_spec_is_named(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.api.put(NETWORKWIZARD, wizard("broken", "10.133.0.0"))
    with pytest.raises(UsageError, match=r'network "broken": cidr "10\.133\.0\.0"'):
        cluster.attach(network="prod/broken")


def test_pin_annotation_that_calico_cannot_parse_is_ignored(cluster: FakeCluster) -> None:
    cluster.vm()
    annotate_template(cluster, "web-1", IP_ADDRS_ANNOTATION, "10.133.0.9")
    cluster.attach()
    assert json.loads(cluster.now().template_annotations[IP_ADDRS_ANNOTATION]) == [cluster.pin()]
    cluster.check()


# -- live migration -------------------------------------------------------------------------------------------------


def moving(cluster: FakeCluster, *names: str, **template: str) -> None:
    """VMs that are to leave their node when it is drained."""
    for name in names:
        spec: Json = {"domain": {"devices": {}}, "evictionStrategy": "LiveMigrate"}
        cluster.vm(name, template={"metadata": {"annotations": template}, "spec": spec})


def about_migration(done: RunResult) -> list[str]:
    return [note for note in done.notes if "live-migrated" in note]


def test_missing_live_migration_settings_are_reported_once_for_all_vms(cluster: FakeCluster) -> None:
    moving(cluster, "web-1", "web-2")
    moving(cluster, "web-3", **{ALLOW_MIGRATION_ANNOTATION: ""})
    cluster.vm("web-4")
    (line,) = about_migration(cluster.attach("web-1", "web-2", "web-3", "web-4"))
    assert line == (
        "3 VMs of network prod/blue cannot be live-migrated: network prod/blue has VXLAN and NAT (created without "
        f"--live-migration); bridge binding without annotation {ALLOW_MIGRATION_ANNOTATION} (2 of them)"
    )
    moving(cluster, "web-5")
    (line,) = about_migration(cluster.attach("web-1", "web-2", "web-3", "web-4", "web-5"))
    assert line.startswith("VM prod/web-5 cannot be live-migrated: ")


def test_live_migration_is_not_mentioned_without_a_change_or_request(cluster: FakeCluster) -> None:
    moving(cluster, "web-1")
    cluster.attach("web-1")
    assert cluster.attach("web-1").notes == ()
    cluster.vm("web-2")
    assert cluster.attach("web-2").notes == ()


def test_released_address_is_not_reported_as_still_allocated() -> None:
    cluster = FakeCluster()
    cluster.network("blue", "10.133.0.0/24")
    cluster.running(pin="10.133.0.5")
    cluster.attach(ip="10.133.0.5")
    assert cluster.runs_with() == "10.133.0.5"
    done = cluster.attach(ip="10.133.0.6", replace=True, restart=True)
    assert cluster.holders() == {"10.133.0.6": "prod/web-1"}
    assert not any("stays recorded" in note for note in done.notes)


@pytest.mark.parametrize(("keeps", "length", "warned"), [(True, 104, True), (True, 103, False), (False, 104, False)])
def test_vm_name_too_long_for_an_ipam_handle_has_a_warning(keeps: bool, length: int, warned: bool) -> None:
    cluster = FakeCluster(keeps)
    cluster.network("blue", "10.133.0.0/24")
    name = "w" * length  # in namespace prod
    cluster.vm(name)
    done = cluster.attach(name)
    assert not done.errors
    says = "have more than 107 characters together, and these have 108"
    assert any(says in note for note in done.notes) is warned


def test_objects_in_write_responses_are_not_read_again(cluster: FakeCluster) -> None:
    """The patch of the VM is refused if anybody has written to it: what was read before still holds."""
    cluster.vm()
    requests: list[str] = []
    cluster.api.before.append(lambda verb, ref: requests.append(verb))
    assert not cluster.attach().errors
    assert requests[-2:] == ["patch", "patch"]
    assert not cluster.detach().errors
    assert requests[-2:] == ["patch", "patch"]


def test_attach_is_repeated_if_its_allocation_is_released_concurrently(cluster: FakeCluster) -> None:
    cluster.vm()
    mine = cluster.second_client(1)

    def collected(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", VM):
            mine.api.before.clear()
            cluster.collect()
            assert cluster.holders() == {}

    mine.api.before.append(collected)
    assert not mine.attach().errors
    assert cluster.holders() == {cluster.pin(): "prod/web-1"}
    cluster.check()
