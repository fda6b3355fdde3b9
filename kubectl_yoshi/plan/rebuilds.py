"""Rebuilding ledgers: making them say what `reckoning` says that they should, after a restore or whatever broke them.

Only records are written, and what an interrupted run has left inconsistent in a back-end's own bookkeeping; no VM is
changed, and no address is given back. A ledger that was not open (plan/opening.py) is open afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Change, Plan, Verb
from kubectl_yoshi.model.errors import Refused, first_few
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import Ledger, Record, Shelf, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, Name, dig, resource_version_of, uid_of
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import networks_asked, write_records
from kubectl_yoshi.plan.network_status import opened
from kubectl_yoshi.plan.overlaps import must_give_way_to_none
from kubectl_yoshi.plan.quotas import beyond_quota
from kubectl_yoshi.plan.reckoning import ASK_FOR_REBUILD, Reckoning, Verdict, reckon
from kubectl_yoshi.plan.releases import end_attachments
from kubectl_yoshi.plan.undoing import recorded_by_this_run

SHOWN = 3


@dataclass(frozen=True)
class RebuildRequest:
    """Which ledgers.

    Attributes:
        network: namespace and name of a single network; None for all.
        namespace: with network None, only those of this namespace; None for every one.
    """

    network: Name | None = None
    namespace: str | None = None


def plan_rebuild(request: RebuildRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that make the ledgers say what they should.

    The plan's `answers` has how many addresses are written of each network that is changed.

    Raises:
        NeedMore: more must be read first.
        Refused: there is no such network, or what may use its addresses cannot be seen.
    """
    reckonings, notes = reckon_all(request, backends, facts)
    vms = vms_named(facts)
    plans = [plan_records(one, vms, attempt).beside(_opened(one, attempt)) for one in reckonings]
    plans += [_repaired(one.network, backends, facts, attempt) for one in reckonings]
    plan = Plan(notes=notes, refusals=attempt.failed)
    for one in plans:
        plan = plan.beside(one)
    return plan


def reckon_all(
    request: RebuildRequest, backends: Mapping[str, Backend], facts: Facts
) -> tuple[list[Reckoning], tuple[str, ...]]:
    """What each ledger should say, and a line for every network that is left alone.

    Raises:
        NeedMore: more must be read first.
        Refused: see plan_rebuild.
    """
    everywhere = request.network is None and request.namespace is None
    networks, broken = networks_asked(request.network, request.namespace, facts)
    notes = [f"{text}: its ledger is left alone" for text in broken]
    vms = vms_named(facts)
    found: list[Reckoning] = []
    for network in networks:
        backend = backends.get(network.plugin)
        if backend is None:
            notes.append(f"network {network.full_name} is left alone: plugin {network.plugin!r} is unknown")
        elif network.is_going:
            notes.append(f"network {network.full_name} is left alone: it is being deleted")
        elif why := _overlapped(network, facts):
            notes.append(f"network {network.full_name} is left alone: {why}")
        else:
            found.append(reckon(network, backend, vms, facts, everywhere))
    return found, tuple(notes)


def _overlapped(network: Network, facts: Facts) -> str:
    """Why a network whose ledger is not open may not be opened: another one has its addresses; "" where it may."""
    try:
        if not network.is_open:
            must_give_way_to_none(network, facts)
    except Refused as refused:
        return refused.message
    return ""


def vms_named(facts: Facts, within: tuple[str, ...] | None = None) -> dict[Name, Vm]:
    """Every VM that exists, or of these namespaces.

    Raises:
        NeedMore: they were not read yet.
        Refused: not all may be seen.
    """
    reads = [Read(VM, namespace) for namespace in within or (None,)]
    found = facts.ask(*reads)
    if why := facts.why_unknown(*reads):
        raise Refused(f"which VM has which address cannot be told: {why}", ASK_FOR_REBUILD)
    return {(vm.namespace, vm.name): vm for vm in map(Vm, found)}


def _repaired(network: Network, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """Makes the back-end's own bookkeeping consistent again that an interrupted run has left."""
    if attempt.failed:
        return Plan()
    return backends[network.plugin].repairs(network, None, facts)


def _opened(reckoning: Reckoning, attempt: Attempt) -> Plan:
    """Opens a ledger in which nothing is missing any more."""
    subject = reckoning.network.full_name
    plan = Plan() if reckoning.different or subject in attempt.failed else opened(reckoning.network, subject)
    return replace(plan, answers={subject: "0"}) if plan else plan


def plan_records(reckoning: Reckoning, vms: Mapping[Name, Vm], attempt: Attempt) -> Plan:
    """The changes that make one ledger say what it should. `answers` has how many addresses are written."""
    subject = reckoning.network.full_name
    if subject in attempt.failed:
        return Plan()
    told = recorded_by_this_run(reckoning.network, attempt)  # what is written now is not why it was written
    notes = tuple(f"contradiction: {text}" for text in reckoning.contradictions_besides(told)) + _idle(reckoning)
    notes += tuple(beyond_quota(reckoning.network, (v.should for v in reckoning.verdicts if v.should is not None)))
    different = reckoning.different
    if not different:
        return Plan(notes=notes)
    records = {v.number: _dated(v.should, attempt) for v in different if v.should is not None}
    ledger = _with_places(reckoning.ledger, records)
    plan = _parted(different, vms, subject) + _without(reckoning.stale, subject)
    plan = plan + write_records(ledger, records, dict.fromkeys(records, subject))
    return replace(plan, notes=notes, answers={subject: str(len(different))})


def _dated(record: Record, attempt: Attempt) -> Record:
    """The record to write: since when an address is somebody's stays where it was known."""
    return record if record.since else replace(record, since=attempt.moment)


def _with_places(ledger: Ledger, records: Mapping[int, Record]) -> Ledger:
    """The ledger with an empty place for every block that these records need and that is not there."""
    wanted = dict.fromkeys(shelf_of(ledger.network, number) for number in records)
    return ledger.with_objects({shelf: None for shelf in wanted if shelf not in ledger.objects})


def _parted(different: Sequence[Verdict], vms: Mapping[Name, Vm], subject: str) -> Plan:
    """Ends attachments that are under way of the VMs whose record another one gets, before it does."""
    losing: dict[Name, Vm] = {}
    for verdict in different:
        record, should = verdict.record, verdict.should
        if record is not None and should is not None and record.uid != should.uid:
            vm = vms.get((record.namespace, record.name))
            if vm is not None and vm.uid == record.uid:
                losing[(vm.namespace, vm.name)] = vm
    plans = [end_attachments(vm, subject).stages for vm in losing.values()]
    side_by_side = zip_longest(*plans, fillvalue=())
    return Plan(tuple(tuple(change for stage in stages for change in stage) for stages in side_by_side))


def _without(stale: Mapping[Shelf, Json], subject: str) -> Plan:
    """Takes blocks of an earlier network away; what they say is among the records that are written next."""
    changes = tuple(
        Change(
            Verb.DELETE, shelf.ref, f"make the address block of {dig(block, 'spec', 'first')} anew", before=block,
            uid=uid_of(block), resource_version=resource_version_of(block), subject=subject, tolerate_missing=True,
        )
        for shelf, block in stale.items()
    )  # fmt: skip
    return Plan((changes,)) if changes else Plan()


def _idle(reckoning: Reckoning) -> tuple[str, ...]:
    idle = reckoning.idle
    if not idle:
        return ()
    listed = first_few(idle, SHOWN, " and")
    whose = f"network {reckoning.network.full_name} keeps {listed} recorded for VMs that do not use them"
    return (f"{whose} (`kubectl yoshi ips gc` gives them back)",)
