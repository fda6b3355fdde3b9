"""The DHCP server of an L2 network: what luigi's DHCP controller and the VM that it starts do, and a client that asks.

dnsmasq and the client, busybox's udhcpc, are the distribution's; the configuration is run as it is in the ConfigMap.
The controller's own program is not run, since it comes as a container and starts a VM from an image. What it does with
the objects is done here as its source has it (luigi's dhcp-controller/controllers and dhcp-controller/dhcpserver).
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NamedTuple

from lab.api import Api, wait_until
from lab.errors import LabError
from lab.network_setup import run_ip_batch
from lab.ovs import Switch, get_attachment_config, guest
from lab.processes import Launch, spawn, stop_programs
from lab.profiles.core import tail_log
from lab.running import Lab

KEY = "dnsmasq.conf"
DHCP = "/apis/dhcp.plumber.k8s.pf9.io/v1alpha1"
ALLOCATIONS = f"{DHCP}/namespaces/default/ipallocations"  # of every network: the namespace is fixed in the source
CLIENT_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/$mask" dev "$interface"
printf '%s\\n' "$ip/$mask" "$router" "$dns" "$mtu" "$lease"
"""


def check_installed() -> None:
    """A LabError when dnsmasq or a client is not there; they are not built, but come from the distribution."""
    missing = [name for name in ("dnsmasq", "udhcpc", "ethtool") if not shutil.which(name)]
    if missing:
        raise LabError(f"no {' or '.join(missing)}: apt-get install dnsmasq-base udhcpc ethtool")


def generate_config_map_data(server: Mapping[str, Any]) -> dict[str, str]:
    """The data of the ConfigMap that the controller makes for a DHCPServer; line by line as its genConfigMap."""
    lines = ["port=0"]
    for number, network in enumerate(server["spec"]["networks"], 1):
        span, vlan = network["cidr"], network.get("vlanId", "")
        subnet = IPv4Network(span["range"], strict=False)
        first = span.get("range_start") or subnet[1]
        last = span.get("range_end") or subnet[-2]
        tag = f"set:{vlan}," if vlan else ""
        lines.append(f"dhcp-range={tag}{first},{last},{subnet.netmask},{network.get('leaseDuration') or '1h'}")
        if span.get("gateway"):
            lines.append(f"dhcp-option={tag}3,{span['gateway']}")
        lines.append(f"interface=eth{number}")
    return {KEY: "".join(f"{line}\n" for line in lines)}


def reconcile(api: Api, namespace: str, name: str) -> bool:
    """Reconcile a DHCPServer as the controller does at each event; return whether it restarts the server's VM.

    A ConfigMap whose `data` is not what the controller generates is replaced: whatever else it had is gone then.
    """
    server = api.get(f"{DHCP}/namespaces/{namespace}/dhcpservers/{name}")
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": [_controller_reference(server)]},
        "data": generate_config_map_data(server),
    }
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    found = next((found for found in api.get(path)["items"] if found["metadata"]["name"] == name), None)
    if found is None:
        api.post(path, wanted)
        return False
    if found.get("data") == wanted["data"]:
        return False
    api.put(f"{path}/{name}", wanted)
    return True


def _controller_reference(server: Mapping[str, Any]) -> dict[str, Any]:
    known = {"apiVersion": server["apiVersion"], "kind": server["kind"], "controller": True, "blockOwnerDeletion": True}
    return {**known, "name": server["metadata"]["name"], "uid": server["metadata"]["uid"]}


class Lease(NamedTuple):
    """A line of dnsmasq's lease file."""

    expiry: str  # seconds since the epoch, 0 for never
    mac: str
    address: str
    host: str
    client: str


@dataclass(frozen=True)
class Leases:
    """dnsmasq's lease file, and what the program beside it in the DHCP server's VM does with it."""

    folder: Path
    api: Api

    def all(self) -> list[Lease]:
        return [Lease(*line.split()) for line in self._file.read_text().splitlines()]

    def report(self) -> None:
        """Write an IPAllocation for each lease, as is done whenever the file changes."""
        allocated = {found["metadata"]["name"] for found in self.api.get(ALLOCATIONS)["items"]}
        for lease in self.all():
            spec = {
                "entityRef": lease.host,
                "leaseExpiry": lease.expiry,
                "macAddr": lease.mac,
                "vlanId": self._tag_of(lease.address) or "",
            }
            if lease.address in allocated:
                self.api.patch(f"{ALLOCATIONS}/{lease.address}", {"spec": spec})
            else:
                self.api.create(build_ip_allocation(lease.address, spec))

    def restore(self) -> None:
        """Make the file from the IPAllocations in its own ranges, as is done before dnsmasq starts."""
        lines = []
        for found in self.api.get(ALLOCATIONS)["items"]:
            spec, address = found["spec"], found["metadata"]["name"]
            if spec["vlanId"] == self._tag_of(address):
                lines.append(f"{spec['leaseExpiry']} {spec['macAddr']} {address} {spec['entityRef']} *\n")
        self._file.write_text("".join(lines))

    @property
    def _file(self) -> Path:
        return self.folder / "leases"

    def _tag_of(self, address: str) -> str | None:
        """The tag of the range that an address is in, None outside: of the ranges in the one file that it reads."""
        for line in (self.folder / "conf" / KEY).read_text().splitlines():
            if line.startswith("dhcp-range="):
                *tag, first, last, _, _ = line.removeprefix("dhcp-range=").split(",")
                if IPv4Address(first) <= IPv4Address(address) <= IPv4Address(last):
                    return "".join(tag)
        return None


def build_ip_allocation(address: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """An IPAllocation as the DHCP server writes it."""
    meta = {"name": address, "namespace": "default"}
    return {"apiVersion": "dhcp.plumber.k8s.pf9.io/v1alpha1", "kind": "IPAllocation", "metadata": meta, "spec": spec}


@contextmanager
def run_dhcp_server(running: Lab, switch: Switch, namespace: str, name: str) -> Iterator[Leases]:
    """The VM of a DHCPServer on a node: plugged into its networks, dnsmasq with the ConfigMap as it is at this moment.

    As in that VM, each of the ConfigMap's files is in the folder that dnsmasq reads, and the networks' interfaces are
    called eth1 and so on. A LabError has dnsmasq's words when it does not take the configuration.
    """
    check_installed()
    api = running.api
    server = api.get(f"{DHCP}/namespaces/{namespace}/dhcpservers/{name}")
    folder = running.folder / f"dhcp-{name}"
    with guest(running.lab_id, f"dhcp-{name}") as guest_namespace:
        try:
            for number, network in enumerate(server["spec"]["networks"], 1):
                attachment = get_attachment_config(api, namespace, network["networkName"])
                switch.plug(guest_namespace, f"02:00:00:00:00:{number:02x}", attachment, f"eth{number}")
                run_ip_batch([f"addr add {network['interfaceIp']} dev eth{number}"], guest_namespace)
            write_files(folder / "conf", api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}"))
            leases = Leases(folder, api)
            leases.restore()
            with _dnsmasq(running.folder, name, folder, guest_namespace):
                yield leases
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _dnsmasq(lab_folder: Path, name: str, folder: Path, guest_namespace: str) -> Iterator[None]:
    command = [
        "dnsmasq",
        "--no-daemon",
        "--conf-file=",  # not the machine's own
        f"--conf-dir={folder / 'conf'}",
        f"--dhcp-leasefile={folder / 'leases'}",
        "--pid-file=",
        "--user=root",  # the lab's folder is its owner's alone
    ]
    record = spawn(Launch(f"dnsmasq-{name}", command, network_namespace=guest_namespace), lab_folder)

    def serves() -> bool:
        if not record.running:
            raise LabError(f"{record.launch.name} ended at its start:\n{tail_log(record.log)}")
        return " DHCP, " in record.log.read_text()

    try:
        wait_until(f"{record.launch.name} serves", serves, seconds=30)
        yield
    finally:
        stop_programs([record])
        record.log.unlink()  # or the next of this name would seem to serve at once


def write_files(folder: Path, config_map: Mapping[str, Any]) -> None:
    """The files of a ConfigMap, as a kubelet mounts it."""
    folder.mkdir(parents=True)
    for key, text in config_map.get("data", {}).items():
        (folder / key).write_text(text)
    for key, encoded in config_map.get("binaryData", {}).items():
        (folder / key).write_bytes(base64.b64decode(encoded))


class DhcpOffer(NamedTuple):
    """What a DHCP client was given: the address with its prefix length, the rest as text, empty where not told."""

    address: str
    router: str
    dns: str
    mtu: str
    lease: str  # seconds


def request_address(running: Lab, guest_namespace: str, *, patience: int = 10, nic: str = "eth1") -> DhcpOffer | None:
    """Ask for an address as a guest does at its boot, and take it; None when nobody answers for `patience` seconds."""
    script = running.folder / "udhcpc.sh"
    script.write_text(CLIENT_SCRIPT)
    script.chmod(0o700)
    command = ["udhcpc", "-i", nic, "-n", "-q", "-f", "-T", "1", "-t", str(patience), "-s", str(script), "-O", "mtu"]
    result = subprocess.run(
        ["ip", "netns", "exec", guest_namespace, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=patience + 20,
    )
    if result.returncode == 0:
        return DhcpOffer(*result.stdout.splitlines())
    if "no lease" not in result.stderr:
        raise LabError(f"udhcpc in {guest_namespace}: {result.stderr.strip()}")
    return None


def can_ping(guest_namespace: str, address: str) -> bool:
    """Whether a guest can ping an address."""
    command = ["ip", "netns", "exec", guest_namespace, "busybox", "ping", "-c", "1", "-W", "2", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
