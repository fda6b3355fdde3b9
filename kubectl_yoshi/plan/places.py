"""A place in a namespace's quota, taken before an address is moved to a VM of that namespace.

A move must not find out that there is no room left when the address was taken from the one who had it already. So the
VM that is to have it is first given any free address, counted as an attachment is (plan/quotas.py), and gives it back
when the other one is its own. Where no address is free, or none can be chosen, the move counts without a place.
"""

from __future__ import annotations

from dataclasses import replace

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Ledger, Record, Shelf, is_large, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import open_shelves, open_whole, remove_records, write_records
from kubectl_yoshi.plan.choosing import Chosen, choose_unused
from kubectl_yoshi.plan.quotas import must_have_room, must_not_be_beyond
from kubectl_yoshi.plan.undoing import recorded_by_this_run

NOTE = "a place in the quota while an address is moved"


def needs_place(network: Network, record: Record, target: Vm) -> bool:
    """Whether a move makes the quota's count of the VM's namespace greater."""
    return network.most_per_namespace is not None and target.namespace != record.namespace


def plan_place(
    network: Network, backend: Backend, target: Vm, number: int, facts: Facts, attempt: Attempt, begun: bool
) -> Plan:
    """The changes that come before a move; empty where it may go on.

    Args:
        network, backend: which.
        target: who is to have an address.
        number: which.
        facts, attempt: as every planner gets them.
        begun: the address was or is being taken from the one who had it.

    Raises:
        NeedMore: more must be read first.
        Refused: the quota leaves no place.
    """
    whole = open_whole(network, facts)
    records = whole.records()
    mine = {other: record for other, record in records.items() if record.uid == target.uid and other != number}
    if not mine:
        must_have_room(network, records, target)
        free = None if begun or network.cidr is None else _free(network, backend, facts, attempt)
        if free is None:
            return Plan()
        ledger = open_shelves(network, [shelf_of(network, free.numbers[0])], facts)
        place = Record(VIRTUALMACHINE, target.namespace, target.name, target.uid, since=attempt.moment, note=NOTE)
        written = write_records(
            ledger, {free.numbers[0]: place}, {free.numbers[0]: target.subject}, not is_large(network), free.hint
        )
        return replace(written, again=True)
    if not begun:
        must_not_be_beyond(network, records.values(), target)
    return Plan()


def give_back_place(network: Network, target: Vm, number: int, facts: Facts, attempt: Attempt) -> Plan:
    """Gives back the place that this very run has taken; empty where it has none."""
    written = recorded_by_this_run(network, attempt)
    if not written:
        return Plan()
    whole = open_whole(network, facts)
    mine = {
        other: record
        for other, record in whole.records().items()
        if other != number and record.uid == target.uid and record.as_written in written.get(other, ())
    }
    return remove_records(whole, mine, dict.fromkeys(mine, target.subject)) if mine else Plan()


def _free(network: Network, backend: Backend, facts: Facts, attempt: Attempt) -> Chosen | None:
    """An address that nobody has; None where there is none."""

    def open_shelf(shelf: Shelf) -> Ledger:
        return open_shelves(network, [shelf], facts)

    chosen = choose_unused(network, backend, 1, open_shelf, facts, attempt)
    return None if isinstance(chosen, Refused) else chosen
