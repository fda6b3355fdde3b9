"""A place in a namespace's quota, taken before an address is moved to a VM of that namespace.

A move must not find out that there is no room left when the address was taken from the one who had it already. So the
VM that is to have it is first given any free address, counted as an attachment is (plan/attach/quota.py), and gives
it back when the other one is its own. Where no address is free, or none can be chosen, the move counts without a place.
"""

from __future__ import annotations

from dataclasses import replace

from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation, is_large, shard_of
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attach.allocate import FreeAddresses, find_unused_addresses
from kubectl_yoshi.plan.attach.quota import check_quota_room, check_within_quota
from kubectl_yoshi.plan.context import RunContext
from kubectl_yoshi.plan.records import (
    load_allocations,
    load_shards,
    records_written_by_run,
    remove_records,
    write_records,
)

PLACEHOLDER_NOTE = "a place in the quota while an address is moved"


def needs_quota_placeholder(network: Network, record: Allocation, target: Vm) -> bool:
    """Whether a move makes the quota's count of the VM's namespace greater."""
    return network.max_per_namespace is not None and target.namespace != record.namespace


def plan_quota_placeholder(
    network: Network, backend: Backend, target: Vm, number: int, snapshot: Snapshot, run: RunContext, started: bool
) -> Plan:
    """The changes that come before a move; empty where it may go on.

    Args:
        network, backend: which.
        target: who is to have an address.
        number: which.
        snapshot, run: as every planner gets them.
        started: the address was or is being taken from the one who had it.

    Raises:
        PreconditionFailed: the quota leaves no place.
    """
    allocations = load_allocations(network, snapshot)
    records = allocations.records()
    vm_records = {other: record for other, record in records.items() if record.uid == target.uid and other != number}
    if not vm_records:
        check_quota_room(network, records, target)
        free = None if started or network.cidr is None else _find_free_address(network, backend, snapshot, run)
        if free is None:
            return Plan()
        shard_allocations = load_shards(network, [shard_of(network, free.numbers[0])], snapshot)
        placeholder = Allocation(
            VIRTUALMACHINE, target.namespace, target.name, target.uid, since=run.micro_time, note=PLACEHOLDER_NOTE
        )
        written = write_records(
            shard_allocations,
            {free.numbers[0]: placeholder},
            {free.numbers[0]: target.full_name},
            not is_large(network),
            free.hint,
        )
        return replace(written, requeue=True)
    if not started:
        check_within_quota(network, records.values(), target)
    return Plan()


def release_quota_placeholder(network: Network, target: Vm, number: int, snapshot: Snapshot, run: RunContext) -> Plan:
    """Gives back the place that this very run has taken; empty where it has none."""
    written = records_written_by_run(network, run)
    if not written:
        return Plan()
    allocations = load_allocations(network, snapshot)
    vm_records = {
        other: record
        for other, record in allocations.records().items()
        if other != number and record.uid == target.uid and record.as_written in written.get(other, ())
    }
    return (
        remove_records(allocations, vm_records, dict.fromkeys(vm_records, target.full_name)) if vm_records else Plan()
    )


def _find_free_address(network: Network, backend: Backend, snapshot: Snapshot, run: RunContext) -> FreeAddresses | None:
    """An address that nobody has; None where there is none."""
    found = find_unused_addresses(
        network, backend, 1, lambda shards: load_shards(network, shards, snapshot), snapshot, run
    )
    return None if isinstance(found, PreconditionFailed) else found
