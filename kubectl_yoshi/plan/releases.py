"""Giving an address back, only when nothing uses it any more (invariant I5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.backend import Backend, How, Use
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order, pointer
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import NETWORK, ONLY_A_NEWER_ONE, RESERVATION, Ledger, Record, parse_record
from kubectl_yoshi.model.network import GROUP
from kubectl_yoshi.model.objects import ANNOTATIONS, resource_version_of
from kubectl_yoshi.model.vm import VM, Vm, why_unseen
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import STATUS_ALLOCATIONS, remove_records

BARRIER = f"{GROUP}/releasing"
"""Annotation that is on a VM for a moment while a record of it is given back that it does not carry."""


@dataclass(frozen=True)
class Release:
    """How an address is given back.

    Attributes:
        before: what ends attachments that are under way, and the back-end's bookkeeping.
        removal: the record's.
        notes: why it stays, a line each; it is not given back then, and both are empty.
    """

    before: Plan = field(default_factory=Plan)
    removal: Plan = field(default_factory=Plan)
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        """All of it, in order."""
        return self.before + self.removal

    def __add__(self, other: Release) -> Release:
        return Release(self.before + other.before, self.removal + other.removal, self.notes + other.notes)


def given_back_by(changes: Iterable[Change], namespace: str) -> dict[str, Record]:
    """Address -> the record that these changes took away, in their order.

    Args:
        namespace: the network's, in which the original yoshi's records name VMs.
    """
    prefix = pointer(STATUS_ALLOCATIONS) + "/"
    found: dict[str, Record] = {}
    for change in changes:
        tested: dict[str, object] = {}
        for op in change.body if isinstance(change.body, list) else ():
            if op["op"] == "test":
                tested[op["path"]] = op["value"]
            elif op["op"] == "remove" and op["path"].startswith(prefix):
                found[op["path"].removeprefix(prefix)] = parse_record(tested.get(op["path"]), namespace)
    return found


def without_outdated(notes: Iterable[str], changes: Iterable[Change]) -> tuple[str, ...]:
    """These notes without the reasons why addresses stay recorded that these changes released after all."""
    released = given_back_by(changes, "")
    return tuple(note for note in notes if not (is_about_staying(note) and note.split(" ", 1)[0] in released))


def is_about_staying(note: str) -> bool:
    """Whether a note says why an address stays recorded (see release_of)."""
    return note.partition(" ")[2].startswith("stays recorded for ")


def release_of(
    ledger: Ledger,
    number: int,
    record: Record,
    uses: Iterable[Use],
    backend: Backend,
    facts: Facts,
    until: str,
    settled: bool = False,
    parted: bool = False,
) -> Release:
    """The changes that give one address back, or the reason why it stays recorded.

    Args:
        ledger: with the address's shelf.
        number: the address.
        record: as read; its removal tests that it is still so.
        uses: what was seen of the network's addresses; a use that this very plan ends is to be left out.
        backend: whose bookkeeping may hold the address.
        facts: what was read.
        until: the time, for the history.
        settled: the back-end is made to forget the address by what comes before in the plan.
        parted: the VM is changed by what comes before in the plan, `only_as_read`, so that no attachment to this
            address that is under way can be completed.
    """
    address = ledger.address(number)
    if record.kind == RESERVATION:
        retracted = backend.retract(ledger.network, {number: record}, facts)
        if retracted.obstacle:
            return Release(notes=(f"{address} stays reserved: {retracted.obstacle}",))
        return Release(retracted.plan, remove_records(ledger, {number: record}, until=until))
    if not record.is_known:
        return Release(notes=(f"{address} stays recorded for {record.holder}: {ONLY_A_NEWER_ONE}",))
    if record.kind == NETWORK:
        return Release(notes=(f"{address} stays recorded for {record.holder}",))
    subject = record.subject
    for use in uses:
        if use.number != number:
            continue
        if use.how is How.RUNNING:  # whoever it is
            return Release(notes=(f"{address} stays recorded for {subject} as long as {use.ref} runs with it",))
        if use.how is How.WANTED and use.is_of(record.namespace, record.name):
            return Release(notes=(f"{address} stays recorded for {subject}: {use.ref} still wants it",))
    if why := why_unseen(record.namespace, facts):
        return Release(notes=(f"{address} stays recorded for {subject}: whether it runs cannot be told: {why}",))
    removal = remove_records(ledger, {number: record}, {number: subject}, until)
    ending = Plan() if parted else barrier(record, facts, subject)
    if settled:
        return Release(ending, removal)
    let_go = backend.let_go(ledger.network, number, record.namespace, record.name, facts)
    if let_go.obstacle:
        return Release(notes=(f"{address} stays recorded for {subject}: {let_go.obstacle}",))
    return Release(ending + let_go.plan, removal)


def only_as_read(vm: Vm, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Changes of the VM that are refused if anybody has written to it since it was read.

    Whoever gives a record back writes to the VM before, by such a change or by `end_attachments`. So an address gets
    onto a VM only while its record stands (invariant I2), however late the change that puts it there arrives.
    """
    test = PatchBuilder().test(("metadata", "resourceVersion"), resource_version_of(vm.raw)).ops
    return tuple(
        replace(change, body=[*test, *change.body])
        if change.ref == vm.ref and change.verb is Verb.PATCH and isinstance(change.body, list)
        else change
        for change in changes
    )


def barrier(record: Record, facts: Facts, subject: str) -> Plan:
    """What ends the attachments to a recorded address that are under way; empty where its VM is gone.

    Args:
        record: of a VM.
        facts: with this VM.
        subject: whom the changes are for.
    """
    obj = facts.one(VM, record.name, record.namespace)
    if obj is None or (record.uid and Vm(obj).uid != record.uid):
        return Plan()
    return end_attachments(Vm(obj), subject)


def end_attachments(vm: Vm, subject: str) -> Plan:
    """Changes a VM and changes it back, so that no attachment which has read it before can write to it any more.

    An attachment tests that the VM is as it was when it was read. Without this, a record could be given back between
    the two writes of an attachment that is under way, or that was killed and whose last write is still on its way.

    Args:
        vm: as read.
        subject: whom the changes are for.
    """
    if BARRIER in vm.annotations:  # a run that was killed has left it: to take it off ends them just as well
        return in_order(*only_as_read(vm, (_take_off(vm, subject),)))
    put = PatchBuilder.of_uid(vm.uid)
    put.test(("metadata", "resourceVersion"), resource_version_of(vm.raw))  # or it might come late, and stay
    put.set_in(vm.raw, (*ANNOTATIONS, BARRIER), "true")
    says = f"end attachments of {vm.ref} that are under way"
    ending = Change(Verb.PATCH, vm.ref, says, put.ops, before=vm.raw, subject=subject, shared=True)
    return in_order(ending, _take_off(vm, subject))


def _take_off(vm: Vm, subject: str) -> Change:
    take = PatchBuilder.of_uid(vm.uid).remove((*ANNOTATIONS, BARRIER))
    says = f"leave {vm.ref} as it was"
    return Change(Verb.PATCH, vm.ref, says, take.ops, before=vm.raw, subject=subject, shared=True)


def barriers_left(attempt: Attempt, facts: Facts, plan: Plan) -> Plan:
    """Takes the annotation off VMs on which this very run may have put it, whoever gave the record back meanwhile; not
    where the plan does it.

    Raises:
        NeedMore: they were not read yet.
    """
    refs = dict.fromkeys(change.ref for change in attempt.sent if change.ref.resource == VM and _puts(change))
    vms = facts.ask(*(Read(VM, ref.namespace, ref.name) for ref in refs))
    return lift_barriers(map(Vm, vms), plan)


def _puts(change: Change) -> bool:
    """Whether a change puts the annotation on, alone or with the map that it is in."""
    path = (*ANNOTATIONS, BARRIER)
    ops = change.body if isinstance(change.body, list) else ()
    added = {op["path"]: op["value"] for op in ops if op["op"] == "add"}
    return pointer(path) in added or BARRIER in added.get(pointer(path[:-1]), ())


def lift_barriers(vms: Iterable[Vm], plan: Plan) -> Plan:
    """Takes the annotation off VMs on which a run has left it that could not go on; not where the plan does it."""
    lifted = {change.ref for change in plan if change.ref.resource == VM and _takes_off(change)}
    left = tuple(_take_off(vm, vm.subject) for vm in vms if BARRIER in vm.annotations and vm.ref not in lifted)
    return Plan((left,) if left else ())


def _takes_off(change: Change) -> bool:
    ops = change.body if isinstance(change.body, list) else ()
    return any(op["op"] == "remove" and op["path"] == pointer((*ANNOTATIONS, BARRIER)) for op in ops)
