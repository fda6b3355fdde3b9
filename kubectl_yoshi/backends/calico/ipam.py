"""Calico's IPAM: IPAMBlocks and IPAMHandles, read, and released in the safe order.

From Calico 3.32 on an address belongs to a VM's handle, not to a pod: it stays when the VM stops, and whatever the
template's annotation says, the VM gets what its handle holds. So attach compares: where nothing of the VM runs, it
releases the old address in two writes, the block first (guarded by its resourceVersion), then the handle; the handle
alone would leave the VM with two addresses. Where the VM runs, attach refuses, or with `--restart` stops it, releases
and starts it. A VM that was stopped and then deleted leaves its address in Calico for ever; `ips gc` releases it in the
same way, and never anything of a VM that exists. `calicoctl ipam check` calls every stopped VM's address leaked; that
is wrong for handles named `*.vmi.*`. Tried with Calico's own programs: docs/design.md, "Calico's handles".

With the template first, a VM that is started after a kill would get the old address, which its template no longer has.
Between release and template no other VM gets the old address: its allocation still stands. If the VM starts just then,
it gets that address again, and the patch of its template, which tests the resourceVersion, is refused.

All VMs of a command release their addresses of one block by one PUT. It is built from edits (`Change.edit`), one for
each VM: on a conflict only the block is read again, the edits are applied to it, and the PUT is sent again at once, for
20 s at most (engine/apply.py). An edit releases an address only if the block holds it by the very attribute that was
read, since that is where Calico's CNI plugin writes which VM runs with it; otherwise that VM alone is looked at again.
An address that is free already was released by an earlier PUT whose answer was lost.

A run that dies between block and handle leaves a handle that counts an address which its block does not contain. To
Calico that is an allocation in progress: its CNI plugin waits for it, fails after a minute or more, again and again,
and the VM never starts (invariant I10). So handles and blocks are compared (`find_mismatches`) wherever addresses are
released or inspected. `repair_handle` removes what a handle counts too much, while no launcher pod of the VM exists,
whether or not the VM itself does. Calico increments the handle before it writes the block, so an allocation that really
is in progress looks the same; but there is none without a pod: the handle is read, then its blocks and the pods, and
the write has the handle's resourceVersion. An allocation that had incremented the handle has a pod which is seen then;
one that begins later changes the handle, and the write is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network

from kubectl_yoshi.backends.calico.api import CalicoApi
from kubectl_yoshi.model.access import required_accesses
from kubectl_yoshi.model.addresses import Cidr, Intervals, address_of, span_of
from kubectl_yoshi.model.errors import OutdatedError
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, name_of, resource_version_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import LAUNCHER_SELECTOR, POD, VMI, has_ended, list_launcher_pods

CNI_NETWORK = "k8s-pod-network"
"""The name of the CNI network in Calico's default configuration; part of every handle's name."""

_MAX_HANDLE_LENGTH = 128
MAX_NAMES_LENGTH = _MAX_HANDLE_LENGTH - len(f"{CNI_NETWORK}.vmi..")
"""Maximum total length, in characters, of a VM's namespace and name for which Calico can name a handle."""


@dataclass(frozen=True)
class IpamAllocation:
    """An address that a block assigns.

    Attributes:
        number, version: the address and its IP version (4 or 6).
        block: the IPAMBlock.
        handle: name of its handle; "" for none.
        namespace, name: the VM that it is assigned to; "" for none.
        vm_uid: that VM's uid if Calico recorded it (only while the VM runs).
        pod: namespace and name of the pod that it is assigned to; "" for none.
        released_at: when Calico released it, during its cool-down there (`ipCooldownSeconds`): it is then not assigned
            to anything, and Calico frees it when that time is over; "" otherwise.
    """

    number: int
    version: int
    block: ObjectRef
    handle: str
    namespace: str = ""
    name: str = ""
    vm_uid: str = ""
    pod: tuple[str, str] = ("", "")
    released_at: str = ""

    @property
    def holder(self) -> str:
        """Return the holder as printed: the VM, else the pod, else the handle."""
        if self.name:
            return f"{self.namespace}/{self.name}"
        return str(POD.ref(self.pod[1], self.pod[0])) if self.pod[1] else self.handle or "?"


def handle_name(namespace: str, name: str) -> str:
    """Return the name of a VM's handle; "" if it would exceed Calico's limit."""
    text = f"{CNI_NETWORK}.vmi.{namespace}.{name}".lower()
    return text if len(text) <= _MAX_HANDLE_LENGTH else ""


def parse_handle_name(handle: str) -> tuple[str, str]:
    """Return namespace and name of the VM that a handle is for; ("", "") for a pod's handle.

    A namespace has no dots, so it ends at the first dot after ".vmi.".
    """
    prefix = f"{CNI_NETWORK}.vmi."
    if not handle.startswith(prefix):
        return "", ""
    namespace, _, name = handle[len(prefix) :].partition(".")
    return namespace, name


def block_name(cidr: Cidr) -> str:
    """Return the name of the IPAMBlock with this CIDR: "10-133-0-0-26"."""
    return str(cidr).replace(".", "-").replace(":", "-").replace("/", "-")


def block_cidr(number: int, version: int, block_size: int) -> Cidr:
    """Return the CIDR of the block that contains an address; block_size is a prefix length."""
    return ip_network((int(address_of(number, version)), block_size), strict=False)


def iter_block_allocations(block: Json, ref: ObjectRef) -> Iterator[IpamAllocation]:
    """Yield the addresses that a block assigns."""
    cidr = ip_network(str(dig(block, "spec", "cidr")), strict=False)
    first = span_of(cidr)[0]
    attributes = dig(block, "spec", "attributes", default=[])
    for ordinal, index in enumerate(dig(block, "spec", "allocations", default=[])):
        if index is None:
            continue
        attribute = attributes[index] if 0 <= index < len(attributes) else {}
        handle = str(attribute.get("handle_id") or "")
        owner = attribute.get("secondary") or {}
        namespace, name = parse_handle_name(handle)
        if not name and owner.get("vmi-name"):
            namespace, name = owner.get("namespace", ""), owner["vmi-name"]
        pod = (owner.get("namespace", ""), owner["pod"]) if owner.get("pod") else ("", "")
        released_at = str(attribute.get("releasedAt") or "")
        yield IpamAllocation(
            first + ordinal, cidr.version, ref, handle, namespace, name, owner.get("vm-uid", ""), pod, released_at
        )


def restrict_to_handle(block: Json, handle: str) -> Json:
    """Return a copy of a block in which only the addresses of one handle are assigned."""
    attributes = dig(block, "spec", "attributes", default=[])
    kept = {index for index, one in enumerate(attributes) if str(one.get("handle_id") or "").lower() == handle}
    allocations = dig(block, "spec", "allocations", default=[])
    restricted = [index if index in kept else None for index in allocations]
    return {**block, "spec": {**block["spec"], "allocations": restricted}}


def list_block_allocations(within: Intervals, version: int, api: CalicoApi, snapshot: Snapshot) -> list[IpamAllocation]:
    """Return the addresses in a set that are assigned by the blocks that were read."""
    found = []
    for block in snapshot.list_objects(api.block):
        if dig(block, "spec", "deleted"):
            continue
        found += [
            allocation
            for allocation in iter_block_allocations(block, api.block.ref(name_of(block)))
            if allocation.version == version and allocation.number in within
        ]
    return found


def handle_queries(api: CalicoApi, namespace: str, name: str) -> tuple[Query, ...]:
    """Return the query for a VM's handle; () if Calico cannot name one."""
    handle = handle_name(namespace, name)
    return (Query(api.handle, name=handle),) if handle else ()


def handle_block_queries(api: CalicoApi, handle: Json) -> tuple[Query, ...]:
    """Return the queries for the blocks in which a handle holds addresses."""
    cidrs = dig(handle, "spec", "block", default={})
    return tuple(Query(api.block, name=block_name(ip_network(cidr, strict=False))) for cidr in cidrs)


def find_vm_allocations(
    api: CalicoApi, namespace: str, name: str, snapshot: Snapshot
) -> tuple[list[IpamAllocation], str]:
    """Return the addresses that Calico holds for a VM of that name through its handle.

    Returns:
        the addresses, and why they may be incomplete because something could not be read ("" if they are complete).
    """
    queries = handle_queries(api, namespace, name)
    found: list[IpamAllocation] = []
    for handle in snapshot.lookup(*queries):
        blocks = handle_block_queries(api, handle)
        for block in snapshot.lookup(*blocks):
            ref = api.block.ref(name_of(block))
            found += [
                allocation
                for allocation in iter_block_allocations(block, ref)
                if allocation.handle.lower() == name_of(handle)
            ]
        if reason := snapshot.unreadable_reason(*blocks):
            return found, reason
    return found, snapshot.unreadable_reason(*queries)


def running_reason(namespace: str, name: str, snapshot: Snapshot) -> str:
    """Return what runs of a VM of that name, so that its address must not be released; "" if nothing does.

    An instance that has ended does not count: KubeVirt keeps it with the run strategies Manual and Once.
    """
    pods_query = Query(POD, namespace, label_selector=LAUNCHER_SELECTOR)
    vmi_query = Query(VMI, namespace, name)
    snapshot.lookup(vmi_query, pods_query)
    if reason := snapshot.unreadable_reason(vmi_query, pods_query):
        return f"cannot check whether it runs: {reason}"
    vmi = snapshot.get_object(VMI, name, namespace)
    if vmi is not None and not has_ended(vmi):
        return f"{VMI.ref(name, namespace)} exists"
    pods = list_launcher_pods(namespace, name, snapshot)
    return f"{POD.ref(name_of(pods[0]), namespace)} exists" if pods else ""


@dataclass(frozen=True)
class Mismatch:
    """An inconsistency between a handle and a block.

    Attributes:
        handle: the IPAMHandle's name.
        cidr: the block's CIDR.
        counted: how many addresses of the block the handle counts; 0 if the handle does not exist.
        contained: how many addresses of the block have the handle's name; 0 if the block does not exist.
    """

    handle: str
    cidr: str
    counted: int
    contained: int

    @property
    def is_excess(self) -> bool:
        """Return whether the handle counts addresses that the block does not contain.

        Calico treats that as an allocation in progress: its CNI plugin waits for it until it fails.
        """
        return self.counted > self.contained

    def __str__(self) -> str:
        if self.is_excess:
            counts = f"IPAMHandle {self.handle} counts {_format_count(self.counted - self.contained)}"
            return f"{counts} that block {self.cidr} does not contain"
        contains = f"block {self.cidr} contains {_format_count(self.contained)} of IPAMHandle {self.handle}"
        return f"{contains}, which counts {self.counted}"


def _format_count(count: int) -> str:
    return f"{count} address{'' if count == 1 else 'es'}"


def count_by_handle(blocks: Iterable[Json]) -> dict[str, dict[str, int]]:
    """Return handle (lower case) -> CIDR of each block -> number of the block's addresses that belong to the handle."""
    found: dict[str, dict[str, int]] = {}
    for block in blocks:
        if dig(block, "spec", "deleted"):
            continue
        cidr = _normalize_cidr(str(dig(block, "spec", "cidr")))
        attributes = dig(block, "spec", "attributes", default=[])
        for index in dig(block, "spec", "allocations", default=[]):
            attribute = attributes[index] if index is not None and 0 <= index < len(attributes) else {}
            if handle := str(attribute.get("handle_id") or "").lower():
                counts = found.setdefault(handle, {})
                counts[cidr] = counts.get(cidr, 0) + 1
    return found


def get_handle_counts(handle: Json) -> dict[str, int]:
    """Return CIDR -> number of addresses of that block that a handle counts."""
    if dig(handle, "spec", "deleted"):
        return {}
    return {_normalize_cidr(cidr): int(count) for cidr, count in dig(handle, "spec", "block", default={}).items()}


def _normalize_cidr(cidr: str) -> str:
    return str(ip_network(cidr, strict=False))


def compare_counts(name: str, counted: Mapping[str, int], contained: Mapping[str, int]) -> list[Mismatch]:
    """Return the differences between a handle and the blocks that were read.

    Args:
        name: the handle's name.
        counted: see `get_handle_counts`; {} if the handle does not exist.
        contained: CIDR -> number of addresses of that block that belong to the handle; a missing block contains none.
    """
    cidrs = dict.fromkeys([*counted, *contained])
    found = (Mismatch(name, cidr, counted.get(cidr, 0), contained.get(cidr, 0)) for cidr in cidrs)
    return [mismatch for mismatch in found if mismatch.counted != mismatch.contained]


def find_mismatches(
    api: CalicoApi, name: str, snapshot: Snapshot, read_number: int = 0, cidrs: Iterable[str] = ()
) -> tuple[Json | None, list[Mismatch]]:
    """Return a handle and its differences from its blocks; none are returned if something could not be read.

    Args:
        api: the API through which Calico is read.
        name: the handle's name.
        snapshot: the state of the cluster.
        read_number: see Query; if it is not 0, the blocks are read after the handle.
        cidrs: CIDRs of blocks to compare in addition to those that the handle counts addresses of.
    """
    query = Query(api.handle, name=name, read_number=read_number)
    handle = next(iter(snapshot.lookup(query)), None)
    counted = get_handle_counts(handle or {})
    blocks = [
        Query(api.block, name=block_name(ip_network(cidr)), read_number=read_number)
        for cidr in dict.fromkeys([*counted, *cidrs])
    ]
    contained = count_by_handle(snapshot.lookup(*blocks)).get(name.lower(), {})
    if snapshot.unreadable_reason(query, *blocks):
        return handle, []
    return handle, compare_counts(name, counted, contained)


def find_excess(
    api: CalicoApi, name: str, snapshot: Snapshot, read_number: int = 0
) -> tuple[Json, list[Mismatch]] | None:
    """Return a handle and where it counts addresses that its blocks do not contain; None if it does not.

    Args, Raises: see `find_mismatches`.
    """
    handle, found = find_mismatches(api, name, snapshot, read_number)
    found = [mismatch for mismatch in found if mismatch.is_excess]
    return (handle, found) if handle is not None and found else None


SECOND_READ = 1
"""The read of a handle, its blocks and pods that confirms an excess before it is repaired or reported."""


def repair_handle(api: CalicoApi, namespace: str, name: str, snapshot: Snapshot, owner: str = "") -> Plan:
    """Return the changes that make a VM's handle count no more addresses than its blocks contain.

    An interrupted release leaves such an excess. The plan is empty if there is none, if a pod of the VM exists, or if
    that could not be read.

    An allocation in progress looks the same for a moment, since Calico increments the handle before it writes the
    block. But there is no allocation without a pod. Blocks and pods are read after the handle, and the write fails
    unless the handle is unchanged: an allocation that had already incremented it has a pod that the read shows, and a
    later one changes the handle.
    """
    handle = handle_name(namespace, name)
    if not handle or find_excess(api, handle, snapshot) is None:
        return Plan()
    confirmed = find_excess(api, handle, snapshot, SECOND_READ)
    if confirmed is None:
        return Plan()
    pods = Query(POD, namespace, label_selector=LAUNCHER_SELECTOR, read_number=SECOND_READ)
    snapshot.lookup(pods)
    if snapshot.unreadable_reason(pods) or list_launcher_pods(namespace, name, snapshot):
        return Plan()
    before, found = confirmed
    counts = get_handle_counts(before)
    counts.update((mismatch.cidr, mismatch.contained) for mismatch in found)
    body: Json = copy.deepcopy(before)
    body["spec"]["block"] = {cidr: count for cidr, count in counts.items() if count}
    return Plan(((_handle_change(api, body, snapshot, owner, before),),))


def keeps_addresses(api: CalicoApi, snapshot: Snapshot) -> bool:
    """Return whether Calico keeps a VM's address in a handle, according to its configuration."""
    config = snapshot.lookup(Query(api.config, name="default"))
    return not config or dig(config[0], "spec", "kubeVirtVMAddressPersistence") != "Disabled"


def release_allocations(
    api: CalicoApi, released: Sequence[IpamAllocation], snapshot: Snapshot, owner: str = ""
) -> Plan:
    """Return the changes that release addresses of stopped VMs in Calico IPAM: first the blocks, then the handles.

    A block's PUT contains its resourceVersion, so it fails if a pod is assigned an address meanwhile. It is an edit
    (Change.edit), so that one PUT covers the addresses of many VMs and is repeated from the current block after a
    conflict.
    """
    blocks: dict[str, Json] = {}
    handles: dict[str, Json] = {}
    for allocation in released:
        block = blocks.get(allocation.block.name) or snapshot.get_object(api.block, allocation.block.name)
        if block is None:
            continue
        blocks[allocation.block.name] = remove_address(block, allocation.number)
        handle = handles.get(allocation.handle) or snapshot.get_object(api.handle, allocation.handle.lower())
        if handle is not None:
            handles[allocation.handle] = _decrement_block_count(handle, str(dig(block, "spec", "cidr")))
    block_changes = [
        _block_change(api, body, [h for h in released if h.block.name == name], snapshot, owner)
        for name, body in blocks.items()
    ]
    handle_changes = [_handle_change(api, body, snapshot, owner) for body in handles.values()]
    return Plan(tuple(tuple(stage) for stage in (block_changes, handle_changes) if stage))


def forbidden_write_reason(plan: Plan, snapshot: Snapshot) -> str:
    """Return the first write of a release that the user has no permission for; "" if all are allowed."""
    accesses = (access for change in plan for access in required_accesses(change))
    return snapshot.forbidden_reason(*dict.fromkeys(Query(access.resource, verb=access.verb) for access in accesses))


def _block_change(
    api: CalicoApi, body: Json, released: Sequence[IpamAllocation], snapshot: Snapshot, owner: str
) -> Change:
    name = name_of(body)
    addresses = ", ".join(str(address_of(h.number, h.version)) for h in released)
    summary = f"release {addresses} in Calico's block {dig(body, 'spec', 'cidr')}"
    before = snapshot.get_object(api.block, name)
    edit = partial(_remove_addresses, observed=before or {}, numbers=tuple(h.number for h in released))
    return Change(Verb.REPLACE, api.block.ref(name), summary, body=body, before=before, owner=owner, edit=edit)


def _remove_addresses(block: Json, *, observed: Json, numbers: Sequence[int]) -> Json:
    """Return a block without addresses.

    Each address must be free already, or have the same attribute as in the block that was read: when a VM starts,
    Calico's CNI plugin records its pod in the attribute.

    Raises:
        OutdatedError: an address has another attribute.
    """
    for number in numbers:
        current_attribute = _find_attribute(block, number)
        if current_attribute is None:
            continue
        if current_attribute != _find_attribute(observed, number):
            address = address_of(number, ip_network(str(block["spec"]["cidr"])).version)
            raise OutdatedError(
                f"Calico has changed the allocation of {address} since it was read", "Run the same command again."
            )
        block = remove_address(block, number)
    return block


def _find_attribute(block: Json, number: int) -> Json | None:
    """Return the attribute with which a block holds an address; None if the address is free."""
    spec = block["spec"]
    index = spec["allocations"][number - span_of(ip_network(str(spec["cidr"]), strict=False))[0]]
    attributes = spec.get("attributes") or []
    return None if index is None else attributes[index] if 0 <= index < len(attributes) else {}


def remove_address(block: Json, number: int) -> Json:
    """Return a block that no longer assigns an address, as Calico's own release writes it.

    The result shares unchanged parts with the given block: copying would delay the retries of a PUT.
    """
    spec = dict(block["spec"])
    ordinal = number - span_of(ip_network(str(spec["cidr"]), strict=False))[0]
    allocations = [*spec["allocations"]]
    index, allocations[ordinal] = allocations[ordinal], None
    spec["unallocated"] = [*(spec.get("unallocated") or []), ordinal]
    if index is not None and index not in allocations:
        spec["attributes"] = [*spec["attributes"][:index], *spec["attributes"][index + 1 :]]
        allocations = [i - 1 if i is not None and i > index else i for i in allocations]
    spec["allocations"] = allocations
    if sequence_numbers := spec.get("sequenceNumberForAllocation"):
        spec["sequenceNumberForAllocation"] = {key: n for key, n in sequence_numbers.items() if key != str(ordinal)}
    spec["sequenceNumber"] = int(spec.get("sequenceNumber") or 0) + 1
    return {**block, "spec": spec}


def _decrement_block_count(handle: Json, cidr: str) -> Json:
    result: Json = copy.deepcopy(handle)
    counts = dig(result, "spec", "block", default={})
    remaining = int(counts.pop(cidr, 1)) - 1
    if remaining > 0:
        counts[cidr] = remaining
    return result


def _format_decrease(body: Json, before: Json | None) -> str:
    decrease = sum(get_handle_counts(before or body).values()) - sum(get_handle_counts(body).values())
    return "1 address" if decrease == 1 else f"{decrease} addresses"


def _handle_change(api: CalicoApi, body: Json, snapshot: Snapshot, owner: str, before: Json | None = None) -> Change:
    ref = api.handle.ref(name_of(body))
    before = before or snapshot.get_object(api.handle, ref.name)
    if dig(body, "spec", "block"):
        summary = f"decrease the count of Calico's handle {ref.name} by {_format_decrease(body, before)}"
        return Change(Verb.REPLACE, ref, summary, body=body, before=before, owner=owner)
    return Change(
        Verb.DELETE,
        ref,
        f"remove Calico's handle {ref.name}",
        before=before,
        uid=uid_of(body),
        resource_version=resource_version_of(body),
        owner=owner,
        ignore_not_found=True,
    )
