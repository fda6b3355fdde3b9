"""Plan the objects of a network, and before them the record of the address that the network itself needs."""

from __future__ import annotations

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import NETWORK, Allocation, Allocations, shard_of
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.cool_down import cooling_down
from kubectl_yoshi.plan.records import STATUS_ALLOCATIONS, load_allocations, load_shards, remove_records, write_records


def plan_network_objects(network: Network, backend: Backend, ctx: PlanContext) -> Plan:
    """Plan the changes that reconcile the network's objects; empty if none are needed.

    Raises:
        YoshiError: an object cannot be created.
    """
    purpose = backend.infra_address_purpose(network)
    if purpose is None:
        return backend.ensure(network, {}, ctx.snapshot)
    allocations = load_allocations(network, ctx.snapshot)
    records = allocations.records()
    infra_numbers = sorted(number for number, record in records.items() if record.kind == NETWORK)
    if purpose and not infra_numbers and not network.deleting_since:
        return _record_infra_address(allocations, purpose, backend, ctx)
    surplus = {number: records[number] for number in (infra_numbers[1:] if purpose else infra_numbers)}
    plan = backend.ensure(network, {n: r for n, r in records.items() if n not in surplus}, ctx.snapshot)
    return plan if plan or not surplus else plan + remove_records(allocations, surplus)


def _record_infra_address(allocations: Allocations, purpose: str, backend: Backend, ctx: PlanContext) -> Plan:
    """Plan the record of the lowest free address for the network itself; in a preview also the changes after it."""
    network, records = allocations.network, allocations.records()
    taken = Intervals.from_numbers({*records, *cooling_down(allocations, ctx.run.now)})
    while True:
        number = network.usable.first_not_in(taken)
        if number is None:
            raise PreconditionFailed(
                f"network {network.full_name} is full: no address of {network.cidr} is free for its {purpose}",
                "See who holds them with `kubectl yoshi ips list`, or do without it.",
            )
        candidate = Intervals.from_numbers([number])
        other_uses = (
            u for u in backend.address_uses(network, (), candidate, ctx.snapshot) if not u.is_infra_use_of(network)
        )
        if not any(u.number == number for u in other_uses):
            break
        taken |= candidate
    record = Allocation(NETWORK, network.namespace, network.name, network.uid, since=ctx.run.micro_time, note=purpose)
    if network.uid:
        plan = write_records(load_shards(network, [shard_of(network, number)], ctx.snapshot), {number: record})
    else:
        plan = _preview_record(network, number, record)
    return plan + backend.ensure(network, {**records, number: record}, ctx.snapshot) if ctx.run.preview else plan


def _preview_record(network: Network, number: int, record: Allocation) -> Plan:
    """Plan the record of a network that does not exist yet, for a preview of its creation."""
    patch = PatchBuilder.for_uid(network.uid)
    patch.set_in(network.raw, STATUS_ALLOCATIONS, {str(network.address(number)): record.to_json()})
    summary = f"record {network.address(number)} for {record.holder}"
    return sequential(Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw))
