"""Parse what the annotations of VMs request: a network, and optionally an address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import parse_network_name
from kubectl_yoshi.model.objects import NamespacedName, dig
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attach.planner import AttachRequest
from kubectl_yoshi.plan.network_lookup import find_candidate_networks, list_networks, network_query


@dataclass(frozen=True)
class RequestedNetwork:
    """A network that a VM requests.

    Attributes:
        vm, network: namespace and name of each.
        address: the requested address; None for any.
        plugin: the backend whose annotation requests it.
    """

    vm: NamespacedName
    network: NamespacedName
    address: Address | None
    plugin: str


def find_requested_networks(vm: Vm, backends: Mapping[str, Backend], snapshot: Snapshot) -> list[RequestedNetwork]:
    """Return the networks that a VM's annotations request, each network once.

    Raises:
        UsageError: an annotation is invalid.
        PreconditionFailed: no known network has the requested address.
    """
    requested_networks: dict[NamespacedName, RequestedNetwork] = {}
    for backend in backends.values():
        vm_request = backend.requested_networks(vm)
        if not vm_request:
            continue
        networks = [parse_network_name(text, vm.namespace) for text in vm_request.networks]
        named: dict[NamespacedName, Address] = {}
        for address in vm_request.addresses:
            network = _find_network(address, networks, backend, vm, snapshot)
            if named.setdefault(network, address) != address:
                raise PreconditionFailed(
                    f"VM {vm.full_name} requests {named[network]} and {address} of network {'/'.join(network)}",
                    "A VM has at most one address of a network: name one of them.",
                )
        for network in dict.fromkeys([*networks, *named]):
            requested_network = RequestedNetwork((vm.namespace, vm.name), network, named.get(network), backend.plugin)
            if network not in requested_networks or _has_plugin(network, backend.plugin, snapshot):
                requested_networks[network] = (
                    requested_network  # two backends may read one annotation: the network's own one wins
                )
    return list(requested_networks.values())


def _has_plugin(network: NamespacedName, plugin: str, snapshot: Snapshot) -> bool:
    return any(dig(obj, "spec", "plugin") == plugin for obj in snapshot.lookup(network_query(*network)))


def _find_network(
    address: Address, networks: list[NamespacedName], backend: Backend, vm: Vm, snapshot: Snapshot
) -> NamespacedName:
    """Return the network of a requested address: one of those named, else the one of this backend that has it."""
    candidates = [n for n in list_networks(vm.namespace, snapshot) if n.plugin == backend.plugin]
    if networks:
        candidates = [n for n in candidates if (n.namespace, n.name) in networks]
        if not candidates:
            return networks[0]  # the planner reports that it does not exist
    matches = find_candidate_networks(address, candidates, vm.namespace)
    if len(matches) == 1 or (matches and networks):
        return matches[0].namespace, matches[0].name
    if networks:
        return networks[0]
    conflict_text = f"networks {', '.join(n.full_name for n in matches)} all contain {address}"
    raise PreconditionFailed(
        f"VM {vm.full_name} requests {address}: "
        f"{conflict_text if matches else f'no {backend.plugin} network contains it'}",
        f"Specify the network on the VM with the annotation {backend.annotation_key}.",
    )


def build_attach_requests(requested_networks: Iterable[RequestedNetwork], restart: bool) -> list[AttachRequest]:
    """Convert requested networks into attach requests: one per network, and one per VM that names an address."""
    by_network: dict[tuple[NamespacedName, str], list[NamespacedName]] = {}
    single: list[AttachRequest] = []
    for requested_network in requested_networks:
        if requested_network.address is None:
            by_network.setdefault((requested_network.network, requested_network.plugin), []).append(
                requested_network.vm
            )
        else:
            request = AttachRequest(
                requested_network.network,
                (requested_network.vm,),
                requested_network.address,
                restart=restart,
                plugin=requested_network.plugin,
                network_planned=True,
            )
            single.append(request)
    any_address = [
        AttachRequest(network, tuple(sorted(vms)), restart=restart, plugin=plugin, network_planned=True)
        for (network, plugin), vms in by_network.items()
    ]
    return [*sorted(single, key=lambda request: request.vms), *any_address]
