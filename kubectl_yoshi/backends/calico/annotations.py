"""Read Calico addresses from a VM's template, its VMI and its pod: those pinned there, and those in use."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from ipaddress import ip_address

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import AddressUse, UsageKind
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, annotations_of, dig, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm, get_instance_name, owner_uid

IP_ADDRS_ANNOTATION = "cni.projectcalico.org/ipAddrs"
HW_ADDR_ANNOTATION = "cni.projectcalico.org/hwAddr"
POD_IPS_ANNOTATION = "cni.projectcalico.org/podIPs"


def parse_pinned_addresses(annotations: object) -> tuple[Address, ...]:
    """Return the addresses of an ipAddrs annotation; () if it is missing or invalid."""
    text = annotations.get(IP_ADDRS_ANNOTATION) if hasattr(annotations, "get") else None
    try:
        values = json.loads(text or "[]")
        return tuple(ip_address(value) for value in values)
    except (ValueError, TypeError):
        return ()


def _numbers_in_network(network: Network, texts: Iterable[str]) -> set[int]:
    numbers = set()
    for text in texts:
        try:
            address = ip_address(str(text).partition("/")[0])
        except ValueError:
            continue
        if address in network:
            numbers.add(int(address))
    return numbers


def list_template_uses(vm: Vm, network: Network) -> list[AddressUse]:
    return [
        AddressUse(int(address), UsageKind.REQUESTED, vm.ref, vm.namespace, vm.name, vm.uid)
        for address in parse_pinned_addresses(vm.template_annotations)
        if address in network
    ]


def list_pinned_uses(network: Network, namespaces: Collection[str] | None, snapshot: Snapshot) -> list[AddressUse]:
    """Return `list_template_uses` for all VMs that were read (in these namespaces), in the order of their addresses.

    The cost depends on the number of results, so that a list of many networks does not scan all VMs for each of them.
    """
    pins = snapshot.derived(_index_pins).get(network.version, [])
    found: list[AddressUse] = []
    for first, last in network.cidr_addresses.spans:
        for number, vm in pins[bisect_left(pins, first, key=_pin_number) : bisect_right(pins, last, key=_pin_number)]:
            if namespaces is None or vm.namespace in namespaces:
                found.append(AddressUse(number, UsageKind.REQUESTED, vm.ref, vm.namespace, vm.name, vm.uid))
    return found


def _index_pins(snapshot: Snapshot) -> dict[int, list[tuple[int, Vm]]]:
    """Return IP version -> every pinned address with its VM, in ascending order."""
    found: dict[int, list[tuple[int, Vm]]] = {}
    for vm in map(Vm, snapshot.list_objects(VM)):
        for address in parse_pinned_addresses(vm.template_annotations):
            found.setdefault(address.version, []).append((int(address), vm))
    for pins in found.values():
        pins.sort(key=_pin_number)
    return found


def _pin_number(pin: tuple[int, Vm]) -> int:
    return pin[0]


def list_instance_uses(vmi: Json, network: Network) -> list[AddressUse]:
    """Return the addresses in use by a VMI.

    Until its status contains them, these are the pinned ones; afterwards not, since an IPAM handle takes precedence.
    """
    texts: list[str] = []
    for interface in dig(vmi, "status", "interfaces", default=[]):
        texts += [interface.get("ipAddress") or "", *(interface.get("ipAddresses") or ())]
    if not any(texts):
        texts = [str(address) for address in parse_pinned_addresses(annotations_of(vmi))]
    namespace, name = namespace_of(vmi), name_of(vmi)
    return [
        AddressUse(number, UsageKind.RUNNING, VMI.ref(name, namespace), namespace, name, owner_uid(vmi))
        for number in sorted(_numbers_in_network(network, texts))
    ]


def list_pod_uses(pod: Json, network: Network) -> list[AddressUse]:
    """Return the addresses in use by a pod: from Calico's annotation and its status, else the pinned ones."""
    annotations = annotations_of(pod)
    texts = annotations.get(POD_IPS_ANNOTATION, "").split(",")
    texts += [ip.get("ip") or "" for ip in dig(pod, "status", "podIPs", default=[])]
    if not any(texts):
        texts = [str(address) for address in parse_pinned_addresses(annotations)]
    namespace, name = namespace_of(pod), get_instance_name(pod)
    return [
        AddressUse(number, UsageKind.RUNNING, POD.ref(name_of(pod), namespace), namespace, name)
        for number in sorted(_numbers_in_network(network, texts))
    ]
