"""Deleting networks: their addresses, the backend's objects, then the NetworkWizard.

A deletion marks the network first (`status.deleting`, Ready is False), then reads its allocations, then removes the
backend's objects and the network. A patch that records an address tests that there is no mark: in a small network the
same patch does, in a large one, whose allocations are in other objects, a patch to the network that only tests, after
the allocation and before the VM. So either the deletion finds the allocation, or the attachment is refused and rolls
its allocation back.

A deletion that cannot go on (addresses are held, Calico holds some, a permission is missing) removes the mark and
restores the network. One that was killed is completed by the same command, or undone (see `planner`). A large network
from which others remove the mark again and again is not deleted (MAX_DELETION_MARKS).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kubectl_yoshi.model.allocations import (
    NETWORK,
    RESERVATION,
    UNKNOWN_KIND_REASON,
    UPGRADE_HINT,
    VIRTUALMACHINE,
    Allocation,
    Allocations,
    is_large,
)
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import (
    PlanningError,
    PreconditionFailed,
    UnreadableError,
    UsageError,
    first_few,
)
from kubectl_yoshi.model.jsonpatch import json_pointer
from kubectl_yoshi.model.network import Network, parse_minimal_network
from kubectl_yoshi.model.objects import dig, resource_version_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.network.objects import plan_network_objects
from kubectl_yoshi.plan.network.status import NetworkStatus, plan_status
from kubectl_yoshi.plan.network_lookup import (
    check_initialized,
    check_version_supported,
    get_backend,
    load_network,
    network_query,
)
from kubectl_yoshi.plan.records import STATUS_DELETING, remove_records, require_allocations

MAX_DELETION_MARKS = 3
"""How often a deletion marks a network again that another run reconciles meanwhile.

Then a small network is deleted without the mark, guarded by its resourceVersion. That does not suffice for a large
network, whose records are in other objects.
"""


@dataclass(frozen=True)
class NetworkDeleteRequest:
    """Request to delete a network and all objects created for it.

    Attributes:
        namespace, name: of the NetworkWizard.
        force: detach its VMs and remove its reservations first.
        restart: with force, restart VMs that run with its addresses.
    """

    namespace: str
    name: str
    force: bool = False
    restart: bool = False


def plan_network_deletion(request: NetworkDeleteRequest, ctx: PlanContext) -> Plan:
    """Plan the deletion of the network and of all objects created for it, as far as it can be planned now.

    The network is first marked as being deleted, so that it assigns no more addresses, then read again. If it must stay
    after all, it is reconciled again.

    Raises:
        PreconditionFailed: VMs hold its addresses (the message lists them) and `force` is not set, or they still run.
    """
    if _is_deleted_by_run(request, ctx):
        return Plan()
    network = _load_even_invalid(request, ctx.snapshot)
    if ctx.run.failed:
        return _abort_failed_deletion(network, ctx)
    try:
        allocations = require_allocations(network, ctx.snapshot)
        _check_releasable(allocations, request.force)
        plan = _release_reservations(allocations, ctx.run)
        plan = plan + _detach_vms(allocations, request.restart, ctx)
        if plan and (not ctx.run.preview or plan.notes):
            plan = replace(plan, requeue=True, future_changes=(*plan.future_changes, *_later_changes(network, ctx)))
        else:
            plan = _delete_objects(network, plan, ctx)
    except PreconditionFailed as refused:
        if not network.deleting_since or ctx.run.preview:
            raise
        return replace(_abort_deletion(network, ctx), requeue=True, errors={network.full_name: refused})
    if _must_mark_first(network, ctx.run):
        return replace(_mark_deletion(network, ctx.run), requeue=True, future_changes=plan.future_changes)
    return plan


def _is_deleted_by_run(request: NetworkDeleteRequest, ctx: PlanContext) -> bool:
    if ctx.snapshot.lookup(network_query(request.namespace, request.name)):
        return False
    return any(change.verb is Verb.DELETE and change.ref.name == request.name for change in ctx.run.sent)


def _abort_failed_deletion(network: Network, ctx: PlanContext) -> Plan:
    """Plan the reconciliation of a network whose deletion this run could not complete."""
    aborts = bool(network.deleting_since) and "" not in ctx.run.failed
    plan = _abort_deletion(network, ctx) if aborts else Plan()
    return replace(plan, errors={network.full_name: next(iter(ctx.run.failed.values()))})


def _abort_deletion(network: Network, ctx: PlanContext) -> Plan:
    """Plan the reconciliation of a network whose deletion was started and cannot be completed."""
    plan, created, health = Plan(), True, ""
    try:
        backend = get_backend(network, ctx.backends)
        check_initialized(network)
        plan = plan_network_objects(network, backend, ctx)
        health = "" if plan else backend.health(network, ctx.snapshot)
    except PlanningError as error:
        created, health = network.is_created, error.message
    if unreadable := ctx.snapshot.unreadable_reasons():  # what cannot be read is not absent, so it is not created
        plan, health = Plan(), unreadable[0]
    return plan + plan_status(network, NetworkStatus(created, health), ctx.run, "")


def _check_releasable(allocations: Allocations, force: bool) -> None:
    """Check that every allocation may be released.

    Raises:
        PreconditionFailed: addresses are held and `force` is not set, or a newer version has recorded them.
    """
    network, records = allocations.network, _holders(allocations)
    for number, record in sorted(records.items()):
        if not record.is_known:
            holder = f"{allocations.address(number)} {record.holder}"
            raise PreconditionFailed(
                f"network {network.full_name} is in use: {holder}; {UNKNOWN_KIND_REASON}", UPGRADE_HINT
            )
    if records and not force:
        holders = [f"{allocations.address(number)} {record.holder}" for number, record in sorted(records.items())]
        raise PreconditionFailed(
            f"network {network.full_name} is in use: {first_few(holders, 10)}",
            "Detach them first, or pass --force to detach them and release reservations.",
        )


def _holders(allocations: Allocations) -> dict[int, Allocation]:
    """Return the allocations, except that of the address that the network itself needs."""
    return {number: record for number, record in allocations.records().items() if record.kind != NETWORK}


def _release_reservations(allocations: Allocations, run: RunContext) -> Plan:
    reserved = {n: record for n, record in allocations.records().items() if record.kind == RESERVATION}
    return remove_records(allocations, reserved, until=run.micro_time) if reserved else Plan()


def _detach_vms(allocations: Allocations, restart: bool, ctx: PlanContext) -> Plan:
    """Plan to detach every VM that holds an address.

    Raises:
        PreconditionFailed: no VM can be detached now.
    """
    network, records = allocations.network, allocations.records().values()
    vms = sorted({(record.namespace, record.name) for record in records if record.kind == VIRTUALMACHINE})
    if not vms:
        return Plan()
    plan = plan_detach(DetachRequest((network.namespace, network.name), tuple(vms), restart), ctx)
    blockers = plan.notes or tuple(error.message for error in plan.errors.values())
    if not any(plan) and blockers:
        raise PreconditionFailed(
            f"network {network.full_name} cannot be deleted yet: {blockers[0]}",
            "Stop these VMs first, or pass --force --restart.",
        )
    return plan


def _later_changes(network: Network, ctx: PlanContext) -> tuple[Change, ...]:
    """Return the changes that follow once no address is held, as far as they are known.

    Raises:
        UnreadableError: something that the deletion depends on cannot be read; no VM is to be detached for nothing.
    """
    plan = Plan()
    if backend := _installed_backend(network, ctx):
        try:
            plan = backend.teardown(network, ctx.snapshot, ignore_usage=True)
        except PreconditionFailed as refused:
            raise UnreadableError(
                f"network {network.full_name} cannot be deleted: {refused.message}", refused.hint
            ) from None
    _check_all_read(network, ctx.snapshot)
    return (*plan, _deletion(network))


def _delete_objects(network: Network, plan: Plan, ctx: PlanContext) -> Plan:
    """Plan the deletion of the backend's objects and of the network after the changes of `plan`.

    Raises:
        UnreadableError: something that the network may own cannot be read, and would be left behind.
        PreconditionFailed: an object still uses the network, and nothing else can be done.
    """
    if backend := _installed_backend(network, ctx):
        plan = plan + backend.repairs(network, None, ctx.snapshot)
        try:
            plan = plan + backend.teardown(network, ctx.snapshot)
        except PreconditionFailed as refused:
            if not plan:
                raise
            return plan + Plan(notes=(f"for now: {refused.message}",))
    _check_all_read(network, ctx.snapshot)
    if dig(network.raw, "metadata", "deletionTimestamp"):
        return replace(plan, notes=(*plan.notes, _finalizer_note(network)))
    return plan + sequential(_deletion(network))


def _check_all_read(network: Network, snapshot: Snapshot) -> None:
    """Check that everything could be read: what cannot be read is not absent.

    Raises:
        UnreadableError: something could not.
    """
    if unreadable := snapshot.unreadable_reasons():
        hint = "Run the same command again when this can be read."
        if unreadable[0].startswith("may not "):
            hint = "Ask an administrator for this permission, or to delete the network."
        raise UnreadableError(f"network {network.full_name} cannot be deleted: {unreadable[0]}", hint)


def _installed_backend(network: Network, ctx: PlanContext) -> Backend | None:
    """Return the network's backend; None if its plugin is unknown or its APIs are not served."""
    backend = ctx.backends.get(network.plugin)
    return backend if backend is not None and not backend.missing_apis(ctx.snapshot.served) else None


def _deletion(network: Network) -> Change:
    return Change(
        Verb.DELETE, network.ref, f"delete network {network.full_name}", before=network.raw, uid=network.uid,
        resource_version=resource_version_of(network.raw), owner=network.full_name,
    )  # fmt: skip


def _finalizer_note(network: Network) -> str:
    finalizers = ", ".join(dig(network.raw, "metadata", "finalizers", default=[]))
    return f"network {network.full_name} is being deleted" + (
        f"; waiting for its finalizers: {finalizers}" if finalizers else ""
    )


def _must_mark_first(network: Network, run: RunContext) -> bool:
    """Return whether the network must be marked as being deleted before anything of it is deleted.

    Raises:
        PreconditionFailed: others remove the mark of a large network again and again.
    """
    if run.preview or network.is_deleting:
        return False
    marks = sum(1 for change in run.done if change.ref == network.ref and _marks_deletion(change))
    if marks < MAX_DELETION_MARKS:
        return True
    if is_large(network):
        raise PreconditionFailed(
            f"network {network.full_name} cannot be deleted: another client removes the deletion mark as often as it "
            "is set",
            "Stop that client, such as `kubectl yoshi sync --watch` on a machine whose clock is ahead. If there is "
            "none, the CRDs are older than this program: `kubectl yoshi install` updates them.",
        )
    return False


def _marks_deletion(change: Change) -> bool:
    """Return whether a change marks a network as being deleted."""
    ops = change.body if isinstance(change.body, list) else ()
    return any(op["path"] == json_pointer(STATUS_DELETING) and op["op"] == "add" for op in ops)


def _mark_deletion(network: Network, run: RunContext) -> Plan:
    status = NetworkStatus(network.is_created, "it is being deleted", deleting=run.timestamp)
    return plan_status(network, status, run, network.full_name)


def list_holders(namespace: str, name: str, snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the holders whose addresses `force` releases: VMs ("prod/web-1"), and the reserved addresses.

    Raises:
        PreconditionFailed: the network does not exist.
    """
    allocations = require_allocations(_load_even_invalid(NetworkDeleteRequest(namespace, name), snapshot), snapshot)
    records = sorted(allocations.records().items())
    vms = dict.fromkeys(record.holder for _, record in records if record.kind == VIRTUALMACHINE)
    return tuple(vms), tuple(
        str(allocations.address(number)) for number, record in records if record.kind == RESERVATION
    )


def _load_even_invalid(request: NetworkDeleteRequest, snapshot: Snapshot) -> Network:
    """Return the network to delete; a network with an invalid spec can be deleted too."""
    try:
        return load_network(request.namespace, request.name, snapshot)
    except UsageError:
        network = parse_minimal_network(snapshot.lookup(network_query(request.namespace, request.name))[0])
        check_version_supported(network)
        return network
