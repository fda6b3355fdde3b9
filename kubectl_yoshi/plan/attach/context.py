"""What is wanted of an attachment, and all that is at hand while one plan for it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import Allocation, Allocations, SearchHint, Shard
from kubectl_yoshi.model.backend import AddressUse, AddressUses, Backend, UsageKind
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import DEFAULT_NIC, VM, Nic, Vm
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.records import load_shards


@dataclass(frozen=True)
class ExistingAddress:
    """An address that a VM has already, outside the ledger.

    Attributes:
        vm: namespace and name.
        address: which.
        mac: the MAC address that goes with it; "" where that is not known.
        note: by what it has it, for the record; "" where it has it itself.
    """

    vm: tuple[str, str]
    address: Address
    mac: str = ""
    note: str = ""


@dataclass(frozen=True)
class AttachRequest:
    """What is wanted.

    Attributes:
        network: its namespace and name.
        vms: namespace and name of each VM.
        address: the address asked for; only for a single VM. None for any.
        mac: "" for none, None for the back-end's way (a random one that is kept), else the address itself.
        replace: move a VM that already has another address or network.
        restart: restart a VM that runs without the address.
        plugin: what the network must be made with; "" for any.
        ports: what a public address is open on; () for what it was, or the usual ones.
        wait: wait until the address can be reached, where that does not depend on the VM.
        nic: how the VM is plugged in where it gets an interface of its own.
        existing: the address that each VM has already, outside the ledger; it is the one asked for.
        skip_repeated_notes: say nothing but what it needs of a VM that has all; the rest was said when it was attached.
        foreseen: the network is made by what is carried out before, of which a preview shows nothing.
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

    @cached_property
    def existing_by_vm(self) -> Mapping[NamespacedName, ExistingAddress]:
        """`existing`, by the namespace and name of its VM."""
        return {existing.vm: existing for existing in self.existing}

    @property
    def queries(self) -> tuple[Query, ...]:
        """The reads that bring the VMs."""
        return tuple(Query(VM, namespace, name) for namespace, name in self.vms)


@dataclass(frozen=True)
class AttachState:
    """What a step of the plan knows; a later step has a state with more uses, or with more allocations loaded.

    Attributes:
        request, network, backend, ctx: what the plan is made from.
        vms: the VMs that exist, in the order in which they were named.
        address_uses: what the cluster shows of the network's addresses.
        allocations: those of the shards that were loaded.
    """

    request: AttachRequest
    network: Network
    backend: Backend
    ctx: PlanContext
    vms: tuple[Vm, ...]
    allocations: Allocations
    address_uses: AddressUses = field(default_factory=AddressUses)

    @property
    def snapshot(self) -> Snapshot:
        """See PlanContext."""
        return self.ctx.snapshot

    @property
    def run(self) -> RunContext:
        """See PlanContext."""
        return self.ctx.run

    @property
    def records(self) -> Mapping[int, Allocation]:
        """The allocations by address."""
        return self.allocations.records()

    def with_shards(self, shards: Iterable[Shard]) -> AttachState:
        """Return this state with the allocations of more shards.

        Raises:
            PreconditionFailed: some may not be read.
        """
        loaded = load_shards(self.network, shards, self.snapshot).objects
        new = {shard: obj for shard, obj in loaded.items() if shard not in self.allocations.objects}
        return replace(self, allocations=self.allocations.with_objects(new)) if new else self

    def with_uses(self, numbers: Iterable[int]) -> AttachState:
        """Return this state with what the cluster shows now of the VMs and of these addresses."""
        uses = self.backend.address_uses(self.network, self.vms, Intervals.from_numbers(numbers), self.snapshot)
        return replace(self, address_uses=AddressUses(uses))

    def requested(self, vm: Vm) -> int | None:
        """The address asked for the VM, as a number; None for any."""
        address = self.requested_address(vm)
        return None if address is None else int(address)

    def requested_address(self, vm: Vm) -> Address | None:
        """The address asked for the VM; None for any."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        return existing.address if existing else self.request.address

    def existing(self, vm: Vm) -> tuple[Address, ...]:
        """The address that the VM has already, outside the ledger; () where none was told."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        return (existing.address,) if existing else ()

    def requested_mac(self, vm: Vm) -> str | None:
        """The MAC address asked for it; see AttachRequest."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        return existing.mac if existing and existing.mac else self.request.mac

    def other_vms_with_mac(self, vm: Vm, mac: str) -> list[NamespacedName]:
        """The VMs of other names with which the ledger, as far as it was read, has a MAC address."""
        return sorted(self._by_mac.get(mac.lower(), set()) - {(vm.namespace, vm.name)})

    def note(self, vm: Vm, record: Allocation | None) -> str:
        """What the VM's record is to note: as it was told, or as it stands."""
        existing = self.request.existing_by_vm.get((vm.namespace, vm.name))
        return existing.note if existing else record.note if record is not None and record.uid == vm.uid else ""

    def on_vm(self, vm: Vm) -> list[int]:
        """The addresses of the network that the VM is made to have."""
        vm_uses = self.address_uses.by_vm(vm.namespace, vm.name, vm.uid)
        return [use.number for use in vm_uses if use.kind is UsageKind.REQUESTED]

    def running(self, vm: Vm) -> set[int]:
        """The addresses that it runs with."""
        vm_uses = self.address_uses.by_vm(vm.namespace, vm.name, vm.uid)
        return {use.number for use in vm_uses if use.kind is UsageKind.RUNNING}

    def unverified(self, vm: Vm) -> set[int]:
        """What it carries and neither the ledger gives to it nor it runs with: somebody else may have it."""
        return set(self.on_vm(vm)).difference(self.allocated(vm), self.running(vm))

    def other_users(self, number: int, vm: Vm) -> list[AddressUse]:
        """Uses of an address by anyone but this VM (one made anew under its name is a stranger while it runs)."""
        return [use for use in self.address_uses.by_number(number) if not use.is_for_vm(vm.namespace, vm.name, vm.uid)]

    def allocated(self, vm: Vm) -> list[int]:
        """The addresses that the ledger, as far as it was read, gives to the VM."""
        return self._numbers_by_uid.get(vm.uid, []) if vm.uid else []

    def is_complete(self, vm: Vm) -> bool:
        """Whether nothing is left to write: its template carries the address that it is to have and the ledger's."""
        complete = set(self.on_vm(vm)).intersection(self.allocated(vm))
        requested = self.requested(vm)
        return self.backend.pins_vm_template and (bool(complete) if requested is None else requested in complete)

    def last_held(self, vm: Vm) -> list[int]:
        """Return the addresses that a VM of this name was the last to have in the loaded shards, the latest first."""
        return self._last_held.get((vm.namespace, vm.name), [])

    def held_by_predecessor(self, vm: Vm) -> list[int]:
        """The addresses recorded for an earlier VM of this name (or by the original, which wrote no uid)."""
        records = self.allocations.held_by(vm.namespace, vm.name)
        return sorted(number for number, record in records.items() if record.uid != vm.uid)

    @cached_property
    def _numbers_by_uid(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number in sorted(self.records):
            found.setdefault(self.records[number].uid, []).append(number)
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
    """Which address each VM is to have.

    Attributes:
        addresses: by VM.
        errors: VM -> why it cannot have one.
        hint: where the next free address is to be searched for; None if no free address was chosen.
    """

    addresses: Mapping[str, int]
    errors: Mapping[str, YoshiError]
    hint: SearchHint | None = None
