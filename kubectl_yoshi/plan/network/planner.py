"""Creating and reconciling networks: the NetworkWizard, what its backend needs, and its status.

A network that cannot be created is deleted again by the run that created it, as in `deletion`, and stays where others
have been assigned addresses of it meanwhile. A deletion that was killed is undone by `network create`; `sync` leaves a
marked network alone for ten minutes, then restores it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kubectl_yoshi.model.allocations import (
    NETWORK,
    is_large,
)
from kubectl_yoshi.model.backend import Backend, NetworkConflict
from kubectl_yoshi.model.errors import (
    ASK_ADMIN_HINT,
    PlanningError,
    PreconditionFailed,
    UsageError,
    YoshiError,
)
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_minimal_network, parse_network
from kubectl_yoshi.model.objects import Json, dig, name_of, namespace_of, resource_version_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.conflicts import check_no_earlier_overlap, find_other_overlaps, find_overlaps
from kubectl_yoshi.plan.context import PlanContext, RunContext, age_in_seconds
from kubectl_yoshi.plan.network.init_allocations import plan_init_allocations
from kubectl_yoshi.plan.network.objects import plan_network_objects
from kubectl_yoshi.plan.network.status import NetworkStatus, plan_status
from kubectl_yoshi.plan.network_lookup import (
    check_backend_available,
    check_version_supported,
    get_backend,
    network_query,
    not_found_error,
)
from kubectl_yoshi.plan.records import records_written_by_run, require_allocations

ABANDONED_DELETION_SECONDS = 600.0
"""Age in seconds after which a deletion counts as abandoned: `sync` then reconciles the network again."""
NON_BACKEND_RESOURCES = (NETWORKWIZARD, ADDRESSBLOCK, VM)
"""Resources that a run writes to for a new network, besides those that the backend creates or updates."""


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

    @property
    def full_name(self) -> str:
        """Return "namespace/name"."""
        return f"{self.namespace}/{self.name}"


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
    """Plan the changes that create or reconcile the network and update its status, as far as they can be planned now.

    A network that overlaps another one is refused before it is created; of two that are created at the same time, the
    younger one yields. If a step fails, what this run created is deleted again.

    Raises:
        PreconditionFailed, UsageError: the network cannot be created.
    """
    existing = _find_network(request, ctx.snapshot)
    if ctx.run.failed:
        return _roll_back(request, existing, ctx)
    if existing is None:
        return _create(request, ctx)
    if not_stored := _check_spec(request, existing, ctx.run):
        return _remove_created_network(existing, not_stored, ctx)
    try:
        network = parse_network(existing.raw)
    except UsageError as invalid:
        return _record_failure(existing, invalid, ctx.run)
    check_version_supported(network)
    if request.manifest is None and _is_deletion_recent(network, ctx.run):
        return Plan(notes=(f"network {network.full_name} is skipped: it is being deleted",))
    return _reconcile(network, ctx)


def _find_network(request: NetworkRequest, snapshot: Snapshot) -> Network | None:
    """Return the network, parsed as far as possible; None if it does not exist.

    Raises:
        PreconditionFailed: it cannot be read.
    """
    query = network_query(request.namespace, request.name)
    found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(f'network "{request.name}" cannot be read: {reason}', ASK_ADMIN_HINT)
    return parse_minimal_network(found[0]) if found else None


def _create(request: NetworkRequest, ctx: PlanContext) -> Plan:
    """Plan the creation of the NetworkWizard, after checking that nothing conflicts with it.

    Raises:
        PreconditionFailed, UsageError: it cannot be created, or this run has rolled it back.
    """
    if error := ctx.run.rolled_back.get(request.full_name):  # else create and rollback would alternate forever
        raise error
    if request.manifest is None:
        raise not_found_error(request.namespace, request.name)
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
    change = Change(Verb.CREATE, network.ref, summary, body=request.manifest, owner=network.full_name, strict=True)
    plan = sequential(change, notes=tuple(notes))
    if ctx.run.preview:
        return plan + plan_network_objects(network, backend, ctx)
    return replace(plan, requeue=True)


def _check_spec(request: NetworkRequest, existing: Network, run: RunContext) -> PreconditionFailed | None:
    """Return why a network that this run created was not stored as requested; None if it was.

    Raises:
        PreconditionFailed, UsageError: the network existed before, with another spec than the requested one.
    """
    if request.manifest is None:
        return None
    if _is_created_by(existing, run.done):
        return created_spec_error(existing.raw, request.manifest)
    check_spec_matches(existing.raw, request.manifest)
    return None


def _is_deletion_recent(network: Network, run: RunContext) -> bool:
    """Return whether the run that marked the network as being deleted may still be active."""
    age = age_in_seconds(network.deleting_since, run.now)
    return bool(network.deleting_since) and age < ABANDONED_DELETION_SECONDS


def _reconcile(network: Network, ctx: PlanContext) -> Plan:
    """Plan the next changes of an existing network: deletion mark, then allocations, then objects, then status.

    Raises:
        PreconditionFailed: it is being deleted with kubectl, or its plugin is unknown.
    """
    if dig(network.raw, "metadata", "deletionTimestamp"):
        raise PreconditionFailed(
            f"network {network.full_name} is being deleted", "Wait until it is deleted, then try again."
        )
    backend = get_backend(network, ctx.backends)
    try:
        check_usable(network, backend, ctx)
        if unmark_plan := _remove_deletion_mark(network, backend, ctx.run):
            return replace(unmark_plan, requeue=True)
        init_plan = plan_init_allocations(network, backend, ctx, is_new=_is_created_by(network, ctx.run.sent))
        plan = init_plan or plan_network_objects(network, backend, ctx)
    except PlanningError as error:
        if _is_created_by(network, ctx.run.done):
            return _remove_created_network(network, error, ctx)
        # A client with too few permissions must not record a failure in the status.
        if ctx.snapshot.unreadable_reasons():
            return Plan(errors={network.full_name: error})
        return _record_failure(network, error, ctx.run)
    if plan:
        return replace(plan, requeue=True)
    health = backend.health(network, ctx.snapshot)
    status_plan = plan_status(network, NetworkStatus(True, health), ctx.run, network.full_name)
    return replace(status_plan, notes=(*init_plan.notes, *plan.notes))


def check_usable(network: Network, backend: Backend, ctx: PlanContext) -> None:
    """Check that the backend is available and that nothing conflicts with the network.

    Raises:
        PreconditionFailed: it cannot be used.
    """
    check_backend_available(network, backend, ctx.snapshot)
    check_no_earlier_overlap(network, ctx.snapshot, just_created=_is_created_by(network, ctx.run.done))
    overlaps, others = ctx.snapshot.parallel_pair(
        lambda: [] if network.is_created else find_other_overlaps(network, ctx.snapshot),
        lambda: backend.conflicts(network, ctx.snapshot),
    )
    conflicts = [*map(NetworkConflict, overlaps), *others]
    if conflicts:
        raise PreconditionFailed(conflicts[0].summary, _conflict_hint(conflicts))


def _remove_deletion_mark(network: Network, backend: Backend, run: RunContext) -> Plan:
    """Plan to remove the mark of a deletion if the network is to get a record, which the mark refuses."""
    if not network.deleting_since or not (backend.infra_address_purpose(network) or not network.is_initialized):
        return Plan()
    return plan_status(network, NetworkStatus(network.is_created, "it is being recreated"), run, network.full_name)


def _record_failure(network: Network, error: YoshiError, run: RunContext) -> Plan:
    """Plan a status that states why the network is not ready."""
    status_plan = plan_status(network, NetworkStatus(False, error.message), run, network.full_name)
    return replace(status_plan, errors={network.full_name: error})


def _is_created_by(network: Network, changes: Iterable[Change]) -> bool:
    """Return whether one of these changes creates the network."""
    return any(change.verb is Verb.CREATE and change.ref == network.ref for change in changes)


def _conflict_hint(conflicts: Sequence[NetworkConflict]) -> str:
    """Return up to two more conflicts, and the way to resolve them."""
    if conflicts[0].is_unreadable:
        return "Ask an administrator for this permission, or to create the network."
    more = [conflict.summary for conflict in conflicts[1:3]]
    return "\n".join([*more, "Choose another CIDR or name, or remove the conflicting object."])


def _roll_back(request: NetworkRequest, existing: Network | None, ctx: PlanContext) -> Plan:
    """Plan the deletion of what this run created before it failed; for a network that existed before, the status."""
    owner, error = request.full_name, next(iter(ctx.run.failed.values()))
    if existing is not None and _is_created_by(existing, ctx.run.done):
        return _remove_created_network(parse_network(existing.raw), error, ctx)
    if existing is None or owner in ctx.run.failed:  # the write of the status itself failed
        return Plan(errors={owner: error})
    status_plan = plan_status(existing, NetworkStatus(existing.is_created, error.message), ctx.run, owner)
    return replace(status_plan, errors={owner: error})


def _remove_created_network(network: Network, error: YoshiError, ctx: PlanContext) -> Plan:
    """Plan the deletion of a network that this run created and cannot complete, with the objects created for it.

    The network stays if other clients have been assigned addresses of it meanwhile, which is possible as soon as the
    existing VMs are recorded. A large network is marked as being deleted before its records are read, as in every
    deletion.
    """
    owner = network.full_name
    plan = Plan(errors={owner: error})
    if reason := _reason_to_keep(network, ctx):
        note = f"network {network.full_name} is kept, although it is not ready: {reason}"
        if owner not in ctx.run.failed:  # else the write of the status itself failed
            plan = _record_failure(network, error, ctx.run)
        return replace(plan, notes=(note,))
    if is_large(network) and network.is_initialized and not network.is_deleting:
        marked = NetworkStatus(False, "it is rolled back", deleting=ctx.run.timestamp)
        mark_plan = plan_status(network, marked, ctx.run, owner)
        return replace(plan + mark_plan, requeue=True)
    if any(c.ref.resource not in NON_BACKEND_RESOURCES for c in ctx.run.sent):
        try:
            plan = plan + get_backend(network, ctx.backends).teardown(network, ctx.snapshot)
        except PreconditionFailed as refused:
            plan = replace(plan, notes=(refused.message,))
    deletion = Change(
        Verb.DELETE, network.ref, f"roll back network {network.full_name}", before=network.raw, uid=network.uid,
        resource_version=resource_version_of(network.raw), owner=owner, ignore_not_found=True,
    )  # fmt: skip
    return replace(plan + sequential(deletion), rolled_back={owner: error})


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
            "Choose another name, or delete it first; `kubectl yoshi network update` changes what may change.",
        )


def created_spec_error(existing: Json, requested: Json) -> PreconditionFailed | None:
    """Return why a network created by this run has not the requested spec; None if it has.

    Webhooks and older CRDs may have changed it.
    """
    try:
        difference = _first_difference(existing, requested)
    except UsageError as error:
        detail = error.message
    else:
        if not difference:
            return None
        detail = "{} is {} instead of {}".format(*difference)
    return PreconditionFailed(
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
