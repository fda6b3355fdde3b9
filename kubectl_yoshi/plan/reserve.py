"""Plan the reservation of addresses, and the release of addresses by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import (
    RESERVATION,
    VIRTUALMACHINE,
    Allocation,
    Allocations,
    SearchHint,
    Shard,
    is_large,
    shard_of,
)
from kubectl_yoshi.model.backend import Backend, UsageKind
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attach.allocate import find_unused_addresses
from kubectl_yoshi.plan.attach.quota import check_reservation_quota
from kubectl_yoshi.plan.conflicts import OtherNetworks
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.network_lookup import (
    LIST_NETWORKS_HINT,
    being_deleted_error,
    check_initialized,
    get_backend,
    load_network,
)
from kubectl_yoshi.plan.records import (
    check_room_for_reservations,
    check_room_outside_cidr,
    load_shards,
    records_written_by_run,
    remove_records,
    write_records,
)
from kubectl_yoshi.plan.release import build_release

FREE_ADDRESSES_HINT = "Choose another address; see `kubectl yoshi ips list --free`."


@dataclass(frozen=True)
class ReserveRequest:
    """Request to reserve addresses.

    Attributes:
        network: its namespace and name.
        addresses: the addresses to reserve; empty for any.
        count: the number of addresses to reserve if none is named.
        note: the purpose, as free text.
        reserved_for: see Allocation.reserved_for.
    """

    network: tuple[str, str]
    addresses: tuple[Address, ...] = ()
    count: int = 1
    note: str = ""
    reserved_for: str = ""


def plan_reserve(request: ReserveRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that reserve addresses, all or none; `results` has them as keys.

    Raises:
        PreconditionFailed: an address is held or never assigned, the network is full, or the quota of the namespace
            that they are for is used up.
    """
    network = load_network(*request.network, ctx.snapshot)
    backend = get_backend(network, ctx.backends)
    if "" in ctx.run.failed:
        raise ctx.run.failed[""]
    check_initialized(network)
    record = Allocation(
        RESERVATION, network.namespace, "", since=ctx.run.micro_time, note=request.note,
        reserved_for=request.reserved_for,
    )  # fmt: skip
    allocations, reserved_by_run = _reserved_by_run(network, ctx)
    try:
        if network.is_deleting:
            raise being_deleted_error(network)
        if request.addresses:
            selection = _select_requested(request, allocations, backend, ctx)
        else:
            selection = _select_free(request.count - len(reserved_by_run), allocations, backend, ctx)
        new_numbers = {*selection.numbers, *reserved_by_run}
        check_reservation_quota(network, record.reserved_namespace, new_numbers, ctx.snapshot)
        if record.reserved_vm:
            check_room_for_reservations(network, selection.numbers)
    except PreconditionFailed as error:
        return _roll_back(allocations, reserved_by_run, error, backend, ctx.snapshot)
    allocations, numbers = selection.allocations, selection.numbers
    reserved = [*map(int, request.addresses)] or sorted({*reserved_by_run, *numbers})
    results = {str(network.address(number)): request.note for number in reserved}
    plan = Plan()
    if numbers:
        is_counted = network.max_per_namespace is not None and bool(record.reserved_namespace)
        uses_blocks = is_large(network)
        new_records = dict.fromkeys(numbers, record)
        plan = write_records(allocations, new_records, if_unchanged=is_counted and not uses_blocks, hint=selection.hint)
        if is_counted and uses_blocks and not ctx.run.preview:  # they are counted again before anything else
            return replace(plan, requeue=True, results=results)
    current = allocations.records()
    held = {number: current.get(number, record) for number in reserved}
    return replace(plan + backend.reserve(network, held, ctx.snapshot), results=results)


@dataclass(frozen=True)
class _Selection:
    """The addresses to reserve.

    Attributes:
        allocations: those of all shards that were read.
        numbers: the addresses that are not reserved yet.
        hint: where the next search for a free address starts.
    """

    allocations: Allocations
    numbers: list[int]
    hint: SearchHint | None = None


def _select_requested(
    request: ReserveRequest, allocations: Allocations, backend: Backend, ctx: PlanContext
) -> _Selection:
    """Select those of the requested addresses that are not reserved yet.

    Raises:
        PreconditionFailed: one of them cannot be reserved.
    """
    network = allocations.network
    other_networks = OtherNetworks(network, ctx.snapshot)
    for address in request.addresses:
        other_networks.check_not_theirs(address)
        if reason := network.unusable_reason(address):
            raise PreconditionFailed(
                f"{address} cannot be reserved on network {network.full_name}: {reason}", FREE_ADDRESSES_HINT
            )
    shards = {shard_of(network, int(address)) for address in request.addresses}
    allocations = allocations.with_objects(load_shards(network, shards, ctx.snapshot).objects)
    records = allocations.records()
    numbers = [int(address) for address in request.addresses if int(address) not in records]
    for address in request.addresses:
        held = records.get(int(address))
        wanted = (RESERVATION, request.note, request.reserved_for)
        if held is not None and (held.kind, held.note, held.reserved_for) != wanted:
            holder_text = f"it is {held.holder}" if held.kind == RESERVATION else f"{held.holder} holds it"
            raise PreconditionFailed(
                f"{address} is not free: {holder_text} on network {network.full_name}", FREE_ADDRESSES_HINT
            )
    wanted_numbers = Intervals.from_numbers(numbers)
    for use in backend.address_uses(network, (), wanted_numbers, ctx.snapshot):
        if use.number in wanted_numbers:
            raise PreconditionFailed(f"{network.address(use.number)} is not free: {use.summary}", FREE_ADDRESSES_HINT)
    check_room_outside_cidr(allocations, numbers)
    return _Selection(allocations, numbers)


def _select_free(count: int, allocations: Allocations, backend: Backend, ctx: PlanContext) -> _Selection:
    """Select free addresses.

    Raises:
        PreconditionFailed: there are fewer.
    """
    if count <= 0:
        return _Selection(allocations, [])

    def load_more(shards: Iterable[Shard]) -> Allocations:
        nonlocal allocations
        loaded = load_shards(allocations.network, shards, ctx.snapshot)
        allocations = allocations.with_objects(loaded.objects)
        return loaded

    found = find_unused_addresses(allocations.network, backend, count, load_more, ctx)
    if isinstance(found, PreconditionFailed):
        raise found
    return _Selection(allocations, found.numbers, found.hint)


def _reserved_by_run(network: Network, ctx: PlanContext) -> tuple[Allocations, dict[int, Allocation]]:
    """Return the reservations of earlier rounds of this run that still exist, and the allocations of their shards."""
    written_by_run = records_written_by_run(network, ctx.run)
    allocations = load_shards(network, {shard_of(network, number) for number in written_by_run}, ctx.snapshot)
    current = allocations.records()
    return allocations, {
        n: current[n] for n, values in written_by_run.items() if n in current and current[n].as_written in values
    }


def _roll_back(
    allocations: Allocations,
    reserved_by_run: Mapping[int, Allocation],
    error: PreconditionFailed,
    backend: Backend,
    snapshot: Snapshot,
) -> Plan:
    """Plan to roll back the reservations of this run, and the backend's holds for them, if not all can be reserved.

    Raises:
        PreconditionFailed: nothing needs to be rolled back; it is the `error` itself.
    """
    if not reserved_by_run:
        raise error
    plan = backend.unreserve(allocations.network, reserved_by_run, snapshot).plan + remove_records(
        allocations, reserved_by_run
    )
    return replace(plan, errors={allocations.network.full_name: error})


@dataclass(frozen=True)
class ReleaseRequest:
    """Request to release addresses by hand.

    Attributes:
        network: its namespace and name.
        addresses: reservations, and records of VMs that do not use them.
    """

    network: tuple[str, str]
    addresses: tuple[Address, ...]


def plan_release(request: ReleaseRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that release addresses; `results` has the holder of each, `errors` why one must stay.

    Raises:
        PreconditionFailed: the network does not exist, or an address is not in it.
    """
    network = load_network(*request.network, ctx.snapshot)
    if "" in ctx.run.failed:
        return Plan(errors={owner or network.full_name: error for owner, error in ctx.run.failed.items()})
    backend = get_backend(network, ctx.backends)
    for address in request.addresses:
        if not network.can_hold(address):
            raise PreconditionFailed(
                f"{address} is not an address of network {network.full_name} ({network.cidr})", f"{LIST_NETWORKS_HINT}."
            )
    allocations = load_shards(network, {shard_of(network, int(address)) for address in request.addresses}, ctx.snapshot)
    records = allocations.records()
    plan = Plan()
    results: dict[str, str] = {}
    errors: dict[str, YoshiError] = {}
    reserved: dict[int, Allocation] = {}
    for address in request.addresses:
        record = records.get(int(address))
        if record is None:
            continue
        results[str(address)] = record.holder
        if record.kind == RESERVATION:
            reserved[int(address)] = record
            continue
        if record.owner in ctx.run.failed:
            errors[str(address)] = ctx.run.failed[record.owner]
            continue
        address_uses = backend.all_address_uses(network, (record.namespace,), ctx.snapshot)
        if record.kind == VIRTUALMACHINE:  # by name too: a client that may get it may lack the permission to list
            holder = Query(VM, record.namespace, record.name)
            vms = [Vm(obj) for obj in ctx.snapshot.lookup(holder)]
            if reason := ctx.snapshot.unreadable_reason(holder):
                errors[str(address)] = PreconditionFailed(
                    f"{address} stays recorded for {record.holder}: cannot check whether the VM requests it: {reason}",
                    ASK_ADMIN_HINT,
                )
                continue
            address_uses = (*address_uses, *backend.address_uses(network, vms, Intervals(), ctx.snapshot))
        wanted = [u for u in address_uses if u.number == int(address) and u.kind is UsageKind.REQUESTED]
        wanted = [u for u in wanted if u.is_for_vm(record.namespace, record.name, record.uid)]
        release = build_release(allocations, int(address), record, (*wanted, *address_uses), backend, ctx)
        if release.notes:
            hint = f"See `kubectl yoshi ips show {address}`."
            if wanted:
                hint = (
                    f"Detach it with `kubectl yoshi vm detach {record.name} -n {record.namespace} "
                    f"--network {network.relative_name(record.namespace)}`."
                )
            errors[str(address)] = PreconditionFailed(release.notes[0], hint)
        plan = plan.parallel(release.plan)
    if reserved:
        unreserved = backend.unreserve(network, reserved, ctx.snapshot)
        if unreserved.blocker:
            raise PreconditionFailed(
                f"reservations on network {network.full_name} stay: {unreserved.blocker}", ASK_ADMIN_HINT
            )
        plan = plan + unreserved.plan + remove_records(allocations, reserved, until=ctx.run.micro_time)
    return replace(plan, results=results, errors=errors)
