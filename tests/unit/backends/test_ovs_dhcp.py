"""The configuration of the DHCP server of a Layer 2 network: its text, and that it never leases what is not free."""

from __future__ import annotations

from base64 import b64decode
from ipaddress import IPv4Network, ip_address
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubectl_yoshi.backends.ovs import dhcp
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, Layer2, parse_layer2_spec
from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.allocations import NETWORK, RESERVATION, VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import Snapshot
from tests.unit.plan.fake_api import served

NOTHING = Snapshot(served((CONFIGMAP, DHCPSERVER)))
SERVER = Allocation(NETWORK, "prod", "lab", note="DHCP server")
MAC = "02:aa:bb:cc:dd:ee"


def network(cidr: str = "10.20.0.0/24", ovs: Json | None = None, **spec: Any) -> Network:
    return parse_network(
        {
            "apiVersion": "plumber.k8s.pf9.io/v1",
            "kind": "NetworkWizard",
            "metadata": {"name": "lab", "namespace": "prod", "uid": "uid-lab"},
            "spec": {
                "plugin": "ovs", "cidr": cidr, "ovs": {"bridge": "br-ext", "nic": "eth1", **(ovs or {})}, **spec,
            },
        }
    )  # fmt: skip


def made(one: Network, records: dict[int, Allocation]) -> dict[str, Json]:
    """What is made from nothing, by kind."""
    snapshot = NOTHING
    for resource in (CONFIGMAP, DHCPSERVER):
        snapshot = snapshot.with_results({dhcp.object_query(resource, one): ()})
    return {
        change.ref.resource.kind: change.body for change in dhcp.ensure(one, parse_layer2_spec(one), records, snapshot)
    }


def files(config: Json) -> dict[str, str]:
    """The folder that dnsmasq reads."""
    found = dict(config["data"])
    return found | {key: b64decode(value).decode() for key, value in config["binaryData"].items()}


def number(text: str) -> int:
    return int(ip_address(text))


def test_configuration_equals_the_example_in_the_docstring() -> None:
    one = network(
        gateway="10.20.0.1", range_start="10.20.0.10", range_end="10.20.0.250", exclude=["10.20.0.100-10.20.0.110"],
        ovs={"vlan": 20, "mtu": 1500, "dhcp": {"dns": ["10.20.0.1", "10.20.0.2"], "lease": "10m"}},
    )  # fmt: skip
    records = {
        number("10.20.0.10"): SERVER,
        number("10.20.0.42"): Allocation(VIRTUALMACHINE, "prod", "web-1", "uid-1", MAC, "2026-01-01T00:00:00Z"),
        number("10.20.0.43"): Allocation(RESERVATION, "prod", "", note="the printer"),
    }
    objects = made(one, records)
    assert files(objects["ConfigMap"]) == {
        "dnsmasq.conf": "port=0\n"
        "dhcp-range=set:20,10.20.0.111,10.20.0.250,255.255.255.0,10m\n"
        "dhcp-option=set:20,3,10.20.0.1\n"
        "interface=eth1\n",
        "yoshi-options.conf": "dhcp-option=3,10.20.0.1\n"
        "dhcp-option=6,10.20.0.1,10.20.0.2\n"
        "dhcp-option=26,1500\n"
        "dhcp-range=set:20,10.20.0.11,10.20.0.99,255.255.255.0,10m\n",
        "10.20.0.42.conf": f"# 2026-01-01T00:00:00Z\ndhcp-host={MAC},10.20.0.42\n",
        "10.20.0.43.conf": "dhcp-host=id:reserved-10.20.0.43,10.20.0.43\n",
    }
    assert objects["DHCPServer"]["spec"] == {
        "networks": [
            {
                "networkName": "lab",
                "interfaceIp": "10.20.0.10/24",
                "leaseDuration": "10m",
                "vlanId": "20",
                "cidr": {
                    "range": "10.20.0.0/24", "range_start": "10.20.0.111", "range_end": "10.20.0.250",
                    "gateway": "10.20.0.1",
                },
            }
        ]
    }  # fmt: skip


def test_configuration_without_vlan_gateway_and_options() -> None:
    objects = made(network(), {number("10.20.0.1"): SERVER})
    assert files(objects["ConfigMap"]) == {
        "dnsmasq.conf": "port=0\ndhcp-range=10.20.0.2,10.20.0.254,255.255.255.0,1h\ninterface=eth1\n",
        "yoshi-options.conf": "dhcp-option=3\n",  # no router, or dnsmasq would name itself
    }
    [served_network] = objects["DHCPServer"]["spec"]["networks"]
    assert "vlanId" not in served_network
    assert "gateway" not in served_network["cidr"]


def generated_by_luigi(server: Json) -> str:
    """genConfigMap of dhcp-controller/controllers/dhcpserver_controller.go, line by line."""
    text = "port=0\n"
    for index, one in enumerate(server["spec"]["networks"]):
        whole = IPv4Network(one["cidr"]["range"])
        first = one["cidr"].get("range_start") or str(whole[1])
        last = one["cidr"].get("range_end") or str(whole[-2])
        lease = one.get("leaseDuration") or "1h"
        tag = f"set:{one['vlanId']}," if one.get("vlanId") else ""
        text += f"dhcp-range={tag}{first},{last},{whole.netmask},{lease}\n"
        if one["cidr"].get("gateway"):
            text += f"dhcp-option={tag}3,{one['cidr']['gateway']}\n"
        text += f"interface=eth{index + 1}\n"
    return text


@pytest.mark.parametrize("vlan", [0, 20])
@pytest.mark.parametrize("gateway", [None, "10.20.0.1"])
def test_dnsmasq_conf_equals_the_one_of_the_luigi_controller(vlan: int, gateway: str | None) -> None:
    one = network(ovs={"vlan": vlan}, **({"gateway": gateway} if gateway else {}))
    objects = made(one, {number("10.20.0.2"): SERVER})
    assert objects["ConfigMap"]["data"] == {"dnsmasq.conf": generated_by_luigi(objects["DHCPServer"])}


# -- arithmetic: range minus fixed minus excluded ---------------------------------------------------------------------


def handed_to_strangers(folder: dict[str, str], own: int) -> set[int]:
    """What dnsmasq gives to machines that it does not know, as its manual has it."""
    free: set[int] = set()
    fixed: set[int] = set()
    for line in "".join(folder.values()).splitlines():
        key, _, value = line.partition("=")
        words = [word for word in value.split(",") if not word.startswith("set:")]
        if key == "dhcp-range":
            free |= set(range(number(words[0]), number(words[1]) + 1))
        elif key == "dhcp-host":
            assert number(words[1]) not in fixed, "dnsmasq refuses an address that is fixed twice"
            fixed.add(number(words[1]))
    return free - fixed - {own}


@st.composite
def networks(draw: st.DrawFn) -> Network:
    base, size = number("10.20.0.0"), draw(st.sampled_from([8, 16, 64, 256]))
    inside = st.integers(base, base + size - 1)
    spec: Json = {}
    if draw(st.booleans()):
        ends = sorted([draw(inside), draw(inside)])
        spec |= {"range_start": str(ip_address(ends[0])), "range_end": str(ip_address(ends[1]))}
    spec["exclude"] = [
        f"{ip_address(min(pair))}-{ip_address(max(pair))}"
        for pair in draw(st.lists(st.tuples(inside, inside), max_size=3))
    ]
    if draw(st.booleans()):
        spec["gateway"] = str(ip_address(draw(inside)))
    server: Json = {}
    if draw(st.booleans()):
        ends = sorted([draw(inside), draw(inside)])
        server = {"rangeStart": str(ip_address(ends[0])), "rangeEnd": str(ip_address(ends[1]))}
    vlan = draw(st.sampled_from([0, 7]))
    prefix = 32 - (size.bit_length() - 1)
    try:
        one = network(f"10.20.0.0/{prefix}", {"vlan": vlan, "dhcp": server}, **spec)
    except UsageError:
        assume(False)
        raise
    return one


@given(networks(), st.data())
def test_dynamic_range_excludes_fixed_excluded_and_server_addresses(one: Network, data: st.DataObject) -> None:
    usable = sorted(one.usable)
    own = usable[0]
    held = data.draw(st.sets(st.sampled_from(usable), max_size=5)) - {own}
    kinds = [Allocation(VIRTUALMACHINE, "prod", "web", "uid", MAC), Allocation(RESERVATION, "prod", "")]
    records = {own: SERVER, **{n: kinds[at % 2] for at, n in enumerate(sorted(held))}}
    try:
        objects = made(one, records)
    except PreconditionFailed as refused:
        assert "no address left" in refused.message
        objects = {}
    layer = parse_layer2_spec(one)
    assert layer.dhcp is not None
    inside = set(usable)
    if layer.dhcp.first is not None and layer.dhcp.last is not None:
        inside &= set(range(int(layer.dhcp.first), int(layer.dhcp.last) + 1))
    wanted = inside - held - {own}
    if not objects:
        assert not inside - {own}
        return
    folder = files(objects["ConfigMap"])
    assert handed_to_strangers(folder, own) == wanted
    [server] = objects["DHCPServer"]["spec"]["networks"]
    spans = (Intervals.from_numbers(inside) - Intervals.from_numbers([own])).spans
    widest = number(server["cidr"]["range_end"]) - number(server["cidr"]["range_start"])
    assert widest == max(last - first for first, last in spans)


def test_empty_dynamic_range_is_refused_with_a_hint() -> None:
    one = network(ovs={"dhcp": {"rangeStart": "10.20.0.1", "rangeEnd": "10.20.0.1"}})
    with pytest.raises(PreconditionFailed, match="no address left for DHCP to lease") as caught:
        made(one, {number("10.20.0.1"): SERVER})
    assert "--no-dhcp" in caught.value.hint


def test_large_network_is_not_enumerated() -> None:
    one = network("10.0.0.0/8", exclude=["10.77.0.0/16"])
    objects = made(one, {number("10.0.0.1"): SERVER})
    assert files(objects["ConfigMap"])["yoshi-options.conf"].count("dhcp-range") == 1


def test_no_object_is_created_before_the_server_address_is_recorded() -> None:
    assert made(network(), {}) == {}


def test_no_object_is_created_without_dhcp() -> None:
    layer = parse_layer2_spec(network(ovs={"dhcp": {"enabled": False}}))
    assert layer == Layer2("br-ext", ("eth1",))
    assert made(network(ovs={"dhcp": {"enabled": False}}), {}) == {}
