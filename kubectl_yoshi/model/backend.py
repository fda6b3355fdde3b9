"""What a back-end is to the rest: a set of pure functions that say what its objects look like.

Plans are made through this protocol alone; nothing in model/ or plan/ asks which back-end it is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.change import Change, Plan
from kubectl_yoshi.model.facts import Facts, Read, Served
from kubectl_yoshi.model.ledger import Record
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.nic import ANY_NIC, Nic
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import Vm


class How(enum.Enum):
    """How an address is used."""

    WANTED = "wanted"  # an object that a VM is made from carries it: its template, its Service
    RUNNING = "running"  # a VMI or pod runs with it
    HELD = "held"  # the back-end's own bookkeeping gives it to somebody
    LENT = "lent"  # somebody who has none of his own has it for a time, by DHCP; ends by itself
    SERVED = "served"  # the world can reach it; ends with what wants it


@dataclass(frozen=True)
class Use:
    """Something in the cluster, other than the ledger, that uses an address.

    Attributes:
        number: the address.
        how: see How.
        ref: the object that shows it.
        namespace, name: of the VM that it is used for, or of the network itself; "" where it is for neither.
        uid: of that VM where the object tells, or of the network; "" otherwise.
        by: for SERVED, what announces it, or why nothing does, for people.
        node: for SERVED, the nodes that announce it, with commas; "" where none does.
        cools_down: for HELD, in words, that nobody has it and it is only not given out again yet; "" otherwise.
    """

    number: int
    how: How
    ref: ObjectRef
    namespace: str = ""
    name: str = ""
    uid: str = ""
    by: str = ""
    node: str = ""
    cools_down: str = ""

    @property
    def says(self) -> str:
        """That it uses the address, or why nobody may yet, for people."""
        return self.cools_down or f"{self.ref} uses it"

    def is_of(self, vm_namespace: str, vm_name: str, vm_uid: str = "") -> bool:
        """Whether it is for that VM; a uid that differs tells a VM made anew from the old one."""
        if (self.namespace, self.name) != (vm_namespace, vm_name):
            return False
        return not (self.uid and vm_uid) or self.uid == vm_uid

    def is_own_of(self, network: Network) -> bool:
        """Whether the network itself has the address, for what it needs (see Backend.own_use)."""
        return bool(network.uid) and self.uid == network.uid


class Uses:
    """Uses of a network's addresses, found by address and by VM without a search.

    Args:
        found: as a back-end tells them.
    """

    def __init__(self, found: Iterable[Use] = ()) -> None:
        self.all = tuple(found)
        self._at: dict[int, list[Use]] = {}
        self._of: dict[tuple[str, str], list[Use]] = {}
        for use in self.all:
            self._at.setdefault(use.number, []).append(use)
            self._of.setdefault((use.namespace, use.name), []).append(use)

    def at(self, number: int) -> Sequence[Use]:
        """Everybody's uses of an address."""
        return self._at.get(number, ())

    def of(self, vm_namespace: str, vm_name: str, vm_uid: str = "") -> list[Use]:
        """A VM's uses; see Use.is_of."""
        mine = self._of.get((vm_namespace, vm_name), ())
        return [use for use in mine if use.is_of(vm_namespace, vm_name, vm_uid)]


@dataclass(frozen=True)
class Wishes:
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
class Obstacle:
    """Why a network cannot be made.

    Attributes:
        says: a sentence that names the object in the way.
        unseen: whether there is such an object could not be seen, for want of a right.
    """

    says: str
    unseen: bool = False


@dataclass(frozen=True)
class LetGo:
    """How a back-end can be made to forget an address.

    Attributes:
        plan: what to change first; empty where nothing holds it.
        obstacle: why it cannot be now ("it runs", "may not read ipamhandles"); "" if it can.
        forbidden: the write that the user may not do, whether anything runs or not; "" for none.
    """

    plan: Plan = field(default_factory=Plan)
    obstacle: str = ""
    forbidden: str = ""


@dataclass(frozen=True)
class HotPlug:
    """Whether a running VM can be changed without a restart.

    Attributes:
        obstacle: why not; "" if it can.
        next_step: what brings it about, for people.
    """

    obstacle: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class Trouble:
    """What the back-end's own bookkeeping keeps from a VM: its address, or its start.

    Attributes:
        namespace, name: the VM, which need not exist.
        says: the object first, then the cause, for people.
        way_out: the command that repairs it.
    """

    namespace: str
    name: str
    says: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.says} (`{self.way_out}`)"


Recorded = Callable[[], Mapping[int, Record]]
"""The records of a network as they are now, later than all that was read before; calling it may raise NeedMore."""


class Backend(Protocol):
    """A way to make networks. All functions are pure; those that take facts may raise facts.NeedMore."""

    @property
    def plugin(self) -> str:
        """spec.plugin: "calico"."""

    @property
    def wish(self) -> str:
        """The annotation on the VM itself that says which network was wanted."""

    @property
    def on_template(self) -> bool:
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
    def by_default(self) -> bool:
        """Whether a network for which no plugin was named may be made with it."""

    def wishes(self, vm: Vm) -> Wishes:
        """What the VM's own annotations ask for. Raises UsageMistake where they cannot be read."""

    def missing(self, served: Served) -> str:
        """What the API server would have to serve and does not, for people; "" where the back-end is there."""

    # -- networks ------------------------------------------------------------------------------------------------

    def obstacles(self, network: Network, facts: Facts) -> tuple[Obstacle, ...]:
        """Why the network cannot be made."""

    def taken_unasked(self, network: Network, facts: Facts) -> tuple[str, ...]:
        """What was chosen for the network because its spec does not say it, and others would notice, a phrase each."""

    def own_use(self, network: Network) -> str | None:
        """What the network itself needs one of its addresses for ("DHCP server"); "" where it needs none now, None
        where no network of this kind ever does."""

    def build(self, network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
        """What makes the network's objects true; empty where they are.

        `records` is the network's ledger, with the address that the network itself has; {} where `own_use` is None.
        """

    def problem(self, network: Network, facts: Facts) -> str:
        """Why the network does not work though its objects were made; "" where it does."""

    def describe(self, network: Network, facts: Facts) -> tuple[tuple[str, str], ...]:
        """Label and value pairs that `network describe` adds."""

    def demolish(self, network: Network, facts: Facts, later: bool = False) -> Plan:
        """What takes the network's objects away. Raises Refused where something still uses them; not with `later`,
        which asks what it will be once nothing does."""

    def leftovers(self, live: Sequence[Network], namespace: str | None, facts: Facts) -> Plan:
        """What takes away the objects of networks that are no more (deleted behind this program's back), of those that
        were in this namespace (None: in any)."""

    # -- VMs -----------------------------------------------------------------------------------------------------

    def uses(self, network: Network, vms: Sequence[Vm], numbers: Intervals, facts: Facts) -> tuple[Use, ...]:
        """The uses of the network's addresses by these VMs, and by anybody of the addresses about to be given."""

    def settings(self, facts: Facts) -> tuple[Read, ...]:
        """What attaching asks about the cluster, not about a VM: it is read early, beside the VMs' uses."""

    def survey(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """Every use of the network's addresses that can be seen, by VMs of these namespaces (None: of all)."""

    def told_by(self, vm: Vm, network: str) -> tuple[Address, ...]:
        """What a VM alone tells of its addresses of a network that may not be seen, by its full name "prod/blue"."""

    def carried(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """The addresses that VMs have by objects beside them which others have made, and which could be recorded in the
        network: HELD, one for each VM that an object is for. Raises Refused where that may not be read."""

    def elsewhere(self, vm: Vm, network: Network, facts: Facts) -> str:
        """The address outside the network that this back-end gives the VM already, where it can give only one."""

    def prepare(self, vm: Vm, network: Network, number: int, facts: Facts) -> LetGo:
        """What must go before the VM can have the address: another one that the back-end holds for it."""

    def provide(self, network: Network, records: Mapping[int, Record], facts: Facts) -> Plan:
        """What must be there before anybody is given these addresses, which are or are being recorded so: that nobody
        else is given them meanwhile; empty where it is. Raises Refused where it cannot be."""

    def retract(self, network: Network, records: Mapping[int, Record], facts: Facts) -> LetGo:
        """How what `provide` made for these records is taken away again, but for what other records rest on now."""

    def fasten(
        self,
        vm: Vm,
        network: Network,
        number: int,
        mac: str,
        facts: Facts,
        ports: Sequence[Port] = (),
        nic: Nic = ANY_NIC,
    ) -> tuple[Change, ...]:
        """What makes the VM want the address, with that MAC address ("" for none), open on these ports (none: as it
        is), plugged in like that; empty where it does."""

    def establish(self, vm: Vm, network: Network, number: int, ports: Sequence[Port], facts: Facts) -> Plan:
        """What makes the objects beside the VM true that its address needs, open on these ports (none: as it is).

        It comes after `fasten`, and is empty where nothing is needed. Raises Refused where something is in the way.
        """

    def open_on(self, vm: Vm, network: Network, facts: Facts) -> tuple[Port, ...]:
        """The ports that somebody has chosen for the VM's address; () where nobody has."""

    def awaited(self, vm: Vm, network: Network, number: int, facts: Facts) -> tuple[Change, ...]:
        """What `--wait` waits for, as changes that wait, besides that the VM runs; empty where it has come."""

    def loosen(self, vm: Vm, network: Network, facts: Facts, live: bool = False) -> tuple[Change, ...]:
        """What makes the VM want no address of the network; empty where it wants none.

        With `live` its interface is taken out of the running VM, where `hot_plug` says that this can be done.
        """

    def hot_plug(self, vm: Vm, facts: Facts) -> HotPlug:
        """Whether the VM's interface can be plugged in and out while it runs; only where it has one of its own."""

    def let_go(self, network: Network, number: int, namespace: str, name: str, facts: Facts) -> LetGo:
        """How the back-end is made to forget that the VM of that name holds the address."""

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        """The MAC address that the VM's interface has by its owner's choice, and the one written with the address."""

    def concerns(self, vm: Vm, network: Network, number: int, facts: Facts, nic: Nic = ANY_NIC) -> tuple[str, ...]:
        """What will not work, or is for somebody to do, a line each, naming the object."""

    def immobile(self, vm: Vm, network: Network, facts: Facts) -> tuple[str, ...]:
        """Why a VM that is to be live-migrated cannot be, with an address of the network; () where it can, or need not.

        One is to be where its own spec or the network's asks for it.
        """

    def strays(self, network: Network, recorded: Recorded, facts: Facts) -> Plan:
        """What the back-end keeps in the network for VMs that are no more, or for which no address of it is recorded,
        and how it is taken away."""

    def troubles(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Trouble, ...]:
        """What keeps VMs of these namespaces (None: of all) from an address of the network or from starting, though all
        that this program writes is as it should be; () where that may not be read."""

    def repairs(self, network: Network, namespace: str | None, facts: Facts) -> Plan:
        """What makes the back-end's own bookkeeping consistent again that an interrupted run has left, for VMs of this
        namespace (None: of any)."""
