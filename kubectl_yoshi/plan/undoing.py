"""Taking back what this very run wrote for a VM that does not get the address in the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.backend import How
from kubectl_yoshi.model.change import Plan, Verb, in_order, pointer, side_by_side
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.ledger import Record, parse_record, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef, dig
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import remove_records
from kubectl_yoshi.plan.desk import Desk
from kubectl_yoshi.plan.histories import STATUS_HISTORY
from kubectl_yoshi.plan.releases import end_attachments, release_of


def recorded_by_this_run(network: Network, attempt: Attempt) -> dict[int, list[Json]]:
    """Addresses whose records earlier rounds of this run wrote, or may have written, and each value of it."""
    numbers: dict[int, list[Json]] = {}
    for change in attempt.sent:
        if change.subresource == "status" and isinstance(change.body, list):
            for op in change.body:
                if op["op"] != "add" or op["path"].startswith(pointer(STATUS_HISTORY)):
                    continue
                values = {op["path"].rsplit("/", 1)[1]: op["value"]}
                if op["path"].endswith("/allocations"):
                    values = op["value"]
                elif op["path"] == "/status":
                    values = dig(op, "value", "allocations", default={})
                for key, value in values.items():
                    try:
                        address = parse_address(key)
                    except UsageMistake:
                        continue
                    if address in network or (change.ref == network.ref and network.may_hold(address)):
                        numbers.setdefault(int(address), []).append(value)
    return numbers


def records_before(desk: Desk) -> dict[int, Record]:
    """The records as they were when this run first wrote to the objects that hold them, of those to which it wrote."""
    first: dict[ObjectRef, Json] = {}
    for change in desk.attempt.sent:
        if change.subresource == "status" and change.before is not None:
            first.setdefault(change.ref, change.before)
    return {
        int(parse_address(key)): parse_record(value, desk.network.namespace)
        for obj in first.values()
        for key, value in dig(obj, "status", "allocations", default={}).items()
    }


def undo_records(
    desk: Desk,
    vms: list[Vm],
    recorded: Mapping[int, list[Json]],
    chosen: Collection[int],
    beyond: Collection[str] = (),
) -> Plan:
    """Takes back the records that this run wrote for VMs that do not get them: their own change was refused, or
    somebody was faster and gave them another address, or another network.

    What a VM had before this run stays with it, or is put back where another address was to take its place. Of records
    that others have given back meanwhile, what the back-end keeps for them is taken back; not where the address is
    among those `chosen` for this plan, which has it written anew.

    Those `beyond` a quota were recorded and then counted, and nothing else was written: what they carry they carried
    without a record before, and do so again.
    """
    numbers: dict[int, Record] = {}
    plans: list[Plan] = []
    after_its_own: set[int] = set()
    on_their_way = {change.ref for change in desk.attempt.unanswered}
    for vm in vms:
        running = desk.running(vm)
        in_use = {*running, *desk.carried(vm)}
        had = [] if desk.backend.on_template else _had_before(desk, vm, recorded)
        plans.append(_made_in_vain(desk, vm))
        for number in desk.own(vm):
            if desk.records[number].as_written not in recorded.get(number, ()) or number in had:
                continue
            before: list[Plan] = []
            if not desk.backend.on_template:
                before.append(_put_back(desk, vm, number, had[0]) if had else _take_back(desk, vm, number))
            elif number in (running if vm.subject in beyond else in_use):
                continue
            numbers[number] = desk.records[number]
            if vm.ref in on_their_way:
                before.append(end_attachments(vm, vm.subject))
            plans += before
            if any(before):
                after_its_own.add(number)
    released, gone = _release_of_the_gone(desk, recorded)
    given_back = _given_back_by_others(desk, recorded)
    retracted = {number: record for number, record in given_back.items() if number not in chosen} | numbers | gone
    if not retracted:
        return side_by_side(plans) + released
    plans.append(desk.backend.retract(desk.network, retracted, desk.facts).plan)
    # Each for itself where something is to go before it, which may be refused for one and not for another.
    parts = [{number} for number in sorted(after_its_own)] + [numbers.keys() - after_its_own]
    removals = [_removal(desk, {number: numbers[number] for number in sorted(part)}) for part in parts]
    return side_by_side(plans) + side_by_side(removals) + released


def _removal(desk: Desk, numbers: Mapping[int, Record]) -> Plan:
    return remove_records(desk.ledger, numbers, {number: record.subject for number, record in numbers.items()})


def _made_in_vain(desk: Desk, vm: Vm) -> Plan:
    """Takes away what this run has made beside a VM for an address that is not the VM's any more: others have given it
    back, or to somebody else, before it was there."""
    if desk.backend.on_template or desk.own(vm):
        return Plan()
    loosened = desk.backend.loosen(vm, desk.network, desk.facts)
    ended = [change for change in loosened if change.verb is Verb.DELETE and change.ref in desk.attempt.created]
    nobodys = [number for number in desk.carried(vm) if number not in desk.records] if ended else []
    let_go = [desk.backend.let_go(desk.network, n, vm.namespace, vm.name, desk.facts).plan for n in nobodys]
    return in_order(*ended) + side_by_side(let_go)


def _release_of_the_gone(desk: Desk, recorded: Mapping[int, list[Json]]) -> tuple[Plan, dict[int, Record]]:
    """What gives back the addresses that were recorded for VMs that are gone or going, and these; not those that
    something of them still runs with, or wants."""
    alive = {vm.uid for vm in desk.vms}
    gone = {f"{read.namespace}/{read.name}" for read in desk.request.reads if not desk.facts.why_unknown(read)}
    theirs = {
        number: record
        for number, record in desk.records.items()
        if number in recorded and record.subject in gone and record.uid not in alive
    }
    if not theirs:
        return Plan(), {}
    namespaces = tuple(dict.fromkeys(record.namespace for record in theirs.values()))
    uses = desk.backend.survey(desk.network, namespaces, desk.facts)
    releases = {
        number: release_of(desk.ledger, number, record, uses, desk.backend, desk.facts, until="")
        for number, record in theirs.items()
    }
    plan = side_by_side([release.plan for release in releases.values()])
    notes = tuple(note for release in releases.values() for note in release.notes)
    return replace(plan, notes=notes), {number: theirs[number] for number, release in releases.items() if release.plan}


def _given_back_by_others(desk: Desk, recorded: Mapping[int, list[Json]]) -> dict[int, Record]:
    """The last record that this run wrote of each address whose record is none of this run's any more."""
    there = {number: desk.records[number].as_written for number in recorded if number in desk.records}
    return {
        number: parse_record(values[-1], desk.network.namespace)
        for number, values in recorded.items()
        if there.get(number) not in values
    }


def _had_before(desk: Desk, vm: Vm, recorded: Mapping[int, list[Json]]) -> list[int]:
    """The VM's addresses that are not of this run's making: it wanted them before this run wrote to it, and the ledger
    gave them to it; or another run has given them to it meanwhile, which come first."""
    before = Vm(desk.attempt.before(vm.ref) or vm.raw)
    uses = desk.backend.uses(desk.network, [before], Intervals(), desk.facts)
    wanted = [use.number for use in uses if use.how is How.WANTED and use.ref == vm.ref]
    desk.open({shelf_of(desk.network, number) for number in wanted})
    others = [n for n in desk.own(vm) if desk.records[n].as_written not in recorded.get(n, ())]
    given = {*others, *(number for number, record in records_before(desk).items() if record.uid == vm.uid)}
    now = [number for number in desk.carried(vm) if number in others]
    return [*dict.fromkeys([*now, *(number for number in wanted if number in given)])]


def _put_back(desk: Desk, vm: Vm, number: int, former: int) -> Plan:
    """Lets go of an address that was to take the place of another one, and gives the VM that one again."""
    wished = desk.backend.fasten(vm, desk.network, former, "", desk.facts)
    let_go = desk.backend.let_go(desk.network, number, vm.namespace, vm.name, desk.facts)
    again = desk.backend.establish(vm, desk.network, former, (), desk.facts)
    return Plan((wished,) if wished else ()) + again + let_go.plan


def _take_back(desk: Desk, vm: Vm, number: int) -> Plan:
    """Takes away what was made beside a VM for an address that it does not get in the end."""
    loosened = desk.backend.loosen(vm, desk.network, desk.facts)
    let_go = desk.backend.let_go(desk.network, number, vm.namespace, vm.name, desk.facts)
    return Plan((tuple(loosened),) if loosened else ()) + let_go.plan
