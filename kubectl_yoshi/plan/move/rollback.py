"""Taking a move back: the address goes to the VM that had it again, where the other one cannot have it in the end.

Each look takes one step: what was made for the other VM goes; the record changes hands again; then the VM that had the
address gets it back. So a step that is refused, or another run that is faster, leaves the steps before as they are.
"""

from __future__ import annotations

from dataclasses import replace

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import Allocation, Allocations, parse_allocation
from kubectl_yoshi.model.backend import Backend, UsageKind
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ObjectRef, dig
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.records import records_written_by_run, write_records
from kubectl_yoshi.plan.release import is_fence, require_unchanged, write_fence


def roll_back_move(
    network: Network, backend: Backend, allocations: Allocations, target: Vm, number: int, ctx: PlanContext
) -> Plan:
    """The next step back of what this run has done for a move; empty where nothing is left to do, or the move is done.

    Args:
        network, backend, allocations: which, with the address's shelf.
        target: who does not get the address.
        number: which.
        snapshot, run: as every planner gets them.
    """
    record = allocations.records().get(number)
    previous_record = None
    if record is not None and record.uid == target.uid:
        previous_record = _record_before_handover(network, record, number, ctx.run)
        if previous_record is None or not backend.ensure_service(target, network, number, (), ctx.snapshot):
            return Plan()
    target_changed = _has_changed(target.ref, ctx.run)
    if (
        previous_record is not None
        and not target_changed
        and not _has_changed(VM.ref(previous_record.name, previous_record.namespace), ctx.run)
    ):
        return Plan()  # an earlier run has: this one cannot give back what that one took
    if (target_changed or previous_record) and _objects_requesting(target, network, backend, number, ctx.snapshot):
        changes = [
            c for c in backend.detach_patch(target, network, ctx.snapshot) if target_changed or c.verb is Verb.DELETE
        ]
        if changes:
            return stage_detach_changes(changes)
    if record is None:
        return Plan()
    if previous_record is not None:
        restored = replace(previous_record, since=ctx.run.micro_time)
        handover = write_records(allocations, {number: restored}, {number: target.full_name})
        return write_fence(record, ctx.snapshot, target.full_name) + handover
    return _return_to_holder(network, backend, record, number, ctx)


def stage_detach_changes(changes: list[Change]) -> Plan:
    """What takes an address from a VM: its wish first, then what was made for it, until that is gone."""
    deletions = [change for change in changes if change.verb is Verb.DELETE]
    stages = (
        [change for change in changes if change not in deletions],
        deletions,
        [_wait_until_deleted(change) for change in deletions],
    )
    return Plan(tuple(tuple(stage) for stage in stages if stage))


def _wait_until_deleted(change: Change) -> Change:
    summary = f"wait until {change.ref} is gone"
    before, uid, owner = change.before, change.uid, change.owner
    return Change(Verb.WAIT, change.ref, summary, before=before, uid=uid, owner=owner, wait_for="deleted")


def _record_before_handover(network: Network, record: Allocation, number: int, run: RunContext) -> Allocation | None:
    """The record in whose place this run has written this one; None where another run has."""
    if record.as_written not in records_written_by_run(network, run).get(number, ()):
        return None
    key = str(network.address(number))
    for change in run.sent:
        value = dig(change.before, "status", "allocations", key) if change.subresource == "status" else None
        if value is not None:
            before = parse_allocation(value, network.namespace)
            return before if before.uid != record.uid else None
    return None


def _has_changed(vm: ObjectRef, run: RunContext) -> bool:
    """Whether this run has changed a VM, and not only ended its attachments."""
    return any(change.ref == vm and not is_fence(change) for change in run.sent)


def _return_to_holder(network: Network, backend: Backend, record: Allocation, number: int, ctx: PlanContext) -> Plan:
    """What gives a VM the address again that this run has taken from it, and for which the record is."""
    found = ctx.snapshot.lookup(Query(VM, record.namespace, record.name))
    if not found or Vm(found[0]).uid != record.uid:
        return Plan()
    holder = Vm(found[0])
    original = ctx.run.object_before(holder.ref)
    before = Vm(original) if original else None
    if before is None or before.ref not in _objects_requesting(before, network, backend, number, ctx.snapshot):
        return Plan()
    ports = backend.configured_ports(before, network, ctx.snapshot)
    attach_patches = require_unchanged(holder, backend.attach_patch(holder, network, number, "", ctx.snapshot, ports))
    return Plan((attach_patches,) if attach_patches else ()) + backend.ensure_service(
        holder, network, number, ports, ctx.snapshot
    )


def _objects_requesting(vm: Vm, network: Network, backend: Backend, number: int, snapshot: Snapshot) -> list[ObjectRef]:
    """The VM itself and what is made for it, as far as they want an address for it."""
    address_uses = backend.address_uses(network, [vm], Intervals(), snapshot)
    return [
        use.ref
        for use in address_uses
        if use.number == number and use.kind is UsageKind.REQUESTED and use.is_for_vm(vm.namespace, vm.name, vm.uid)
    ]
