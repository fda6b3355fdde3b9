"""A write of an attachment that arrives late, after somebody has taken back what it rests on.

The record is written, then the VM. Between the two, or after the process was killed and its last request is still on
its way, the record may be given back; the VM's write must be refused then, or the VM would carry an address that
somebody else is given next (invariants I1, I2).
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
from tests.unit.plan.world import World

pytestmark = [pytest.mark.I1, pytest.mark.I2]


def annotated_vm(world: World) -> Vm:
    """A VM with an annotation of somebody's, so that the map of them is there whatever comes and goes in it."""
    world.vm()
    world.api.patch(VM.ref("web-1", "prod"), [{"op": "add", "path": "/metadata/annotations", "value": {"team": "red"}}])
    return world.now()


def attach_again_and_detach(world: World) -> None:
    assert world.attach(ip="10.133.0.1").results == {"prod/web-1": "10.133.0.1"}
    world.detach()


def make_anew(world: World) -> None:
    world.drop_vm()
    world.vm()
    world.collect()


MEANWHILE: dict[str, Callable[[World], object]] = {
    "it is detached": lambda world: world.detach(),
    "its record is collected": lambda world: world.collect(grace=0.0),
    "its record is released by hand": lambda world: world.release("10.133.0.1"),
    "the network is deleted by force": lambda world: world.delete_network(force=True),
    "it is attached again, and detached": attach_again_and_detach,
    "it is being recreated": make_anew,
    "it is deleted": lambda world: (world.drop_vm(), world.detach()),
}


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_a_vm_is_written_to_only_while_its_record_stands(what: str, cidr: str) -> None:
    world = World()
    world.network(cidr=cidr)
    annotated_vm(world)
    late = begin_attaching(world)
    assert world.holders() == {"10.133.0.1": "prod/web-1"}

    MEANWHILE[what](world)
    assert not world.networks() or "10.133.0.1" not in world.holders()

    with pytest.raises((PatchTestFailedError, NotFoundError)):
        send_change(late, world.api, dry_run=False, waiters={})
    world.check()


def test_a_move_to_another_address_is_refused_once_that_was_given_back(world: World) -> None:
    """Another run, which sees what the VM carries, gives back the address that it was about to get."""
    annotated_vm(world)
    world.attach(ip="10.133.0.1")
    late = begin_attaching(world, "10.133.0.2", replace=True)
    world.attach()
    assert world.holders() == {"10.133.0.1": "prod/web-1"}
    with pytest.raises(PatchTestFailedError):
        send_change(late, world.api, dry_run=False, waiters={})
    world.check()


@pytest.mark.parametrize("what", ["it is detached", "its record is collected", "its record is released by hand"])
def test_an_attachment_that_writes_to_the_vm_right_before_the_fence_keeps_its_record(world: World, what: str) -> None:
    annotated_vm(world)
    begin_attaching(world)
    world.detach()
    assert RELEASED_AT_ANNOTATION in world.now().annotations, "the fence of an earlier release opens no gap"
    late = begin_attaching(world)
    other = world.twin(1)
    other.api.before.clear()

    def arrives(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == VM:
            other.api.before.clear()
            send_change(late, world.api, dry_run=False, waiters={})

    other.api.before.append(arrives)
    MEANWHILE[what](other)
    assert other.api.before == []
    world.check()


def test_runs_that_overtake_each_other_again_and_again_wait_longer_and_longer(world: World) -> None:
    """The attachment renews its record in each round, the detachment ends the attachment: at one pace for ever."""
    world.vm()
    world.attach(ip="10.133.0.1")
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"]["metadata"].pop("annotations"))
    waited: list[float] = []

    def renew(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", NETWORKWIZARD) and len(waited) < 40:
            waited.append(world.api.clock.time)
            now = f"2025-01-01T00:00:{len(waited):02}.000000Z"
            world.api.change(ref, lambda obj: obj["status"]["allocations"]["10.133.0.1"].update(since=now))

    world.api.before.append(renew)
    assert not world.detach().errors
    assert (len(waited), world.records()) == (40, {})
    assert waited[8] - waited[0] < 0.5
    assert waited[-1] - waited[20] > 3


def begin_attaching(world: World, address: str = "10.133.0.1", **more: bool) -> Change:
    """Carries an attachment out up to the write to the VM, and gives that one."""
    request = AttachRequest(("prod", "blue"), (("prod", "web-1"),), parse_address(address), **more)  # type: ignore[arg-type]
    plan = plan_attach(request, PlanContext(new_snapshot(world.api), BACKENDS, RunContext()))
    for change in plan:
        if change.ref.resource == VM:
            return change
        send_change(change, world.api, dry_run=False, waiters={})
    raise AssertionError("nothing is written to the VM")


def test_a_late_write_is_done_where_nobody_has_touched_the_vm(world: World) -> None:
    annotated_vm(world)
    send_change(begin_attaching(world), world.api, dry_run=False, waiters={})
    assert world.pin() == "10.133.0.1"
    world.check()


def test_a_release_writes_to_a_vm_that_does_not_carry_the_address_once(world: World) -> None:
    before = annotated_vm(world)
    begin_attaching(world)
    world.api.writes.clear()
    world.detach()
    now = world.now()
    assert world.api.writes.count("patch virtualmachine/web-1") == 1
    assert now.annotations.keys() - before.annotations.keys() == {RELEASED_AT_ANNOTATION}
    assert now.template_annotations == before.template_annotations


def test_several_records_of_a_vm_that_carries_none_of_them_are_given_back_after_one_fence(world: World) -> None:
    before = annotated_vm(world)
    begin_attaching(world)
    (record,) = world.records().values()
    blue = NETWORKWIZARD.ref("blue", "prod")
    world.api.change(blue, lambda obj: obj["status"]["allocations"].update({"10.133.0.7": dict(record.as_written)}))
    world.api.writes.clear()
    assert not world.detach().errors
    assert (world.holders(), world.api.writes.count("patch virtualmachine/web-1")) == ({}, 1)
    assert world.now().annotations.keys() - before.annotations.keys() == {RELEASED_AT_ANNOTATION}


def test_two_fences_of_the_same_time_both_change_the_vm(world: World) -> None:
    """A patch that changes nothing leaves the resourceVersion, which an attachment tests, as it is."""
    annotated_vm(world)
    run = RunContext()
    versions = [world.now().raw["metadata"]["resourceVersion"]]
    for _ in range(3):
        send_change(fence_vm(world.now(), run, ""), world.api, dry_run=False, waiters={})
        versions.append(world.now().raw["metadata"]["resourceVersion"])
    assert len({*versions}) == 4
