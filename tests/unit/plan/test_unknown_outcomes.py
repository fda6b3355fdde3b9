"""Writes without an answer: their outcome, the output, and rollbacks.

Each case was a mistake that random faults have found (test_faults.py).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.outcomes import ObservedObjects
from kubectl_yoshi.kube.errors import AmbiguousWriteError, TimedOutError, UnreachableError
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from tests.unit.plan.fake_cluster import FakeCluster, refusal, wizard
from tests.unit.plan.faulty_api import ApiFaultSchedule, ScriptedApiFaults, with_faults

ADDRESS = "10.133.0.1"


def run(cluster: FakeCluster, schedule: ApiFaultSchedule, command: Callable[[FakeCluster], RunResult]) -> RunResult:
    """A command by a bad way."""
    return command(with_faults(cluster, schedule))


@pytest.mark.parametrize("fault", ["done-cut", "done-error"])
def test_unanswered_deletion_that_was_done_is_no_error(cluster: FakeCluster, fault: str) -> None:
    done = run(cluster, ScriptedApiFaults(delete__NetworkWizard=fault), lambda w: w.delete_network())
    assert done.errors == {}
    assert done.has_changed()
    assert cluster.networks() == []


def test_unanswered_gc_write_is_reported_as_done(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    done = run(cluster, ScriptedApiFaults(patch__NetworkWizard="done-cut,"), lambda w: w.collect())
    assert cluster.holders() == {}
    assert [change.summary for change, _ in done.executed] == [f"release {ADDRESS} of prod/web-1"]


def test_network_is_deleted_although_another_client_released_an_allocation(cluster: FakeCluster) -> None:
    """The deletion hears nothing of what it wrote to the VM, and finds no record any more that would lead it there."""
    cluster.vm()
    cluster.attach()
    ref = VM.ref("web-1", "prod")
    cluster.api.change(ref, lambda obj: (obj["spec"]["template"].pop("metadata"), obj["metadata"].pop("annotations")))

    def give_back(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == VM:
            cluster.api.before.clear()
            cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["status"]["allocations"].clear())

    cluster.api.before.append(give_back)
    done = run(cluster, ScriptedApiFaults(patch__VirtualMachine="done-error,"), lambda w: w.delete_network(force=True))
    assert done.errors == {}
    assert cluster.networks() == []
    assert not cluster.api.before


def test_unanswered_write_is_reported_as_soon_as_it_is_observed(cluster: FakeCluster) -> None:
    """`sync` prints a line for each change when it hears that it is done."""
    cluster.vm()
    told: list[tuple[str, str]] = []
    other = with_faults(
        cluster, ScriptedApiFaults(patch__NetworkWizard="done-cut,", patch__VirtualMachine="done-error,")
    )
    request = AttachRequest(("prod", "blue"), (("prod", "web-1"),))
    other.run(plan_attach, request, progress=lambda change, state: told.append((change.summary, state)))
    record, give = f"record {ADDRESS} for prod/web-1", f"assign {ADDRESS} to virtualmachine/web-1 in namespace prod"
    assert [*dict.fromkeys(summary for summary, state in told if state == "done")] == [record, give]


def test_unanswered_reservation_is_not_reported_as_unchanged(cluster: FakeCluster) -> None:
    done = run(cluster, ScriptedApiFaults(patch__NetworkWizard="lost,done-error,"), lambda w: w.reserve("10.133.0.7"))
    assert cluster.holders() == {"10.133.0.7": "reserved"}
    assert done.has_changed()


def test_reservations_of_the_same_moment_are_distinguishable(cluster: FakeCluster) -> None:
    """Else a run without an answer would take the other's for its own."""
    cluster.reserve(count=1)
    cluster.reserve(count=1)
    one, other = cluster.records().values()
    assert one.as_written != other.as_written


def test_unanswered_allocation_is_rolled_back(cluster: FakeCluster) -> None:
    cluster.vm()
    schedule = ScriptedApiFaults(patch__NetworkWizard="done-cut,", patch__VirtualMachine="invalid")
    error = refusal(run(cluster, schedule, lambda w: w.attach()))
    assert "not today" in error.message
    assert error.changes_so_far == ""
    assert cluster.holders() == {}


def test_allocation_written_twice_is_rolled_back(cluster: FakeCluster) -> None:
    cluster.vm()
    schedule = ScriptedApiFaults(patch__NetworkWizard="error,", patch__VirtualMachine="error,invalid")
    run(cluster, schedule, lambda w: w.attach())
    assert cluster.holders() == {}


@pytest.mark.I2
def test_vm_that_became_unreadable_keeps_its_allocation(cluster: FakeCluster) -> None:
    """What cannot be read is not gone: the VM carries the address (invariant I2)."""
    cluster.vm()
    reads_before_and_after = ScriptedApiFaults(get__VirtualMachine=",forbidden", patch__VirtualMachine="done-cut,")
    done = run(cluster, reads_before_and_after, lambda w: w.attach())
    assert "cannot be read" in refusal(done).message
    assert cluster.pin() == ADDRESS
    assert cluster.holders() == {ADDRESS: "prod/web-1"}
    cluster.check()


def test_late_vm_write_after_the_rollback_is_refused(cluster: FakeCluster) -> None:
    cluster.vm()
    schedule = ScriptedApiFaults(patch__VirtualMachine="late,invalid,")
    error = refusal(run(cluster, schedule, lambda w: w.attach()))
    assert "Outcome unknown: assign 10.133.0.1 to virtualmachine/web-1" in error.changes_so_far
    assert cluster.holders() == {}
    schedule.arrive_all()
    assert cluster.pin() == ""
    cluster.check()


def test_late_fence_is_refused(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    schedule = ScriptedApiFaults(patch__VirtualMachine="late,")
    run(cluster, schedule, lambda w: w.collect())
    assert cluster.holders() == {}
    before = cluster.now().raw
    schedule.arrive_all()
    assert cluster.now().raw == before


def test_error_lists_the_changes_done_before(cluster: FakeCluster) -> None:
    cluster.vm()
    with pytest.raises(UnreachableError) as caught:
        run(cluster, ScriptedApiFaults(list__Pod=",lost", patch__VirtualMachine="done-cut,"), lambda w: w.attach())
    assert caught.value.changes_so_far == (
        "Done before the error: record 10.133.0.1 for prod/web-1. Outcome unknown: assign 10.133.0.1 to "
        "virtualmachine/web-1 in namespace prod."
    )
    assert cluster.pin() == ADDRESS


def test_error_before_any_change_lists_no_changes(cluster: FakeCluster) -> None:
    cluster.vm()
    with pytest.raises(UnreachableError) as caught:
        run(cluster, ScriptedApiFaults(list__Pod="lost"), lambda w: w.attach())
    assert caught.value.changes_so_far == ""


def test_failed_read_after_a_change_is_retried(cluster: FakeCluster) -> None:
    cluster.vm()
    for kind in ("Pod", "VirtualMachine", "NetworkWizard"):
        for fault in ("lost", "busy", "error", "unavailable"):
            verb = "list" if kind == "Pod" else "get"
            schedule = ScriptedApiFaults(
                **{f"{verb}__{kind}": f",{fault},{fault},", "patch__NetworkWizard": "done-cut,"}
            )
            done = run(cluster, schedule, lambda w: w.attach())
            assert done.results == {"prod/web-1": ADDRESS}
            cluster.detach()


def test_refusal_lists_the_changes_that_remain(old_calico: FakeCluster) -> None:
    old_calico.running()
    error = refusal(
        run(old_calico, ScriptedApiFaults(update__VirtualMachine="invalid"), lambda w: w.attach(restart=True))
    )
    assert error.changes_so_far == (
        "Done before the error: record 10.133.0.1 for prod/web-1; assign 10.133.0.1 to virtualmachine/web-1 in "
        "namespace prod."
    )
    assert str(error).splitlines() == [error.message, error.changes_so_far]


def test_old_address_of_a_replaced_network_is_released_after_a_conflict(cluster: FakeCluster) -> None:
    cluster.network("red", "10.134.0.0/29")
    cluster.vm()
    cluster.attach()
    schedule = ScriptedApiFaults(patch__NetworkWizard=",conflict,")
    done = run(cluster, schedule, lambda w: w.attach(network="prod/red", replace=True))
    assert done.errors == {}
    assert cluster.pin() == "10.134.0.1"
    assert cluster.holders() == {}
    assert cluster.holders("red") == {"10.134.0.1": "prod/web-1"}


def test_refused_forced_deletion_lists_the_detached_vms(cluster: FakeCluster) -> None:
    for name in ("web-1", "web-2"):
        cluster.vm(name)
        cluster.attach(name)
    refuse = ScriptedApiFaults(patch__VirtualMachine=",invalid")
    done = run(cluster, refuse, lambda w: w.delete_network(force=True))
    carry = [name for name in ("web-1", "web-2") if cluster.pin(name)]
    assert len(carry) == 1
    assert "Done before the error: " in refusal(done, "prod/blue").changes_so_far
    assert "web" in refusal(done, "prod/blue").changes_so_far


def test_rolled_back_object_is_not_reported_as_created(cluster: FakeCluster) -> None:
    """Two networks of one bridge's NIC at the same moment: the younger one goes again."""
    rival = wizard("rival", "10.140.0.0/24")

    def meanwhile(verb: str, ref: ObjectRef) -> None:
        if verb == "create" and ref.name == "red" and not cluster.api.look(NETWORKWIZARD.ref("rival", "prod")):
            cluster.api.put(
                NETWORKWIZARD, {**rival, "metadata": {**rival["metadata"], "creationTimestamp": "2001-01-01T00:00:00Z"}}
            )

    cluster.api.before.append(meanwhile)
    with pytest.raises(PreconditionFailed) as caught:
        cluster.make_network("red", "10.140.0.0/24")
    assert "overlaps" in caught.value.message
    assert "red" not in cluster.networks()
    assert caught.value.changes_so_far == ""


def test_removed_list_entry_counts_as_done() -> None:
    """Nobody can see by its place whether it is gone; a change that was answered is reported nevertheless."""
    ref = VM.ref("web-1", "prod")
    change = Change(Verb.PATCH, ref, "unplug it", [{"op": "remove", "path": "/spec/networks/0"}])
    for networks in ([], [{"name": "other"}]):
        obj = {"metadata": {"name": "web-1", "namespace": "prod"}, "spec": {"networks": networks}}
        snapshot = Snapshot().with_results({Query(VM, "prod", "web-1"): (obj,)})
        assert ObservedObjects(snapshot).is_in_effect(change) is None


@pytest.mark.parametrize(
    "fault", [UnreachableError("cut"), TimedOutError("slow"), AmbiguousWriteError("cut within")], ids=repr
)
def test_failed_counter_update_does_not_fail_the_run(cluster: FakeCluster, fault: Exception) -> None:
    """The last writer fixes the counters, or the next one if that fails."""
    cluster.vm()
    blue = NETWORKWIZARD.ref("blue", "prod")
    patches: list[ObjectRef] = []

    def another_is_recorded_then_nothing_answers(verb: str, ref: ObjectRef) -> None:
        if (verb, ref) != ("patch", blue):
            return
        patches.append(ref)
        if len(patches) == 1:
            other = {"10.133.0.9": {"kind": "Reservation", "since": "2026-01-02T03:04:05Z"}}
            cluster.api.change(blue, lambda obj: obj["status"].update(allocations=other))
        elif len(patches) == 2:
            raise fault

    cluster.api.before.append(another_is_recorded_then_nothing_answers)
    done = cluster.attach()
    assert len(patches) == 2
    assert done.results == {"prod/web-1": ADDRESS}
    assert done.errors == {}
    assert cluster.pin() == ADDRESS
