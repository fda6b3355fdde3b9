"""Write a guest's address into the VM's cloud-init network data, for networks without DHCP.

Supported is version 2 in cloudInitNoCloud, on the VM or in a Secret that only this VM uses (https://docs.cloud-init.io,
"Network configuration"). An interface is matched by its MAC address, which the VM keeps for life. Other network data
(version 1, that of cloudInitConfigDrive, a Secret of several VMs) is rejected with the entry to add by hand; once it
contains the address, it is accepted as it is.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

from kubectl_yoshi.backends.ovs.interface import TEMPLATE
from kubectl_yoshi.backends.ovs.spec import Layer2
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Attachment
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, uid_of
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm

MAX_NETWORK_DATA_BYTES = 2048
"""Maximum size in bytes of network data on a VM itself, a limit of KubeVirt."""
FIRST_INTERFACE = "enp1s0"
"""The guest's name of its first interface on the machine type q35."""
SECRET = Resource("", "v1", "secrets", "Secret")
VOLUMES = (*TEMPLATE, "spec", "volumes")
NO_CLOUD = "cloudInitNoCloud"
KINDS = (NO_CLOUD, "cloudInitConfigDrive")
INLINE, ENCODED, REFERENCE = "networkData", "networkDataBase64", "networkDataSecretRef"
SECRET_KEYS = ("networkdata", "networkData")
"""The keys of a Secret in which KubeVirt looks for network data."""


@dataclass(frozen=True)
class GuestAddress:
    """The settings of a guest's interface.

    Attributes:
        nic: the interface's name in the VM's template.
        mac: its MAC address.
        address, prefix_length: its IP address and prefix length in bits.
        gateway: the gateway of the default route; None for none.
        dns: DNS servers.
        mtu: MTU in bytes; None for the interface's default.
    """

    nic: str
    mac: str
    address: Address
    prefix_length: int
    gateway: Address | None = None
    dns: tuple[Address, ...] = ()
    mtu: int | None = None


def set_in_network_data(text: str, wanted: GuestAddress, dhcp_on_first: bool) -> str:
    """Return network data in which an interface has its address; the text itself if it contains it already.

    Args:
        text: the current data, version 2; "" for none.
        wanted: the interface and its address.
        dhcp_on_first: if there is no network data yet, the guest's first interface gets its address by DHCP, as it does
            without any.

    Raises:
        PreconditionFailed: the text is not valid cloud-init network data.
    """
    data = _parse(text)
    before = json.dumps(data, default=str)
    if not data:
        data |= {"version": 2, "ethernets": {FIRST_INTERFACE: {"dhcp4": True}} if dhcp_on_first else {}}
    ethernets_parent = _ethernets_parent(data)
    entry_id = f"yoshi-{wanted.nic}"
    entries = ethernets_parent.get("ethernets") or {}
    others = {key: value for key, value in entries.items() if key == entry_id or not _has_mac(value, wanted.mac)}
    ethernets_parent["ethernets"] = {**others, entry_id: _entry(wanted)}
    return text if json.dumps(data, default=str) == before else _serialize(data)


def remove_from_network_data(text: str, mac: str) -> str:
    """Return network data without the entry for an interface; the text itself if there is none, or if it is invalid."""
    try:
        data = _parse(text)
    except PreconditionFailed:
        return text
    ethernets_parent = _ethernets_parent(data)
    entries = ethernets_parent.get("ethernets") or {}
    others = {key: value for key, value in entries.items() if not _has_mac(value, mac)}
    if len(others) == len(entries):
        return text
    ethernets_parent["ethernets"] = others
    return _serialize(data)


def _parse(text: str) -> Json:
    import yaml  # imported late, since few commands need it; parses text only

    if not text.strip():
        return {}
    try:
        data = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        data = None
    if not isinstance(data, dict):
        raise PreconditionFailed(
            "the VM's cloud-init network data is not a valid cloud-init network configuration",
            "Correct it, or leave --cloud-init out.",
        )
    return data


def _serialize(data: Json, flow: bool = False) -> str:
    """Return YAML; on one line with `flow`."""
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=flow, width=float("inf") if flow else None))


def _ethernets_parent(data: Json) -> Json:
    """Return the object that contains the interfaces in version 2: the top level, or "network"."""
    ethernets_parent = data.get("network")
    return ethernets_parent if isinstance(ethernets_parent, dict) else data


def _has_mac(entry: Any, mac: str) -> bool:
    return isinstance(entry, dict) and str(dig(entry, "match", "macaddress", default="")).lower() == mac


def _entry(wanted: GuestAddress) -> Json:
    entry: Json = {
        "match": {"macaddress": wanted.mac},
        "addresses": [f"{wanted.address}/{wanted.prefix_length}"],
    }
    if wanted.gateway is not None:
        entry["routes"] = [{"to": "0.0.0.0/0" if wanted.gateway.version == 4 else "::/0", "via": str(wanted.gateway)}]
    if wanted.dns:
        entry["nameservers"] = {"addresses": [str(item) for item in wanted.dns]}
    if wanted.mtu:
        entry["mtu"] = wanted.mtu
    return entry


@dataclass(frozen=True)
class _NetworkDataLocation:
    """The location of network data.

    Attributes:
        volume: index in the VM's list of volumes.
        kind: one of KINDS.
        key: the field, or the Secret's key.
        text: the current data.
        secret: the Secret; None if the data is on the VM.
    """

    volume: int
    kind: str
    key: str
    text: str
    secret: Json | None = None

    def mentions(self, address: Address) -> bool:
        """Return whether the data contains the address, in whatever form."""
        return str(address) in re.split(r"""[\s"'/,\[\]{}]+""", self.text)


def write_address(
    patch: PatchBuilder, attachment: Attachment, layer: Layer2, nic_name: str, snapshot: Snapshot
) -> tuple[Change, ...]:
    """Add the address to the VM's network data: to the patch of the VM, or as a change of its Secret.

    Args:
        patch: a patch of the VM.
        attachment: the address and its interface.
        layer: the network's spec.
        nic_name: the name of the interface.
        snapshot: the state of the cluster.

    Raises:
        PreconditionFailed: the VM has no cloud-init volume, or its network data cannot be read, or is of a kind that
            this program does not write and does not contain the address.
    """
    vm, network, mac = attachment.vm, attachment.network, attachment.mac
    location = _find_location(vm, snapshot)
    if location is None:
        raise PreconditionFailed(
            f"VM {vm.full_name} has no cloud-init volume to write its address into",
            f"Give it one (cloudInitNoCloud), or leave --cloud-init out and set {attachment.address} in the guest.",
        )
    assert network.cidr is not None
    wanted = GuestAddress(
        nic_name, mac, attachment.address, network.cidr.prefixlen, network.gateway,
        layer.dns, layer.mtu,
    )  # fmt: skip
    if reason := _unsupported_reason(location, vm, snapshot):
        if location.mentions(wanted.address):
            return ()
        entry = _serialize({"version": 2, "ethernets": {f"yoshi-{nic_name}": _entry(wanted)}}, flow=True).strip()
        raise PreconditionFailed(
            f"the network data of VM {vm.full_name} {reason}",
            f"Add this by hand, in the form of that data, and attach with --ip {wanted.address} --mac {mac}: {entry}",
        )
    return _apply_text(patch, vm, location, set_in_network_data(location.text, wanted, vm.pod_interface is not None))


def has_address(vm: Vm, number: int, network: Network, snapshot: Snapshot) -> bool:
    """Return whether the VM's network data contains the address, as far as it can be read."""
    try:
        location = _find_location(vm, snapshot)
    except PreconditionFailed:
        return False
    return location is not None and location.mentions(network.address(number))


def remove_address(patch: PatchBuilder, vm: Vm, mac: str, snapshot: Snapshot) -> tuple[Change, ...]:
    """Remove the entry of an interface from the VM's network data, if it exists and can be read."""
    try:
        location = _find_location(vm, snapshot)
    except PreconditionFailed:
        return ()
    if location is None or location.kind != NO_CLOUD or not mac:
        return ()
    return _apply_text(patch, vm, location, remove_from_network_data(location.text, mac))


def _unsupported_reason(location: _NetworkDataLocation, vm: Vm, snapshot: Snapshot) -> str:
    """Return why network data cannot be written; "" if it can."""
    if location.kind != NO_CLOUD:
        return f"is of {location.kind}, and only that of {NO_CLOUD} is supported"
    data = _parse(location.text)
    if data and _ethernets_parent(data).get("version") == 1:
        return "is version 1, and only version 2 is supported"
    if location.secret is None:
        return ""
    ref, query = _ref(location.secret), Query(VM, vm.namespace)
    others = [other for other in map(Vm, snapshot.lookup(query)) if other.name != vm.name]
    if reason := snapshot.unreadable_reason(query):
        return f"is in {ref}, and whether other VMs use that cannot be checked: {reason}"
    if other := next((other for other in others if ref.name in _secret_names(other)), None):
        return f"is in {ref}, which VM {other.full_name} uses too"
    return ""


def _secret_names(vm: Vm) -> set[str]:
    """Return the names of the Secrets that contain a VM's network data."""
    volumes = dig(vm.raw, *VOLUMES, default=[])
    return {str(dig(volume, kind, REFERENCE, "name", default="")) for volume in volumes for kind in KINDS}


def _find_location(vm: Vm, snapshot: Snapshot) -> _NetworkDataLocation | None:
    for index, volume in enumerate(dig(vm.raw, *VOLUMES, default=[])):
        for kind in KINDS:
            source = volume.get(kind)
            if source is None:
                continue
            if name := dig(source, REFERENCE, "name"):
                return _find_in_secret(vm, index, kind, str(name), snapshot)
            if source.get(ENCODED):
                return _NetworkDataLocation(index, kind, ENCODED, b64decode(source[ENCODED]).decode())
            return _NetworkDataLocation(index, kind, INLINE, str(source.get(INLINE) or ""))
    return None


def _find_in_secret(vm: Vm, index: int, kind: str, name: str, snapshot: Snapshot) -> _NetworkDataLocation:
    query = Query(SECRET, vm.namespace, name)
    found = snapshot.lookup(query)
    ref = SECRET.ref(name, vm.namespace)
    if not found:
        reason = snapshot.unreadable_reason(query) or "it does not exist"
        raise PreconditionFailed(
            f"the network data of VM {vm.full_name} is in {ref}, which cannot be read: {reason}",
            "Ask a user who can read it to attach the VM, or leave --cloud-init out and set the address in the guest.",
        )
    data = found[0].get("data") or {}
    key = next((key for key in SECRET_KEYS if key in data), SECRET_KEYS[0])
    visible_data = {key: data[key]} if key in data else {}  # keeps other secret data out of `diff`
    return _NetworkDataLocation(
        index, kind, key, b64decode(data.get(key) or "").decode(), {**found[0], "data": visible_data}
    )


def _apply_text(patch: PatchBuilder, vm: Vm, location: _NetworkDataLocation, text: str) -> tuple[Change, ...]:
    if text == location.text:
        return ()
    if location.secret is not None:
        return (_secret_change(vm, location, text),)
    if location.key == INLINE and len(text.encode()) > MAX_NETWORK_DATA_BYTES:
        raise PreconditionFailed(
            f"the network data of VM {vm.full_name} would be longer than {MAX_NETWORK_DATA_BYTES} bytes",
            "Put it in a Secret (networkDataSecretRef), or leave --cloud-init out.",
        )
    value = text if location.key == INLINE else b64encode(text.encode()).decode()
    volume = dig(vm.raw, *VOLUMES, location.volume)
    path = (*VOLUMES, str(location.volume), location.kind, location.key)
    patch.test((*VOLUMES, str(location.volume)), volume).add(path, value)
    return ()


def _secret_change(vm: Vm, location: _NetworkDataLocation, text: str) -> Change:
    assert location.secret is not None
    ref = _ref(location.secret)
    existing = dig(location.secret, "data", location.key)
    path, value = ("data", location.key), b64encode(text.encode()).decode()
    patch = PatchBuilder.for_uid(uid_of(location.secret)).test(path, existing).add(path, value)
    summary = f"{'set' if existing else 'write'} the network data of {vm.ref} in {ref}"
    return Change(Verb.PATCH, ref, summary, patch.ops, before=location.secret, owner=vm.full_name)


def _ref(secret: Json) -> ObjectRef:
    return SECRET.ref(str(dig(secret, "metadata", "name")), str(dig(secret, "metadata", "namespace")))
