"""Decide on the tasks that reconcile networks and VM annotations.

What is no longer requested stays: a VM whose annotation was removed keeps its address, as with Platform9 yoshi.
Detaching the VM automatically could turn a mistake into the loss of its address; a note names the command instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from kubectl_yoshi.model.allocations import VIRTUALMACHINE
from kubectl_yoshi.model.errors import PlanningError, PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, NamespacedName, Resource, dig, metadata, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm, find_instance, instance_queries
from kubectl_yoshi.plan.context import PlanContext, age_in_seconds
from kubectl_yoshi.plan.legacy import LegacyConversionRequest
from kubectl_yoshi.plan.network_lookup import parse_networks
from kubectl_yoshi.plan.records import load_allocations
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION, is_stopping
from kubectl_yoshi.plan.sync.requests import RequestedNetwork, build_attach_requests, find_requested_networks
from kubectl_yoshi.plan.sync.tasks import (
    AttachTask,
    LegacyConversionTask,
    NetworkTask,
    OrphanRemovalTask,
    RepairTask,
    ResumeTask,
    SyncTask,
)

RESTART_SECONDS = 330.0
"""How long, in seconds, a VM marked for a restart is left to the run that marked it: its timeout and a margin."""


@dataclass(frozen=True)
class SyncScope:
    """The networks and VMs to reconcile.

    Attributes:
        namespace: networks and VMs of this namespace; None for all.
        networks: only these; None for all of the namespace.
        vms: only these; None for all of the namespace.
        include_orphans: look for objects that deleted networks (of that namespace) left elsewhere.
        restart: restart VMs that run without their address.
    """

    namespace: str | None
    networks: frozenset[NamespacedName] | None = None
    vms: frozenset[NamespacedName] | None = None
    include_orphans: bool = True
    restart: bool = False

    @property
    def is_whole(self) -> bool:
        """Return whether the scope is everything in the namespace, or in the cluster."""
        return self.networks is None and self.vms is None


@dataclass(frozen=True)
class SyncPlan:
    """The tasks of a pass.

    Attributes:
        stages: run one after the other; the tasks of a stage do not depend on each other.
        errors: VMs whose request is invalid, and why.
        deferred: VMs that another run is restarting.
        notes: for the user, a line each.
        networks, vms: the number of networks, and of VMs that request something.
    """

    stages: tuple[tuple[SyncTask, ...], ...] = ()
    errors: Mapping[NamespacedName, YoshiError] = field(default_factory=dict)
    deferred: frozenset[NamespacedName] = frozenset()
    notes: tuple[str, ...] = ()
    networks: int = 0
    vms: int = 0


def plan_sync(scope: SyncScope, ctx: PlanContext) -> SyncPlan:
    """Plan the tasks: orphans first, since they may conflict with networks, then networks, then VMs.

    Raises:
        PreconditionFailed: neither networks nor VMs can be read, or the CRD of networks is not installed.
    """
    networks, vms = _load_objects(scope, ctx.snapshot)
    marked = [vm for vm in vms if START_AGAIN_ANNOTATION in vm.annotations]
    deferred = _find_restarting(marked, ctx)
    requested, errors = _parse_requests([vm for vm in vms if _name(vm) not in deferred], ctx)
    requesting = {requested_network.vm for requested_network in requested} | errors.keys()
    notes = [f"{vm.ref} is being restarted by another run; it is skipped" for vm in deferred.values()]
    if scope.is_whole:
        notes += _unrequested_notes(networks, [vm for vm in vms if _name(vm) not in requesting], scope, ctx)
    network_names = tuple((namespace_of(obj), name_of(obj)) for obj in networks)
    attach_tasks = [AttachTask(request) for request in build_attach_requests(requested, scope.restart)]
    resume_tasks = [ResumeTask(_name(vm)) for vm in marked if _name(vm) not in {*requesting, *deferred}]
    stages: tuple[tuple[SyncTask, ...], ...] = (
        _preparation_tasks(scope, network_names),
        tuple(map(NetworkTask, network_names)),
        (*attach_tasks, *resume_tasks),
    )
    return SyncPlan(
        tuple(stage for stage in stages if stage),
        errors,
        frozenset(deferred),
        tuple(notes),
        networks=len(network_names),
        vms=len(requesting),
    )


def _load_objects(scope: SyncScope, snapshot: Snapshot) -> tuple[list[Json], list[Vm]]:
    """Return the networks and the VMs of the scope that are not being deleted, as far as they can be read.

    Raises:
        PreconditionFailed: neither can be read, or the CRD of networks is not installed.
    """
    if NETWORKWIZARD not in snapshot.served:
        raise PreconditionFailed(
            f"this cluster does not serve {NETWORKWIZARD.full_name}", "Run `kubectl yoshi install` first, once."
        )
    network_queries = _queries(NETWORKWIZARD, scope.namespace, scope.networks)
    vm_queries = _queries(VM, scope.namespace, scope.vms)
    snapshot.lookup(*network_queries, *vm_queries)
    reason = snapshot.unreadable_reason(*network_queries)
    if reason and snapshot.unreadable_reason(*vm_queries):
        raise PreconditionFailed(f"neither networks nor VMs can be read: {reason}", "Choose a namespace with -n.")
    networks = [obj for obj in snapshot.lookup(*network_queries) if not metadata(obj).get("deletionTimestamp")]
    return networks, [vm for vm in map(Vm, snapshot.lookup(*vm_queries)) if not vm.is_deleting]


def _find_restarting(marked: Sequence[Vm], ctx: PlanContext) -> dict[NamespacedName, Vm]:
    """Return those of the marked VMs that another run may still be restarting."""
    ctx.snapshot.lookup(*instance_queries(marked))
    return {_name(vm): vm for vm in marked if _is_restarting_elsewhere(vm, ctx.snapshot, ctx.run.now)}


def _parse_requests(
    vms: Iterable[Vm], ctx: PlanContext
) -> tuple[list[RequestedNetwork], dict[NamespacedName, YoshiError]]:
    """Return what the VMs request, and why the requests of some are invalid."""
    requested: list[RequestedNetwork] = []
    errors: dict[NamespacedName, YoshiError] = {}
    for vm in vms:
        try:
            requested += find_requested_networks(vm, ctx.backends, ctx.snapshot)
        except PlanningError as error:
            errors[_name(vm)] = error
    return requested, errors


def _preparation_tasks(scope: SyncScope, network_names: tuple[NamespacedName, ...]) -> tuple[SyncTask, ...]:
    """Return the tasks that precede the networks: what is left of deleted ones, legacy records, interrupted runs."""
    tasks: list[SyncTask] = [OrphanRemovalTask(scope.namespace)] if scope.include_orphans else []
    if network_names:
        tasks.append(LegacyConversionTask(LegacyConversionRequest(scope.namespace, scope.networks)))
    if network_names and scope.include_orphans:
        tasks.append(RepairTask(network_names, scope.namespace))
    return tuple(tasks)


def with_single_objects(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with a result for each single network and VM that a list contains."""
    singles = {
        replace(query, namespace=namespace_of(obj), name=name_of(obj)): (obj,)
        for query, answer in snapshot.results.items()
        if query.resource in (NETWORKWIZARD, VM) and not query.name and not query.label_selector
        and isinstance(answer, tuple)
        for obj in answer
    }  # fmt: skip
    return snapshot.with_results({**singles, **snapshot.results})


def _name(vm: Vm) -> NamespacedName:
    return vm.namespace, vm.name


def _queries(resource: Resource, namespace: str | None, only: frozenset[NamespacedName] | None) -> tuple[Query, ...]:
    if only is None:
        return (Query(resource, namespace),)
    return tuple(Query(resource, namespace, name) for namespace, name in sorted(only))


def _is_restarting_elsewhere(vm: Vm, snapshot: Snapshot, now: datetime) -> bool:
    """Return whether the run that marked the VM may still be active: the VM is stopping, or the mark is recent.

    A stopped VM is started again by the first run that reads it.
    """
    running = find_instance(vm, snapshot)
    if running is None:
        return False
    return is_stopping(vm, running) or _mark_age_seconds(vm, now) < RESTART_SECONDS


def _mark_age_seconds(vm: Vm, now: datetime) -> float:
    """Return the seconds since the mark was written, from managedFields; infinite if they do not show it."""
    times = [
        str(entry.get("time", ""))
        for entry in metadata(vm.raw).get("managedFields") or ()
        if dig(entry, "fieldsV1", "f:metadata", "f:annotations", f"f:{START_AGAIN_ANNOTATION}") is not None
    ]
    return min((age_in_seconds(time, now) for time in times), default=float("inf"))


def _unrequested_notes(
    networks: Iterable[Json], not_requesting: Iterable[Vm], scope: SyncScope, ctx: PlanContext
) -> list[str]:
    """Return a note for each VM that requests nothing and still has an address."""
    by_uid = {vm.uid: vm for vm in not_requesting}
    notes: list[str] = []
    for network in parse_networks(networks) if by_uid else ():
        backend = ctx.backends.get(network.plugin)
        allocations = load_allocations(network, ctx.snapshot, all_namespaces=scope.namespace is None)
        for number, record in allocations.records().items():
            vm = by_uid.get(record.uid) if record.kind == VIRTUALMACHINE and record.uid else None
            if vm is not None and backend is not None and backend.detach_patch(vm, network, ctx.snapshot):
                detach = f"kubectl yoshi vm detach {vm.name} -n {vm.namespace} --network {network.full_name}"
                notes.append(f"{vm.ref} keeps {allocations.address(number)} but no longer requests it (`{detach}`)")
    return notes
