"""Attaching VMs to a network: the allocation first, then the VM; what a failed attachment wrote is rolled back.

The protocol and its invariants are in docs/design.md. One plan serves one VM and many: their allocations go in one
patch per shard, then the VMs are patched in parallel. Every round reads again, so a run that was killed, was slower
than another, or must wait for a VM to stop, is finished by the same function.

If another writer set an address on the VM meanwhile, that one wins; this run's address is released and the other one
reported. A refused attachment leaves a VM the address that it had before. An attachment that finds its own old
allocation renews its time before it relies on it, so that `ips gc`, which leaves allocations younger than its grace
period alone, does not release it. In a large network a killed run may leave a second allocation for a VM, in another
block than the one where the search begins; `ips gc` releases it.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import replace

from kubectl_yoshi.model.allocations import RESERVATION, Allocations, Shard, is_large, shard_of, status_shard
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, YoshiError, vm_not_found_error
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Plan, sequential
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import DEFAULT_NIC, Vm
from kubectl_yoshi.plan import restart as restarts
from kubectl_yoshi.plan.attach.context import AttachRequest, AttachState, Selection
from kubectl_yoshi.plan.attach.quota import check_quota
from kubectl_yoshi.plan.attach.rollback import plan_rollback
from kubectl_yoshi.plan.attach.select import (
    allocate_addresses,
    check_usable,
    select_existing_addresses,
    take_reservation_test,
)
from kubectl_yoshi.plan.attach.vm_changes import plan_vm_changes
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
from kubectl_yoshi.plan.records import records_written_by_run
from kubectl_yoshi.plan.release import are_all_patched

__all__ = ["AttachRequest", "plan_attach"]


def plan_attach(request: AttachRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that assign addresses of the network to the VMs, as far as they can be planned now.

    The plan's `results` has the address of each VM, its `errors` why a VM gets none.

    Raises:
        PreconditionFailed, UsageError: no VM can be attached (the network does not exist or cannot be used).
    """
    ctx.snapshot.prefetch(network_query(*request.network), *request.queries)
    network = load_network(*request.network, ctx.snapshot)
    backend = get_backend(network, ctx.backends)
    _check_request(request, network, backend, ctx)
    state, missing = _load_state(request, network, backend, ctx)
    refused = {**_refused_by_network(state), **ctx.run.failed}
    active = [vm for vm in state.vms if vm.full_name not in refused]
    selection = select_existing_addresses(state, active)
    state, selection = allocate_addresses(state, active, selection)
    quota = check_quota(state, [vm for vm in active if vm.full_name in selection.addresses], selection)
    admitted = [vm for vm in active if vm.full_name in selection.addresses and vm.full_name not in quota.errors]
    recheck = _must_recheck_networks(state, admitted, selection)
    plan = plan_vm_changes(state, admitted, selection, is_counted=quota.has_new_vms, recheck=recheck)
    # The record of an address that a VM runs with is not rolled back, so all changes must be permitted first.
    if request.existing:
        plan = replace(plan, future_changes=(*plan.future_changes, *plan))
    assigned = [vm for vm in admitted if vm.full_name in plan.results]
    if request.take_reservation and _takes_reservation_of_others(state, assigned, selection):
        plan = sequential(take_reservation_test(network)) + plan
    errors = {**missing, **selection.errors, **quota.errors, **plan.errors}
    errors |= {vm.full_name: refused[vm.full_name] for vm in state.vms if vm.full_name in refused}
    failed_vms = [vm for vm in state.vms if vm.full_name in errors]
    plan = plan + plan_rollback(state, failed_vms, selection, over_quota=quota.errors.keys())
    plan = plan + restarts.resume_stopped_vms(failed_vms, replace(ctx, run=replace(ctx.run, failed=refused)))
    answers_suffice = not errors and backend.pins_vm_template and are_all_patched(state.vms, plan)
    return replace(plan, errors=errors, answers_suffice=answers_suffice)


def _check_request(request: AttachRequest, network: Network, backend: Backend, ctx: PlanContext) -> None:
    """Check what applies to all VMs.

    Raises:
        PreconditionFailed: no VM can be attached.
    """
    _check_plugin(request.plugin, network)
    if request.nic != DEFAULT_NIC and not backend.has_interface:
        raise PreconditionFailed(
            f"network {network.full_name} adds no interface to its VMs",
            "--interface-name, --interface-model, --cloud-init and --hotplug are for Layer 2 networks.",
        )
    if request.mac is not None and not backend.pins_vm_template:
        raise PreconditionFailed(
            f"network {network.full_name} is public: its addresses are on no interface of a VM",
            "Leave --mac out, or name a private or Layer 2 network.",
        )
    check_backend_available(network, backend, ctx.snapshot)
    if not (request.network_planned and ctx.run.preview):
        check_initialized(network)
    if request.address is not None:
        check_usable(network, request.address)


def _load_state(
    request: AttachRequest, network: Network, backend: Backend, ctx: PlanContext
) -> tuple[AttachState, dict[str, YoshiError]]:
    """Read the state of the VMs and of the addresses that may become theirs.

    Returns:
        The state, and why the VMs that are not in it cannot be attached.
    """
    vms: list[Vm] = []
    missing: dict[str, YoshiError] = {}
    for query in request.queries:
        found = ctx.snapshot.lookup(query)
        if found and not Vm(found[0]).is_deleting:
            vms.append(Vm(found[0]))
        else:
            missing[f"{query.namespace}/{query.name}"] = _vm_unavailable_error(query, bool(found), ctx.snapshot)
    written_by_run = records_written_by_run(network, ctx.run)
    state = AttachState(network, backend, ctx, Allocations(network, {}), request, tuple(vms), written_by_run)
    addresses = [address for vm in vms if (address := state.requested_address(vm)) is not None]
    requested = {int(address) for address in addresses if network.can_hold(address)}
    state, _ = ctx.snapshot.parallel_pair(
        lambda: state.with_uses(requested), lambda: ctx.snapshot.lookup(*backend.config_queries(ctx.snapshot))
    )
    state = state.with_shards(_relevant_shards(state, requested))
    # Again, as only its record shows with which address a hot-plugged interface runs.
    more = {number for vm in vms for number in (*state.unverified(vm), *state.reserved_for(vm))}
    return state.with_uses(requested | more), missing


def _relevant_shards(state: AttachState, requested: Set[int]) -> set[Shard]:
    """Return the shards of all addresses that the VMs request, have, or may have had."""
    network = state.network
    numbers = requested | state.written_by_run.keys()
    numbers |= {number for vm in state.vms for number in state.on_vm(vm)}
    # No shard is loaded yet: these are the records that the status of a large network has for addresses of its CIDR.
    numbers |= {number for vm in state.request.vms for number in state.allocations.held_by(*vm)}
    # An address used by a VM of that name, though perhaps an earlier one: its record or its history is in that shard.
    used_numbers = {use.number for vm in state.vms for use in state.address_uses.by_vm(vm.namespace, vm.name)}
    numbers |= {number for number in used_numbers if number in network.cidr_addresses}
    numbers |= {number for number, vm in network.reserved_for_vms.items() if vm in state.request.vms}
    shards = {shard_of(network, number) for number in numbers}
    if network.accepts_outside_cidr or not is_large(network):  # these are in the status, which is already read
        shards.add(status_shard(network))
    return shards


def _refused_by_network(state: AttachState) -> dict[str, YoshiError]:
    """Return the VMs that the network does not accept now, because it is being deleted or is not ready, and why."""
    if state.network.is_deleting:
        incomplete = (vm.full_name for vm in state.vms if not state.is_complete(vm))
        return dict.fromkeys(incomplete, being_deleted_error(state.network))
    if reason := not_ready_error(state.network):
        return dict.fromkeys((vm.full_name for vm in state.vms if not state.allocated(vm)), reason)
    return {}


def _must_recheck_networks(state: AttachState, vms: Iterable[Vm], selection: Selection) -> bool:
    """Return whether addresses outside the CIDR are new, which another network may record at the same time."""
    numbers = {selection.addresses[vm.full_name] for vm in vms}
    outside_cidr = {number for number in numbers if number not in state.network.cidr_addresses}
    return not state.written_by_run.keys() >= outside_cidr


def _takes_reservation_of_others(state: AttachState, vms: Iterable[Vm], selection: Selection) -> bool:
    """Return whether the address selected for one of these VMs is reserved, but not for the VM or its namespace."""
    records = ((vm, state.records.get(selection.addresses[vm.full_name])) for vm in vms)
    return any(
        record is not None and record.kind == RESERVATION and not record.is_reserved_for(vm.namespace, vm.name)
        for vm, record in records
    )


def _vm_unavailable_error(query: Query, is_deleting: bool, snapshot: Snapshot) -> PreconditionFailed:
    if is_deleting:
        return PreconditionFailed(
            f'VM "{query.name}" in namespace "{query.namespace}" is being deleted', "Wait until it is deleted."
        )
    if reason := snapshot.unreadable_reason(query):
        return PreconditionFailed(
            f'VM "{query.name}" in namespace "{query.namespace}" cannot be read: {reason}', ASK_ADMIN_HINT
        )
    return vm_not_found_error(query.namespace, query.name)


def _check_plugin(plugin: str, network: Network) -> None:
    if plugin and plugin != network.plugin:
        raise PreconditionFailed(
            f'network {network.full_name} uses plugin "{network.plugin}", not "{plugin}"',
            "See `kubectl yoshi network list`.",
        )
