"""Releasing an address, only when nothing uses it any more (invariant I5).

An allocation that its VM does not carry may belong to an attachment that is between its two writes, or to one that was
killed and whose last write may still arrive. So a command that releases such an allocation (detach, `ips release`, `ips
gc`, whatever the grace period), or moves it to another VM, writes to the VM first: the removal of the address, with a
test of its resourceVersion (`require_unchanged`), or a write fence, an annotation that is set and removed again
(`fence_vm`). The attachment's patch tests the resourceVersion too, so its late write is refused; if its run is alive,
it plans anew. The resourceVersion is that of the first time that the run read the VM (`Snapshot.get_object`), since
later the VM may carry the address.

An allocation has its time to the microsecond, so one that was renewed meanwhile differs, and its removal, which tests
the whole allocation, is refused. What a backend holds of the address may belong to a later allocation too: a DHCP entry
has the allocation's time in it, an entry of BGPConfiguration the VM's uid, and only the allocation's own is removed.
tests/unit/plan/test_late_writes.py has the cases.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.allocations import (
    NETWORK,
    RESERVATION,
    UNKNOWN_KIND_REASON,
    Allocation,
    Allocations,
    parse_allocation,
)
from kubectl_yoshi.model.backend import AddressUse, Backend, UsageKind
from kubectl_yoshi.model.jsonpatch import PatchBuilder, json_pointer
from kubectl_yoshi.model.network import GROUP
from kubectl_yoshi.model.objects import ANNOTATIONS, resource_version_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm, instances_unreadable_reason
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.records import STATUS_ALLOCATIONS, remove_records

FENCE_ANNOTATION = f"{GROUP}/releasing"
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


def find_released_records(changes: Iterable[Change], namespace: str) -> dict[str, Allocation]:
    """Address -> the record that these changes took away, in their order.

    Args:
        namespace: the network's, in which the original yoshi's records name VMs.
    """
    prefix = json_pointer(STATUS_ALLOCATIONS) + "/"
    found: dict[str, Allocation] = {}
    for change in changes:
        tested: dict[str, object] = {}
        for op in change.body if isinstance(change.body, list) else ():
            if op["op"] == "test":
                tested[op["path"]] = op["value"]
            elif op["op"] == "remove" and op["path"].startswith(prefix):
                found[op["path"].removeprefix(prefix)] = parse_allocation(tested.get(op["path"]), namespace)
    return found


def drop_outdated_notes(notes: Iterable[str], changes: Iterable[Change]) -> tuple[str, ...]:
    """These notes without the reasons why addresses stay recorded that these changes released after all."""
    released = find_released_records(changes, "")
    return tuple(note for note in notes if not (explains_retention(note) and note.split(" ", 1)[0] in released))


def explains_retention(note: str) -> bool:
    """Whether a note says why an address stays recorded (see build_release)."""
    return note.partition(" ")[2].startswith("stays recorded for ")


def build_release(
    allocations: Allocations,
    number: int,
    record: Allocation,
    address_uses: Iterable[AddressUse],
    backend: Backend,
    snapshot: Snapshot,
    until: str,
    hold_released: bool = False,
    fenced: bool = False,
) -> Release:
    """The changes that give one address back, or the reason why it stays recorded.

    Args:
        allocations: with the address's shelf.
        number: the address.
        record: as read; its removal tests that it is still so.
        address_uses: what was seen of the network's addresses; a use that this very plan ends is to be left out.
        backend: whose bookkeeping may hold the address.
        snapshot: what was read.
        until: the time, for the history.
        hold_released: the back-end is made to forget the address by what comes before in the plan.
        fenced: the VM is changed by what comes before in the plan, `require_unchanged`, so that no attachment to this
            address that is under way can be completed.
    """
    address = allocations.address(number)
    if record.kind == RESERVATION:
        unreserved = backend.unreserve(allocations.network, {number: record}, snapshot)
        if unreserved.blocker:
            return Release(notes=(f"{address} stays reserved: {unreserved.blocker}",))
        return Release(unreserved.plan, remove_records(allocations, {number: record}, until=until))
    if not record.is_known:
        return Release(notes=(f"{address} stays recorded for {record.holder}: {UNKNOWN_KIND_REASON}",))
    if record.kind == NETWORK:
        return Release(notes=(f"{address} stays recorded for {record.holder}",))
    owner = record.owner
    for use in address_uses:
        if use.number != number:
            continue
        if use.kind is UsageKind.RUNNING:  # whoever it is
            return Release(notes=(f"{address} stays recorded for {owner} as long as {use.ref} runs with it",))
        if use.kind is UsageKind.REQUESTED and use.is_for_vm(record.namespace, record.name):
            return Release(notes=(f"{address} stays recorded for {owner}: {use.ref} still wants it",))
    if reason := instances_unreadable_reason(record.namespace, snapshot):
        return Release(notes=(f"{address} stays recorded for {owner}: whether it runs cannot be told: {reason}",))
    removal = remove_records(allocations, {number: record}, {number: owner}, until)
    fence = Plan() if fenced else write_fence(record, snapshot, owner)
    if hold_released:
        return Release(fence, removal)
    hold_release = backend.release_hold(allocations.network, number, record, snapshot)
    if hold_release.blocker:
        return Release(notes=(f"{address} stays recorded for {owner}: {hold_release.blocker}",))
    return Release(fence + hold_release.plan, removal)


def require_unchanged(vm: Vm, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Changes of the VM that are refused if anybody has written to it since it was read.

    Whoever gives a record back writes to the VM before, by such a change or by `fence_vm`. So an address gets
    onto a VM only while its record stands (invariant I2), however late the change that puts it there arrives.
    """
    test = PatchBuilder().test(("metadata", "resourceVersion"), resource_version_of(vm.raw)).ops
    return tuple(
        replace(change, body=[*test, *change.body])
        if change.ref == vm.ref and change.verb is Verb.PATCH and isinstance(change.body, list)
        else change
        for change in changes
    )


def are_all_patched(vms: Iterable[Vm], plan: Plan) -> bool:
    """Whether a plan patches each of these VMs: what others do to its address meanwhile makes that patch fail (see
    require_unchanged), so the run need not read again what has become of it."""
    patched = {change.ref for change in plan if change.verb is Verb.PATCH}
    return all(vm.ref in patched for vm in vms)


def write_fence(record: Allocation, snapshot: Snapshot, owner: str) -> Plan:
    """What ends the attachments to a recorded address that are under way; empty where its VM is gone.

    Args:
        record: of a VM.
        snapshot: with this VM.
        owner: whom the changes are for.
    """
    obj = snapshot.get_object(VM, record.name, record.namespace)
    if obj is None or (record.uid and Vm(obj).uid != record.uid):
        return Plan()
    return fence_vm(Vm(obj), owner)


def fence_vm(vm: Vm, owner: str) -> Plan:
    """Changes a VM and changes it back, so that no attachment which has read it before can write to it any more.

    An attachment tests that the VM is as it was when it was read. Without this, a record could be given back between
    the two writes of an attachment that is under way, or that was killed and whose last write is still on its way.

    Args:
        vm: as read.
        owner: whom the changes are for.
    """
    if FENCE_ANNOTATION in vm.annotations:  # a run that was killed has left it: to take it off ends them just as well
        return sequential(*require_unchanged(vm, (_remove_fence(vm, owner),)))
    patch = PatchBuilder.for_uid(vm.uid)
    patch.test(("metadata", "resourceVersion"), resource_version_of(vm.raw))  # or it might come late, and stay
    patch.set_in(vm.raw, (*ANNOTATIONS, FENCE_ANNOTATION), "true")
    summary = f"end attachments of {vm.ref} that are under way"
    fence = Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=owner)
    return sequential(fence, _remove_fence(vm, owner))


def _remove_fence(vm: Vm, owner: str) -> Change:
    patch = PatchBuilder.for_uid(vm.uid).remove((*ANNOTATIONS, FENCE_ANNOTATION))
    summary = f"leave {vm.ref} as it was"
    return Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=owner)


def remove_own_fences(ctx: PlanContext, plan: Plan) -> Plan:
    """Takes the annotation off VMs on which this very run may have put it, whoever gave the record back meanwhile; not
    where the plan does it.
    """
    refs = dict.fromkeys(change.ref for change in ctx.run.sent if change.ref.resource == VM and _adds_fence(change))
    vms = ctx.snapshot.lookup(*(Query(VM, ref.namespace, ref.name) for ref in refs))
    return remove_left_fences(map(Vm, vms), plan)


def is_fence(change: Change) -> bool:
    """Whether a change only ends a VM's attachments, or removes what did (see fence_vm)."""
    return _adds_fence(change) or _removes_fence(change)


def _adds_fence(change: Change) -> bool:
    """Whether a change puts the annotation on, alone or with the map that it is in."""
    path = (*ANNOTATIONS, FENCE_ANNOTATION)
    ops = change.body if isinstance(change.body, list) else ()
    added = {op["path"]: op["value"] for op in ops if op["op"] == "add"}
    return json_pointer(path) in added or FENCE_ANNOTATION in added.get(json_pointer(path[:-1]), ())


def remove_left_fences(vms: Iterable[Vm], plan: Plan) -> Plan:
    """Takes the annotation off VMs on which a run has left it that could not go on; not where the plan does it."""
    unfenced = {change.ref for change in plan if change.ref.resource == VM and _removes_fence(change)}
    removals = tuple(
        _remove_fence(vm, vm.full_name) for vm in vms if FENCE_ANNOTATION in vm.annotations and vm.ref not in unfenced
    )
    return Plan((removals,) if removals else ())


def _removes_fence(change: Change) -> bool:
    ops = change.body if isinstance(change.body, list) else ()
    return any(op["op"] == "remove" and op["path"] == json_pointer((*ANNOTATIONS, FENCE_ANNOTATION)) for op in ops)
