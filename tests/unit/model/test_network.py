"""A NetworkWizard's spec as a Network, and the invalid ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.addresses import Intervals, parse_address, parse_cidr, usable_hosts
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.network import Network, parse_asn, parse_network, parse_network_name


def wizard(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "NetworkWizard",
        "metadata": {"name": "blue", "namespace": "prod", "uid": "uid-blue"},
        "spec": {"plugin": "calico", "cidr": "10.133.0.0/16", **spec},
    }


def network(**spec: Any) -> Network:
    return parse_network(wizard(**spec))


def number(text: str) -> int:
    return int(parse_address(text))


def test_usable_addresses_are_the_hosts_of_the_cidr() -> None:
    blue = network()
    assert blue.usable == usable_hosts(parse_cidr("10.133.0.0/16")[0])
    assert (blue.namespace, blue.name, blue.uid, blue.full_name) == ("prod", "blue", "uid-blue", "prod/blue")
    assert blue.relative_name("prod") == "blue"
    assert blue.relative_name("dev") == "prod/blue"
    assert str(blue.ref) == "networkwizard/blue in namespace prod"
    assert parse_address("10.133.255.255") in blue
    assert parse_address("10.134.0.0") not in blue
    assert parse_address("fd00::1") not in blue


def test_usable_addresses_respect_range_exclusions_and_gateway() -> None:
    blue = network(
        range_start="10.133.0.10",
        range_end="10.133.2.250",
        exclude=["10.133.1.0/28", "10.133.2.10-10.133.2.20", "10.133.2.30"],
        gateway="10.133.0.10",
    )
    assert blue.usable == Intervals.from_spans(
        [
            (number("10.133.0.11"), number("10.133.0.255")),
            (number("10.133.1.16"), number("10.133.2.9")),
            (number("10.133.2.21"), number("10.133.2.29")),
            (number("10.133.2.31"), number("10.133.2.250")),
        ]
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.134.0.1", "outside 10.133.0.0/16"),
        ("fd00::1", "outside 10.133.0.0/16"),
        ("10.133.0.0", "network or broadcast"),
        ("10.133.255.255", "network or broadcast"),
        ("10.133.0.1", "gateway"),
        ("10.133.0.9", "outside the range 10.133.0.10-10.133.9.0"),
        ("10.133.9.1", "outside the range 10.133.0.10-10.133.9.0"),
        ("10.133.1.15", "excluded"),
        ("10.133.0.10", ""),
        ("10.133.9.0", ""),
    ],
)
def test_unusable_reason_of_an_address(address: str, why: str) -> None:
    blue = network(range_start="10.133.0.10", range_end="10.133.9.0", exclude=["10.133.1.0/28"], gateway="10.133.0.1")
    told = blue.unusable_reason(parse_address(address))
    assert why in told
    assert bool(told) == bool(why)


HOST = st.integers(1, 254)


@given(HOST, HOST, st.lists(st.tuples(HOST, HOST), max_size=4), st.none() | HOST)
def test_address_is_usable_if_and_only_if_it_has_no_unusable_reason(
    one: int, other: int, excluded: list[tuple[int, int]], gateway: int | None
) -> None:
    spec: dict[str, Any] = {
        "cidr": "10.1.1.0/24",
        "range_start": f"10.1.1.{min(one, other)}",
        "range_end": f"10.1.1.{max(one, other)}",
        "exclude": [f"10.1.1.{min(pair)}-10.1.1.{max(pair)}" for pair in excluded],
    }
    if gateway:
        spec["gateway"] = f"10.1.1.{gateway}"
    try:
        net = network(**spec)
    except UsageError as mistake:
        assert "no address of 10.1.1.0/24 is left" in mistake.message
        return
    for last in range(256):
        allowed = min(one, other) <= last <= max(one, other) and last != gateway
        allowed = allowed and not any(min(pair) <= last <= max(pair) for pair in excluded)
        address = net.address(number("10.1.1.0") + last)
        assert (int(address) in net.usable) == allowed == (not net.unusable_reason(address))


def test_host_bits_are_dropped_and_recorded() -> None:
    assert network(cidr="207.97.241.196/29").host_bits
    assert str(network(cidr="207.97.241.196/29").cidr) == "207.97.241.192/29"
    assert not network(cidr="207.97.241.192/29").host_bits


def test_public_network_may_have_no_cidr() -> None:
    public = parse_network({"metadata": {"name": "world"}, "spec": {"plugin": "public", "bgpConfig": {}}})
    assert public.cidr is None
    assert not public.usable
    assert parse_address("207.97.241.196") not in public
    assert public.unusable_reason(parse_address("207.97.241.196")) == ""


def test_options_are_those_of_the_plugin() -> None:
    assert network(calico={"blockSize": 27}, public={"via": "service"}).options == {"blockSize": 27}
    assert network(public={"via": "service"}).options == {}


def test_peers_as_one_string_are_parsed() -> None:
    bgp = network(bgpConfig={"peers": "10.240.0.5, 10.240.0.4", "myASN": 64513, "remoteASN": "64512"}).bgp
    assert bgp is not None
    assert [str(peer.address) for peer in bgp.peers] == ["10.240.0.5", "10.240.0.4"]
    assert (bgp.my_asn, bgp.remote_asn) == (64513, 64512)


def test_peers_as_objects_or_strings_are_parsed() -> None:
    peer = {"peerIP": "10.240.0.5", "reachableBy": "10.240.0.1", "multihop": True, "passwordSecret": "bgp"}
    bgp = network(bgpConfig={"peers": [peer, "fd00::5"]}).bgp
    assert bgp is not None
    first, second = bgp.peers
    assert (str(first.address), str(first.reachable_by), first.multihop) == ("10.240.0.5", "10.240.0.1", True)
    assert first.password_secret == "bgp"
    assert (str(second.address), second.reachable_by, second.multihop, second.password_secret) == (
        "fd00::5",
        None,
        False,
        "",
    )


def test_asns_have_the_legacy_defaults() -> None:
    bgp = network(bgpConfig={"peers": "10.240.0.5"}).bgp
    assert bgp is not None
    assert (bgp.my_asn, bgp.remote_asn) == (64512, 64514)


@given(st.integers(1, 4294967295))
def test_asn_has_32_bits_and_may_be_a_string(asn: int) -> None:
    assert parse_asn(asn, "myASN") == parse_asn(f" {asn} ", "myASN") == asn


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        ({"cidr": "10.133.0.0"}, "cidr", "not a network"),
        ({"cidr": "10.133.0.0/33"}, "cidr", "not a network"),
        ({"cidr": 10.133}, "cidr", "not a network"),
        ({"cidr": ["10.133.0.0/16"]}, "cidr", "not a network"),
        ({"range_start": "ten"}, "range_start", "not an IP address"),
        ({"range_start": 10}, "range_start", "not an IP address"),
        ({"range_start": "10.132.255.255"}, "range_start", "outside 10.133.0.0/16"),
        ({"range_start": "fd00::1"}, "range_start", "outside 10.133.0.0/16"),
        ({"range_end": "10.134.0.0"}, "range_end", "outside 10.133.0.0/16"),
        ({"range_end": "10.133.0"}, "range_end", "not an IP address"),
        ({"range_start": "10.133.0.9", "range_end": "10.133.0.8"}, "range_start", "above range_end"),
        ({"gateway": "10.134.0.1"}, "gateway", "outside 10.133.0.0/16"),
        ({"gateway": "fd00::1"}, "gateway", "outside 10.133.0.0/16"),
        ({"gateway": "gw"}, "gateway", "not an IP address"),
        ({"gateway": {"ip": "10.133.0.1"}}, "gateway", "not an IP address"),
        ({"exclude": ["10.134.0.0/24"]}, "exclude", "outside 10.133.0.0/16"),
        ({"exclude": ["fd00::/64"]}, "exclude", "outside 10.133.0.0/16"),
        ({"exclude": ["10.133.0.9-10.133.0.8"]}, "exclude", "ends before it starts"),
        ({"exclude": ["10.133.0.0/99"]}, "exclude", "not a network"),
        ({"exclude": ["x"]}, "exclude", "not an IP address"),
        ({"exclude": "10.133.0.0/28"}, "exclude", "not a list"),
        ({"exclude": 5}, "exclude", "not a list"),
        ({"exclude": ["10.133.0.0/16"]}, "10.133.0.0/16", "left to assign"),
        ({"cidr": "10.133.0.1/32", "gateway": "10.133.0.1"}, "10.133.0.1/32", "left to assign"),
        ({"cidr": None, "range_start": "10.133.0.9"}, "range_start", "needs a cidr"),
        ({"cidr": None, "range_end": "10.133.0.9"}, "range_end", "needs a cidr"),
        ({"cidr": None, "gateway": "10.133.0.1"}, "gateway", "needs a cidr"),
        ({"cidr": "", "exclude": ["10.133.0.1"]}, "exclude", "needs a cidr"),
        ({"bgpConfig": {"myASN": 0}}, "bgpConfig.myASN", "not an ASN"),
        ({"bgpConfig": {"myASN": -1}}, "bgpConfig.myASN", "not an ASN"),
        ({"bgpConfig": {"remoteASN": 4294967296}}, "bgpConfig.remoteASN", "not an ASN"),
        ({"bgpConfig": {"remoteASN": "AS64512"}}, "bgpConfig.remoteASN", "not an ASN"),
        ({"bgpConfig": {"remoteASN": True}}, "bgpConfig.remoteASN", "not an ASN"),
        ({"bgpConfig": {"remoteASN": 64512.5}}, "bgpConfig.remoteASN", "not an ASN"),
        ({"bgpConfig": {"peers": "10.240.0.5 10.240.0.4"}}, "bgpConfig.peers", "not an IP address"),
        ({"bgpConfig": {"peers": "10.240.0.5, 10.240.0.5"}}, "bgpConfig.peers", "twice"),
        ({"bgpConfig": {"peers": [{"reachableBy": "10.240.0.1"}]}}, "bgpConfig", "has no peerIP"),
        ({"bgpConfig": {"peers": [7]}}, "bgpConfig", "has no peerIP"),
        ({"bgpConfig": {"peers": [{"peerIP": "router"}]}}, "bgpConfig.peers.peerIP", "not an IP address"),
        ({"bgpConfig": {"peers": [{"peerIP": "10.0.0.1", "reachableBy": "gw"}]}}, "reachableBy", "not an IP address"),
        ({"bgpConfig": {"peers": {"peerIP": "10.0.0.1"}}}, "bgpConfig.peers", "neither a list nor a string"),
        ({"bgpConfig": "10.240.0.5"}, "bgpConfig", "not an object"),
        ({"calico": "VXLAN"}, "calico", "not an object"),
    ],
)
def test_invalid_spec_is_refused_with_network_and_field(spec: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        network(**spec)
    message = refused.value.message
    assert message.startswith('network "blue": ')
    assert field in message
    assert why in message
    assert refused.value.hint


@pytest.mark.parametrize("spec", ["10.133.0.0/16", ["cidr"], 5])
def test_spec_that_is_no_object_is_refused_with_the_network(spec: Any) -> None:
    with pytest.raises(UsageError, match='network "blue": spec is not an object'):
        parse_network({**wizard(), "spec": spec})


@pytest.mark.parametrize(
    ("text", "wanted"), [("blue", ("dev", "blue")), ("prod/blue", ("prod", "blue")), (" blue ", ("dev", "blue"))]
)
def test_network_name_may_have_a_namespace(text: str, wanted: tuple[str, str]) -> None:
    assert parse_network_name(text, "dev") == wanted


@pytest.mark.parametrize("text", ["", "/", "prod/", "/blue", "a/b/c"])
def test_invalid_network_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a network"):
        parse_network_name(text, "dev")
