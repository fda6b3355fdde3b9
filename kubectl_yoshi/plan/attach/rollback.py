"""Roll back what this run wrote for VMs that do not get their address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation, parse_allocation, shard_of
from kubectl_yoshi.model.backend import Attachment, UsageKind
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.plan import Plan, Verb, parallel_plans, sequential
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attach.context import AttachState, Selection
from kubectl_yoshi.plan.records import original_records, remove_records, write_records
from kubectl_yoshi.plan.release import build_release, fence_vm


def plan_rollback(state: AttachState, vms: Sequence[Vm], selection: Selection, *, over_quota: Collection[str]) -> Plan:
    """Plan the rollback for VMs whose own change was refused, or that another run attached elsewhere meanwhile.

    Addresses that a VM had before this run stay with it, or are restored if another address was to replace them. If
    another client has released a record of this run, the backend's reservation for it is removed too, unless the
    `selection` of this plan assigns that address again.

    For VMs that are `over_quota`, only records were written, which were then counted; addresses set on such a VM were
    there before, without a record, and stay so.
    """
    written_by_run = state.written_by_run
    selected = set(selection.addresses.values())
    numbers: dict[int, Allocation] = {}
    plans: list[Plan] = []
    with_cleanup: set[int] = set()
    in_flight = {change.ref for change in state.run.unanswered}
    for vm in vms:
        running = state.running(vm)
        in_use = {*running, *state.on_vm(vm)}
        held_before = [] if state.backend.pins_vm_template else _held_before_run(state, vm, written_by_run)
        plans.append(_remove_unneeded_objects(state, vm))
        for number in state.allocated(vm):
            if state.records[number].as_written not in written_by_run.get(number, ()) or number in held_before:
                continue
            cleanup: list[Plan] = []
            if not state.backend.pins_vm_template:
                cleanup.append(
                    _restore_previous_address(state, vm, number, held_before[0])
                    if held_before
                    else _detach_new_address(state, vm, number)
                )
            elif number in (running if vm.full_name in over_quota else in_use):
                continue
            numbers[number] = state.records[number]
            if vm.ref in in_flight:
                cleanup.append(sequential(fence_vm(vm, state.run, vm.full_name)))
            plans += cleanup
            if any(cleanup):
                with_cleanup.add(number)
    released, deleted = _release_deleted_vms(state, written_by_run)
    released_by_others = _released_by_others(state, written_by_run)
    to_unreserve = (
        {number: record for number, record in released_by_others.items() if number not in selected} | numbers | deleted
    )
    if not to_unreserve:
        return parallel_plans(plans) + released
    replaced = _replaced_reservations(state, numbers)
    to_unreserve = {number: record for number, record in to_unreserve.items() if number not in replaced}
    plans.append(state.backend.unreserve(state.network, to_unreserve, state.snapshot).plan)
    # Removals that follow a cleanup are planned one by one, as the cleanup may be refused for one and not for another.
    parts = [{number} for number in sorted(with_cleanup)] + [numbers.keys() - with_cleanup]
    removals = [_restore_records(state, {n: numbers[n] for n in sorted(part)}, replaced) for part in parts]
    return parallel_plans(plans) + parallel_plans(removals) + released


def _restore_records(state: AttachState, numbers: Mapping[int, Allocation], replaced: Mapping[int, Allocation]) -> Plan:
    """Plan to remove records of this run, or to write the reservations that they replaced again."""
    owners = {number: record.owner for number, record in numbers.items()}
    reservations = {number: replaced[number] for number in numbers if number in replaced}
    free = {number: record for number, record in numbers.items() if number not in replaced}
    restoration = Plan()
    if reservations:
        restoration = state.backend.reserve(state.network, reservations, state.snapshot)
        restoration = restoration + write_records(state.allocations, reservations, owners)
    return restoration + remove_records(state.allocations, free, owners) if free else restoration


def _replaced_reservations(state: AttachState, numbers: Iterable[int]) -> dict[int, Allocation]:
    """Return the reservations that records of this run have replaced."""
    before = original_records(state.network, state.run)
    return {number: before[number] for number in numbers if number in before and before[number].kind == RESERVATION}


def _remove_unneeded_objects(state: AttachState, vm: Vm) -> Plan:
    """Plan to delete objects that this run created for an address which the VM no longer has.

    Other clients have released that address, or assigned it to another VM, before the objects existed.
    """
    if state.backend.pins_vm_template or state.allocated(vm):
        return Plan()
    detach_patches = state.backend.detach_patch(vm, state.network, state.snapshot)
    deletions = [change for change in detach_patches if change.verb is Verb.DELETE and change.ref in state.run.created]
    unallocated = [number for number in state.on_vm(vm) if number not in state.records] if deletions else []
    record = Allocation(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid)
    releases = [state.backend.release_hold(state.network, n, record, state.snapshot).plan for n in unallocated]
    return sequential(*deletions) + parallel_plans(releases)


def _release_deleted_vms(
    state: AttachState, written_by_run: Mapping[int, list[Json]]
) -> tuple[Plan, dict[int, Allocation]]:
    """Plan the release of addresses that were recorded for VMs that no longer exist or are being deleted.

    An address stays if something of the VM still runs with it or requests it.

    Returns:
        The plan, and the records that it releases.
    """
    live_uids = {vm.uid for vm in state.vms}
    missing_owners = {
        f"{query.namespace}/{query.name}"
        for query in state.request.queries
        if not state.snapshot.unreadable_reason(query)
    }
    orphaned = {
        number: record
        for number, record in state.records.items()
        if number in written_by_run and record.owner in missing_owners and record.uid not in live_uids
    }
    if not orphaned:
        return Plan(), {}
    namespaces = tuple(dict.fromkeys(record.namespace for record in orphaned.values()))
    address_uses = state.backend.all_address_uses(state.network, namespaces, state.snapshot)
    releases = {
        number: build_release(
            state.allocations,
            number,
            record,
            address_uses,
            state.backend,
            state.ctx,
            keep_history=False,
            reserve_for=record.reserved_for,
        )
        for number, record in orphaned.items()
    }
    plan = parallel_plans([release.plan for release in releases.values()])
    notes = tuple(note for release in releases.values() for note in release.notes)
    return replace(plan, notes=notes), {
        number: orphaned[number] for number, release in releases.items() if release.plan
    }


def _released_by_others(state: AttachState, written_by_run: Mapping[int, list[Json]]) -> dict[int, Allocation]:
    """Return the last record that this run wrote of each address that no longer has a record of this run."""
    current = {number: state.records[number].as_written for number in written_by_run if number in state.records}
    return {
        number: parse_allocation(values[-1], state.network.namespace)
        for number, values in written_by_run.items()
        if current.get(number) not in values
    }


def _held_before_run(state: AttachState, vm: Vm, written_by_run: Mapping[int, list[Json]]) -> list[int]:
    """Return the VM's addresses that were not assigned by this run.

    These are addresses that the VM requested, and that were allocated to it, before this run first wrote to it; and
    addresses that another run has assigned to it meanwhile, which come first.
    """
    before = Vm(state.run.object_before(vm.ref) or vm.raw)
    address_uses = state.backend.address_uses(state.network, [before], Intervals(), state.snapshot)
    wanted = [use.number for use in address_uses if use.kind is UsageKind.REQUESTED and use.ref == vm.ref]
    state = state.with_shards({shard_of(state.network, number) for number in wanted})
    others = [n for n in state.allocated(vm) if state.records[n].as_written not in written_by_run.get(n, ())]
    allocated_numbers = {
        *others,
        *(number for number, record in original_records(state.network, state.run).items() if record.uid == vm.uid),
    }
    current = [number for number in state.on_vm(vm) if number in others]
    return [*dict.fromkeys([*current, *(number for number in wanted if number in allocated_numbers)])]


def _restore_previous_address(state: AttachState, vm: Vm, number: int, previous: int) -> Plan:
    """Plan to release an address that was to replace another one, and to assign the previous address again."""
    attachment = Attachment(vm, state.network, previous)
    attach_patches = state.backend.attach_patch(attachment, state.snapshot)
    hold_release = state.backend.release_hold(state.network, number, state.records[number], state.snapshot)
    service_plan = state.backend.ensure_service(attachment, state.snapshot)
    return Plan((attach_patches,) if attach_patches else ()) + service_plan + hold_release.plan


def _detach_new_address(state: AttachState, vm: Vm, number: int) -> Plan:
    """Plan to delete the objects that were created for an address which the VM does not get."""
    detach_patches = state.backend.detach_patch(vm, state.network, state.snapshot)
    hold_release = state.backend.release_hold(state.network, number, state.records[number], state.snapshot)
    return Plan((tuple(detach_patches),) if detach_patches else ()) + hold_release.plan
