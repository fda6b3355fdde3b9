"""Detaching and releasing: the template first, then the allocation, and only what is unused (I5)."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.backend import HW_ADDR_ANNOTATION, IP_ADDRS_ANNOTATION
from kubectl_yoshi.engine.apply import send_change
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.errors import ApiError
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.vm import POD, VM, VMI
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster, refusal, requested_network
from tests.unit.plan.test_layer2 import layer2

pytestmark = pytest.mark.I5

BLUE = NETWORKWIZARD.ref("blue", "prod")


def test_detach_restores_a_halted_vm(cluster: FakeCluster) -> None:
    template = {"metadata": {"annotations": {"team": "a"}}, "spec": {"domain": {"devices": {}}, "new": [1]}}
    before = cluster.vm(template=template)
    cluster.attach()
    cluster.api.writes.clear()
    done = cluster.detach()
    assert done.plan.results == {"prod/web-1": "10.133.0.1"}
    assert cluster.now().raw["spec"] == before.raw["spec"]
    assert requested_network(cluster.now()) is None
    assert cluster.records() == {}
    assert cluster.api.writes == ["patch virtualmachine/web-1", "patch networkwizard/blue status"]


def test_detach_is_idempotent(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.detach()
    cluster.api.writes.clear()
    done = cluster.detach()
    assert not done.errors
    assert not done.has_changed()
    assert cluster.api.writes == []


def test_empty_block_is_kept_for_its_history() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.0.0.0/8")
    cluster.vm()
    cluster.attach()
    assert len(cluster.api.every(ADDRESSBLOCK)) == 1
    cluster.detach()
    (block,) = cluster.api.every(ADDRESSBLOCK)
    assert block["status"]["allocations"] == {}
    assert len(block["status"]["history"]) == 1


def test_detach_releases_ipam_before_the_template_and_the_allocation(
    cluster: FakeCluster,
) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    cluster.time_passes()
    assert cluster.held_in_calico() == {"10.133.0.7": "k8s-pod-network.vmi.prod.web-1"}
    cluster.api.writes.clear()
    cluster.detach()
    assert [write.split("/")[0] for write in cluster.api.writes] == [
        "replace ipamblock",
        "delete ipamhandle",
        "patch virtualmachine",
        "patch networkwizard",
    ]
    assert cluster.held_in_calico() == {}
    assert cluster.records() == {}


def test_detach_of_a_running_vm_keeps_its_allocation_and_needs_a_restart(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    done = cluster.detach()
    assert cluster.pin() == ""
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("restart needed: virtualmachine/web-1" in note and "10.133.0.7" in note for note in done.notes)
    assert any("10.133.0.7 stays recorded for prod/web-1" in note for note in done.notes)
    assert cluster.runs_with() == "10.133.0.7"


@pytest.mark.parametrize("spec", [{"runStrategy": "Always"}, {"runStrategy": "RerunOnFailure"}, {"running": True}])
def test_detach_with_restart_stops_releases_and_starts_the_vm(cluster: FakeCluster, spec: dict[str, Any]) -> None:
    cluster.running(pin="10.133.0.7", **spec)
    cluster.attach()
    done = cluster.detach(restart=True)
    assert not done.errors
    cluster.time_passes()
    assert cluster.records() == {}
    assert cluster.runs_with() not in ("", "10.133.0.7")
    assert {key: cluster.now().raw["spec"].get(key) for key in spec} == spec
    assert START_AGAIN_ANNOTATION not in cluster.now().annotations


@pytest.mark.parametrize("spec", [{"runStrategy": "Always"}, {"runStrategy": "RerunOnFailure"}, {"running": True}])
def test_vm_stopped_in_vain_is_started_again_with_the_same_run_strategy(
    cluster: FakeCluster, spec: dict[str, Any]
) -> None:
    cluster.running(pin="10.133.0.7", **spec)
    cluster.attach()
    cluster.forbid_ipam_writes(reviews=False)
    for _ in range(2):
        done = cluster.detach(restart=True)
        cluster.time_passes()
        assert "may not update ipamblocks" in refusal(done).message
        assert cluster.runs_with() == "10.133.0.7"
        assert {key: cluster.now().raw["spec"].get(key) for key in spec} == spec
        assert START_AGAIN_ANNOTATION not in cluster.now().annotations
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}


def test_second_detach_after_the_stop_removes_the_allocation(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    cluster.detach()
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    cluster.time_passes()
    cluster.detach()
    assert cluster.records() == {}
    assert cluster.held_in_calico() == {}


@pytest.mark.parametrize("kind", [VMI, POD], ids=["instances", "pods"])
@pytest.mark.parametrize("running", [True, False])
def test_allocation_is_kept_if_instances_or_pods_are_unreadable(kind: Any, running: bool) -> None:
    cluster = FakeCluster(keeps=False)
    cluster.network()
    if running:
        cluster.running(pin="10.133.0.7")
    else:
        cluster.vm(pin="10.133.0.7")
    cluster.attach()
    for verb in ("get", "list"):
        cluster.api.refuse(verb, kind)
    done = cluster.detach()
    assert cluster.pin() == ""
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("10.133.0.7 stays recorded" in note for note in done.notes)


def test_allocation_is_kept_if_ipam_is_unreadable(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.api.refuse("get", RAW.handle)
    done = cluster.detach()
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    assert any("cannot check whether Calico still holds it" in note for note in done.notes)


def test_unreadable_vm_is_not_treated_as_deleted(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.api.refuse("get", VM)
    assert "cannot be read" in refusal(cluster.detach()).message
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}


def test_vm_that_cannot_be_patched_keeps_its_allocation(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.api.refuse("patch", VM)
    assert isinstance(refusal(cluster.detach()), ApiError)
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    cluster.check()


def test_detach_of_a_deleted_vm_releases_its_address(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    assert cluster.detach().plan.results == {"prod/web-1": "10.133.0.1"}
    assert cluster.records() == {}


def test_deleted_vm_with_a_running_pod_keeps_its_allocation(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    pod = cluster.api.get(POD.ref("virt-launcher-web-1", "prod"))
    cluster.delete_vm()
    cluster.api.put(POD, pod)
    done = cluster.detach()
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("pod/virt-launcher-web-1" in note for note in done.notes)


@pytest.mark.parametrize("name", ["web-1", "web.one"])
def test_allocation_is_kept_while_the_pod_exists_after_the_guest_ended(name: str) -> None:
    cluster = FakeCluster(keeps=False)
    cluster.network()
    cluster.running(name, pin="10.133.0.7")
    cluster.attach(name)
    cluster.api.drop(VMI.ref(name, "prod"))
    done = cluster.detach(name)
    assert cluster.holders() == {"10.133.0.7": f"prod/{name}"}
    assert any(f"pod/virt-launcher-{name}" in note for note in done.notes), done.notes


def test_missing_vm_is_refused(cluster: FakeCluster) -> None:
    assert 'VM "web-1" not found' in refusal(cluster.detach()).message


def test_detach_keeps_the_allocations_of_other_vms(cluster: FakeCluster) -> None:
    names = ("web-1", "web-2", "web-3")
    for name in names:
        cluster.vm(name)
    cluster.attach(*names)
    cluster.reserve("10.133.0.99")
    cluster.detach("web-1", "web-3")
    assert cluster.holders() == {"10.133.0.2": "prod/web-2", "10.133.0.99": "reserved"}
    cluster.check()


def test_pin_on_another_network_is_kept(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.vm()
    cluster.attach(network="prod/red")
    done = cluster.detach(network="prod/blue")
    assert not done.has_changed()
    assert cluster.pin() == "10.144.0.1"
    assert requested_network(cluster.now()) == "red"


def test_allocation_reassigned_concurrently_is_not_released(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.vm("web-2")
    cluster.attach("web-1")
    record = cluster.records()["10.133.0.1"].to_json()

    def change(obj: Json) -> None:
        obj["status"]["allocations"]["10.133.0.1"] = {**record, "name": "web-2", "uid": cluster.now("web-2").uid}

    def meanwhile(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref == BLUE:
            cluster.api.before.clear()
            cluster.api.change(BLUE, change)

    cluster.api.before.append(meanwhile)
    cluster.detach("web-1")
    assert cluster.holders() == {"10.133.0.1": "prod/web-2"}


def test_killed_detach_is_completed_by_a_second_run(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()

    def die(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref == BLUE:
            raise KeyboardInterrupt

    cluster.api.before.append(die)
    with pytest.raises(KeyboardInterrupt):
        cluster.detach()
    cluster.api.before.clear()
    assert cluster.pin() == ""
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    cluster.detach()
    assert cluster.records() == {}


def test_legacy_allocation_is_removed_by_detach() -> None:
    for cidr in ("10.133.0.0/24", "10.133.0.0/16"):
        cluster = FakeCluster()
        cluster.network(cidr=cidr)
        cluster.vm(pin="10.133.0.5")
        cluster.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.5": "web-1"}))
        cluster.detach()
        assert cluster.records() == {}
        assert cluster.pin() == ""


def test_foreign_annotations_of_the_template_are_preserved(cluster: FakeCluster) -> None:
    cluster.vm(template={"metadata": {"annotations": {"cni.projectcalico.org/ipv4pools": '["x"]'}}, "spec": {}})
    cluster.attach()
    assert {IP_ADDRS_ANNOTATION, HW_ADDR_ANNOTATION} <= set(cluster.now().template_annotations)
    cluster.detach()
    assert cluster.now().template_annotations == {"cni.projectcalico.org/ipv4pools": '["x"]'}


# -- ips release ----------------------------------------------------------------------------------------------------


def test_release_of_a_reservation_is_idempotent(cluster: FakeCluster) -> None:
    cluster.reserve("10.133.0.9", "10.133.0.10", note="printer")
    done = cluster.release("10.133.0.9")
    assert done.plan.results == {"10.133.0.9": "reserved (printer)"}
    assert cluster.holders() == {"10.133.0.10": "reserved (printer)"}
    assert not cluster.release("10.133.0.9").has_changed()


def test_address_on_a_vm_is_not_released(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    refused = refusal(cluster.release("10.133.0.1"), "10.133.0.1")
    assert "still requests it" in refused.message
    assert "vm detach web-1" in refused.hint
    cluster.check()


@pytest.mark.parametrize(
    ("refused", "says"),
    [(("list",), "still requests it"), (("list", "get"), "cannot check whether the VM requests it: may not get")],
)
def test_address_is_not_released_if_vms_are_unreadable(cluster: FakeCluster, refused: tuple[str], says: str) -> None:
    cluster.vm()
    cluster.attach()
    for verb in refused:
        cluster.api.refuse(verb, VM)
    assert says in refusal(cluster.release("10.133.0.1"), "10.133.0.1").message
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}


def test_address_of_a_running_instance_is_not_released(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    cluster.detach()
    assert "as long as virtualmachineinstance/web-1" in refusal(cluster.release("10.133.0.7"), "10.133.0.7").message
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}


def test_release_of_the_address_of_a_deleted_vm_includes_ipam(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.hold("10.133.0.1", "k8s-pod-network.vmi.prod.web-1")
    cluster.delete_vm()
    assert not cluster.release("10.133.0.1").errors
    assert cluster.records() == {}
    assert cluster.held_in_calico() == {}


def test_forbidden_release_fails_after_a_limited_number_of_tries(cluster: FakeCluster) -> None:
    cluster.reserve("10.133.0.9")
    cluster.api.refuse("patch", NETWORKWIZARD)
    cluster.api.tried.clear()
    done = cluster.release("10.133.0.9")
    assert any("may not patch" in error.message for error in done.errors.values())
    assert cluster.api.tried[("patch", "networkwizards")] < 5
    assert cluster.holders() == {"10.133.0.9": "reserved"}


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
@pytest.mark.parametrize("address", ["10.200.0.1", "fd00::1"])
def test_release_of_an_address_of_another_network_is_refused(cidr: str, address: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    with pytest.raises(PreconditionFailed, match="is not an address of network prod/blue"):
        cluster.release(address)


# -- ips reserve ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_reserve_of_named_addresses_is_idempotent(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    done = cluster.reserve("10.133.0.9", "10.133.0.77", note="printer")
    assert list(done.results) == ["10.133.0.9", "10.133.0.77"]
    assert cluster.holders() == {"10.133.0.9": "reserved (printer)", "10.133.0.77": "reserved (printer)"}
    assert not cluster.reserve("10.133.0.9", "10.133.0.77", note="printer").has_changed()
    cluster.check()


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16", "fd00::/64"])
def test_reserve_count_reserves_that_many_addresses(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    done = cluster.reserve(count=5)
    assert len(done.results) == 5
    assert set(cluster.records()) == set(done.results)
    cluster.check()


def test_reserve_count_above_the_free_addresses_reserves_none() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/29")
    with pytest.raises(PreconditionFailed, match="is full"):
        cluster.reserve(count=7)
    assert cluster.records() == {}


def test_reserve_count_over_several_blocks_survives_a_faster_writer() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/22")
    seen: list[ObjectRef] = []

    def faster(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == ADDRESSBLOCK:
            seen.append(ref)
            if len(seen) == 1:
                cluster.api.before.clear()
                first = ref.name.removeprefix("blue.").removesuffix(".0")
                cluster.reserve(f"{first}.50", note="theirs")

    cluster.api.before.append(faster)
    done = cluster.reserve(count=300, note="mine")
    mine = [address for address, holder in cluster.holders().items() if holder == "reserved (mine)"]
    assert len(mine) == 300
    assert sorted(done.results) == sorted(mine)
    cluster.check()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.133.0.0", "network or broadcast"),
        ("10.134.0.1", "outside"),
        ("fd00::1", "outside"),
        ("10.133.0.1", "prod/web-1 holds it"),
        ("10.133.0.2", r"reserved \(theirs\)"),
        ("10.133.0.3", "ipamblock/10-133-0-0-26 uses it"),
    ],
)
def test_reserve_with_an_unavailable_address_reserves_nothing(cluster: FakeCluster, address: str, why: str) -> None:
    cluster.vm()
    cluster.attach()
    cluster.reserve("10.133.0.2", note="theirs")
    cluster.hold_by_pod("10.133.0.3")
    before = cluster.holders()
    with pytest.raises(PreconditionFailed, match=why):
        cluster.reserve("10.133.0.99", address, note="mine")
    assert cluster.holders() == before


def test_reserve_count_skips_addresses_in_ipam(cluster: FakeCluster) -> None:
    cluster.hold_by_pod("10.133.0.1")
    assert list(cluster.reserve(count=2).results) == ["10.133.0.2", "10.133.0.3"]


def test_reserve_without_permission_is_an_error(cluster: FakeCluster) -> None:
    cluster.api.refuse("patch", NETWORKWIZARD)
    with pytest.raises(ApiError, match="may not patch"):
        cluster.reserve("10.133.0.9")
    assert cluster.records() == {}


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("network", ["blue", "lab"])
def test_attach_continuing_during_a_detach_leaves_no_unrecorded_address(
    cluster: FakeCluster, network: str, killed: bool
) -> None:
    """The VM requests the network only, so removing the request touches nothing that the attachment writes."""
    layer2(cluster)
    cluster.vm()
    annotation_key = {BACKENDS["calico"].annotation_key: network}
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["metadata"].update(annotations=annotation_key))
    request = AttachRequest(("prod", network), (("prod", "web-1"),))
    plan = plan_attach(request, PlanContext(new_snapshot(cluster.api), BACKENDS, RunContext()))
    changes = [*plan]
    place = next(place for place, change in enumerate(changes) if change.ref.resource == VM)
    for change in changes[:place]:
        send_change(change, cluster.api, dry_run=False, waiters={})
    held = {address for address, holder in cluster.holders(network).items() if holder == "prod/web-1"}
    detaching = cluster.second_client(1)

    def attachment_goes_on(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == VM:
            detaching.api.before[:] = [dies] if killed else []
            for change in changes[place:]:
                send_change(change, cluster.api, dry_run=False, waiters={})

    def dies(verb: str, ref: ObjectRef) -> None:
        if not held & cluster.holders(network).keys():
            raise KeyboardInterrupt

    detaching.api.before[:] = [attachment_goes_on]
    with suppress(KeyboardInterrupt):
        detaching.detach(network=f"prod/{network}")
    cluster.vm("other")
    other = cluster.attach("other", network=f"prod/{network}").results["prod/other"]
    assert other in held
    assert other not in json.dumps(cluster.now().raw["spec"])
