"""What a VM's template, its VMI and its pod say of Calico addresses: the pins on them, and what they really have."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from ipaddress import ip_address

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import How, Use
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, annotations_of, dig, name_of, namespace_of
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm, instance_name_of_pod, owner_uid

IP_ADDRS = "cni.projectcalico.org/ipAddrs"
HW_ADDR = "cni.projectcalico.org/hwAddr"
POD_IPS = "cni.projectcalico.org/podIPs"


def pinned(annotations: object) -> tuple[Address, ...]:
    """The addresses of an ipAddrs annotation; () where there is none or it is not what Calico reads."""
    text = annotations.get(IP_ADDRS) if hasattr(annotations, "get") else None
    try:
        values = json.loads(text or "[]")
        return tuple(ip_address(value) for value in values)
    except (ValueError, TypeError):
        return ()


def _within(network: Network, texts: Iterable[str]) -> set[int]:
    numbers = set()
    for text in texts:
        try:
            address = ip_address(str(text).partition("/")[0])
        except ValueError:
            continue
        if address in network:
            numbers.add(int(address))
    return numbers


def wanted_by(vm: Vm, network: Network) -> list[Use]:
    return [
        Use(int(address), How.WANTED, vm.ref, vm.namespace, vm.name, vm.uid)
        for address in pinned(vm.template_annotations)
        if address in network
    ]


def wanted_in(network: Network, namespaces: Collection[str] | None, facts: Facts) -> list[Use]:
    """`wanted_by` of all VMs that were read (of these namespaces), in the order of their addresses.

    It costs what it finds, so that a list of many networks does not look at every VM for each of them.
    """
    pins = facts.derived(_pins).get(network.version, [])
    found: list[Use] = []
    for first, last in network.everything.spans:
        for number, vm in pins[bisect_left(pins, first, key=_number) : bisect_right(pins, last, key=_number)]:
            if namespaces is None or vm.namespace in namespaces:
                found.append(Use(number, How.WANTED, vm.ref, vm.namespace, vm.name, vm.uid))
    return found


def _pins(facts: Facts) -> dict[int, list[tuple[int, Vm]]]:
    """Every pinned address and its VM, by address family, in order."""
    found: dict[int, list[tuple[int, Vm]]] = {}
    for vm in map(Vm, facts.all(VM)):
        for address in pinned(vm.template_annotations):
            found.setdefault(address.version, []).append((int(address), vm))
    for pins in found.values():
        pins.sort(key=_number)
    return found


def _number(pin: tuple[int, Vm]) -> int:
    return pin[0]


def run_by_instance(vmi: Json, network: Network) -> list[Use]:
    """What a VMI really has; what it is pinned to only until that is known, since a handle is stronger than a pin."""
    texts: list[str] = []
    for interface in dig(vmi, "status", "interfaces", default=[]):
        texts += [interface.get("ipAddress") or "", *(interface.get("ipAddresses") or ())]
    if not any(texts):
        texts = [str(address) for address in pinned(annotations_of(vmi))]
    namespace, name = namespace_of(vmi), name_of(vmi)
    return [
        Use(number, How.RUNNING, VMI.ref(name, namespace), namespace, name, owner_uid(vmi))
        for number in sorted(_within(network, texts))
    ]


def run_by_pod(pod: Json, network: Network) -> list[Use]:
    """As `run_by_instance`, of a pod: what Calico says on it that it has, else what its status says."""
    annotations = annotations_of(pod)
    texts = annotations.get(POD_IPS, "").split(",")
    texts += [ip.get("ip") or "" for ip in dig(pod, "status", "podIPs", default=[])]
    if not any(texts):
        texts = [str(address) for address in pinned(annotations)]
    namespace, name = namespace_of(pod), instance_name_of_pod(pod)
    return [
        Use(number, How.RUNNING, POD.ref(name_of(pod), namespace), namespace, name)
        for number in sorted(_within(network, texts))
    ]
