"""The flags of `network create` for Layer 2 networks, as spec.ovs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kubectl_yoshi.cli.network.create import CreateOptions, build_layer2_spec
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.objects import Json


def spec(**flags: Any) -> Json:
    unsaid: Json = {
        field.name: () if "tuple" in str(field.type) else None for field in dataclasses.fields(CreateOptions)
    }
    return build_layer2_spec(CreateOptions(**{**unsaid, "name": "lab", **flags}))


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, {}),
        ({"bridge": "br-ext", "uplink": "eth1"}, {"bridge": "br-ext", "nic": "eth1"}),
        ({"vlan": 20, "mtu": 1500}, {"vlan": 20, "mtu": 1500}),
        ({"bond_mode": "balance-slb", "lacp": "active"}, {"bond": {"mode": "balance-slb", "lacp": "active"}}),
        ({"host_config": False}, {"hostConfig": False}),
        ({"dhcp": True}, {"dhcp": {"enabled": True}}),
        ({"dhcp": False}, {"dhcp": {"enabled": False}}),
        ({"dhcp_lease_time": "12h"}, {"dhcp": {"lease": "12h"}}),
        ({"dhcp_lease_time": "infinite"}, {"dhcp": {"lease": "infinite"}}),
        ({"dns_server": ("9.9.9.9,1.1.1.1", "8.8.8.8")}, {"dhcp": {"dns": ["9.9.9.9", "1.1.1.1", "8.8.8.8"]}}),
        (
            {"dhcp_range": "10.20.0.100-10.20.0.199"},
            {"dhcp": {"rangeStart": "10.20.0.100", "rangeEnd": "10.20.0.199"}},
        ),
    ],
)
def test_flags_set_fields_and_missing_flags_set_none(flags: Json, wanted: Json) -> None:
    assert spec(**flags) == wanted


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"dhcp": False, "dhcp_lease_time": "10m"}, "cannot be combined with --no-dhcp"),
        ({"dhcp": False, "dhcp_range": "10.20.0.1-10.20.0.9"}, "cannot be combined with --no-dhcp"),
        ({"dhcp_lease_time": "soon"}, '--dhcp-lease-time "soon" is not a lease time'),
        ({"dns_server": ("resolver",)}, "--dns-server"),
        ({"dhcp_range": "low-high"}, "--dhcp-range"),
    ],
)
def test_flags_without_effect_are_refused(flags: Json, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        spec(**flags)
