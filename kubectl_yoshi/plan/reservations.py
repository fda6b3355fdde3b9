"""Reserving addresses for people, and giving addresses back by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.backend import Backend, How
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, YoshiError
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import RESERVATION, VIRTUALMACHINE, Ledger, Record, SearchHint, Shelf, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import SEE_NETWORKS, open_network, open_shelves, remove_records, write_records
from kubectl_yoshi.plan.choosing import choose_unused
from kubectl_yoshi.plan.opening import being_deleted, must_be_open
from kubectl_yoshi.plan.overlaps import Neighbours
from kubectl_yoshi.plan.releases import release_of
from kubectl_yoshi.plan.serving import backend_of
from kubectl_yoshi.plan.undoing import recorded_by_this_run

SEE_FREE = "Choose another address; see `kubectl yoshi ips list --free`."


@dataclass(frozen=True)
class ReserveRequest:
    """What is wanted.

    Attributes:
        network: its namespace and name.
        addresses: these; empty for any.
        count: how many, where no address is named.
        note: what for, in a person's words.
    """

    network: tuple[str, str]
    addresses: tuple[Address, ...] = ()
    count: int = 1
    note: str = ""


def plan_reservations(request: ReserveRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that reserve addresses, all or none. `answers` has them as keys.

    Raises:
        NeedMore: more must be read first.
        Refused: an address is held, or is never given out, or the network is full.
    """
    network = open_network(*request.network, facts)
    backend = backend_of(network, backends)
    if "" in attempt.failed:
        raise attempt.failed[""]
    must_be_open(network)
    record = Record(RESERVATION, network.namespace, "", since=attempt.moment, note=request.note)
    ledger, mine = _reserved_by_this_run(network, facts, attempt)
    if network.is_going:
        return _withdrawn(ledger, mine, being_deleted(network), backend, facts)
    chosen: list[int] = []
    hint: SearchHint | None = None
    neighbours = Neighbours(network, facts)
    for address in request.addresses:
        try:
            neighbours.must_not_have(address)
        except Refused as refused:
            return _withdrawn(ledger, mine, refused, backend, facts)
        if why := network.why_not_usable(address):
            raise Refused(f"{address} cannot be reserved on network {network.full_name}: {why}", SEE_FREE)
        ledger = ledger.with_objects(open_shelves(network, [shelf_of(network, int(address))], facts).objects)
        held = ledger.records().get(int(address))
        if held is not None and not (held.kind == RESERVATION and held.note == request.note):
            holds = f"it is {held.holder}" if held.kind == RESERVATION else f"{held.holder} holds it"
            raise Refused(f"{address} is not free: {holds} on network {network.full_name}", SEE_FREE)
        if held is None:
            chosen.append(int(address))
    strangers = [u for u in backend.uses(network, (), Intervals.of_numbers(chosen), facts) if u.number in chosen]
    if strangers and request.addresses:
        raise Refused(f"{network.address(strangers[0].number)} is not free: {strangers[0].says}", SEE_FREE)
    more = request.count - len(mine)
    if not request.addresses and more > 0:

        def open_shelf(shelf: Shelf) -> Ledger:
            nonlocal ledger
            opened = open_shelves(network, [shelf], facts)
            ledger = ledger.with_objects(opened.objects)
            return opened

        found = choose_unused(network, backend, more, open_shelf, facts, attempt)
        if isinstance(found, Refused):
            return _withdrawn(ledger, mine, found, backend, facts)
        chosen, hint = found.numbers, found.hint
    answers = {str(a): request.note for a in request.addresses}
    answers |= {str(network.address(number)): request.note for number in sorted({*mine, *chosen})}
    plan = write_records(ledger, dict.fromkeys(chosen, record), hint=hint) if chosen else Plan()
    held_now, kept = ledger.records(), [*map(int, request.addresses), *mine, *chosen]
    plan = plan + backend.provide(network, {number: held_now.get(number, record) for number in kept}, facts)
    return replace(plan, answers=answers)


def _reserved_by_this_run(network: Network, facts: Facts, attempt: Attempt) -> tuple[Ledger, dict[int, Record]]:
    """What earlier rounds of this run reserved and still stands, with the ledger as far as that goes."""
    written = recorded_by_this_run(network, attempt)
    ledger = open_shelves(network, {shelf_of(network, number) for number in written}, facts)
    there = ledger.records()
    return ledger, {n: there[n] for n, values in written.items() if n in there and there[n].as_written in values}


def _withdrawn(ledger: Ledger, mine: Mapping[int, Record], refused: Refused, backend: Backend, facts: Facts) -> Plan:
    """Takes back what this run has reserved, and what the back-end keeps for it, since it cannot reserve all that was
    wanted.

    Raises:
        Refused: nothing needs to be taken back.
    """
    if not mine:
        raise refused
    plan = backend.retract(ledger.network, mine, facts).plan + remove_records(ledger, mine)
    return replace(plan, refusals={ledger.network.full_name: refused})


@dataclass(frozen=True)
class ReleaseRequest:
    """What is to be given back by hand.

    Attributes:
        network: its namespace and name.
        addresses: which; reservations, and records of VMs that do not use them.
    """

    network: tuple[str, str]
    addresses: tuple[Address, ...]


def plan_releases(request: ReleaseRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that give addresses back. `answers` has who held each, `refusals` why one must stay.

    Raises:
        NeedMore: more must be read first.
        Refused: no such network.
    """
    network = open_network(*request.network, facts)
    if "" in attempt.failed:
        return Plan(refusals={subject or network.full_name: error for subject, error in attempt.failed.items()})
    backend = backend_of(network, backends)
    for address in request.addresses:
        if not network.may_hold(address):
            raise Refused(
                f"{address} is no address of network {network.full_name} ({network.cidr})", f"{SEE_NETWORKS}."
            )
    ledger = open_shelves(network, {shelf_of(network, int(address)) for address in request.addresses}, facts)
    records = ledger.records()
    plan = Plan()
    answers: dict[str, str] = {}
    refusals: dict[str, YoshiError] = {}
    reserved: dict[int, Record] = {}
    for address in request.addresses:
        record = records.get(int(address))
        if record is None:
            continue
        answers[str(address)] = record.holder
        if record.kind == RESERVATION:
            reserved[int(address)] = record
            continue
        if record.subject in attempt.failed:
            refusals[str(address)] = attempt.failed[record.subject]
            continue
        uses = backend.survey(network, (record.namespace,), facts)
        if record.kind == VIRTUALMACHINE:  # by name too: who may read it may perhaps not list all
            holder = Read(VM, record.namespace, record.name)
            vms = [Vm(obj) for obj in facts.ask(holder)]
            if why := facts.why_unknown(holder):
                refusals[str(address)] = Refused(
                    f"{address} stays recorded for {record.holder}: whether the VM wants it cannot be told: {why}",
                    ASK_FOR_IT,
                )
                continue
            uses = (*uses, *backend.uses(network, vms, Intervals(), facts))
        wanted = [u for u in uses if u.number == int(address) and u.how is How.WANTED]
        wanted = [u for u in wanted if u.is_of(record.namespace, record.name, record.uid)]
        release = release_of(ledger, int(address), record, (*wanted, *uses), backend, facts, attempt.moment)
        if release.notes:
            way_out = f"See `kubectl yoshi ips who {address}`."
            if wanted:
                way_out = (
                    f"Detach it with `kubectl yoshi vm detach {record.name} -n {record.namespace} "
                    f"--network {network.called_from(record.namespace)}`."
                )
            refusals[str(address)] = Refused(release.notes[0], way_out)
        plan = plan.beside(release.plan)
    if reserved:
        retracted = backend.retract(network, reserved, facts)
        if retracted.obstacle:
            raise Refused(f"reservations on network {network.full_name} stay: {retracted.obstacle}", ASK_FOR_IT)
        plan = plan + retracted.plan + remove_records(ledger, reserved, until=attempt.moment)
    return replace(plan, answers=answers, refusals=refusals)
