"""Define the backend protocol: pure functions that describe what the objects of a product look like.

Plans are made through this protocol alone; nothing in model/ or plan/ asks which backend it is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import DEFAULT_NIC, Nic, Vm


class UsageKind(enum.Enum):
    """How an address is used."""

    REQUESTED = "wanted"  # a VM's template or Service, from which it is created, contains the address
    RUNNING = "running"  # a VMI or pod runs with it
    HELD_BY_BACKEND = "held"  # the backend's own records assign it, such as Calico IPAM
    LEASED = "leased"  # a DHCP client without an allocation has a lease of it, which expires by itself
    ANNOUNCED = "served"  # it is reachable from outside the cluster; ends with the object that requests it


@dataclass(frozen=True)
class AddressUse:
    """A use of an address in the cluster, other than its allocation.

    Attributes:
        number: the address.
        kind: how the address is used.
        ref: the object that shows the use.
        namespace, name: of the VM or network that the address is used for; "" if it is used for neither.
        uid: of that VM if the object contains it, or of the network; "" otherwise.
        announcer: for ANNOUNCED, what announces it, or why nothing does, as printed.
        node: for ANNOUNCED, the nodes that announce it, separated by commas; "" if none does.
        cooldown_reason: for HELD_BY_BACKEND, why a free address is not assigned again yet, as printed; "" otherwise.
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
        """Return a sentence that states the use, or why the address cannot be assigned yet."""
        return self.cooldown_reason or f"{self.ref} uses it"

    def is_for_vm(self, vm_namespace: str, vm_name: str, vm_uid: str = "") -> bool:
        """Return whether the use is for that VM; a different uid belongs to an earlier VM of that name."""
        if (self.namespace, self.name) != (vm_namespace, vm_name):
            return False
        return not (self.uid and vm_uid) or self.uid == vm_uid

    def is_infra_use_of(self, network: Network) -> bool:
        """Return whether the network itself uses the address (see Backend.infra_address_purpose)."""
        return bool(network.uid) and self.uid == network.uid


class AddressUses:
    """The uses of a network's addresses, indexed by address and by VM.

    Args:
        uses: the uses that a backend reports.
    """

    def __init__(self, uses: Iterable[AddressUse] = ()) -> None:
        self.all = tuple(uses)
        self._by_number: dict[int, list[AddressUse]] = {}
        self._by_vm: dict[tuple[str, str], list[AddressUse]] = {}
        for use in self.all:
            self._by_number.setdefault(use.number, []).append(use)
            self._by_vm.setdefault((use.namespace, use.name), []).append(use)

    def by_number(self, number: int) -> Sequence[AddressUse]:
        """Return all uses of an address."""
        return self._by_number.get(number, ())

    def by_vm(self, vm_namespace: str, vm_name: str, vm_uid: str = "") -> list[AddressUse]:
        """Return a VM's uses; see AddressUse.is_for_vm."""
        vm_uses = self._by_vm.get((vm_namespace, vm_name), ())
        return [use for use in vm_uses if use.is_for_vm(vm_namespace, vm_name, vm_uid)]


@dataclass(frozen=True)
class RequestedNetworks:
    """The networks and addresses that a VM's own annotations request from a backend.

    Attributes:
        networks: names of networks as written, NAME or NAMESPACE/NAME.
        addresses: requested addresses, each of one of `networks`, or of the network that contains it.
    """

    networks: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks or self.addresses)


@dataclass(frozen=True)
class NetworkConflict:
    """A reason why a network cannot be created.

    Attributes:
        summary: a sentence that names the conflicting object.
        is_unreadable: whether missing permissions prevent the check for such an object.
    """

    summary: str
    is_unreadable: bool = False


@dataclass(frozen=True)
class HoldRelease:
    """How a backend releases its hold on an address.

    Attributes:
        plan: the changes to make; empty if the backend holds nothing.
        blocker: why the hold cannot be released now ("it runs", "may not read ipamhandles"); "" if it can.
        forbidden: the write that the user has no permission for, whether the VM runs or not; "" for none.
    """

    plan: Plan = field(default_factory=Plan)
    blocker: str = ""
    forbidden: str = ""


@dataclass(frozen=True)
class HotPlug:
    """Whether a running VM can be changed without a restart.

    Attributes:
        blocker: why it cannot; "" if it can.
        next_step: the command or action that completes the change, as printed.
    """

    blocker: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class MigrationBlocker:
    """Why a VM cannot be live-migrated with its address.

    Attributes:
        reason: as printed.
        command: the command that removes it, or shows what to change.
    """

    reason: str
    command: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class VmProblem:
    """An entry in the backend's own records that keeps a VM from its address or from starting.

    Attributes:
        namespace, name: the VM, which need not exist.
        summary: the object first, then the cause, as printed.
        hint: the command that repairs it.
    """

    namespace: str
    name: str
    summary: str
    hint: str

    def __str__(self) -> str:
        return f"{self.summary} (`{self.hint}`)"


@dataclass(frozen=True)
class Attachment:
    """An address of a network that a VM has or gets.

    Attributes:
        vm, network: what is attached, and to what.
        number: the address.
        mac: the MAC address of the VM's interface; "" for none.
        nic: the interface to use.
        ports: the ports to open; () leaves them as they are.
    """

    vm: Vm
    network: Network
    number: int
    mac: str = ""
    nic: Nic = DEFAULT_NIC
    ports: tuple[Port, ...] = ()

    @property
    def address(self) -> Address:
        """Return the address."""
        return self.network.address(self.number)


AllocationsLoader = Callable[[], Mapping[int, Allocation]]
"""A function that reads the current allocations of a network, later than everything in the snapshot."""


class Backend(Protocol):
    """An implementation of networks.

    All functions are pure: they depend only on their arguments and on what they read from the snapshot.
    """

    @property
    def plugin(self) -> str:
        """Return the value of spec.plugin, such as "calico"."""

    @property
    def annotation_key(self) -> str:
        """Return the key of the annotation on the VM itself that names the requested network."""

    @property
    def pins_vm_template(self) -> bool:
        """Return whether the VM's template contains the address and a MAC address; a running VM then needs a restart.

        Otherwise a separate object assigns the address, which takes effect at once.
        """

    @property
    def has_interface(self) -> bool:
        """Return whether a VM has a separate interface for each network (see Nic), so that it may be on several."""

    @property
    def keeps_addresses(self) -> bool:
        """Return whether a VM gets the address that the backend holds for it, whatever its template contains.

        That address is then released before the template changes; if it cannot be released, nothing is changed.
        """

    @property
    def allowed_as_default(self) -> bool:
        """Return whether a network without a plugin may be created with this backend."""

    def requested_networks(self, vm: Vm) -> RequestedNetworks:
        """Return the networks and addresses that the VM's own annotations request.

        Raises:
            UsageError: an annotation is invalid.
        """

    def missing_apis(self, served: ServedApis) -> str:
        """Return the APIs that the backend needs and the API server does not serve, as printed; "" for none."""

    # -- networks ------------------------------------------------------------------------------------------------

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        """Return why the network cannot be created; () if it can."""

    def implicit_choices(self, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """Return a phrase for each default that replaces a missing field of the spec and that others notice."""

    def infra_address_purpose(self, network: Network) -> str | None:
        """Return the purpose for which the network itself needs one of its addresses, such as "DHCP server".

        Returns:
            "" if it needs none now, None if no network of this kind ever does.
        """

    def ensure(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        """Return the changes that reconcile the network's objects; an empty plan if there are none.

        Args:
            network: the network.
            records: its allocations, including the network's own address; {} if `infra_address_purpose` is None.
            snapshot: the state of the cluster.
        """

    def health(self, network: Network, snapshot: Snapshot) -> str:
        """Return why the network does not work although its objects exist; "" if it works."""

    def pending_rollout(self, network: Network, snapshot: Snapshot) -> str:
        """Return what the controllers of the network's objects have not completed yet, as printed; "" for nothing."""

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        """Return the label and value pairs that `network describe` adds."""

    def teardown(self, network: Network, snapshot: Snapshot, ignore_usage: bool = False) -> Plan:
        """Return the changes that delete the network's objects.

        Args:
            network: the network.
            snapshot: the state of the cluster.
            ignore_usage: return the changes that apply once nothing uses the network, and do not check uses.

        Raises:
            PreconditionFailed: an object still uses the network.
        """

    def orphaned_objects(self, live: Sequence[Network], namespace: str | None, snapshot: Snapshot) -> Plan:
        """Return the changes that delete objects of networks that no longer exist, such as those deleted with kubectl.

        Args:
            live: the networks that exist.
            namespace: the namespace of the deleted networks; None for all.
            snapshot: the state of the cluster.
        """

    # -- VMs -----------------------------------------------------------------------------------------------------

    def address_uses(
        self, network: Network, vms: Sequence[Vm], numbers: Intervals, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        """Return the uses of the network's addresses by these VMs, and every use of the addresses in `numbers`."""

    def config_queries(self, snapshot: Snapshot) -> tuple[Query, ...]:
        """Return the queries about the cluster, not about a VM, that attaching needs.

        They are read along with the VMs' uses.
        """

    def all_address_uses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        """Return every readable use of the network's addresses by VMs of these namespaces (None: of all)."""

    def addresses_on_vm(self, vm: Vm, network: str) -> tuple[Address, ...]:
        """Return the addresses that a VM alone shows for a network that cannot be read.

        Args:
            vm: the VM.
            network: the network's full name, "namespace/name".
        """

    def service_addresses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        """Return the addresses that Services not managed by yoshi provide for VMs and that the network could record.

        Returns:
            uses of the kind HELD_BY_BACKEND, one for each VM that such an object serves.

        Raises:
            PreconditionFailed: the user has no permission to read these objects.
        """

    def conflicting_address(self, vm: Vm, network: Network, snapshot: Snapshot) -> str:
        """Return the address outside the network that this backend already provides for the VM.

        Returns:
            "" if there is none, or if the backend can provide several.
        """

    def release_previous(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> HoldRelease:
        """Return how to release another address that the backend holds for the VM and that blocks this one."""

    def reserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        """Return the changes that keep the backend from assigning these addresses; an empty plan if there are none.

        They precede the assignment of the addresses, which are or are being recorded in `records`.

        Raises:
            PreconditionFailed: the backend cannot reserve them.
        """

    def unreserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> HoldRelease:
        """Return how to remove what `reserve` created for these allocations, except what other allocations need."""

    def attach_patch(self, attachment: Attachment, snapshot: Snapshot) -> tuple[Change, ...]:
        """Return the changes of the VM that request the address; () if it requests it already."""

    def ensure_service(self, attachment: Attachment, snapshot: Snapshot) -> Plan:
        """Return the changes that reconcile the separate objects that the VM's address needs; an empty plan for none.

        They follow `attach_patch`.

        Raises:
            PreconditionFailed: another object conflicts.
        """

    def configured_ports(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[Port, ...]:
        """Return the ports configured for the VM's address; () for none."""

    def wait_conditions(self, attachment: Attachment, snapshot: Snapshot) -> tuple[Change, ...]:
        """Return what `--wait` waits for, besides the VM running, as changes that wait; () if nothing is pending."""

    def detach_patch(self, vm: Vm, network: Network, snapshot: Snapshot, live: bool = False) -> tuple[Change, ...]:
        """Return the changes after which the VM requests no address of the network; () if it requests none.

        With `live`, the interface is unplugged from the running VM, if `hot_plug` states that this is possible.
        """

    def hot_plug(self, vm: Vm, snapshot: Snapshot) -> HotPlug:
        """Return whether the VM's interface can be plugged and unplugged while it runs.

        This applies only to backends that add a separate interface.
        """

    def release_hold(self, network: Network, number: int, record: Allocation, snapshot: Snapshot) -> HoldRelease:
        """Return how the backend releases the hold of a VM on an address.

        A hold for another VM, or for a later allocation, stays: it may have been read after another run released this
        allocation and allocated the address again (invariant I2).

        Args:
            network: the network.
            number: the address.
            record: the VM's allocation, as it was read.
            snapshot: the state of the cluster.
        """

    def interface_of(self, vm: Vm, network: Network) -> Json | None:
        """Return the VM's interface that has the address, {} for the one that KubeVirt adds; None if it has none.

        This applies only to backends that pin the VM's template.
        """

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        """Return the MAC address that the VM's owner set for its interface, and the one written with the address."""

    def warnings(self, attachment: Attachment, snapshot: Snapshot) -> tuple[str, ...]:
        """Return a line for each thing that will not work or needs a manual step, naming the object."""

    def migration_blockers(
        self, vm: Vm, network: Network, snapshot: Snapshot, *, is_planned: bool = False
    ) -> tuple[MigrationBlocker, ...]:
        """Return why a VM with an address of the network cannot be live-migrated; () if it can, or need not be.

        A VM must be migratable if its own spec or the network's requires that.

        Args:
            vm: the VM.
            network: the network.
            snapshot: the state of the cluster.
            is_planned: it is about to be migrated, whatever the specs require. What cannot be read is then an error.

        Raises:
            UnreadableError: it is unknown whether the VM can be migrated; only with `is_planned`.
        """

    def orphaned_allocations(self, network: Network, recorded: AllocationsLoader, snapshot: Snapshot) -> Plan:
        """Return the changes that remove the backend's entries for VMs that no longer exist or have no allocation.

        Args:
            network: the network whose entries are checked.
            recorded: returns the network's current allocations.
            snapshot: the state of the cluster.
        """

    def vm_problems(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[VmProblem, ...]:
        """Return what keeps VMs of these namespaces (None: of all) from an address of the network or from starting.

        These are problems that occur although everything this program writes is correct.

        Returns:
            () if the user has no permission to read the backend's records.
        """

    def repairs(self, network: Network, namespace: str | None, snapshot: Snapshot) -> Plan:
        """Return the changes that repair the backend's own records after an interrupted run.

        Args:
            network: the network.
            namespace: the namespace of the VMs; None for all.
            snapshot: the state of the cluster.
        """
