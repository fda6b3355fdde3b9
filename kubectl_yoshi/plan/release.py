"""Releasing an address, only when nothing uses it any more (invariant I5).

An allocation that its VM does not carry may belong to an attachment that is between its two writes, or to one that was
killed and whose last write may still arrive. So a command that releases such an allocation (detach, `ips release`, `ips
gc`, whatever the grace period), or moves it to another VM, writes to the VM first: the removal of the address, with a
test of its resourceVersion (`require_unchanged`), or a write fence, an annotation that is set and removed again
(`fence_vm`). The attachment's patch tests the resourceVersion too, so its late write is refused; if its run is alive,
it plans again. The resourceVersion is that of the first time that the run read the VM (`Snapshot.get_object`), since
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
"""Annotation that is set on a VM briefly while a record of an address is released that the VM does not have."""


@dataclass(frozen=True)
class Release:
    """The release of an address.

    Attributes:
        before: the changes that end attachments in progress, and those to the backend's state.
        removal: the removal of the record.
        notes: why the address stays, a line each; it is not released then, and both plans are empty.
    """

    before: Plan = field(default_factory=Plan)
    removal: Plan = field(default_factory=Plan)
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        """Return all changes, in order."""
        return self.before + self.removal

    def __add__(self, other: Release) -> Release:
        return Release(self.before + other.before, self.removal + other.removal, self.notes + other.notes)


def find_released_records(changes: Iterable[Change], namespace: str) -> dict[str, Allocation]:
    """Return address -> the record that these changes removed, in order.

    Args:
        namespace: the namespace of the network, in which records of Platform9 yoshi name VMs.
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
    """Return the notes without reasons why addresses stay recorded that these changes released after all."""
    released = find_released_records(changes, "")
    return tuple(note for note in notes if not (explains_retention(note) and note.split(" ", 1)[0] in released))


def explains_retention(note: str) -> bool:
    """Return whether a note explains why an address stays recorded (see build_release)."""
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
    """Return the changes that release one address, or the reason why it stays recorded.

    Args:
        allocations: includes the shard of the address.
        record: as read; its removal tests that it is unchanged.
        address_uses: uses of the network's addresses, without those that this plan ends.
        backend: the backend that may hold the address.
        until: the time for the history (RFC 3339).
        hold_released: earlier changes of the plan release what the backend holds.
        fenced: earlier changes of the plan patch the VM with `require_unchanged`, so that no attachment to this address
            in progress can be completed.
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
        if use.kind is UsageKind.RUNNING:  # by any VM or pod
            return Release(notes=(f"{address} stays recorded for {owner} as long as {use.ref} runs with it",))
        if use.kind is UsageKind.REQUESTED and use.is_for_vm(record.namespace, record.name):
            return Release(notes=(f"{address} stays recorded for {owner}: {use.ref} still requests it",))
    if reason := instances_unreadable_reason(record.namespace, snapshot):
        return Release(notes=(f"{address} stays recorded for {owner}: cannot check whether it runs: {reason}",))
    removal = remove_records(allocations, {number: record}, {number: owner}, until)
    fence = Plan() if fenced else write_fence(record, snapshot, owner)
    if hold_released:
        return Release(fence, removal)
    hold_release = backend.release_hold(allocations.network, number, record, snapshot)
    if hold_release.blocker:
        return Release(notes=(f"{address} stays recorded for {owner}: {hold_release.blocker}",))
    return Release(fence + hold_release.plan, removal)


def require_unchanged(vm: Vm, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Add a test to changes of the VM: they are refused if it has been written to since it was read.

    A client that releases a record first writes to the VM, by such a change or by `fence_vm`. So an address is set on a
    VM only while its record exists (invariant I2), however late the change that sets it arrives.
    """
    test = PatchBuilder().test(("metadata", "resourceVersion"), resource_version_of(vm.raw)).ops
    return tuple(
        replace(change, body=[*test, *change.body])
        if change.ref == vm.ref and change.verb is Verb.PATCH and isinstance(change.body, list)
        else change
        for change in changes
    )


def are_all_patched(vms: Iterable[Vm], plan: Plan) -> bool:
    """Return whether a plan patches each of these VMs.

    Then a concurrent change of a VM's address makes that patch fail (see require_unchanged), and the run need not read
    the result again.
    """
    patched = {change.ref for change in plan if change.verb is Verb.PATCH}
    return all(vm.ref in patched for vm in vms)


def write_fence(record: Allocation, snapshot: Snapshot, owner: str) -> Plan:
    """Plan the fence that ends attachments to a recorded address in progress; empty if its VM no longer exists.

    Args:
        record: that of a VM.
        snapshot: includes this VM.
        owner: see Change.owner.
    """
    obj = snapshot.get_object(VM, record.name, record.namespace)
    if obj is None or (record.uid and Vm(obj).uid != record.uid):
        return Plan()
    return fence_vm(Vm(obj), owner)


def fence_vm(vm: Vm, owner: str) -> Plan:
    """Plan to change a VM and to revert the change, so that no attachment that read it before can write to it.

    An attachment tests that the VM is unchanged since it was read. Without the fence, a record could be released
    between the two writes of an attachment that is in progress, or that was killed while its last write was on its way.

    Args:
        owner: see Change.owner.
    """
    # A run that was killed has left the annotation: removing it ends attachments just as well.
    if FENCE_ANNOTATION in vm.annotations:
        return sequential(*require_unchanged(vm, (_remove_fence(vm, owner),)))
    patch = PatchBuilder.for_uid(vm.uid)
    patch.test(("metadata", "resourceVersion"), resource_version_of(vm.raw))  # else it might arrive late, and stay
    patch.set_in(vm.raw, (*ANNOTATIONS, FENCE_ANNOTATION), "true")
    summary = f"set the write fence of {vm.ref}"
    fence = Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=owner)
    return sequential(fence, _remove_fence(vm, owner))


def _remove_fence(vm: Vm, owner: str) -> Change:
    patch = PatchBuilder.for_uid(vm.uid).remove((*ANNOTATIONS, FENCE_ANNOTATION))
    summary = f"remove the write fence of {vm.ref}"
    return Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=owner)


def remove_own_fences(ctx: PlanContext, plan: Plan) -> Plan:
    """Plan to remove the fences that this run may have set; not those that the plan removes itself.

    Another run may have released the records meanwhile.
    """
    refs = dict.fromkeys(change.ref for change in ctx.run.sent if change.ref.resource == VM and _adds_fence(change))
    vms = ctx.snapshot.lookup(*(Query(VM, ref.namespace, ref.name) for ref in refs))
    return remove_left_fences(map(Vm, vms), plan)


def is_fence(change: Change) -> bool:
    """Return whether a change only sets or removes a fence (see fence_vm)."""
    return _adds_fence(change) or _removes_fence(change)


def _adds_fence(change: Change) -> bool:
    """Return whether a change sets the annotation, alone or with the map that contains it."""
    path = (*ANNOTATIONS, FENCE_ANNOTATION)
    ops = change.body if isinstance(change.body, list) else ()
    added = {op["path"]: op["value"] for op in ops if op["op"] == "add"}
    return json_pointer(path) in added or FENCE_ANNOTATION in added.get(json_pointer(path[:-1]), ())


def remove_left_fences(vms: Iterable[Vm], plan: Plan) -> Plan:
    """Plan to remove the fences that an interrupted run has left on VMs; not those that the plan removes itself."""
    unfenced = {change.ref for change in plan if change.ref.resource == VM and _removes_fence(change)}
    removals = tuple(
        _remove_fence(vm, vm.full_name) for vm in vms if FENCE_ANNOTATION in vm.annotations and vm.ref not in unfenced
    )
    return Plan((removals,) if removals else ())


def _removes_fence(change: Change) -> bool:
    ops = change.body if isinstance(change.body, list) else ()
    return any(op["op"] == "remove" and op["path"] == json_pointer((*ANNOTATIONS, FENCE_ANNOTATION)) for op in ops)
