"""Attaching VMs to a network: the record first, then the VM, and nothing left behind when it fails.

The protocol and its invariants are in docs/design.md. One plan serves one VM and many: their records go in one patch
per shelf, then the VMs are patched side by side. Every round observes anew, so a run that was killed, was slower than
another, or must wait for a VM to stop, is finished by the same function.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import Allocations, shard_of, status_shard
from kubectl_yoshi.model.backend import AddressUses
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, LIST_VMS_HINT, PlanningError, PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import DEFAULT_NIC, Vm
from kubectl_yoshi.plan import restart as restarts
from kubectl_yoshi.plan.attach.context import AttachRequest, AttachState
from kubectl_yoshi.plan.attach.quota import enforce_quota
from kubectl_yoshi.plan.attach.rollback import plan_rollback
from kubectl_yoshi.plan.attach.select import allocate_addresses, select_existing_address
from kubectl_yoshi.plan.attach.vm_changes import plan_vm_changes
from kubectl_yoshi.plan.conflicts import OtherNetworks
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.network_lookup import (
    being_deleted_error,
    check_backend_available,
    check_initialized,
    get_backend,
    load_network,
    network_query,
    not_ready_error,
)
from kubectl_yoshi.plan.records import check_room_outside_cidr, records_written_by_run
from kubectl_yoshi.plan.release import are_all_patched, remove_left_fences

__all__ = ["AttachRequest", "find_legacy_addresses", "plan_attach"]


def plan_attach(request: AttachRequest, ctx: PlanContext) -> Plan:
    """The changes that give the VMs addresses of the network, as far as they can be planned now.

    The plan's `results` has each VM's address, its `errors` why a VM gets none.

    Raises:
        PreconditionFailed, UsageError: no VM can be attached (no such network, the network cannot be used).
    """
    ctx.snapshot.lookup(network_query(*request.network), *request.queries)
    network = load_network(*request.network, ctx.snapshot)
    backend = get_backend(network, ctx.backends)
    _check_plugin(request.plugin, network)
    if request.nic != DEFAULT_NIC and not backend.has_interface:
        raise PreconditionFailed(
            f"network {network.full_name} gives its VMs no interface of their own",
            "--nic-name, --model, --cloud-init and --live are for layer 2 networks.",
        )
    check_backend_available(network, backend, ctx.snapshot)
    if not (request.network_planned and ctx.run.preview):
        check_initialized(network)
    errors: dict[str, YoshiError] = {}
    vms: list[Vm] = []
    for query in request.queries:
        owner = f"{query.namespace}/{query.name}"
        found = ctx.snapshot.lookup(query)
        if found and not Vm(found[0]).is_deleting:
            vms.append(Vm(found[0]))
        else:
            errors[owner] = _vm_unavailable_error(query, bool(found), ctx.snapshot)
    state = AttachState(request, network, backend, ctx, vms)
    requested_addresses = [address for vm in vms if (address := state.requested_address(vm)) is not None]
    requested = {int(address) for address in requested_addresses if network.can_hold(address)}
    if request.address is not None:
        _check_usable(network, request.address)
    address_uses, _ = ctx.snapshot.parallel_pair(
        lambda: backend.address_uses(network, vms, Intervals.from_numbers(requested), ctx.snapshot),
        lambda: ctx.snapshot.lookup(*backend.config_queries(ctx.snapshot)),
    )
    state.address_uses = AddressUses(address_uses)
    written_by_run = records_written_by_run(network, ctx.run)
    numbers = requested | set(written_by_run) | {number for vm in vms for number in state.on_vm(vm)}
    numbers |= find_legacy_addresses(network, request.vms)
    # What a VM of that name has used, though it may have been another VM: its record, or who had it, is there.
    used_numbers = {use.number for vm in vms for use in state.address_uses.by_vm(vm.namespace, vm.name)}
    numbers |= {number for number in used_numbers if number in network.cidr_addresses}
    shards = {shard_of(network, number) for number in numbers}
    if network.accepts_outside_cidr:  # all that it holds outside its CIDR is on one shelf, which was read already
        shards.add(status_shard(network))
    state.load(shards)
    # Once more: with which address an interface runs that was plugged in live, only its record says.
    requested |= {number for vm in vms for number in state.unverified(vm)}
    state.address_uses = AddressUses(
        backend.address_uses(network, vms, Intervals.from_numbers(requested), ctx.snapshot)
    )
    if network.is_deleting:
        incomplete = (vm.full_name for vm in vms if not state.is_complete(vm))
        ctx = replace(
            ctx,
            run=replace(ctx.run, failed={**dict.fromkeys(incomplete, being_deleted_error(network)), **ctx.run.failed}),
        )
    elif reason := not_ready_error(network):
        new_vms = (vm.full_name for vm in vms if not state.allocated(vm))
        ctx = replace(ctx, run=replace(ctx.run, failed={**dict.fromkeys(new_vms, reason), **ctx.run.failed}))
    active = [vm for vm in vms if vm.full_name not in ctx.run.failed]
    selected: dict[str, int] = {}
    unassigned: list[Vm] = []
    other_networks = OtherNetworks(network, ctx.snapshot)
    for vm in active:
        try:
            for existing in state.existing(vm):
                _check_usable(network, existing)
            if (address := state.requested_address(vm)) is not None:
                other_networks.check_not_theirs(address)
            number = select_existing_address(state, vm)
            if number is not None:
                other_networks.check_not_theirs(network.address(number))
                check_room_outside_cidr(state.allocations, [*selected.values(), number])
        except PlanningError as error:
            errors[vm.full_name] = error
            continue
        if number is None:
            unassigned.append(vm)
        else:
            selected[vm.full_name] = number
    if unassigned:
        allocate_addresses(state, unassigned, selected, errors)
    quota_limited = enforce_quota(state, [vm for vm in active if vm.full_name in selected], errors)
    over_quota = selected.keys() & errors.keys()
    admitted = [vm for vm in active if vm.full_name in selected and vm.full_name not in errors]
    outside_cidr = {selected[vm.full_name] for vm in admitted if selected[vm.full_name] not in network.cidr_addresses}
    recheck = not written_by_run.keys() >= outside_cidr
    plan = plan_vm_changes(state, admitted, selected, errors, quota_limited, recheck)
    if request.existing:  # the record of an address that a VM runs with stays: all of it must be allowed before
        plan = replace(plan, future_changes=(*plan.future_changes, *plan))
    errors |= {vm.full_name: ctx.run.failed[vm.full_name] for vm in vms if vm.full_name in ctx.run.failed}
    failed_vms = [vm for vm in vms if vm.full_name in errors]
    rollback = plan_rollback(state, failed_vms, written_by_run, set(selected.values()), over_quota)
    rollback = rollback + restarts.resume_stopped_vms(failed_vms, ctx)
    plan = replace(plan + rollback, errors={**plan.errors, **errors})
    plan = plan + remove_left_fences(vms, plan)
    return replace(plan, answers_suffice=not errors and backend.pins_vm_template and are_all_patched(vms, plan))


def find_legacy_addresses(network: Network, vms: Iterable[tuple[str, str]]) -> set[int]:
    """The addresses that the original yoshi recorded for these VMs in the status of a large network."""
    vm_names = set(vms)
    legacy_allocations = Allocations(network, {}).legacy_allocations
    return {n for n, entry in legacy_allocations.items() if (entry.record.namespace, entry.record.name) in vm_names}


def _vm_unavailable_error(query: Query, is_deleting: bool, snapshot: Snapshot) -> PreconditionFailed:
    if is_deleting:
        return PreconditionFailed(
            f'VM "{query.name}" in namespace "{query.namespace}" is being deleted', "Wait until it is gone."
        )
    if reason := snapshot.unreadable_reason(query):
        return PreconditionFailed(
            f'VM "{query.name}" in namespace "{query.namespace}" cannot be read: {reason}', ASK_ADMIN_HINT
        )
    return PreconditionFailed(
        f'VM "{query.name}" not found in namespace "{query.namespace}"',
        LIST_VMS_HINT,
    )


def _check_plugin(plugin: str, network: Network) -> None:
    if plugin and plugin != network.plugin:
        raise PreconditionFailed(
            f'network {network.full_name} is made with plugin "{network.plugin}", not "{plugin}"',
            "See `kubectl yoshi network list`.",
        )


def _check_usable(network: Network, address: Address) -> None:
    if reason := network.unusable_reason(address):
        raise PreconditionFailed(
            f"{address} cannot be given out by network {network.full_name}: {reason}",
            "Leave out --ip for any free address, or see `kubectl yoshi ips list --free`.",
        )
