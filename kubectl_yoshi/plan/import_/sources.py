"""Find which VM has which address: on running VMs, in Calico IPAM, on Services, or in the entries of a file."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.backend import Backend, UsageKind
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, UsageError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, NamespacedName, annotations_of, dig
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import VM, VMI, Vm
from kubectl_yoshi.plan.attach.context import ExistingAddress
from kubectl_yoshi.plan.network_lookup import list_networks, list_requested_networks

ADDRESSES_ANNOTATION = "network.kubevirt.io/addresses"
"""Annotation of a template or VMI, as kubevirt's ipam-extensions and OVN-Kubernetes read it.

Its value is {"interface": ["192.168.0.1/24", …]}.
"""


class Source(enum.Enum):
    """Where addresses are searched for."""

    VMS = "vms"  # what VMIs and their pods run with, and the annotation ADDRESSES
    SERVICES = "services"  # Services of type LoadBalancer that select one VM
    CALICO = "calico"  # Calico's IPAM blocks


@dataclass(frozen=True)
class Observation:
    """The observation that a VM has an address.

    Attributes:
        network: namespace and name; None if no network has the address.
        existing: the VM and the address.
        evidence: what shows it, for the user: "virtualmachineinstance/web-1 runs with it", "line 7".
    """

    network: NamespacedName | None
    existing: ExistingAddress
    evidence: str


@dataclass(frozen=True)
class SearchScope:
    """Where a command searches.

    Attributes:
        network: namespace and name of a single network; None for all that can be read.
        namespace: VMs of this namespace; None for all.
        default_namespace: the namespace of the session.
    """

    network: NamespacedName | None
    namespace: str | None
    default_namespace: str


def list_observations(
    source: Source, scope: SearchScope, backends: Mapping[str, Backend], snapshot: Snapshot
) -> list[Observation]:
    """Return the observations in the cluster, each VM and address once, in order.

    Raises:
        PreconditionFailed: the objects that would show them cannot be read.
    """
    found: dict[tuple[NamespacedName, NamespacedName, Address], Observation] = {}
    for network in _list_networks(scope, snapshot):
        backend = backends.get(network.plugin)
        if backend is None or network.is_deleting:
            continue
        for existing, evidence in _iter_observed(source, network, backend, scope, snapshot):
            key = (network.namespace, network.name), existing.vm, existing.address
            found.setdefault(key, Observation(key[0], existing, evidence))
    if reason := snapshot.unreadable_reason(
        *(query for query in snapshot.results if query.resource in (VM, VMI) and not query.name)
    ):
        raise PreconditionFailed(f"cannot determine which VM has which address: {reason}", ASK_ADMIN_HINT)
    return list(found.values())


def match_networks(
    entries: Iterable[tuple[ExistingAddress, str]], scope: SearchScope, snapshot: Snapshot
) -> list[Observation]:
    """Return the entries of a file as observations, each with the network that has the address.

    Raises:
        PreconditionFailed: the requested network does not exist.
    """
    networks = _list_networks(scope, snapshot)
    found = []
    for existing, line in entries:
        matches = networks if scope.network else [network for network in networks if existing.address in network]
        name = (matches[0].namespace, matches[0].name) if matches else None
        found.append(Observation(name, existing, line))
    return found


def _list_networks(scope: SearchScope, snapshot: Snapshot) -> Sequence[Network]:
    if scope.network is not None:
        return list_requested_networks(scope.network, None, snapshot)[0]
    return list_networks(scope.default_namespace, snapshot)


def _iter_observed(
    source: Source, network: Network, backend: Backend, scope: SearchScope, snapshot: Snapshot
) -> Iterator[tuple[ExistingAddress, str]]:
    namespaces = None if scope.namespace is None else (scope.namespace,)
    if source is Source.SERVICES:
        for use in backend.service_addresses(network, namespaces, snapshot) if network.cidr or scope.network else ():
            address, service = network.address(use.number), f"{use.ref.resource.kind.lower()}/{use.ref.name}"
            yield ExistingAddress((use.namespace, use.name), address, note=f"by {service}"), f"{use.ref} selects the VM"
        return
    kind, template = (
        (UsageKind.HELD_BY_BACKEND, "{} holds it for the VM")
        if source is Source.CALICO
        else (UsageKind.RUNNING, "{} runs with it")
    )
    for use in backend.all_address_uses(network, namespaces, snapshot) if backend.pins_vm_template else ():
        if (
            use.kind is kind
            and use.name
            and not use.is_infra_use_of(network)
            and scope.namespace in (None, use.namespace)
        ):
            vm, address = (use.namespace, use.name), network.address(use.number)
            yield ExistingAddress(vm, address, _mac(vm, address, snapshot)), template.format(use.ref)
    if source is Source.VMS:
        for obj in (*snapshot.list_objects(VM, scope.namespace), *snapshot.list_objects(VMI, scope.namespace)):
            yield from _iter_annotated(obj, network)


def _iter_annotated(obj: Json, network: Network) -> Iterator[tuple[ExistingAddress, str]]:
    """Yield the addresses of the annotation ADDRESSES on a VM's template or a VMI."""
    vm = Vm(obj)
    annotations = {**annotations_of(obj), **vm.template_annotations}
    for address in parse_address_annotation(annotations):
        if address in network:
            yield ExistingAddress((vm.namespace, vm.name), address), f"annotation {ADDRESSES_ANNOTATION}"


def parse_address_annotation(annotations: Mapping[str, str]) -> list[Address]:
    """Return the addresses of the annotation ADDRESSES; [] if it is missing or malformed."""
    try:
        by_interface = json.loads(annotations.get(ADDRESSES_ANNOTATION, "{}"))
        texts = [text for texts in by_interface.values() for text in ([texts] if isinstance(texts, str) else texts)]
        return [parse_address(str(text).partition("/")[0]) for text in texts]
    except (ValueError, AttributeError, TypeError, UsageError):
        return []


def _mac(vm: NamespacedName, address: Address, snapshot: Snapshot) -> str:
    """Return the MAC address of the interface that a VM runs with the address; "" if no interface reports one."""
    obj, vmi = snapshot.get_object(VM, vm[1], vm[0]), snapshot.get_object(VMI, vm[1], vm[0])
    if obj is None or vmi is None:
        return ""
    for interface in dig(vmi, "status", "interfaces", default=[]):
        if str(address) in (interface.get("ipAddress"), *(interface.get("ipAddresses") or ())):
            return str(interface.get("mac") or "").lower()
    return ""
