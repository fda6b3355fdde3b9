"""Where it is seen which VM has which address: on running VMs, in Calico's books, on Services, or told by a person."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.backend import Backend, How
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, Name, annotations_of, dig
from kubectl_yoshi.model.vm import VM, VMI, Vm
from kubectl_yoshi.plan.books import known_networks, networks_asked
from kubectl_yoshi.plan.desk import Given

ADDRESSES = "network.kubevirt.io/addresses"
"""Annotation of a VM's template, or of its VMI: {"interface": ["192.168.0.1/24", …]}, as kubevirt's ipam-extensions
and OVN-Kubernetes read it."""


class Source(enum.Enum):
    """Where it is looked."""

    VMS = "vms"  # what VMIs and their pods run with, and the annotation ADDRESSES
    SERVICES = "services"  # Services of type LoadBalancer that select one VM
    CALICO = "calico"  # Calico's IPAM blocks


@dataclass(frozen=True)
class Sighting:
    """That a VM has an address.

    Attributes:
        network: namespace and name; None where no network has the address.
        given: whose, and which.
        shown_by: what shows it, for people: "virtualmachineinstance/web-1 runs with it", "line 7".
    """

    network: Name | None
    given: Given
    shown_by: str


@dataclass(frozen=True)
class Where:
    """Where a command looks.

    Attributes:
        network: namespace and name of a single network; None for every one that may be seen.
        namespace: VMs of this namespace; None for all.
        here: the namespace of the session.
    """

    network: Name | None
    namespace: str | None
    here: str


def sightings(source: Source, where: Where, backends: Mapping[str, Backend], facts: Facts) -> list[Sighting]:
    """What is seen in the cluster, each VM and address once, in order.

    Raises:
        NeedMore: more must be read first.
        Refused: what would show it may not be read.
    """
    found: dict[tuple[Name, Name, Address], Sighting] = {}
    for network in _networks(where, facts):
        backend = backends.get(network.plugin)
        if backend is None or network.is_going:
            continue
        for given, shown_by in _seen(source, network, backend, where, facts):
            key = (network.namespace, network.name), given.vm, given.address
            found.setdefault(key, Sighting(key[0], given, shown_by))
    if why := facts.why_unknown(*(read for read in facts.answers if read.resource in (VM, VMI) and not read.name)):
        raise Refused(f"which VM has which address cannot be told: {why}", ASK_FOR_IT)
    return list(found.values())


def placed(told: Iterable[tuple[Given, str]], where: Where, facts: Facts) -> list[Sighting]:
    """What a person has told, each with the network that has the address.

    Raises:
        NeedMore: more must be read first.
        Refused: there is no such network.
    """
    networks = _networks(where, facts)
    found = []
    for given, line in told:
        mine = networks if where.network else [network for network in networks if given.address in network]
        name = (mine[0].namespace, mine[0].name) if mine else None
        found.append(Sighting(name, given, line))
    return found


def _networks(where: Where, facts: Facts) -> Sequence[Network]:
    if where.network is not None:
        return networks_asked(where.network, None, facts)[0]
    return known_networks(where.here, facts)


def _seen(
    source: Source, network: Network, backend: Backend, where: Where, facts: Facts
) -> Iterator[tuple[Given, str]]:
    namespaces = None if where.namespace is None else (where.namespace,)
    if source is Source.SERVICES:
        for use in backend.carried(network, namespaces, facts) if network.cidr or where.network else ():
            address, service = network.address(use.number), f"{use.ref.resource.kind.lower()}/{use.ref.name}"
            yield Given((use.namespace, use.name), address, note=f"by {service}"), f"{use.ref} selects the VM"
        return
    how, says = (How.HELD, "{} holds it for the VM") if source is Source.CALICO else (How.RUNNING, "{} runs with it")
    for use in backend.survey(network, namespaces, facts) if backend.on_template else ():
        if use.how is how and use.name and not use.is_own_of(network) and where.namespace in (None, use.namespace):
            vm, address = (use.namespace, use.name), network.address(use.number)
            yield Given(vm, address, _mac(vm, address, facts)), says.format(use.ref)
    if source is Source.VMS:
        for obj in (*facts.all(VM, where.namespace), *facts.all(VMI, where.namespace)):
            yield from _annotated(obj, network)


def _annotated(obj: Json, network: Network) -> Iterator[tuple[Given, str]]:
    """What the annotation ADDRESSES says of a VM's template, or of a VMI."""
    vm = Vm(obj)
    annotations = {**annotations_of(obj), **vm.template_annotations}
    for address in addresses_annotated(annotations):
        if address in network:
            yield Given((vm.namespace, vm.name), address), f"annotation {ADDRESSES}"


def addresses_annotated(annotations: Mapping[str, str]) -> list[Address]:
    """The addresses of the annotation ADDRESSES; [] where there is none, or it is not what its readers read."""
    try:
        by_interface = json.loads(annotations.get(ADDRESSES, "{}"))
        texts = [text for texts in by_interface.values() for text in ([texts] if isinstance(texts, str) else texts)]
        return [parse_address(str(text).partition("/")[0]) for text in texts]
    except (ValueError, AttributeError, TypeError, UsageMistake):
        return []


def _mac(vm: Name, address: Address, facts: Facts) -> str:
    """The MAC address of the interface that a VM runs with; "" where its template has one, or none is told."""
    obj, vmi = facts.one(VM, vm[1], vm[0]), facts.one(VMI, vm[1], vm[0])
    if obj is None or vmi is None:
        return ""
    for interface in dig(vmi, "status", "interfaces", default=[]):
        if str(address) in (interface.get("ipAddress"), *(interface.get("ipAddresses") or ())):
            return str(interface.get("mac") or "").lower()
    return ""
