"""Convert what Platform9 yoshi left: rewrite its records and remove its finalizers.

Platform9 yoshi wrote `address: vm-name` into the status of a network, however large, and added a finalizer to every
network and VM that it changed. Without its controller, such objects cannot be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation, Allocations, is_large, shard_of
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import UsageError, first_few
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, metadata, name_of, namespace_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.records import load_allocations, write_records

NETWORK_FINALIZER = "network.plumber.k8s.pf9.io"
VM_FINALIZER = "vm.plumber.k8s.pf9.io"
MAX_LISTED = 5


@dataclass(frozen=True)
class LegacyConversionRequest:
    """Request to convert what Platform9 yoshi left.

    Attributes:
        namespace: the networks of this namespace; None for all.
        networks: only these, by namespace and name; None for all.
        finalizers: also remove its finalizers.
    """

    namespace: str | None = None
    networks: frozenset[tuple[str, str]] | None = None
    finalizers: bool = False


def plan_legacy_conversion(request: LegacyConversionRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that rewrite the records of Platform9 yoshi whose VM exists, each network on its own.

    Records of a large network are written to their address block before they are removed from its status, so that a run
    that is killed leaves no address without a record. `results` has the number of addresses of each network.
    """
    found = _list_networks(request, ctx.snapshot)
    if reason := ctx.snapshot.unreadable_reason(Query(NETWORKWIZARD, request.namespace)):
        return Plan(notes=(f"objects of Platform9 yoshi are not searched for: {reason}",))
    plan = Plan(errors=ctx.run.failed)
    finalizer_removals: list[Change] = []
    for obj in found:
        owner = f"{namespace_of(obj)}/{name_of(obj)}"
        if owner in ctx.run.failed or dig(obj, "status", "deleting") or metadata(obj).get("deletionTimestamp"):
            continue
        if request.finalizers:
            finalizer_removals += _remove_finalizer(
                NETWORKWIZARD.ref(name_of(obj), namespace_of(obj)), obj, NETWORK_FINALIZER
            )
        try:
            network = parse_network(obj)
        except UsageError as error:
            if dig(obj, "status", "allocations"):
                plan = plan + Plan(notes=(f"{error.message}: its records stay as they are",))
            continue
        plan = plan.parallel(_convert_records(network, ctx.backends.get(network.plugin), ctx))
    if finalizer_removals:
        vms = ctx.snapshot.lookup(Query(VM))
        if reason := ctx.snapshot.unreadable_reason(Query(VM)):
            return plan + Plan(notes=(f"finalizers of Platform9 yoshi are not removed: {reason}",))
        # Those of the networks are removed last: as long as one exists, a run that was killed is continued.
        plan = Plan((_remove_vm_finalizers(vms, ctx.run),)) + plan + Plan((tuple(finalizer_removals),))
    return plan


def _list_networks(request: LegacyConversionRequest, snapshot: Snapshot) -> list[Json]:
    if request.networks is None:
        return snapshot.lookup(Query(NETWORKWIZARD, request.namespace))
    return snapshot.lookup(*(Query(NETWORKWIZARD, namespace, name) for namespace, name in sorted(request.networks)))


def _remove_vm_finalizers(vms: Iterable[Json], run: RunContext) -> tuple[Change, ...]:
    changes = [c for vm in vms for c in _remove_finalizer(VM.ref(name_of(vm), namespace_of(vm)), vm, VM_FINALIZER)]
    return tuple(change for change in changes if change.owner not in run.failed)


def _load_allocations(network: Network, snapshot: Snapshot) -> Allocations:
    """Load all allocations, also if the cluster has no CRD of address blocks yet (in a dry run)."""
    if ADDRESSBLOCK in snapshot.served or not is_large(network):
        return load_allocations(network, snapshot)
    return Allocations(
        network, dict.fromkeys(shard_of(network, number) for number in Allocations(network, {}).records())
    )


@dataclass
class _LegacyRecords:
    """The records of a network, grouped by what happens to them."""

    convertible: dict[int, Allocation] = field(default_factory=dict)
    ownerless: dict[int, Allocation] = field(default_factory=dict)
    disputed: list[str] = field(default_factory=list)


def _convert_records(network: Network, backend: Backend | None, ctx: PlanContext) -> Plan:
    if not dig(network.raw, "status", "allocations"):
        return Plan()
    allocations = _load_allocations(network, ctx.snapshot)
    legacy_records = {number: record for number, record in allocations.records().items() if record.is_legacy}
    if not legacy_records:
        return Plan()
    query = Query(VM, network.namespace)
    has_names = any(not isinstance(record.as_written, Mapping) for record in legacy_records.values())
    vms = {vm.name: vm for vm in map(Vm, ctx.snapshot.lookup(query) if has_names else ()) if not vm.is_deleting}
    found = _classify(allocations, legacy_records, vms, backend, ctx.run)
    notes = [f"network {network.full_name}: {text}" for text in found.disputed]
    if found.ownerless:
        reason = ctx.snapshot.unreadable_reason(query) or "no such VM exists (`kubectl yoshi ips gc` releases them)"
        listed = [f"{allocations.address(n)} of {r.name}" for n, r in sorted(found.ownerless.items())]
        notes.append(f"network {network.full_name} does not convert {first_few(listed, MAX_LISTED, ' and')}: {reason}")
    plan = (
        write_records(allocations, found.convertible, dict.fromkeys(found.convertible, network.full_name))
        if found.convertible
        else Plan()
    )
    results = {network.full_name: str(len(found.convertible))} if found.convertible else {}
    return replace(plan, notes=tuple(notes), results=results)


def _classify(
    allocations: Allocations,
    legacy_records: Mapping[int, Allocation],
    vms: Mapping[str, Vm],
    backend: Backend | None,
    run: RunContext,
) -> _LegacyRecords:
    found = _LegacyRecords()
    for number, record in legacy_records.items():
        if isinstance(record.as_written, Mapping):
            in_status = allocations.legacy_allocations[number].record
            if (in_status.namespace, in_status.name) == (record.namespace, record.name):
                found.convertible[number] = record
            else:
                found.disputed.append(
                    f"{allocations.address(number)} is recorded for {record.holder}, but its status still has "
                    f"{in_status.name}"
                )
        elif vm := vms.get(record.name):
            mac = backend.macs_of(vm, allocations.network)[1] if backend else ""
            found.convertible[number] = Allocation(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac, run.timestamp)
        else:
            found.ownerless[number] = record
    return found


def _remove_finalizer(ref: ObjectRef, obj: Json, finalizer: str) -> list[Change]:
    finalizers = metadata(obj).get("finalizers") or []
    if finalizer not in finalizers:
        return []
    path = ("metadata", "finalizers", str(finalizers.index(finalizer)))
    patch = PatchBuilder.for_uid(uid_of(obj)).test(path, finalizer).remove(path)
    summary = f"remove the finalizer of Platform9 yoshi from {ref}"
    owner = f"{ref.namespace}/{ref.name}" if ref.resource == NETWORKWIZARD else str(ref)
    return [Change(Verb.PATCH, ref, summary, patch.ops, before=obj, owner=owner)]
