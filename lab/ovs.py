"""Open vSwitch on the nodes of a full lab, and what the ovs CNI does with it.

The daemons are the distribution's: a pair for each node, in the node's network namespace, with a run directory in the
lab's folder. They forward frames themselves (datapath_type netdev), so the kernel needs no module. Each node's NICs
eth1 and eth2 lead to one wire, which carries the frames of every VLAN as they come.

lab.hostplumber makes the bridges. VMs are played: each is a network namespace, whose NIC is plugged in as the CNI does.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.api import Api, wait_until
from lab.errors import LabError
from lab.lab_ids import LabId
from lab.network_setup import Node, run_ip_batch
from lab.processes import Launch, ProgramRecord, spawn, stop_programs
from lab.running import Lab

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
NICS = ("eth1", "eth2")
GUEST_NIC = "eth1"  # beside the pod network's eth0


def check_installed() -> None:
    """A LabError when Open vSwitch is not there; it is not built, but comes from the distribution."""
    if not SCHEMA.exists() or not shutil.which("ovs-vswitchd"):
        raise LabError("the lab's L2 networks need Open vSwitch: apt-get install openvswitch-switch")


@dataclass(frozen=True)
class Switch:
    """The Open vSwitch of one node."""

    node: Node
    folder: Path

    @property
    def socket(self) -> Path:
        """Where the node's database listens."""
        return self.folder / "db.sock"

    def vsctl(self, *args: str) -> str:
        """Run ovs-vsctl on this node; returns when the switch has done what was asked for."""
        return _output("ovs-vsctl", f"--db=unix:{self.socket}", "--timeout=20", *args)

    def plug(self, guest: str, mac: str, network: Mapping[str, Any], nic: str = GUEST_NIC) -> None:
        """What the ovs CNI does for an interface of a pod: a cable from its network namespace to the bridge.

        `network` is the configuration in a NetworkAttachmentDefinition. The port is an access port
        of its VLAN, or without one a trunk of all.
        """
        port = f"v{hashlib.sha256(f'{guest} {nic}'.encode()).hexdigest()[:12]}"
        mtu = f"mtu {network['mtu']}" if "mtu" in network else ""
        node_namespace = self.node.network_namespace
        run_ip_batch(
            [f"link add {nic} address {mac} {mtu} type veth peer name {port} {mtu} netns {node_namespace}"], guest
        )
        run_ip_batch([f"link set {nic} up", "link set lo up"], guest)
        # The kernel would leave the checksums to a NIC that is not there, and who looks at them drops the frame.
        _output("ip", "netns", "exec", guest, "ethtool", "-K", nic, "tx", "off")
        run_ip_batch([f"link set {port} up"], node_namespace)
        access = ["vlan_mode=access", f"tag={network['vlan']}"] if "vlan" in network else []
        self.vsctl("--if-exists", "del-port", port, "--", "add-port", network["bridge"], port, *access)

    def ports(self, bridge: str) -> list[str]:
        """The ports of a bridge, those of VMs and NICs."""
        return self.vsctl("list-ports", bridge).split()

    def bridges(self) -> list[str]:
        return self.vsctl("list-br").split()


@contextmanager
def switches(running: Lab) -> Iterator[list[Switch]]:
    """Open vSwitch on every node of a full lab, their NICs on one wire; ended and taken away again."""
    check_installed()
    with ExitStack() as stack:
        stack.enter_context(_wire(running.lab_id, running.nodes))
        yield [stack.enter_context(_switch(running.folder, node)) for node in running.nodes]


@contextmanager
def _wire(lab_id: LabId, nodes: Sequence[Node]) -> Iterator[None]:
    """The nodes' NICs for L2 networks, and what they all lead to, which is in a namespace of its own."""
    wire = lab_id.namespace("wire")
    run_ip_batch([f"netns add {wire}"])
    try:
        run_ip_batch(["link add wire type bridge", "link set wire up"], wire)
        for node in nodes:
            for nic in NICS:
                veth = f"{node.name}-{nic}"
                run_ip_batch([f"link add {nic} type veth peer name {veth} netns {wire}"], node.network_namespace)
                run_ip_batch([f"link set {nic} up"], node.network_namespace)
                run_ip_batch([f"link set {veth} master wire up"], wire)
        yield
    finally:
        for node in nodes:
            run_ip_batch([f"link del {nic}" for nic in NICS], node.network_namespace)
        run_ip_batch([f"netns del {wire}"])


@contextmanager
def guest(lab_id: LabId, name: str) -> Iterator[str]:
    """A network namespace that stands for a VM's."""
    namespace = lab_id.namespace(f"vm-{name}")
    run_ip_batch([f"netns add {namespace}"])
    try:
        yield namespace
    finally:
        run_ip_batch([f"netns del {namespace}"])


def get_attachment_config(api: Api, namespace: str, name: str) -> dict[str, Any]:
    """The CNI configuration in a NetworkAttachmentDefinition."""
    path = f"/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions/{name}"
    return dict(json.loads(api.get(path)["spec"]["config"]))


@contextmanager
def _switch(lab_folder: Path, node: Node) -> Iterator[Switch]:
    """A node's database and switch."""
    folder = lab_folder / f"ovs-{node.name}"
    folder.mkdir()
    switch = Switch(node, folder)
    started: list[ProgramRecord] = []
    # Both would look for each other, and for their control sockets, where the machine's own Open vSwitch is.
    directories = {f"OVS_{what}DIR": str(folder) for what in ("RUN", "LOG", "DB")}

    def start_daemon(name: str, *args: str) -> ProgramRecord:
        command = [name, "-vsyslog:off", f"--unixctl={folder / name}.ctl", *args]
        started.append(
            spawn(Launch(f"{name}-{node.name}", command, 0, directories, node.network_namespace), lab_folder)
        )
        return started[-1]

    try:
        _output("ovsdb-tool", "create", str(folder / "conf.db"), str(SCHEMA))
        start_daemon("ovsdb-server", str(folder / "conf.db"), f"--remote=punix:{switch.socket}")
        wait_until(f"the database of {node.name} listens", switch.socket.exists, seconds=30)
        switch.vsctl("--no-wait", "init")
        start_daemon("ovs-vswitchd", f"unix:{switch.socket}")
        switch.vsctl("set", "Open_vSwitch", ".", f"external_ids:hostname={node.name}")  # waits for the daemon
        yield switch
    finally:
        stop_programs(started)
        shutil.rmtree(folder)


def _output(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise LabError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
