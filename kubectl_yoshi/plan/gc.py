"""Collect unused records, addresses that a backend still holds, and objects of networks that no longer exist.

Only what invariant I5 permits is released: not while a VM requests the address, anything runs with it, or that cannot
be checked; and no record younger than a grace period, since its attachment may be in progress.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.backend import AddressUses, Backend, UsageKind
from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD, Network
from kubectl_yoshi.model.plan import Plan, parallel_plans
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.block_maintenance import delete_empty_block
from kubectl_yoshi.plan.context import PlanContext, age_in_seconds
from kubectl_yoshi.plan.network_lookup import load_network, parse_networks, unsupported_reason
from kubectl_yoshi.plan.records import load_allocations, reload_allocations, unlist_outdated_reservations
from kubectl_yoshi.plan.release import build_release

GRACE_SECONDS = 300.0
"""The grace period by default."""


@dataclass(frozen=True)
class GcRequest:
    """Request to collect what is unused.

    Attributes:
        networks: namespace and name of each network; None for all that can be read, and orphans of deleted ones.
        namespace: with networks None, only those of this namespace; None for all.
        grace_seconds: records younger than this stay.
    """

    networks: tuple[tuple[str, str], ...] | None = None
    namespace: str | None = None
    grace_seconds: float = GRACE_SECONDS


def plan_gc(request: GcRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that release what is unused.

    Raises:
        PreconditionFailed: a network does not exist, or networks cannot be listed.
    """
    plan = Plan()
    if "" in ctx.run.failed:
        return Plan(errors=_errors_by_owner(ctx.run.failed))
    for network in _list_networks(request, ctx.snapshot):
        backend = ctx.backends.get(network.plugin)
        if backend is None:
            plan = plan + Plan(notes=(f"network {network.full_name} is skipped: plugin {network.plugin!r}",))
            continue
        if reason := unsupported_reason(network):
            plan = plan + Plan(notes=(f"{reason}: it is skipped",))
            continue
        part = _release_unused(request, network, backend, ctx).parallel(_delete_empty_blocks(network, ctx))
        part = part.parallel(unlist_outdated_reservations(network, ctx.snapshot))
        # The backend also keeps what is still recorded for a VM that no longer exists.
        if not part and not ctx.run.failed:
            part = part + backend.orphaned_allocations(
                network, partial(_reload_records, network, ctx.snapshot), ctx.snapshot
            )
        if not part:
            part = part + backend.repairs(network, None, ctx.snapshot)
        plan = plan.parallel(part)
    if request.networks is None:
        plan = plan + remove_orphaned_objects(request.namespace, ctx.backends, ctx.snapshot)
    return replace(plan, requeue=bool(plan), errors=_errors_by_owner(ctx.run.failed))


def plan_orphan_removal(namespace: str | None, ctx: PlanContext) -> Plan:
    """Plan to delete orphaned objects of networks that were deleted with plain kubectl.

    Args:
        namespace: that of the networks; None for all.
    """
    if ctx.run.failed:
        return Plan(errors=_errors_by_owner(ctx.run.failed))
    return remove_orphaned_objects(namespace, ctx.backends, ctx.snapshot)


def _errors_by_owner(failed: Mapping[str, YoshiError]) -> dict[str, YoshiError]:
    """Return the errors by owner; those without an owner are kept under a general name."""
    return {owner or "objects outside the network": error for owner, error in failed.items()}


def _list_networks(request: GcRequest, snapshot: Snapshot) -> list[Network]:
    if request.networks is not None:
        return [load_network(namespace, name, snapshot) for namespace, name in request.networks]
    query = Query(NETWORKWIZARD, request.namespace)
    found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(f"networks cannot be listed: {reason}", "Choose one namespace with -n instead of -A.")
    return parse_networks(found)


def _release_unused(request: GcRequest, network: Network, backend: Backend, ctx: PlanContext) -> Plan:
    allocations = load_allocations(network, ctx.snapshot)
    candidates = {
        number: record
        for number, record in allocations.records().items()
        if record.kind == VIRTUALMACHINE and record.owner not in ctx.run.failed
    }
    if not candidates:
        return Plan()
    namespaces = _namespaces_to_search(candidates.values(), ctx.snapshot)
    address_uses = AddressUses(backend.all_address_uses(network, namespaces, ctx.snapshot))
    wanted = {use.number for use in address_uses.all if use.kind is UsageKind.REQUESTED}

    def plan_record_release(number: int, record: Allocation) -> Plan:
        if reason := ctx.snapshot.unreadable_reason(Query(VM, record.namespace if namespaces else None)):
            return Plan(notes=(f"{allocations.address(number)} stays recorded for {record.holder}: {reason}",))
        remaining = [use for use in address_uses.by_number(number) if use.kind is not UsageKind.REQUESTED]
        release = build_release(allocations, number, record, remaining, backend, ctx, reserve_for=record.reserved_for)
        return replace(release.plan, notes=release.notes)

    remaining = sorted(number for number in candidates if number not in wanted)
    ages = {number: age_in_seconds(candidates[number].since, ctx.run.now) for number in remaining}
    old = [number for number in remaining if ages[number] >= request.grace_seconds]
    young_count = len(remaining) - len(old)
    plan = (
        parallel_plans(
            ctx.snapshot.parallel(partial(plan_record_release, number, candidates[number]) for number in old)
        )
        if old
        else Plan()
    )
    return plan + _grace_period_notes(network, young_count, request.grace_seconds) if young_count else plan


def _grace_period_notes(network: Network, count: int, grace_seconds: float) -> Plan:
    """Return a note about records that stay only because of their age."""
    records = f"{count} record{'s' if count > 1 else ''} of network {network.full_name}"
    reason = f"{'are' if count > 1 else 'is'} younger than --grace {format_duration(grace_seconds)}"
    return Plan(notes=(f"{records} that no VM has {reason}: skipped for now",))


def _delete_empty_blocks(network: Network, ctx: PlanContext) -> Plan:
    """Plan to delete blocks that are empty and whose history is no longer retained."""
    blocks = [
        obj
        for shard, obj in load_allocations(network, ctx.snapshot).objects.items()
        if shard.is_block and obj is not None
    ]
    closed = tuple(change for change in (delete_empty_block(block, ctx.run.now) for block in blocks) if change)
    return Plan((closed,) if closed else ())


def _reload_records(network: Network, snapshot: Snapshot) -> Mapping[int, Allocation]:
    return reload_allocations(network, snapshot).records()


def _namespaces_to_search(records: Iterable[Allocation], snapshot: Snapshot) -> tuple[str, ...] | None:
    """Return None (all namespaces), as any VM may have an address; those of the records if not all can be read."""
    snapshot.lookup(Query(VM))
    if snapshot.unreadable_reason(Query(VM)):
        return tuple(sorted({record.namespace for record in records}))
    return None


def remove_orphaned_objects(namespace: str | None, backends: Mapping[str, Backend], snapshot: Snapshot) -> Plan:
    """Plan to delete orphaned objects of networks of the namespace that were deleted with plain kubectl.

    It must read all networks: one may have been recreated elsewhere, and its name alone does not identify it.
    """
    all_namespaces = Query(NETWORKWIZARD)
    live = snapshot.lookup(all_namespaces)
    if reason := snapshot.unreadable_reason(all_namespaces):
        return Plan(notes=(f"objects of deleted networks are not looked for: {reason}",))
    networks = parse_networks(live)
    if len(networks) != len(live):
        return Plan(notes=("objects of deleted networks are not looked for while a network's spec is broken",))
    plan = Plan()
    for backend in backends.values():
        if not backend.missing_apis(snapshot.served):
            try:
                plan = plan + _remove_objects_of(backend, networks, namespace, snapshot)
            except PreconditionFailed as error:
                plan = plan + Plan(notes=(error.message,))
    return plan


def _remove_objects_of(backend: Backend, live: Sequence[Network], namespace: str | None, snapshot: Snapshot) -> Plan:
    """Plan to delete the objects that one backend created for networks that no longer exist.

    A network may have been created after the networks were read, and its objects before these were read; therefore the
    networks are read once more.
    """
    plan = backend.orphaned_objects(live, namespace, snapshot)
    if not plan:
        return plan
    latest = parse_networks(snapshot.lookup(Query(NETWORKWIZARD, read_number=1)))
    return backend.orphaned_objects([*live, *latest], namespace, snapshot)
