"""What a back-end is to the rest: a set of pure functions that say what its objects look like.

Plans are made through this protocol alone; nothing in model/ or plan/ asks which back-end it is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import DEFAULT_NIC, Nic, Vm


class UsageKind(enum.Enum):
    """How an address is used."""

    REQUESTED = "wanted"  # an object that a VM is made from carries it: its template, its Service
    RUNNING = "running"  # a VMI or pod runs with it
    HELD_BY_BACKEND = "held"  # the back-end's own bookkeeping gives it to somebody
    LEASED = "lent"  # somebody who has none of his own has it for a time, by DHCP; ends by itself
    ANNOUNCED = "served"  # the world can reach it; ends with what wants it


@dataclass(frozen=True)
class AddressUse:
    """Something in the cluster, other than the ledger, that uses an address.

    Attributes:
        number: the address.
        kind: see UsageKind.
        ref: the object that shows it.
        namespace, name: of the VM that it is used for, or of the network itself; "" where it is for neither.
        uid: of that VM where the object tells, or of the network; "" otherwise.
        announcer: for SERVED, what announces it, or why nothing does, for people.
        node: for SERVED, the nodes that announce it, with commas; "" where none does.
        cooldown_reason: for HELD, in words, that nobody has it and it is only not given out again yet; "" otherwise.
    """

    number: int
    kind: UsageKind
    ref: ObjectRef
    namespace: str = ""
    name: str = ""
    uid: str = ""
    announcer: str = ""
    node: str = ""
    cooldown_reason: str = ""

    @property
    def summary(self) -> str:
        """That it uses the address, or why nobody may yet, for people."""
        return self.cooldown_reason or f"{self.ref} uses it"

    def is_for_vm(self, vm_namespace: str, vm_name: str, vm_uid: str = "") -> bool:
        """Whether it is for that VM; a uid that differs tells a VM made anew from the old one."""
        if (self.namespace, self.name) != (vm_namespace, vm_name):
            return False
        return not (self.uid and vm_uid) or self.uid == vm_uid

    def is_infra_use_of(self, network: Network) -> bool:
        """Whether the network itself has the address, for what it needs (see Backend.infra_address_purpose)."""
        return bool(network.uid) and self.uid == network.uid


class AddressUses:
    """Uses of a network's addresses, found by address and by VM without a search.

    Args:
        uses: as a back-end tells them.
    """

    def __init__(self, uses: Iterable[AddressUse] = ()) -> None:
        self.all = tuple(uses)
        self._by_number: dict[int, list[AddressUse]] = {}
        self._by_vm: dict[tuple[str, str], list[AddressUse]] = {}
        for use in self.all:
            self._by_number.setdefault(use.number, []).append(use)
            self._by_vm.setdefault((use.namespace, use.name), []).append(use)

    def by_number(self, number: int) -> Sequence[AddressUse]:
        """Everybody's uses of an address."""
        return self._by_number.get(number, ())

    def by_vm(self, vm_namespace: str, vm_name: str, vm_uid: str = "") -> list[AddressUse]:
        """A VM's uses; see AddressUse.is_for_vm."""
        vm_uses = self._by_vm.get((vm_namespace, vm_name), ())
        return [use for use in vm_uses if use.is_for_vm(vm_namespace, vm_name, vm_uid)]


@dataclass(frozen=True)
class RequestedNetworks:
    """What a VM's own annotations ask of a back-end.

    Attributes:
        networks: names of networks as written, NAME or NAMESPACE/NAME.
        addresses: addresses named; each is of one of the networks, or of the one that has it.
    """

    networks: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks or self.addresses)


@dataclass(frozen=True)
class NetworkConflict:
    """Why a network cannot be made.

    Attributes:
        summary: a sentence that names the object in the way.
        is_unreadable: whether there is such an object could not be seen, for want of a right.
    """

    summary: str
    is_unreadable: bool = False


@dataclass(frozen=True)
class HoldRelease:
    """How a back-end can be made to forget an address.

    Attributes:
        plan: what to change first; empty where nothing holds it.
        blocker: why it cannot be now ("it runs", "may not read ipamhandles"); "" if it can.
        forbidden: the write that the user may not do, whether anything runs or not; "" for none.
    """

    plan: Plan = field(default_factory=Plan)
    blocker: str = ""
    forbidden: str = ""


@dataclass(frozen=True)
class HotPlug:
    """Whether a running VM can be changed without a restart.

    Attributes:
        blocker: why not; "" if it can.
        next_step: what brings it about, for people.
    """

    blocker: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class VmProblem:
    """What the back-end's own bookkeeping keeps from a VM: its address, or its start.

    Attributes:
        namespace, name: the VM, which need not exist.
        summary: the object first, then the cause, for people.
        hint: the command that repairs it.
    """

    namespace: str
    name: str
    summary: str
    hint: str

    def __str__(self) -> str:
        return f"{self.summary} (`{self.hint}`)"


AllocationsLoader = Callable[[], Mapping[int, Allocation]]
"""The records of a network as they are now, read later than all that was read before."""


class Backend(Protocol):
    """A way to make networks. All functions are pure but for what they read from the snapshot."""

    @property
    def plugin(self) -> str:
        """spec.plugin: "calico"."""

    @property
    def annotation_key(self) -> str:
        """The annotation on the VM itself that says which network was wanted."""

    @property
    def pins_vm_template(self) -> bool:
        """Whether an address is written on the VM's template, with a MAC address, and reaches a running VM by a restart
        only. Otherwise it is on an object beside the VM, and is the VM's at once."""

    @property
    def has_interface(self) -> bool:
        """Whether a VM has an interface of its own for each network (see Nic), so that it may be on several."""

    @property
    def keeps_addresses(self) -> bool:
        """Whether a VM gets the address that the back-end holds for it, whatever its template says. Then that one is
        released before the template changes: where it cannot be, nothing has changed."""

    @property
    def allowed_as_default(self) -> bool:
        """Whether a network for which no plugin was named may be made with it."""

    def requested_networks(self, vm: Vm) -> RequestedNetworks:
        """What the VM's own annotations ask for. Raises UsageError where they cannot be read."""

    def missing_apis(self, served: ServedApis) -> str:
        """What the API server would have to serve and does not, for people; "" where the back-end is there."""

    # -- networks ------------------------------------------------------------------------------------------------

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        """Why the network cannot be made."""

    def implicit_choices(self, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """What was chosen for the network because its spec does not say it, and others would notice, a phrase each."""

    def infra_address_purpose(self, network: Network) -> str | None:
        """What the network itself needs one of its addresses for ("DHCP server"); "" where it needs none now, None
        where no network of this kind ever does."""

    def ensure(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        """What makes the network's objects true; empty where they are.

        `records` is the network's ledger, with the address that the network itself has; {} where
        `infra_address_purpose` is None.
        """

    def health(self, network: Network, snapshot: Snapshot) -> str:
        """Why the network does not work though its objects were made; "" where it does."""

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        """Label and value pairs that `network describe` adds."""

    def teardown(self, network: Network, snapshot: Snapshot, ignore_usage: bool = False) -> Plan:
        """What takes the network's objects away. Raises PreconditionFailed where something still uses them; not with
        `ignore_usage`, which asks what it will be once nothing does."""

    def orphaned_objects(self, live: Sequence[Network], namespace: str | None, snapshot: Snapshot) -> Plan:
        """What takes away the objects of networks that are no more (deleted behind this program's back), of those that
        were in this namespace (None: in any)."""

    # -- VMs -----------------------------------------------------------------------------------------------------

    def address_uses(
        self, network: Network, vms: Sequence[Vm], numbers: Intervals, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        """The uses of the network's addresses by these VMs, and by anybody of the addresses about to be given."""

    def config_queries(self, snapshot: Snapshot) -> tuple[Query, ...]:
        """What attaching asks about the cluster, not about a VM: it is read early, beside the VMs' uses."""

    def all_address_uses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        """Every use of the network's addresses that can be seen, by VMs of these namespaces (None: of all)."""

    def addresses_on_vm(self, vm: Vm, network: str) -> tuple[Address, ...]:
        """What a VM alone tells of its addresses of a network that may not be seen, by its full name "prod/blue"."""

    def service_addresses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        """The addresses that VMs have by objects beside them which others have made, and which could be recorded in the
        network: HELD, one for each VM that an object is for. Raises PreconditionFailed where that may not be read."""

    def conflicting_address(self, vm: Vm, network: Network, snapshot: Snapshot) -> str:
        """The address outside the network that this back-end gives the VM already, where it can give only one."""

    def release_previous(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> HoldRelease:
        """What must go before the VM can have the address: another one that the back-end holds for it."""

    def reserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        """What must be there before anybody is given these addresses, which are or are being recorded so: that nobody
        else is given them meanwhile; empty where it is. Raises PreconditionFailed where it cannot be."""

    def unreserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> HoldRelease:
        """How what `reserve` made for these records is taken away again, but for what other records rest on now."""

    def attach_patch(
        self,
        vm: Vm,
        network: Network,
        number: int,
        mac: str,
        snapshot: Snapshot,
        ports: Sequence[Port] = (),
        nic: Nic = DEFAULT_NIC,
    ) -> tuple[Change, ...]:
        """What makes the VM want the address, with that MAC address ("" for none), open on these ports (none: as it
        is), plugged in like that; empty where it does."""

    def ensure_service(self, vm: Vm, network: Network, number: int, ports: Sequence[Port], snapshot: Snapshot) -> Plan:
        """What makes the objects beside the VM true that its address needs, open on these ports (none: as it is).

        It comes after `attach_patch`, and is empty where nothing is needed. Raises PreconditionFailed where something
        is in the way.
        """

    def configured_ports(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[Port, ...]:
        """The ports that somebody has chosen for the VM's address; () where nobody has."""

    def wait_conditions(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> tuple[Change, ...]:
        """What `--wait` waits for, as changes that wait, besides that the VM runs; empty where it has come."""

    def detach_patch(self, vm: Vm, network: Network, snapshot: Snapshot, live: bool = False) -> tuple[Change, ...]:
        """What makes the VM want no address of the network; empty where it wants none.

        With `live` its interface is taken out of the running VM, where `hot_plug` says that this can be done.
        """

    def hot_plug(self, vm: Vm, snapshot: Snapshot) -> HotPlug:
        """Whether the VM's interface can be plugged in and out while it runs; only where it has one of its own."""

    def release_hold(self, network: Network, number: int, record: Allocation, snapshot: Snapshot) -> HoldRelease:
        """Return how the backend is made to forget that a VM holds an address.

        What it holds of the address for another VM, or for a later record, stays: it may have been read after another
        run released the record and allocated the address again (invariant I2).

        Args:
            network: the network.
            number: the address.
            record: the VM's record, as it was read.
            snapshot: what was read.
        """

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        """The MAC address that the VM's interface has by its owner's choice, and the one written with the address."""

    def warnings(
        self, vm: Vm, network: Network, number: int, snapshot: Snapshot, nic: Nic = DEFAULT_NIC
    ) -> tuple[str, ...]:
        """What will not work, or is for somebody to do, a line each, naming the object."""

    def migration_blockers(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """Why a VM that is to be live-migrated cannot be, with an address of the network; () where it can, or need not.

        One is to be where its own spec or the network's asks for it.
        """

    def orphaned_allocations(self, network: Network, recorded: AllocationsLoader, snapshot: Snapshot) -> Plan:
        """What the back-end keeps in the network for VMs that are no more, or for which no address of it is recorded,
        and how it is taken away."""

    def vm_problems(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[VmProblem, ...]:
        """What keeps VMs of these namespaces (None: of all) from an address of the network or from starting, though all
        that this program writes is as it should be; () where that may not be read."""

    def repairs(self, network: Network, namespace: str | None, snapshot: Snapshot) -> Plan:
        """What makes the back-end's own bookkeeping consistent again that an interrupted run has left, for VMs of this
        namespace (None: of any)."""
