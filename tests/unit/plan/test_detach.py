"""Detaching, and giving back: the template first, then the record, and only what nothing uses (I5)."""

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
from tests.unit.plan.fake_cluster import BACKENDS, World, refusal, wishes
from tests.unit.plan.test_layer2 import layer2

pytestmark = pytest.mark.I5

BLUE = NETWORKWIZARD.ref("blue", "prod")


def test_a_halted_vm_is_as_it_was_before_it_was_attached(world: World) -> None:
    template = {"metadata": {"annotations": {"team": "a"}}, "spec": {"domain": {"devices": {}}, "new": [1]}}
    before = world.vm(template=template)
    world.attach()
    world.api.writes.clear()
    done = world.detach()
    assert done.plan.results == {"prod/web-1": "10.133.0.1"}
    assert world.now().raw["spec"] == before.raw["spec"]
    assert wishes(world.now()) is None
    assert world.records() == {}
    assert world.api.writes == ["patch virtualmachine/web-1", "patch networkwizard/blue status"]


def test_the_same_again_changes_nothing(world: World) -> None:
    world.vm()
    world.attach()
    world.detach()
    world.api.writes.clear()
    done = world.detach()
    assert not done.errors
    assert not done.has_changed()
    assert world.api.writes == []


def test_the_last_address_of_a_block_leaves_the_block_as_long_as_its_history_is_worth_knowing() -> None:
    world = World()
    world.network(cidr="10.0.0.0/8")
    world.vm()
    world.attach()
    assert len(world.api.every(ADDRESSBLOCK)) == 1
    world.detach()
    (block,) = world.api.every(ADDRESSBLOCK)
    assert block["status"]["allocations"] == {}
    assert len(block["status"]["history"]) == 1


def test_what_calico_holds_for_a_halted_vm_is_released_before_the_template_and_the_record_are(world: World) -> None:
    world.running(pin="10.133.0.7")
    world.attach()
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    world.time_passes()
    assert world.held_in_calico() == {"10.133.0.7": "k8s-pod-network.vmi.prod.web-1"}
    world.api.writes.clear()
    world.detach()
    assert [write.split("/")[0] for write in world.api.writes] == [
        "replace ipamblock",
        "delete ipamhandle",
        "patch virtualmachine",
        "patch networkwizard",
    ]
    assert world.held_in_calico() == {}
    assert world.records() == {}


def test_a_running_vm_keeps_its_record_and_is_said_to_need_a_restart(world: World) -> None:
    world.running(pin="10.133.0.7")
    world.attach()
    done = world.detach()
    assert world.pin() == ""
    assert world.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("restart needed: virtualmachine/web-1" in note and "10.133.0.7" in note for note in done.notes)
    assert any("10.133.0.7 stays recorded for prod/web-1" in note for note in done.notes)
    assert world.runs_with() == "10.133.0.7"


@pytest.mark.parametrize("spec", [{"runStrategy": "Always"}, {"runStrategy": "RerunOnFailure"}, {"running": True}])
def test_with_restart_a_running_vm_is_stopped_released_and_started(world: World, spec: dict[str, Any]) -> None:
    world.running(pin="10.133.0.7", **spec)
    world.attach()
    done = world.detach(restart=True)
    assert not done.errors
    world.time_passes()
    assert world.records() == {}
    assert world.runs_with() not in ("", "10.133.0.7")
    assert {key: world.now().raw["spec"].get(key) for key in spec} == spec
    assert START_AGAIN_ANNOTATION not in world.now().annotations


@pytest.mark.parametrize("spec", [{"runStrategy": "Always"}, {"runStrategy": "RerunOnFailure"}, {"running": True}])
def test_what_was_stopped_in_vain_is_started_again_as_it_was(world: World, spec: dict[str, Any]) -> None:
    world.running(pin="10.133.0.7", **spec)
    world.attach()
    world.may_not_write_calicos_books(reviews=False)
    for _ in range(2):
        done = world.detach(restart=True)
        world.time_passes()
        assert "may not update ipamblocks" in refusal(done).message
        assert world.runs_with() == "10.133.0.7"
        assert {key: world.now().raw["spec"].get(key) for key in spec} == spec
        assert START_AGAIN_ANNOTATION not in world.now().annotations
    assert world.holders() == {"10.133.0.7": "prod/web-1"}


def test_the_record_of_a_vm_that_was_detached_while_it_ran_goes_when_it_is_detached_again(world: World) -> None:
    world.running(pin="10.133.0.7")
    world.attach()
    world.detach()
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    world.time_passes()
    world.detach()
    assert world.records() == {}
    assert world.held_in_calico() == {}


@pytest.mark.parametrize("kind", [VMI, POD], ids=["instances", "pods"])
@pytest.mark.parametrize("running", [True, False])
def test_a_record_stays_if_whether_the_vm_runs_cannot_be_told(kind: Any, running: bool) -> None:
    world = World(keeps=False)
    world.network()
    if running:
        world.running(pin="10.133.0.7")
    else:
        world.vm(pin="10.133.0.7")
    world.attach()
    for verb in ("get", "list"):
        world.api.refuse(verb, kind)
    done = world.detach()
    assert world.pin() == ""
    assert world.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("10.133.0.7 stays recorded" in note for note in done.notes)


def test_a_record_stays_if_what_calico_holds_cannot_be_told(world: World) -> None:
    world.vm()
    world.attach()
    world.api.refuse("get", RAW.handle)
    done = world.detach()
    assert world.holders() == {"10.133.0.1": "prod/web-1"}
    assert any("cannot check whether Calico still holds it" in note for note in done.notes)


def test_a_vm_that_may_not_be_read_is_not_taken_for_gone(world: World) -> None:
    world.vm()
    world.attach()
    world.api.refuse("get", VM)
    assert "cannot be read" in refusal(world.detach()).message
    assert world.holders() == {"10.133.0.1": "prod/web-1"}


def test_a_vm_that_may_not_be_patched_keeps_its_record(world: World) -> None:
    world.vm()
    world.attach()
    world.api.refuse("patch", VM)
    assert isinstance(refusal(world.detach()), ApiError)
    assert world.holders() == {"10.133.0.1": "prod/web-1"}
    world.check()


def test_a_vm_that_is_gone_gives_its_address_back(world: World) -> None:
    world.vm()
    world.attach()
    world.drop_vm()
    assert world.detach().plan.results == {"prod/web-1": "10.133.0.1"}
    assert world.records() == {}


def test_a_vm_that_is_gone_while_its_pod_still_runs_keeps_its_record(world: World) -> None:
    world.running(pin="10.133.0.7")
    world.attach()
    pod = world.api.get(POD.ref("virt-launcher-web-1", "prod"))
    world.drop_vm()
    world.api.put(POD, pod)
    done = world.detach()
    assert world.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("pod/virt-launcher-web-1" in note for note in done.notes)


@pytest.mark.parametrize("name", ["web-1", "web.one"])
def test_a_record_stays_as_long_as_the_pod_is_there_though_the_guest_has_ended(name: str) -> None:
    world = World(keeps=False)
    world.network()
    world.running(name, pin="10.133.0.7")
    world.attach(name)
    world.api.drop(VMI.ref(name, "prod"))
    done = world.detach(name)
    assert world.holders() == {"10.133.0.7": f"prod/{name}"}
    assert any(f"pod/virt-launcher-{name}" in note for note in done.notes), done.notes


def test_a_vm_that_never_was_is_refused(world: World) -> None:
    assert 'VM "web-1" not found' in refusal(world.detach()).message


def test_the_records_of_others_stay(world: World) -> None:
    names = ("web-1", "web-2", "web-3")
    for name in names:
        world.vm(name)
    world.attach(*names)
    world.reserve("10.133.0.99")
    world.detach("web-1", "web-3")
    assert world.holders() == {"10.133.0.2": "prod/web-2", "10.133.0.99": "reserved"}
    world.check()


def test_a_pin_on_another_network_stays(world: World) -> None:
    world.network("red", "10.144.0.0/24")
    world.vm()
    world.attach(network="prod/red")
    done = world.detach(network="prod/blue")
    assert not done.has_changed()
    assert world.pin() == "10.144.0.1"
    assert wishes(world.now()) == "red"


def test_a_record_that_another_vm_got_meanwhile_is_not_given_back(world: World) -> None:
    world.vm("web-1")
    world.vm("web-2")
    world.attach("web-1")
    record = world.records()["10.133.0.1"].to_json()

    def change(obj: Json) -> None:
        obj["status"]["allocations"]["10.133.0.1"] = {**record, "name": "web-2", "uid": world.now("web-2").uid}

    def meanwhile(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref == BLUE:
            world.api.before.clear()
            world.api.change(BLUE, change)

    world.api.before.append(meanwhile)
    world.detach("web-1")
    assert world.holders() == {"10.133.0.1": "prod/web-2"}


def test_a_detachment_that_was_killed_is_finished_by_the_same_command(world: World) -> None:
    world.vm()
    world.attach()

    def die(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref == BLUE:
            raise KeyboardInterrupt

    world.api.before.append(die)
    with pytest.raises(KeyboardInterrupt):
        world.detach()
    world.api.before.clear()
    assert world.pin() == ""
    assert world.holders() == {"10.133.0.1": "prod/web-1"}
    world.detach()
    assert world.records() == {}


def test_the_originals_record_goes_with_its_vm() -> None:
    for cidr in ("10.133.0.0/24", "10.133.0.0/16"):
        world = World()
        world.network(cidr=cidr)
        world.vm(pin="10.133.0.5")
        world.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.5": "web-1"}))
        world.detach()
        assert world.records() == {}
        assert world.pin() == ""


def test_annotations_that_are_not_ours_stay_on_the_template(world: World) -> None:
    world.vm(template={"metadata": {"annotations": {"cni.projectcalico.org/ipv4pools": '["x"]'}}, "spec": {}})
    world.attach()
    assert {IP_ADDRS_ANNOTATION, HW_ADDR_ANNOTATION} <= set(world.now().template_annotations)
    world.detach()
    assert world.now().template_annotations == {"cni.projectcalico.org/ipv4pools": '["x"]'}


# -- ips release ----------------------------------------------------------------------------------------------------


def test_a_reservation_is_released_and_released_again(world: World) -> None:
    world.reserve("10.133.0.9", "10.133.0.10", note="printer")
    done = world.release("10.133.0.9")
    assert done.plan.results == {"10.133.0.9": "reserved (printer)"}
    assert world.holders() == {"10.133.0.10": "reserved (printer)"}
    assert not world.release("10.133.0.9").has_changed()


def test_an_address_that_a_vm_carries_is_not_released(world: World) -> None:
    world.vm()
    world.attach()
    refused = refusal(world.release("10.133.0.1"), "10.133.0.1")
    assert "still requests it" in refused.message
    assert "vm detach web-1" in refused.hint
    world.check()


@pytest.mark.parametrize(
    ("refused", "says"),
    [(("list",), "still requests it"), (("list", "get"), "cannot check whether the VM requests it: may not get")],
)
def test_an_address_is_not_released_where_vms_may_not_be_seen(world: World, refused: tuple[str], says: str) -> None:
    world.vm()
    world.attach()
    for verb in refused:
        world.api.refuse(verb, VM)
    assert says in refusal(world.release("10.133.0.1"), "10.133.0.1").message
    assert world.holders() == {"10.133.0.1": "prod/web-1"}


def test_an_address_that_a_vm_still_runs_with_is_not_released(world: World) -> None:
    world.running(pin="10.133.0.7")
    world.attach()
    world.detach()
    assert "as long as virtualmachineinstance/web-1" in refusal(world.release("10.133.0.7"), "10.133.0.7").message
    assert world.holders() == {"10.133.0.7": "prod/web-1"}


def test_an_address_of_a_vm_that_is_gone_is_released_in_calico_too(world: World) -> None:
    world.vm()
    world.attach()
    world.hold("10.133.0.1", "k8s-pod-network.vmi.prod.web-1")
    world.drop_vm()
    assert not world.release("10.133.0.1").errors
    assert world.records() == {}
    assert world.held_in_calico() == {}


def test_what_may_not_be_written_is_refused_and_not_tried_for_ever(world: World) -> None:
    world.reserve("10.133.0.9")
    world.api.refuse("patch", NETWORKWIZARD)
    world.api.tried.clear()
    done = world.release("10.133.0.9")
    assert any("may not patch" in error.message for error in done.errors.values())
    assert world.api.tried[("patch", "networkwizards")] < 5
    assert world.holders() == {"10.133.0.9": "reserved"}


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
@pytest.mark.parametrize("address", ["10.200.0.1", "fd00::1"])
def test_an_address_of_another_network_is_refused(cidr: str, address: str) -> None:
    world = World()
    world.network(cidr=cidr)
    with pytest.raises(PreconditionFailed, match="is not an address of network prod/blue"):
        world.release(address)


# -- ips reserve ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_the_addresses_named_are_reserved_once(cidr: str) -> None:
    world = World()
    world.network(cidr=cidr)
    done = world.reserve("10.133.0.9", "10.133.0.77", note="printer")
    assert list(done.results) == ["10.133.0.9", "10.133.0.77"]
    assert world.holders() == {"10.133.0.9": "reserved (printer)", "10.133.0.77": "reserved (printer)"}
    assert not world.reserve("10.133.0.9", "10.133.0.77", note="printer").has_changed()
    world.check()


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16", "fd00::/64"])
def test_as_many_as_wanted_are_reserved(cidr: str) -> None:
    world = World()
    world.network(cidr=cidr)
    done = world.reserve(count=5)
    assert len(done.results) == 5
    assert set(world.records()) == set(done.results)
    world.check()


def test_more_than_there_are_free_are_not_reserved_at_all() -> None:
    world = World()
    world.network(cidr="10.133.0.0/29")
    with pytest.raises(PreconditionFailed, match="is full"):
        world.reserve(count=7)
    assert world.records() == {}


def test_all_of_a_block_and_more_are_reserved_though_somebody_is_faster_in_one_of_them() -> None:
    world = World()
    world.network(cidr="10.133.0.0/22")
    seen: list[ObjectRef] = []

    def faster(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == ADDRESSBLOCK:
            seen.append(ref)
            if len(seen) == 1:
                world.api.before.clear()
                first = ref.name.removeprefix("blue.").removesuffix(".0")
                world.reserve(f"{first}.50", note="theirs")

    world.api.before.append(faster)
    done = world.reserve(count=300, note="mine")
    mine = [address for address, holder in world.holders().items() if holder == "reserved (mine)"]
    assert len(mine) == 300
    assert sorted(done.results) == sorted(mine)
    world.check()


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
def test_what_is_not_free_is_not_reserved_and_nothing_beside_it(world: World, address: str, why: str) -> None:
    world.vm()
    world.attach()
    world.reserve("10.133.0.2", note="theirs")
    world.hold_by_pod("10.133.0.3")
    before = world.holders()
    with pytest.raises(PreconditionFailed, match=why):
        world.reserve("10.133.0.99", address, note="mine")
    assert world.holders() == before


def test_calicos_own_addresses_are_not_among_those_that_are_chosen(world: World) -> None:
    world.hold_by_pod("10.133.0.1")
    assert list(world.reserve(count=2).results) == ["10.133.0.2", "10.133.0.3"]


def test_reserving_without_the_right_is_an_error(world: World) -> None:
    world.api.refuse("patch", NETWORKWIZARD)
    with pytest.raises(ApiError, match="may not patch"):
        world.reserve("10.133.0.9")
    assert world.records() == {}


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("network", ["blue", "lab"])
def test_an_attachment_that_goes_on_while_its_vm_is_detached_leaves_no_address_without_a_record(
    world: World, network: str, killed: bool
) -> None:
    """The VM wishes for the network only, so taking the wish off touches nothing that the attachment writes."""
    layer2(world)
    world.vm()
    annotation_key = {BACKENDS["calico"].annotation_key: network}
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["metadata"].update(annotations=annotation_key))
    request = AttachRequest(("prod", network), (("prod", "web-1"),))
    plan = plan_attach(request, PlanContext(new_snapshot(world.api), BACKENDS, RunContext()))
    changes = [*plan]
    place = next(place for place, change in enumerate(changes) if change.ref.resource == VM)
    for change in changes[:place]:
        send_change(change, world.api, dry_run=False, waiters={})
    held = {address for address, holder in world.holders(network).items() if holder == "prod/web-1"}
    detaching = world.twin(1)

    def attachment_goes_on(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == VM:
            detaching.api.before[:] = [dies] if killed else []
            for change in changes[place:]:
                send_change(change, world.api, dry_run=False, waiters={})

    def dies(verb: str, ref: ObjectRef) -> None:
        if not held & world.holders(network).keys():
            raise KeyboardInterrupt

    detaching.api.before[:] = [attachment_goes_on]
    with suppress(KeyboardInterrupt):
        detaching.detach(network=f"prod/{network}")
    world.vm("other")
    other = world.attach("other", network=f"prod/{network}").results["prod/other"]
    assert other in held
    assert other not in json.dumps(world.now().raw["spec"])
