"""The request of an attachment, and the state from which its steps are planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import RESERVATION, Allocation, SearchHint, Shard
from kubectl_yoshi.model.backend import AddressUse, AddressUses, UsageKind
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, NamespacedName
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import DEFAULT_NIC, VM, Nic, Vm
from kubectl_yoshi.plan.context import PlanState
from kubectl_yoshi.plan.records import load_shards


@dataclass(frozen=True)
class ExistingAddress:
    """An address that a VM already has, without a record.

    Attributes:
        vm: namespace and name.
        mac: the MAC address of its interface; "" if unknown.
        note: the object through which the VM has it, for the record; "" if the VM itself has it.
    """

    vm: tuple[str, str]
    address: Address
    mac: str = ""
    note: str = ""


@dataclass(frozen=True)
class AttachRequest:
    """Request to attach VMs to a network.

    Attributes:
        network: its namespace and name.
        vms: namespace and name of each VM.
        address: the requested address, for a single VM only; None for any.
        mac: "" for none, None for the backend's default (a random one that is kept), else the address itself.
        replace: move a VM that already has another address or network.
        take_reservation: assign the requested address although it is reserved for others; the user must be permitted
            to change the network.
        restart: restart a VM that runs without the address.
        restart_later: a later part of the same command restarts such a VM, so that no note names the restart.
        plugin: the plugin that the network must have; "" for any.
        ports: the open ports of a public address; () for its current ports, or the default ones.
        wait: wait until the address is reachable, if that does not depend on the VM.
        nic: how the VM is plugged in if it gets an interface of its own.
        existing: the address that each VM already has without a record; it is the requested one.
        skip_repeated_notes: for a VM that is complete, report only what it still needs; the rest was reported when it
            was attached.
        network_planned: an earlier part of the same command creates the network, which a preview does not show.
    """

    network: tuple[str, str]
    vms: tuple[tuple[str, str], ...]
    address: Address | None = None
    mac: str | None = None
    replace: bool = False
    restart: bool = False
    plugin: str = ""
    ports: tuple[Port, ...] = ()
    wait: bool = False
    nic: Nic = DEFAULT_NIC
    existing: tuple[ExistingAddress, ...] = ()
    skip_repeated_notes: bool = False
    network_planned: bool = False
    take_reservation: bool = False
    restart_later: bool = False

    @cached_property
    def existing_by_vm(self) -> Mapping[NamespacedName, ExistingAddress]:
        """Return `existing`, by namespace and name of the VM."""
        return {existing.vm: existing for existing in self.existing}

    @property
    def queries(self) -> tuple[Query, ...]:
        """Return the queries for the VMs."""
        return tuple(Query(VM, namespace, name) for namespace, name in self.vms)


@dataclass(frozen=True)
class AttachState(PlanState):
    """The state from which a step is planned; later steps get a state with more uses or more allocations loaded.

    Attributes:
        request: the request.
        vms: the VMs that exist, in the order of the request.
        written_by_run: address -> the records that this run has written for it.
        address_uses: the uses of the network's addresses in the cluster.
    """

    request: AttachRequest
    vms: tuple[Vm, ...]
    written_by_run: Mapping[int, list[Json]]
    address_uses: AddressUses = field(default_factory=AddressUses)

    @property
    def records(self) -> Mapping[int, Allocation]:
        """Return the allocations by address."""
        return self.allocations.records()

    def with_shards(self, shards: Iterable[Shard]) -> AttachState:
        """Return this state with the allocations of more shards.

        Raises:
            PreconditionFailed: a shard cannot be read.
        """
        loaded = load_shards(self.network, shards, self.snapshot).objects
        new = {shard: obj for shard, obj in loaded.items() if shard not in self.allocations.objects}
        return replace(self, allocations=self.allocations.with_objects(new)) if new else self

    def with_uses(self, numbers: Iterable[int]) -> AttachState:
        """Return this state with the current uses of the VMs and of these addresses."""
        uses = self.backend.address_uses(self.network, self.vms, Intervals.from_numbers(numbers), self.snapshot)
        return replace(self, address_uses=AddressUses(uses))

    def requested(self, vm: Vm) -> int | None:
        """Return the address requested for the VM, as a number; None for any."""
        address = self.requested_address(vm)
        return None if address is None else int(address)

    def requested_address(self, vm: Vm) -> Address | None:
        """Return the address requested for the VM; None for any."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        return existing.address if existing else self.request.address

    def existing(self, vm: Vm) -> tuple[Address, ...]:
        """Return the address that the VM already has without a record; () if the request names none."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        return (existing.address,) if existing else ()

    def requested_mac(self, vm: Vm) -> str | None:
        """Return the requested MAC address; see AttachRequest."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        return existing.mac if existing and existing.mac else self.request.mac

    def other_vms_with_mac(self, vm: Vm, mac: str) -> list[NamespacedName]:
        """Return the VMs of other names that have a MAC address, according to the loaded shards."""
        return sorted(self._by_mac.get(mac.lower(), set()) - {(vm.namespace, vm.name)})

    def note(self, vm: Vm, record: Allocation | None) -> str:
        """Return the note for the VM's record: the one of the request, or the current one, also of a reservation."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        if existing:
            return existing.note
        return record.note if record is not None and (record.uid == vm.uid or record.kind == RESERVATION) else ""

    def on_vm(self, vm: Vm) -> list[int]:
        """Return the addresses of the network that are set on the VM."""
        vm_uses = self.address_uses.by_vm(vm.namespace, vm.name, vm.uid)
        return [use.number for use in vm_uses if use.kind is UsageKind.REQUESTED]

    def running(self, vm: Vm) -> set[int]:
        """Return the addresses that the VM runs with."""
        vm_uses = self.address_uses.by_vm(vm.namespace, vm.name, vm.uid)
        return {use.number for use in vm_uses if use.kind is UsageKind.RUNNING}

    def unverified(self, vm: Vm) -> set[int]:
        """Return the addresses set on the VM that are neither allocated to it nor running; another VM may have them."""
        return set(self.on_vm(vm)).difference(self.allocated(vm), self.running(vm))

    def other_users(self, number: int, vm: Vm) -> list[AddressUse]:
        """Return uses of an address by anything but this VM; a running predecessor of its name is another VM."""
        return [use for use in self.address_uses.by_number(number) if not use.is_for_vm(vm.namespace, vm.name, vm.uid)]

    def allocated(self, vm: Vm) -> list[int]:
        """Return the addresses allocated to the VM, according to the loaded shards."""
        return self._numbers_by_vm.get((vm.namespace, vm.name, vm.uid), []) if vm.uid else []

    def is_complete(self, vm: Vm) -> bool:
        """Return whether nothing is left to write: the template has an allocated address, the requested one if any."""
        complete = set(self.on_vm(vm)).intersection(self.allocated(vm))
        requested = self.requested(vm)
        return self.backend.pins_vm_template and (bool(complete) if requested is None else requested in complete)

    def reserved_for(self, vm: Vm) -> list[int]:
        """Return the addresses that are reserved for this VM, according to the loaded shards."""
        return self._reserved_by_vm.get((vm.namespace, vm.name), [])

    def may_take(self, record: Allocation, vm: Vm) -> bool:
        """Return whether a record is a reservation that the VM may replace."""
        is_reservation = record.kind == RESERVATION
        return is_reservation and (self.request.take_reservation or record.is_reserved_for(vm.namespace, vm.name))

    def last_held(self, vm: Vm) -> list[int]:
        """Return the addresses that a VM of this name was the last to have in the loaded shards, the latest first."""
        return self._last_held.get((vm.namespace, vm.name), [])

    def held_by_predecessor(self, vm: Vm) -> list[int]:
        """Return the addresses recorded for an earlier VM of this name, or by Platform9 yoshi, which wrote no uid."""
        records = self.allocations.held_by(vm.namespace, vm.name)
        return sorted(number for number, record in records.items() if record.uid != vm.uid)

    @cached_property
    def _numbers_by_vm(self) -> dict[tuple[str, str, str], list[int]]:
        """Return the numbers by namespace, name and uid: a tenant can write the uid of another tenant's VM."""
        found: dict[tuple[str, str, str], list[int]] = {}
        for number in sorted(self.records):
            record = self.records[number]
            found.setdefault((record.namespace, record.name, record.uid), []).append(number)
        return found

    @cached_property
    def _reserved_by_vm(self) -> dict[NamespacedName, list[int]]:
        found: dict[NamespacedName, list[int]] = {}
        for number in sorted(self.records):
            if (vm := self.records[number].reserved_vm) is not None:
                found.setdefault(vm, []).append(number)
        return found

    @cached_property
    def _by_mac(self) -> dict[str, set[NamespacedName]]:
        found: dict[str, set[NamespacedName]] = {}
        for record in self.records.values():
            if record.mac:
                found.setdefault(record.mac.lower(), set()).add((record.namespace, record.name))
        return found

    @cached_property
    def _last_held(self) -> dict[NamespacedName, list[int]]:
        found: dict[NamespacedName, list[tuple[str, int]]] = {}
        for number, last in self.allocations.last_holders.items():
            found.setdefault((last.namespace, last.name), []).append((last.until, number))
        return {vm: [number for _, number in sorted(held, reverse=True)] for vm, held in found.items()}


@dataclass(frozen=True)
class Selection:
    """The addresses selected for the VMs.

    Attributes:
        addresses: VM -> address.
        errors: VM -> why it cannot have one.
        hint: where the next search for a free address starts; None if no free address was chosen.
    """

    addresses: Mapping[str, int]
    errors: Mapping[str, YoshiError]
    hint: SearchHint | None = None
