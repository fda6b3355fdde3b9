"""Calico's own bookkeeping of addresses: IPAMBlocks and IPAMHandles, read, and released in the safe order.

From Calico 3.32 on an address belongs to a VM's handle, not to a pod: it stays when the VM stops, and whatever the
template's annotation says, the VM gets what its handle holds. Releasing it is two writes: the block first (guarded by
its resourceVersion), then the handle; the handle alone would leave the VM with two addresses. Tried with Calico's own
programs: docs/design.md, "Calico's handles".
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network

from kubectl_yoshi.backends.calico_api import CalicoApi
from kubectl_yoshi.model.access import accesses_of
from kubectl_yoshi.model.addresses import Cidr, Intervals, address_of, span_of
from kubectl_yoshi.model.change import Change, Plan, Verb
from kubectl_yoshi.model.errors import Outdated
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, name_of, resource_version_of, uid_of
from kubectl_yoshi.model.vm import LAUNCHER, POD, VMI, is_over, pods_of

CNI_NETWORK = "k8s-pod-network"
"""The name of the CNI network in Calico's default configuration; part of every handle's name."""

_LONGEST_HANDLE = 128
LONGEST_NAMES = _LONGEST_HANDLE - len(f"{CNI_NETWORK}.vmi..")
"""Characters that a VM's namespace and name may have together, so that Calico can name its handle."""


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
        since = str(attribute.get("releasedAt") or "")
        yield Holding(first + ordinal, cidr.version, ref, handle, namespace, name, owner.get("vm-uid", ""), pod, since)


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
            counts = f"IPAMHandle {self.handle} counts {_addresses(self.counted - self.contained)}"
            return f"{counts} that block {self.cidr} does not contain"
        contains = f"block {self.cidr} contains {_addresses(self.contained)} of IPAMHandle {self.handle}"
        return f"{contains}, which counts {self.counted}"


def _addresses(count: int) -> str:
    return f"{count} address{'' if count == 1 else 'es'}"


def contents(blocks: Iterable[Json]) -> dict[str, dict[str, int]]:
    """Handle, in lower case -> CIDR of each block -> how many of the block's addresses are the handle's."""
    found: dict[str, dict[str, int]] = {}
    for block in blocks:
        if dig(block, "spec", "deleted"):
            continue
        cidr = _canonical(str(dig(block, "spec", "cidr")))
        attributes = dig(block, "spec", "attributes", default=[])
        for index in dig(block, "spec", "allocations", default=[]):
            attribute = attributes[index] if index is not None and 0 <= index < len(attributes) else {}
            if handle := str(attribute.get("handle_id") or "").lower():
                counts = found.setdefault(handle, {})
                counts[cidr] = counts.get(cidr, 0) + 1
    return found


def counts_of(handle: Json) -> dict[str, int]:
    """CIDR -> how many addresses of that block a handle counts."""
    if dig(handle, "spec", "deleted"):
        return {}
    return {_canonical(cidr): int(count) for cidr, count in dig(handle, "spec", "block", default={}).items()}


def _canonical(cidr: str) -> str:
    return str(ip_network(cidr, strict=False))


def compare(name: str, counted: Mapping[str, int], contained: Mapping[str, int]) -> list[Mismatch]:
    """Where a handle and the blocks that were read differ.

    Args:
        name: the handle's.
        counted: see `counts_of`; {} where there is no such handle.
        contained: CIDR -> how many addresses of that block are the handle's; a missing block contains none.
    """
    cidrs = dict.fromkeys([*counted, *contained])
    found = (Mismatch(name, cidr, counted.get(cidr, 0), contained.get(cidr, 0)) for cidr in cidrs)
    return [one for one in found if one.counted != one.contained]


def differences(
    api: CalicoApi, name: str, facts: Facts, look: int = 0, cidrs: Iterable[str] = ()
) -> tuple[Json | None, list[Mismatch]]:
    """A handle, and where it and its blocks differ: nowhere as far as they cannot be read.

    Args:
        api: see CalicoApi.
        name: the handle's.
        facts: what was read.
        look: see Read; with another one than 0 the blocks are read after the handle.
        cidrs: of blocks that are looked at besides those that the handle counts addresses of.

    Raises:
        NeedMore: the handle or its blocks were not read yet.
    """
    read = Read(api.handle, name=name, look=look)
    handle = next(iter(facts.ask(read)), None)
    counted = counts_of(handle or {})
    blocks = [
        Read(api.block, name=block_name(ip_network(cidr)), look=look) for cidr in dict.fromkeys([*counted, *cidrs])
    ]
    contained = contents(facts.ask(*blocks)).get(name.lower(), {})
    if facts.why_unknown(read, *blocks):
        return handle, []
    return handle, compare(name, counted, contained)


def excess(api: CalicoApi, name: str, facts: Facts, look: int = 0) -> tuple[Json, list[Mismatch]] | None:
    """A handle, and where it counts addresses that its blocks do not contain; None where it counts none such.

    Args, Raises: see `differences`.
    """
    handle, found = differences(api, name, facts, look)
    found = [one for one in found if one.is_excess]
    return (handle, found) if handle is not None and found else None


AGAIN = 1
"""The look at a handle, its blocks and pods before it is written or reported."""


def repair(api: CalicoApi, namespace: str, name: str, facts: Facts, subject: str = "") -> Plan:
    """Makes a VM's handle count no more than its blocks contain, as a release leaves it that was cut off in between;
    empty where it does not, or while a pod of the VM exists or that cannot be told.

    An allocation in progress looks the same for a moment, since Calico increments the handle before it writes the
    block. But there is no allocation without a pod. Blocks and pods are read after the handle, and the write is refused
    unless the handle is as it was read: so an allocation that had incremented it has a pod that is seen, and one that
    begins later changes it.

    Raises:
        NeedMore: more must be read first.
    """
    handle = handle_name(namespace, name)
    if not handle or excess(api, handle, facts) is None:
        return Plan()
    confirmed = excess(api, handle, facts, AGAIN)
    if confirmed is None:
        return Plan()
    pods = Read(POD, namespace, label_selector=LAUNCHER, look=AGAIN)
    facts.ask(pods)
    if facts.why_unknown(pods) or pods_of(namespace, name, facts):
        return Plan()
    before, found = confirmed
    counts = counts_of(before)
    counts.update((one.cidr, one.contained) for one in found)
    body: Json = copy.deepcopy(before)
    body["spec"]["block"] = {cidr: count for cidr, count in counts.items() if count}
    return Plan(((_handle_change(api, body, facts, subject, before),),))


def keeps_addresses(api: CalicoApi, facts: Facts) -> bool:
    """Whether Calico keeps a VM's address in a handle, as far as its configuration says."""
    config = facts.ask(Read(api.config, name="default"))
    return not config or dig(config[0], "spec", "kubeVirtVMAddressPersistence") != "Disabled"


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


def why_not_allowed(plan: Plan, facts: Facts) -> str:
    """Return which write of a release the user may not do, "" if all of them are allowed.

    Raises:
        NeedMore: it was not asked for yet.
    """
    accesses = (access for change in plan for access in accesses_of(change))
    return facts.forbids(*dict.fromkeys(Read(access.resource, verb=access.verb) for access in accesses))


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


def _fewer(body: Json, before: Json | None) -> str:
    fewer = sum(counts_of(before or body).values()) - sum(counts_of(body).values())
    return "one address less" if fewer == 1 else f"{fewer} addresses less"


def _handle_change(api: CalicoApi, body: Json, facts: Facts, subject: str, before: Json | None = None) -> Change:
    ref = api.handle.ref(name_of(body))
    before = before or facts.one(api.handle, ref.name)
    if dig(body, "spec", "block"):
        says = f"count {_fewer(body, before)} in Calico's handle {ref.name}"
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
