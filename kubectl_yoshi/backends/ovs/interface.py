"""A VM's interface on a Layer 2 network: what its template says, and what runs of it.

The template has a Multus network and a bridge interface with the allocation's MAC address; an annotation of the
template, ip.plumber.k8s.pf9.io/<interface>, says which address goes with it. KubeVirt copies it to the VMI and its pod,
so that what runs shows the address too. A VM without any interface gets KubeVirt's default one written down, which
KubeVirt adds only where there is none. A VM that was copied from another one, MAC address and all, gets a new MAC
address with its address.

KubeVirt plugs a new interface into a running VM with its next live migration, if it is 1.4 or later, does not stage
changes, and the VM can migrate: `--hotplug` says so, or says what stands in the way and that a restart is needed.
`detach --hotplug` only sets the interface's state to absent. KubeVirt marks it so on the VMI, removes the device from
the guest and the NIC from the pod, and when the VMI's status no longer lists the interface, clears both specs. Until
then the allocation stays, and the VM is not attached to the network again, which would be a second interface with the
same MAC address. What was plugged in live is in no annotation of the VMI: unless the guest agent reports it, the VM
counts as running with every address that is recorded for it with that MAC address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from kubectl_yoshi.backends.network_annotation import NETWORK_NAME, add_network_name, names_network, remove_network_name
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import AddressUse, Attachment, UsageKind
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import ADDRESSBLOCK, GROUP, NETWORKWIZARD, Network
from kubectl_yoshi.model.objects import (
    ANNOTATIONS,
    Json,
    annotations_of,
    dig,
    name_of,
    namespace_of,
    short_hash,
    uid_of,
)
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import POD, VMI, Vm, get_instance_name, owner_uid

IP_ANNOTATION_PREFIX = f"ip.{GROUP}/"
"""Prefix of the template's annotation, named after an interface, that contains its address."""

MULTUS_NETWORKS = "k8s.v1.cni.cncf.io/networks"
TEMPLATE = ("spec", "template")
TEMPLATE_ANNOTATIONS = (*TEMPLATE, "metadata", "annotations")
NETWORKS = (*TEMPLATE, "spec", "networks")
INTERFACES = (*TEMPLATE, "spec", "domain", "devices", "interfaces")
MAX_NAME_LENGTH = 63


@dataclass(frozen=True)
class VmInterface:
    """A VM's interface on a network.

    Attributes:
        name: name of the interface.
        entry, interface: its items in the template's networks and interfaces.
    """

    name: str
    entry: Json
    interface: Json

    @property
    def mac(self) -> str:
        """Return its MAC address; "" if KubeVirt generates one at each start."""
        return str(self.interface.get("macAddress") or "").lower()

    @property
    def is_being_removed(self) -> bool:
        """Return whether KubeVirt should unplug it from the running VM (state: absent)."""
        return self.interface.get("state") == "absent"


def find_interface(
    obj: Json, namespace: str, network: Network, spec: tuple[str, ...] = (*TEMPLATE, "spec")
) -> VmInterface | None:
    """Return the interface on a network, of a VM or, with `spec` ("spec",), of a VMI; None if there is none.

    An interface with state "absent" does not count for a VM. For a VMI it counts until KubeVirt has unplugged it and
    removed it from the VMI's status.
    """
    present = {status.get("name") for status in dig(obj, "status", "interfaces", default=[])}
    return next(
        (
            vm_interface
            for vm_interface in _iter_interfaces(obj, namespace, network, spec)
            if not vm_interface.is_being_removed or vm_interface.name in present
        ),
        None,
    )


def _iter_interfaces(obj: Json, namespace: str, network: Network, spec: tuple[str, ...]) -> Iterator[VmInterface]:
    """Yield the interfaces on a network, including those with state "absent"."""
    for entry in dig(obj, *spec, "networks", default=[]):
        if dig(entry, "multus", "networkName") in _network_references(network, namespace):
            for interface in dig(obj, *spec, "domain", "devices", "interfaces", default=[]):
                if interface.get("name") == entry.get("name"):
                    yield VmInterface(str(entry["name"]), entry, interface)


def _network_references(network: Network, namespace: str) -> set[str]:
    """Return the forms in which a VM of a namespace may name the network's attachment."""
    return {network.full_name, *((network.name,) if namespace == network.namespace else ())}


def parse_pinned_numbers(annotations: Mapping[str, str], network: Network) -> dict[str, int]:
    """Return interface -> its address of the network, from annotations."""
    found = {}
    for key, text in annotations.items():
        if key.startswith(IP_ANNOTATION_PREFIX) and (number := _parse_number(text, network)) is not None:
            found[key.removeprefix(IP_ANNOTATION_PREFIX)] = number
    return found


def macs_of(vm: Vm, network: Network) -> tuple[str, str]:
    """Return the MAC addresses as Backend.macs_of does.

    The MAC address of an interface without an address annotation was set by the VM's owner.
    """
    vm_interface = find_interface(vm.raw, vm.namespace, network)
    if vm_interface is None:
        return "", ""
    return (
        ("", vm_interface.mac)
        if vm_interface.name in parse_pinned_numbers(vm.template_annotations, network)
        else (vm_interface.mac, "")
    )


# -- requested and running addresses ---------------------------------------------------------------------------------


def list_template_uses(vm: Vm, network: Network) -> list[AddressUse]:
    """Return the address in a VM's template, unless its interface is being removed."""
    vm_interface = find_interface(vm.raw, vm.namespace, network)
    number = parse_pinned_numbers(vm.template_annotations, network).get(vm_interface.name) if vm_interface else None
    return [] if number is None else [AddressUse(number, UsageKind.REQUESTED, vm.ref, vm.namespace, vm.name, vm.uid)]


def addresses_on_vm(vm: Vm, network: str) -> tuple[Address, ...]:
    """Return the addresses in the VM's template of a network that cannot be read (see Backend.addresses_on_vm)."""
    namespace, name = network.split("/")
    names = {network, *((name,) if namespace == vm.namespace else ())}
    entries = [e for e in dig(vm.raw, *NETWORKS, default=[]) if dig(e, "multus", "networkName") in names]
    found = (
        _parse_address(vm.template_annotations.get(f"{IP_ANNOTATION_PREFIX}{entry.get('name')}", ""))
        for entry in entries
    )
    return tuple(address for address in found if address is not None)


def list_instance_uses(vmi: Json, network: Network, vm: Vm | None, snapshot: Snapshot) -> list[AddressUse]:
    """Return the addresses of a VMI on the network.

    They are those that its guest reports, else those with which the VMI was started or its interface was
    hot-plugged. For an interface that was hot-plugged, only the template contains the address, and it may have
    changed since. Every address recorded for the VM with this MAC address therefore counts as running.
    """
    namespace, name = namespace_of(vmi), name_of(vmi)
    vm_interface = find_interface(vmi, namespace, network, ("spec",))
    if vm_interface is None:  # hot-unplugged: the annotations remain
        return []
    numbers = _reported_numbers(vmi, vm_interface, network)
    if not numbers:
        initial_number = parse_pinned_numbers(annotations_of(vmi), network).get(vm_interface.name)
        numbers = {initial_number} if initial_number is not None else set()
        allocated = _allocated_numbers(vmi, vm_interface, network, snapshot)
        if not numbers or (allocated and not numbers & allocated):  # hot-plugged: annotations are from the start
            numbers |= allocated if vm is None else allocated | _hot_plugged_numbers(vm, vmi, vm_interface, network)
    ref = VMI.ref(name, namespace)
    return [AddressUse(number, UsageKind.RUNNING, ref, namespace, name, owner_uid(vmi)) for number in sorted(numbers)]


def _allocated_numbers(vmi: Json, vm_interface: VmInterface, network: Network, snapshot: Snapshot) -> set[int]:
    """Return the recorded addresses, as far as they were read, of a VMI's interface that is plugged in."""
    if not vm_interface.mac or not _is_plugged_in(vmi, vm_interface):
        return set()
    found = snapshot.derived(_index_allocations).get(
        (network.uid, namespace_of(vmi), name_of(vmi), vm_interface.mac), ()
    )
    return {number for text in found if (number := _parse_number(text, network)) is not None}


def _index_allocations(snapshot: Snapshot) -> dict[tuple[str, str, str, str], list[str]]:
    """Return the recorded addresses by network (its uid), VM (namespace, name) and MAC address."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    shards = [(uid_of(obj), obj) for obj in snapshot.list_objects(NETWORKWIZARD)]
    shards += [(str(dig(obj, "spec", "networkUID")), obj) for obj in snapshot.list_objects(ADDRESSBLOCK)]
    for uid, obj in shards:
        for text, value in dig(obj, "status", "allocations", default={}).items():
            if isinstance(value, Mapping) and value.get("mac"):
                key = (uid, str(value.get("namespace")), str(value.get("name")), str(value["mac"]).lower())
                found.setdefault(key, []).append(text)
    return found


def _reported_numbers(vmi: Json, vm_interface: VmInterface, network: Network) -> set[int]:
    texts: list[str] = []
    for status in dig(vmi, "status", "interfaces", default=[]):
        if status.get("name") == vm_interface.name or (
            vm_interface.mac and str(status.get("mac")).lower() == vm_interface.mac
        ):
            texts += [status.get("ipAddress") or "", *(status.get("ipAddresses") or ())]
    return {number for text in texts if (number := _parse_number(text, network)) is not None}


def _is_plugged_in(vmi: Json, vm_interface: VmInterface) -> bool:
    return any(status.get("name") == vm_interface.name for status in dig(vmi, "status", "interfaces", default=[]))


def _hot_plugged_numbers(vm: Vm, vmi: Json, vm_interface: VmInterface, network: Network) -> set[int]:
    """Return the address in the template of an interface that the running VM actually has."""
    same_named = [item for item in dig(vm.raw, *INTERFACES, default=[]) if item.get("name") == vm_interface.name]
    is_same = (
        _is_plugged_in(vmi, vm_interface)
        and bool(same_named)
        and str(same_named[0].get("macAddress") or "").lower() == vm_interface.mac
    )
    number = parse_pinned_numbers(vm.template_annotations, network).get(vm_interface.name) if is_same else None
    return set() if number is None else {number}


def list_pod_uses(pod: Json, network: Network) -> list[AddressUse]:
    """Return the addresses a launcher pod was started with, as long as it requests the network from Multus."""
    annotations = annotations_of(pod)
    if not _requests_multus_network(annotations.get(MULTUS_NETWORKS), network):
        return []
    namespace, name = namespace_of(pod), get_instance_name(pod)
    numbers = sorted(set(parse_pinned_numbers(annotations, network).values()))
    return [
        AddressUse(number, UsageKind.RUNNING, POD.ref(name_of(pod), namespace), namespace, name) for number in numbers
    ]


def _requests_multus_network(text: str | None, network: Network) -> bool:
    """Return whether a pod's annotation names the network's attachment; an invalid annotation may do so.

    KubeVirt omits it for a pod without any such network (pkg/network/pod/annotations/generator.go). The pod's
    annotations may still contain the address of an interface that was hot-unplugged.
    """
    if text is None:
        return False
    try:
        requested = json.loads(text)
        return any((item.get("namespace"), item.get("name")) == (network.namespace, network.name) for item in requested)
    except (ValueError, AttributeError, TypeError):
        return True


def _parse_number(text: str, network: Network) -> int | None:
    address = _parse_address(text)
    return int(address) if address is not None and address in network else None


def _parse_address(text: str) -> Address | None:
    try:
        return ip_address(str(text).partition("/")[0])
    except ValueError:
        return None


# -- attach and detach -------------------------------------------------------------------------------------------------


def attach_interface(patch: PatchBuilder, attachment: Attachment, pod_binding: str) -> str:
    """Add an interface on the network, with an address, to a patch of the VM; return the interface's name.

    Args:
        patch: a patch of the VM.
        attachment: the address, and the requested properties of the interface.
        pod_binding: KubeVirt's default binding of the pod network. KubeVirt applies it only to a VM without interfaces,
            so it is written explicitly when the first interface is added.

    Raises:
        PreconditionFailed: the VM has another interface of that name, or is on the network with another interface or
            one that is still being removed.
        UsageError: no MAC address is given, by which DHCP identifies clients.
    """
    vm, network, nic = attachment.vm, attachment.network, attachment.nic
    if not attachment.mac:
        raise UsageError(
            f"network {network.full_name} identifies its VMs by their MAC addresses", "Leave --mac none out."
        )
    vm_interface = find_interface(vm.raw, vm.namespace, network)
    if vm_interface is None:
        _check_not_being_removed(vm, network)
        name = _choose_interface_name(vm, network, nic.name)
        _add_interface(patch, attachment, name, pod_binding)
    else:
        name = vm_interface.name
        if nic.name and nic.name != name:
            raise PreconditionFailed(
                f'VM {vm.full_name} is on network {network.full_name} with interface "{name}", not "{nic.name}"',
                "Detach it first to give it another name, or leave --interface-name out.",
            )
        _update_interface(patch, attachment, vm_interface)
    wanted = {
        key: None
        for key in vm.template_annotations
        if _is_address_annotation(key, network, vm) and key != IP_ANNOTATION_PREFIX + name
    }
    patch.set_keys(vm.raw, TEMPLATE_ANNOTATIONS, {**wanted, IP_ANNOTATION_PREFIX + name: str(attachment.address)})
    patch.set_keys(vm.raw, ANNOTATIONS, {NETWORK_NAME: add_network_name(vm, network)})
    return name


def _check_not_being_removed(vm: Vm, network: Network) -> None:
    """Raise PreconditionFailed while KubeVirt removes an interface: a second one would have the same MAC address."""
    for vm_interface in _iter_interfaces(vm.raw, vm.namespace, network, (*TEMPLATE, "spec")):
        raise PreconditionFailed(
            f'VM {vm.full_name}: its interface "{vm_interface.name}" on network {network.full_name} is still being '
            "unplugged",
            f"KubeVirt completes that with a live migration (virtctl migrate {vm.name} -n {vm.namespace}) or restart.",
        )


def detach_interface(patch: PatchBuilder, vm: Vm, network: Network, live: bool = False) -> str:
    """Add the changes to a patch that detach the VM from the network; return the MAC address that it had there.

    With `live` the interface only gets the state "absent": KubeVirt unplugs it from the running VM, then removes it
    from the template. Until then its annotation shows the running address.
    """
    vm_interface = find_interface(vm.raw, vm.namespace, network)
    if vm_interface is not None and live:
        existing = dig(vm.raw, *INTERFACES)
        patch.test(INTERFACES, existing).add(
            (*INTERFACES, str(existing.index(vm_interface.interface)), "state"), "absent"
        )
    elif vm_interface is not None:
        for path, element in ((NETWORKS, vm_interface.entry), (INTERFACES, vm_interface.interface)):
            existing = dig(vm.raw, *path)
            patch.test(path, existing).remove((*path, str(existing.index(element))))
    if vm_interface is None or not live:
        patch.set_keys(
            vm.raw,
            TEMPLATE_ANNOTATIONS,
            {key: None for key in vm.template_annotations if _is_address_annotation(key, network, vm)},
        )
    if names_network(vm, network):
        patch.set_keys(vm.raw, ANNOTATIONS, remove_network_name(vm, network))
    return vm_interface.mac if vm_interface else ""


def is_attached(vm: Vm, network: Network) -> bool:
    """Return whether the VM's object shows that it is on the network."""
    if find_interface(vm.raw, vm.namespace, network) is not None or names_network(vm, network):
        return True
    absent = {item.get("name") for item in dig(vm.raw, *INTERFACES, default=[]) if item.get("state") == "absent"}
    return bool(parse_pinned_numbers(vm.template_annotations, network).keys() - absent)


def _is_address_annotation(key: str, network: Network, vm: Vm) -> bool:
    return key.startswith(IP_ANNOTATION_PREFIX) and _parse_number(vm.template_annotations[key], network) is not None


def _choose_interface_name(vm: Vm, network: Network, requested: str) -> str:
    used_names = {str(entry.get("name")) for path in (NETWORKS, INTERFACES) for entry in dig(vm.raw, *path, default=[])}
    if requested:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?", requested) or len(requested) > MAX_NAME_LENGTH:
            raise UsageError(
                f'"{requested}" is not a valid interface name', "Use letters, digits and dashes, 63 at most."
            )
        if requested in used_names:
            raise PreconditionFailed(
                f'VM {vm.full_name} has an interface "{requested}" already', "Choose another --interface-name."
            )
        return requested
    name = network.name.replace(".", "-")
    if name in used_names or len(name) > MAX_NAME_LENGTH:
        name = f"{name[: MAX_NAME_LENGTH - 9].rstrip('-')}-{short_hash([network.full_name])}"
    return name


def _add_interface(patch: PatchBuilder, attachment: Attachment, name: str, pod_binding: str) -> None:
    vm, model = attachment.vm, attachment.nic.model
    entry: Json = {"name": name, "multus": {"networkName": attachment.network.relative_name(vm.namespace)}}
    interface: Json = {"name": name, "bridge": {}, "macAddress": attachment.mac, **({"model": model} if model else {})}
    networks, interfaces = [entry], [interface]
    if vm.pod_interface == {}:  # KubeVirt's default interface, which it adds only to a VM without any
        networks.insert(0, {"name": "default", "pod": {}})
        interfaces.insert(0, {"name": "default", pod_binding: {}})
    for path, additions in ((NETWORKS, networks), (INTERFACES, interfaces)):
        existing = dig(vm.raw, *path)
        if not existing:
            patch.set_in(vm.raw, path, additions)
            continue
        patch.test(path, existing)
        for item in additions:
            patch.add((*path, "-"), item)


def _update_interface(patch: PatchBuilder, attachment: Attachment, vm_interface: VmInterface) -> None:
    mac, model = attachment.mac, attachment.nic.model
    wanted = {**vm_interface.interface, "macAddress": mac, **({"model": model} if model else {})}
    if str(vm_interface.interface.get("macAddress") or "").lower() == mac.lower():
        wanted["macAddress"] = vm_interface.interface["macAddress"]
    if wanted == vm_interface.interface:
        return
    existing = dig(attachment.vm.raw, *INTERFACES)
    patch.test(INTERFACES, existing)
    for key in ("macAddress", "model"):
        if wanted.get(key) != vm_interface.interface.get(key):
            patch.add((*INTERFACES, str(existing.index(vm_interface.interface)), key), wanted[key])


def iter_macs(vms: Iterable[Vm], network: Network) -> Iterator[tuple[str, Vm]]:
    """Yield the MAC address of each VM's interface on a network, with the VM."""
    for vm in vms:
        vm_interface = find_interface(vm.raw, vm.namespace, network)
        if vm_interface is not None and vm_interface.mac:
            yield vm_interface.mac, vm
