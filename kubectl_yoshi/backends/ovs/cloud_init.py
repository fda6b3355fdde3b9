"""An address in a VM's cloud-init network data, merged with what is there.

cloudInitNoCloud carries cloud-init's network configuration, version 1 or 2, in YAML; cloudInitConfigDrive carries
OpenStack's network_data.json (https://docs.cloud-init.io, "Network configuration"). Both are on the VM or in a Secret.
An interface is matched by its MAC address, which is the VM's for life.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.objects import Json

MAX_NETWORK_DATA_BYTES = 2048
"""Bytes of network data that KubeVirt takes on a VM itself."""
FIRST_INTERFACE = "enp1s0"
"""What the guest calls its first interface, on the machine type q35."""


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


def set_address(
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


def remove_address(text: str, mac: str, is_config_drive: bool) -> str:
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
