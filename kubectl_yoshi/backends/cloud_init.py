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
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.objects import Json

LONGEST = 2048
"""Bytes of network data that KubeVirt takes on a VM itself."""
FIRST = "enp1s0"
"""What the guest calls its first interface, on the machine type q35."""


@dataclass(frozen=True)
class Address4Guest:
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


def with_address(text: str, wanted: Address4Guest, drive: bool, first_by_dhcp: bool, shared: bool = False) -> str:
    """Network data in which an interface has its address; the text itself where it says so already.

    Args:
        text: as it is; "" for none.
        wanted: see Address4Guest.
        drive: it is a ConfigDrive's.
        first_by_dhcp: where there is no network data yet, the guest's first interface gets its address by DHCP, as it
            does without any.
        shared: other VMs may read it too: an entry for another MAC address is theirs.

    Raises:
        Refused: the text is not what cloud-init reads.
    """
    data = _read(text, drive)
    before = json.dumps(data, default=str)
    if drive:
        _set_in_drive(data, wanted, shared)
    elif data.get("version") == 1:
        data["config"] = _with(data.get("config") or [], _version_1(wanted), lambda one: _mac_of(one, "mac_address"))
    else:
        if not data:
            data |= {"version": 2, "ethernets": {FIRST: {"dhcp4": True}} if first_by_dhcp else {}}
        inner = _inner(data)
        entries = inner.get("ethernets") or {}
        mine = _id(wanted, {key: _mac_of(_match(value), "macaddress") for key, value in entries.items()}, shared)
        others = {key: value for key, value in entries.items() if key == mine or not _is_of(value, wanted.mac)}
        inner["ethernets"] = {**others, mine: _version_2(wanted)}
    return text if json.dumps(data, default=str) == before else _written(data, drive)


def without_address(text: str, mac: str, drive: bool) -> str:
    """Network data without the entry for an interface; the text itself where there is none, or it cannot be read."""
    try:
        data = _read(text, drive)
    except Refused:
        return text
    before = json.dumps(data, default=str)
    if drive:
        gone = {link.get("id") for link in data.get("links") or [] if _mac_of(link, "ethernet_mac_address") == mac}
        for key, field in (("links", "id"), ("networks", "link")):
            if data.get(key):
                data[key] = [one for one in data[key] if one.get(field) not in gone]
    elif data.get("version") == 1:
        data["config"] = [one for one in data.get("config") or [] if _mac_of(one, "mac_address") != mac]
    elif _inner(data).get("ethernets"):
        inner = _inner(data)
        inner["ethernets"] = {key: value for key, value in inner["ethernets"].items() if not _is_of(value, mac)}
    return text if json.dumps(data, default=str) == before else _written(data, drive)


def _read(text: str, drive: bool) -> Json:
    import yaml  # reads text only; late, since few commands need it

    if not text.strip():
        return {}
    try:
        data = json.loads(text) if drive else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        data = None
    if not isinstance(data, dict):
        kind = "OpenStack's network_data.json" if drive else "cloud-init's network configuration"
        raise Refused(f"the VM's cloud-init network data is not {kind}", "Mend it, or leave --cloud-init out.")
    return data


def _written(data: Json, drive: bool) -> str:
    import yaml

    return json.dumps(data, indent=1) if drive else str(yaml.safe_dump(data, sort_keys=False))


def _inner(data: Json) -> Json:
    """Where version 2 has its interfaces: at the top, or under "network"."""
    inner = data.get("network")
    return inner if isinstance(inner, dict) else data


def _id(wanted: Address4Guest, macs: Mapping[str, str], shared: bool) -> str:
    """What the interface's entry is called.

    Args:
        wanted: see Address4Guest.
        macs: the entries that there are, and whose each is.
        shared: see with_address.
    """
    usual = f"yoshi-{wanted.nic}"
    longer = f"{usual}-{wanted.mac.replace(':', '')}"
    is_anothers = shared and macs.get(usual, wanted.mac) != wanted.mac
    return longer if is_anothers or longer in macs else usual


def _with(entries: list[Any], wanted: Json, key: Callable[[Any], str]) -> list[Any]:
    """The entries with one more, or in the place of the one that has the same key."""
    there = [key(one) == key(wanted) for one in entries]
    place = there.index(True) if True in there else len(entries)
    kept = [one for one, same in zip(entries, there, strict=True) if not same]
    return [*kept[:place], wanted, *kept[place:]]


def _mac_of(entry: Any, field: str) -> str:
    return str(entry.get(field) or "").lower() if isinstance(entry, dict) else ""


def _is_of(entry: Any, mac: str) -> bool:
    return _mac_of(_match(entry), "macaddress") == mac


def _match(entry: Any) -> Any:
    return entry.get("match") if isinstance(entry, dict) else None


def _version_2(wanted: Address4Guest) -> Json:
    entry: Json = {
        "match": {"macaddress": wanted.mac},
        "addresses": [f"{wanted.address}/{wanted.prefix_length}"],
    }
    if wanted.gateway is not None:
        entry["routes"] = [{"to": "0.0.0.0/0" if wanted.gateway.version == 4 else "::/0", "via": str(wanted.gateway)}]
    if wanted.dns:
        entry["nameservers"] = {"addresses": [str(one) for one in wanted.dns]}
    if wanted.mtu:
        entry["mtu"] = wanted.mtu
    return entry


def _version_1(wanted: Address4Guest) -> Json:
    subnet: Json = {
        "type": "static" if wanted.address.version == 4 else "static6",
        "address": f"{wanted.address}/{wanted.prefix_length}",
    }
    if wanted.gateway is not None:
        subnet["gateway"] = str(wanted.gateway)
    if wanted.dns:
        subnet["dns_nameservers"] = [str(one) for one in wanted.dns]
    entry: Json = {"type": "physical", "name": wanted.nic, "mac_address": wanted.mac, "subnets": [subnet]}
    return {**entry, "mtu": wanted.mtu} if wanted.mtu else entry


def _set_in_drive(data: Json, wanted: Address4Guest, shared: bool) -> None:
    links, networks = data.get("links") or [], data.get("networks") or []
    macs = {str(link.get("id")): _mac_of(link, "ethernet_mac_address") for link in links}
    mine = _id(wanted, macs, shared)
    link: Json = {"id": mine, "type": "phy", "ethernet_mac_address": wanted.mac}
    every = "0.0.0.0" if wanted.address.version == 4 else "::"
    network: Json = {"id": mine, "link": mine, "type": f"ipv{wanted.address.version}"}
    network |= {"ip_address": str(wanted.address), "netmask": _netmask(wanted)}
    if wanted.mtu:
        link["mtu"] = wanted.mtu
    if wanted.gateway is not None:
        network["routes"] = [{"network": every, "netmask": every, "gateway": str(wanted.gateway)}]
    data["links"] = _with(links, link, lambda one: str(one.get("id")))
    data["networks"] = _with(networks, network, lambda one: str(one.get("id")))
    told = list(data.get("services") or [])
    new = [{"type": "dns", "address": str(one)} for one in wanted.dns]
    if told or new:
        data["services"] = [*told, *(one for one in new if one not in told)]


def _netmask(wanted: Address4Guest) -> str:
    return str(ip_network(f"{wanted.address}/{wanted.prefix_length}", strict=False).netmask)
