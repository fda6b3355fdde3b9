"""A VM's interface on a layer 2 network: what its template says, and what runs of it.

The template has a Multus network and a bridge interface with the MAC address of the ledger's record; an annotation of
the template, ip.plumber.k8s.pf9.io/<interface>, says which address goes with it. KubeVirt hands it to the VMI and its
pod, so that what runs tells the address too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from kubectl_yoshi.backends.wished_names import NETWORK_NAME, names_it, with_name, without_name
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import How, Use
from kubectl_yoshi.model.change import PatchBuilder
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import ADDRESSBLOCK, GROUP, NETWORKWIZARD, Network
from kubectl_yoshi.model.nic import Nic
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
from kubectl_yoshi.model.vm import POD, VMI, Vm, instance_name_of_pod, owner_uid

IP_OF = f"ip.{GROUP}/"
"""Prefix of the template's annotation, named after an interface, that says its address."""

MULTUS_NETWORKS = "k8s.v1.cni.cncf.io/networks"
TEMPLATE = ("spec", "template")
TEMPLATE_ANNOTATIONS = (*TEMPLATE, "metadata", "annotations")
NETWORKS = (*TEMPLATE, "spec", "networks")
INTERFACES = (*TEMPLATE, "spec", "domain", "devices", "interfaces")
LONGEST_NAME = 63


@dataclass(frozen=True)
class Plug:
    """A VM's interface on a network.

    Attributes:
        name: the interface's.
        entry, interface: as the template has them.
    """

    name: str
    entry: Json
    interface: Json

    @property
    def mac(self) -> str:
        """Its MAC address; "" where KubeVirt makes one up at each start."""
        return str(self.interface.get("macAddress") or "").lower()

    @property
    def leaves(self) -> bool:
        """Whether KubeVirt is to take it out of the running VM."""
        return self.interface.get("state") == "absent"


def plug_of(obj: Json, namespace: str, network: Network, spec: tuple[str, ...] = (*TEMPLATE, "spec")) -> Plug | None:
    """The interface on a network, of a VM or, with `spec` ("spec",), of a VMI; None where there is none.

    An interface that is to be absent is there no more for a VM; for a VMI it is until KubeVirt has taken it out of what
    runs, and out of the VMI's status.
    """
    still_there = {status.get("name") for status in dig(obj, "status", "interfaces", default=[])}
    return next(
        (plug for plug in _plugs(obj, namespace, network, spec) if not plug.leaves or plug.name in still_there), None
    )


def _plugs(obj: Json, namespace: str, network: Network, spec: tuple[str, ...]) -> Iterator[Plug]:
    """The interfaces on a network, those too that are to be absent."""
    for entry in dig(obj, *spec, "networks", default=[]):
        if dig(entry, "multus", "networkName") in _names_of(network, namespace):
            for interface in dig(obj, *spec, "domain", "devices", "interfaces", default=[]):
                if interface.get("name") == entry.get("name"):
                    yield Plug(str(entry["name"]), entry, interface)


def _names_of(network: Network, namespace: str) -> set[str]:
    """How a VM of a namespace may name the network's attachment."""
    return {network.full_name, *((network.name,) if namespace == network.namespace else ())}


def pinned(annotations: Mapping[str, str], network: Network) -> dict[str, int]:
    """Interface -> the address of the network that annotations say it has."""
    found = {}
    for key, text in annotations.items():
        if key.startswith(IP_OF) and (number := _number(text, network)) is not None:
            found[key.removeprefix(IP_OF)] = number
    return found


def macs_of(vm: Vm, network: Network) -> tuple[str, str]:
    """See Backend.macs_of: an interface that we have not given an address to is as its owner made it."""
    plug = plug_of(vm.raw, vm.namespace, network)
    if plug is None:
        return "", ""
    return ("", plug.mac) if plug.name in pinned(vm.template_annotations, network) else (plug.mac, "")


# -- what is wanted, and what runs -----------------------------------------------------------------------------------


def wanted_by(vm: Vm, network: Network) -> list[Use]:
    """The address that a VM's template carries; not that of an interface which is to be taken out."""
    plug = plug_of(vm.raw, vm.namespace, network)
    number = pinned(vm.template_annotations, network).get(plug.name) if plug else None
    return [] if number is None else [Use(number, How.WANTED, vm.ref, vm.namespace, vm.name, vm.uid)]


def told_by(vm: Vm, network: str) -> tuple[Address, ...]:
    """See Backend.told_by."""
    namespace, name = network.split("/")
    names = {network, *((name,) if namespace == vm.namespace else ())}
    entries = [e for e in dig(vm.raw, *NETWORKS, default=[]) if dig(e, "multus", "networkName") in names]
    found = (_address(vm.template_annotations.get(f"{IP_OF}{entry.get('name')}", "")) for entry in entries)
    return tuple(address for address in found if address is not None)


def run_by_instance(vmi: Json, network: Network, vm: Vm | None, facts: Facts) -> list[Use]:
    """What a VMI has on the network: what its guest tells, else what it was started or plugged in with.

    What was plugged in while it ran, only the template said, which may say something else by now: so it counts as
    running with every address that is recorded for it with this MAC address.
    """
    namespace, name = namespace_of(vmi), name_of(vmi)
    plug = plug_of(vmi, namespace, network, ("spec",))
    if plug is None:  # taken out while it ran: annotations do not go after
        return []
    numbers = _told(vmi, plug, network)
    if not numbers:
        started_with = pinned(annotations_of(vmi), network).get(plug.name)
        numbers = {started_with} if started_with is not None else set()
        recorded = _recorded_for(vmi, plug, network, facts)
        if not numbers or (recorded and not numbers & recorded):  # plugged in later, and annotations stay as they were
            numbers |= recorded if vm is None else recorded | _plugged_in(vm, vmi, plug, network)
    ref = VMI.ref(name, namespace)
    return [Use(number, How.RUNNING, ref, namespace, name, owner_uid(vmi)) for number in sorted(numbers)]


def _recorded_for(vmi: Json, plug: Plug, network: Network, facts: Facts) -> set[int]:
    """The addresses that the ledger, as far as it was read, has for a VMI's interface that it has plugged in."""
    if not plug.mac or not _has(vmi, plug):
        return set()
    found = facts.derived(_recorded).get((network.uid, namespace_of(vmi), name_of(vmi), plug.mac), ())
    return {number for text in found if (number := _number(text, network)) is not None}


def _recorded(facts: Facts) -> dict[tuple[str, str, str, str], list[str]]:
    """What ledgers say, by network (its uid), VM (namespace, name) and MAC address."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    shelves = [(uid_of(obj), obj) for obj in facts.all(NETWORKWIZARD)]
    shelves += [(str(dig(obj, "spec", "networkUID")), obj) for obj in facts.all(ADDRESSBLOCK)]
    for uid, obj in shelves:
        for text, value in dig(obj, "status", "allocations", default={}).items():
            if isinstance(value, Mapping) and value.get("mac"):
                whose = (uid, str(value.get("namespace")), str(value.get("name")), str(value["mac"]).lower())
                found.setdefault(whose, []).append(text)
    return found


def _told(vmi: Json, plug: Plug, network: Network) -> set[int]:
    texts: list[str] = []
    for status in dig(vmi, "status", "interfaces", default=[]):
        if status.get("name") == plug.name or (plug.mac and str(status.get("mac")).lower() == plug.mac):
            texts += [status.get("ipAddress") or "", *(status.get("ipAddresses") or ())]
    return {number for text in texts if (number := _number(text, network)) is not None}


def _has(vmi: Json, plug: Plug) -> bool:
    return any(status.get("name") == plug.name for status in dig(vmi, "status", "interfaces", default=[]))


def _plugged_in(vm: Vm, vmi: Json, plug: Plug, network: Network) -> set[int]:
    """What the template says of an interface that the running VM has, and not only shall have."""
    mine = [one for one in dig(vm.raw, *INTERFACES, default=[]) if one.get("name") == plug.name]
    same = _has(vmi, plug) and bool(mine) and str(mine[0].get("macAddress") or "").lower() == plug.mac
    number = pinned(vm.template_annotations, network).get(plug.name) if same else None
    return set() if number is None else {number}


def run_by_pod(pod: Json, network: Network) -> list[Use]:
    """What a launcher pod was started with, as long as Multus is to have it on the network."""
    annotations = annotations_of(pod)
    if not _is_asked_of_multus(annotations.get(MULTUS_NETWORKS), network):
        return []
    namespace, name = namespace_of(pod), instance_name_of_pod(pod)
    numbers = sorted(set(pinned(annotations, network).values()))
    return [Use(number, How.RUNNING, POD.ref(name_of(pod), namespace), namespace, name) for number in numbers]


def _is_asked_of_multus(text: str | None, network: Network) -> bool:
    """Whether a pod's annotation names the network's attachment; one that cannot be read may do so.

    KubeVirt leaves it out for a pod without any such network (pkg/network/pod/annotations/generator.go), which may have
    the address in its annotations all the same: of an interface that was taken out of the VM while it ran.
    """
    if text is None:
        return False
    try:
        asked = json.loads(text)
        return any((one.get("namespace"), one.get("name")) == (network.namespace, network.name) for one in asked)
    except (ValueError, AttributeError, TypeError):
        return True


def _number(text: str, network: Network) -> int | None:
    address = _address(text)
    return int(address) if address is not None and address in network else None


def _address(text: str) -> Address | None:
    try:
        return ip_address(str(text).partition("/")[0])
    except ValueError:
        return None


# -- plugging in and out ---------------------------------------------------------------------------------------------


def plug_in(patch: PatchBuilder, vm: Vm, network: Network, number: int, mac: str, nic: Nic, pod_binding: str) -> str:
    """Adds to a patch what gives the VM an interface on the network with an address; gives the interface's name.

    Args:
        patch: of the VM.
        vm, network, number, mac: whose, where, which.
        nic: see Nic.
        pod_binding: how KubeVirt binds the pod network for a VM without any interface, which ends when it has one.

    Raises:
        Refused: the VM has another interface of that name, or is on the network with another one, or with one that
            is still being taken out.
        UsageMistake: no MAC address was given, and DHCP knows machines by them.
    """
    if not mac:
        raise UsageMistake(f"network {network.full_name} knows its VMs by their MAC addresses", "Leave --mac none out.")
    plug = plug_of(vm.raw, vm.namespace, network)
    if plug is None:
        _must_not_leave(vm, network)
        name = _new_name(vm, network, nic.name)
        _add_interface(patch, vm, network, name, mac, nic.model, pod_binding)
    else:
        name = plug.name
        if nic.name and nic.name != name:
            raise Refused(
                f'VM {vm.subject} is on network {network.full_name} with interface "{name}", not "{nic.name}"',
                "Detach it first to give it another name, or leave --nic-name out.",
            )
        _mend_interface(patch, vm, plug, mac, nic.model)
    wanted = {key: None for key in vm.template_annotations if _is_of(key, network, vm) and key != IP_OF + name}
    patch.set_keys(vm.raw, TEMPLATE_ANNOTATIONS, {**wanted, IP_OF + name: str(network.address(number))})
    patch.set_keys(vm.raw, ANNOTATIONS, {NETWORK_NAME: with_name(vm, network)})
    return name


def _must_not_leave(vm: Vm, network: Network) -> None:
    """Raises Refused while KubeVirt takes an interface out: a second one would have the same MAC address."""
    for plug in _plugs(vm.raw, vm.namespace, network, (*TEMPLATE, "spec")):
        raise Refused(
            f'VM {vm.subject}: its interface "{plug.name}" on network {network.full_name} is still being taken out',
            f"KubeVirt ends that with a live migration (virtctl migrate {vm.name} -n {vm.namespace}) or restart.",
        )


def unplug(patch: PatchBuilder, vm: Vm, network: Network, live: bool = False) -> str:
    """Adds to a patch what takes the VM off the network; gives the MAC address that it had there.

    With `live` the interface is only said to be absent: KubeVirt takes it out of the running VM, then off the template.
    Until then its annotation tells what address runs.
    """
    plug = plug_of(vm.raw, vm.namespace, network)
    if plug is not None and live:
        there = dig(vm.raw, *INTERFACES)
        patch.test(INTERFACES, there).add((*INTERFACES, str(there.index(plug.interface)), "state"), "absent")
    elif plug is not None:
        for path, mine in ((NETWORKS, plug.entry), (INTERFACES, plug.interface)):
            there = dig(vm.raw, *path)
            patch.test(path, there).remove((*path, str(there.index(mine))))
    if plug is None or not live:
        patch.set_keys(
            vm.raw, TEMPLATE_ANNOTATIONS, {key: None for key in vm.template_annotations if _is_of(key, network, vm)}
        )
    if names_it(vm, network):
        patch.set_keys(vm.raw, ANNOTATIONS, without_name(vm, network))
    return plug.mac if plug else ""


def is_on(vm: Vm, network: Network) -> bool:
    """Whether anything of the VM says that it is on the network."""
    if plug_of(vm.raw, vm.namespace, network) is not None or names_it(vm, network):
        return True
    absent = {one.get("name") for one in dig(vm.raw, *INTERFACES, default=[]) if one.get("state") == "absent"}
    return bool(pinned(vm.template_annotations, network).keys() - absent)


def _is_of(key: str, network: Network, vm: Vm) -> bool:
    return key.startswith(IP_OF) and _number(vm.template_annotations[key], network) is not None


def _new_name(vm: Vm, network: Network, asked: str) -> str:
    taken = {str(entry.get("name")) for path in (NETWORKS, INTERFACES) for entry in dig(vm.raw, *path, default=[])}
    if asked:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?", asked) or len(asked) > LONGEST_NAME:
            raise UsageMistake(
                f'"{asked}" is not a name for an interface', "Use letters, digits and dashes, 63 at most."
            )
        if asked in taken:
            raise Refused(f'VM {vm.subject} has an interface "{asked}" already', "Choose another --nic-name.")
        return asked
    name = network.name.replace(".", "-")
    if name in taken or len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 9].rstrip('-')}-{short_hash([network.full_name])}"
    return name


def _add_interface(
    patch: PatchBuilder, vm: Vm, network: Network, name: str, mac: str, model: str, pod_binding: str
) -> None:
    entry: Json = {"name": name, "multus": {"networkName": network.called_from(vm.namespace)}}
    interface: Json = {"name": name, "bridge": {}, "macAddress": mac, **({"model": model} if model else {})}
    networks, interfaces = [entry], [interface]
    if vm.pod_interface == {}:  # KubeVirt's default one, which it adds to a VM without any
        networks.insert(0, {"name": "default", "pod": {}})
        interfaces.insert(0, {"name": "default", pod_binding: {}})
    for path, more in ((NETWORKS, networks), (INTERFACES, interfaces)):
        there = dig(vm.raw, *path)
        if not there:
            patch.set_in(vm.raw, path, more)
            continue
        patch.test(path, there)
        for one in more:
            patch.add((*path, "-"), one)


def _mend_interface(patch: PatchBuilder, vm: Vm, plug: Plug, mac: str, model: str) -> None:
    wanted = {**plug.interface, "macAddress": mac, **({"model": model} if model else {})}
    if str(plug.interface.get("macAddress") or "").lower() == mac.lower():
        wanted["macAddress"] = plug.interface["macAddress"]
    if wanted == plug.interface:
        return
    there = dig(vm.raw, *INTERFACES)
    patch.test(INTERFACES, there)
    for key in ("macAddress", "model"):
        if wanted.get(key) != plug.interface.get(key):
            patch.add((*INTERFACES, str(there.index(plug.interface)), key), wanted[key])


def macs_on(vms: Iterable[Vm], network: Network) -> Iterator[tuple[str, Vm]]:
    """The MAC addresses of VMs' interfaces on a network."""
    for vm in vms:
        plug = plug_of(vm.raw, vm.namespace, network)
        if plug is not None and plug.mac:
            yield plug.mac, vm
