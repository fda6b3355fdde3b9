"""Telling a guest its address without DHCP: in the VM's cloud-init network data, merged with what is there.

cloudInitNoCloud carries cloud-init's network configuration, version 1 or 2, in YAML; cloudInitConfigDrive carries
OpenStack's network_data.json (https://docs.cloud-init.io, "Network configuration"). Both are on the VM or in a Secret.
An interface is matched by its MAC address, which is the VM's for life.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from kubectl_yoshi.backends.ovs.interface import TEMPLATE
from kubectl_yoshi.backends.ovs.spec import Layer2
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, uid_of
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import Vm

MAX_NETWORK_DATA_BYTES = 2048
"""Bytes of network data that KubeVirt takes on a VM itself."""
FIRST_INTERFACE = "enp1s0"
"""What the guest calls its first interface, on the machine type q35."""
SECRET = Resource("", "v1", "secrets", "Secret")
VOLUMES = (*TEMPLATE, "spec", "volumes")
CONFIG_DRIVE = "cloudInitConfigDrive"
KINDS = ("cloudInitNoCloud", CONFIG_DRIVE)
INLINE, ENCODED, REFERENCE = "networkData", "networkDataBase64", "networkDataSecretRef"
SECRET_KEYS = ("networkdata", "networkData")
"""Keys of a Secret in which KubeVirt looks for network data."""


@dataclass(frozen=True)
class GuestAddress:
    """What a guest is to set on an interface.

    Attributes:
        nic: the interface's name in the VM's template.
        mac: its MAC address.
        address: with prefix_length.
        gateway: of the default route; None for none.
        dns: DNS servers.
        mtu: None for the interface's own.
    """

    nic: str
    mac: str
    address: Address
    prefix_length: int
    gateway: Address | None = None
    dns: tuple[Address, ...] = ()
    mtu: int | None = None


def set_in_network_data(
    text: str, wanted: GuestAddress, is_config_drive: bool, dhcp_on_first: bool, shared: bool = False
) -> str:
    """Network data in which an interface has its address; the text itself where it says so already.

    Args:
        text: as it is; "" for none.
        wanted: see GuestAddress.
        is_config_drive: it is a ConfigDrive's.
        dhcp_on_first: where there is no network data yet, the guest's first interface gets its address by DHCP, as it
            does without any.
        shared: other VMs may read it too: an entry for another MAC address is theirs.

    Raises:
        PreconditionFailed: the text is not what cloud-init reads.
    """
    data = _parse(text, is_config_drive)
    before = json.dumps(data, default=str)
    if is_config_drive:
        _set_in_config_drive(data, wanted, shared)
    elif data.get("version") == 1:
        data["config"] = _replace_entry(
            data.get("config") or [], _version_1(wanted), lambda item: _mac_of(item, "mac_address")
        )
    else:
        if not data:
            data |= {"version": 2, "ethernets": {FIRST_INTERFACE: {"dhcp4": True}} if dhcp_on_first else {}}
        ethernets_parent = _ethernets_parent(data)
        entries = ethernets_parent.get("ethernets") or {}
        entry_id = _choose_entry_id(
            wanted, {key: _mac_of(_get_match(value), "macaddress") for key, value in entries.items()}, shared
        )
        others = {key: value for key, value in entries.items() if key == entry_id or not _has_mac(value, wanted.mac)}
        ethernets_parent["ethernets"] = {**others, entry_id: _version_2(wanted)}
    return text if json.dumps(data, default=str) == before else _serialize(data, is_config_drive)


def remove_from_network_data(text: str, mac: str, is_config_drive: bool) -> str:
    """Network data without the entry for an interface; the text itself where there is none, or it cannot be read."""
    try:
        data = _parse(text, is_config_drive)
    except PreconditionFailed:
        return text
    before = json.dumps(data, default=str)
    if is_config_drive:
        removed_ids = {
            link.get("id") for link in data.get("links") or [] if _mac_of(link, "ethernet_mac_address") == mac
        }
        for key, field in (("links", "id"), ("networks", "link")):
            if data.get(key):
                data[key] = [item for item in data[key] if item.get(field) not in removed_ids]
    elif data.get("version") == 1:
        data["config"] = [item for item in data.get("config") or [] if _mac_of(item, "mac_address") != mac]
    elif _ethernets_parent(data).get("ethernets"):
        ethernets_parent = _ethernets_parent(data)
        ethernets_parent["ethernets"] = {
            key: value for key, value in ethernets_parent["ethernets"].items() if not _has_mac(value, mac)
        }
    return text if json.dumps(data, default=str) == before else _serialize(data, is_config_drive)


def _parse(text: str, is_config_drive: bool) -> Json:
    import yaml  # reads text only; late, since few commands need it

    if not text.strip():
        return {}
    try:
        data = json.loads(text) if is_config_drive else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        data = None
    if not isinstance(data, dict):
        kind = "OpenStack's network_data.json" if is_config_drive else "cloud-init's network configuration"
        raise PreconditionFailed(
            f"the VM's cloud-init network data is not {kind}", "Mend it, or leave --cloud-init out."
        )
    return data


def _serialize(data: Json, is_config_drive: bool) -> str:
    import yaml

    return json.dumps(data, indent=1) if is_config_drive else str(yaml.safe_dump(data, sort_keys=False))


def _ethernets_parent(data: Json) -> Json:
    """Where version 2 has its interfaces: at the top, or under "network"."""
    ethernets_parent = data.get("network")
    return ethernets_parent if isinstance(ethernets_parent, dict) else data


def _choose_entry_id(wanted: GuestAddress, macs: Mapping[str, str], shared: bool) -> str:
    """What the interface's entry is called.

    Args:
        wanted: see GuestAddress.
        macs: the entries that there are, and whose each is.
        shared: see set_address.
    """
    default_id = f"yoshi-{wanted.nic}"
    id_with_mac = f"{default_id}-{wanted.mac.replace(':', '')}"
    is_other_vms = shared and macs.get(default_id, wanted.mac) != wanted.mac
    return id_with_mac if is_other_vms or id_with_mac in macs else default_id


def _replace_entry(entries: list[Any], wanted: Json, key: Callable[[Any], str]) -> list[Any]:
    """The entries with one more, or in the place of the one that has the same key."""
    is_same_entry = [key(item) == key(wanted) for item in entries]
    position = is_same_entry.index(True) if True in is_same_entry else len(entries)
    other_entries = [item for item, same in zip(entries, is_same_entry, strict=True) if not same]
    return [*other_entries[:position], wanted, *other_entries[position:]]


def _mac_of(entry: Any, field: str) -> str:
    return str(entry.get(field) or "").lower() if isinstance(entry, dict) else ""


def _has_mac(entry: Any, mac: str) -> bool:
    return _mac_of(_get_match(entry), "macaddress") == mac


def _get_match(entry: Any) -> Any:
    return entry.get("match") if isinstance(entry, dict) else None


def _version_2(wanted: GuestAddress) -> Json:
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


def _version_1(wanted: GuestAddress) -> Json:
    subnet: Json = {
        "type": "static" if wanted.address.version == 4 else "static6",
        "address": f"{wanted.address}/{wanted.prefix_length}",
    }
    if wanted.gateway is not None:
        subnet["gateway"] = str(wanted.gateway)
    if wanted.dns:
        subnet["dns_nameservers"] = [str(item) for item in wanted.dns]
    entry: Json = {"type": "physical", "name": wanted.nic, "mac_address": wanted.mac, "subnets": [subnet]}
    return {**entry, "mtu": wanted.mtu} if wanted.mtu else entry


def _set_in_config_drive(data: Json, wanted: GuestAddress, shared: bool) -> None:
    links, networks = data.get("links") or [], data.get("networks") or []
    macs = {str(link.get("id")): _mac_of(link, "ethernet_mac_address") for link in links}
    entry_id = _choose_entry_id(wanted, macs, shared)
    link: Json = {"id": entry_id, "type": "phy", "ethernet_mac_address": wanted.mac}
    any_address = "0.0.0.0" if wanted.address.version == 4 else "::"
    network: Json = {"id": entry_id, "link": entry_id, "type": f"ipv{wanted.address.version}"}
    network |= {"ip_address": str(wanted.address), "netmask": _netmask(wanted)}
    if wanted.mtu:
        link["mtu"] = wanted.mtu
    if wanted.gateway is not None:
        network["routes"] = [{"network": any_address, "netmask": any_address, "gateway": str(wanted.gateway)}]
    data["links"] = _replace_entry(links, link, lambda item: str(item.get("id")))
    data["networks"] = _replace_entry(networks, network, lambda item: str(item.get("id")))
    existing_services = list(data.get("services") or [])
    new_services = [{"type": "dns", "address": str(item)} for item in wanted.dns]
    if existing_services or new_services:
        data["services"] = [*existing_services, *(item for item in new_services if item not in existing_services)]


def _netmask(wanted: GuestAddress) -> str:
    return str(ip_network(f"{wanted.address}/{wanted.prefix_length}", strict=False).netmask)


@dataclass(frozen=True)
class _NetworkDataLocation:
    """Where network data is.

    Attributes:
        volume: its place in the VM's list.
        kind: one of KINDS.
        key: the field, or the Secret's key.
        text: what is there.
        secret: the Secret; None where it is on the VM.
    """

    volume: int
    kind: str
    key: str
    text: str
    secret: Json | None = None

    @property
    def is_config_drive(self) -> bool:
        return self.kind == CONFIG_DRIVE


def write_address(
    patch: PatchBuilder, vm: Vm, network: Network, layer: Layer2, number: int, nic: str, mac: str, snapshot: Snapshot
) -> tuple[Change, ...]:
    """Adds the address to the VM's network data: to the patch of the VM, or as a change of the Secret that has it.

    Raises:
        PreconditionFailed: the VM has no cloud-init volume, or its network data may not be read, or cannot hold it.
    """
    location = _find_location(vm, snapshot)
    if location is None:
        raise PreconditionFailed(
            f"VM {vm.full_name} has no cloud-init volume to write its address into",
            f"Give it one (cloudInitNoCloud), or leave --cloud-init out and set {network.address(number)} in it.",
        )
    assert network.cidr is not None
    wanted = GuestAddress(
        nic, mac, network.address(number), network.cidr.prefixlen, network.gateway,
        layer.dns, layer.mtu,
    )  # fmt: skip
    shared = location.secret is not None
    text = set_in_network_data(location.text, wanted, location.is_config_drive, vm.pod_interface is not None, shared)
    return _apply_text(patch, vm, location, text)


def has_address(vm: Vm, number: int, network: Network, snapshot: Snapshot) -> bool:
    """Whether the VM's network data has the address, as far as it may be read."""
    try:
        location = _find_location(vm, snapshot)
    except PreconditionFailed:
        return False
    return location is not None and f"{network.address(number)}" in re.split(r"""[\s"'/,\[\]]+""", location.text)


def remove_address(patch: PatchBuilder, vm: Vm, mac: str, snapshot: Snapshot) -> tuple[Change, ...]:
    """Takes the address of an interface out of the VM's network data, if it is there and may be seen."""
    try:
        location = _find_location(vm, snapshot)
    except PreconditionFailed:
        return ()
    if location is None or not mac:
        return ()
    return _apply_text(patch, vm, location, remove_from_network_data(location.text, mac, location.is_config_drive))


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
            "Let somebody attach it who may read it, or leave --cloud-init out and set the address in the guest.",
        )
    data = found[0].get("data") or {}
    key = next((key for key in SECRET_KEYS if key in data), SECRET_KEYS[0])
    visible_data = {key: data[key]} if key in data else {}  # what else is in it is nobody's business in a `diff`
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
