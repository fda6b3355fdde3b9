"""What is wanted of an attachment, and all that is at hand while one plan for it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Backend, How, Use
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Ledger, Record, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.nic import ANY_NIC, Nic
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import open_shelves


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
    nic: Nic = ANY_NIC


@dataclass
class Desk:
    """What is at hand while one plan is made."""

    request: AttachRequest
    network: Network
    backend: Backend
    facts: Facts
    attempt: Attempt
    vms: list[Vm]
    uses: tuple[Use, ...] = ()
    ledger: Ledger = field(init=False)
    records: dict[int, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.network, {})

    def look_at(self, numbers: set[int]) -> None:
        """Reads the shelves of these addresses and what the cluster shows of their use."""
        shelves = {shelf_of(self.network, number) for number in numbers}
        self.ledger = self.ledger.with_objects(open_shelves(self.network, shelves, self.facts).objects)
        self.records = self.ledger.records()

    def carried(self, vm: Vm) -> list[int]:
        """The addresses of the network that the VM is made to have."""
        return [u.number for u in self.uses if u.how is How.WANTED and u.is_of(vm.namespace, vm.name, vm.uid)]

    def strangers(self, number: int, vm: Vm) -> list[Use]:
        """Uses of an address by anyone but this VM (one made anew under its name is a stranger while it runs)."""
        return [u for u in self.uses if u.number == number and not u.is_of(vm.namespace, vm.name, vm.uid)]

    def own(self, vm: Vm) -> list[int]:
        """The addresses that the ledger, as far as it was read, gives to the VM."""
        return sorted(number for number, record in self.records.items() if vm.uid and record.uid == vm.uid)

    def has_all(self, vm: Vm) -> bool:
        """Whether nothing is left to write: its template carries the address that it is to have and the ledger's."""
        has = set(self.carried(vm)).intersection(self.own(vm))
        asked = self.request.address
        return self.backend.on_template and (bool(has) if asked is None else int(asked) in has)

    def former(self, vm: Vm) -> list[int]:
        """The addresses recorded for an earlier VM of this name (or by the original, which wrote no uid)."""
        return sorted(
            number
            for number, record in self.records.items()
            if record.kind == VIRTUALMACHINE
            and (record.namespace, record.name) == (vm.namespace, vm.name)
            and record.uid != vm.uid
        )
