"""Parsing addresses, CIDRs and spans, and which addresses of a network a host may have.

prefix            not for hosts                       rule
----------------  ----------------------------------  ----------------
IPv4 up to /30    network and broadcast address       RFC 1122 3.2.1.3
IPv4 /31, /32     none                                RFC 3021
IPv6 up to /126   the Subnet-Router anycast address   RFC 4291 2.6.1
IPv6 /127, /128   none                                RFC 6164
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.addresses import (
    Intervals,
    address_of,
    format_span,
    parse_address,
    parse_cidr,
    parse_span,
    span_of,
    usable_hosts,
)
from kubectl_yoshi.model.errors import UsageError

IPV4 = st.ip_addresses(v=4)
IPV6 = st.ip_addresses(v=6)


@given(IPV4 | IPV6)
def test_address_round_trip(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert parse_address(str(address)) == address
    assert parse_address(f"  {address.exploded} ") == address
    assert address_of(int(address), address.version) == address


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0", "10.0.0.256", "10.0.0.1/24", "010.0.0.1", "web-1", "fd00::1::2", "fe80::1%eth0", "10,0,0,1", "1"],
)
def test_invalid_address_is_refused_with_field_and_text(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_address(text, "gateway")
    assert refused.value.message == f'gateway "{text}" is not an IP address'
    assert refused.value.hint


@given(IPV4, st.integers(0, 32))
def test_ipv4_cidr_is_parsed_without_host_bits(address: ipaddress.IPv4Address, prefix: int) -> None:
    cidr, host_bits = parse_cidr(f"{address}/{prefix}")
    assert address in cidr
    assert cidr.prefixlen == prefix
    assert host_bits == (address != cidr.network_address)


@given(IPV6, st.integers(0, 128))
def test_ipv6_cidr_is_parsed_without_host_bits(address: ipaddress.IPv6Address, prefix: int) -> None:
    cidr, host_bits = parse_cidr(f" {address}/{prefix}\n")
    assert address in cidr
    assert cidr.prefixlen == prefix
    assert host_bits == (address != cidr.network_address)


def test_cidr_of_the_legacy_readme_is_parsed() -> None:
    assert parse_cidr("207.97.241.196/29") == (ipaddress.ip_network("207.97.241.192/29"), True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.133.0.0",
        "10.133.0.0/33",
        "10.133.0.0/-1",
        "10.133.0.0/",
        "/16",
        "10.133.0/16",
        "fd00::/129",
        "10.133.0.0/16/16",
        "fe80::1%eth0/64",
        "10.133.0.0/255.255.0.0",
        "10.133.0.0/0.0.255.255",
    ],
)
def test_invalid_cidr_is_refused_with_field_and_text(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_cidr(text)
    assert refused.value.message == f'cidr "{text}" is not a network in CIDR notation'
    assert "10.133.0.0/16" in refused.value.hint


@given(IPV4, IPV4)
def test_range_includes_both_ends(one: ipaddress.IPv4Address, other: ipaddress.IPv4Address) -> None:
    first, last = sorted((one, other))
    assert parse_span(f"{first}-{last}") == ((int(first), int(last)), 4)
    assert parse_span(f"{first} - {last}") == ((int(first), int(last)), 4)
    if first != last:
        with pytest.raises(UsageError, match="ends before it starts") as refused:
            parse_span(f"{last}-{first}", "exclude")
        assert refused.value.hint == f"Write it as {first}-{last}."


def test_span_is_a_range_an_address_or_a_cidr() -> None:
    assert parse_span("10.0.0.9") == ((167772169, 167772169), 4)
    assert parse_span("10.0.0.0/30") == ((167772160, 167772163), 4)
    assert parse_span("fd00::1-fd00::f") == ((0xFD << 120 | 1, 0xFD << 120 | 15), 6)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1-fd00::1", "mixes IPv4 and IPv6"),
        ("10.0.0.1-", "is not an IP address"),
        ("-10.0.0.1", "is not an IP address"),
        ("10.0.0.1-10.0.0.2-10.0.0.3", "is not an IP address"),
        ("10.0.0.0/40", "is not a network"),
    ],
)
def test_invalid_span_is_refused_with_the_field(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        parse_span(text, "exclude")
    assert refused.value.message.startswith("exclude ")


def test_format_span() -> None:
    assert format_span((167772161, 167772161), 4) == "10.0.0.1"
    assert format_span((167772161, 167772169), 4) == "10.0.0.1-10.0.0.9"


@given(IPV4, st.integers(8, 32))
def test_usable_ipv4_hosts_exclude_network_and_broadcast_addresses(address: ipaddress.IPv4Address, prefix: int) -> None:
    cidr = ipaddress.ip_network((address, prefix), strict=False)
    hosts, everything = usable_hosts(cidr), Intervals.from_spans([span_of(cidr)])
    left_out = [] if prefix >= 31 else [int(cidr.network_address), int(cidr.broadcast_address)]
    assert everything - hosts == Intervals.from_numbers(left_out)
    assert hosts - everything == Intervals()


@given(IPV6, st.integers(48, 128))
def test_usable_ipv6_hosts_exclude_the_router_anycast_address(address: ipaddress.IPv6Address, prefix: int) -> None:
    cidr = ipaddress.ip_network((address, prefix), strict=False)
    hosts, everything = usable_hosts(cidr), Intervals.from_spans([span_of(cidr)])
    left_out = [] if prefix >= 127 else [int(cidr.network_address)]
    assert everything - hosts == Intervals.from_numbers(left_out)
    assert hosts.size == cidr.num_addresses - len(left_out)
