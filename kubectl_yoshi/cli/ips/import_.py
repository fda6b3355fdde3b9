"""kubectl yoshi ips import: addresses found in the cluster or in CSV files, adopted network by network.

What -f takes, as spreadsheets and OpenStack's client write it:

    openstack port list -f csv      ID, Name, MAC Address, Fixed IP Addresses, Status
    openstack server list -f csv    ID, Name, Status, Networks, Image, Flavor
    a spreadsheet                   name; ip; mac; namespace

Between cells are commas, semicolons or tabs; lines that are empty or begin with # are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import execute
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    no_headers_option,
    output_option,
)
from kubectl_yoshi.cli.param_types import FILE, NETWORK_NAME
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.addresses import Address
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.model.plan import Change
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.attach.context import ExistingAddress
    from kubectl_yoshi.plan.import_.sources import Observation


CSV = "csv"
SOURCES = ("vms", "services", "calico", CSV)

ADOPTED, TO_BE_ADOPTED, UNCHANGED, REFUSED = "adopted", "to be adopted", "already right", "refused"

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
NAME_PATTERN = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
ADDRESS_PATTERN = r"[0-9A-Fa-f:.]*[.:][0-9A-Fa-f:.]+"
"""What may be an address inside a cell such as [{'subnet_id': '…', 'ip_address': '10.0.0.5'}] or private=10.0.0.5."""


@dataclass(frozen=True)
class ImportOptions:
    """What `ips import` was asked for."""

    filenames: tuple[str, ...]
    source: str | None
    network: str | None
    all_namespaces: bool
    no_headers: bool
    output: OutputFormat
    dry_run: str

    def __post_init__(self) -> None:
        if self.filenames and self.source not in (None, CSV):
            raise usage_error(f"-f is a CSV file: it does not go with --from {self.source}", "Leave one of them out.")
        if self.source == CSV and not self.filenames:
            raise usage_error("--from csv needs a file", 'Name it with -f, or "-" for stdin.')
        if self.source is None and not self.filenames:
            raise usage_error("say where addresses are taken from", "Give -f FILE, or --from vms, services or calico.")


@command(
    "import",
    examples="""
    # What running VMs have, adopted as theirs
    kubectl yoshi ips import --from vms --network blue

    # A list from OpenStack: the names of VMs, and "Fixed IP Addresses"
    kubectl yoshi ips import -f ports.csv --network blue --dry-run=client
    """,
)
@click.option(
    "-f", "--filename", "filenames", multiple=True, type=FILE, metavar="FILE",
    help='CSV files with columns name and address (and mac, namespace), or "-" for stdin.',
)  # fmt: skip
@click.option(
    "--from", "source", type=click.Choice(SOURCES), metavar="|".join(SOURCES),
    help="vms: what VMs run with. services: public ones of others' Services. calico: what Calico keeps for VMs. "
    "csv: files (-f).",
)  # fmt: skip
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only into this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@no_headers_option
@output_option("wide", "json", "yaml")
@dry_run_option
@as_options(ImportOptions)
def import_ips(session: Session, options: ImportOptions) -> None:
    """Adopt addresses that VMs have already: record them, and pin them to the VMs, as vm attach does.

    No VM is restarted. What is another VM's, reserved, or outside the network is refused and told; exit code 1 then.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.output.formats import print_rows
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.import_.sources import SearchScope, Source, list_observations, match_networks

    network = parse_network_name(options.network, session.namespace) if options.network else None
    search_scope = SearchScope(network, None if options.all_namespaces else session.namespace, session.namespace)
    snapshot = new_snapshot(session.api)
    if options.filenames:
        found = match_networks(read_address_files(options.filenames, session.namespace), search_scope, snapshot)
    else:
        found = list_observations(Source(options.source), search_scope, BACKENDS, snapshot)
    networks = dict.fromkeys(one.network for one in found if one.network)
    rows = [_Row(one, REFUSED, "no network that you may see has it") for one in found if not one.network]
    for name in networks:
        rows += _import_network(session, options, name, [one for one in found if one.network == name])
    if session.is_diff:
        return
    columns: list[Column[_Row]] = [
        Column("NETWORK", lambda row: row.network),
        Column("ADDRESS", lambda row: str(row.observation.existing.address)),
        Column("VM", lambda row: row.vm),
        Column("RESULT", lambda row: row.result),
        Column("MAC", lambda row: row.observation.existing.mac, wide=True),
        Column("SINCE", lambda row: row.reason),
    ]
    print_rows(rows, columns, _row_json, session.out, options.output, no_headers=options.no_headers)
    if not rows and options.output.is_human_readable:
        session.note("No addresses found.")
    session.note_unreadable(snapshot.unreadable_reasons())
    if refused_count := sum(row.result == REFUSED for row in rows):
        print(f"error: {refused_count} of {len(rows)} addresses refused", file=session.err)
        click.get_current_context().exit(1)


@dataclass(frozen=True)
class _Row:
    """An address, and what became of it; `reason`: what shows it, or why it was refused."""

    observation: Observation
    result: str
    reason: str

    @property
    def network(self) -> str:
        return "/".join(self.observation.network) if self.observation.network else ""

    @property
    def vm(self) -> str:
        return "/".join(self.observation.existing.vm)


def _import_network(
    session: Session, options: ImportOptions, network: tuple[str, str], found: list[Observation]
) -> list[_Row]:
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.plan.import_.planner import ImportRequest, plan_import

    request = ImportRequest(network, tuple(observation.existing for observation in found))
    planner = partial(plan_import, request, BACKENDS)
    try:
        done = execute(
            session, planner, options.dry_run, options.output, total=len(found), activity="importing",
            tolerate_errors=True, unchanged={},
        )  # fmt: skip
    except (PreconditionFailed, UsageError) as error:  # of the network as a whole; others may do
        if session.is_diff:
            raise
        return [_Row(observation, REFUSED, error.message) for observation in found]
    return [_result_row(observation, done, options.dry_run) for observation in found] if done is not None else []


def _result_row(observation: Observation, result: RunResult, dry_run: str) -> _Row:
    owner = "/".join(observation.existing.vm)
    if error := result.errors.get(owner):
        return _Row(observation, REFUSED, error.message)
    changes = result.plan if dry_run != "none" else (change for change, _ in result.executed)
    if not _is_changed(changes, owner, str(observation.existing.address)):
        return _Row(observation, UNCHANGED, observation.evidence)
    return _Row(observation, ADOPTED if dry_run == "none" else TO_BE_ADOPTED, observation.evidence)


def _is_changed(changes: Iterable[Change], owner: str, address: str) -> bool:
    """Whether something was changed for a VM: on itself, or in a patch of records that it shares with others."""
    return any(
        change.owner == owner or (not change.owner and address in _written_addresses(change))
        for change in changes
        if not change.is_test_only
    )


def _written_addresses(change: Change) -> set[str]:
    found: set[str] = set()
    for op in change.body if isinstance(change.body, list) and change.subresource == "status" else ():
        if op["op"] != "test":
            value = op.get("value")
            found |= {op["path"].rpartition("/")[2]}
            found |= {*value, *(value.get("allocations") or ())} if isinstance(value, dict) else set()
    return found


def _row_json(row: _Row) -> Json:
    from kubectl_yoshi.model.network import GROUP

    existing = row.observation.existing
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ImportedAddress",
        "metadata": {"name": str(existing.address), "namespace": existing.vm[0]},
        "spec": {"network": row.network, "address": str(existing.address), "vm": existing.vm[1], "mac": existing.mac},
        "status": {"result": row.result, "message": row.reason},
    }


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
    from kubectl_yoshi.cli.manifests import read_text

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
    import csv

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
    from kubectl_yoshi.cli.vm_args import parse_mac
    from kubectl_yoshi.plan.attach.context import ExistingAddress

    prefix, slash, name = cells["name"].partition("/")
    vm = (prefix, name) if slash else (cells["namespace"] or namespace, prefix)
    if not all(re.fullmatch(NAME_PATTERN, part) for part in vm):
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
    from kubectl_yoshi.model.addresses import parse_address

    try:
        return [parse_address(cell)]
    except UsageError:
        found = [parse_address(text) for text in re.findall(ADDRESS_PATTERN, cell) if _looks_like_address(text)]
        return list(dict.fromkeys(found))


def _looks_like_address(text: str) -> bool:
    """Whether it looks like an address, be it a wrong one."""
    return bool(
        re.fullmatch(r"\d+(\.\d+){3}", text) or (text.count(":") >= 2 and re.fullmatch(r"[0-9A-Fa-f:.]+", text))
    )
