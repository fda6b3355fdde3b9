"""Who holds which address of a network, and in which object that is written.

A network of up to 256 addresses has its allocations in its own status, a larger one in AddressBlocks of 256 addresses.
Addresses outside the CIDR are in the network's own status, however large it is, where every other network sees them.
`shard_of` is the one function that knows where an address's allocation is. Platform9 yoshi stored all of them in the
network's status, as `address: vm-name`; those of a large network that are still there count as held until they are
moved (`Allocations.legacy_allocations`).

The size of objects is bounded: etcd takes no request of more than 1.5 MiB, a full block has about 60 KB, and a network
has at most 256 addresses outside its CIDR. `ips rebuild` and initialization record what there is, also beyond that.
Objects shared with others (a DHCP server's ConfigMap, Calico's lists) grow with the addresses too; the API server
refuses one that is too large (413, or 500 with etcd's error), which ends the command like any other refusal.

An allocation of a kind that this version does not know counts as held, and only a newer version releases or moves it,
or deletes it with its network. A block with fields that this version does not know is not deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kubectl_yoshi.model.addresses import Address, Intervals, Span, address_of, parse_address, span_of, to_name_part
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.history import VM_KIND, PastAllocation, parse_history
from kubectl_yoshi.model.network import ADDRESSBLOCK, GROUP, Network
from kubectl_yoshi.model.objects import MAX_NAME_LENGTH, Json, ObjectRef, dig, new_object, owner_reference, short_hash
from kubectl_yoshi.model.printable import to_single_line

SHARD_SIZE = 256
"""Addresses per object: above this a status write costs more than it should (measured: docs/design.md)."""

VIRTUALMACHINE = VM_KIND
RESERVATION = "Reservation"
NETWORK = "Network"
"""Kind of a record of an address that the network itself needs, such as its DHCP server's; it goes with the network."""

KINDS = (VIRTUALMACHINE, RESERVATION, NETWORK)
UNKNOWN_KIND_REASON = "only a newer version of kubectl yoshi knows what that is"
UPGRADE_HINT = "Use a newer version of kubectl yoshi for this."
FIELDS = ("kind", "namespace", "name", "uid", "mac", "since", "note")


@dataclass(frozen=True)
class Allocation:
    """Who holds an address.

    Attributes:
        kind: "VirtualMachine", "Reservation" or "Network".
        namespace, name: of the VM or network; of a reservation, the namespace of its network and who made it (may be
            "").
        uid: of the VM; "" in a record of the original yoshi, which wrote the VM's name only.
        mac: the MAC address written to the VM with it; "" for none.
        since: when it was written, RFC 3339 in UTC.
        note: a person's words.
        as_written: the value in the object, for `test` operations.
    """

    kind: str
    namespace: str
    name: str
    uid: str = ""
    mac: str = ""
    since: str = ""
    note: str = ""
    as_written: Any = None

    @property
    def holder(self) -> str:
        """As people read it: "prod/web-1", "reserved (for the printer)"."""
        if self.kind == RESERVATION:
            return f"reserved ({to_single_line(self.note)})" if self.note else "reserved"
        if self.kind == NETWORK:
            return f"the network itself ({to_single_line(self.note)})"
        name = to_single_line(f"{self.namespace}/{self.name}")
        return name if self.is_known else f"{self.kind} {name}"

    @property
    def owner(self) -> str:
        """The VM, "namespace/name", as outcomes are told apart (see Change); "" where it is no VM that has it."""
        return f"{self.namespace}/{self.name}" if self.kind == VIRTUALMACHINE else ""

    @property
    def is_known(self) -> bool:
        """Whether this version knows this kind of holder, and so when an address of it may be given back."""
        return self.kind in KINDS

    def to_json(self, existing: Allocation | None = None) -> Json:
        """The value to write; empty fields are left out.

        Args:
            existing: the record that stands there. If it has the same holder, what is in it that this version does not
                know
                stays: a newer one has written it.
        """
        value = {key: getattr(self, key) for key in FIELDS if getattr(self, key)}
        if (
            existing is None
            or not isinstance(existing.as_written, Mapping)
            or (existing.kind, existing.uid) != (self.kind, self.uid)
        ):
            return value
        return {key: part for key, part in existing.as_written.items() if key not in FIELDS} | value


def parse_allocation(value: Any, namespace: str) -> Allocation:
    """A value of status.allocations: a record, or the original's "vm-name" (a VM of the network's namespace)."""
    if isinstance(value, Mapping):
        fields = {key: str(value.get(key) or "") for key in FIELDS[1:]}
        return Allocation(str(value.get("kind") or VIRTUALMACHINE), **fields, as_written=value)
    return Allocation(VIRTUALMACHINE, namespace, str(value), as_written=value)


@dataclass(frozen=True)
class AllocationEntry:
    """A record where it is written: under this key of an object's status.allocations."""

    key: str
    record: Allocation


@dataclass(frozen=True, order=True)
class Shard:
    """The object that holds the records of a run of addresses.

    Attributes:
        ref: the NetworkWizard itself, or an AddressBlock.
        span: first and last address.
    """

    ref: ObjectRef
    span: Span

    @property
    def is_block(self) -> bool:
        """Whether it is an AddressBlock, which is made when first needed."""
        return self.ref.resource == ADDRESSBLOCK


def is_large(network: Network) -> bool:
    """Whether the network's records live in AddressBlocks."""
    if network.cidr is None:
        return False
    first, last = span_of(network.cidr)
    return last - first + 1 > SHARD_SIZE


def shard_of(network: Network, number: int) -> Shard:
    """Where an address's record lives."""
    if not is_large(network) or number not in network.cidr_addresses:
        return status_shard(network)
    return block_shard(network, number)


def block_shard(network: Network, number: int) -> Shard:
    """The AddressBlock of a large network in whose run an address is."""
    first = number - number % SHARD_SIZE
    return Shard(ADDRESSBLOCK.ref(block_name(network, first), network.namespace), (first, first + SHARD_SIZE - 1))


def status_shard(network: Network) -> Shard:
    """The network's own status: of a large network, for addresses outside its CIDR only."""
    is_small = network.cidr is not None and not is_large(network)
    return Shard(network.ref, span_of(network.cidr) if network.cidr and is_small else (0, 1 << 128))


def allocations_outside_cidr(network: Network) -> Mapping[Address, Allocation]:
    """The addresses outside a network's CIDR that it holds, as its own object says; all where it has no CIDR."""
    if not network.accepts_outside_cidr:
        return {}
    records = Allocations(network, {status_shard(network): network.raw}).records()
    outside = {number: record for number, record in records.items() if number not in network.cidr_addresses}
    return {network.address(number): record for number, record in outside.items()}


def count_addresses(network: Network, texts: Iterable[str]) -> dict[str, int]:
    """What the status of a small network counts that holds these addresses: `used`, and `free` where it has a CIDR.

    Addresses outside the CIDR are used, but leave as many free as before.
    """
    held = list(texts)
    if network.cidr is None:
        return {"used": len(held)}
    outside = 0
    if network.accepts_outside_cidr:
        outside = sum(1 for number, _ in Allocations(network, {}).numbers(held) if number not in network.cidr_addresses)
    return {"used": len(held), "free": max(network.usable.size - (len(held) - outside), 0)}


def block_name(network: Network, first: int) -> str:
    """The AddressBlock's name: the network's, then its first address: "big.10.133.4.0", "six.fd00-0133-…-0100".

    Of a network whose name leaves no room for that, a digest stands for the end of its name.
    """
    address = address_of(first, network.version)
    suffix = f".{to_name_part(address)}"
    name = network.name
    if len(name) + len(suffix) > MAX_NAME_LENGTH:
        digest = short_hash([name])
        name = f"{name[: MAX_NAME_LENGTH - len(suffix) - len(digest) - 1].rstrip('-.')}-{digest}"
    return name + suffix


def block_label(network: Network) -> tuple[str, str]:
    """The label, and its value, of every AddressBlock of a network; networks with long names may share it."""
    return f"{GROUP}/network", network.name[:63].rstrip("-.")


def build_block(network: Network, shard: Shard) -> Json:
    """The AddressBlock object to create; it goes away with its network (ownerReference)."""
    spec = {
        "network": network.name,
        "networkUID": network.uid,
        "first": str(address_of(shard.span[0], network.version)),
        "size": SHARD_SIZE,
    }
    owners = [owner_reference(network.raw)]
    return new_object(shard.ref, {"spec": spec}, labels=dict([block_label(network)]), ownerReferences=owners)


def iter_shards(network: Network, start: int = 0) -> Iterator[Shard]:
    """Every shelf that has usable addresses, in ascending order from the one of an address on; then those below it.

    One shelf for a small network. Of a large one nothing is enumerated in advance.
    """
    if not is_large(network):
        yield shard_of(network, 0)
        return
    start_block = start // SHARD_SIZE
    blocks = Intervals.from_spans(
        (first // SHARD_SIZE, last // SHARD_SIZE) for first, last in network.usable.spans
    ).spans
    for first, last in (
        *((max(first, start_block), last) for first, last in blocks),
        *((first, min(last, start_block - 1)) for first, last in blocks),
    ):
        for number in range(first, last + 1):
            yield shard_of(network, number * SHARD_SIZE)


@dataclass(frozen=True)
class SearchHint:
    """What the status of a large network is to tell whoever looks for a free address next.

    Attributes:
        start: an address of the block in which to begin.
        contended_at: when somebody was faster (RFC 3339); "" where nobody was.
    """

    start: int
    contended_at: str = ""


@dataclass(frozen=True)
class Allocations:
    """The records of a network, as far as its shelves were read.

    Attributes:
        network: whose they are.
        objects: shelf -> its object as read; None for an AddressBlock that does not exist.
    """

    network: Network
    objects: Mapping[Shard, Json | None]

    def records(self) -> Mapping[int, Allocation]:
        """Address -> record, of every shelf that was read, and unmoved ones, to which a shelf's are preferred.

        A key that is no address that the network may hold is left out.
        """
        return self._records

    @cached_property
    def _records(self) -> dict[int, Allocation]:
        return {number: entry.record for number, entry in {**self.legacy_allocations, **self.shard_entries}.items()}

    @cached_property
    def shard_entries(self) -> dict[int, AllocationEntry]:
        """What is on the shelves that were read."""
        found: dict[int, AllocationEntry] = {}
        for shard, obj in self.objects.items():
            entries = self._entries(obj)
            if is_large(self.network) and not shard.is_block:
                entries = {n: entry for n, entry in entries.items() if n not in self.network.cidr_addresses}
            found |= entries
        return found

    @cached_property
    def legacy_allocations(self) -> dict[int, AllocationEntry]:
        """What is in the status of a large network itself, where the original yoshi wrote it, of its CIDR."""
        if not is_large(self.network):
            return {}
        entries = self._entries(self.network.raw)
        return {number: entry for number, entry in entries.items() if number in self.network.cidr_addresses}

    def _entries(self, obj: Json | None) -> dict[int, AllocationEntry]:
        values = dig(obj, "status", "allocations") or {}
        namespace = self.network.namespace
        return {
            number: AllocationEntry(key, parse_allocation(values[key], namespace))
            for number, key in self.numbers(values)
        }

    def numbers(self, texts: Iterable[str]) -> Iterator[tuple[int, str]]:
        """The addresses that the network may hold among these, each with its text."""
        cidr, accepts_all = self.network.cidr, self.network.accepts_outside_cidr
        first, last = span_of(cidr) if cidr else (0, 0)
        for text in texts:
            try:
                address = parse_address(text)
            except UsageError:
                continue
            number = int(address)
            if cidr is None or (address.version == cidr.version and (accepts_all or first <= number <= last)):
                yield number, text

    def history_of(self, number: int) -> tuple[PastAllocation, ...]:
        """Who had an address before, the latest first; nobody where its shelf was not read."""
        obj = self.objects.get(shard_of(self.network, number))
        return parse_history(dig(obj, "status", "history", self.key_of(number)))

    @cached_property
    def last_holders(self) -> Mapping[int, PastAllocation]:
        """Address -> who had it last, of every address of these shelves that somebody had before."""
        found: dict[int, PastAllocation] = {}
        for obj in self.objects.values():
            for number, key in self.numbers(dig(obj, "status", "history") or {}):
                if history := parse_history(dig(obj, "status", "history", key)):
                    found[number] = history[0]
        return found

    def held_by(self, namespace: str, name: str) -> Mapping[int, Allocation]:
        """The records of VMs of that name, whatever their uid, as far as shelves were read."""
        return self._held_by.get((namespace, name), {})

    @cached_property
    def _held_by(self) -> dict[tuple[str, str], dict[int, Allocation]]:
        found: dict[tuple[str, str], dict[int, Allocation]] = {}
        for number, record in self._records.items():
            if record.kind == VIRTUALMACHINE:
                found.setdefault((record.namespace, record.name), {})[number] = record
        return found

    def key_of(self, number: int) -> str:
        """The address as the map's key: as it was written where it is there, in canonical form otherwise."""
        entry = self.shard_entries.get(number)
        return entry.key if entry else str(self.address(number))

    def address(self, number: int) -> Address:
        """The address object of an integer of this ledger."""
        return self.network.address(number)

    def with_objects(self, more: Mapping[Shard, Json | None]) -> Allocations:
        """This ledger with shelves read anew."""
        return replace(self, objects={**self.objects, **more})
