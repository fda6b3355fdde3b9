"""What is wanted of an attachment, and all that is at hand while one plan for it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Backend, How, Use, Uses
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Entry, Ledger, Record, SearchHint, Shelf
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.nic import ANY_NIC, Nic
from kubectl_yoshi.model.objects import Name
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import open_shelves


@dataclass(frozen=True)
class Given:
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
        given: the address that each VM has already, outside the ledger; it is the one asked for.
        only_news: say nothing but what it needs of a VM that has all; the rest was said when it was attached.
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
    nic: Nic = ANY_NIC
    given: tuple[Given, ...] = ()
    only_news: bool = False
    foreseen: bool = False

    @property
    def reads(self) -> tuple[Read, ...]:
        """The reads that bring the VMs."""
        return tuple(Read(VM, namespace, name) for namespace, name in self.vms)


class Desk:
    """What is at hand while one plan is made. What is looked up for each VM is found without a search.

    Attributes:
        request, network, backend, facts, attempt: what the plan is made from.
        vms: the VMs that are there, in the order in which they were named.
        uses: what the cluster shows of the network's addresses.
        ledger: as far as shelves were opened.
        records: what the opened shelves say.
        hint: for whoever chooses an address next; None where none was chosen.
    """

    def __init__(
        self, request: AttachRequest, network: Network, backend: Backend, facts: Facts, attempt: Attempt, vms: list[Vm]
    ) -> None:
        self.request = request
        self.network = network
        self.backend = backend
        self.facts = facts
        self.attempt = attempt
        self.vms = vms
        self.uses = Uses()
        self.ledger = Ledger(network, {})
        self.records: dict[int, Record] = {}
        self.hint: SearchHint | None = None
        self._given = {given.vm: given for given in request.given}
        self._of_uid: dict[str, set[int]] = {}
        self._of_name: dict[tuple[str, str], set[int]] = {}
        self._of_mac: dict[str, set[tuple[str, str]]] = {}
        self._had: dict[tuple[str, str], list[tuple[str, int]]] = {}
        self._note_down(self.ledger.unmoved)

    def open(self, shelves: Iterable[Shelf]) -> Ledger:
        """These shelves, which are at hand from now on.

        Raises:
            NeedMore: some were not read yet.
            Refused: some may not be read.
        """
        opened = open_shelves(self.network, shelves, self.facts)
        new = {shelf: obj for shelf, obj in opened.objects.items() if shelf not in self.ledger.objects}
        if new:
            self.ledger = self.ledger.with_objects(new)
            self._note_down(opened.shelved)
            for number, last in Ledger(self.network, new).last_had.items():
                self._had.setdefault((last.namespace, last.name), []).append((last.until, number))
        return opened

    def _note_down(self, entries: Mapping[int, Entry]) -> None:
        for number, entry in entries.items():
            record = self.records[number] = entry.record
            self._of_uid.setdefault(record.uid, set()).add(number)
            if record.mac:
                self._of_mac.setdefault(record.mac.lower(), set()).add((record.namespace, record.name))
            if record.kind == VIRTUALMACHINE:
                self._of_name.setdefault((record.namespace, record.name), set()).add(number)

    def asked(self, vm: Vm) -> int | None:
        """The address asked for the VM, as a number; None for any."""
        address = self.asked_address(vm)
        return None if address is None else int(address)

    def asked_address(self, vm: Vm) -> Address | None:
        """The address asked for the VM; None for any."""
        given = self._given.get((vm.namespace, vm.name))
        return given.address if given else self.request.address

    def given(self, vm: Vm) -> tuple[Address, ...]:
        """The address that the VM has already, outside the ledger; () where none was told."""
        given = self._given.get((vm.namespace, vm.name))
        return (given.address,) if given else ()

    def asked_mac(self, vm: Vm) -> str | None:
        """The MAC address asked for it; see AttachRequest."""
        given = self._given.get((vm.namespace, vm.name))
        return given.mac if given and given.mac else self.request.mac

    def others_with_mac(self, vm: Vm, mac: str) -> list[Name]:
        """The VMs of other names with which the ledger, as far as it was read, has a MAC address."""
        return sorted(self._of_mac.get(mac.lower(), set()) - {(vm.namespace, vm.name)})

    def note(self, vm: Vm, record: Record | None) -> str:
        """What the VM's record is to note: as it was told, or as it stands."""
        given = self._given.get((vm.namespace, vm.name))
        return given.note if given else record.note if record is not None and record.uid == vm.uid else ""

    def carried(self, vm: Vm) -> list[int]:
        """The addresses of the network that the VM is made to have."""
        mine = self.uses.of(vm.namespace, vm.name, vm.uid)
        return [use.number for use in mine if use.how is How.WANTED]

    def running(self, vm: Vm) -> set[int]:
        """The addresses that it runs with."""
        mine = self.uses.of(vm.namespace, vm.name, vm.uid)
        return {use.number for use in mine if use.how is How.RUNNING}

    def unproven(self, vm: Vm) -> set[int]:
        """What it carries and neither the ledger gives to it nor it runs with: somebody else may have it."""
        return set(self.carried(vm)).difference(self.own(vm), self.running(vm))

    def strangers(self, number: int, vm: Vm) -> list[Use]:
        """Uses of an address by anyone but this VM (one made anew under its name is a stranger while it runs)."""
        return [use for use in self.uses.at(number) if not use.is_of(vm.namespace, vm.name, vm.uid)]

    def own(self, vm: Vm) -> list[int]:
        """The addresses that the ledger, as far as it was read, gives to the VM."""
        numbers = self._of_uid.get(vm.uid, ()) if vm.uid else ()
        return sorted(number for number in numbers if self.records[number].uid == vm.uid)

    def has_all(self, vm: Vm) -> bool:
        """Whether nothing is left to write: its template carries the address that it is to have and the ledger's."""
        has = set(self.carried(vm)).intersection(self.own(vm))
        asked = self.asked(vm)
        return self.backend.on_template and (bool(has) if asked is None else asked in has)

    def had(self, vm: Vm) -> list[int]:
        """The addresses that a VM of this name was the last to have, as far as shelves were read, the latest first."""
        return [number for _, number in sorted(self._had.get((vm.namespace, vm.name), ()), reverse=True)]

    def former(self, vm: Vm) -> list[int]:
        """The addresses recorded for an earlier VM of this name (or by the original, which wrote no uid)."""
        name = vm.namespace, vm.name
        records = {number: self.records[number] for number in self._of_name.get(name, ())}
        return sorted(n for n, r in records.items() if (r.namespace, r.name) == name and r.uid != vm.uid)
