"""Taking a move back: the address goes to the VM that had it again, where the other one cannot have it in the end.

Each look takes one step: what was made for the other VM goes; the record changes hands again; then the VM that had the
address gets it back. So a step that is refused, or another run that is faster, leaves the steps before as they are.
"""

from __future__ import annotations

from dataclasses import replace

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.backend import Backend, How
from kubectl_yoshi.model.change import Change, Plan, Verb
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import Ledger, Record, parse_record
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ObjectRef, dig
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import write_records
from kubectl_yoshi.plan.releases import barrier, only_as_read
from kubectl_yoshi.plan.undoing import recorded_by_this_run


def take_back_move(
    network: Network, backend: Backend, ledger: Ledger, target: Vm, number: int, facts: Facts, attempt: Attempt
) -> Plan:
    """The next step back of what this run has done for a move; empty where nothing is left to do, or the move is done.

    Args:
        network, backend, ledger: which, with the address's shelf.
        target: who does not get the address.
        number: which.
        facts, attempt: as every planner gets them.

    Raises:
        NeedMore: more must be read first.
    """
    record = ledger.records().get(number)
    former = None
    if record is not None and record.uid == target.uid:
        former = _handed_over(network, record, number, attempt)
        if former is None or not backend.establish(target, network, number, (), facts):
            return Plan()
    wrote = _wrote_to(target.ref, attempt)
    if former is not None and not wrote and not _wrote_to(VM.ref(former.name, former.namespace), attempt):
        return Plan()  # an earlier run has: this one cannot give back what that one took
    if (wrote or former) and _wanted_by(target, network, backend, number, facts):
        changes = [c for c in backend.loosen(target, network, facts) if wrote or c.verb is Verb.DELETE]
        if changes:
            return loosened(changes)
    if record is None:
        return Plan()
    if former is not None:
        again = replace(former, since=attempt.moment)
        handed = write_records(ledger, {number: again}, {number: target.subject})
        return barrier(record, facts, target.subject) + handed
    return _given_again(network, backend, record, number, facts, attempt)


def loosened(changes: list[Change]) -> Plan:
    """What takes an address from a VM: its wish first, then what was made for it, until that is gone."""
    ends = [change for change in changes if change.verb is Verb.DELETE]
    stages = ([change for change in changes if change not in ends], ends, [_until_gone(change) for change in ends])
    return Plan(tuple(tuple(stage) for stage in stages if stage))


def _until_gone(change: Change) -> Change:
    says = f"wait until {change.ref} is gone"
    before, uid, subject = change.before, change.uid, change.subject
    return Change(Verb.WAIT, change.ref, says, before=before, uid=uid, subject=subject, wait_for="deleted")


def _handed_over(network: Network, record: Record, number: int, attempt: Attempt) -> Record | None:
    """The record in whose place this run has written this one; None where another run has."""
    if record.as_written not in recorded_by_this_run(network, attempt).get(number, ()):
        return None
    key = str(network.address(number))
    for change in attempt.sent:
        value = dig(change.before, "status", "allocations", key) if change.subresource == "status" else None
        if value is not None:
            before = parse_record(value, network.namespace)
            return before if before.uid != record.uid else None
    return None


def _wrote_to(vm: ObjectRef, attempt: Attempt) -> bool:
    """Whether this run has changed a VM, and not only ended its attachments."""
    return any(change.ref == vm and not change.shared for change in attempt.sent)


def _given_again(
    network: Network, backend: Backend, record: Record, number: int, facts: Facts, attempt: Attempt
) -> Plan:
    """What gives a VM the address again that this run has taken from it, and for which the record is."""
    found = facts.ask(Read(VM, record.namespace, record.name))
    if not found or Vm(found[0]).uid != record.uid:
        return Plan()
    holder = Vm(found[0])
    had = attempt.before(holder.ref)
    before = Vm(had) if had else None
    if before is None or before.ref not in _wanted_by(before, network, backend, number, facts):
        return Plan()
    ports = backend.open_on(before, network, facts)
    wished = only_as_read(holder, backend.fasten(holder, network, number, "", facts, ports))
    return Plan((wished,) if wished else ()) + backend.establish(holder, network, number, ports, facts)


def _wanted_by(vm: Vm, network: Network, backend: Backend, number: int, facts: Facts) -> list[ObjectRef]:
    """The VM itself and what is made for it, as far as they want an address for it."""
    uses = backend.uses(network, [vm], Intervals(), facts)
    return [
        use.ref
        for use in uses
        if use.number == number and use.how is How.WANTED and use.is_of(vm.namespace, vm.name, vm.uid)
    ]
