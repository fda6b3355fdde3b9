"""Moving a public address to another VM: never on two VMs at once, never without an allocation.

The VM that is to have it first requests it, with the ports that the address was open on; the VM that has it is detached
from it; the allocation changes hands in one patch, which fails if another writer was faster; then the other VM gets it.
Whether a Service's status may be written is found out before anything is removed, by a patch that only tests. A run
that was killed in between is finished by the same command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import (
    RESERVATION,
    UNKNOWN_KIND_REASON,
    UPGRADE_HINT,
    VIRTUALMACHINE,
    Allocation,
    shard_of,
)
from kubectl_yoshi.model.backend import AddressUse, Attachment, UsageKind
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, YoshiError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import AttachmentResult, Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.attach.quota import check_quota_room, check_reservation_quota
from kubectl_yoshi.plan.attach.select import take_reservation_test
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.move.context import MoveRequest, MoveState, MoveToReservationRequest
from kubectl_yoshi.plan.move.rollback import roll_back_move, stage_detach_changes
from kubectl_yoshi.plan.network_lookup import check_initialized, find_network_of, get_backend, load_network
from kubectl_yoshi.plan.records import check_room_for_reservations, load_allocations, load_shards, write_records
from kubectl_yoshi.plan.release import write_fence

__all__ = ["MoveRequest", "MoveToReservationRequest", "plan_move", "plan_move_to_reservation"]


def plan_move(request: MoveRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that move the address, as far as they can be planned now.

    The plan's `results` has the address for the VM that gets it.

    Raises:
        PreconditionFailed: the address is not allocated, is reserved, or may not be moved; or the VM has another one.
    """
    state = _load_state(request, ctx)
    if ctx.run.failed:
        plan = _roll_back(state, ctx.run.failed)
    else:
        check_initialized(state.network)
        try:
            plan = _plan_forward(state)
        except PreconditionFailed as error:
            plan = _roll_back(state, {state.target.full_name: error})
            if not plan:
                raise
    return plan


def _load_state(request: MoveRequest, ctx: PlanContext) -> MoveState:
    if request.network is not None:
        network = load_network(*request.network, ctx.snapshot)
    else:
        network = find_network_of(request.address, request.to[0], ctx.snapshot)
    allocations = load_shards(network, [shard_of(network, int(request.address))], ctx.snapshot)
    target = _load_vm(request.to, ctx.snapshot)
    return MoveState(network, get_backend(network, ctx.backends), ctx, allocations, request, target)


def _plan_forward(state: MoveState) -> Plan:
    request, network, target, number = state.request, state.network, state.target, state.number
    record = state.allocations.records().get(number)
    attach_request = AttachRequest(
        (network.namespace, network.name), (request.to,), request.address, ports=request.ports, wait=request.wait,
        take_reservation=request.take_reservation,
    )  # fmt: skip
    if record is not None and record.kind == RESERVATION:
        return plan_attach(attach_request, state.ctx)
    _check_movable(state, record)
    assert record is not None
    if record.uid == target.uid and record.namespace == target.namespace:
        return plan_attach(attach_request, state.ctx)
    _check_not_held_for_other(state, record)
    records = load_allocations(network, state.snapshot).records()
    _check_no_other_address(state, records)
    # A move in progress is completed, as a refusal would only interrupt the traffic of the previous holder.
    if not state.run.sent:
        check_quota_room(network, (other for n, other in records.items() if n != number), target)
    plan = _detach_holder(state, record)
    if plan is None:
        handover = write_records(state.allocations, {number: _record_of_target(state)}, {number: target.full_name})
        handover = write_fence(record, state.ctx, target.full_name) + handover
        return _with_result(handover, state)
    later_changes = _plan_after_detach(state)
    plan = (
        plan + later_changes
        if state.run.preview
        else replace(plan, future_changes=(*plan.future_changes, *later_changes))
    )
    return _with_result(plan, state)


def _with_result(plan: Plan, state: MoveState) -> Plan:
    """Return a plan with the result that the target has the address."""
    vm, address = state.target.full_name, str(state.request.address)
    attachment = AttachmentResult(state.network.full_name, address)
    return replace(plan, results={vm: address}, attachments={vm: attachment})


def _record_of_target(state: MoveState) -> Allocation:
    target = state.target
    return Allocation(VIRTUALMACHINE, target.namespace, target.name, target.uid, since=state.run.micro_time)


def plan_move_to_reservation(request: MoveToReservationRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that keep an address of a VM reserved, or that reserve it for another VM or namespace.

    The plan's `results` has the network of the address.

    Raises:
        PreconditionFailed: the address is not allocated, may not be moved, or the quota leaves no room for it.
    """
    if request.network is not None:
        network = load_network(*request.network, ctx.snapshot)
    else:
        network = find_network_of(request.address, request.namespace, ctx.snapshot)
    check_initialized(network)
    backend, number = get_backend(network, ctx.backends), int(request.address)
    allocations = load_shards(network, [shard_of(network, number)], ctx.snapshot)
    record = allocations.records().get(number)
    if record is None or record.kind not in (RESERVATION, VIRTUALMACHINE):
        held = f"it is {record.holder}" if record else "nothing has it"
        raise PreconditionFailed(
            f"{request.address} on network {network.full_name} cannot become a reservation: {held}",
            f"Reserve a free address with `kubectl yoshi ips reserve {network.full_name} {request.address}`.",
        )
    reservation = record.to_reservation(network, request.reserve_for, ctx.run.micro_time)
    results = {str(request.address): network.full_name}
    if record.kind == RESERVATION and record.reserved_for == request.reserve_for:
        return Plan(results=results, errors=ctx.run.failed)
    if not ctx.run.sent:  # a move in progress is completed
        check_reservation_quota(network, reservation.reserved_namespace, {number}, ctx.snapshot)
    if record.kind == VIRTUALMACHINE:
        if backend.pins_vm_template:
            raise PreconditionFailed(
                f"{request.address} belongs to network {network.full_name}, whose addresses cannot be moved: only "
                "public addresses can",
                f"`kubectl yoshi vm detach {record.name} -n {record.namespace} --network "
                f"{network.relative_name(record.namespace)} --keep` reserves it for its VM.",
            )
        detach_request = DetachRequest(
            (network.namespace, network.name), ((record.namespace, record.name),),
            keep=True, reserve_for=request.reserve_for,
        )  # fmt: skip
        return replace(plan_detach(detach_request, ctx), results=results)
    is_same_tenant = record.reserved_namespace == reservation.reserved_namespace
    if not is_same_tenant and not request.take_reservation:
        raise PreconditionFailed(
            f"{request.address} is {record.holder} on network {network.full_name}",
            "Users who can change the network can pass --take-reservation.",
        )
    if "" in ctx.run.failed:
        raise ctx.run.failed[""]
    if reservation.reserved_vm:
        check_room_for_reservations(network, {number})
    plan = Plan() if is_same_tenant else sequential(take_reservation_test(network))
    plan = plan + write_records(allocations, {number: reservation})
    return replace(plan + backend.reserve(network, {number: reservation}, ctx.snapshot), results=results)


def _load_vm(name: tuple[str, str], snapshot: Snapshot) -> Vm:
    query = Query(VM, *name)
    found = snapshot.lookup(query)
    if not found or Vm(found[0]).is_deleting:
        reason = snapshot.unreadable_reason(query) or ("it is being deleted" if found else "it does not exist")
        raise PreconditionFailed(
            f'VM "{name[1]}" in namespace "{name[0]}" cannot get an address: {reason}', "Name another VM."
        )
    return Vm(found[0])


def _check_movable(state: MoveState, record: Allocation | None) -> None:
    network, target = state.network, state.target
    address = state.request.address
    attach_command = f"kubectl yoshi vm attach {target.name} -n {target.namespace}"
    name = network.relative_name(target.namespace)
    if state.backend.pins_vm_template:
        raise PreconditionFailed(
            f"{address} belongs to network {network.full_name}, whose addresses cannot be moved: only public "
            "addresses can",
            f"{_detach_hint(network, record)}`{attach_command} --network {name} --ip {address}`.",
        )
    if record is None:
        raise PreconditionFailed(
            f"{address} is not assigned on network {network.full_name}: there is nothing to move",
            f"Assign it with `{attach_command} --public-network {name} --public-ip {address}`.",
        )
    if not record.is_known:
        raise PreconditionFailed(
            f"{address} is assigned to {record.holder} on network {network.full_name}: {UNKNOWN_KIND_REASON}",
            UPGRADE_HINT,
        )


def _detach_hint(network: Network, record: Allocation | None) -> str:
    """Return the command to run before an address of a VM can be attached elsewhere, in words; "" if none is needed."""
    if record is None or record.kind != VIRTUALMACHINE:
        return ""
    name = network.relative_name(record.namespace)
    return f"`kubectl yoshi vm detach {record.name} -n {record.namespace} --network {name}`, then "


def _check_no_other_address(state: MoveState, records: Mapping[int, Allocation]) -> None:
    """Check that the VM has no other address of the network.

    Raises:
        PreconditionFailed: it has one.
    """
    network, target = state.network, state.target
    address_uses = [
        use
        for use in state.backend.address_uses(network, [target], Intervals(), state.snapshot)
        if use.kind is UsageKind.REQUESTED
    ]
    on_vm = {use.number for use in address_uses if use.is_for_vm(target.namespace, target.name, target.uid)}
    recorded = {other for other, record in records.items() if record.uid == target.uid}
    for other in sorted((on_vm | recorded) - {state.number}):
        raise PreconditionFailed(
            f"VM {target.full_name} already has {network.address(other)} on network {network.full_name}",
            f"Detach it first: `kubectl yoshi vm detach {target.name} -n {target.namespace} "
            f"--network {network.full_name}`.",
        )


def _check_not_held_for_other(state: MoveState, record: Allocation) -> None:
    """Check that no object that yoshi does not manage holds the address for the current VM.

    Such an object decides which VM has the address.

    Raises:
        PreconditionFailed: there is one.
    """
    network = state.network
    for use in state.backend.all_address_uses(network, (record.namespace,), state.snapshot):
        if (
            use.number == state.number
            and use.kind is UsageKind.HELD_BY_BACKEND
            and not use.is_for_vm(state.target.namespace, state.target.name, state.target.uid)
        ):
            raise PreconditionFailed(
                f"{use.ref} has {network.address(state.number)} for VM {record.holder} and is not managed by yoshi",
                f"Change its selector to VM {state.target.full_name}, then move the address.",
            )


def _roll_back(state: MoveState, errors: Mapping[str, YoshiError]) -> Plan:
    """Plan to undo what this run did for a VM that does not get the address."""
    return replace(roll_back_move(state), errors=errors)


def _detach_holder(state: MoveState, record: Allocation) -> Plan | None:
    """Return the changes that detach the address from its VM; None if the VM no longer has it.

    Raises:
        PreconditionFailed: an object of a VM that no longer exists still has the address.
    """
    network, backend, target, number, snapshot = (
        state.network,
        state.backend,
        state.target,
        state.number,
        state.snapshot,
    )
    query = Query(VM, record.namespace, record.name)
    found = snapshot.lookup(query)
    owner = record.owner
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(
            f"cannot check whether VM {owner} still has {network.address(number)}: {reason}", ASK_ADMIN_HINT
        )
    current_vm = Vm(found[0]) if found else None
    if current_vm is not None and (not record.uid or current_vm.uid == record.uid):
        detach_changes = [
            replace(change, owner=target.full_name) for change in backend.detach_patch(current_vm, network, snapshot)
        ]
        if not detach_changes:
            return None
        ports = (
            state.request.ports
            or backend.configured_ports(target, network, snapshot)
            or backend.configured_ports(current_vm, network, snapshot)
        )
        attachment = Attachment(target, network, number, ports=ports)
        attach_patches = backend.attach_patch(attachment, snapshot)
        plan = Plan((attach_patches,) if attach_patches else ())
        if not state.run.preview:
            plan = plan + _permission_tests(backend.ensure_service(attachment, snapshot), detach_changes)
        return plan + stage_detach_changes(detach_changes)
    remaining = [use for use in _uses_of_deleted_vm(state, record) if use.number == number]
    if remaining:
        raise PreconditionFailed(
            f"{remaining[0].ref} of VM {owner}, which no longer exists, still has {network.address(number)}",
            "Kubernetes is deleting it; try again in a moment.",
        )
    return None


def _permission_tests(service_plan: Plan, detach_changes: Iterable[Change]) -> Plan:
    """Plan patches that check the permissions for the new VM's Service before the old one is deleted.

    They only test, on the old VM's objects, where the new ones need patches of the same kind (the status of a Service).
    """
    deletions = [change for change in detach_changes if change.verb is Verb.DELETE]
    patched_kinds = {(change.ref.resource, change.subresource) for change in service_plan if change.verb is Verb.PATCH}
    tests = tuple(
        Change(
            Verb.PATCH, end.ref, f"check the permission to write the {subresource} of {end.ref}",
            PatchBuilder.for_uid(end.uid).ops, subresource, before=end.before, owner=end.owner,
        )
        for end in deletions
        for resource, subresource in patched_kinds
        if subresource and resource == end.ref.resource
    )  # fmt: skip
    return Plan((tests,) if tests else ())


def _uses_of_deleted_vm(state: MoveState, record: Allocation) -> tuple[AddressUse, ...]:
    address_uses = state.backend.all_address_uses(state.network, (record.namespace,), state.snapshot)
    return tuple(use for use in address_uses if use.is_for_vm(record.namespace, record.name, record.uid))


def _plan_after_detach(state: MoveState) -> Plan:
    """Plan the changes that follow once the previous VM is detached."""
    network, target, number = state.network, state.target, state.number
    new_record = _record_of_target(state)
    plan = write_records(state.allocations, {number: new_record})
    attachment = Attachment(target, network, number, ports=state.request.ports)
    return plan + state.backend.ensure_service(attachment, state.snapshot)
