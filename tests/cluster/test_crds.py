"""NetworkWizard and AddressBlock on real API servers, the oldest and the newest that the lab builds.

- specs that are taken and specs that are refused, each with the sentence that a person reads
- changes of a spec: what never changes, what may
- a range's order, against Python's ipaddress, for both families
- every field has a description; the printer columns

What Platform9 yoshi had, and patches of allocations: test_crds_status.py.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from typing import Any

import pytest

import lab
from tests.cluster.crds_scene import (
    BGP,
    BLOCKS,
    GROUP,
    NETWORKS,
    RECORD,
    Server,
    cells,
    manifest,
)

# --- what is taken and what is refused ---

PLAIN = {"plugin": "calico", "cidr": "10.133.0.0/16"}
OVS = {"plugin": "ovs", "cidr": "10.20.0.0/24"}

TAKEN = {
    "nothing at all": {},
    "no spec": None,
    "the least": PLAIN,
    "IPv6": {"plugin": "calico", "cidr": "fd00:133::/64"},
    "one address": {"plugin": "calico", "cidr": "10.133.0.7/32"},
    "everything": {"plugin": "public", "cidr": "0.0.0.0/0"},
    "host bits": {"plugin": "public", "cidr": "207.97.241.196/29"},
    "a public network without a cidr": {"plugin": "public"},
    "a range": {**PLAIN, "range_start": "10.133.0.10", "range_end": "10.133.255.250"},
    "a range of one": {**PLAIN, "range_start": "10.133.0.10", "range_end": "10.133.0.10"},
    "a range of one, written in two ways": {
        "cidr": "fd00::/64",
        "range_start": "fd00::a",
        "range_end": "fd00:0:0:0:0:0:0:A",
    },
    "half a range": {**PLAIN, "range_start": "10.133.0.10"},
    "a range where the cidr has host bits": {**BGP, "range_start": "207.97.241.193", "range_end": "207.97.241.198"},
    "exclusions": {**PLAIN, "exclude": ["10.133.1.0/28", "10.133.2.10", "10.133.2.10-10.133.2.20", "fd00::1-fd00::2"]},
    "256 exclusions": {**PLAIN, "exclude": [f"10.133.{i}.1-10.133.{i}.9" for i in range(256)]},
    "no exclusions, without a cidr": {"plugin": "public", "exclude": []},
    "a gateway": {**PLAIN, "gateway": "10.133.0.1"},
    "peers in one text": {**BGP, "bgpConfig": {"peers": "10.240.0.5, 10.240.0.4", "remoteASN": 64512, "myASN": 64514}},
    "peers in a list": {
        **BGP,
        "bgpConfig": {
            "peers": [
                {"peerIP": "10.240.0.5", "reachableBy": "10.0.0.1", "multihop": True, "passwordSecret": "bgp"},
                {"peerIP": "fd00::5"},
            ]
        },
    },
    "the greatest ASNs": {**BGP, "bgpConfig": {"myASN": 4294967295, "remoteASN": 1}},
    "Calico tuned": {
        **PLAIN,
        "calico": {"encapsulation": "IPIPCrossSubnet", "natOutgoing": False, "blockSize": 26, "liveMigration": False},
    },
    "Calico's IPv6 block": {"cidr": "fd00::/64", "calico": {"blockSize": 122, "encapsulation": "None"}},
    "announcing tuned": {
        **BGP,
        "public": {"announce": "calico-bgp", "via": "external-ips", "interfaces": ["eth0"], "nodeSelector": {"a": "b"}},
    },
    "Layer 2": {
        **OVS,
        "gateway": "10.20.0.1",
        "ovs": {
            "bridge": "br-ext",
            "nic": "eth1,eth2",
            "vlan": 20,
            "mtu": 9000,
            "bond": {"mode": "balance-tcp", "lacp": "active", "other": {"deep": 1}},
            "dhcp": {
                "enabled": True,
                "lease": "10m",
                "dns": ["10.20.0.2", "fd00::53"],
                "rangeStart": "10.20.0.10",
                "rangeEnd": "10.20.0.99",
            },
            "nodeSelector": {"kubernetes.io/os": "linux"},
        },
    },
    "times and limits": {**PLAIN, "coolDown": "1h30m", "maxAddressesPerNamespace": 10},
    "the longest time": {**PLAIN, "coolDown": "720h"},
    "the longest time in seconds": {**PLAIN, "coolDown": "2592000s"},
    "the longest time in parts, with zeros": {**PLAIN, "coolDown": "60s00000719h59m"},
}

REFUSED = {
    "an unknown plugin": ({"plugin": "flannel"}, "Unsupported value"),
    "a cidr that is none": ({"cidr": "10.133.0.0"}, "cidr must be a network such as"),
    "a prefix too long": ({"cidr": "10.133.0.0/33"}, "cidr must be a network such as"),
    "leading zeros": ({"cidr": "010.133.0.0/16"}, "cidr must be a network such as"),
    "an IPv4 network in IPv6's clothes": ({"cidr": "::ffff:10.133.0.0/112"}, "cidr must be a network such as"),
    "range_start is none": ({**PLAIN, "range_start": "CoUACg=="}, "must be an address such as"),
    "range_end is none": ({**PLAIN, "range_end": "10.133.0.0/24"}, "must be an address such as"),
    "range_start outside": ({**PLAIN, "range_start": "10.134.0.1"}, "range_start must be inside the cidr"),
    "range_end outside": ({**PLAIN, "range_end": "10.132.255.255"}, "range_end must be inside the cidr"),
    "a range of the other family": ({**PLAIN, "range_start": "fd00::1"}, "range_start must be inside the cidr"),
    "a range the wrong way round": (
        {**PLAIN, "range_start": "10.133.0.11", "range_end": "10.133.0.10"},
        "range_start must not be above range_end",
    ),
    "an IPv6 range the wrong way round": (
        {"cidr": "fd00::/64", "range_start": "fd00::1:0", "range_end": "fd00::ffff"},
        "range_start must not be above range_end",
    ),
    "a range without a cidr": (
        {"plugin": "public", "range_start": "10.0.0.1"},
        "range_start, range_end, exclude and gateway need a cidr",
    ),
    "a gateway without a cidr": ({"plugin": "public", "gateway": "10.0.0.1"}, "gateway need a cidr"),
    "an exclusion that is none": ({**PLAIN, "exclude": ["10.133.0.1", "web-1"]}, "must be a network, an address or"),
    "an exclusion of three": ({**PLAIN, "exclude": ["10.133.0.1-10.133.0.2-10.133.0.3"]}, "must be a network, an add"),
    "an exclusion of both families": ({**PLAIN, "exclude": ["10.133.0.1-fd00::1"]}, "must be a network, an address or"),
    "257 exclusions": ({**PLAIN, "exclude": ["10.133.0.1"] * 257}, "must have at most 256 items"),
    "a gateway that is none": ({**PLAIN, "gateway": "router"}, "must be an address such as"),
    "a gateway outside": ({**PLAIN, "gateway": "10.1.0.1"}, "gateway must be inside the cidr"),
    "myASN 0": ({**BGP, "bgpConfig": {"myASN": 0}}, "greater than or equal to 1"),
    "an ASN of 33 bits": ({**BGP, "bgpConfig": {"remoteASN": 4294967296}}, "less than or equal to 4294967295"),
    "peers that are one object": ({**BGP, "bgpConfig": {"peers": {"peerIP": "10.0.0.1"}}}, "spec.bgpConfig.peers"),
    "peers that are words": ({**BGP, "bgpConfig": {"peers": "router-1"}}, "spec.bgpConfig.peers"),
    "a peer without an address": ({**BGP, "bgpConfig": {"peers": [{"multihop": True}]}}, "peers[0].peerIP: Required"),
    "a peer that is none": ({**BGP, "bgpConfig": {"peers": [{"peerIP": "router-1"}]}}, "peers[0].peerIP"),
    "an unknown encapsulation": ({**PLAIN, "calico": {"encapsulation": "GRE"}}, "Unsupported value"),
    "IPIP for IPv6": (
        {"cidr": "fd00::/64", "calico": {"encapsulation": "IPIP"}},
        "calico.encapsulation IPIP is for IPv4 only",
    ),
    "a block larger than the network": (
        {"cidr": "10.0.0.0/28", "calico": {"blockSize": 26}},
        "calico.blockSize must be 20 to 32 (IPv6 116 to 128) and not shorter than the cidr's prefix",
    ),
    "an IPv4 block for IPv6": ({"cidr": "fd00::/16", "calico": {"blockSize": 26}}, "calico.blockSize must be"),
    "an IPv6 block for IPv4": ({**PLAIN, "calico": {"blockSize": 122}}, "calico.blockSize must be"),
    "Calico's section elsewhere": ({**OVS, "calico": {}}, "calico is only for a network of plugin: calico"),
    "the public section elsewhere": ({**PLAIN, "public": {}}, "public is only for a network of plugin: public"),
    "the ovs section elsewhere": ({**PLAIN, "ovs": {}}, "ovs is only for a network of plugin: ovs"),
    "an unknown announcer": ({**BGP, "public": {"announce": "bird"}}, "Unsupported value"),
    "an unknown way": ({**BGP, "public": {"via": "ingress"}}, "Unsupported value"),
    "a VLAN too high": ({**OVS, "ovs": {"vlan": 4095}}, "less than or equal to 4094"),
    "a bridge's name too long": ({**OVS, "ovs": {"bridge": "br-external-0001"}}, "spec.ovs.bridge"),
    "a lease that is none": ({**OVS, "ovs": {"dhcp": {"lease": "soon"}}}, "lease must be a time such as 10m"),
    "a DNS server by name": ({**OVS, "ovs": {"dhcp": {"dns": ["ns1"]}}}, "must be an address such as"),
    "half of DHCP's range": (
        {**OVS, "ovs": {"dhcp": {"rangeStart": "10.20.0.9"}}},
        "rangeStart and rangeEnd must be given together",
    ),
    "DHCP's range outside": (
        {**OVS, "ovs": {"dhcp": {"rangeStart": "10.20.0.9", "rangeEnd": "10.21.0.9"}}},
        "ovs.dhcp.rangeStart and rangeEnd must be inside the cidr",
    ),
    "a coolDown that is none": ({**PLAIN, "coolDown": "10 minutes"}, "coolDown must be a time such as 10m or 1h30m"),
    "a coolDown longer than histories are kept": ({**PLAIN, "coolDown": "721h"}, "coolDown must be 720h (30 days)"),
    "a second longer": ({**PLAIN, "coolDown": "2592001s"}, "coolDown must be 720h (30 days)"),
    "a coolDown in many parts": ({**PLAIN, "coolDown": "719h59m59s2s"}, "coolDown must be 720h (30 days)"),
    "the greatest sum of hours that CEL is given": (
        {**PLAIN, "coolDown": "9999h9999h9999h9999h9999h9999h"},
        "coolDown must be 720h (30 days)",
    ),
    "the greatest sum of minutes that CEL is given": (
        {**PLAIN, "coolDown": "9999999m9999999m9999999m9999h"},
        "coolDown must be 720h (30 days)",
    ),
    "a coolDown longer than CEL can tell": (
        {**PLAIN, "coolDown": "9999999999999999999999999999999h"},
        "coolDown must be 720h (30 days)",
    ),
    "no address for anyone": ({**PLAIN, "maxAddressesPerNamespace": 0}, "greater than or equal to 1"),
}


@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN.keys())
def test_valid_spec_is_accepted_and_stored_unchanged(server: Server, spec: Any) -> None:
    made = server.api.post(f"{NETWORKS}?dryRun=All&fieldValidation=Strict", manifest("taken", spec))
    assert made["spec"] == (spec or {})


@pytest.mark.parametrize(("spec", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_spec_is_refused_with_a_message(server: Server, spec: Any, says: str) -> None:
    with pytest.raises(lab.LabError) as refused:
        server.api.post(f"{NETWORKS}?dryRun=All", manifest("refused", spec))
    assert " 422 " in str(refused.value)
    assert says in str(refused.value)


CHANGES = {
    "the plugin": (PLAIN, {"plugin": "public"}, "plugin never changes: make a new network"),
    "the plugin, away": (PLAIN, {"plugin": None}, "plugin never changes"),
    "the cidr": (PLAIN, {"cidr": "10.133.0.0/17"}, "cidr never changes: make a new network"),
    "the cidr, away": (PLAIN, {"cidr": None}, "cidr never changes"),
    "a cidr for a public network without one": (
        {"plugin": "public"},
        {"cidr": "10.133.0.0/16"},
        "a public network without a cidr never gets one",
    ),
    "a cidr for another network without one": ({"plugin": "calico"}, {"cidr": "10.133.0.0/16"}, ""),
    "the whole spec, away": (PLAIN, None, "cidr never changes"),
    "the VLAN": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": {"vlan": 30}}, "ovs.vlan never changes: make a new network"),
    "the VLAN, away": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": {"vlan": None}}, "ovs.vlan never changes"),
    "the VLAN, away with its section": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": None}, "ovs.vlan never changes"),
    "untagged to a VLAN": ({**OVS, "ovs": {"bridge": "br0"}}, {"ovs": {"vlan": 20}}, "ovs.vlan never changes"),
    "untagged, said aloud": ({**OVS, "ovs": {"bridge": "br0"}}, {"ovs": {"vlan": 0}}, ""),
    "the plugin and the cidr, set late": ({}, PLAIN, ""),
    "the range": (
        {**PLAIN, "range_start": "10.133.0.10"},
        {"range_start": "10.133.0.5", "exclude": ["10.133.9.9"]},
        "",
    ),
    "the MTU": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": {"mtu": 9000}}, ""),
}


@pytest.mark.parametrize(("spec", "change", "says"), CHANGES.values(), ids=CHANGES.keys())
def test_identifying_fields_of_a_network_are_immutable(server: Server, spec: Any, change: Any, says: str) -> None:
    path = server.network("changing", spec)
    try:
        if says:
            with pytest.raises(lab.LabError, match=says):
                server.api.patch(path, {"spec": change})
            assert server.api.get(path)["spec"] == spec
        else:
            server.api.patch(path, {"spec": change})
    finally:
        server.lab.kubectl("delete", "networkwizard", "changing")


def test_range_order_rule_matches_python(server: Server) -> None:
    rng = random.Random(133)
    for version, bits in ((4, 32), (6, 128)):
        for _ in range(60):
            first = rng.getrandbits(bits)
            # Near and far: one bit apart as often as anywhere.
            last = first ^ (1 << rng.randrange(bits)) if rng.random() < 0.6 else rng.getrandbits(bits)
            address = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
            spec = {"cidr": "0.0.0.0/0" if version == 4 else "::/0"}
            spec |= {"range_start": str(address(first)), "range_end": str(address(last))}
            if "." in spec["range_start"] + spec["range_end"] and version == 6:
                continue  # IPv4-mapped, which is no address here
            try:
                server.api.post(f"{NETWORKS}?dryRun=All", manifest("order", spec))
                taken = True
            except lab.LabError as refused:
                assert "range_start must not be above range_end" in str(refused)
                taken = False
            assert taken == (first <= last), spec


BLOCK = {"network": "big", "networkUID": "u-1", "first": "10.133.4.0"}


@pytest.mark.parametrize("first", ["10.133.4.0", "0.0.0.0", "fd00:133::", "fd00:133::100", "::"])
def test_valid_address_block_is_accepted(server: Server, first: str) -> None:
    made = server.api.post(f"{BLOCKS}?dryRun=All", manifest("b", {**BLOCK, "first": first}, "AddressBlock"))
    assert made["spec"]["size"] == 256


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "spec: Required"),
        ({"network": "big", "networkUID": "u-1"}, "first: Required"),
        ({**BLOCK, "networkUID": ""}, "networkUID"),
        ({**BLOCK, "first": "10.133.4.7"}, "first must be a multiple of 256"),
        ({**BLOCK, "first": "fd00:133::80"}, "first must be a multiple of 256"),
        ({**BLOCK, "first": "FD00:133::"}, "first must be an address in canonical form"),
        ({**BLOCK, "first": "10.133.4.0/24"}, "first must be an address in canonical form"),
        ({**BLOCK, "size": 512}, "Unsupported value"),
    ],
)
def test_invalid_address_block_is_refused(server: Server, spec: Any, says: str) -> None:
    with pytest.raises(lab.LabError) as refused:
        server.api.post(f"{BLOCKS}?dryRun=All", manifest("b", spec, "AddressBlock"))
    assert says in str(refused.value)


def test_address_block_spec_is_immutable(server: Server) -> None:
    server.api.post(BLOCKS, manifest("big.10.133.4.0", BLOCK, "AddressBlock"))
    path = f"{BLOCKS}/big.10.133.4.0"
    for change in ({"first": "10.133.5.0"}, {"networkUID": "u-2"}, {"network": "other"}):
        with pytest.raises(lab.LabError, match="an AddressBlock's spec never changes"):
            server.api.patch(path, {"spec": change})
    status = server.patch_status(path, ("add", "/status", {"allocations": {"10.133.4.9": RECORD}, "used": 1}))
    assert status["allocations"] == {"10.133.4.9": RECORD}
    assert cells(server, BLOCKS, "big.10.133.4.0")[:4] == ["big.10.133.4.0", "big", "10.133.4.0", 1]


# --- for people ---


def test_every_field_has_a_description(server: Server) -> None:
    schemas = server.api.get(f"/openapi/v3{GROUP}")["components"]["schemas"]
    without = [
        path
        for kind in ("NetworkWizard", "AddressBlock")
        for path in undescribed(schemas[f"io.pf9.k8s.plumber.v1.{kind}"], kind)
    ]
    assert without == []


def undescribed(schema: Any, path: str) -> Iterator[str]:
    if not schema.get("description") and not (schema.get("allOf") or "$ref" in schema):
        yield path
    for name, child in schema.get("properties", {}).items():
        yield from undescribed(child, f"{path}.{name}")
    for child in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(child, dict):
            for name, grandchild in child.get("properties", {}).items():
                yield from undescribed(grandchild, f"{path}[].{name}")


def test_explain_describes_fields_without_a_type(server: Server) -> None:
    peers = server.lab.kubectl("explain", "networkwizard.spec.bgpConfig.peers")
    assert all(field in peers for field in ("peerIP", "reachableBy", "multihop", "passwordSecret"))
    record = server.lab.kubectl("explain", "nw.status.allocations.uid")
    assert "a recreated VM of the same name is another VM" in " ".join(record.split())


def test_printer_columns_of_networks(server: Server) -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "PoolExists",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    counters = {"size": 9223372036854775807, "used": 3, "free": 9223372036854775804, "usePercent": 1}
    status = {"conditions": [condition], **counters, "reason": "no Calico"}
    server.network("shown", {"plugin": "calico", "cidr": "fd00::/64"}, status)
    table = server.api.get(NETWORKS, accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    columns = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    assert columns == [("Name", 0), *((name, 0) for name in COLUMNS), ("Reason", 1)]
    shown = cells(server, NETWORKS, "shown")
    assert shown[:8] == ["shown", "calico", "fd00::/64", "False", *counters.values()]
    assert shown[9] == "no Calico"
    assert "fd00::/64" in server.lab.kubectl("get", "nw", "shown")


COLUMNS = ("Plugin", "CIDR", "Ready", "Size", "Used", "Free", "Use%", "Age")
