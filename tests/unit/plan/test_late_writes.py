"""A late write of an attach, after its allocation was removed.

The record is written, then the VM. Between the two, or after the process was killed and its last request is still on
its way, the record may be released; the VM's write must be refused then, or the VM would carry an address that
another client is given next (invariants I1, I2).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.engine.apply import send_change
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.errors import NotFoundError, PatchTestFailedError
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.plan import Change
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.release import RELEASED_AT_ANNOTATION, fence_vm
from tests.unit.plan.fake_cluster import FakeCluster

pytestmark = [pytest.mark.I1, pytest.mark.I2]


def annotated_vm(cluster: FakeCluster) -> Vm:
    """A VM with an annotation of somebody's, so that the map of them is there whatever comes and goes in it."""
    cluster.vm()
    cluster.api.patch(
        VM.ref("web-1", "prod"), [{"op": "add", "path": "/metadata/annotations", "value": {"team": "red"}}]
    )
    return cluster.now()


def attach_again_and_detach(cluster: FakeCluster) -> None:
    assert cluster.attach(ip="10.133.0.1").results == {"prod/web-1": "10.133.0.1"}
    cluster.detach()


def recreate(cluster: FakeCluster) -> None:
    cluster.delete_vm()
    cluster.vm()
    cluster.collect()


MEANWHILE: dict[str, Callable[[FakeCluster], object]] = {
    "it is detached": lambda cluster: cluster.detach(),
    "its record is collected": lambda cluster: cluster.collect(grace=0.0),
    "its record is released by hand": lambda cluster: cluster.release("10.133.0.1"),
    "the network is deleted by force": lambda cluster: cluster.delete_network(force=True),
    "it is attached again, and detached": attach_again_and_detach,
    "it is being recreated": recreate,
    "it is deleted": lambda cluster: (cluster.delete_vm(), cluster.detach()),
}


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_late_vm_write_is_refused_after_its_allocation_was_released(what: str, cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    annotated_vm(cluster)
    late = begin_attaching(cluster)
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}

    MEANWHILE[what](cluster)
    assert not cluster.networks() or "10.133.0.1" not in cluster.holders()

    with pytest.raises((PatchTestFailedError, NotFoundError)):
        send_change(late, cluster.api, dry_run=False, waiters={})
    cluster.check()


def test_late_replacement_is_refused_after_the_new_allocation_was_released(cluster: FakeCluster) -> None:
    """Another run, which sees what the VM carries, releases the address that it was about to get."""
    annotated_vm(cluster)
    cluster.attach(ip="10.133.0.1")
    late = begin_attaching(cluster, "10.133.0.2", replace=True)
    cluster.attach()
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    with pytest.raises(PatchTestFailedError):
        send_change(late, cluster.api, dry_run=False, waiters={})
    cluster.check()


@pytest.mark.parametrize("what", ["it is detached", "its record is collected", "its record is released by hand"])
def test_attachment_written_right_before_the_fence_keeps_its_allocation(cluster: FakeCluster, what: str) -> None:
    annotated_vm(cluster)
    begin_attaching(cluster)
    cluster.detach()
    assert RELEASED_AT_ANNOTATION in cluster.now().annotations, "the fence of an earlier release opens no gap"
    late = begin_attaching(cluster)
    other = cluster.second_client(1)
    other.api.before.clear()

    def arrives(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == VM:
            other.api.before.clear()
            send_change(late, cluster.api, dry_run=False, waiters={})

    other.api.before.append(arrives)
    MEANWHILE[what](other)
    assert other.api.before == []
    cluster.check()


def test_competing_runs_back_off(cluster: FakeCluster) -> None:
    """The attachment renews its record in each round, the detachment ends the attachment: at one pace for ever."""
    cluster.vm()
    cluster.attach(ip="10.133.0.1")
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"]["metadata"].pop("annotations"))
    waited: list[float] = []

    def renew(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", NETWORKWIZARD) and len(waited) < 40:
            waited.append(cluster.api.clock.time)
            now = f"2025-01-01T00:00:{len(waited):02}.000000Z"
            cluster.api.change(ref, lambda obj: obj["status"]["allocations"]["10.133.0.1"].update(since=now))

    cluster.api.before.append(renew)
    assert not cluster.detach().errors
    assert (len(waited), cluster.records()) == (40, {})
    assert waited[8] - waited[0] < 0.5
    assert waited[-1] - waited[20] > 3


def begin_attaching(cluster: FakeCluster, address: str = "10.133.0.1", **more: bool) -> Change:
    """Carries an attachment out up to the write to the VM, and gives that one."""
    request = AttachRequest(("prod", "blue"), (("prod", "web-1"),), parse_address(address), **more)  # type: ignore[arg-type]
    plan = plan_attach(request, PlanContext(new_snapshot(cluster.api), BACKENDS, RunContext()))
    for change in plan:
        if change.ref.resource == VM:
            return change
        send_change(change, cluster.api, dry_run=False, waiters={})
    raise AssertionError("nothing is written to the VM")


def test_late_write_succeeds_if_the_vm_is_unchanged(cluster: FakeCluster) -> None:
    annotated_vm(cluster)
    send_change(begin_attaching(cluster), cluster.api, dry_run=False, waiters={})
    assert cluster.pin() == "10.133.0.1"
    cluster.check()


def test_release_writes_once_to_a_vm_without_the_address(cluster: FakeCluster) -> None:
    before = annotated_vm(cluster)
    begin_attaching(cluster)
    cluster.api.writes.clear()
    cluster.detach()
    now = cluster.now()
    assert cluster.api.writes.count("patch virtualmachine/web-1") == 1
    assert now.annotations.keys() - before.annotations.keys() == {RELEASED_AT_ANNOTATION}
    assert now.template_annotations == before.template_annotations


def test_allocations_that_a_vm_does_not_carry_are_released_after_one_fence(cluster: FakeCluster) -> None:
    before = annotated_vm(cluster)
    begin_attaching(cluster)
    (record,) = cluster.records().values()
    blue = NETWORKWIZARD.ref("blue", "prod")
    cluster.api.change(blue, lambda obj: obj["status"]["allocations"].update({"10.133.0.7": dict(record.as_written)}))
    cluster.api.writes.clear()
    assert not cluster.detach().errors
    assert (cluster.holders(), cluster.api.writes.count("patch virtualmachine/web-1")) == ({}, 1)
    assert cluster.now().annotations.keys() - before.annotations.keys() == {RELEASED_AT_ANNOTATION}


def test_fences_of_the_same_time_both_change_the_vm(cluster: FakeCluster) -> None:
    """A patch that changes nothing leaves the resourceVersion, which an attachment tests, as it is."""
    annotated_vm(cluster)
    run = RunContext()
    versions = [cluster.now().raw["metadata"]["resourceVersion"]]
    for _ in range(3):
        send_change(fence_vm(cluster.now(), run, ""), cluster.api, dry_run=False, waiters={})
        versions.append(cluster.now().raw["metadata"]["resourceVersion"])
    assert len({*versions}) == 4
