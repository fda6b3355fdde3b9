"""The network of the full profile: a bridge, and a network namespace per node and for the router.

Nothing here carries the VMs' traffic. It is what BGP and ARP speak over, and the host reaches every namespace by it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from lab.errors import LabError
from lab.lab_ids import LabId

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


def nodes_of(lab_id: LabId) -> list[Node]:
    """The nodes of a full lab."""
    return [
        Node(name, lab_id.namespace(name), lab_id.address(host), lab_id.address6(host))
        for host, name in enumerate(NODES, FIRST_NODE_HOST)
    ]


def create_lab_network(lab_id: LabId) -> None:
    """Make the bridge and the namespaces; a LabError when that is not allowed."""
    if os.geteuid() != 0:
        raise LabError("the full profile makes a bridge and network namespaces: run it as root")
    hosts = [*((node.network_namespace, host) for host, node in enumerate(nodes_of(lab_id), FIRST_NODE_HOST))]
    hosts.append((lab_id.namespace(ROUTER), ROUTER_HOST))
    host_commands = [
        f"link add {lab_id.bridge} type bridge",
        f"addr add {lab_id.address(1)}/24 dev {lab_id.bridge}",
        f"addr add {lab_id.address6(1)}/64 dev {lab_id.bridge} nodad",
        f"link set {lab_id.bridge} up",
    ]
    for namespace, host in hosts:
        veth = f"{lab_id.bridge}-{host}"
        host_commands += [
            f"netns add {namespace}",
            f"link add {veth} type veth peer name eth0 netns {namespace}",
            f"link set {veth} master {lab_id.bridge} up",
        ]
    run_ip_batch(host_commands)
    for namespace, host in hosts:
        namespace_commands = [
            "link set lo up",
            f"addr add {lab_id.address(host)}/24 dev eth0",
            f"addr add {lab_id.address6(host)}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {lab_id.gateway}",
        ]
        run_ip_batch(namespace_commands, namespace)


def delete_lab_network(lab_id: LabId) -> None:
    """Remove what there is of a lab's bridge and namespaces."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for namespace in re.findall(rf"(?m)^({re.escape(lab_id.namespace(''))}\S+)", listed):
        # Removing the cable's inner end first: a namespace lives on while something still refers to it.
        subprocess.run(["ip", "-n", namespace, "link", "del", "eth0"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", lab_id.bridge], capture_output=True, check=False)


def run_ip_batch(lines: Iterable[str], namespace: str = "") -> None:
    """Run `ip` for each line, in a network namespace or in the machine's own; a LabError at the first that fails."""
    namespace_flags = ["-n", namespace] if namespace else []
    result = subprocess.run(
        ["ip", *namespace_flags, "-batch", "-"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise LabError(f"cannot lay the lab's network: {result.stderr.strip()}")
