"""What a VM's annotations say of public addresses: /publicNetwork, /publicIP, /publicPorts; each may be a list.

The original yoshi's README writes one name ("yoshiPublicNetwork", which as the name of an object is lower case) or one
address. A VM may have an address of several public networks, of one family each, so commas separate more.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.backend import Wishes
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, parse_record
from kubectl_yoshi.model.network import GROUP, Network, parse_network_name
from kubectl_yoshi.model.objects import dig
from kubectl_yoshi.model.ports import Port, parse_ports, written_ports
from kubectl_yoshi.model.vm import Vm

PUBLIC_NETWORK = f"{GROUP}/publicNetwork"
PUBLIC_IP = f"{GROUP}/publicIP"
PUBLIC_PORTS = f"{GROUP}/publicPorts"


def wishes_of(vm: Vm) -> Wishes:
    """What the VM's annotations ask for.

    Raises:
        UsageMistake: an address or a name is none.
    """
    networks = tuple(name.lower() for name in _words(vm, PUBLIC_NETWORK))
    for name in networks:
        parse_network_name(name, vm.namespace)
    return Wishes(networks, tuple(parse_address(word, f"{vm.ref}: {PUBLIC_IP}") for word in _words(vm, PUBLIC_IP)))


def ports_of(vm: Vm) -> tuple[Port, ...]:
    """The ports that the VM's annotation names; () where there is none.

    Raises:
        UsageMistake: one is no port.
    """
    text = vm.annotations.get(PUBLIC_PORTS, "")
    return parse_ports([text], f"{vm.ref}: {PUBLIC_PORTS}") if text.strip() else ()


def wished_of(vm: Vm, network: Network) -> list[Address]:
    """The addresses among those that the VM's annotation names that are of a network.

    One outside its CIDR is, where the VM names the network and the network holds it for the VM, or neither another
    network nor another address is named. Without a CIDR all are, where the VM names no other network.
    """
    try:
        wishes = wishes_of(vm)
    except UsageMistake:
        return []
    named = any(_means(name, vm, network) for name in wishes.networks)
    alone = len(wishes.networks) == 1 and (network.cidr is None or len(wishes.addresses) == 1)
    outside = (a for a in wishes.addresses if named and a not in network and network.may_hold(a))
    mine = {address for address in outside if alone or _holds(network, address, vm)}
    return [address for address in wishes.addresses if address in network or address in mine]


def annotations_with(
    vm: Vm, network: Network, address: Address, former: Address | None, ports: Sequence[Port]
) -> dict[str, str]:
    """The annotations that must differ from the VM's so that it wishes for an address of a network.

    Args:
        vm, network, address: whose, which.
        former: the address of the network that it has now, which the new one replaces.
        ports: what it is to be open on; () leaves that as it is.
    """
    wanted: dict[str, str] = {}
    names, texts = _words(vm, PUBLIC_NETWORK), _words(vm, PUBLIC_IP)
    if not any(_means(name, vm, network) for name in names):
        wanted[PUBLIC_NETWORK] = ",".join([*names, network.called_from(vm.namespace)])
    mine = {*wished_of(vm, network), *([former] if former else [])}
    kept = [text for text in texts if _address(text) not in mine - {address}]
    if address not in map(_address, kept):
        kept.append(str(address))
    if kept != texts:
        wanted[PUBLIC_IP] = ",".join(kept)
    if ports and tuple(sorted(ports)) != tuple(sorted(ports_of(vm))):
        wanted[PUBLIC_PORTS] = written_ports(ports)
    return wanted


def annotations_without(vm: Vm, network: Network, former: Address | None) -> dict[str, str | None]:
    """The annotations that must differ so that the VM wishes for no address of a network; None for one to remove."""
    names, texts = _words(vm, PUBLIC_NETWORK), _words(vm, PUBLIC_IP)
    mine = {*wished_of(vm, network), *([former] if former else [])}
    kept_names = [name for name in names if not _means(name, vm, network)]
    kept_texts = [text for text in texts if _address(text) not in mine]
    changed: dict[str, str | None] = {}
    if kept_names != names:
        changed[PUBLIC_NETWORK] = ",".join(kept_names) or None
    if kept_texts != texts:
        changed[PUBLIC_IP] = ",".join(kept_texts) or None
    if changed and not kept_names and not kept_texts and PUBLIC_PORTS in vm.annotations:
        changed[PUBLIC_PORTS] = None
    return changed


def _words(vm: Vm, annotation: str) -> list[str]:
    return [word.strip() for word in vm.annotations.get(annotation, "").split(",") if word.strip()]


def _address(text: str) -> Address | None:
    try:
        return parse_address(text)
    except UsageMistake:
        return None


def _means(name: str, vm: Vm, network: Network) -> bool:
    try:
        return parse_network_name(name.lower(), vm.namespace) == (network.namespace, network.name)
    except UsageMistake:
        return False


def _holds(network: Network, address: Address, vm: Vm) -> bool:
    value = dig(network.raw, "status", "allocations", str(address))
    if value is None:
        return False
    record = parse_record(value, network.namespace)
    return record.kind == VIRTUALMACHINE and record.uid == vm.uid
