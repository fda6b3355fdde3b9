"""Parse spec.ovs, and define the resources of Layer 2 networks.

HostNetworkTemplate and DHCPServer belong to luigi (https://github.com/platform9/luigi), NetworkAttachmentDefinition to
Multus; the CNI plugin ovs reads its `config` (https://github.com/k8snetworkplumbingwg/ovs-cni).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.errors import UsageError
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
MAX_NICS = 2
"""One is added to the bridge, two are bonded; Hostplumber supports no more."""

_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True)
class Dhcp:
    """The settings of spec.ovs.dhcp: which addresses are leased to unknown clients, and for how long.

    Attributes:
        lease: lease time in dnsmasq's form, such as "10m".
        first, last: the ends of the range for unknown clients; None for all usable addresses of the network.
    """

    lease: str
    first: Address | None = None
    last: Address | None = None


@dataclass(frozen=True)
class Layer2:
    """The settings of spec.ovs.

    Attributes:
        bridge: the Open vSwitch bridge on the nodes.
        nics: the nodes' physical interfaces in the bridge; two are bonded; () if they are not managed by yoshi.
        vlan: VLAN ID, 1..4094; 0 for untagged.
        mtu: MTU in bytes, 576..65535; None for the bridge's own.
        bond_mode, lacp: settings of Open vSwitch; "" for its default.
        nodes: labels of the nodes that have the bridge; {} for all.
        makes_bridges: whether Hostplumber creates the bridge.
        dns: DNS servers sent to clients.
        dhcp: the DHCP settings; None for no DHCP server.
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


def parse_layer2_spec(network: Network) -> Layer2:
    """Parse a network's spec.ovs.

    Raises:
        UsageError: a value is invalid; the message names the network and the field.
    """
    try:
        return _parse_spec(network)
    except UsageError as error:
        raise UsageError(f"network {network.full_name}: {error.message}", error.hint) from None


def _parse_spec(network: Network) -> Layer2:
    spec = network.options
    if network.cidr is None:
        raise UsageError("a Layer 2 network needs a cidr", "Give it one, such as 10.20.0.0/24.")
    bridge_hint = "Name it with --bridge (spec.ovs.bridge), such as br-ext."
    if not spec.get("bridge"):
        raise UsageError("a Layer 2 network needs a bridge", bridge_hint)
    bridge = _parse_device(spec["bridge"], "bridge", bridge_hint)
    makes_bridges = spec.get("hostConfig") is not False
    nics = tuple(str(spec.get("nic") or "").split(",")) if spec.get("nic") else ()
    for nic in nics:
        _parse_device(
            nic, "nic", "Name one interface of the nodes, such as eth1, or two with a comma, which are bonded."
        )
    if makes_bridges and not nics:
        raise UsageError(
            f"the node interface of bridge {bridge} is not specified",
            "Name it with --uplink (spec.ovs.nic); for a bridge that exists on the nodes, --no-host-config "
            "(spec.ovs.hostConfig: false).",
        )
    if len(nics) > MAX_NICS or len(set(nics)) < len(nics):
        raise UsageError(f'nic "{spec.get("nic")}" is neither one interface nor two', "Hostplumber bonds two.")
    bond = _get_object(spec, "bond")
    if bond and len(nics) < MAX_NICS:
        raise UsageError("bond is for two interfaces", "Name both in nic, with a comma.")
    return Layer2(
        bridge=bridge,
        nics=nics,
        vlan=_parse_number(spec, "vlan", 0, 4094) or 0,
        mtu=_parse_number(spec, "mtu", 576, 65535),
        bond_mode=str(bond.get("mode") or ""),
        lacp=str(bond.get("lacp") or ""),
        nodes={str(key): str(value) for key, value in _get_object(spec, "nodeSelector").items()},
        makes_bridges=makes_bridges,
        dns=tuple(parse_address(str(text), "dhcp.dns") for text in _get_object(spec, "dhcp").get("dns") or ()),
        dhcp=_parse_dhcp(network, _get_object(spec, "dhcp")),
    )


def _parse_dhcp(network: Network, spec: Json) -> Dhcp | None:
    if spec.get("enabled") is False:
        return None
    if network.version == 6:
        raise UsageError(
            "the DHCP server supports IPv4 only", "Pass --no-dhcp (spec.ovs.dhcp.enabled: false) for an IPv6 network."
        )
    first, last = (_parse_dhcp_address(spec, key, network) for key in ("rangeStart", "rangeEnd"))
    if (first is None) != (last is None) or (first and last and int(first) > int(last)):
        raise UsageError("dhcp.rangeStart and rangeEnd must be given together, the lower one first", "Write it as A-B.")
    return Dhcp(str(spec.get("lease") or DEFAULT_LEASE), first, last)


def _parse_dhcp_address(spec: Json, key: str, network: Network) -> Address | None:
    address = parse_address(str(spec[key]), f"dhcp.{key}") if spec.get(key) else None
    if address is not None and address not in network:
        raise UsageError(f"dhcp.{key} {address} is outside {network.cidr}", "Choose an address of the network.")
    return address


def _parse_device(value: object, field_name: str, hint: str) -> str:
    """Check that Linux accepts a name of a network device: at most 15 characters (IFNAMSIZ is 16, with the NUL)."""
    if not value or not _DEVICE.fullmatch(str(value)):
        raise UsageError(f'{field_name} "{value or ""}" is not a valid network device name', hint)
    return str(value)


def _parse_number(spec: Mapping[str, object], key: str, minimum: int, maximum: int) -> int | None:
    value = spec.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise UsageError(f"{key} {value} is not valid", f"Give a number from {minimum} to {maximum}.")
    return value


def _get_object(spec: Mapping[str, object], key: str) -> Json:
    value = spec.get(key) or {}
    if not isinstance(value, dict):
        raise UsageError(f"ovs.{key} is not an object", "Write its fields under it, one a line.")
    return value
