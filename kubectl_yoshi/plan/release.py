"""Releasing an address, only when nothing uses it any more (invariant I5).

An allocation that its VM does not carry may belong to an attachment that is between its two writes, or to one that was
killed and whose last write may still arrive. So a command that releases such an allocation (detach, `ips release`, `ips
gc`, whatever the grace period), or moves it to another VM, writes to the VM first: the removal of the address, with a
test of its resourceVersion (`require_unchanged`), or a write fence, an annotation with the time (`fence_vm`). The
attachment's patch tests the resourceVersion too, so its late write is refused; if its run is alive, it plans again. The
resourceVersion is that of the first time that the run read the VM (`Snapshot.get_object`), since later the VM may carry
the address. An attachment that reads the VM after the fence first renews the record, or finds it released.

An allocation has its time to the microsecond, so one that was renewed meanwhile differs, and its removal, which tests
the whole allocation, is refused. What a backend holds of the address may belong to a later allocation too: a DHCP entry
has the allocation's time in it, an entry of BGPConfiguration the VM's uid, and only the allocation's own is removed.
tests/unit/plan/test_late_writes.py has the cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, resource_version_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.vm import VM, Vm, instances_unreadable_reason
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.records import STATUS_ALLOCATIONS, remove_records, write_records

RELEASED_AT_ANNOTATION = f"{GROUP}/releasedAt"
"""Annotation of a VM: when the record of an address that it did not carry was last released (RFC 3339).

It stays, and nothing reads it: what matters is that setting it changes the VM's resourceVersion.
"""


@dataclass(frozen=True)
class Release:
    """The release of an address.

    Attributes:
        before: the changes that end attachments in progress, and those to the backend's state.
        removal: the removal of the record, or its replacement by a reservation.
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
        # In parallel, as two fences of one VM are one request then; one after the other, the second would be refused.
        before = self.before.parallel(other.before)
        return Release(before, self.removal + other.removal, self.notes + other.notes)


def find_released_records(changes: Iterable[Change], namespace: str) -> dict[str, Allocation]:
    """Return address -> the record that these changes removed or replaced by a reservation, in order.

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
            elif op["path"].startswith(prefix) and (op["op"] == "remove" or _replaces_by_reservation(op, tested)):
                found[op["path"].removeprefix(prefix)] = parse_allocation(tested.get(op["path"]), namespace)
    return found


def _replaces_by_reservation(op: Json, tested: Mapping[str, object]) -> bool:
    """Return whether an operation writes a reservation in place of an allocation that the patch tests."""
    is_reservation = op["op"] == "add" and dig(op, "value", "kind") == RESERVATION
    return is_reservation and tested.get(op["path"]) is not None


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
    ctx: PlanContext,
    *,
    hold_released: bool = False,
    fenced: bool = False,
    keep_history: bool = True,
    reserve_for: str = "",
) -> Release:
    """Return the changes that release one address, or the reason why it stays recorded.

    Args:
        allocations: includes the shard of the address.
        record: as read; its removal tests that it is unchanged.
        address_uses: uses of the network's addresses, without those that this plan ends.
        backend: the backend that may hold the address.
        ctx: the context of the planner.
        hold_released: earlier changes of the plan release what the backend holds.
        fenced: earlier changes of the plan patch the VM with `require_unchanged`, so that no attachment to this address
            in progress can be completed.
        keep_history: write the record to the history.
        reserve_for: replace the record of a VM by a reservation, for whom it says (Allocation.reserved_for).
    """
    snapshot, until = ctx.snapshot, ctx.run.micro_time if keep_history else ""
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
    reservation_plan = Plan()
    removal = remove_records(allocations, {number: record}, {number: owner}, until)
    if reserve_for:
        reservation = record.to_reservation(allocations.network, reserve_for, ctx.run.micro_time)
        reservation_plan = backend.reserve(allocations.network, {number: reservation}, snapshot)
        removal = write_records(allocations, {number: reservation}, {number: owner})
    fence = Plan() if fenced else write_fence(record, ctx, owner)
    if hold_released:
        return Release(fence + reservation_plan, removal)
    hold_release = backend.release_hold(allocations.network, number, record, snapshot)
    if hold_release.blocker:
        return Release(notes=(f"{address} stays recorded for {owner}: {hold_release.blocker}",))
    # A backend that keeps reserved addresses too (DHCP) has one entry for each address, which the reservation replaces.
    return Release(fence + (reservation_plan or hold_release.plan), removal)


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


def write_fence(record: Allocation, ctx: PlanContext, owner: str) -> Plan:
    """Plan the fence that ends attachments to a recorded address in progress; empty if its VM no longer exists.

    Args:
        record: that of a VM, which was read.
        ctx: the context of the planner.
        owner: see Change.owner.
    """
    obj = ctx.snapshot.get_object(VM, record.name, record.namespace)
    if obj is None or (record.uid and Vm(obj).uid != record.uid):
        return Plan()
    return sequential(fence_vm(Vm(obj), ctx.run, owner))


def fence_vm(vm: Vm, run: RunContext, owner: str) -> Change:
    """Return the change of a VM after which no attachment that read the VM before can write to it.

    An attachment tests that the VM is unchanged since it was read. Without the fence, a record could be released
    between the two writes of an attachment that is in progress, or that was killed while its last write was on its way.

    Args:
        vm: as it was when the run first read it.
        run: the run that releases the record.
        owner: see Change.owner.
    """
    patch = PatchBuilder.for_uid(vm.uid)
    patch.test(("metadata", "resourceVersion"), resource_version_of(vm.raw))  # else it may carry the address by now
    # A patch that changes nothing would leave the resourceVersion as it is.
    value = "" if vm.annotations.get(RELEASED_AT_ANNOTATION) == run.micro_time else run.micro_time
    patch.set_in(vm.raw, (*ANNOTATIONS, RELEASED_AT_ANNOTATION), value)
    return Change(Verb.PATCH, vm.ref, f"set the write fence of {vm.ref}", patch.ops, before=vm.raw, owner=owner)


def is_fence(change: Change) -> bool:
    """Return whether a change is a fence: it sets the annotation, alone or with the map that contains it."""
    path = (*ANNOTATIONS, RELEASED_AT_ANNOTATION)
    ops = change.body if isinstance(change.body, list) else ()
    added = {op["path"]: op["value"] for op in ops if op["op"] == "add"}
    return json_pointer(path) in added or RELEASED_AT_ANNOTATION in added.get(json_pointer(path[:-1]), ())
