"""Parsing of ports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.ports import PROTOCOLS, Port, format_ports, parse_ports


def test_numbers_ranges_and_protocols_are_parsed() -> None:
    found = parse_ports(["22/tcp,443", "22, 5000-5002/udp"])
    assert [str(port) for port in found] == ["22/tcp", "443/tcp", "5000/udp", "5001/udp", "5002/udp"]


@pytest.mark.parametrize("text", ["", "0", "65536", "22/icmp", "9-8", "ssh", "-1", "22/", "1-65535", "1-600,1000-1600"])
def test_invalid_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ports([text])


@given(st.sets(st.builds(Port, st.integers(1, 400), st.sampled_from(PROTOCOLS)), min_size=1, max_size=200))
def test_ports_round_trip(ports: set[Port]) -> None:
    assert set(parse_ports([format_ports(ports)])) == ports
