"""Plan the changes of each VM once its address is selected: the record, the VM, releases, a restart.

What the backend holds for the VM is released before the VM changes: if that is refused, or the run is killed, the VM
still has its previous address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import Address, Intervals, parse_address
from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation, is_large, shard_of
from kubectl_yoshi.model.backend import AddressUse, Attachment, UsageKind
from kubectl_yoshi.model.errors import PlanningError, PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import AttachmentResult, Plan, parallel_plans
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan import restart as restarts
from kubectl_yoshi.plan.attach.context import AttachState, Selection
from kubectl_yoshi.plan.context import RunContext
from kubectl_yoshi.plan.network_lookup import list_networks
from kubectl_yoshi.plan.records import load_shards, write_records
from kubectl_yoshi.plan.release import Release, build_release, require_unchanged


def plan_vm_changes(
    state: AttachState, vms: Sequence[Vm], selection: Selection, *, is_counted: bool, recheck: bool
) -> Plan:
    """Plan the records, then the VMs, then what is released, then restarts; `errors` has VMs that get no address.

    Args:
        vms: those that are to have the selected addresses.
        is_counted: a quota counts the new records: in one object they are written only if it is unchanged since the
            count; in several objects they are written alone, and counted again before anything else
            (plan/attach/quota.py).
        recheck: write the records alone, and read other networks again before any VM has the address.
    """
    selected, errors = selection.addresses, dict[str, YoshiError]()
    attachments: dict[str, AttachmentResult] = {}
    records: dict[int, Allocation] = {}
    owners: dict[int, str] = {}
    plans: list[Plan] = []
    results: dict[str, str] = {}
    parts = (partial(_vm_changes_or_error, state, vm, selected[vm.full_name]) for vm in vms)
    all_changes = state.snapshot.parallel(parts)
    migration_blockers: dict[str, tuple[str, ...]] = {}
    macs: dict[str, Vm] = {}
    for vm, changes in zip(vms, all_changes, strict=True):
        number = selected[vm.full_name]
        if isinstance(changes, YoshiError):
            errors[vm.full_name] = changes
            continue
        if changes.record is not None and state.backend.has_interface:
            first = macs.setdefault(changes.record.mac.lower(), vm)
            if first is not vm:
                errors[vm.full_name] = _duplicate_mac_error(state, vm, changes.record.mac, first.full_name)
                continue
        if changes.record is not None:
            records[number] = changes.record
            owners[number] = vm.full_name
        plans.append(replace(changes.vm_plan, notes=(*changes.vm_plan.notes, *changes.notes)))
        results[vm.full_name] = str(state.allocations.address(number))
        result_state = AddressState.RESTART_NEEDED if changes.pending_actions else AddressState.BOUND
        attachments[vm.full_name] = AttachmentResult(
            state.network.full_name, results[vm.full_name], changes.mac, result_state
        )
        if changes.migration_blockers and (not changes.is_up_to_date or state.run.done_for(vm.full_name)):
            migration_blockers[vm.full_name] = changes.migration_blockers
    plans.append(Plan(notes=migration_blocker_notes(migration_blockers, state.network)))
    uses_blocks = is_large(state.network)
    plan = Plan()
    if records:
        plan = write_records(state.allocations, records, owners, is_counted and not uses_blocks, selection.hint)
    if plan and (recheck or (is_counted and uses_blocks)) and not state.run.preview:
        return replace(plan, requeue=True, results=results, attachments=attachments, errors=errors)
    return replace(plan + parallel_plans(plans), results=results, attachments=attachments, errors=errors)


def migration_blocker_notes(reasons: Mapping[str, Sequence[str]], network: Network) -> tuple[str, ...]:
    """Return one note about all VMs of a network that should be live-migratable and are not; () if there are none.

    Args:
        reasons: "namespace/name" of the VM -> its blockers.
    """
    if not reasons:
        return ()
    counts = Counter(reason for vm_reasons in reasons.values() for reason in vm_reasons)
    causes = (cause if number == len(reasons) else f"{cause} ({number} of them)" for cause, number in counts.items())
    vms_text = (
        f"VM {next(iter(reasons))}" if len(reasons) == 1 else f"{len(reasons)} VMs of network {network.full_name}"
    )
    return (f"{vms_text} cannot be live-migrated: {'; '.join(causes)}",)


def _vm_changes_or_error(state: AttachState, vm: Vm, number: int) -> _VmChanges | YoshiError:
    try:
        changes = _build_vm_changes(state, vm, number)
        if state.request.skip_repeated_notes and changes.is_up_to_date:
            return replace(changes, notes=changes.pending_actions)
        attachment = Attachment(vm, state.network, number, nic=state.request.nic)
        warnings = state.backend.warnings(attachment, state.snapshot)
        blockers = tuple(map(str, state.backend.migration_blockers(vm, state.network, state.snapshot)))
        return replace(changes, notes=(*changes.notes, *warnings), migration_blockers=blockers)
    except PlanningError as error:
        return error


@dataclass(frozen=True)
class _VmChanges:
    """The changes of one VM.

    Attributes:
        record: its new record; None if the current one is up to date.
        mac: its MAC address; "" for none.
        vm_plan: the changes after the record.
        notes: for the user.
        pending_actions: those of the notes that name an action for the user.
        migration_blockers: see Backend.migration_blockers.
    """

    record: Allocation | None
    mac: str
    vm_plan: Plan
    notes: tuple[str, ...] = ()
    pending_actions: tuple[str, ...] = ()
    migration_blockers: tuple[str, ...] = ()

    @property
    def is_up_to_date(self) -> bool:
        """Return whether nothing is left to change."""
        return self.record is None and not self.vm_plan


def _build_vm_changes(state: AttachState, vm: Vm, number: int) -> _VmChanges:
    request, backend, network, snapshot = state.request, state.backend, state.network, state.snapshot
    record = state.records.get(number)
    mac = _mac(state, vm, record) if backend.pins_vm_template else ""
    attachment = Attachment(vm, network, number, mac, request.nic, request.ports)
    attach_patches = require_unchanged(vm, backend.attach_patch(attachment, snapshot))
    service_plan = backend.ensure_service(attachment, snapshot)
    note = state.note(vm, record)
    reserved_for = record.reserved_for if record is not None else ""
    wanted = Allocation(
        VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac, state.run.micro_time, note, reserved_for=reserved_for
    )
    is_current = record is not None and record.uid == vm.uid and not record.is_legacy and not attach_patches
    current = replace(record, mac=mac) if record is not None and is_current else wanted
    reserve_plan = backend.reserve(network, {number: current}, snapshot)
    previous_release = backend.release_previous(vm, network, number, snapshot)
    restart = restarts.Restart()
    if backend.pins_vm_template:
        vm_uses = state.address_uses.by_vm(vm.namespace, vm.name, vm.uid)
        restart = restarts.plan_restart(vm, number, vm_uses, state.ctx, bool(previous_release.blocker))
    if previous_release.blocker and not request.restart:
        raise PreconditionFailed(
            previous_release.blocker, "Pass --restart to stop it, release that address and start it again."
        )
    patch_plan = Plan((tuple(attach_patches),) if attach_patches else ())
    plan = reserve_plan if previous_release.blocker else reserve_plan + previous_release.plan + patch_plan
    plan = plan + service_plan
    if request.wait and (wait_conditions := backend.wait_conditions(attachment, snapshot)):
        plan = plan + Plan((wait_conditions,))
    fenced = any(change.ref == vm.ref for change in plan)
    released = _release_other_addresses(state, vm, number, hold_released=bool(previous_release.plan), fenced=fenced)
    plan = plan + released.plan
    pending_actions: tuple[str, ...] = ()
    if restart and (request.restart or restart.resumes):
        plan = plan + restart.plan
    elif restart and not request.restart_later:
        reason = f"{vm.ref} runs without {state.allocations.address(number)}"
        hot_plug = backend.hot_plug(vm, snapshot) if request.nic.live else None
        pending_actions = (restarts.restart_note(reason, hot_plug),)
    notes = (*released.notes, *pending_actions)
    if previous_release.blocker:
        plan = replace(plan + patch_plan if state.run.preview else plan, requeue=True)
        notes = (
            *notes,
            f"{vm.ref} must be stopped: the address that is held for it can be released only while it does not run",
        )
    return _VmChanges(None if is_current else wanted, mac, plan, notes, pending_actions)


def _mac(state: AttachState, vm: Vm, record: Allocation | None) -> str:
    """Return the MAC address: of the interface, requested, recorded or set before, else a random local one.

    Raises:
        PreconditionFailed: the requested MAC address belongs to another VM of a network that identifies its VMs by it.
    """
    interface_mac, template_mac = state.backend.macs_of(vm, state.network)
    own_record = record if record is not None and record.uid == vm.uid else None
    requested = interface_mac or state.requested_mac(vm)
    if requested is not None:
        others = state.other_vms_with_mac(vm, requested) if state.backend.has_interface and requested else []
        if others and not (own_record and own_record.mac.lower() == requested.lower()):
            raise _duplicate_mac_error(state, vm, requested, "/".join(others[0]))
        return requested
    if own_record is not None:
        return own_record.mac
    if template_mac and not state.other_vms_with_mac(vm, template_mac):  # a copied VM has that of its source
        return template_mac
    return generate_mac(state.run)


def _duplicate_mac_error(state: AttachState, vm: Vm, mac: str, other: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"VM {vm.full_name} has MAC address {mac.lower()} on network {state.network.full_name}, which VM {other} has",
        f"Give one of them another macAddress. If {other} no longer exists, `kubectl yoshi ips gc` releases its "
        "address.",
    )


def generate_mac(run: RunContext) -> str:
    """Return a random locally administered unicast MAC address (IEEE 802: the second bit of the first octet is set)."""
    octets = [0x02, *(run.rng.randrange(256) for _ in range(5))]
    return ":".join(f"{octet:02x}" for octet in octets)


def _release_other_addresses(state: AttachState, vm: Vm, number: int, hold_released: bool, fenced: bool) -> Release:
    """Release the VM's other addresses: previous ones, or those that lost to a faster run.

    Args:
        number: the address that the VM keeps.
        hold_released: the plan already releases what the backend held for the VM.
        fenced: the plan already changes the VM, so that no other attachment of it can proceed.
    """
    result = Release()
    for other in state.allocated(vm):
        if other != number:
            record = state.records[other]
            address_uses = _without_requests_of(vm, state.address_uses.by_number(other))
            result = result + build_release(
                state.allocations,
                other,
                record,
                address_uses,
                state.backend,
                state.ctx,
                hold_released=hold_released,
                fenced=fenced,
                reserve_for=record.reserved_for if _is_written_by_run(state, other, record) else "",
            )
    for address in _addresses_on_other_networks(state, vm):
        result = result + _release_on_other_network(state, vm, address, hold_released, fenced)
    return result


def _is_written_by_run(state: AttachState, number: int, record: Allocation) -> bool:
    """Return whether this run has written a record; then the VM has had the address of a faster run ever since."""
    return record.as_written in state.written_by_run.get(number, ())


def _addresses_on_other_networks(state: AttachState, vm: Vm) -> Iterable[Address]:
    """Return the addresses that the VM has on other networks which it leaves, or had when this run wrote to it."""
    before = [Vm(change.before) for change in state.run.sent_to(vm.ref) if change.before]
    addresses = [state.backend.conflicting_address(one, state.network, state.snapshot) for one in (vm, *before)]
    return dict.fromkeys(parse_address(text.split()[0]) for text in addresses if text)


def _without_requests_of(vm: Vm, address_uses: Iterable[AddressUse]) -> list[AddressUse]:
    return [
        use
        for use in address_uses
        if not (use.kind is UsageKind.REQUESTED and use.is_for_vm(vm.namespace, vm.name, vm.uid))
    ]


def _release_on_other_network(
    state: AttachState, vm: Vm, address: Address, hold_released: bool, fenced: bool
) -> Release:
    """Release the address that the VM had on the network that it leaves."""
    for network in list_networks(vm.namespace, state.snapshot):
        if address in network and network.uid != state.network.uid:
            allocations = load_shards(network, [shard_of(network, int(address))], state.snapshot)
            record = allocations.records().get(int(address))
            if record is None or record.uid != vm.uid:
                return Release()
            backend = state.backend
            address_uses = _without_requests_of(vm, backend.address_uses(network, [vm], Intervals(), state.snapshot))
            return build_release(
                allocations,
                int(address),
                record,
                address_uses,
                backend,
                state.ctx,
                hold_released=hold_released,
                fenced=fenced,
            )
    return Release()
