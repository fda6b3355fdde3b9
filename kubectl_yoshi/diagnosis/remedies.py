"""The command lines that are the remedy of several findings."""

from __future__ import annotations

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import NamespacedName


def attach(vm: NamespacedName, flags: str) -> str:
    """Return the command that attaches a VM; the flags name the network."""
    return f"kubectl yoshi vm attach {vm[1]} -n {vm[0]} {flags}"


def detach(vm: NamespacedName, network: NamespacedName) -> str:
    """Return the command that detaches a VM from a network."""
    return f"kubectl yoshi vm detach {vm[1]} -n {vm[0]} --network {'/'.join(network)}"


def start(vm: NamespacedName) -> str:
    """Return the command that starts a VM."""
    return f"virtctl start {vm[1]} -n {vm[0]}"


def restart(vm: NamespacedName) -> str:
    """Return the command that restarts a VM."""
    return f"virtctl restart {vm[1]} -n {vm[0]}"


def show_address(address: Address | str) -> str:
    """Return the command that shows an address, its holder and its previous holders."""
    return f"kubectl yoshi ips show {address}"


def collect(network: Network) -> str:
    """Return the command that releases the addresses of a network that nothing uses."""
    return f"kubectl yoshi ips gc -n {network.namespace} --network {network.name}"


def describe(network: Network) -> str:
    """Return the command that describes a network."""
    return f"kubectl yoshi network describe {network.name} -n {network.namespace}"


def sync(network: Network) -> str:
    """Return the command that reconciles the networks of a network's namespace."""
    return f"kubectl yoshi sync -n {network.namespace}"
