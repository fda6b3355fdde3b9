"""`sync` as a whole: what the annotations of VMs and the NetworkWizards ask for, made true in a small cluster.

| What there is                                  | What a pass does                                        |
|------------------------------------------------|---------------------------------------------------------|
| a network, a VM that names it                  | pool, record, pin; a second pass changes nothing        |
| a VM that cannot be helped                     | an Event on it, counted up every 10 minutes; others go on |
| a VM that names another network than it is on  | refused                                                 |
| a VM that names none any more                  | keeps its address, with a note                          |
| a network that cannot be made                  | says so in its status; nobody new is attached           |
| a network that may not be judged               | is skipped                                              |
| a network deleted behind our back              | its pool goes, unless the network came meanwhile        |
| a VM that a killed run had stopped             | is finished and started again                           |
| a VM that another run restarts just now        | is left to that                                         |
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.backend import IP_ADDRS_ANNOTATION
from kubectl_yoshi.engine.sync import SyncReport, sync
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import EVENT, Json, ObjectRef, dig
from kubectl_yoshi.model.vm import VM, VMI, Vm
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION
from kubectl_yoshi.plan.sync.planner import SyncScope
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import BACKENDS, SERVED, World, wishes, wizard

WISH = BACKENDS["calico"].annotation_key


@pytest.fixture
def world() -> World:
    return small_cluster()


def small_cluster(keeps: bool = True) -> World:
    made = World(keeps)
    made.api.served = served((*SERVED, EVENT))
    return made


def passed(world: World, scope: SyncScope | None = None, **options: Any) -> SyncReport:
    return sync(scope or SyncScope(None), BACKENDS, world.api, **options)  # type: ignore[arg-type]


def wish(world: World, network: str, name: str = "web-1", namespace: str = "prod", **more: Any) -> Vm:
    """A VM that asks for a network."""
    made = world.vm(name, namespace, **more)
    return annotate(world, made, WISH, network)


def annotate(world: World, vm: Vm, key: str, value: str | None) -> Vm:
    def change(obj: Json) -> None:
        annotations = obj["metadata"].setdefault("annotations", {})
        if value is None:
            annotations.pop(key)
        else:
            annotations[key] = value

    world.api.change(vm.ref, change)
    return world.now(vm.name, vm.namespace)


def network_by_kubectl(world: World, name: str = "blue", cidr: str = "10.133.0.0/24", **spec: Any) -> None:
    world.api.put(NETWORKWIZARD, wizard(name, cidr, **spec))


def status(world: World, name: str = "blue") -> Json:
    return dict(world.api.get(NETWORKWIZARD.ref(name, "prod"))["status"])


def events(world: World) -> list[Json]:
    return world.api.every(EVENT)


# -- what is asked for is made true ----------------------------------------------------------------------------------


def test_a_network_and_a_vm_that_names_it_are_made_true(world: World) -> None:
    network_by_kubectl(world)
    wish(world, "blue")
    report = passed(world)
    assert not report.failure_count
    assert world.pin() == "10.133.0.1"
    assert world.holders() == {"10.133.0.1": "prod/web-1"}
    assert status(world)["created"] is True
    assert world.api.look(RAW.pool.ref("prod.blue"))
    world.check()


def test_a_second_pass_changes_nothing_and_asks_for_little(world: World) -> None:
    network_by_kubectl(world)
    for number in range(5):
        wish(world, "blue", f"web-{number}")
    passed(world)
    world.api.writes.clear()
    world.api.tried.clear()
    report = passed(world)
    assert not report.executed
    assert not world.api.writes
    assert (report.sync_plan.networks, report.sync_plan.vms) == (1, 5)
    assert world.api.tried[("get", "virtualmachines")] == 0, "one list tells of all"


def test_a_network_of_another_namespace_is_named_with_it(world: World) -> None:
    world.network()
    wish(world, "prod/blue", namespace="shop")
    assert not passed(world, SyncScope("shop")).failure_count
    assert world.pin(namespace="shop") == "10.133.0.1"
    assert wishes(world.now(namespace="shop")) == "prod/blue"


def test_only_what_is_in_scope_is_touched(world: World) -> None:
    world.network()
    wish(world, "blue", "web-1")
    wish(world, "blue", "web-2")
    wish(world, "prod/blue", "web-3", "shop")
    passed(world, SyncScope("prod", frozenset(), frozenset({("prod", "web-2")}), include_orphans=False))
    assert world.holders() == {"10.133.0.1": "prod/web-2"}
    passed(world, SyncScope("shop"))
    assert sorted(world.holders().values()) == ["prod/web-2", "shop/web-3"]


def test_a_dry_run_shows_everything_and_writes_nothing(world: World) -> None:
    network_by_kubectl(world)
    wish(world, "blue")
    world.api.writes.clear()
    report = passed(world, dry_run="client")
    assert not world.api.writes
    assert [change.ref.resource.kind for change in report.plan] == ["IPPool", "NetworkWizard", "VirtualMachine"]
    assert not passed(world, dry_run="server").failure_count
    assert not world.api.writes


def test_nothing_is_done_once_it_is_to_end(world: World) -> None:
    network_by_kubectl(world)
    report = passed(world, should_stop=lambda: True)
    assert not report.executed


# -- one VM's trouble is its own ------------------------------------------------------------------------------------


def test_a_vm_that_cannot_be_helped_does_not_stop_the_others_and_is_told(world: World) -> None:
    world.network()
    lost = wish(world, "nowhere", "lost")
    wish(world, "blue", "web-1")
    report = passed(world)
    assert world.pin("web-1") == "10.133.0.1"
    assert [*report.vm_errors] == [("prod", "lost")]
    assert report.failure_count == 1
    (event,) = events(world)
    assert event["involvedObject"] == {
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "namespace": "prod", "name": "lost", "uid": lost.uid,
    }  # fmt: skip
    assert event["reason"] == "AddressRefused"
    assert event["type"] == "Warning"
    assert event["source"] == {"component": "kubectl-yoshi"}
    assert 'network "nowhere" not found' in event["message"]


def test_of_a_full_network_each_vm_that_gets_nothing_is_told(world: World) -> None:
    world.network("blue", "10.133.0.0/30")
    for number in range(4):
        wish(world, "blue", f"web-{number}")
    report = passed(world)
    assert len(world.holders()) == 2
    assert len(report.vm_errors) == 2
    assert all("full" in error.message for error in report.vm_errors.values())
    assert len(events(world)) == 2


def test_the_same_event_is_counted_up_only_now_and_then(world: World) -> None:
    wish(world, "nowhere")
    passed(world)
    passed(world)
    assert [event["count"] for event in events(world)] == [1]
    long_ago = (datetime.now(timezone.utc) - timedelta(minutes=11)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (event,) = events(world)
    world.api.put(EVENT, {**event, "lastTimestamp": long_ago})
    passed(world)
    (event,) = events(world)
    assert event["count"] == 2
    assert event["lastTimestamp"] > long_ago


@pytest.mark.parametrize("verb", ["create", "get"])
def test_without_the_right_to_write_events_there_is_a_note(world: World, verb: str) -> None:
    wish(world, "nowhere")
    world.api.refuse(verb, EVENT)
    report = passed(world)
    assert report.failure_count == 1
    assert any("could not be written on VMs" in note for note in report.notes) == (verb == "create")
    assert len(events(world)) == (verb == "get")
    assert passed(world).failure_count == 1, "and again"


def test_an_annotation_that_cannot_be_read_is_told(world: World) -> None:
    wish(world, "a/b/c")
    report = passed(world)
    assert '"a/b/c" is not the name of a network' in report.vm_errors[("prod", "web-1")].message
    assert len(events(world)) == 1


def test_a_vm_is_not_moved_silently(world: World) -> None:
    world.network()
    world.network("green", "10.134.0.0/24")
    wish(world, "blue")
    passed(world)
    annotate(world, world.now(), WISH, "green")
    report = passed(world)
    message = report.vm_errors[("prod", "web-1")].message
    assert "10.133.0.1" in message
    assert "green" not in message, "it is not on green"
    assert world.pin() == "10.133.0.1"
    assert world.holders() == {"10.133.0.1": "prod/web-1"}


def test_a_vm_that_asks_for_none_any_more_keeps_its_address(world: World) -> None:
    world.network()
    wish(world, "blue")
    passed(world)
    annotate(world, world.now(), WISH, None)
    world.api.writes.clear()
    report = passed(world)
    assert not report.failure_count
    assert not world.api.writes
    assert world.pin() == "10.133.0.1"
    assert any("vm detach web-1 -n prod --network prod/blue" in note for note in report.notes)


# -- networks --------------------------------------------------------------------------------------------------------


def test_a_network_that_cannot_be_made_says_so_and_takes_nobody_in(world: World) -> None:
    world.network("first", "10.133.0.0/16")
    world.api.clock.time += 5
    network_by_kubectl(world, "second", "10.133.7.0/24")
    world.network("other", "10.134.0.0/24")
    wish(world, "second", "web-1")
    wish(world, "other", "web-2")
    report = passed(world)
    assert "overlaps network prod/first" in report.network_errors[("prod", "second")].message
    assert status(world, "second")["created"] is False
    assert "overlaps network prod/first" in status(world, "second")["reason"]
    assert "network prod/second is not ready" in report.vm_errors[("prod", "web-1")].message
    assert not world.pin("web-1")
    assert world.pin("web-2") == "10.134.0.1"
    world.api.writes.clear()
    passed(world)
    assert not world.api.writes, "it is said once"


def test_who_is_on_a_network_already_does_not_suffer_from_its_trouble(world: World) -> None:
    world.network()
    wish(world, "blue")
    passed(world)
    world.api.put(RAW.pool, {"metadata": {"name": "rival"}, "spec": {"cidr": "10.133.0.0/25"}})
    report = passed(world)
    assert "ippool/rival" in report.network_errors[("prod", "blue")].message
    assert not report.vm_errors
    assert not events(world)


def test_a_refused_pool_is_told_in_the_status(world: World) -> None:
    network_by_kubectl(world)
    world.api.refuse("create", RAW.pool, 422, "a webhook says no")
    report = passed(world)
    assert "a webhook says no" in report.network_errors[("prod", "blue")].message
    assert "a webhook says no" in status(world)["reason"]
    assert status(world)["created"] is False
    world.api.allow_everything()
    assert not passed(world).failure_count
    assert (status(world)["created"], status(world)["reason"]) == (True, "")


def test_a_network_whose_spec_cannot_be_is_told_in_its_status(world: World) -> None:
    network_by_kubectl(world, range_start="10.9.0.1")
    report = passed(world)
    assert "range_start" in report.network_errors[("prod", "blue")].message
    assert "range_start" in status(world)["reason"]


def test_who_may_not_see_pools_judges_no_network_but_attaches(world: World) -> None:
    world.network()
    before = status(world)
    wish(world, "blue")
    world.api.refuse("list", RAW.pool)
    report = passed(world, SyncScope("prod"))
    assert not report.network_errors
    assert any("network prod/blue is skipped" in note for note in report.notes)
    assert status(world)["conditions"] == before["conditions"]
    assert world.pin() == "10.133.0.1"


def test_what_may_not_be_read_is_one_line(world: World) -> None:
    world.network()
    wish(world, "blue")
    for resource in (RAW.pool, RAW.block, RAW.handle, RAW.config):
        world.api.refuse("list", resource)
        world.api.refuse("get", resource)
    lines = [line for line in passed(world, SyncScope("prod")).lines if line.startswith("not seen")]
    assert len(lines) == 1
    assert "ipamhandles" in lines[0]


def test_nobody_is_attached_to_a_network_that_nobody_has_made_yet(world: World) -> None:
    network_by_kubectl(world)
    wish(world, "blue")
    world.api.refuse("list", RAW.pool)
    assert "it is not initialized yet" in passed(world, SyncScope("prod")).vm_errors[("prod", "web-1")].message
    assert not world.pin()
    world.api.allow_everything()
    assert not passed(world).failure_count
    assert world.pin() == "10.133.0.1"


def test_a_network_that_another_run_has_just_made_takes_vms_in(world: World) -> None:
    network_by_kubectl(world)
    wish(world, "blue")

    def another_run_makes_it(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("list", RAW.pool):
            world.api.before.clear()
            world.sync_network()

    world.api.before.append(another_run_makes_it)
    assert not passed(world, SyncScope(None, include_orphans=False)).failure_count
    assert world.pin() == "10.133.0.1"


def test_what_was_told_of_a_vm_is_not_told_again_with_the_next(world: World) -> None:
    world.network()
    world.api.put(RAW.config, {"metadata": {"name": "default"}, "spec": {"strictAffinity": True}})
    wish(world, "blue", "web-1")
    assert any("virtualmachine/web-1 " in note for note in passed(world).lines)
    wish(world, "blue", "web-2")
    lines = passed(world).lines
    assert any("virtualmachine/web-2 " in note for note in lines)
    assert not any("web-1" in note for note in lines)


def test_who_may_see_neither_networks_nor_vms_is_told(world: World) -> None:
    world.api.refuse("list", NETWORKWIZARD)
    world.api.refuse("list", VM)
    with pytest.raises(PreconditionFailed, match="neither networks nor VMs can be read"):
        passed(world)


def test_a_cluster_that_knows_no_networks_is_told_how_to(world: World) -> None:
    world.api.served = served(resource for resource in SERVED if resource != NETWORKWIZARD)
    with pytest.raises(PreconditionFailed, match="kubectl yoshi install"):
        passed(world)


# -- leftovers -------------------------------------------------------------------------------------------------------


def test_the_pool_of_a_network_deleted_with_kubectl_goes(world: World) -> None:
    world.network()
    world.api.drop(NETWORKWIZARD.ref("blue", "prod"))
    report = passed(world)
    assert not report.failure_count
    assert world.api.look(RAW.pool.ref("prod.blue")) is None


def test_a_network_made_anew_with_kubectl_takes_over_the_pool_that_its_vms_run_with(world: World) -> None:
    world.network()
    world.running("web-1", pin="10.133.0.10")
    world.api.drop(NETWORKWIZARD.ref("blue", "prod"))
    network_by_kubectl(world)
    assert not passed(world).failure_count
    marks = world.api.get(RAW.pool.ref("prod.blue"))["metadata"]["annotations"]
    assert marks["plumber.k8s.pf9.io/networkUID"] == world.api.get(NETWORKWIZARD.ref("blue", "prod"))["metadata"]["uid"]
    assert status(world)["created"] is True


def test_a_pool_whose_network_came_while_it_looked_stays(world: World) -> None:
    def another_run_makes_a_network(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("list", RAW.pool):
            world.api.before.clear()
            world.network()

    world.api.before.append(another_run_makes_a_network)
    passed(world, SyncScope(None))
    assert world.api.look(RAW.pool.ref("prod.blue"))


# -- restarts that were cut off -------------------------------------------------------------------------------------


def test_a_vm_that_a_killed_attachment_had_stopped_is_started_again(world: World) -> None:
    world.network()
    wish(world, "blue")
    passed(world)
    annotate(world, world.now(), START_AGAIN_ANNOTATION, "Always")
    assert not passed(world).failure_count
    assert world.now().run_strategy == "Always"
    assert START_AGAIN_ANNOTATION not in world.now().annotations


def test_a_vm_that_a_killed_detachment_had_stopped_is_finished(world: World) -> None:
    world.network()
    wish(world, "blue")
    passed(world)

    def as_it_was_left(obj: Json) -> None:
        del obj["spec"]["template"]["metadata"]["annotations"][IP_ADDRS_ANNOTATION]
        obj["metadata"]["annotations"] = {START_AGAIN_ANNOTATION: "Always"}

    world.api.change(world.now().ref, as_it_was_left)
    assert not passed(world).failure_count
    assert world.holders() == {}
    assert world.now().run_strategy == "Always"
    assert START_AGAIN_ANNOTATION not in world.now().annotations


def test_a_stopped_vm_that_is_on_no_network_is_started_again(world: World) -> None:
    annotate(world, world.vm(running=False), START_AGAIN_ANNOTATION, "running")
    assert not passed(world).failure_count
    assert world.now().run_strategy == "Always"


@pytest.mark.parametrize("seconds", [5, 1000])
def test_a_vm_that_another_run_restarts_is_left_to_it_for_a_while(seconds: int) -> None:
    world = small_cluster(keeps=False)
    world.network()
    made = world.running()
    annotate(world, made, WISH, "blue")
    written = (datetime.now(timezone.utc) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def mark(obj: Json) -> None:
        obj["metadata"]["annotations"][START_AGAIN_ANNOTATION] = "Always"
        fields = {"f:metadata": {"f:annotations": {f"f:{START_AGAIN_ANNOTATION}": {}}}}
        obj["metadata"]["managedFields"] = [{"manager": "kubectl-yoshi", "time": written, "fieldsV1": fields}]

    world.api.change(made.ref, mark)
    report = passed(world)
    if seconds < 60:
        assert report.sync_plan.deferred == {("prod", "web-1")}
        assert not world.pin()
        assert START_AGAIN_ANNOTATION in world.now().annotations
    else:
        assert not report.sync_plan.deferred
        assert world.pin() == "10.133.0.1"
        assert START_AGAIN_ANNOTATION not in world.now().annotations, "whoever wrote it is gone, and the VM runs"


def test_a_running_vm_that_calico_holds_another_address_for_is_told_and_with_restart_helped(world: World) -> None:
    world.network()
    annotate(world, world.running(), WISH, "blue")
    assert "Calico holds" in passed(world).vm_errors[("prod", "web-1")].message
    assert len(events(world)) == 1
    assert not passed(world, SyncScope(None, restart=True)).failure_count
    world.time_passes()
    assert world.runs_with() == world.pin() == "10.133.0.1"
    world.check()


def test_running_vms_are_restarted_only_if_that_is_asked_for() -> None:
    world = small_cluster(keeps=False)
    world.network()
    annotate(world, world.running(), WISH, "blue")
    report = passed(world)
    assert any("restart needed" in note for note in report.notes)
    assert any("restart needed" in note for note in passed(world).notes), "still"
    assert world.runs_with() != "10.133.0.1"
    passed(world, SyncScope(None, restart=True))
    world.time_passes()
    assert world.runs_with() == "10.133.0.1"
    assert dig(world.api.get(VMI.ref("web-1", "prod")), "status", "phase") == "Running"
