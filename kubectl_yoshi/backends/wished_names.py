"""The annotation that names the networks that a VM is to be on: /networkName, names with commas between them.

The original yoshi wrote one name. A VM may be on one Calico network and on several layer 2 networks, and the back-ends
of both read and write the one list.
"""

from __future__ import annotations

from collections.abc import Collection

from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.network import GROUP, Network, parse_network_name
from kubectl_yoshi.model.vm import Vm

NETWORK_NAME = f"{GROUP}/networkName"


def names_of(vm: Vm) -> tuple[str, ...]:
    """The names as they are written."""
    return tuple(word.strip() for word in vm.annotations.get(NETWORK_NAME, "").split(",") if word.strip())


def names_it(vm: Vm, network: Network) -> bool:
    """Whether a VM asks for a network."""
    return any(_means(name, vm, network) for name in names_of(vm))


def other_names(vm: Vm, network: Network) -> tuple[str, ...]:
    """The names of other networks, as far as they are names."""
    return tuple(name for name in names_of(vm) if _named(name, vm) not in (None, (network.namespace, network.name)))


def with_name(vm: Vm, network: Network, without: Collection[str] = ()) -> str:
    """The annotation that asks for a network, and not for some others any more; as it is where it says so already."""
    names = names_of(vm)
    kept = [name for name in names if name not in without]
    if names_it(vm, network):
        return ",".join(kept) if len(kept) < len(names) else vm.annotations[NETWORK_NAME]
    return ",".join([*kept, network.called_from(vm.namespace)])


def without_name(vm: Vm, network: Network) -> dict[str, str | None]:
    """The annotation that asks for a network no more, None where none is left: a change of a VM's annotations."""
    return {NETWORK_NAME: ",".join(name for name in names_of(vm) if not _means(name, vm, network)) or None}


def _means(name: str, vm: Vm, network: Network) -> bool:
    return _named(name, vm) == (network.namespace, network.name)


def _named(name: str, vm: Vm) -> tuple[str, str] | None:
    try:
        return parse_network_name(name, vm.namespace)
    except UsageMistake:
        return None
