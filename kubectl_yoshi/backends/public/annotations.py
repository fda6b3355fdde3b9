"""Read and write a VM's annotations for public addresses: /publicNetwork, /publicIP, /publicPorts, each a list.

The README of Platform9 yoshi has one network name ("yoshiPublicNetwork", which is lower case as the name of an object)
or one address. Here a VM may have an address of several public networks, one of each family, so values are separated by
commas.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.allocations import VIRTUALMACHINE, parse_allocation
from kubectl_yoshi.model.backend import RequestedNetworks
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.network import GROUP, Network, parse_network_name
from kubectl_yoshi.model.objects import dig
from kubectl_yoshi.model.ports import Port, format_ports, parse_ports
from kubectl_yoshi.model.vm import Vm

PUBLIC_NETWORK = f"{GROUP}/publicNetwork"
PUBLIC_IP = f"{GROUP}/publicIP"
PUBLIC_PORTS = f"{GROUP}/publicPorts"


def parse_requested_networks(vm: Vm) -> RequestedNetworks:
    """Return what the VM's annotations request.

    Raises:
        UsageError: an address or a name is invalid.
    """
    networks = tuple(name.lower() for name in _split_annotation(vm, PUBLIC_NETWORK))
    for name in networks:
        parse_network_name(name, vm.namespace)
    return RequestedNetworks(
        networks, tuple(parse_address(word, f"{vm.ref}: {PUBLIC_IP}") for word in _split_annotation(vm, PUBLIC_IP))
    )


def parse_ports_annotation(vm: Vm) -> tuple[Port, ...]:
    """Return the ports in the VM's annotation; () if there is none.

    Raises:
        UsageError: a port is invalid.
    """
    text = vm.annotations.get(PUBLIC_PORTS, "")
    return parse_ports([text], f"{vm.ref}: {PUBLIC_PORTS}") if text.strip() else ()


def list_requested_addresses(vm: Vm, network: Network) -> list[Address]:
    """Return those of the addresses in the VM's annotation that belong to a network.

    An address outside its CIDR does if the VM names the network and either the network holds the address for the VM, or
    the VM names no other network and no other address. Without a CIDR all addresses do if the VM names no other
    network.
    """
    try:
        requested = parse_requested_networks(vm)
    except UsageError:
        return []
    names_network = any(_matches_network(name, vm, network) for name in requested.networks)
    is_unambiguous = len(requested.networks) == 1 and (network.cidr is None or len(requested.addresses) == 1)
    outside_cidr = (a for a in requested.addresses if names_network and a not in network and network.can_hold(a))
    own_addresses = {address for address in outside_cidr if is_unambiguous or _has_allocation_for(network, address, vm)}
    return [address for address in requested.addresses if address in network or address in own_addresses]


def build_attach_annotations(
    vm: Vm, network: Network, address: Address, previous_address: Address | None, ports: Sequence[Port]
) -> dict[str, str]:
    """Return the annotations to change so that the VM requests an address of a network.

    Args:
        vm: the VM.
        network: the network.
        address: the address to request.
        previous_address: the address of the network that it has now, which the new one replaces; None for none.
        ports: the ports to open; () leaves them as they are.
    """
    wanted: dict[str, str] = {}
    names, texts = _split_annotation(vm, PUBLIC_NETWORK), _split_annotation(vm, PUBLIC_IP)
    if not any(_matches_network(name, vm, network) for name in names):
        wanted[PUBLIC_NETWORK] = ",".join([*names, network.relative_name(vm.namespace)])
    own_addresses = {*list_requested_addresses(vm, network), *([previous_address] if previous_address else [])}
    remaining = [text for text in texts if _parse_address_or_none(text) not in own_addresses - {address}]
    if address not in map(_parse_address_or_none, remaining):
        remaining.append(str(address))
    if remaining != texts:
        wanted[PUBLIC_IP] = ",".join(remaining)
    if ports and tuple(sorted(ports)) != tuple(sorted(parse_ports_annotation(vm))):
        wanted[PUBLIC_PORTS] = format_ports(ports)
    return wanted


def build_detach_annotations(vm: Vm, network: Network, previous_address: Address | None) -> dict[str, str | None]:
    """Return the annotations to change so that the VM requests no address of a network; None for one to remove."""
    names, texts = _split_annotation(vm, PUBLIC_NETWORK), _split_annotation(vm, PUBLIC_IP)
    own_addresses = {*list_requested_addresses(vm, network), *([previous_address] if previous_address else [])}
    remaining_names = [name for name in names if not _matches_network(name, vm, network)]
    remaining_texts = [text for text in texts if _parse_address_or_none(text) not in own_addresses]
    changed: dict[str, str | None] = {}
    if remaining_names != names:
        changed[PUBLIC_NETWORK] = ",".join(remaining_names) or None
    if remaining_texts != texts:
        changed[PUBLIC_IP] = ",".join(remaining_texts) or None
    if changed and not remaining_names and not remaining_texts and PUBLIC_PORTS in vm.annotations:
        changed[PUBLIC_PORTS] = None
    return changed


def _split_annotation(vm: Vm, annotation: str) -> list[str]:
    return [word.strip() for word in vm.annotations.get(annotation, "").split(",") if word.strip()]


def _parse_address_or_none(text: str) -> Address | None:
    try:
        return parse_address(text)
    except UsageError:
        return None


def _matches_network(name: str, vm: Vm, network: Network) -> bool:
    try:
        return parse_network_name(name.lower(), vm.namespace) == (network.namespace, network.name)
    except UsageError:
        return False


def _has_allocation_for(network: Network, address: Address, vm: Vm) -> bool:
    value = dig(network.raw, "status", "allocations", str(address))
    if value is None:
        return False
    record = parse_allocation(value, network.namespace)
    return record.kind == VIRTUALMACHINE and record.uid == vm.uid
