"""CSV files of addresses: what spreadsheets and OpenStack's client write, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_yoshi.cli.ips.import_ import parse_address_file, read_address_files
from kubectl_yoshi.model.errors import UsageError

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
        "plain": ("name,address\nweb-1,10.0.0.5\n", [("prod/web-1", "10.0.0.5", "")]),
        "a spreadsheet's semicolons": (
            'VM Name;IP-Address;MAC\nweb-1;10.0.0.5;"0A-00-00-00-00-01"\n',
            [("prod/web-1", "10.0.0.5", "0a:00:00:00:00:01")],
        ),
        "tabs, a byte order mark's absence, Windows' line ends": (
            "ip\tvm\tnamespace\r\n10.0.0.5\tweb-1\tdev\r\n", [("dev/web-1", "10.0.0.5", "")],
        ),
        "comments and empty lines": (
            "# from the old cluster\n\nname, ip\n\n#web-0,10.0.0.4\nweb-1, 10.0.0.5\n,\n",
            [("prod/web-1", "10.0.0.5", "")],
        ),
        "openstack port list": (
            PORTS + """f2,web-1,fa:16:3e:00:00:01,"[{'subnet_id': '0a1b', 'ip_address': '10.0.0.5'}]",UP\n""",
            [("prod/web-1", "10.0.0.5", "fa:16:3e:00:00:01")],
        ),
        "openstack port list, before": (
            PORTS + """f2,web-1,fa:16:3e:00:00:01,"ip_address='10.0.0.5', subnet_id='0a1b2c3d-1111-2222'",UP\n""",
            [("prod/web-1", "10.0.0.5", "fa:16:3e:00:00:01")],
        ),
        "openstack server list": (
            '"ID","Name","Status","Networks","Image"\n"f2","web-1","ACTIVE","private=10.0.0.5, 203.0.113.7","cirros"\n',
            [("prod/web-1", "10.0.0.5", ""), ("prod/web-1", "203.0.113.7", "")],
        ),
        "IPv6, and a namespace in the name": ("name,ip\ndev/web-1,fd00::5\n", [("dev/web-1", "fd00::5", "")]),
        "a prefix length": ("name,ip\nweb-1,10.0.0.5/24\n", [("prod/web-1", "10.0.0.5", "")]),
        "the better of two headers": ("hostname,name,ip\nh,web-1,10.0.0.5\n", [("prod/web-1", "10.0.0.5", "")]),
    }.values(),
    ids=lambda value: None,
)  # fmt: skip
def test_what_people_and_programs_write_is_read(text: str, wanted: Rows) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,address\nweb-1,10.0.0.999\n", 'a.csv, line 2: address "10.0.0.999"'),
        ("name,address\nweb-1,\n", "line 2: VM prod/web-1 has no address"),
        ("name,address\nweb-1,dhcp\n", 'line 2: "dhcp" is not an IP address, for VM prod/web-1'),
        ("name,address\n\nWeb 1,10.0.0.5\n", 'line 3: "Web 1" is not the name of a VM'),
        ("name,address\n,10.0.0.5\n", 'line 2: "" is not the name of a VM'),
        ("name,address,mac\nweb-1,10.0.0.5,01:00:00:00:00:01\n", "multicast"),
        ("name,address,mac\nweb-1,10.0.0.5,xx\n", 'line 2: MAC address "xx"'),
        ("web-1,10.0.0.5\n", "line 1: no column for the VM's name and address"),
        ("name,flavour\nweb-1,m1\n", "no column for the VM's address"),
        ("name,address\n", "no lines below the headers"),
        ("", "no lines below the headers"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(text: str, said: str) -> None:
    assert said in mistake(text)


def test_all_wrong_lines_are_told_at_once_and_the_rest_counted() -> None:
    wrong = "".join(f"web-{n},10.0.0.{n}\n" for n in range(254, 262))
    said = mistake("name,address\n" + wrong)
    assert said.count("line ") == 3
    assert said.startswith("a.csv, line 4: ")
    assert said.endswith("and 3 more lines")


def test_a_cell_of_several_lines_does_not_shift_the_numbers() -> None:
    assert "line 4: " in mistake('name,address,note\nweb-1,10.0.0.5,"two\nlines"\nweb-2,10.0.0.555,\n')


def test_a_file_is_named_with_its_line_and_a_byte_order_mark_is_no_part_of_a_header(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("\ufeffname,ip\nweb-1,10.0.0.5\n", encoding="utf-8")
    ((given, line),) = read_address_files([str(file)], "prod")
    assert given.vm == ("prod", "web-1")
    assert line == f"{file}, line 2"
    file.write_bytes("name,ip\nwéb,10.0.0.5\n".encode("utf-16"))
    with pytest.raises(UsageError, match="no UTF-8 text"):
        read_address_files([str(file)], "prod")
    with pytest.raises(UsageError, match="cannot read"):
        read_address_files([str(tmp_path / "none.csv")], "prod")
