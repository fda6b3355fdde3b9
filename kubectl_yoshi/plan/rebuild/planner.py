"""Plan the rebuild of allocations: write what `audit_allocations` expects, after a restore or any other loss.

Only records are written, and inconsistencies in a backend's own state that an interrupted run left are repaired. No VM
is changed, and no address is released. A network that was not initialized (plan/network/init_allocations.py) is
initialized afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kubectl_yoshi.model.allocations import Allocation, Allocations, Shard, shard_of
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import PreconditionFailed, first_few
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, NamespacedName, dig, resource_version_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, parallel_plans
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attach.quota import list_quota_violations
from kubectl_yoshi.plan.conflicts import check_no_earlier_overlap
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.network_lookup import list_requested_networks
from kubectl_yoshi.plan.rebuild.expected import (
    ADMIN_REBUILD_HINT,
    AllocationAudit,
    AuditScope,
    ExpectedAllocation,
    audit_allocations,
)
from kubectl_yoshi.plan.records import plan_init_status, records_written_by_run, write_records
from kubectl_yoshi.plan.release import fence_vm

MAX_LISTED = 3


@dataclass(frozen=True)
class RebuildRequest:
    """Request to rebuild the allocations of networks.

    Attributes:
        network: namespace and name of a single network; None for all.
        namespace: with network None, only those of this namespace; None for all namespaces.
    """

    network: NamespacedName | None = None
    namespace: str | None = None


def plan_rebuild(request: RebuildRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that write the expected allocations.

    The plan's `results` has the number of addresses written for each network that changes.

    Raises:
        PreconditionFailed: the network does not exist, or what may use its addresses cannot be read.
    """
    audits, notes = audit_networks(request, ctx.backends, ctx.snapshot)
    vms = list_vms_by_name(ctx.snapshot)
    plans = [Plan(notes=notes, errors=ctx.run.failed)]
    for audit in audits:
        plans += [plan_record_updates(audit, vms, ctx.run), _plan_initialization(audit, ctx.run)]
    plans += [_plan_repairs(audit.network, ctx) for audit in audits]
    return parallel_plans(plans)


def audit_networks(
    request: RebuildRequest, backends: Mapping[str, Backend], snapshot: Snapshot
) -> tuple[list[AllocationAudit], tuple[str, ...]]:
    """Return the expected allocations of each network, and a note for every network that is skipped.

    Raises:
        PreconditionFailed: see plan_rebuild.
    """
    scope = AuditScope(all_namespaces=request.network is None and request.namespace is None)
    networks, broken = list_requested_networks(request.network, request.namespace, snapshot)
    notes = [f"{text}: its allocations are skipped" for text in broken]
    vms = list_vms_by_name(snapshot)
    found: list[AllocationAudit] = []
    for network in networks:
        if reason := _skip_reason(network, backends, snapshot):
            notes.append(f"network {network.full_name} is skipped: {reason}")
        else:
            found.append(audit_allocations(network, backends[network.plugin], vms, snapshot, scope))
    return found, tuple(notes)


def _skip_reason(network: Network, backends: Mapping[str, Backend], snapshot: Snapshot) -> str:
    """Return why the allocations of a network cannot be rebuilt; "" if they can.

    An uninitialized network is not initialized if another one has its addresses.
    """
    if network.plugin not in backends:
        return f"plugin {network.plugin!r} is unknown"
    if network.is_deleting:
        return "it is being deleted"
    try:
        if not network.is_initialized:
            check_no_earlier_overlap(network, snapshot)
    except PreconditionFailed as error:
        return error.message
    return ""


def list_vms_by_name(snapshot: Snapshot, namespaces: tuple[str, ...] | None = None) -> dict[NamespacedName, Vm]:
    """Return every VM that exists, or every VM of these namespaces.

    Raises:
        PreconditionFailed: some of them cannot be read.
    """
    queries = [Query(VM, namespace) for namespace in namespaces or (None,)]
    found = snapshot.lookup(*queries)
    if reason := snapshot.unreadable_reason(*queries):
        raise PreconditionFailed(f"cannot determine which VM has which address: {reason}", ADMIN_REBUILD_HINT)
    return {(vm.namespace, vm.name): vm for vm in map(Vm, found)}


def _plan_repairs(network: Network, ctx: PlanContext) -> Plan:
    """Plan the repair of the backend's own state that an interrupted run left inconsistent."""
    if ctx.run.failed:
        return Plan()
    return ctx.backends[network.plugin].repairs(network, None, ctx.snapshot)


def _plan_initialization(audit: AllocationAudit, run: RunContext) -> Plan:
    """Plan to initialize a network whose records are complete."""
    owner = audit.network.full_name
    plan = Plan() if audit.updates or owner in run.failed else plan_init_status(audit.network, owner)
    return replace(plan, results={owner: "0"}) if plan else plan


def plan_record_updates(audit: AllocationAudit, vms: Mapping[NamespacedName, Vm], run: RunContext) -> Plan:
    """Plan the changes that write the expected allocations of one network; `results` has the number of addresses."""
    owner = audit.network.full_name
    if owner in run.failed:
        return Plan()
    # for addresses already written, the reason would now be the new record
    written_by_run = records_written_by_run(audit.network, run)
    notes = tuple(f"contradiction: {text}" for text in audit.contradictions_except(written_by_run)) + _unused_notes(
        audit
    )
    notes += tuple(list_quota_violations(audit.network, (v.expected for v in audit.entries if v.expected is not None)))
    updates = audit.updates
    if not updates:
        return Plan(notes=notes)
    records = {v.number: _with_time(v.expected, run) for v in updates if v.expected is not None}
    allocations = _with_missing_shards(audit.allocations, records)
    plan = _fence_losing_vms(updates, vms, run, owner) + _delete_stale_blocks(audit.stale, owner)
    plan = plan + write_records(allocations, records, dict.fromkeys(records, owner))
    return replace(plan, notes=notes, results={owner: str(len(updates))})


def _with_time(record: Allocation, run: RunContext) -> Allocation:
    """Return the record to write; the time of a known allocation stays."""
    return record if record.since else replace(record, since=run.micro_time)


def _with_missing_shards(allocations: Allocations, records: Mapping[int, Allocation]) -> Allocations:
    """Return the allocations, including empty ones for every block that these records need and that does not exist."""
    needed = dict.fromkeys(shard_of(allocations.network, number) for number in records)
    return allocations.with_objects({shard: None for shard in needed if shard not in allocations.objects})


def _fence_losing_vms(
    updates: Sequence[ExpectedAllocation], vms: Mapping[NamespacedName, Vm], run: RunContext, owner: str
) -> Plan:
    """Plan to fence the VMs whose record another VM gets, before it is written, to stop attachments in progress."""
    losing: dict[NamespacedName, Vm] = {}
    for entry in updates:
        record, expected = entry.record, entry.expected
        if record is not None and expected is not None and record.uid != expected.uid:
            vm = vms.get((record.namespace, record.name))
            if vm is not None and vm.uid == record.uid:
                losing[(vm.namespace, vm.name)] = vm
    fences = tuple(fence_vm(vm, run, owner) for vm in losing.values())
    return Plan((fences,) if fences else ())


def _delete_stale_blocks(stale: Mapping[Shard, Json], owner: str) -> Plan:
    """Plan to delete blocks of an earlier network; their records are among those written next."""
    changes = tuple(
        Change(
            Verb.DELETE, shard.ref, f"recreate the address block at {dig(block, 'spec', 'first')}", before=block,
            uid=uid_of(block), resource_version=resource_version_of(block), owner=owner, ignore_not_found=True,
        )
        for shard, block in stale.items()
    )  # fmt: skip
    return Plan((changes,)) if changes else Plan()


def _unused_notes(audit: AllocationAudit) -> tuple[str, ...]:
    unused = audit.unused
    if not unused:
        return ()
    listed = first_few(unused, MAX_LISTED, " and")
    summary = f"network {audit.network.full_name} keeps {listed} recorded for VMs that do not use them"
    return (f"{summary} (`kubectl yoshi ips gc` releases them)",)
