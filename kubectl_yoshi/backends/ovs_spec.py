"""What spec.ovs asks for, as a value, and the kinds of objects that a layer 2 network is made of.

HostNetworkTemplate and DHCPServer are luigi's (https://github.com/platform9/luigi), NetworkAttachmentDefinition is
Multus's, whose `config` the CNI plugin ovs reads (https://github.com/k8snetworkplumbingwg/ovs-cni).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import Json, Resource

NAD = Resource("k8s.cni.cncf.io", "v1", "network-attachment-definitions", "NetworkAttachmentDefinition")
TEMPLATE = Resource(GROUP, "v1", "hostnetworktemplates", "HostNetworkTemplate")
HOST = Resource(GROUP, "v1", "hostnetworks", "HostNetwork")
DHCPSERVER = Resource("dhcp.plumber.k8s.pf9.io", "v1alpha1", "dhcpservers", "DHCPServer")
LEASE = Resource("dhcp.plumber.k8s.pf9.io", "v1alpha1", "ipallocations", "IPAllocation")
CONFIGMAP = Resource("", "v1", "configmaps", "ConfigMap")

PLUGIN = "ovs"
DEFAULT_LEASE = "1h"
MOST_NICS = 2
"""One is plugged into the bridge, two are bonded; Hostplumber takes no more."""

_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True)
class Dhcp:
    """spec.ovs.dhcp: how long addresses are lent, and which, to machines that have none of their own.

    Attributes:
        lease: as dnsmasq takes it, such as "10m".
        first, last: the ends of what strangers get; None for all that the network hands out.
    """

    lease: str
    first: Address | None = None
    last: Address | None = None


@dataclass(frozen=True)
class Layer2:
    """spec.ovs.

    Attributes:
        bridge: the Open vSwitch bridge on the nodes.
        nics: the nodes' interfaces that it is plugged into; two are bonded; () where that is not ours to say.
        vlan: 1 to 4094; 0 is untagged.
        mtu: in bytes; None for the bridge's own.
        bond_mode, lacp: Open vSwitch's words; "" for its own choice.
        nodes: labels of the nodes that have the bridge; {} for all.
        makes_bridges: Hostplumber is told to make the bridge.
        dns: DNS servers that machines are told.
        dhcp: None where there is no DHCP server.
    """

    bridge: str
    nics: tuple[str, ...] = ()
    vlan: int = 0
    mtu: int | None = None
    bond_mode: str = ""
    lacp: str = ""
    nodes: Mapping[str, str] = field(default_factory=dict)
    makes_bridges: bool = True
    dns: tuple[Address, ...] = ()
    dhcp: Dhcp | None = None


def layer2_of(network: Network) -> Layer2:
    """What a network's spec.ovs asks for.

    Raises:
        UsageMistake: something that cannot be; the message names the network and the field.
    """
    try:
        return _parsed(network)
    except UsageMistake as mistake:
        raise UsageMistake(f"network {network.full_name}: {mistake.message}", mistake.way_out) from None


def _parsed(network: Network) -> Layer2:
    spec = network.options
    if network.cidr is None:
        raise UsageMistake("a layer 2 network needs a cidr", "Give it one, such as 10.20.0.0/24.")
    name_it = "Name it with --bridge (spec.ovs.bridge), such as br-ext."
    if not spec.get("bridge"):
        raise UsageMistake("a layer 2 network needs a bridge", name_it)
    bridge = _device(spec["bridge"], "bridge", name_it)
    makes_bridges = spec.get("hostConfig") is not False
    nics = tuple(str(spec.get("nic") or "").split(",")) if spec.get("nic") else ()
    for nic in nics:
        _device(nic, "nic", "Name one interface of the nodes, such as eth1, or two with a comma, which are bonded.")
    if makes_bridges and not nics:
        raise UsageMistake(
            f"which interface of the nodes {bridge} is plugged into is not said",
            "Name it with --nic (spec.ovs.nic); for a bridge that exists on the nodes, --no-host-config "
            "(spec.ovs.hostConfig: false).",
        )
    if len(nics) > MOST_NICS or len(set(nics)) < len(nics):
        raise UsageMistake(f'nic "{spec.get("nic")}" is neither one interface nor two', "Hostplumber bonds two.")
    bond = _object(spec, "bond")
    if bond and len(nics) < MOST_NICS:
        raise UsageMistake("bond is for two interfaces", "Name both in nic, with a comma.")
    return Layer2(
        bridge=bridge,
        nics=nics,
        vlan=_number(spec, "vlan", 0, 4094) or 0,
        mtu=_number(spec, "mtu", 576, 65535),
        bond_mode=str(bond.get("mode") or ""),
        lacp=str(bond.get("lacp") or ""),
        nodes={str(key): str(value) for key, value in _object(spec, "nodeSelector").items()},
        makes_bridges=makes_bridges,
        dns=tuple(parse_address(str(text), "dhcp.dns") for text in _object(spec, "dhcp").get("dns") or ()),
        dhcp=_dhcp(network, _object(spec, "dhcp")),
    )


def _dhcp(network: Network, spec: Json) -> Dhcp | None:
    if spec.get("enabled") is False:
        return None
    if network.version == 6:
        raise UsageMistake(
            "the DHCP server speaks IPv4 only", "Pass --no-dhcp (spec.ovs.dhcp.enabled: false) for an IPv6 network."
        )
    first, last = (_address(spec, key, network) for key in ("rangeStart", "rangeEnd"))
    if (first is None) != (last is None) or (first and last and int(first) > int(last)):
        raise UsageMistake("dhcp.rangeStart and rangeEnd go together, the lower one first", "Write it as A-B.")
    return Dhcp(str(spec.get("lease") or DEFAULT_LEASE), first, last)


def _address(spec: Json, key: str, network: Network) -> Address | None:
    address = parse_address(str(spec[key]), f"dhcp.{key}") if spec.get(key) else None
    if address is not None and address not in network:
        raise UsageMistake(f"dhcp.{key} {address} is outside {network.cidr}", "Choose an address of the network.")
    return address


def _device(value: object, what: str, way_out: str) -> str:
    """A name that Linux takes for a network device (IFNAMSIZ is 16, with the end)."""
    if not value or not _DEVICE.fullmatch(str(value)):
        raise UsageMistake(f'{what} "{value or ""}" is no name of a network device', way_out)
    return str(value)


def _number(spec: Mapping[str, object], key: str, least: int, most: int) -> int | None:
    value = spec.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageMistake(f"{key} {value} is not possible", f"Give a number from {least} to {most}.")
    return value


def _object(spec: Mapping[str, object], key: str) -> Json:
    value = spec.get(key) or {}
    if not isinstance(value, dict):
        raise UsageMistake(f"ovs.{key} is not an object", "Write its fields under it, one a line.")
    return value
