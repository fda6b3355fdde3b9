"""Calico's own bookkeeping of addresses: IPAMBlocks and IPAMHandles, read, and released in the safe order.

From Calico 3.32 on an address belongs to a VM's handle, not to a pod: it stays when the VM stops, and whatever the
template's annotation says, the VM gets what its handle holds. Releasing it is two writes: the block first (guarded by
its resourceVersion), then the handle; the handle alone would leave the VM with two addresses. Tried with Calico's own
programs: docs/design.md, "Calico's handles".
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network

from kubectl_yoshi.backends.calico_api import CalicoApi
from kubectl_yoshi.model.addresses import Cidr, Intervals, address_of, span_of
from kubectl_yoshi.model.change import Change, Plan, Verb
from kubectl_yoshi.model.errors import Outdated
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, name_of, resource_version_of, uid_of
from kubectl_yoshi.model.vm import LAUNCHER, POD, VMI, is_over, pods_of

CNI_NETWORK = "k8s-pod-network"
"""The name of the CNI network in Calico's default configuration; part of every handle's name."""

_LONGEST_HANDLE = 128


@dataclass(frozen=True)
class Holding:
    """An address that a block gives to somebody.

    Attributes:
        number, version: the address.
        block: the IPAMBlock.
        handle: its handle's name; "" where it has none.
        namespace, name: the VM it is for; "" where it is for no VM.
        vm_uid: that VM's uid where Calico wrote it down (only while the VM runs).
        pod: namespace and name of the pod that has it; "" where it is for no pod.
    """

    number: int
    version: int
    block: ObjectRef
    handle: str
    namespace: str = ""
    name: str = ""
    vm_uid: str = ""
    pod: tuple[str, str] = ("", "")


def handle_name(namespace: str, name: str) -> str:
    """The name of a VM's handle; "" where it would be longer than Calico can name."""
    text = f"{CNI_NETWORK}.vmi.{namespace}.{name}".lower()
    return text if len(text) <= _LONGEST_HANDLE else ""


def vm_of_handle(handle: str) -> tuple[str, str]:
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


def block_of(number: int, version: int, block_size: int) -> Cidr:
    """The CIDR of the block that an address lies in; block_size is a prefix length."""
    return ip_network((int(address_of(number, version)), block_size), strict=False)


def holdings(block: Json, ref: ObjectRef) -> Iterator[Holding]:
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
        namespace, name = vm_of_handle(handle)
        if not name and owner.get("vmi-name"):
            namespace, name = owner.get("namespace", ""), owner["vmi-name"]
        pod = (owner.get("namespace", ""), owner["pod"]) if owner.get("pod") else ("", "")
        yield Holding(first + ordinal, cidr.version, ref, handle, namespace, name, owner.get("vm-uid", ""), pod)


def holdings_in(within: Intervals, version: int, api: CalicoApi, facts: Facts) -> list[Holding]:
    """What the blocks that were read have given out of a set of addresses."""
    found = []
    for block in facts.all(api.block):
        if dig(block, "spec", "deleted"):
            continue
        found += [
            holding
            for holding in holdings(block, api.block.ref(name_of(block)))
            if holding.version == version and holding.number in within
        ]
    return found


def handle_reads(api: CalicoApi, namespace: str, name: str) -> tuple[Read, ...]:
    """The read that brings a VM's handle; none where Calico could not name it."""
    handle = handle_name(namespace, name)
    return (Read(api.handle, name=handle),) if handle else ()


def blocks_of_handle(api: CalicoApi, handle: Json) -> tuple[Read, ...]:
    """The reads that bring the blocks that a handle holds addresses of."""
    cidrs = dig(handle, "spec", "block", default={})
    return tuple(Read(api.block, name=block_name(ip_network(cidr, strict=False))) for cidr in cidrs)


def held_by_vm(api: CalicoApi, namespace: str, name: str, facts: Facts) -> tuple[list[Holding], str]:
    """What Calico holds for a VM of that name through its handle, and why that cannot be told ("" if it can).

    Raises:
        NeedMore: the handle or its blocks were not read yet.
    """
    reads = handle_reads(api, namespace, name)
    found: list[Holding] = []
    for handle in facts.ask(*reads):
        blocks = blocks_of_handle(api, handle)
        for block in facts.ask(*blocks):
            ref = api.block.ref(name_of(block))
            found += [holding for holding in holdings(block, ref) if holding.handle.lower() == name_of(handle)]
        if why := facts.why_unknown(*blocks):
            return found, why
    return found, facts.why_unknown(*reads)


def runs(namespace: str, name: str, facts: Facts) -> str:
    """What of a VM of that name runs, so that its address must not be released; "" if nothing does.

    An instance that has ended does not: KubeVirt keeps that of a run strategy Manual or Once.

    Raises:
        NeedMore: it was not read yet.
    """
    pods_read = Read(POD, namespace, label_selector=LAUNCHER)
    vmi_read = Read(VMI, namespace, name)
    facts.ask(vmi_read, pods_read)
    if why := facts.why_unknown(vmi_read, pods_read):
        return f"whether it runs cannot be told: {why}"
    vmi = facts.one(VMI, name, namespace)
    if vmi is not None and not is_over(vmi):
        return f"{VMI.ref(name, namespace)} is there"
    pods = pods_of(namespace, name, facts)
    return f"{POD.ref(name_of(pods[0]), namespace)} is there" if pods else ""


def release(api: CalicoApi, released: Sequence[Holding], facts: Facts, subject: str = "") -> Plan:
    """Makes Calico forget addresses of VMs of which nothing runs: the blocks, then the handles.

    A block's PUT carries its resourceVersion, so a pod that is given an address meanwhile makes it fail. It is made by
    an edit, so that many VMs' addresses go in one PUT, which is made again from the newest block when it has failed.
    """
    blocks: dict[str, Json] = {}
    handles: dict[str, Json] = {}
    for holding in released:
        block = blocks.get(holding.block.name) or facts.one(api.block, holding.block.name)
        if block is None:
            continue
        blocks[holding.block.name] = without_address(block, holding.number)
        handle = handles.get(holding.handle) or facts.one(api.handle, holding.handle.lower())
        if handle is not None:
            handles[holding.handle] = _without_block(handle, str(dig(block, "spec", "cidr")))
    first = [_block_change(api, name, body, released, facts, subject) for name, body in blocks.items()]
    second = [_handle_change(api, body, facts, subject) for body in handles.values()]
    return Plan(tuple(tuple(stage) for stage in (first, second) if stage))


def _block_change(
    api: CalicoApi, name: str, body: Json, released: Sequence[Holding], facts: Facts, subject: str
) -> Change:
    mine = [h for h in released if h.block.name == name]
    addresses = ", ".join(str(address_of(h.number, h.version)) for h in mine)
    says = f"release {addresses} in Calico's block {dig(body, 'spec', 'cidr')}"
    before = facts.one(api.block, name)
    edit = partial(_without_addresses, read=before or {}, numbers=tuple(h.number for h in mine))
    return Change(Verb.REPLACE, api.block.ref(name), says, body=body, before=before, subject=subject, edit=edit)


def _without_addresses(block: Json, *, read: Json, numbers: Sequence[int]) -> Json:
    """A block without addresses, each of which must be free already or be held by the very same attribute as in the
    block that was read: once a VM starts, Calico's CNI plugin writes there who runs with it.

    Raises:
        Outdated: one is held otherwise.
    """
    for number in numbers:
        held = _attribute_of(block, number)
        if held is None:
            continue
        if held != _attribute_of(read, number):
            address = address_of(number, ip_network(str(block["spec"]["cidr"])).version)
            raise Outdated(f"Calico has changed what holds {address} since it was read", "Run the same command again.")
        block = without_address(block, number)
    return block


def _attribute_of(block: Json, number: int) -> Json | None:
    """By what attribute a block holds an address; None where it is free."""
    spec = block["spec"]
    index = spec["allocations"][number - span_of(ip_network(str(spec["cidr"]), strict=False))[0]]
    attributes = spec.get("attributes") or []
    return None if index is None else attributes[index] if 0 <= index < len(attributes) else {}


def mend(api: CalicoApi, namespace: str, name: str, facts: Facts, subject: str) -> Plan:
    """Makes a VM's handle count no more than the blocks give it, as a release leaves it that was cut off in between."""
    held, why = held_by_vm(api, namespace, name, facts)
    changes = []
    for handle in [] if why else facts.ask(*handle_reads(api, namespace, name)):
        counts = dig(handle, "spec", "block", default={})
        given = {
            cidr: [h.block.name for h in held].count(block_name(ip_network(cidr, strict=False))) for cidr in counts
        }
        if any(given[cidr] < int(count) for cidr, count in counts.items()):
            body: Json = copy.deepcopy(handle)
            body["spec"]["block"] = {cidr: min(given[cidr], int(n)) for cidr, n in counts.items() if given[cidr]}
            changes.append(_handle_change(api, body, facts, subject))
    return Plan((tuple(changes),)) if changes and not runs(namespace, name, facts) else Plan()


def without_address(block: Json, number: int) -> Json:
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
    if given := spec.get("sequenceNumberForAllocation"):
        spec["sequenceNumberForAllocation"] = {key: n for key, n in given.items() if key != str(ordinal)}
    spec["sequenceNumber"] = int(spec.get("sequenceNumber") or 0) + 1
    return {**block, "spec": spec}


def _without_block(handle: Json, cidr: str) -> Json:
    result: Json = copy.deepcopy(handle)
    counts = dig(result, "spec", "block", default={})
    left = int(counts.pop(cidr, 1)) - 1
    if left > 0:
        counts[cidr] = left
    return result


def _handle_change(api: CalicoApi, body: Json, facts: Facts, subject: str) -> Change:
    ref = api.handle.ref(name_of(body))
    before = facts.one(api.handle, ref.name)
    if dig(body, "spec", "block"):
        says = f"count one address less in Calico's handle {ref.name}"
        return Change(Verb.REPLACE, ref, says, body=body, before=before, subject=subject)
    return Change(
        Verb.DELETE,
        ref,
        f"remove Calico's handle {ref.name}",
        before=before,
        uid=uid_of(body),
        resource_version=resource_version_of(body),
        subject=subject,
        tolerate_missing=True,
    )
