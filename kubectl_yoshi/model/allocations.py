"""Who holds which address of a network, and in which object that is written.

A network of up to 256 addresses has its allocations in its own status, a larger one in AddressBlocks of 256 addresses.
Addresses outside the CIDR are in the network's own status, however large it is, where every other network sees them.
`shard_of` is the one function that knows where an address's allocation is. Platform9 yoshi stored all of them in the
network's status, as `address: vm-name`. Such a legacy allocation is read as an `Allocation` like any other; those of a
large network count as held where they are. The next write of the address converts it (`Allocation.is_legacy`).

The size of objects is bounded: etcd takes no request of more than 1.5 MiB, a full block has about 60 KB, and a network
has at most 256 addresses outside its CIDR. `ips rebuild` and initialization record what there is, also beyond that.
Objects shared with others (a DHCP server's ConfigMap, Calico's lists) grow with the addresses too; the API server
refuses one that is too large (413, or 500 with etcd's error), which ends the command like any other refusal.

An allocation of a kind that this version does not know counts as held, and only a newer version releases or moves it,
or deletes it with its network. A block with fields that this version does not know is not deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kubectl_yoshi.model.addresses import Address, Intervals, Span, address_of, parse_address, span_of, to_name_part
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.history import VM_KIND, PastAllocation, parse_history
from kubectl_yoshi.model.network import ADDRESSBLOCK, GROUP, Network
from kubectl_yoshi.model.objects import (
    MAX_NAME_LENGTH,
    Json,
    NamespacedName,
    ObjectRef,
    dig,
    new_object,
    owner_reference,
    short_hash,
)
from kubectl_yoshi.model.printable import to_single_line

SHARD_SIZE = 256
"""Addresses per shard: the cost of a status write grows with the size of the object (measured: docs/design.md)."""

VIRTUALMACHINE = VM_KIND
RESERVATION = "Reservation"
NETWORK = "Network"
"""Kind of the allocation of an address that the network itself needs, such as its DHCP server's.

It is deleted with the network.
"""

KINDS = (VIRTUALMACHINE, RESERVATION, NETWORK)
UNKNOWN_KIND_REASON = "only a newer version of kubectl yoshi supports this kind of allocation"
UPGRADE_HINT = "Use a newer version of kubectl yoshi for this."
FIELDS = {
    "kind": "kind",
    "namespace": "namespace",
    "name": "name",
    "uid": "uid",
    "mac": "mac",
    "since": "since",
    "note": "note",
    "for": "reserved_for",
}
"""The key in the object of each attribute of an Allocation."""


RESERVED_FOR = re.compile(r"vm/[^/]+/[^/]+|namespace/[^/]+")


def reserved_for_vm(namespace: str, name: str) -> str:
    """Return the value of Allocation.reserved_for for a VM."""
    return f"vm/{namespace}/{name}"


@dataclass(frozen=True)
class Allocation:
    """The assignment of an address to its holder.

    Attributes:
        kind: "VirtualMachine", "Reservation" or "Network".
        namespace, name: of the VM or network; for a reservation, the namespace of its network and the user who created
            it (may be "").
        uid: of the VM; "" in an allocation by Platform9 yoshi, which recorded the VM's name only.
        mac: the MAC address written to the VM along with the address; "" for none.
        since: when it was allocated, RFC 3339 in UTC.
        note: free text from a user.
        reserved_for: for whom the address is reserved: "vm/NAMESPACE/NAME" or "namespace/NAMESPACE"; "" for nobody in
            particular. An allocation of a VM keeps it from the reservation that it replaced, which is restored unless
            a user releases the address.
        as_written: the value in the object, for `test` operations (RFC 6902).
        is_legacy: whether Platform9 yoshi's allocation of the address is still there, alone or beside a current one,
            and must be converted.
    """

    kind: str
    namespace: str
    name: str
    uid: str = ""
    mac: str = ""
    since: str = ""
    note: str = ""
    reserved_for: str = ""
    as_written: Any = None
    is_legacy: bool = False

    @property
    def holder(self) -> str:
        """Return the holder as printed: "prod/web-1", "reserved for VM prod/web-1 (printer)"."""
        if self.kind == RESERVATION:
            kind, _, name = self.reserved_for.partition("/")
            text = f"reserved for {'VM' if kind == 'vm' else kind} {to_single_line(name)}" if kind else "reserved"
            return f"{text} ({to_single_line(self.note)})" if self.note else text
        if self.kind == NETWORK:
            return f"the network itself ({to_single_line(self.note)})"
        name = to_single_line(f"{self.namespace}/{self.name}")
        return name if self.is_known else f"{self.kind} {name}"

    @property
    def owner(self) -> str:
        """Return the VM, "namespace/name", which groups results (see Change); "" if the holder is not a VM."""
        return f"{self.namespace}/{self.name}" if self.kind == VIRTUALMACHINE else ""

    @property
    def is_known(self) -> bool:
        """Return whether this version knows the kind of holder, and therefore when its address may be released."""
        return self.kind in KINDS

    @property
    def reserved_namespace(self) -> str:
        """Return the namespace that the address is reserved for, or that of the VM; "" for none."""
        return self.reserved_for.split("/")[1] if self.kind == RESERVATION and self.reserved_for else ""

    def vm_namespace(self, network: Network) -> str:
        """Return the namespace whose VMs the allocation concerns; that of the network if it names none."""
        if self.kind == VIRTUALMACHINE:
            return self.namespace
        return self.reserved_namespace or network.namespace

    @property
    def reserved_vm(self) -> NamespacedName | None:
        """Return the VM that the address is reserved for; None if it is not reserved, or not for one VM."""
        kind, *names = self.reserved_for.split("/")
        return (names[0], names[1]) if self.kind == RESERVATION and kind == "vm" else None

    def is_reserved_for(self, namespace: str, name: str) -> bool:
        """Return whether the address is reserved for a VM, or for its namespace."""
        wanted = (reserved_for_vm(namespace, name), f"namespace/{namespace}")
        return self.kind == RESERVATION and self.reserved_for in wanted

    def to_reservation(self, network: Network, reserved_for: str, since: str) -> Allocation:
        """Return the reservation that this allocation becomes.

        Args:
            network: that of the address.
            reserved_for: see the attribute.
            since: the time of the reservation (RFC 3339).
        """
        return Allocation(RESERVATION, network.namespace, "", since=since, note=self.note, reserved_for=reserved_for)

    def to_json(self, existing: Allocation | None = None) -> Json:
        """Return the value to write, without empty fields.

        Args:
            existing: the allocation that is replaced. If it has the same holder, its unknown fields stay: a newer
                version wrote them.
        """
        value = {key: text for key, attribute in FIELDS.items() if (text := getattr(self, attribute))}
        if (
            existing is None
            or not isinstance(existing.as_written, Mapping)
            or (existing.kind, existing.uid) != (self.kind, self.uid)
        ):
            return value
        return {key: part for key, part in existing.as_written.items() if key not in FIELDS} | value


def parse_allocation(value: Any, namespace: str) -> Allocation:
    """Parse a value of status.allocations.

    Args:
        value: an allocation, or the form of Platform9 yoshi: the name of a VM in the network's namespace.
        namespace: the network's namespace.
    """
    if isinstance(value, Mapping):
        fields: dict[str, Any] = {attribute: str(value.get(key) or "") for key, attribute in FIELDS.items()}
        fields["kind"] = fields["kind"] or VIRTUALMACHINE
        if not RESERVED_FOR.fullmatch(fields["reserved_for"]):
            fields["reserved_for"] = ""
        return Allocation(**fields, as_written=value)
    return Allocation(VIRTUALMACHINE, namespace, str(value), as_written=value, is_legacy=True)


@dataclass(frozen=True)
class AllocationEntry:
    """An allocation and its key in an object's status.allocations."""

    key: str
    record: Allocation


@dataclass(frozen=True, order=True)
class Shard:
    """The object that records the allocations of a span of addresses.

    Attributes:
        ref: the NetworkWizard itself, or an AddressBlock.
        span: the first and last address.
    """

    ref: ObjectRef
    span: Span

    @property
    def is_block(self) -> bool:
        """Return whether the shard is an AddressBlock, which is created when it is first needed."""
        return self.ref.resource == ADDRESSBLOCK


def is_large(network: Network) -> bool:
    """Return whether the network's allocations are recorded in AddressBlocks."""
    if network.cidr is None:
        return False
    first, last = span_of(network.cidr)
    return last - first + 1 > SHARD_SIZE


def shard_of(network: Network, number: int) -> Shard:
    """Return the shard that records an address."""
    if not is_large(network) or number not in network.cidr_addresses:
        return status_shard(network)
    return block_shard(network, number)


def block_shard(network: Network, number: int) -> Shard:
    """Return the AddressBlock of a large network whose span contains an address."""
    first = number - number % SHARD_SIZE
    return Shard(ADDRESSBLOCK.ref(block_name(network, first), network.namespace), (first, first + SHARD_SIZE - 1))


def status_shard(network: Network) -> Shard:
    """Return the network's own status as a shard; a large network records only addresses outside its CIDR there."""
    is_small = network.cidr is not None and not is_large(network)
    return Shard(network.ref, span_of(network.cidr) if network.cidr and is_small else (0, 1 << 128))


def allocations_outside_cidr(network: Network) -> Mapping[Address, Allocation]:
    """Return the allocations outside a network's CIDR, from its own object; all of them if it has no CIDR."""
    if not network.accepts_outside_cidr:
        return {}
    records = Allocations(network, {status_shard(network): network.raw}).records()
    outside = {number: record for number, record in records.items() if number not in network.cidr_addresses}
    return {network.address(number): record for number, record in outside.items()}


COUNTERS = ("size", "used", "free", "usePercent")
"""The counters in the status of a network."""
MAX_COUNT = (1 << 63) - 1
"""The largest integer that the API server stores; a network of IPv6 may have more addresses."""


def compute_counters(network: Network, used: int, outside: int) -> dict[str, int]:
    """Return the counters in the status of a network.

    Args:
        network: the network.
        used: the number of its allocations.
        outside: how many of these are outside its CIDR. They count as used, but do not reduce `free`.

    Returns:
        `used`; if the network has a CIDR, also `size`, the number of addresses that can be assigned, `free`, and
        `usePercent`, rounded up as df does.
    """
    if network.cidr is None:
        return {"used": used}
    size, inside = network.usable.size, used - outside
    percent = min(-(-100 * inside // size), 100) if size else 100
    counts = {"size": size, "used": used, "free": max(size - inside, 0), "usePercent": percent}
    return {key: min(count, MAX_COUNT) for key, count in counts.items()}


def count_addresses(network: Network, texts: Iterable[str]) -> dict[str, int]:
    """Return the counters in the status of a small network that holds these addresses."""
    held = list(texts)
    outside = 0
    if network.accepts_outside_cidr:
        outside = sum(1 for number, _ in Allocations(network, {}).numbers(held) if number not in network.cidr_addresses)
    return compute_counters(network, len(held), outside)


def block_name(network: Network, first: int) -> str:
    """Return the AddressBlock's name: the network's, then its first address: "big.10.133.4.0", "six.fd00-0133-…-0100".

    If that exceeds the length limit of names, a digest replaces the end of the network's name.
    """
    address = address_of(first, network.version)
    suffix = f".{to_name_part(address)}"
    name = network.name
    if len(name) + len(suffix) > MAX_NAME_LENGTH:
        digest = short_hash([name])
        name = f"{name[: MAX_NAME_LENGTH - len(suffix) - len(digest) - 1].rstrip('-.')}-{digest}"
    return name + suffix


def block_label(network: Network) -> tuple[str, str]:
    """Return the label (key, value) of every AddressBlock of a network; networks with long names may share it."""
    return f"{GROUP}/network", network.name[:63].rstrip("-.")


def build_block(network: Network, shard: Shard) -> Json:
    """Return the AddressBlock to create; its ownerReference makes Kubernetes delete it with its network."""
    spec = {
        "network": network.name,
        "networkUID": network.uid,
        "first": str(address_of(shard.span[0], network.version)),
        "size": SHARD_SIZE,
    }
    owners = [owner_reference(network.raw)]
    return new_object(shard.ref, {"spec": spec}, labels=dict([block_label(network)]), ownerReferences=owners)


def iter_shards(network: Network, start: int = 0) -> Iterator[Shard]:
    """Yield every shard that has usable addresses, ascending from the one that contains `start`, then those below it.

    A small network has one shard. The shards of a large network are not enumerated in advance.
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
    """The fields in the status of a large network that guide the next search for a free address.

    Attributes:
        start: an address of the block in which to begin.
        contended_at: when another writer allocated the selected address first (RFC 3339); "" if none did.
    """

    start: int
    contended_at: str = ""


@dataclass(frozen=True)
class Allocations:
    """The allocations of a network, as far as its shards were read.

    Attributes:
        network: the network.
        objects: shard -> its object as read; None for an AddressBlock that does not exist.
    """

    network: Network
    objects: Mapping[Shard, Json | None]

    def records(self) -> Mapping[int, Allocation]:
        """Return address -> allocation, from every shard that was read, and legacy allocations.

        An allocation in a shard takes precedence over a legacy one. Keys that are not addresses the network may hold
        are left out.
        """
        return self._records

    @cached_property
    def _records(self) -> dict[int, Allocation]:
        legacy = self.legacy_allocations
        return {
            number: replace(entry.record, is_legacy=True) if number in legacy else entry.record
            for number, entry in {**legacy, **self.shard_entries}.items()
        }

    @cached_property
    def shard_entries(self) -> dict[int, AllocationEntry]:
        """Return the entries of the shards that were read."""
        found: dict[int, AllocationEntry] = {}
        for shard, obj in self.objects.items():
            entries = self._entries(obj)
            if is_large(self.network) and not shard.is_block:
                entries = {n: entry for n, entry in entries.items() if n not in self.network.cidr_addresses}
            found |= entries
        return found

    @cached_property
    def legacy_allocations(self) -> dict[int, AllocationEntry]:
        """Return the entries for the CIDR of a large network in its own status, where Platform9 yoshi recorded them."""
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
        """Yield the addresses among these texts that the network may hold, each with its text."""
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
        """Return the past allocations of an address, latest first; () if its shard was not read."""
        obj = self.objects.get(shard_of(self.network, number))
        return parse_history(dig(obj, "status", "history", self.key_of(number)))

    @cached_property
    def last_holders(self) -> Mapping[int, PastAllocation]:
        """Return address -> latest past allocation, for every address in these shards that has one."""
        found: dict[int, PastAllocation] = {}
        for obj in self.objects.values():
            for number, key in self.numbers(dig(obj, "status", "history") or {}):
                if history := parse_history(dig(obj, "status", "history", key)):
                    found[number] = history[0]
        return found

    def held_by(self, namespace: str, name: str) -> Mapping[int, Allocation]:
        """Return the allocations of VMs of that name, whatever their uid, from the shards that were read."""
        return self._held_by.get((namespace, name), {})

    @cached_property
    def _held_by(self) -> dict[tuple[str, str], dict[int, Allocation]]:
        found: dict[tuple[str, str], dict[int, Allocation]] = {}
        for number, record in self._records.items():
            if record.kind == VIRTUALMACHINE:
                found.setdefault((record.namespace, record.name), {})[number] = record
        return found

    def key_of(self, number: int) -> str:
        """Return the address's key in the map: as written if it exists, in canonical form otherwise."""
        entry = self.shard_entries.get(number)
        return entry.key if entry else str(self.address(number))

    def address(self, number: int) -> Address:
        """Convert an integer to an address of this network."""
        return self.network.address(number)

    def with_objects(self, more: Mapping[Shard, Json | None]) -> Allocations:
        """Return a copy with these shards replaced by newer reads."""
        return replace(self, objects={**self.objects, **more})
