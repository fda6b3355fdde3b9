"""The work queue of `sync --watch`."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.backend import Calico
from kubectl_yoshi.engine.reflector import ObjectChanged, ObjectsListed
from kubectl_yoshi.engine.sync import SyncReport
from kubectl_yoshi.engine.workqueue import (
    DEBOUNCE_SECONDS,
    DEFERRED_SECONDS,
    FULL_SYNC_SECONDS,
    MAX_DELAY,
    MAX_RETRY_DELAY,
    MIN_RETRY_DELAY,
    WorkQueue,
)
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, NamespacedName
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION
from kubectl_yoshi.plan.sync.planner import SyncPlan, SyncScope

WHOLE = SyncScope(None, restart=True)
WEB, DB, BLUE, GREEN = ("prod", "web"), ("prod", "db"), ("prod", "blue"), ("prod", "green")
BACKEND = Calico()


@pytest.fixture
def attention() -> WorkQueue:
    return WorkQueue(WHOLE, {"calico": BACKEND}, 0.0)


def vm(name: NamespacedName, network: str = "", **more: Any) -> Json:
    annotations = {**({BACKEND.annotation_key: network} if network else {}), **more.pop("annotations", {})}
    return {"metadata": _meta(name, annotations=annotations, **more), "status": {"printableStatus": "Stopped"}}


def network(name: NamespacedName, *held: str, **more: Any) -> Json:
    return {"metadata": _meta(name, **more), "status": {"allocations": {key: {} for key in held}}}


def _meta(name: NamespacedName, **more: Any) -> Json:
    return {"namespace": name[0], "name": name[1], "uid": f"uid-{name[1]}", "generation": 1, **more}


def add_event(attention: WorkQueue, obj: Json, now: float = 0.0, deleted: bool = False) -> None:
    resource = NETWORKWIZARD if "allocations" in obj["status"] else VM
    attention.add_event(ObjectChanged(resource, obj, deleted), now)


def soon(attention: WorkQueue, now: float = 0.0) -> SyncScope:
    """What is looked at once all is quiet."""
    scope = attention.pop_due(now + DEBOUNCE_SECONDS)
    assert scope is not None
    return scope


def failing(attention: WorkQueue, now: float = 0.0, **failed: tuple[NamespacedName, ...]) -> None:
    """A pass over everything in which these failed."""
    report = SyncReport(WHOLE)
    report.vm_errors = {name: PreconditionFailed("no") for name in failed.get("vms", ())}
    report.network_errors = {name: PreconditionFailed("no") for name in failed.get("networks", ())}
    attention.finish(WHOLE, report, now)


def test_new_vm_requesting_a_network_is_queued(attention: WorkQueue) -> None:
    assert attention.pop_due(0.0) is None
    add_event(attention, vm(WEB, "blue"))
    assert soon(attention) == SyncScope(None, frozenset(), frozenset({WEB}), include_orphans=False, restart=True)
    assert attention.pop_due(1.0) is None, "once"


def test_vm_without_request_is_not_queued(attention: WorkQueue) -> None:
    add_event(attention, vm(WEB))
    assert attention.pop_due(1.0) is None


def test_status_change_of_a_vm_is_not_queued(attention: WorkQueue) -> None:
    attention.mark_known([vm(WEB, "blue")], VM.kind)
    changed = vm(WEB, "blue")
    changed["status"]["printableStatus"] = "Running"
    add_event(attention, changed)
    assert attention.pop_due(1.0) is None
    add_event(attention, vm(WEB, "blue", generation=2))
    assert soon(attention).vms == {WEB}


def test_vm_to_start_again_is_queued_when_it_has_stopped(attention: WorkQueue) -> None:
    marked = vm(WEB, annotations={START_AGAIN_ANNOTATION: "Always"})
    marked["status"]["printableStatus"] = "Stopping"
    attention.mark_known([marked], VM.kind)
    stopped = copy.deepcopy(marked)
    stopped["status"]["printableStatus"] = "Stopped"
    add_event(attention, stopped)
    assert soon(attention).vms == {WEB}


def test_events_are_debounced_up_to_a_maximum_delay(attention: WorkQueue) -> None:
    now = 0.0
    while now < MAX_DELAY - DEBOUNCE_SECONDS / 2:
        add_event(attention, vm(("prod", f"web-{now}"), "blue"), now)
        assert attention.pop_due(now) is None
        now += DEBOUNCE_SECONDS / 2
    scope = attention.pop_due(MAX_DELAY)
    assert scope is not None
    assert scope.vms is not None
    assert len(scope.vms) > 5


def test_changed_network_spec_is_queued_and_allocations_are_not(attention: WorkQueue) -> None:
    attention.mark_known([network(BLUE)], NETWORKWIZARD.kind)
    add_event(attention, network(BLUE, "10.0.0.1"))
    assert attention.pop_due(1.0) is None
    add_event(attention, network(BLUE, "10.0.0.1", generation=2), 1.0)
    assert soon(attention, 1.0).networks == {BLUE}


def test_deleted_network_queues_orphans_and_its_vms(attention: WorkQueue) -> None:
    attention.mark_known([network(BLUE), network(GREEN)], NETWORKWIZARD.kind)
    attention.mark_known([vm(WEB, "blue"), vm(DB, "green")], VM.kind)
    add_event(attention, network(BLUE), deleted=True)
    assert soon(attention) == SyncScope(None, frozenset(), frozenset({WEB}), include_orphans=True, restart=True)


def test_object_missing_from_a_new_list_counts_as_deleted(attention: WorkQueue) -> None:
    attention.mark_known([network(BLUE), network(GREEN)], NETWORKWIZARD.kind)
    attention.add_event(ObjectsListed(NETWORKWIZARD, (network(GREEN),)), 0.0)
    assert soon(attention).include_orphans
    attention.add_event(ObjectsListed(NETWORKWIZARD, (network(GREEN), network(BLUE))), 1.0)
    assert soon(attention, 1.0).networks == {BLUE}


def test_failed_vm_is_retried_with_backoff(attention: WorkQueue) -> None:
    attention.mark_known([vm(WEB, "blue")], VM.kind)
    now, waited = 0.0, []
    for _ in range(8):
        failing(attention, now, vms=(WEB,))
        left = attention.seconds_until_due(now)
        waited.append(left)
        now += left
        if now < FULL_SYNC_SECONDS:
            assert attention.pop_due(now) == SyncScope(
                None, frozenset(), frozenset({WEB}), include_orphans=False, restart=True
            )
        else:
            attention.pop_due(now)
    assert waited[:3] == pytest.approx([MIN_RETRY_DELAY, 2 * MIN_RETRY_DELAY, 4 * MIN_RETRY_DELAY])
    assert max(waited) <= MAX_RETRY_DELAY


def test_successful_vm_is_not_retried(attention: WorkQueue) -> None:
    attention.mark_known([vm(WEB, "blue")], VM.kind)
    failing(attention, vms=(WEB,))
    failing(attention)
    assert attention.seconds_until_due(0.0) > MAX_RETRY_DELAY


@pytest.mark.parametrize("what", ["made", "freed", "changed"])
def test_failed_vm_is_retried_at_once_when_its_network_changes(attention: WorkQueue, what: str) -> None:
    attention.mark_known([] if what == "made" else [network(BLUE, "10.0.0.1")], NETWORKWIZARD.kind)
    attention.mark_known([vm(WEB, "blue"), vm(DB, "green")], VM.kind)
    failing(attention, vms=(WEB, DB))
    add_event(attention, network(BLUE, generation=2 if what == "changed" else 1))
    assert soon(attention).vms == {WEB}


def test_failed_vm_is_retried_when_its_network_recovers(attention: WorkQueue) -> None:
    attention.mark_known([vm(WEB, "blue")], VM.kind)
    failing(attention, vms=(WEB,), networks=(BLUE,))
    failing(attention, vms=(WEB,))
    assert soon(attention).vms == {WEB}


def test_deleted_network_retries_a_conflicting_one(attention: WorkQueue) -> None:
    attention.mark_known([network(BLUE), network(GREEN)], NETWORKWIZARD.kind)
    failing(attention, networks=(GREEN,))
    add_event(attention, network(BLUE), deleted=True)
    assert soon(attention).networks == {GREEN}


def test_vm_restarted_by_another_run_is_deferred(attention: WorkQueue) -> None:
    report = SyncReport(WHOLE, SyncPlan(deferred=frozenset({WEB})))
    attention.finish(WHOLE, report, 0.0)
    assert attention.pop_due(DEFERRED_SECONDS - 0.1) is None
    scope = attention.pop_due(DEFERRED_SECONDS)
    assert scope is not None
    assert scope.vms == {WEB}


def test_deleted_vm_is_not_retried(attention: WorkQueue) -> None:
    attention.mark_known([vm(WEB, "blue")], VM.kind)
    failing(attention, vms=(WEB,))
    add_event(attention, vm(WEB, "blue"), deleted=True)
    assert attention.seconds_until_due(0.0) > MAX_RETRY_DELAY


def test_full_sync_is_periodic(attention: WorkQueue) -> None:
    assert attention.pop_due(FULL_SYNC_SECONDS - 1) is None
    assert attention.pop_due(FULL_SYNC_SECONDS) == WHOLE
    assert attention.pop_due(FULL_SYNC_SECONDS + 1) is None


@pytest.mark.parametrize("whole", [True, False])
def test_failed_sync_is_requeued(attention: WorkQueue, whole: bool) -> None:
    add_event(attention, vm(WEB, "blue"))
    scope = WHOLE if whole else soon(attention)
    attention.requeue(scope, 1.0, 7.0)
    add_event(attention, vm(DB, "blue"), 2.0)
    assert attention.pop_due(7.9) is None
    due = attention.pop_due(8.1)
    assert due is not None
    assert due.vms is None if whole else due.vms == {WEB, DB}
