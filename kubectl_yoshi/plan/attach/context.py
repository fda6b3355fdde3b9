"""What is wanted of an attachment, and all that is at hand while one plan for it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation, AllocationEntry, Allocations, SearchHint, Shard
from kubectl_yoshi.model.backend import AddressUse, AddressUses, Backend, UsageKind
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import DEFAULT_NIC, VM, Nic, Vm
from kubectl_yoshi.plan.context import PlanContext
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

    @property
    def queries(self) -> tuple[Query, ...]:
        """The reads that bring the VMs."""
        return tuple(Query(VM, namespace, name) for namespace, name in self.vms)


class AttachState:
    """What is at hand while one plan is made. What is looked up for each VM is found without a search.

    Attributes:
        request, network, backend, snapshot, run: what the plan is made from.
        vms: the VMs that are there, in the order in which they were named.
        address_uses: what the cluster shows of the network's addresses.
        allocations: as far as shelves were opened.
        records: what the opened shelves say.
        hint: for whoever chooses an address next; None where none was chosen.
    """

    def __init__(
        self,
        request: AttachRequest,
        network: Network,
        backend: Backend,
        ctx: PlanContext,
        vms: list[Vm],
    ) -> None:
        self.request = request
        self.network = network
        self.backend = backend
        self.ctx = ctx
        self.snapshot = ctx.snapshot
        self.run = ctx.run
        self.vms = vms
        self.address_uses = AddressUses()
        self.allocations = Allocations(network, {})
        self.records: dict[int, Allocation] = {}
        self.hint: SearchHint | None = None
        self._existing = {existing.vm: existing for existing in request.existing}
        self._by_uid: dict[str, set[int]] = {}
        self._numbers_by_name: dict[tuple[str, str], set[int]] = {}
        self._by_mac: dict[str, set[tuple[str, str]]] = {}
        self._last_held: dict[tuple[str, str], list[tuple[str, int]]] = {}
        self._index_records(self.allocations.legacy_allocations)

    def load(self, shards: Iterable[Shard]) -> Allocations:
        """These shelves, which are at hand from now on.

        Raises:
            PreconditionFailed: some may not be read.
        """
        loaded = load_shards(self.network, shards, self.snapshot)
        new = {shard: obj for shard, obj in loaded.objects.items() if shard not in self.allocations.objects}
        if new:
            self.allocations = self.allocations.with_objects(new)
            self._index_records(loaded.shard_entries)
            for number, last in Allocations(self.network, new).last_holders.items():
                self._last_held.setdefault((last.namespace, last.name), []).append((last.until, number))
        return loaded

    def _index_records(self, entries: Mapping[int, AllocationEntry]) -> None:
        for number, entry in entries.items():
            record = self.records[number] = entry.record
            self._by_uid.setdefault(record.uid, set()).add(number)
            if record.mac:
                self._by_mac.setdefault(record.mac.lower(), set()).add((record.namespace, record.name))
            if record.kind == VIRTUALMACHINE:
                self._numbers_by_name.setdefault((record.namespace, record.name), set()).add(number)

    def requested(self, vm: Vm) -> int | None:
        """The address asked for the VM, as a number; None for any."""
        address = self.requested_address(vm)
        return None if address is None else int(address)

    def requested_address(self, vm: Vm) -> Address | None:
        """The address asked for the VM; None for any."""
        existing = self._existing.get((vm.namespace, vm.name))
        return existing.address if existing else self.request.address

    def existing(self, vm: Vm) -> tuple[Address, ...]:
        """The address that the VM has already, outside the ledger; () where none was told."""
        existing = self._existing.get((vm.namespace, vm.name))
        return (existing.address,) if existing else ()

    def requested_mac(self, vm: Vm) -> str | None:
        """The MAC address asked for it; see AttachRequest."""
        existing = self._existing.get((vm.namespace, vm.name))
        return existing.mac if existing and existing.mac else self.request.mac

    def other_vms_with_mac(self, vm: Vm, mac: str) -> list[NamespacedName]:
        """The VMs of other names with which the ledger, as far as it was read, has a MAC address."""
        return sorted(self._by_mac.get(mac.lower(), set()) - {(vm.namespace, vm.name)})

    def note(self, vm: Vm, record: Allocation | None) -> str:
        """What the VM's record is to note: as it was told, or as it stands."""
        existing = self._existing.get((vm.namespace, vm.name))
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
        numbers = self._by_uid.get(vm.uid, ()) if vm.uid else ()
        return sorted(number for number in numbers if self.records[number].uid == vm.uid)

    def is_complete(self, vm: Vm) -> bool:
        """Whether nothing is left to write: its template carries the address that it is to have and the ledger's."""
        complete = set(self.on_vm(vm)).intersection(self.allocated(vm))
        requested = self.requested(vm)
        return self.backend.pins_vm_template and (bool(complete) if requested is None else requested in complete)

    def last_held(self, vm: Vm) -> list[int]:
        """The addresses that a VM of this name was the last to have, as far as shelves were read, the latest first."""
        return [number for _, number in sorted(self._last_held.get((vm.namespace, vm.name), ()), reverse=True)]

    def held_by_predecessor(self, vm: Vm) -> list[int]:
        """The addresses recorded for an earlier VM of this name (or by the original, which wrote no uid)."""
        name = vm.namespace, vm.name
        records = {number: self.records[number] for number in self._numbers_by_name.get(name, ())}
        return sorted(n for n, r in records.items() if (r.namespace, r.name) == name and r.uid != vm.uid)
