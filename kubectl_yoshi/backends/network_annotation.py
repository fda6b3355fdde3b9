"""Read and write the annotation with the networks that a VM requests: /networkName, comma-separated names.

Platform9 yoshi wrote one name. A VM may be on one Calico network and on several Layer 2 networks; the backends of both
use the same list.
"""

from __future__ import annotations

from collections.abc import Collection

from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.network import GROUP, Network, parse_network_name
from kubectl_yoshi.model.vm import Vm

NETWORK_NAME = f"{GROUP}/networkName"


def parse_network_names(vm: Vm) -> tuple[str, ...]:
    """Return the names as written."""
    return tuple(word.strip() for word in vm.annotations.get(NETWORK_NAME, "").split(",") if word.strip())


def names_network(vm: Vm, network: Network) -> bool:
    """Return whether a VM requests a network."""
    return any(_matches_network(name, vm, network) for name in parse_network_names(vm))


def list_other_network_names(vm: Vm, network: Network) -> tuple[str, ...]:
    """Return the names of other networks, without invalid ones."""
    return tuple(
        name
        for name in parse_network_names(vm)
        if _parse_name(name, vm) not in (None, (network.namespace, network.name))
    )


def add_network_name(vm: Vm, network: Network, excluded: Collection[str] = ()) -> str:
    """Return the annotation that requests a network, without `excluded` ones; unchanged if it matches already."""
    names = parse_network_names(vm)
    remaining = [name for name in names if name not in excluded]
    if names_network(vm, network):
        return ",".join(remaining) if len(remaining) < len(names) else vm.annotations[NETWORK_NAME]
    return ",".join([*remaining, network.relative_name(vm.namespace)])


def remove_network_name(vm: Vm, network: Network) -> dict[str, str | None]:
    """Return the annotation without a network, as a change of a VM's annotations; None if no network is left."""
    return {
        NETWORK_NAME: ",".join(name for name in parse_network_names(vm) if not _matches_network(name, vm, network))
        or None
    }


def _matches_network(name: str, vm: Vm, network: Network) -> bool:
    return _parse_name(name, vm) == (network.namespace, network.name)


def _parse_name(name: str, vm: Vm) -> tuple[str, str] | None:
    try:
        return parse_network_name(name, vm.namespace)
    except UsageError:
        return None
