"""How a VM is plugged into a network that gives it an interface of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Nic:
    """What is asked for.

    Attributes:
        name: the interface's; "" for the one that it has, or a name after the network.
        model: what the guest sees, such as "virtio"; "" for what it is, or KubeVirt's choice.
        cloud_init: write the address into the VM's cloud-init network data.
        live: plug it into the running VM where that can be done.
    """

    name: str = ""
    model: str = ""
    cloud_init: bool = False
    live: bool = False


DEFAULT_NIC = Nic()
"""Nothing in particular is asked for."""
