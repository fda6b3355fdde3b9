"""Plan the detachment of VMs: first the template, then the record, and the record only when nothing uses the address.

With `keep`, the record becomes a reservation in the patch that would remove it. The allocation says for whom before
anything else changes (`Allocation.reserved_for`).

What the backend holds for the VM is released before the template changes if the VM would otherwise get the address
again (Backend.keeps_addresses).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import Allocation, Allocations, is_large, reserved_for_vm, shard_of, status_shard
from kubectl_yoshi.model.backend import AddressUse, AddressUses, UsageKind
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, LIST_VMS_HINT, PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.plan import AttachmentResult, Plan, parallel_plans
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm, find_instance
from kubectl_yoshi.plan import restart as restarts
from kubectl_yoshi.plan.context import PlanContext, PlanState
from kubectl_yoshi.plan.network_lookup import being_deleted_error, get_backend, load_network, network_query
from kubectl_yoshi.plan.orphaned_vms import is_network_missing, plan_detach_from_missing
from kubectl_yoshi.plan.records import (
    check_room_for_reservations,
    load_allocations,
    load_shards,
    original_records,
    records_written_by_run,
    remove_records,
    write_records,
)
from kubectl_yoshi.plan.release import Release, are_all_patched, build_release, require_unchanged


@dataclass(frozen=True)
class DetachRequest:
    """Request to detach VMs from a network.

    Attributes:
        network: its namespace and name.
        vms: namespace and name of each VM; a VM that no longer exists is detached too.
        restart: restart a VM that still runs with the address, so that it can be released.
        live: unplug the interface of a running VM if possible.
        keep: keep each address reserved for its VM.
        reserve_for: for whom `keep` reserves it (Allocation.reserved_for); "" for the VM that had it.
    """

    network: tuple[str, str]
    vms: tuple[tuple[str, str], ...]
    restart: bool = False
    live: bool = False
    keep: bool = False
    reserve_for: str = ""

    def reservation(self, namespace: str, name: str) -> str:
        """Return for whom the addresses of a VM are reserved (Allocation.reserved_for); "" if they are released."""
        return (self.reserve_for or reserved_for_vm(namespace, name)) if self.keep else ""


def plan_detach(request: DetachRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that detach the VMs from the network, as far as they can be planned now.

    The plan's `results` has the addresses that each VM loses.

    Raises:
        PreconditionFailed: the network does not exist, and no VM requests it.
    """
    queries = tuple(Query(VM, namespace, name) for namespace, name in request.vms)
    ctx.snapshot.prefetch(network_query(*request.network), *queries)
    try:
        network = load_network(*request.network, ctx.snapshot)
    except PreconditionFailed as error:
        if not is_network_missing(request.network, ctx.snapshot):
            raise
        return plan_detach_from_missing(request.network, request.vms, ctx, error)
    unreadable = {
        f"{query.namespace}/{query.name}": PreconditionFailed(
            f'VM "{query.name}" cannot be read: {reason}', ASK_ADMIN_HINT
        )
        for query in queries
        if (reason := ctx.snapshot.unreadable_reason(query))
    }
    errors: dict[str, YoshiError] = {**ctx.run.failed, **unreadable}
    present = [Vm(obj) for obj in ctx.snapshot.lookup(*queries)]
    missing = sorted({*request.vms} - {(vm.namespace, vm.name) for vm in present})
    state = _load_state(request, network, present, ctx, load_all=bool(missing))
    if request.keep and network.is_deleting:
        raise being_deleted_error(network)
    marks = _mark_reservations(state, [name for name in request.vms if "/".join(name) not in errors])
    if marks and not ctx.run.preview:
        return replace(marks, errors=errors)
    active = [vm for vm in present if vm.full_name not in errors]
    parts = [partial(_detach_vm, state, vm) for vm in active]
    parts += [partial(_detach_missing_vm, state, *vm) for vm in missing if "/".join(vm) not in errors]
    plan = parallel_plans(ctx.snapshot.parallel(parts))
    failed_vms = [vm for vm in present if vm.full_name in errors]
    plan = plan + restarts.resume_stopped_vms(failed_vms, ctx) + _unmark_addresses(state, errors)
    errors = {**plan.errors, **errors}
    is_complete = not errors and not missing and are_all_patched(present, plan)
    answers_suffice = is_complete and state.backend.pins_vm_template and all(_is_recorded(state, vm) for vm in present)
    return replace(plan, errors=errors, answers_suffice=answers_suffice)


@dataclass(frozen=True)
class _DetachState(PlanState):
    """The state from which the detachment of each VM is planned.

    Attributes:
        request: the request.
        address_uses: the uses of the VMs' addresses in the cluster.
    """

    request: DetachRequest
    address_uses: AddressUses


def _load_state(
    request: DetachRequest, network: Network, vms: list[Vm], ctx: PlanContext, *, load_all: bool
) -> _DetachState:
    backend = get_backend(network, ctx.backends)
    address_uses = AddressUses(backend.address_uses(network, vms, Intervals(), ctx.snapshot))
    allocations = _load_relevant_allocations(network, vms, address_uses, ctx.snapshot, load_all=load_all)
    # Again, as only its record shows with which address a hot-plugged interface runs.
    address_uses = AddressUses(backend.address_uses(network, vms, Intervals(), ctx.snapshot))
    return _DetachState(network, backend, ctx, allocations, request, address_uses)


def _mark_reservations(state: _DetachState, vms: Iterable[NamespacedName]) -> Plan:
    """Plan to write into the allocations of VMs for whom their addresses stay reserved; empty if that is so.

    It precedes all other changes: if the run is killed, or an address cannot be released yet, what releases it later
    (`ips gc`, `sync`) keeps it reserved or does not, as the allocation says.

    Raises:
        PreconditionFailed: a large network has too many reservations for VMs.
    """
    held = {f"{namespace}/{name}": state.allocations.held_by(namespace, name) for namespace, name in vms}
    records = {
        number: replace(record, reserved_for=reserved_for)
        for vm_records in held.values()
        for number, record in vm_records.items()
        if record.reserved_for != (reserved_for := state.request.reservation(record.namespace, record.name))
    }
    if not records:
        return Plan()
    if state.request.keep:
        check_room_for_reservations(state.network, records.keys())
    owners = {number: record.owner for number, record in records.items()}
    results = {
        owner: ", ".join(str(state.network.address(number)) for number in sorted(vm_records))
        for owner, vm_records in held.items()
        if vm_records
    }
    return replace(write_records(state.allocations, records, owners), requeue=True, results=results)


def _unmark_addresses(state: _DetachState, errors: Mapping[str, YoshiError]) -> Plan:
    """Plan to restore the allocations of VMs that are not detached, as they were before this run marked them."""
    if not errors:
        return Plan()
    written, before = records_written_by_run(state.network, state.run), original_records(state.network, state.run)
    marked = {
        number: before[number]
        for number, record in state.allocations.records().items()
        if record.owner in errors and record.as_written in written.get(number, ())
        if number in before and before[number].reserved_for != record.reserved_for
    }
    owners = {number: record.owner for number, record in marked.items()}
    return write_records(state.allocations, marked, owners) if marked else Plan()


def _stop_in_vain_error(state: _DetachState, vm: Vm, records: Mapping[int, Allocation]) -> PreconditionFailed | None:
    """Return why a VM must not be stopped to release its addresses: the backend would assign them again."""
    for number, record in records.items():
        if reason := state.backend.release_hold(state.network, number, record, state.snapshot).forbidden:
            return PreconditionFailed(
                f"{vm.ref} would run with {state.network.address(number)} again, which cannot be released: {reason}",
                "Leave out --restart to detach it anyway, or ask an administrator to run this command.",
            )
    return None


def _load_relevant_allocations(
    network: Network, vms: list[Vm], address_uses: AddressUses, snapshot: Snapshot, load_all: bool
) -> Allocations:
    """Return the allocations in the shards of the VMs' addresses; all allocations if these do not suffice."""
    numbers = {use.number for vm in vms for use in address_uses.by_vm(vm.namespace, vm.name)}
    known = {(use.namespace, use.name) for use in address_uses.all}
    if load_all or not is_large(network) or any((vm.namespace, vm.name) not in known for vm in vms):
        return load_allocations(network, snapshot)
    in_status = Allocations(network, {})  # for addresses of its CIDR
    numbers |= {number for vm in known for number in in_status.held_by(*vm)}
    status_shards = [status_shard(network)] if network.accepts_outside_cidr else []
    return load_shards(network, {*status_shards, *(shard_of(network, number) for number in numbers)}, snapshot)


def _detach_vm(state: _DetachState, vm: Vm) -> Plan:
    request, network, backend, ctx = state.request, state.network, state.backend, state.ctx
    allocations, address_uses = state.allocations, state.address_uses
    running = find_instance(vm, ctx.snapshot) is not None
    hot_plug = backend.hot_plug(vm, ctx.snapshot) if request.live and running else None
    detach_patches = backend.detach_patch(vm, network, ctx.snapshot, live=hot_plug is not None and not hot_plug.blocker)
    detach_patches = require_unchanged(vm, detach_patches)
    plan = Plan((detach_patches,) if detach_patches else ())
    vm_records = allocations.held_by(vm.namespace, vm.name)
    vm_uses = [
        *address_uses.by_vm(vm.namespace, vm.name),
        *(use for number in vm_records for use in address_uses.by_number(number)),
    ]
    remaining = [
        use for use in vm_uses if not (use.kind is UsageKind.REQUESTED and use.is_for_vm(vm.namespace, vm.name, vm.uid))
    ]
    running_uses = [
        use for use in remaining if use.kind is UsageKind.RUNNING and use.is_for_vm(vm.namespace, vm.name, vm.uid)
    ]
    fenced = any(change.ref == vm.ref for change in detach_patches)
    release = _release_records(state, vm_records, remaining, fenced)
    released = [str(allocations.address(number)) for number in sorted(vm_records)]
    results = {vm.full_name: ", ".join(released)} if released or plan else {}
    attachments = _attachments(state, vm.full_name, vm_records)
    if running and running_uses and request.restart:
        if error := _stop_in_vain_error(state, vm, vm_records):
            return Plan(errors={vm.full_name: error})
        stop_plan = restarts.plan_restart(vm, None, remaining, ctx, must_stop=True).plan
        first, last = (stop_plan, plan if ctx.run.preview else Plan()) if backend.keeps_addresses else (plan, stop_plan)
        removal = remove_records(allocations, vm_records, dict.fromkeys(vm_records, vm.full_name))
        return replace(
            first + last,
            requeue=True,
            results=results,
            attachments=attachments,
            future_changes=(*stop_plan.future_changes, *removal),
        )
    plan = release.before + plan + release.removal if backend.keeps_addresses else plan + release.plan
    if release.notes:
        stays = AddressState.RESTART_NEEDED if running and running_uses else AddressState.ORPHANED
        attachments = {owner: replace(attachment, state=stays) for owner, attachment in attachments.items()}
    if not backend.pins_vm_template:
        return replace(plan, notes=(*plan.notes, *release.notes), results=results, attachments=attachments)
    restart = restarts.plan_restart(vm, None, remaining, ctx, must_stop=False)
    if restart.resumes:
        plan = plan + restart.plan
    notes = release.notes
    if running and running_uses:
        address = allocations.address(running_uses[0].number)
        notes = (*notes, restarts.restart_note(f"{vm.ref} still runs with {address}", hot_plug))
        if hot_plug is not None and not hot_plug.blocker:
            notes = (*notes, f"then run the same command again, or `kubectl yoshi ips gc`, to release {address}")
    return replace(plan, notes=(*plan.notes, *notes), results=results, attachments=attachments)


def _attachments(state: _DetachState, vm: str, vm_records: Mapping[int, Allocation]) -> dict[str, AttachmentResult]:
    """Return what a VM ("namespace/name") no longer has once it is detached; {} if it had nothing."""
    if not vm_records:
        return {}
    addresses = ", ".join(str(state.network.address(number)) for number in sorted(vm_records))
    mac = next((record.mac for record in vm_records.values() if record.mac), "")
    outcome = AddressState.RESERVED if state.request.keep else AddressState.RELEASED
    return {vm: AttachmentResult(state.network.full_name, addresses, mac, outcome)}


def _is_recorded(state: _DetachState, vm: Vm) -> bool:
    """Return whether the addresses that are set on a VM have records.

    Otherwise the network may have been read before the VM was attached, and must be read again to release them (I5).
    """
    vm_uses = state.address_uses.by_vm(vm.namespace, vm.name, vm.uid)
    requested = {use.number for use in vm_uses if use.kind is UsageKind.REQUESTED}
    return requested <= state.allocations.held_by(vm.namespace, vm.name).keys()


def _release_records(
    state: _DetachState, vm_records: Mapping[int, Allocation], address_uses: Iterable[AddressUse], fenced: bool = False
) -> Release:
    release = Release()
    for number, record in vm_records.items():
        release = release + build_release(
            state.allocations,
            number,
            record,
            address_uses,
            state.backend,
            state.ctx,
            fenced=fenced,
            reserve_for=state.request.reservation(record.namespace, record.name),
        )
    return release


def _detach_missing_vm(state: _DetachState, namespace: str, name: str) -> Plan:
    """Release the addresses of a VM that no longer exists."""
    vm_records = state.allocations.held_by(namespace, name)
    owner, run = f"{namespace}/{name}", state.run
    if not vm_records and (run.done_for(owner) or any(change.owner == owner for change in run.unclear)):
        return Plan()  # this run has released it
    if not vm_records:
        error = PreconditionFailed(
            f'VM "{name}" not found in namespace "{namespace}", and it holds no address of {state.network.full_name}',
            LIST_VMS_HINT,
        )
        return Plan(errors={owner: error})
    address_uses = state.backend.all_address_uses(state.network, (namespace,), state.snapshot)
    release = _release_records(state, vm_records, address_uses)
    results = {owner: ", ".join(str(state.network.address(number)) for number in sorted(vm_records))}
    attachments = _attachments(state, owner, vm_records)
    if release.notes:
        attachments = {owner: replace(attachments[owner], state=AddressState.ORPHANED)}
    return replace(release.plan, notes=release.notes, results=results, attachments=attachments)
