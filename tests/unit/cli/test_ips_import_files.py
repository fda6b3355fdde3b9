"""CSV files of addresses: with our header or OpenStack's, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_yoshi.cli.ips.import_ import parse_address_file, read_address_files
from kubectl_yoshi.model.errors import UsageError

HEADER = "name,address,mac,namespace\n"
PORTS = '"ID","Name","MAC Address","Fixed IP Addresses","Status"\n'

Rows = list[tuple[str, str, str]]


def parse(text: str) -> Rows:
    """VM, address and MAC address of each."""
    return [("/".join(g.vm), str(g.address), g.mac) for g, _ in parse_address_file("a.csv", text, "prod")]


def mistake(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "wanted"),
    {
        "all cells": (
            HEADER + "web-1,10.0.0.5,0A-00-00-00-00-01,dev\n", [("dev/web-1", "10.0.0.5", "0a:00:00:00:00:01")],
        ),
        "cells left empty, or out": (
            HEADER + "web-1,10.0.0.5,,\nweb-2,fd00::5\n",
            [("prod/web-1", "10.0.0.5", ""), ("prod/web-2", "fd00::5", "")],
        ),
        "quotes, spaces, empty lines, Windows' line ends": (
            '"name","address","mac","namespace"\r\n\r\n"web-1", 10.0.0.5\r\n', [("prod/web-1", "10.0.0.5", "")],
        ),
        "openstack port list": (
            PORTS + """f2,web-1,fa:16:3e:00:00:01,"[{'subnet_id': '0a1b', 'ip_address': '10.0.0.5'}]",UP\n""",
            [("prod/web-1", "10.0.0.5", "fa:16:3e:00:00:01")],
        ),
        "openstack port list, of older clients": (
            PORTS + """f2,web-1,fa:16:3e:00:00:01,"ip_address='10.0.0.5', subnet_id='0a1b2c3d-1111-2222'",UP\n""",
            [("prod/web-1", "10.0.0.5", "fa:16:3e:00:00:01")],
        ),
        "openstack port list --long, a port with two addresses": (
            PORTS.strip() + ',"Security Groups","Device Owner","Tags"\n'
            """f2,web-1,,"[{'ip_address': '10.0.0.5'}, {'ip_address': 'fd00::5'}]",UP,"['sg']",compute:nova,\n""",
            [("prod/web-1", "10.0.0.5", ""), ("prod/web-1", "fd00::5", "")],
        ),
    }.values(),
    ids=lambda value: None,
)  # fmt: skip
def test_both_csv_headers_are_accepted(text: str, wanted: Rows) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web-1,10.0.0.5\n",
        "name,address\nweb-1,10.0.0.5\n",
        "address,name,mac,namespace\n10.0.0.5,web-1\n",
        "name;address;mac;namespace\nweb-1;10.0.0.5\n",
        "# from the old cluster\n" + HEADER + "web-1,10.0.0.5\n",
        '"ID","Name","Status","Networks","Image"\n"f2","web-1","ACTIVE","private=10.0.0.5","cirros"\n',
    ],
)
def test_unknown_header_is_refused_with_the_expected_one(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message == "a.csv, line 1: the header is not name,address,mac,namespace"
    assert "openstack port list -f csv" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + "web-1,10.0.0.999\n", 'a.csv, line 2: address "10.0.0.999"'),
        (HEADER + "web-1,\n", "line 2: VM prod/web-1 has no address"),
        (HEADER + "web-1\n", "line 2: VM prod/web-1 has no address"),
        (HEADER + "web-1,dhcp\n", 'line 2: address "dhcp"'),
        (HEADER + "\nWeb 1,10.0.0.5\n", 'line 3: "prod/Web 1" is not the name of a VM'),
        (HEADER + ",10.0.0.5\n", 'line 2: "prod/" is not the name of a VM'),
        (HEADER + "web-1,10.0.0.5,01:00:00:00:00:01\n", "multicast"),
        (HEADER + "web-1,10.0.0.5,xx\n", 'line 2: MAC address "xx"'),
        (HEADER + "web-1,10.0.0.5,,dev,more\n", "line 2: expected 4 cells, found 5"),
        (PORTS + "f2,web-1,,,UP\n", "line 2: VM prod/web-1 has no address"),
        (PORTS + "f2,web-1,,ip_address='10.0.0.999',UP\n", 'line 2: address "10.0.0.999"'),
        (HEADER, "no lines below the header"),
    ],
)
def test_invalid_line_is_reported_with_its_number(text: str, said: str) -> None:
    assert said in mistake(text)


def test_invalid_lines_are_reported_together_and_the_rest_counted() -> None:
    wrong = "".join(f"web-{n},10.0.0.{n}\n" for n in range(254, 262))
    said = mistake(HEADER + wrong)
    assert said.count("line ") == 3
    assert said.startswith("a.csv, line 4: ")
    assert said.endswith("and 3 more lines")


def test_multiline_cell_does_not_shift_line_numbers() -> None:
    assert "line 4: " in mistake(PORTS + """f2,web-1,,"ip_address='10.0.0.5',\nsubnet_id='0a'",UP\nf3,web-2,,,UP\n""")


def test_file_and_line_are_named_and_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"\ufeff{HEADER}web-1,10.0.0.5\n", encoding="utf-8")
    ((given, line),) = read_address_files([str(file)], "prod")
    assert given.vm == ("prod", "web-1")
    assert line == f"{file}, line 2"
    file.write_bytes(f"{HEADER}web-1,10.0.0.5\n".encode("utf-16"))
    with pytest.raises(UsageError, match="the text is not UTF-8"):
        read_address_files([str(file)], "prod")
    with pytest.raises(UsageError, match="cannot read"):
        read_address_files([str(tmp_path / "none.csv")], "prod")
