"""The flags of layer 2 networks as spec.ovs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.model.addresses import parse_address, parse_range
from kubectl_yoshi.model.objects import Json

if TYPE_CHECKING:
    from kubectl_yoshi.cli.network.create import CreateOptions


def build_layer2_spec(options: CreateOptions) -> Json:
    """spec.ovs of `network create`, without its nodeSelector; {} where no flag is for layer 2 networks.

    Raises:
        UsageError: a flag's value is none, or flags contradict each other.
    """
    bond = _drop_none({"mode": options.bond_mode, "lacp": options.lacp})
    return _drop_none(
        {
            "bridge": options.bridge,
            "nic": options.nic,
            "vlan": options.vlan,
            "mtu": options.mtu,
            "hostConfig": options.host_config,
            "bond": bond or None,
            "dhcp": _dhcp(options) or None,
        }
    )


def _dhcp(options: CreateOptions) -> Json:
    if options.dhcp is False and (options.dhcp_range or options.lease):
        raise usage_error("--dhcp-range and --lease are for a DHCP server, and --no-dhcp wants none")
    if options.lease and not re.fullmatch(r"[0-9]+[smhdw]?|infinite", options.lease):
        raise usage_error(f'--lease "{options.lease}" is no time', "Write one like 10m, 12h or infinite.")
    dhcp: Json = _drop_none({"enabled": options.dhcp, "lease": options.lease})
    if options.dns:
        dhcp["dns"] = [str(parse_address(text, "--dns")) for word in options.dns for text in word.split(",")]
    if options.dhcp_range:
        first, last = parse_range(options.dhcp_range, "--dhcp-range")
        dhcp |= {"rangeStart": str(first), "rangeEnd": str(last)}
    return dhcp


def _drop_none(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}
