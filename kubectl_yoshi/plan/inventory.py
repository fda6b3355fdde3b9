"""Join allocations with the state of the cluster: a row for every address that is recorded, requested or used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.allocations import NETWORK, RESERVATION, VIRTUALMACHINE, Allocation, Allocations
from kubectl_yoshi.model.backend import AddressUse, AddressUses, Backend, UsageKind, VmProblem
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import NamespacedName, Resource
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, VMI, Vm, find_instance
from kubectl_yoshi.plan.context import PlanContext, age_in_seconds
from kubectl_yoshi.plan.cool_down import cooldown_reasons
from kubectl_yoshi.plan.network_lookup import get_backend
from kubectl_yoshi.plan.records import load_allocations

PENDING_SECONDS = 120.0
"""A record younger than this, in seconds, may belong to an attachment in progress."""


@dataclass(frozen=True)
class InventoryRow:
    """An address and its state.

    Attributes:
        address: as text.
        number: as a number, for sorting.
        record: its allocation; None if there is none.
        address_uses: its uses in the cluster.
        vm: the VM that the record names, as it is now; None if there is none with that uid.
        running: a VMI or pod runs with the address; if it is not part of the VM, the VM runs.
        vm_problems: inconsistencies of the backend that keep the VM from its address, or from starting.
        reason: why the address has its state, for the user; "" if it is as recorded.
    """

    network: Network
    address: str
    number: int
    state: AddressState
    record: Allocation | None
    address_uses: tuple[AddressUse, ...]
    vm: Vm | None
    running: bool
    vm_problems: tuple[VmProblem, ...] = ()
    reason: str = ""

    @property
    def holder(self) -> str:
        """Return the holder of the address, for the user."""
        if self.record is not None:
            return self.record.holder
        named = [f"{use.namespace}/{use.name}" for use in self.address_uses if use.name]
        return named[0] if named else str(self.address_uses[0].ref) if self.address_uses else ""

    @property
    def other_uses(self) -> tuple[AddressUse, ...]:
        """Return the uses that are not those of the record's holder; none without a record."""
        record = self.record
        if record is None:
            return ()
        uses = self.address_uses
        return tuple(use for use in uses if not use.is_for_vm(record.namespace, record.name, record.uid))

    @property
    def vms(self) -> frozenset[NamespacedName]:
        """Return the VMs that hold the address, for which it is reserved, or that use it without an allocation."""
        users = {(use.namespace, use.name) for use in self.address_uses if use.name}
        if self.record is None:
            return frozenset(users)
        is_held = self.record.kind == VIRTUALMACHINE
        vm = (self.record.namespace, self.record.name) if is_held else self.record.reserved_vm
        return frozenset([vm] if vm else ())


def free_row(row: InventoryRow) -> InventoryRow:
    """Return the row of an address that is no longer allocated or used."""
    return InventoryRow(row.network, row.address, row.number, AddressState.FREE, None, (), None, running=False)


def build_inventory(
    network: Network, ctx: PlanContext, all_namespaces: bool, exact: bool = False
) -> tuple[InventoryRow, ...]:
    """Return every address of a network that is recorded, used, or cooling down, in order.

    Args:
        network: the network.
        ctx: the snapshot, the backends, and the time from which the age of records is computed.
        all_namespaces: search the VMs of all namespaces; otherwise those of the network and of the records.
        exact: search all namespaces for uses without a record.

    Raises:
        PreconditionFailed: there is no backend for the network.
    """
    backend, snapshot = get_backend(network, ctx.backends), ctx.snapshot
    namespaces: tuple[str, ...] | None = None if all_namespaces or exact else (network.namespace,)
    allocations, (found, vm_problems) = snapshot.parallel_pair(
        lambda: load_allocations(network, snapshot, all_namespaces),
        lambda: snapshot.parallel_pair(
            lambda: backend.all_address_uses(network, namespaces, snapshot),
            lambda: backend.vm_problems(network, namespaces, snapshot),
        ),
    )
    if namespaces is not None:
        named = {r.namespace for r in allocations.records().values() if r.kind == VIRTUALMACHINE}
        if named - {*namespaces}:
            namespaces = tuple(sorted({network.namespace, *named}))
            found = backend.all_address_uses(network, namespaces, snapshot)
            vm_problems = backend.vm_problems(network, namespaces, snapshot)
    address_uses = AddressUses(found)
    visibility = _Visibility(
        snapshot,
        ctx.run.now,
        _unreadable_namespaces(VM, namespaces, snapshot),
        _unreadable_namespaces(VMI, namespaces, snapshot),
        _by_vm(vm_problems),
    )
    cooldowns = cooldown_reasons(allocations, ctx.run.now)
    numbers = sorted({*allocations.records(), *(use.number for use in found), *cooldowns})
    rows = (_row(number, allocations, address_uses, backend.pins_vm_template, visibility) for number in numbers)
    return tuple(
        replace(row, reason=cooldowns.get(row.number, row.reason)) if row.state is AddressState.RELEASED else row
        for row in rows
    )


def list_other_troubles(
    network: Network, backend: Backend, rows: Iterable[InventoryRow], snapshot: Snapshot
) -> list[VmProblem]:
    """Return the backend's problems with VMs that no row of the inventory reports.

    Args:
        rows: the inventory, which must cover all namespaces.
    """
    reported = {trouble for row in rows for trouble in row.vm_problems}
    return [trouble for trouble in backend.vm_problems(network, None, snapshot) if trouble not in reported]


def _by_vm(vm_problems: Iterable[VmProblem]) -> dict[NamespacedName, tuple[VmProblem, ...]]:
    found: dict[NamespacedName, tuple[VmProblem, ...]] = {}
    for trouble in vm_problems:
        vm = (trouble.namespace, trouble.name)
        found[vm] = (*found.get(vm, ()), trouble)
    return found


@dataclass(frozen=True)
class _Visibility:
    """What can be read.

    Attributes:
        now: the time of the inventory.
        hidden_vms, hidden_instances: the namespaces in which they cannot be read; None for all.
        vm_problems: by namespace and name of the VM.
    """

    snapshot: Snapshot
    now: datetime
    hidden_vms: frozenset[str] | None
    hidden_instances: frozenset[str] | None
    vm_problems: Mapping[NamespacedName, tuple[VmProblem, ...]]

    def hides_vms_in(self, namespace: str) -> bool:
        """Return whether the VMs of a namespace cannot be read."""
        return self.hidden_vms is None or namespace in self.hidden_vms

    def hides_instances_in(self, namespace: str) -> bool:
        """Return whether the instances of a namespace cannot be read."""
        return self.hidden_instances is None or namespace in self.hidden_instances


def _unreadable_namespaces(
    kind: Resource, namespaces: tuple[str, ...] | None, snapshot: Snapshot
) -> frozenset[str] | None:
    """Return the namespaces whose objects of a kind cannot be read; None for all of them."""
    if namespaces is None:
        return None if snapshot.unreadable_reason(Query(kind)) else frozenset()
    return frozenset(namespace for namespace in namespaces if _is_unreadable(Query(kind, namespace), snapshot))


def _is_unreadable(query: Query, snapshot: Snapshot) -> bool:
    """Return whether the objects of a namespace cannot be read; a list of all may be forbidden where its own is not."""
    answered = query if query in snapshot.results else replace(query, namespace=None)
    return bool(snapshot.unreadable_reason(answered))


def _row(
    number: int, allocations: Allocations, all_uses: AddressUses, pins_vm_template: bool, visibility: _Visibility
) -> InventoryRow:
    record, address_uses = allocations.records().get(number), tuple(all_uses.by_number(number))
    found = visibility.snapshot.get_object(VM, record.name, record.namespace) if record else None
    vm = Vm(found) if found else None
    is_recreated = vm is not None and record is not None and bool(record.uid) and vm.uid != record.uid
    if is_recreated:
        vm = None
    state = _state(pins_vm_template, record, address_uses, vm, visibility)
    running = any(use.kind is UsageKind.RUNNING for use in address_uses)
    if not pins_vm_template and vm is not None:
        running = find_instance(vm, visibility.snapshot) is not None
    vm_problems = visibility.vm_problems.get((record.namespace, record.name), ()) if record and vm else ()
    if vm_problems and state is AddressState.BOUND:
        state = AddressState.CONFLICT
    reason = "; ".join(trouble.summary for trouble in vm_problems) or _reason(
        state, address_uses, vm, pins_vm_template, is_recreated
    )
    address = str(allocations.address(number))
    return InventoryRow(
        allocations.network, address, number, state, record, address_uses, vm, running, vm_problems, reason
    )


def _reason(
    state: AddressState, address_uses: tuple[AddressUse, ...], vm: Vm | None, pins_vm_template: bool, is_recreated: bool
) -> str:
    """Return why an address has its state; "" if it is as recorded."""
    if state is AddressState.ORPHANED and vm is not None:
        return f"{vm.ref} does not request it"
    if state is AddressState.ORPHANED:
        return "the VM no longer exists" + ("; another has its name" if is_recreated else "")
    if state is AddressState.UNRECORDED:
        return f"{_use_it_phrase(address_uses)}, but it is not recorded"
    if state is AddressState.RELEASED:
        return next((use.cooldown_reason for use in address_uses), "")
    if state is AddressState.PENDING:
        return "the VM's template does not have it yet" if pins_vm_template else "nothing announces it yet"
    return {
        AddressState.RESTART_NEEDED: "the VM runs without its template's latest changes",
        AddressState.LEASED: "a DHCP client without an allocation has a lease of it",
        AddressState.UNKNOWN: "the VM, or its instance, cannot be read",
    }.get(state, "")


def _state(
    pins_vm_template: bool,
    record: Allocation | None,
    address_uses: tuple[AddressUse, ...],
    vm: Vm | None,
    visibility: _Visibility,
) -> AddressState:
    if record is None and all(use.cooldown_reason for use in address_uses):
        return AddressState.RELEASED
    if record is None:
        return (
            AddressState.LEASED
            if all(use.kind is UsageKind.LEASED for use in address_uses)
            else AddressState.UNRECORDED
        )
    if record.kind in (RESERVATION, NETWORK):
        return AddressState.RESERVED
    record_uses = [use for use in address_uses if use.is_for_vm(record.namespace, record.name, record.uid)]
    wanted = any(use.kind is UsageKind.REQUESTED for use in record_uses)
    runs = any(use.kind is UsageKind.RUNNING for use in record_uses)
    if visibility.hides_vms_in(record.namespace):
        return AddressState.UNKNOWN
    if vm is not None and wanted and not pins_vm_template:
        return (
            AddressState.BOUND if any(use.kind is UsageKind.ANNOUNCED for use in record_uses) else AddressState.PENDING
        )
    if vm is not None and wanted:
        if not runs and visibility.hides_instances_in(record.namespace):
            return AddressState.UNKNOWN
        vm_running = find_instance(vm, visibility.snapshot) is not None
        return AddressState.RESTART_NEEDED if vm_running and not runs else AddressState.BOUND
    if runs:
        return AddressState.RESTART_NEEDED
    if visibility.hides_instances_in(record.namespace):
        return AddressState.UNKNOWN
    if vm is not None and age_in_seconds(record.since, visibility.now) < PENDING_SECONDS:
        return AddressState.PENDING
    return AddressState.ORPHANED


def _use_it_phrase(address_uses: Iterable[AddressUse]) -> str:
    """Format uses of an address, each object once: "a uses it", "a, b and c use it"."""
    *others, last = dict.fromkeys(str(use.ref) for use in address_uses)
    return f"{', '.join(others)} and {last} use it" if others else f"{last} uses it"
