"""Creating and deleting networks: the NetworkWizard, what its backend needs, and its status.

A deletion marks the network first (`status.deleting`, Ready is False), then reads its allocations, then removes the
backend's objects and the network. A patch that records an address tests that there is no mark: in a small network the
same patch does, in a large one, whose allocations are in other objects, a patch to the network that only tests, after
the allocation and before the VM. So either the deletion finds the allocation, or the attachment is refused and rolls
its allocation back.

A deletion that cannot go on (addresses are held, Calico holds some, a permission is missing) removes the mark and
restores the network. One that was killed is completed by the same command or undone by `network create`; `sync` leaves
a marked network alone for ten minutes, then restores it. A large network from which others remove the mark again and
again is not deleted (MAX_DELETION_MARKS).

A network that cannot be created is removed in the same way by the run that created it, and stays where others have been
assigned addresses of it meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kubectl_yoshi.model.allocations import (
    NETWORK,
    RESERVATION,
    UNKNOWN_KIND_REASON,
    UPGRADE_HINT,
    VIRTUALMACHINE,
    is_large,
)
from kubectl_yoshi.model.backend import Backend, NetworkConflict
from kubectl_yoshi.model.errors import (
    ASK_ADMIN_HINT,
    PlanningError,
    PreconditionFailed,
    UnreadableError,
    UsageError,
    YoshiError,
    first_few,
)
from kubectl_yoshi.model.jsonpatch import json_pointer
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_minimal_network, parse_network
from kubectl_yoshi.model.objects import Json, dig, name_of, namespace_of, resource_version_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.conflicts import check_no_earlier_overlap, find_other_overlaps, find_overlaps
from kubectl_yoshi.plan.context import PlanContext, age_in_seconds
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.network.init_allocations import plan_init_allocations
from kubectl_yoshi.plan.network.objects import plan_network_objects
from kubectl_yoshi.plan.network.status import plan_status
from kubectl_yoshi.plan.network_lookup import (
    check_backend_available,
    check_initialized,
    check_version_supported,
    get_backend,
    load_network,
    network_query,
)
from kubectl_yoshi.plan.records import STATUS_DELETING, records_written_by_run, remove_records, require_allocations

ABANDONED_DELETION_SECONDS = 600.0
"""Age in seconds after which a deletion counts as abandoned: `sync` then reconciles the network again."""
NON_BACKEND_RESOURCES = (NETWORKWIZARD, ADDRESSBLOCK, VM)
"""Resources that a run writes to for a new network, besides those that the backend creates or updates."""
MAX_DELETION_MARKS = 3
"""How often a deletion marks a network again that another run reconciles meanwhile.

Then a small network is deleted without the mark, guarded by its resourceVersion. That does not suffice for a large
network, whose records are in other objects.
"""


@dataclass(frozen=True)
class NetworkRequest:
    """Request to create a network, or to reconcile an existing one.

    Attributes:
        namespace, name: of the NetworkWizard.
        manifest: the object to create if it does not exist; None to reconcile the existing one (sync).
        created_together: networks that the same command creates before this one; a preview treats them as existing.
    """

    namespace: str
    name: str
    manifest: Json | None = None
    created_together: tuple[Json, ...] = ()


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


def default_plugin(backends: Mapping[str, Backend], snapshot: Snapshot) -> str:
    """Return the plugin of a network that names none: the first one whose backend is installed.

    Raises:
        PreconditionFailed: none is installed; the message names the APIs that are missing.
    """
    missing_apis = []
    for plugin, backend in backends.items():
        if not backend.allowed_as_default:
            continue
        missing = backend.missing_apis(snapshot.served)
        if not missing:
            return plugin
        missing_apis.append(f"{plugin}: {missing}")
    raise PreconditionFailed(
        "no supported network plugin is installed; looked for " + "; ".join(missing_apis),
        "Install one of these first.",
    )


def plan_network(request: NetworkRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that create or reconcile the network and update its status.

    A network that overlaps another one is refused before it is created; of two that are created at the same time, the
    younger one yields. If a step fails, what this run created is deleted again.

    Raises:
        PreconditionFailed, UsageError: the network cannot be created.
    """
    query = network_query(request.namespace, request.name)
    found = ctx.snapshot.lookup(query)
    if reason := ctx.snapshot.unreadable_reason(query):
        raise PreconditionFailed(f'network "{request.name}" cannot be read: {reason}', ASK_ADMIN_HINT)
    owner = f"{request.namespace}/{request.name}"
    if ctx.run.failed:
        return _roll_back(found, ctx, owner)
    if not found:
        if owner in ctx.run.rolled_back:  # else create and rollback would alternate forever
            raise ctx.run.rolled_back[owner]
        if request.manifest is None:
            load_network(request.namespace, request.name, ctx.snapshot)
        return _create(request, ctx, owner)
    if request.manifest is not None and _is_created_by(parse_minimal_network(found[0]), ctx.run.done):
        try:
            check_created_spec(found[0], request.manifest)
        except PreconditionFailed as error:
            return _remove_created_network(parse_minimal_network(found[0]), error, ctx, owner)
    elif request.manifest is not None:
        check_spec_matches(found[0], request.manifest)
    try:
        network = parse_network(found[0])
    except UsageError as error:
        return replace(
            plan_status(parse_minimal_network(found[0]), False, error.message, ctx.run, owner), errors={owner: error}
        )
    check_version_supported(network)
    age = age_in_seconds(network.deleting_since, ctx.run.now)
    if request.manifest is None and network.deleting_since and age < ABANDONED_DELETION_SECONDS:
        return Plan(notes=(f"network {network.full_name} is skipped: it is being deleted",))
    return _reconcile(network, ctx, owner)


def _create(request: NetworkRequest, ctx: PlanContext, owner: str) -> Plan:
    """Plan the creation of the NetworkWizard, after checking that nothing conflicts with it."""
    assert request.manifest is not None
    network = parse_network(request.manifest)
    backend = get_backend(network, ctx.backends)
    check_backend_available(network, backend, ctx.snapshot)
    created_together = [parse_network(obj) for obj in request.created_together] if ctx.run.preview else []
    for other in created_together:
        if other.ref == network.ref:
            check_spec_matches(other.raw, request.manifest)
            return Plan()
    overlaps, others = ctx.snapshot.parallel_pair(
        lambda: find_overlaps(network, ctx.snapshot, created_together), lambda: backend.conflicts(network, ctx.snapshot)
    )
    conflicts = [*map(NetworkConflict, overlaps), *others]
    if conflicts:
        raise PreconditionFailed(
            f"network {network.full_name} cannot be created: {conflicts[0].summary}", _conflict_hint(conflicts)
        )
    notes = []
    if network.host_bits:
        notes.append(f"{dig(network.raw, 'spec', 'cidr')} has host bits; the network is {network.cidr}")
    if defaults := backend.implicit_choices(network, ctx.snapshot):
        notes.append(f"defaults chosen for network {network.full_name}: {', '.join(defaults)}")
    summary = f"create network {network.full_name}" + (f" with {network.cidr}" if network.cidr else "")
    change = Change(Verb.CREATE, network.ref, summary, body=request.manifest, owner=owner, strict=True)
    plan = sequential(change, notes=tuple(notes))
    if ctx.run.preview:
        return plan + plan_network_objects(network, backend, ctx)
    return replace(plan, requeue=True)


def _reconcile(network: Network, ctx: PlanContext, owner: str) -> Plan:
    if dig(network.raw, "metadata", "deletionTimestamp"):
        raise PreconditionFailed(
            f"network {network.full_name} is being deleted", "Wait until it is deleted, then try again."
        )
    backend = get_backend(network, ctx.backends)
    created_now = _is_created_by(network, ctx.run.done)
    try:
        check_backend_available(network, backend, ctx.snapshot)
        check_no_earlier_overlap(network, ctx.snapshot, just_created=created_now)
        overlaps, others = ctx.snapshot.parallel_pair(
            lambda: [] if network.is_created else find_other_overlaps(network, ctx.snapshot),
            lambda: backend.conflicts(network, ctx.snapshot),
        )
        conflicts = [*map(NetworkConflict, overlaps), *others]
        if conflicts:
            raise PreconditionFailed(conflicts[0].summary, _conflict_hint(conflicts))
        if network.deleting_since and (
            backend.infra_address_purpose(network) or not network.is_initialized
        ):  # the deletion mark refuses all records
            unmark_plan = plan_status(network, network.is_created, "it is being recreated", ctx.run, owner)
            return replace(unmark_plan, requeue=True)
        init_plan = plan_init_allocations(network, backend, ctx, is_new=_is_created_by(network, ctx.run.sent))
        plan = init_plan or plan_network_objects(network, backend, ctx)
    except PlanningError as error:
        if created_now:
            return _remove_created_network(network, error, ctx, owner)
        # A client with too few permissions must not record a failure in the status.
        if ctx.snapshot.unreadable_reasons():
            return Plan(errors={owner: error})
        return replace(plan_status(network, False, error.message, ctx.run, owner), errors={owner: error})
    if plan:
        return replace(plan, requeue=True)
    health = backend.health(network, ctx.snapshot)
    return replace(plan_status(network, True, health, ctx.run, owner), notes=(*init_plan.notes, *plan.notes))


def _is_created_by(network: Network, changes: Iterable[Change]) -> bool:
    """Return whether one of these changes creates the network."""
    return any(change.verb is Verb.CREATE and change.ref == network.ref for change in changes)


def _conflict_hint(conflicts: Sequence[NetworkConflict]) -> str:
    """Return up to two more conflicts, and the way to resolve them."""
    if conflicts[0].is_unreadable:
        return "Ask an administrator for this permission, or to create the network."
    more = [obstacle.summary for obstacle in conflicts[1:3]]
    return "\n".join([*more, "Choose another CIDR or name, or remove the conflicting object."])


def _delete_own_network(network: Network, owner: str) -> Plan:
    return sequential(
        Change(
            Verb.DELETE, network.ref, f"roll back network {network.full_name}", before=network.raw, uid=network.uid,
            resource_version=resource_version_of(network.raw), owner=owner, ignore_not_found=True,
        )
    )  # fmt: skip


def _roll_back(found: list[Json], ctx: PlanContext, owner: str) -> Plan:
    """Plan the deletion of what this run created before it failed; of an existing network, the status."""
    error = next(iter(ctx.run.failed.values()))
    created = {change.ref for change in ctx.run.done if change.verb is Verb.CREATE}
    plan = Plan(errors={owner: error})
    if not found:
        return plan
    if NETWORKWIZARD.ref(name_of(found[0]), namespace_of(found[0])) not in created:
        if owner in ctx.run.failed:  # the write of the status itself failed
            return plan
        network = parse_minimal_network(found[0])
        return replace(plan_status(network, network.is_created, error.message, ctx.run, owner), errors=plan.errors)
    return _remove_created_network(parse_network(found[0]), error, ctx, owner)


def _remove_created_network(network: Network, error: YoshiError, ctx: PlanContext, owner: str) -> Plan:
    """Plan the deletion of a network that this run created and cannot complete, with the objects created for it.

    The network stays if other clients have been assigned addresses of it meanwhile, which is possible as soon as the
    existing VMs are recorded. A large network is marked as being deleted before its records are read, as in every
    deletion.
    """
    plan = Plan(errors={owner: error})
    if reason := _reason_to_keep(network, ctx):
        note = f"network {network.full_name} is kept, although it is not ready: {reason}"
        if owner not in ctx.run.failed:  # else the write of the status itself failed
            plan = plan + plan_status(network, False, error.message, ctx.run, owner)
        return replace(plan, notes=(note,))
    if is_large(network) and network.is_initialized and not network.is_deleting:
        mark_plan = plan_status(network, False, "it is rolled back", ctx.run, owner, deleting=ctx.run.timestamp)
        return replace(plan + mark_plan, requeue=True)
    if any(c.ref.resource not in NON_BACKEND_RESOURCES for c in ctx.run.sent):
        try:
            plan = plan + get_backend(network, ctx.backends).teardown(network, ctx.snapshot)
        except PreconditionFailed as refused:
            plan = replace(plan, notes=(refused.message,))
    return replace(plan + _delete_own_network(network, owner), rolled_back={owner: error})


def _reason_to_keep(network: Network, ctx: PlanContext) -> str:
    """Return why a network that this run created must stay; "" if it can be deleted.

    It stays if another client holds an address of it, or if its allocations cannot be read.
    """
    if not network.is_initialized:
        return ""
    written_by_run = records_written_by_run(network, ctx.run)
    try:
        allocations = require_allocations(network, ctx.snapshot)
    except PreconditionFailed as refused:
        return refused.message
    for number, record in sorted(allocations.records().items()):
        if record.kind != NETWORK and record.as_written not in written_by_run.get(number, ()):
            return f"{record.holder} has {allocations.address(number)} now"
    return ""


def plan_network_deletion(request: NetworkDeleteRequest, ctx: PlanContext) -> Plan:
    """Plan the deletion of the network and of all objects created for it.

    The network is first marked as being deleted, so that it assigns no more addresses, then read again. If it must stay
    after all, it is reconciled again.

    Raises:
        PreconditionFailed: VMs hold its addresses (the message lists them) and `force` is not set, or they still run.
    """
    query = network_query(request.namespace, request.name)
    found = ctx.snapshot.lookup(query)
    if not found and any(c.verb is Verb.DELETE and c.ref.name == request.name for c in ctx.run.sent):
        return Plan()
    network = _load_even_invalid(request, ctx.snapshot)
    owner = network.full_name
    if ctx.run.failed:
        aborts = bool(network.deleting_since) and "" not in ctx.run.failed
        plan = _abort_deletion(network, ctx) if aborts else Plan()
        return replace(plan, errors={owner: next(iter(ctx.run.failed.values()))})
    try:
        plan = _plan_deletion(request, network, ctx)
    except PreconditionFailed as refused:
        if not network.deleting_since or ctx.run.preview:
            raise
        return replace(_abort_deletion(network, ctx), requeue=True, errors={owner: refused})
    marks = sum(1 for c in ctx.run.done if c.ref == network.ref and _marks_deletion(c))
    if ctx.run.preview or network.is_deleting:
        return plan
    if marks >= MAX_DELETION_MARKS:
        if is_large(network):
            raise PreconditionFailed(
                f"network {network.full_name} cannot be deleted: another client removes the deletion mark as often as "
                "it is set",
                "Stop that client, such as `kubectl yoshi sync --watch` on a machine whose clock is ahead. If there "
                "is none, the CRDs are older than this program: `kubectl yoshi install` updates them.",
            )
        return plan
    mark_plan = plan_status(
        network, network.is_created, "it is being deleted", ctx.run, owner, deleting=ctx.run.timestamp
    )
    return replace(mark_plan, requeue=True, future_changes=plan.future_changes)


def _marks_deletion(change: Change) -> bool:
    """Return whether a change marks a network as being deleted."""
    ops = change.body if isinstance(change.body, list) else ()
    return any(op["path"] == json_pointer(STATUS_DELETING) and op["op"] == "add" for op in ops)


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
    return plan + plan_status(network, created, health, ctx.run, "")


def _plan_deletion(request: NetworkDeleteRequest, network: Network, ctx: PlanContext) -> Plan:
    allocations = require_allocations(network, ctx.snapshot)
    records = allocations.records()
    records = {number: record for number, record in records.items() if record.kind != NETWORK}
    for number, record in sorted(records.items()):
        if not record.is_known:
            holder = f"{allocations.address(number)} {record.holder}"
            raise PreconditionFailed(
                f"network {network.full_name} is in use: {holder}; {UNKNOWN_KIND_REASON}", UPGRADE_HINT
            )
    vms = sorted({(r.namespace, r.name) for r in records.values() if r.kind == VIRTUALMACHINE})
    reserved = {n: r for n, r in records.items() if r.kind == RESERVATION}
    if records and not request.force:
        holders = [f"{allocations.address(n)} {r.holder}" for n, r in sorted(records.items())]
        raise PreconditionFailed(
            f"network {network.full_name} is in use: {first_few(holders, 10)}",
            "Detach them first, or pass --force to detach them and release reservations.",
        )
    plan = remove_records(allocations, reserved, until=ctx.run.micro_time) if reserved else Plan()
    if vms:
        detach_request = DetachRequest((network.namespace, network.name), tuple(vms), request.restart)
        detach_plan = plan_detach(detach_request, ctx)
        blockers = detach_plan.notes or tuple(error.message for error in detach_plan.errors.values())
        if not any(detach_plan) and blockers:
            raise PreconditionFailed(
                f"network {network.full_name} cannot be deleted yet: {blockers[0]}",
                "Stop these VMs first, or pass --force --restart.",
            )
        plan = plan + detach_plan
    deletion = Change(
        Verb.DELETE, network.ref, f"delete network {network.full_name}", before=network.raw, uid=network.uid,
        resource_version=resource_version_of(network.raw), owner=network.full_name,
    )  # fmt: skip
    if plan and (not ctx.run.preview or plan.notes):
        later_changes = (*_teardown_later(network, ctx.backends, ctx.snapshot), deletion)
        return replace(plan, requeue=True, future_changes=(*plan.future_changes, *later_changes))
    backend = ctx.backends.get(network.plugin)
    if backend is not None and not backend.missing_apis(ctx.snapshot.served):
        plan = plan + backend.repairs(network, None, ctx.snapshot)
        try:
            plan = plan + backend.teardown(network, ctx.snapshot)
        except PreconditionFailed as refused:
            if not plan:
                raise
            return plan + Plan(notes=(f"for now: {refused.message}",))
    if dig(network.raw, "metadata", "deletionTimestamp"):
        return replace(plan, notes=(*plan.notes, _finalizer_note(network)))
    return plan + sequential(deletion)


def _teardown_later(network: Network, backends: Mapping[str, Backend], snapshot: Snapshot) -> Plan:
    """Return the backend's part of a deletion, as far as it is known while addresses are still held.

    Raises:
        UnreadableError: something that the deletion depends on cannot be read; no VM is to be detached for nothing.
    """
    backend = backends.get(network.plugin)
    plan = Plan()
    if backend is not None and not backend.missing_apis(snapshot.served):
        try:
            plan = backend.teardown(network, snapshot, ignore_usage=True)
        except PreconditionFailed as refused:
            raise UnreadableError(
                f"network {network.full_name} cannot be deleted: {refused.message}", refused.hint
            ) from None
    if unreadable := snapshot.unreadable_reasons():
        raise UnreadableError(
            f"network {network.full_name} cannot be deleted: {unreadable[0]}",
            "Ask an administrator for this permission, or to delete the network.",
        )
    return plan


def _finalizer_note(network: Network) -> str:
    finalizers = ", ".join(dig(network.raw, "metadata", "finalizers", default=[]))
    return f"network {network.full_name} is being deleted" + (
        f"; waiting for its finalizers: {finalizers}" if finalizers else ""
    )


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


def check_spec_matches(existing: Json, requested: Json) -> None:
    """Check that an existing network has the requested spec, so that creating it again is idempotent.

    Raises:
        PreconditionFailed: the specs differ.
        UsageError: a spec is invalid.
    """
    if difference := _first_difference(existing, requested):
        key, existing_value, requested_value = difference
        raise PreconditionFailed(
            f"network {namespace_of(existing)}/{name_of(existing)} exists already, with another {key}: "
            f"{existing_value} instead of {requested_value}",
            "Choose another name, or delete it first; to change other fields than cidr and plugin, use kubectl edit.",
        )


def check_created_spec(existing: Json, requested: Json) -> None:
    """Check that a network created by this run has the requested spec, which webhooks and older CRDs may have changed.

    Raises:
        PreconditionFailed: the specs differ.
    """
    try:
        difference = _first_difference(existing, requested)
    except UsageError as error:
        detail = error.message
    else:
        if not difference:
            return
        detail = "{} is {} instead of {}".format(*difference)
    raise PreconditionFailed(
        f"network {namespace_of(existing)}/{name_of(existing)} was not stored as requested: {detail}",
        "Check whether a webhook changes it, or the CRD is older: kubectl yoshi version.",
    )


def _first_difference(existing: Json, requested: Json) -> tuple[str, str, str] | None:
    """Return the first field of the spec in which two networks differ; None if they are equal.

    Returns:
        The path of the field, its existing value and its requested value.
    """
    existing_value, requested_value = _comparable_spec(existing), _comparable_spec(requested)
    for key in sorted({*requested_value, *existing_value}):
        if requested_value.get(key) != existing_value.get(key):
            return key, _format_value(existing_value.get(key)), _format_value(requested_value.get(key))
    return None


def _comparable_spec(obj: Json) -> Json:
    """Return the spec's fields by path, such as "calico.blockSize"; empty values count as absent."""
    fields: Json = {}
    for key, value in (obj.get("spec") or {}).items():
        inner = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
        fields |= {path: item for path, item in inner.items() if item not in (None, [], {}, "")}
    network = parse_network(obj)
    if network.cidr is not None:
        fields["cidr"] = str(network.cidr)
    return fields


def _format_value(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
