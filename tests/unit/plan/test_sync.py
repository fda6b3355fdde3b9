"""`sync` on a small cluster: annotations of VMs and NetworkWizards are reconciled.

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
from kubectl_yoshi.engine.loop import RunOptions
from kubectl_yoshi.engine.sync import SyncReport, sync
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import EVENT, Json, ObjectRef, dig
from kubectl_yoshi.model.vm import VM, VMI, Vm
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION
from kubectl_yoshi.plan.sync.planner import SyncScope
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import BACKENDS, SERVED, FakeCluster, requested_network, wizard

NETWORK_NAME = BACKENDS["calico"].annotation_key


@pytest.fixture
def cluster() -> FakeCluster:
    return small_cluster()


def small_cluster(keeps: bool = True) -> FakeCluster:
    made = FakeCluster(keeps)
    made.api.served = served((*SERVED, EVENT))
    return made


def passed(cluster: FakeCluster, scope: SyncScope | None = None, **options: Any) -> SyncReport:
    return sync(scope or SyncScope(None), BACKENDS, cluster.api, **options)  # type: ignore[arg-type]


def annotate_with_network(
    cluster: FakeCluster, network: str, name: str = "web-1", namespace: str = "prod", **more: Any
) -> Vm:
    """A VM that asks for a network."""
    made = cluster.vm(name, namespace, **more)
    return annotate(cluster, made, NETWORK_NAME, network)


def annotate(cluster: FakeCluster, vm: Vm, key: str, value: str | None) -> Vm:
    def change(obj: Json) -> None:
        annotations = obj["metadata"].setdefault("annotations", {})
        if value is None:
            annotations.pop(key)
        else:
            annotations[key] = value

    cluster.api.change(vm.ref, change)
    return cluster.now(vm.name, vm.namespace)


def network_by_kubectl(cluster: FakeCluster, name: str = "blue", cidr: str = "10.133.0.0/24", **spec: Any) -> None:
    cluster.api.put(NETWORKWIZARD, wizard(name, cidr, **spec))


def status(cluster: FakeCluster, name: str = "blue") -> Json:
    return dict(cluster.api.get(NETWORKWIZARD.ref(name, "prod"))["status"])


def events(cluster: FakeCluster) -> list[Json]:
    return cluster.api.every(EVENT)


# -- what is asked for is reconciled ----------------------------------------------------------------------------------


def test_sync_creates_the_network_and_attaches_the_vm(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster)
    annotate_with_network(cluster, "blue")
    report = passed(cluster)
    assert not report.failure_count
    assert cluster.pin() == "10.133.0.1"
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    assert status(cluster)["created"] is True
    assert cluster.api.look(RAW.pool.ref("prod.blue"))
    cluster.check()


def test_second_sync_changes_nothing_with_few_requests(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster)
    for number in range(5):
        annotate_with_network(cluster, "blue", f"web-{number}")
    passed(cluster)
    cluster.api.writes.clear()
    cluster.api.tried.clear()
    report = passed(cluster)
    assert not report.executed
    assert not cluster.api.writes
    assert (report.sync_plan.networks, report.sync_plan.vms) == (1, 5)
    assert cluster.api.tried[("get", "virtualmachines")] == 0, "one list tells of all"


def test_annotation_names_a_network_of_another_namespace(cluster: FakeCluster) -> None:
    cluster.network()
    annotate_with_network(cluster, "prod/blue", namespace="shop")
    assert not passed(cluster, SyncScope("shop")).failure_count
    assert cluster.pin(namespace="shop") == "10.133.0.1"
    assert requested_network(cluster.now(namespace="shop")) == "prod/blue"


def test_sync_is_limited_to_its_scope(cluster: FakeCluster) -> None:
    cluster.network()
    annotate_with_network(cluster, "blue", "web-1")
    annotate_with_network(cluster, "blue", "web-2")
    annotate_with_network(cluster, "prod/blue", "web-3", "shop")
    passed(cluster, SyncScope("prod", frozenset(), frozenset({("prod", "web-2")}), include_orphans=False))
    assert cluster.holders() == {"10.133.0.1": "prod/web-2"}
    passed(cluster, SyncScope("shop"))
    assert sorted(cluster.holders().values()) == ["prod/web-2", "shop/web-3"]


def test_sync_dry_run_shows_everything_and_writes_nothing(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster)
    annotate_with_network(cluster, "blue")
    cluster.api.writes.clear()
    report = passed(cluster, options=RunOptions("client"))
    assert not cluster.api.writes
    assert [change.ref.resource.kind for change in report.plan] == ["IPPool", "NetworkWizard", "VirtualMachine"]
    assert not passed(cluster, options=RunOptions("server")).failure_count
    assert not cluster.api.writes


def test_sync_does_nothing_after_a_stop_request(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster)
    report = passed(cluster, should_stop=lambda: True)
    assert not report.executed


# -- one VM's trouble is its own ------------------------------------------------------------------------------------


def test_failing_vm_gets_an_event_and_does_not_stop_the_others(cluster: FakeCluster) -> None:
    cluster.network()
    lost = annotate_with_network(cluster, "nowhere", "lost")
    annotate_with_network(cluster, "blue", "web-1")
    report = passed(cluster)
    assert cluster.pin("web-1") == "10.133.0.1"
    assert [*report.vm_errors] == [("prod", "lost")]
    assert report.failure_count == 1
    (event,) = events(cluster)
    assert event["involvedObject"] == {
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "namespace": "prod", "name": "lost", "uid": lost.uid,
    }  # fmt: skip
    assert event["reason"] == "AddressRefused"
    assert event["type"] == "Warning"
    assert event["source"] == {"component": "kubectl-yoshi"}
    assert 'network "nowhere" not found' in event["message"]


def test_each_vm_without_address_on_a_full_network_gets_an_event(cluster: FakeCluster) -> None:
    cluster.network("blue", "10.133.0.0/30")
    for number in range(4):
        annotate_with_network(cluster, "blue", f"web-{number}")
    report = passed(cluster)
    assert len(cluster.holders()) == 2
    assert len(report.vm_errors) == 2
    assert all("full" in error.message for error in report.vm_errors.values())
    assert len(events(cluster)) == 2


def test_repeated_event_is_updated_rarely(cluster: FakeCluster) -> None:
    annotate_with_network(cluster, "nowhere")
    passed(cluster)
    passed(cluster)
    assert [event["count"] for event in events(cluster)] == [1]
    long_ago = (datetime.now(timezone.utc) - timedelta(minutes=11)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (event,) = events(cluster)
    cluster.api.put(EVENT, {**event, "lastTimestamp": long_ago})
    passed(cluster)
    (event,) = events(cluster)
    assert event["count"] == 2
    assert event["lastTimestamp"] > long_ago


@pytest.mark.parametrize("verb", ["create", "get"])
def test_forbidden_events_are_reported_by_a_note(cluster: FakeCluster, verb: str) -> None:
    annotate_with_network(cluster, "nowhere")
    cluster.api.refuse(verb, EVENT)
    report = passed(cluster)
    assert report.failure_count == 1
    assert any("could not be written on VMs" in note for note in report.notes) == (verb == "create")
    assert len(events(cluster)) == (verb == "get")
    assert passed(cluster).failure_count == 1, "and again"


def test_invalid_annotation_is_reported(cluster: FakeCluster) -> None:
    annotate_with_network(cluster, "a/b/c")
    report = passed(cluster)
    assert '"a/b/c" is not the name of a network' in report.vm_errors[("prod", "web-1")].message
    assert len(events(cluster)) == 1


def test_changed_annotation_does_not_move_the_vm(cluster: FakeCluster) -> None:
    cluster.network()
    cluster.network("green", "10.134.0.0/24")
    annotate_with_network(cluster, "blue")
    passed(cluster)
    annotate(cluster, cluster.now(), NETWORK_NAME, "green")
    report = passed(cluster)
    message = report.vm_errors[("prod", "web-1")].message
    assert "10.133.0.1" in message
    assert "green" not in message, "it is not on green"
    assert cluster.pin() == "10.133.0.1"
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}


def test_removed_annotation_keeps_the_address(cluster: FakeCluster) -> None:
    cluster.network()
    annotate_with_network(cluster, "blue")
    passed(cluster)
    annotate(cluster, cluster.now(), NETWORK_NAME, None)
    cluster.api.writes.clear()
    report = passed(cluster)
    assert not report.failure_count
    assert not cluster.api.writes
    assert cluster.pin() == "10.133.0.1"
    assert any("vm detach web-1 -n prod --network prod/blue" in note for note in report.notes)


# -- networks --------------------------------------------------------------------------------------------------------


def test_failed_network_has_a_status_reason_and_attaches_no_vm(cluster: FakeCluster) -> None:
    cluster.network("first", "10.133.0.0/16")
    cluster.api.clock.time += 5
    network_by_kubectl(cluster, "second", "10.133.7.0/24")
    cluster.network("other", "10.134.0.0/24")
    annotate_with_network(cluster, "second", "web-1")
    annotate_with_network(cluster, "other", "web-2")
    report = passed(cluster)
    assert "overlaps network prod/first" in report.network_errors[("prod", "second")].message
    assert status(cluster, "second")["created"] is False
    assert "overlaps network prod/first" in status(cluster, "second")["reason"]
    assert "network prod/second is not ready" in report.vm_errors[("prod", "web-1")].message
    assert not cluster.pin("web-1")
    assert cluster.pin("web-2") == "10.134.0.1"
    cluster.api.writes.clear()
    passed(cluster)
    assert not cluster.api.writes, "the reason is written once"


def test_attached_vm_is_not_affected_by_a_failing_network(cluster: FakeCluster) -> None:
    cluster.network()
    annotate_with_network(cluster, "blue")
    passed(cluster)
    cluster.api.put(RAW.pool, {"metadata": {"name": "rival"}, "spec": {"cidr": "10.133.0.0/25"}})
    report = passed(cluster)
    assert "ippool/rival" in report.network_errors[("prod", "blue")].message
    assert not report.vm_errors
    assert not events(cluster)


def test_refused_pool_is_the_status_reason(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster)
    cluster.api.refuse("create", RAW.pool, 422, "a webhook says no")
    report = passed(cluster)
    assert "a webhook says no" in report.network_errors[("prod", "blue")].message
    assert "a webhook says no" in status(cluster)["reason"]
    assert status(cluster)["created"] is False
    cluster.api.allow_everything()
    assert not passed(cluster).failure_count
    assert (status(cluster)["created"], status(cluster)["reason"]) == (True, "")


def test_invalid_spec_is_the_status_reason(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster, range_start="10.9.0.1")
    report = passed(cluster)
    assert "range_start" in report.network_errors[("prod", "blue")].message
    assert "range_start" in status(cluster)["reason"]


def test_sync_without_permission_for_pools_attaches_but_checks_no_network(cluster: FakeCluster) -> None:
    cluster.network()
    before = status(cluster)
    annotate_with_network(cluster, "blue")
    cluster.api.refuse("list", RAW.pool)
    report = passed(cluster, SyncScope("prod"))
    assert not report.network_errors
    assert any("network prod/blue is skipped" in note for note in report.notes)
    assert status(cluster)["conditions"] == before["conditions"]
    assert cluster.pin() == "10.133.0.1"


def test_unreadable_kinds_are_reported_in_one_line(cluster: FakeCluster) -> None:
    cluster.network()
    annotate_with_network(cluster, "blue")
    for resource in (RAW.pool, RAW.block, RAW.handle, RAW.config):
        cluster.api.refuse("list", resource)
        cluster.api.refuse("get", resource)
    lines = [line for line in passed(cluster, SyncScope("prod")).lines if line.startswith("not seen")]
    assert len(lines) == 1
    assert "ipamhandles" in lines[0]


def test_no_vm_is_attached_to_an_uninitialized_network(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster)
    annotate_with_network(cluster, "blue")
    cluster.api.refuse("list", RAW.pool)
    assert "it is not initialized yet" in passed(cluster, SyncScope("prod")).vm_errors[("prod", "web-1")].message
    assert not cluster.pin()
    cluster.api.allow_everything()
    assert not passed(cluster).failure_count
    assert cluster.pin() == "10.133.0.1"


def test_vm_is_attached_to_a_network_created_concurrently(cluster: FakeCluster) -> None:
    network_by_kubectl(cluster)
    annotate_with_network(cluster, "blue")

    def another_run_makes_it(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("list", RAW.pool):
            cluster.api.before.clear()
            cluster.sync_network()

    cluster.api.before.append(another_run_makes_it)
    assert not passed(cluster, SyncScope(None, include_orphans=False)).failure_count
    assert cluster.pin() == "10.133.0.1"


def test_note_of_a_vm_is_not_repeated_for_the_next(cluster: FakeCluster) -> None:
    cluster.network()
    cluster.api.put(RAW.config, {"metadata": {"name": "default"}, "spec": {"strictAffinity": True}})
    annotate_with_network(cluster, "blue", "web-1")
    assert any("virtualmachine/web-1 " in note for note in passed(cluster).lines)
    annotate_with_network(cluster, "blue", "web-2")
    lines = passed(cluster).lines
    assert any("virtualmachine/web-2 " in note for note in lines)
    assert not any("web-1" in note for note in lines)


def test_unreadable_networks_and_vms_are_an_error(cluster: FakeCluster) -> None:
    cluster.api.refuse("list", NETWORKWIZARD)
    cluster.api.refuse("list", VM)
    with pytest.raises(PreconditionFailed, match="neither networks nor VMs can be read"):
        passed(cluster)


def test_missing_crds_are_an_error_with_a_hint(cluster: FakeCluster) -> None:
    cluster.api.served = served(resource for resource in SERVED if resource != NETWORKWIZARD)
    with pytest.raises(PreconditionFailed, match="kubectl yoshi install"):
        passed(cluster)


# -- leftovers -------------------------------------------------------------------------------------------------------


def test_pool_of_a_network_deleted_with_kubectl_is_deleted(cluster: FakeCluster) -> None:
    cluster.network()
    cluster.api.drop(NETWORKWIZARD.ref("blue", "prod"))
    report = passed(cluster)
    assert not report.failure_count
    assert cluster.api.look(RAW.pool.ref("prod.blue")) is None


def test_network_recreated_with_kubectl_takes_over_its_pool(cluster: FakeCluster) -> None:
    cluster.network()
    cluster.running("web-1", pin="10.133.0.10")
    cluster.api.drop(NETWORKWIZARD.ref("blue", "prod"))
    network_by_kubectl(cluster)
    assert not passed(cluster).failure_count
    marks = cluster.api.get(RAW.pool.ref("prod.blue"))["metadata"]["annotations"]
    assert (
        marks["plumber.k8s.pf9.io/networkUID"] == cluster.api.get(NETWORKWIZARD.ref("blue", "prod"))["metadata"]["uid"]
    )
    assert status(cluster)["created"] is True


def test_pool_of_a_network_created_concurrently_is_kept(cluster: FakeCluster) -> None:
    def another_run_makes_a_network(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("list", RAW.pool):
            cluster.api.before.clear()
            cluster.network()

    cluster.api.before.append(another_run_makes_a_network)
    passed(cluster, SyncScope(None))
    assert cluster.api.look(RAW.pool.ref("prod.blue"))


# -- restarts that were cut off -------------------------------------------------------------------------------------


def test_vm_stopped_by_a_killed_attach_is_started(cluster: FakeCluster) -> None:
    cluster.network()
    annotate_with_network(cluster, "blue")
    passed(cluster)
    annotate(cluster, cluster.now(), START_AGAIN_ANNOTATION, "Always")
    assert not passed(cluster).failure_count
    assert cluster.now().run_strategy == "Always"
    assert START_AGAIN_ANNOTATION not in cluster.now().annotations


def test_killed_detach_of_a_stopped_vm_is_completed(cluster: FakeCluster) -> None:
    cluster.network()
    annotate_with_network(cluster, "blue")
    passed(cluster)

    def as_it_was_left(obj: Json) -> None:
        del obj["spec"]["template"]["metadata"]["annotations"][IP_ADDRS_ANNOTATION]
        obj["metadata"]["annotations"] = {START_AGAIN_ANNOTATION: "Always"}

    cluster.api.change(cluster.now().ref, as_it_was_left)
    assert not passed(cluster).failure_count
    assert cluster.holders() == {}
    assert cluster.now().run_strategy == "Always"
    assert START_AGAIN_ANNOTATION not in cluster.now().annotations


def test_vm_without_network_stopped_by_a_killed_run_is_started(cluster: FakeCluster) -> None:
    annotate(cluster, cluster.vm(running=False), START_AGAIN_ANNOTATION, "running")
    assert not passed(cluster).failure_count
    assert cluster.now().run_strategy == "Always"


@pytest.mark.parametrize("seconds", [5, 1000])
def test_vm_restarted_by_another_run_is_skipped_for_a_while(seconds: int) -> None:
    cluster = small_cluster(keeps=False)
    cluster.network()
    made = cluster.running()
    annotate(cluster, made, NETWORK_NAME, "blue")
    written = (datetime.now(timezone.utc) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def mark(obj: Json) -> None:
        obj["metadata"]["annotations"][START_AGAIN_ANNOTATION] = "Always"
        fields = {"f:metadata": {"f:annotations": {f"f:{START_AGAIN_ANNOTATION}": {}}}}
        obj["metadata"]["managedFields"] = [{"manager": "kubectl-yoshi", "time": written, "fieldsV1": fields}]

    cluster.api.change(made.ref, mark)
    report = passed(cluster)
    if seconds < 60:
        assert report.sync_plan.deferred == {("prod", "web-1")}
        assert not cluster.pin()
        assert START_AGAIN_ANNOTATION in cluster.now().annotations
    else:
        assert not report.sync_plan.deferred
        assert cluster.pin() == "10.133.0.1"
        assert START_AGAIN_ANNOTATION not in cluster.now().annotations, "its run has ended, and the VM runs"


def test_running_vm_with_another_ipam_address_needs_restart(
    cluster: FakeCluster,
) -> None:
    cluster.network()
    annotate(cluster, cluster.running(), NETWORK_NAME, "blue")
    assert "Calico holds" in passed(cluster).vm_errors[("prod", "web-1")].message
    assert len(events(cluster)) == 1
    assert not passed(cluster, SyncScope(None, restart=True)).failure_count
    cluster.time_passes()
    assert cluster.runs_with() == cluster.pin() == "10.133.0.1"
    cluster.check()


def test_running_vms_are_restarted_only_with_restart() -> None:
    cluster = small_cluster(keeps=False)
    cluster.network()
    annotate(cluster, cluster.running(), NETWORK_NAME, "blue")
    report = passed(cluster)
    assert any("restart needed" in note for note in report.notes)
    assert any("restart needed" in note for note in passed(cluster).notes), "still"
    assert cluster.runs_with() != "10.133.0.1"
    passed(cluster, SyncScope(None, restart=True))
    cluster.time_passes()
    assert cluster.runs_with() == "10.133.0.1"
    assert dig(cluster.api.get(VMI.ref("web-1", "prod")), "status", "phase") == "Running"
