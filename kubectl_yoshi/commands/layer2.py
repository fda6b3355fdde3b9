"""The flags of layer 2 networks as spec.ovs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kubectl_yoshi.commands.errors import usage_mistake
from kubectl_yoshi.model.addresses import parse_address, parse_range
from kubectl_yoshi.model.objects import Json

if TYPE_CHECKING:
    from kubectl_yoshi.commands.network import CreateOptions


def layer2_of_flags(options: CreateOptions) -> Json:
    """spec.ovs of `network create`, without its nodeSelector; {} where no flag is for layer 2 networks.

    Raises:
        UsageMistake: a flag's value is none, or flags contradict each other.
    """
    bond = _given({"mode": options.bond_mode, "lacp": options.lacp})
    return _given(
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
        raise usage_mistake("--dhcp-range and --lease are for a DHCP server, and --no-dhcp wants none")
    if options.lease and not re.fullmatch(r"[0-9]+[smhdw]?|infinite", options.lease):
        raise usage_mistake(f'--lease "{options.lease}" is no time', "Write one like 10m, 12h or infinite.")
    found: Json = _given({"enabled": options.dhcp, "lease": options.lease})
    if options.dns:
        found["dns"] = [str(parse_address(text, "--dns")) for word in options.dns for text in word.split(",")]
    if options.dhcp_range:
        first, last = parse_range(options.dhcp_range, "--dhcp-range")
        found |= {"rangeStart": str(first), "rangeEnd": str(last)}
    return found


def _given(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}
