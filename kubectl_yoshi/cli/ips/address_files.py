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

from kubectl_yoshi.cli.manifests import read_text
from kubectl_yoshi.cli.vm_args import parse_mac
from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.plan.attach.context import ExistingAddress

COLUMN_HEADERS: Mapping[str, tuple[str, ...]] = {
    "address": (
        "address", "addresses", "ip", "ips", "ipaddress", "ipaddresses", "ipv4", "ipv4address", "ipv6", "ipv6address",
        "fixedip", "fixedips", "fixedipaddress", "fixedipaddresses", "privateip", "publicip", "networks",
    ),
    "name": ("name", "vm", "vmname", "virtualmachine", "server", "servername", "instance", "instancename", "hostname"),
    "namespace": ("namespace", "ns"),
    "mac": ("mac", "macaddress", "hwaddr", "hwaddress"),
}  # fmt: skip
"""Column -> its headers, in lower case and without all that is no letter or digit; the first that is there is meant."""

MAX_SHOWN = 3
NAME_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
ADDRESS_PATTERN = re.compile(r"[0-9A-Fa-f:.]*[.:][0-9A-Fa-f:.]+")
"""What may be an address inside a cell such as [{'subnet_id': '…', 'ip_address': '10.0.0.5'}] or private=10.0.0.5."""


@dataclass(frozen=True)
class _Line:
    """A line of a table: its number, and its cells by column."""

    number: int
    cells: Mapping[str, str]


def read_address_files(names: Iterable[str], namespace: str) -> list[tuple[ExistingAddress, str]]:
    """What files say, each with the file and line that says it.

    Args:
        names: files, "-" for stdin.
        namespace: of VMs for which none is named.

    Raises:
        UsageError: a file cannot be read, has no such columns, or lines in it are wrong; all of them are told.
    """
    return [one for name in names for one in parse_address_file(*read_text(name), namespace)]


def parse_address_file(source: str, text: str, namespace: str) -> list[tuple[ExistingAddress, str]]:
    """What the text of one file says; see read_address_files. `source` is its name."""
    found: list[tuple[ExistingAddress, str]] = []
    errors: list[str] = []
    lines = list(_lines(source, text))
    for line in lines:
        try:
            found += [(existing, f"{source}, line {line.number}") for existing in _parse_row(line.cells, namespace)]
        except UsageError as error:
            errors.append(f"line {line.number}: {error.message}")
    if errors:
        more = f"; and {len(errors) - MAX_SHOWN} more lines" if len(errors) > MAX_SHOWN else ""
        raise UsageError(f"{source}, {'; '.join(errors[:MAX_SHOWN])}{more}", "Correct the file; nothing was changed.")
    if not lines:
        raise UsageError(f"{source}: no lines below the headers", "Give a line for each VM.")
    return found


def _lines(source: str, text: str) -> Iterator[_Line]:
    rows = csv.reader(text.splitlines(keepends=True), delimiter=_delimiter(text), skipinitialspace=True)
    columns: dict[int, str] | None = None
    previous_line = 0
    try:
        for row in rows:
            number, previous_line = previous_line + 1, rows.line_num
            if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
                continue
            if columns is None:
                columns = _columns(source, number, row)
                continue
            cells: dict[str, str] = dict.fromkeys(COLUMN_HEADERS, "")
            cells |= {columns[index]: cell.strip() for index, cell in enumerate(row) if index in columns}
            yield _Line(number, cells)
    except csv.Error as error:
        raise UsageError(
            f"{source}, line {rows.line_num}: {error}", "Correct the file; nothing was changed."
        ) from error


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return max(",;\t", key=first.count)


def _columns(source: str, number: int, row: list[str]) -> dict[int, str]:
    """Place -> which column it is."""
    normalized = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in row]
    found = {}
    for column, headers in COLUMN_HEADERS.items():
        index = next((normalized.index(header) for header in headers if header in normalized), None)
        if index is not None:
            found[index] = column
    missing = [column for column in ("name", "address") if column not in found.values()]
    if missing:
        raise UsageError(
            f"{source}, line {number}: no column for the VM's {' and '.join(missing)}",
            "Name the columns name and address (and mac, namespace) in the first line.",
        )
    return found


def _parse_row(cells: Mapping[str, str], namespace: str) -> Iterator[ExistingAddress]:
    prefix, slash, name = cells["name"].partition("/")
    vm = (prefix, name) if slash else (cells["namespace"] or namespace, prefix)
    if not all(NAME_PATTERN.fullmatch(part) for part in vm):
        raise UsageError(f'"{cells["name"]}" is not the name of a VM')
    mac = parse_mac(cells["mac"], "MAC address") if cells["mac"] else ""
    addresses = _addresses(cells["address"])
    if not addresses and cells["address"]:
        raise UsageError(f'"{cells["address"]}" is not an IP address, for VM {"/".join(vm)}')
    if not addresses:
        raise UsageError(f"VM {'/'.join(vm)} has no address")
    for address in addresses:
        yield ExistingAddress(vm, address, mac or "")


def _addresses(cell: str) -> list[Address]:
    """The addresses in a cell; those of subnets (10.0.0.0/24 is none, 10.0.0.5/24 is 10.0.0.5) as their host."""
    try:
        return [parse_address(cell)]
    except UsageError:
        found = [parse_address(text) for text in ADDRESS_PATTERN.findall(cell) if _looks_like_address(text)]
        return list(dict.fromkeys(found))


def _looks_like_address(text: str) -> bool:
    """Whether it looks like an address, be it a wrong one."""
    return bool(
        re.fullmatch(r"\d+(\.\d+){3}", text) or (text.count(":") >= 2 and re.fullmatch(r"[0-9A-Fa-f:.]+", text))
    )
