"""The cables of the full profile: a bridge, and a network namespace per node and for the router.

Nothing here carries the VMs' traffic. It is what BGP and ARP speak over, and the host reaches every namespace by it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from lab.errors import LabError
from lab.slots import Slot

ROUTER = "router"
ROUTER_HOST = 254  # its place in the lab's subnet
FIRST_NODE_HOST = 11
NODES = ("node-1", "node-2")


@dataclass(frozen=True)
class Node:
    """A node of the full profile: its network namespace, and its addresses on the lab's bridge."""

    name: str
    network_namespace: str
    address: str
    address6: str


def nodes_of(slot: Slot) -> list[Node]:
    """The nodes of a full lab."""
    return [
        Node(name, slot.namespace(name), slot.address(host), slot.address6(host))
        for host, name in enumerate(NODES, FIRST_NODE_HOST)
    ]


def lay_fabric(slot: Slot) -> None:
    """Make the bridge and the namespaces; a LabError when that is not allowed."""
    if os.geteuid() != 0:
        raise LabError("the full profile makes a bridge and network namespaces: run it as root")
    hosts = [*((node.network_namespace, host) for host, node in enumerate(nodes_of(slot), FIRST_NODE_HOST))]
    hosts.append((slot.namespace(ROUTER), ROUTER_HOST))
    outside = [
        f"link add {slot.bridge} type bridge",
        f"addr add {slot.address(1)}/24 dev {slot.bridge}",
        f"addr add {slot.address6(1)}/64 dev {slot.bridge} nodad",
        f"link set {slot.bridge} up",
    ]
    for namespace, host in hosts:
        cable = f"{slot.bridge}-{host}"
        outside += [
            f"netns add {namespace}",
            f"link add {cable} type veth peer name eth0 netns {namespace}",
            f"link set {cable} master {slot.bridge} up",
        ]
    batch(outside)
    for namespace, host in hosts:
        inside = [
            "link set lo up",
            f"addr add {slot.address(host)}/24 dev eth0",
            f"addr add {slot.address6(host)}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {slot.gateway}",
        ]
        batch(inside, namespace)


def remove_fabric(slot: Slot) -> None:
    """Remove what there is of a lab's bridge and namespaces."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for namespace in re.findall(rf"(?m)^({re.escape(slot.namespace(''))}\S+)", listed):
        # Removing the cable's inner end first: a namespace lives on while something still refers to it.
        subprocess.run(["ip", "-n", namespace, "link", "del", "eth0"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", slot.bridge], capture_output=True, check=False)


def batch(lines: Iterable[str], namespace: str = "") -> None:
    """Run `ip` for each line, in a network namespace or in the machine's own; a LabError at the first that fails."""
    place = ["-n", namespace] if namespace else []
    result = subprocess.run(
        ["ip", *place, "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LabError(f"cannot lay the lab's network: {result.stderr.strip()}")
