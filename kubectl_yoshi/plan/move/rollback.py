"""Roll back a move: return the address to its previous VM if the new one cannot have it.

Each round takes one step: the objects of the new VM are deleted, the record changes its holder back, and the previous
VM gets the address again. If a step is refused, or another run is faster, the results of the steps before it stay.
"""

from __future__ import annotations

from dataclasses import replace

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import Allocation, parse_allocation
from kubectl_yoshi.model.backend import Attachment, UsageKind
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ObjectRef, dig
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.context import RunContext
from kubectl_yoshi.plan.move.context import MoveState
from kubectl_yoshi.plan.records import records_written_by_run, write_records
from kubectl_yoshi.plan.release import is_fence, require_unchanged, write_fence


def roll_back_move(state: MoveState) -> Plan:
    """Plan the next step that undoes what this run did for a move; empty if nothing is left, or the move is done."""
    network, backend, target, number, run = state.network, state.backend, state.target, state.number, state.run
    record = state.allocations.records().get(number)
    previous_record = None
    if record is not None and record.uid == target.uid:
        previous_record = _record_before_handover(network, record, number, run)
        if previous_record is None or not backend.ensure_service(Attachment(target, network, number), state.snapshot):
            return Plan()
    target_changed = _has_changed(target.ref, run)
    if (
        previous_record is not None
        and not target_changed
        and not _has_changed(VM.ref(previous_record.name, previous_record.namespace), run)
    ):
        return Plan()  # an earlier run made the handover: this one cannot restore what that one removed
    if (target_changed or previous_record) and _objects_requesting(target, state):
        changes = [
            c for c in backend.detach_patch(target, network, state.snapshot) if target_changed or c.verb is Verb.DELETE
        ]
        if changes:
            return stage_detach_changes(changes)
    if record is None:
        return Plan()
    if previous_record is not None:
        restored = replace(previous_record, since=run.micro_time)
        handover = write_records(state.allocations, {number: restored}, {number: target.full_name})
        return write_fence(record, state.ctx, target.full_name) + handover
    return _return_to_holder(state, record)


def stage_detach_changes(changes: list[Change]) -> Plan:
    """Order the changes that detach an address: the VM's request, deletions, waits for them."""
    deletions = [change for change in changes if change.verb is Verb.DELETE]
    stages = (
        [change for change in changes if change not in deletions],
        deletions,
        [_wait_until_deleted(change) for change in deletions],
    )
    return Plan(tuple(tuple(stage) for stage in stages if stage))


def _wait_until_deleted(change: Change) -> Change:
    summary = f"wait until {change.ref} is deleted"
    before, uid, owner = change.before, change.uid, change.owner
    return Change(Verb.WAIT, change.ref, summary, before=before, uid=uid, owner=owner, wait_for="deleted")


def _record_before_handover(network: Network, record: Allocation, number: int, run: RunContext) -> Allocation | None:
    """Return the record that this run has replaced by this one; None if another run has written it."""
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
    """Return whether this run has changed a VM, other than by a fence."""
    return any(not is_fence(change) for change in run.sent_to(vm))


def _return_to_holder(state: MoveState, record: Allocation) -> Plan:
    """Plan to return the address to the holder of its record, from which this run has detached it."""
    network, backend, number, snapshot = state.network, state.backend, state.number, state.snapshot
    found = snapshot.lookup(Query(VM, record.namespace, record.name))
    if not found or Vm(found[0]).uid != record.uid:
        return Plan()
    holder = Vm(found[0])
    original = state.run.object_before(holder.ref)
    before = Vm(original) if original else None
    if before is None or before.ref not in _objects_requesting(before, state):
        return Plan()
    ports = backend.configured_ports(before, network, snapshot)
    attachment = Attachment(holder, network, number, ports=ports)
    attach_patches = require_unchanged(holder, backend.attach_patch(attachment, snapshot))
    return Plan((attach_patches,) if attach_patches else ()) + backend.ensure_service(attachment, snapshot)


def _objects_requesting(vm: Vm, state: MoveState) -> list[ObjectRef]:
    """Return the VM and the objects created for it, as far as they request the address for it."""
    network = state.network
    address_uses = state.backend.address_uses(network, [vm], Intervals(), state.snapshot)
    return [
        use.ref
        for use in address_uses
        if use.number == state.number
        and use.kind is UsageKind.REQUESTED
        and use.is_for_vm(vm.namespace, vm.name, vm.uid)
    ]
