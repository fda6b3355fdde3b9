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
"""Characters that a VM's namespace and name may have together, so that Calico can name its handle."""


@dataclass(frozen=True)
class IpamAllocation:
    """An address that a block gives to somebody.

    Attributes:
        number, version: the address.
        block: the IPAMBlock.
        handle: its handle's name; "" where it has none.
        namespace, name: the VM it is for; "" where it is for no VM.
        vm_uid: that VM's uid where Calico wrote it down (only while the VM runs).
        pod: namespace and name of the pod that has it; "" where it is for no pod.
        released_at: when Calico released it, where it cools down there (`ipCooldownSeconds`): it is nobody's then, and
            Calico frees it when that time is over; "" otherwise.
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
        """Who has it, for people: the VM, else the pod, else the handle."""
        if self.name:
            return f"{self.namespace}/{self.name}"
        return str(POD.ref(self.pod[1], self.pod[0])) if self.pod[1] else self.handle or "?"


def handle_name(namespace: str, name: str) -> str:
    """The name of a VM's handle; "" where it would be longer than Calico can name."""
    text = f"{CNI_NETWORK}.vmi.{namespace}.{name}".lower()
    return text if len(text) <= _MAX_HANDLE_LENGTH else ""


def parse_handle_name(handle: str) -> tuple[str, str]:
    """Namespace and name of the VM that a handle is for; ("", "") for a handle of a pod.

    A namespace has no dots, so the first dot after ".vmi." ends it.
    """
    prefix = f"{CNI_NETWORK}.vmi."
    if not handle.startswith(prefix):
        return "", ""
    namespace, _, name = handle[len(prefix) :].partition(".")
    return namespace, name


def block_name(cidr: Cidr) -> str:
    """The name of the IPAMBlock of a block's CIDR: "10-133-0-0-26"."""
    return str(cidr).replace(".", "-").replace(":", "-").replace("/", "-")


def block_cidr(number: int, version: int, block_size: int) -> Cidr:
    """The CIDR of the block that an address lies in; block_size is a prefix length."""
    return ip_network((int(address_of(number, version)), block_size), strict=False)


def iter_block_allocations(block: Json, ref: ObjectRef) -> Iterator[IpamAllocation]:
    """What a block has given out."""
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


def list_block_allocations(within: Intervals, version: int, api: CalicoApi, snapshot: Snapshot) -> list[IpamAllocation]:
    """What the blocks that were read have given out of a set of addresses."""
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
    """The read that brings a VM's handle; none where Calico could not name it."""
    handle = handle_name(namespace, name)
    return (Query(api.handle, name=handle),) if handle else ()


def handle_block_queries(api: CalicoApi, handle: Json) -> tuple[Query, ...]:
    """The reads that bring the blocks that a handle holds addresses of."""
    cidrs = dig(handle, "spec", "block", default={})
    return tuple(Query(api.block, name=block_name(ip_network(cidr, strict=False))) for cidr in cidrs)


def find_vm_allocations(
    api: CalicoApi, namespace: str, name: str, snapshot: Snapshot
) -> tuple[list[IpamAllocation], str]:
    """What Calico holds for a VM of that name through its handle, and why that cannot be told ("" if it can)."""
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
    """What of a VM of that name runs, so that its address must not be released; "" if nothing does.

    An instance that has ended does not: KubeVirt keeps that of a run strategy Manual or Once.
    """
    pods_query = Query(POD, namespace, label_selector=LAUNCHER_SELECTOR)
    vmi_query = Query(VMI, namespace, name)
    snapshot.lookup(vmi_query, pods_query)
    if reason := snapshot.unreadable_reason(vmi_query, pods_query):
        return f"whether it runs cannot be told: {reason}"
    vmi = snapshot.get_object(VMI, name, namespace)
    if vmi is not None and not has_ended(vmi):
        return f"{VMI.ref(name, namespace)} is there"
    pods = list_launcher_pods(namespace, name, snapshot)
    return f"{POD.ref(name_of(pods[0]), namespace)} is there" if pods else ""


@dataclass(frozen=True)
class Mismatch:
    """A handle and a block that do not say the same.

    Attributes:
        handle: the IPAMHandle's name.
        cidr: the block's.
        counted: how many addresses of the block the handle counts; 0 where there is no such handle.
        contained: how many addresses of the block have the handle's name; 0 where there is no such block.
    """

    handle: str
    cidr: str
    counted: int
    contained: int

    @property
    def is_excess(self) -> bool:
        """Whether the handle counts addresses that the block does not contain.

        Calico takes that for an allocation in progress: its CNI plugin waits for it until it fails.
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
    """Handle, in lower case -> CIDR of each block -> how many of the block's addresses are the handle's."""
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
    """CIDR -> how many addresses of that block a handle counts."""
    if dig(handle, "spec", "deleted"):
        return {}
    return {_normalize_cidr(cidr): int(count) for cidr, count in dig(handle, "spec", "block", default={}).items()}


def _normalize_cidr(cidr: str) -> str:
    return str(ip_network(cidr, strict=False))


def compare_counts(name: str, counted: Mapping[str, int], contained: Mapping[str, int]) -> list[Mismatch]:
    """Where a handle and the blocks that were read differ.

    Args:
        name: the handle's.
        counted: see `get_handle_counts`; {} where there is no such handle.
        contained: CIDR -> how many addresses of that block are the handle's; a missing block contains none.
    """
    cidrs = dict.fromkeys([*counted, *contained])
    found = (Mismatch(name, cidr, counted.get(cidr, 0), contained.get(cidr, 0)) for cidr in cidrs)
    return [mismatch for mismatch in found if mismatch.counted != mismatch.contained]


def find_mismatches(
    api: CalicoApi, name: str, snapshot: Snapshot, read_number: int = 0, cidrs: Iterable[str] = ()
) -> tuple[Json | None, list[Mismatch]]:
    """A handle, and where it and its blocks differ: nowhere as far as they cannot be read.

    Args:
        api: see CalicoApi.
        name: the handle's.
        snapshot: what was read.
        read_number: see Query; with another one than 0 the blocks are read after the handle.
        cidrs: of blocks that are looked at besides those that the handle counts addresses of.
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
    """A handle, and where it counts addresses that its blocks do not contain; None where it counts none such.

    Args, Raises: see `find_mismatches`.
    """
    handle, found = find_mismatches(api, name, snapshot, read_number)
    found = [mismatch for mismatch in found if mismatch.is_excess]
    return (handle, found) if handle is not None and found else None


SECOND_READ = 1
"""The look at a handle, its blocks and pods before it is written or reported."""


def repair_handle(api: CalicoApi, namespace: str, name: str, snapshot: Snapshot, owner: str = "") -> Plan:
    """Makes a VM's handle count no more than its blocks contain, as a release leaves it that was cut off in between;
    empty where it does not, or while a pod of the VM exists or that cannot be told.

    An allocation in progress looks the same for a moment, since Calico increments the handle before it writes the
    block. But there is no allocation without a pod. Blocks and pods are read after the handle, and the write is refused
    unless the handle is as it was read: so an allocation that had incremented it has a pod that is seen, and one that
    begins later changes it.
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
    """Whether Calico keeps a VM's address in a handle, as far as its configuration says."""
    config = snapshot.lookup(Query(api.config, name="default"))
    return not config or dig(config[0], "spec", "kubeVirtVMAddressPersistence") != "Disabled"


def release_allocations(
    api: CalicoApi, released: Sequence[IpamAllocation], snapshot: Snapshot, owner: str = ""
) -> Plan:
    """Makes Calico forget addresses of VMs of which nothing runs: the blocks, then the handles.

    A block's PUT carries its resourceVersion, so a pod that is given an address meanwhile makes it fail. It is made by
    an edit, so that many VMs' addresses go in one PUT, which is made again from the newest block when it has failed.
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
    block_changes = [_block_change(api, name, body, released, snapshot, owner) for name, body in blocks.items()]
    handle_changes = [_handle_change(api, body, snapshot, owner) for body in handles.values()]
    return Plan(tuple(tuple(stage) for stage in (block_changes, handle_changes) if stage))


def forbidden_write_reason(plan: Plan, snapshot: Snapshot) -> str:
    """Return which write of a release the user may not do, "" if all of them are allowed."""
    accesses = (access for change in plan for access in required_accesses(change))
    return snapshot.forbidden_reason(*dict.fromkeys(Query(access.resource, verb=access.verb) for access in accesses))


def _block_change(
    api: CalicoApi, name: str, body: Json, released: Sequence[IpamAllocation], snapshot: Snapshot, owner: str
) -> Change:
    own_allocations = [h for h in released if h.block.name == name]
    addresses = ", ".join(str(address_of(h.number, h.version)) for h in own_allocations)
    summary = f"release {addresses} in Calico's block {dig(body, 'spec', 'cidr')}"
    before = snapshot.get_object(api.block, name)
    edit = partial(_remove_addresses, observed=before or {}, numbers=tuple(h.number for h in own_allocations))
    return Change(Verb.REPLACE, api.block.ref(name), summary, body=body, before=before, owner=owner, edit=edit)


def _remove_addresses(block: Json, *, observed: Json, numbers: Sequence[int]) -> Json:
    """A block without addresses, each of which must be free already or be held by the very same attribute as in the
    block that was read: once a VM starts, Calico's CNI plugin writes there who runs with it.

    Raises:
        OutdatedError: one is held otherwise.
    """
    for number in numbers:
        current_attribute = _find_attribute(block, number)
        if current_attribute is None:
            continue
        if current_attribute != _find_attribute(observed, number):
            address = address_of(number, ip_network(str(block["spec"]["cidr"])).version)
            raise OutdatedError(
                f"Calico has changed what holds {address} since it was read", "Run the same command again."
            )
        block = remove_address(block, number)
    return block


def _find_attribute(block: Json, number: int) -> Json | None:
    """By what attribute a block holds an address; None where it is free."""
    spec = block["spec"]
    index = spec["allocations"][number - span_of(ip_network(str(spec["cidr"]), strict=False))[0]]
    attributes = spec.get("attributes") or []
    return None if index is None else attributes[index] if 0 <= index < len(attributes) else {}


def remove_address(block: Json, number: int) -> Json:
    """A block that no longer gives out an address, as Calico's own release writes it.

    It shares with the block given what it does not change: between two tries of a PUT there is no time for copies.
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
    return "one address less" if decrease == 1 else f"{decrease} addresses less"


def _handle_change(api: CalicoApi, body: Json, snapshot: Snapshot, owner: str, before: Json | None = None) -> Change:
    ref = api.handle.ref(name_of(body))
    before = before or snapshot.get_object(api.handle, ref.name)
    if dig(body, "spec", "block"):
        summary = f"count {_format_decrease(body, before)} in Calico's handle {ref.name}"
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
