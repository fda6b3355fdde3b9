"""-f of `ips import`: which VM has which address, as spreadsheets and OpenStack's client write it down.

    openstack port list -f csv      ID, Name, MAC Address, Fixed IP Addresses, Status
    openstack server list -f csv    ID, Name, Status, Networks, Image, Flavor
    a spreadsheet                   name; ip; mac; namespace

Between cells are commas, semicolons or tabs; lines that are empty or begin with # are left out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kubectl_yoshi.commands.files import read_text
from kubectl_yoshi.commands.vms import mac_of_flag
from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.plan.desk import Given

HEADERS: Mapping[str, tuple[str, ...]] = {
    "address": (
        "address", "addresses", "ip", "ips", "ipaddress", "ipaddresses", "ipv4", "ipv4address", "ipv6", "ipv6address",
        "fixedip", "fixedips", "fixedipaddress", "fixedipaddresses", "privateip", "publicip", "networks",
    ),
    "name": ("name", "vm", "vmname", "virtualmachine", "server", "servername", "instance", "instancename", "hostname"),
    "namespace": ("namespace", "ns"),
    "mac": ("mac", "macaddress", "hwaddr", "hwaddress"),
}  # fmt: skip
"""Column -> its headers, in lower case and without all that is no letter or digit; the first that is there is meant."""

SHOWN = 3
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
ADDRESS = re.compile(r"[0-9A-Fa-f:.]*[.:][0-9A-Fa-f:.]+")
"""What may be an address inside a cell such as [{'subnet_id': '…', 'ip_address': '10.0.0.5'}] or private=10.0.0.5."""


@dataclass(frozen=True)
class _Line:
    """A line of a table: its number, and its cells by column."""

    number: int
    cells: Mapping[str, str]


def read_given(names: Iterable[str], namespace: str) -> list[tuple[Given, str]]:
    """What files say, each with the file and line that says it.

    Args:
        names: files, "-" for stdin.
        namespace: of VMs for which none is named.

    Raises:
        UsageMistake: a file cannot be read, has no such columns, or lines in it are wrong; all of them are told.
    """
    return [one for name in names for one in parse_given(*read_text(name), namespace)]


def parse_given(source: str, text: str, namespace: str) -> list[tuple[Given, str]]:
    """What the text of one file says; see read_given. `source` is its name."""
    found: list[tuple[Given, str]] = []
    wrong: list[str] = []
    lines = list(_lines(source, text))
    for line in lines:
        try:
            found += [(given, f"{source}, line {line.number}") for given in _given(line.cells, namespace)]
        except UsageMistake as mistake:
            wrong.append(f"line {line.number}: {mistake.message}")
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more lines" if len(wrong) > SHOWN else ""
        raise UsageMistake(f"{source}, {'; '.join(wrong[:SHOWN])}{more}", "Correct the file; nothing was changed.")
    if not lines:
        raise UsageMistake(f"{source}: no lines below the headers", "Give a line for each VM.")
    return found


def _lines(source: str, text: str) -> Iterator[_Line]:
    rows = csv.reader(text.splitlines(keepends=True), delimiter=_delimiter(text), skipinitialspace=True)
    columns: dict[int, str] | None = None
    before = 0
    try:
        for row in rows:
            number, before = before + 1, rows.line_num
            if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
                continue
            if columns is None:
                columns = _columns(source, number, row)
                continue
            cells: dict[str, str] = dict.fromkeys(HEADERS, "")
            cells |= {columns[at]: cell.strip() for at, cell in enumerate(row) if at in columns}
            yield _Line(number, cells)
    except csv.Error as error:
        raise UsageMistake(
            f"{source}, line {rows.line_num}: {error}", "Correct the file; nothing was changed."
        ) from error


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return max(",;\t", key=first.count)


def _columns(source: str, number: int, row: list[str]) -> dict[int, str]:
    """Place -> which column it is."""
    there = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in row]
    found = {}
    for column, headers in HEADERS.items():
        place = next((there.index(header) for header in headers if header in there), None)
        if place is not None:
            found[place] = column
    missing = [column for column in ("name", "address") if column not in found.values()]
    if missing:
        raise UsageMistake(
            f"{source}, line {number}: no column for the VM's {' and '.join(missing)}",
            "Name the columns name and address (and mac, namespace) in the first line.",
        )
    return found


def _given(cells: Mapping[str, str], namespace: str) -> Iterator[Given]:
    where, slash, name = cells["name"].partition("/")
    vm = (where, name) if slash else (cells["namespace"] or namespace, where)
    if not all(NAME.fullmatch(part) for part in vm):
        raise UsageMistake(f'"{cells["name"]}" is not the name of a VM')
    mac = mac_of_flag(cells["mac"], "MAC address") if cells["mac"] else ""
    addresses = _addresses(cells["address"])
    if not addresses and cells["address"]:
        raise UsageMistake(f'"{cells["address"]}" is not an IP address, for VM {"/".join(vm)}')
    if not addresses:
        raise UsageMistake(f"VM {'/'.join(vm)} has no address")
    for address in addresses:
        yield Given(vm, address, mac or "")


def _addresses(cell: str) -> list[Address]:
    """The addresses in a cell; those of subnets (10.0.0.0/24 is none, 10.0.0.5/24 is 10.0.0.5) as their host."""
    try:
        return [parse_address(cell)]
    except UsageMistake:
        found = [parse_address(text) for text in ADDRESS.findall(cell) if _may_be_one(text)]
        return list(dict.fromkeys(found))


def _may_be_one(text: str) -> bool:
    """Whether it looks like an address, be it a wrong one."""
    return bool(
        re.fullmatch(r"\d+(\.\d+){3}", text) or (text.count(":") >= 2 and re.fullmatch(r"[0-9A-Fa-f:.]+", text))
    )
