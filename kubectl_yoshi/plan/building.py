"""Making a network's objects, and before them the record of the address that the network itself needs."""

from __future__ import annotations

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import NETWORK, Ledger, Record, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import STATUS_ALLOCATIONS, open_shelves, open_whole, remove_records, write_records
from kubectl_yoshi.plan.cooling import cooling_down


def built(network: Network, backend: Backend, facts: Facts, attempt: Attempt) -> Plan:
    """The changes that make the network's objects true; empty where they are.

    Raises:
        NeedMore: more must be read first.
        YoshiError: it cannot be made.
    """
    use = backend.own_use(network)
    if use is None:
        return backend.build(network, {}, facts)
    ledger = open_whole(network, facts)
    records = ledger.records()
    mine = sorted(number for number, record in records.items() if record.kind == NETWORK)
    if use and not mine and not network.deleting_since:
        return _recorded(ledger, use, backend, facts, attempt)
    surplus = {number: records[number] for number in (mine[1:] if use else mine)}
    plan = backend.build(network, {n: r for n, r in records.items() if n not in surplus}, facts)
    return plan if plan or not surplus else plan + remove_records(ledger, surplus)


def _recorded(ledger: Ledger, use: str, backend: Backend, facts: Facts, attempt: Attempt) -> Plan:
    """Records the lowest free address for the network itself; in a preview also what comes after that."""
    network, records = ledger.network, ledger.records()
    taken = Intervals.of_numbers({*records, *cooling_down(ledger, attempt.now)})
    while True:
        number = network.usable.first_without(taken)
        if number is None:
            raise Refused(
                f"network {network.full_name} is full: no address of {network.cidr} is free for its {use}",
                "See who holds them with `kubectl yoshi ips list`, or do without it.",
            )
        one = Intervals.of_numbers([number])
        others = (u for u in backend.uses(network, (), one, facts) if not u.is_own_of(network))
        if not any(u.number == number for u in others):
            break
        taken |= one
    record = Record(NETWORK, network.namespace, network.name, network.uid, since=attempt.moment, note=use)
    if network.uid:
        plan = write_records(open_shelves(network, [shelf_of(network, number)], facts), {number: record})
    else:
        plan = _foreseen(network, number, record)
    return plan + backend.build(network, {**records, number: record}, facts) if attempt.preview else plan


def _foreseen(network: Network, number: int, record: Record) -> Plan:
    """The record of a network that is not there yet, for a preview of its creation."""
    patch = PatchBuilder.of_uid(network.uid)
    patch.set_in(network.raw, STATUS_ALLOCATIONS, {str(network.address(number)): record.to_json()})
    says = f"record {network.address(number)} for {record.holder}"
    return in_order(Change(Verb.PATCH, network.ref, says, patch.ops, "status", before=network.raw))
