"""Changing the spec of a network: one patch that tests what it replaces, then the same steps as in `sync`.

The new spec is checked, and what follows from it is planned, before the patch is sent. A run that is killed after the
patch is completed by the same command, which then finds nothing to patch and reconciles the network.

A range that becomes smaller takes no address away: as after `kubectl edit`, allocations outside it stay with their
holders, and are not assigned again when they are released.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kubectl_yoshi.model.errors import PreconditionFailed, first_few
from kubectl_yoshi.model.jsonpatch import PatchBuilder, same_json
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.objects import Json, dig, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.network.init_allocations import plan_init_allocations
from kubectl_yoshi.plan.network.objects import plan_network_objects
from kubectl_yoshi.plan.network.planner import NetworkRequest, check_usable, plan_network
from kubectl_yoshi.plan.network.status import NetworkStatus, plan_status
from kubectl_yoshi.plan.network_lookup import being_deleted_error, get_backend, load_network, network_query
from kubectl_yoshi.plan.records import require_allocations

MAX_LISTED_ADDRESSES = 10
"""Maximum number of addresses that a note names."""


@dataclass(frozen=True)
class NetworkUpdateRequest:
    """Request to change fields of a network's spec.

    Attributes:
        namespace, name: of the NetworkWizard.
        fields: path below spec, such as ("ovs", "dhcp", "dns") -> the new value; None removes the field.
    """

    namespace: str
    name: str
    fields: Mapping[tuple[str, ...], Any]


def plan_network_update(request: NetworkUpdateRequest, ctx: PlanContext) -> Plan:
    """Plan the patch of the spec; once it is applied, the changes that reconcile the network with it.

    Raises:
        PreconditionFailed, UsageError: the network does not exist, the new spec is invalid or conflicts with other
            objects, or another client changes the same fields.
    """
    network = load_network(request.namespace, request.name, ctx.snapshot)
    if ctx.run.failed and not ctx.run.sent:
        return Plan(errors={network.full_name: next(iter(ctx.run.failed.values()))})
    if network.is_deleting and not ctx.run.failed:
        raise being_deleted_error(network)
    spec = network.raw.get("spec") or {}
    new_spec = _set_fields(spec, request.fields)
    changed = [key for key in sorted({*spec, *new_spec}) if not same_json(spec.get(key), new_spec.get(key))]
    if ctx.run.failed or not changed:
        return plan_network(NetworkRequest(request.namespace, request.name), ctx)
    _check_unchanged_by_others(network, changed, ctx.run)
    updated = _parse_updated(network, new_spec)
    backend = get_backend(updated, ctx.backends)
    check_usable(updated, backend, ctx)
    later = plan_init_allocations(updated, backend, ctx, is_new=False) or plan_network_objects(updated, backend, ctx)
    plan = sequential(_spec_patch(network, new_spec, changed), notes=_kept_addresses_note(network, updated, ctx))
    status_plan = plan_status(updated, NetworkStatus(True), ctx.run, network.full_name)
    if ctx.run.preview:
        return replace(plan + later, future_changes=(*later.future_changes, *status_plan))
    return replace(plan, requeue=True, future_changes=(*later, *later.future_changes, *status_plan))


def _set_fields(spec: Json, fields: Mapping[tuple[str, ...], Any]) -> Json:
    """Return a copy of a spec with these fields."""
    result = copy.deepcopy(spec)
    for path, value in fields.items():
        parent = result
        for key in path[:-1]:
            parent = parent.get(key) or {} if value is None else parent.setdefault(key, {})
        if value is None:
            parent.pop(path[-1], None)
        else:
            parent[path[-1]] = value
    return result


def _check_unchanged_by_others(network: Network, changed: Iterable[str], run: RunContext) -> None:
    """Check that the fields to change are those that this run has read first.

    Raises:
        PreconditionFailed: another client has changed them meanwhile.
    """
    if run.previous_snapshot is None:
        return
    for before in run.previous_snapshot.lookup(network_query(network.namespace, network.name)):
        for key in changed:
            if uid_of(before) != network.uid or not same_json(dig(before, "spec", key), dig(network.raw, "spec", key)):
                raise PreconditionFailed(
                    f"spec.{key} of network {network.full_name} was changed by another client meanwhile",
                    "Look at it with `kubectl get networkwizard -o yaml`, then run the same command again.",
                )


def _parse_updated(network: Network, spec: Json) -> Network:
    """Return the network with another spec.

    Raises:
        UsageError: the spec is invalid.
    """
    metadata = network.raw["metadata"]
    parse_network({**network.raw, "metadata": {**metadata, "uid": ""}, "spec": spec})  # no hint to edit what is stored
    generation = int(metadata.get("generation", 1)) + 1
    return parse_network({**network.raw, "metadata": {**metadata, "generation": generation}, "spec": spec})


def _spec_patch(network: Network, spec: Json, changed: Iterable[str]) -> Change:
    """Return the patch of these fields, which tests their previous values."""
    patch = PatchBuilder.for_uid(network.uid)
    for key in changed:
        if key in spec:
            patch.set_in(network.raw, ("spec", key), spec[key])
        else:
            patch.unset_in(network.raw, ("spec", key))
    summary = f"change {', '.join(changed)} of network {network.full_name}"
    return Change(Verb.PATCH, network.ref, summary, patch.ops, before=network.raw, owner=network.full_name)


def _kept_addresses_note(network: Network, updated: Network, ctx: PlanContext) -> tuple[str, ...]:
    """Return the note about allocations that stay although the network no longer assigns their addresses."""
    if updated.usable == network.usable:
        return ()
    kept = []
    for number, record in sorted(require_allocations(network, ctx.snapshot).records().items()):
        address = network.address(number)
        if (reason := updated.unusable_reason(address)) and not network.unusable_reason(address):
            kept.append(f"{address} {record.holder} ({reason})")
    if not kept:
        return ()
    addresses = first_few(kept, MAX_LISTED_ADDRESSES)
    return (f"these addresses of network {network.full_name} stay allocated until they are released: {addresses}",)
