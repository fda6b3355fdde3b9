"""`kubectl yoshi ips import`: import addresses from the cluster or from CSV files, network by network.

A file has one of two headers:

    name,address,mac,namespace                                the last two cells are optional
    ID,Name,MAC Address,Fixed IP Addresses,Status,…           the output of `openstack port list -f csv`
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute
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
from kubectl_yoshi.cli.result_objects import ATTACHMENT, attachment_object, is_changed
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode, PreconditionFailed, UsageError
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.attach.context import ExistingAddress
    from kubectl_yoshi.plan.import_.sources import Observation


CSV = "csv"
SOURCES = ("vms", "services", "calico", CSV)

ADOPTED, TO_BE_ADOPTED, UNCHANGED, REFUSED = "adopted", "to be adopted", "already right", "refused"

HEADER = ("name", "address", "mac", "namespace")
OPENSTACK_HEADER = ("ID", "Name", "MAC Address", "Fixed IP Addresses", "Status")
"""The first columns of `openstack port list -f csv`; --long has more."""

MAX_SHOWN = 3
NAME_PATTERN = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
FIXED_IP_PATTERN = r"""\bip_address'?(?:=|: *)'([^']*)'"""
"""An address in a cell of OpenStack: [{'subnet_id': '…', 'ip_address': '10.0.0.5'}], or ip_address='10.0.0.5', …
from older clients."""


@dataclass(frozen=True)
class ImportOptions:
    """The flags of `ips import`."""

    filenames: tuple[str, ...]
    source: str | None
    network: str | None
    all_namespaces: bool
    no_headers: bool
    output: OutputFormat
    dry_run: str

    def __post_init__(self) -> None:
        if self.filenames and self.source not in (None, CSV):
            raise usage_error(
                f"-f is a CSV file: it cannot be combined with --from {self.source}", "Leave one of them out."
            )
        if self.source == CSV and not self.filenames:
            raise usage_error("--from csv needs a file", 'Name it with -f, or "-" for stdin.')
        if self.source is None and not self.filenames:
            raise usage_error(
                "specify where addresses are imported from", "Give -f FILE, or --from vms, services or calico."
            )


@command(
    "import",
    examples="""
    # Import the addresses of running VMs
    kubectl yoshi ips import --from vms --network blue

    # Import a file with the header name,address,mac,namespace, or the output of `openstack port list -f csv`
    kubectl yoshi ips import -f ports.csv --network blue --dry-run=client
    """,
)
@click.option(
    "-f", "--filename", "filenames", multiple=True, type=FILE, metavar="FILE",
    help='CSV files with the header name,address,mac,namespace or of `openstack port list -f csv`; "-" for stdin.',
)  # fmt: skip
@click.option(
    "--from", "source", type=click.Choice(SOURCES), metavar="|".join(SOURCES),
    help="vms: addresses of running VMs, and of the annotation network.kubevirt.io/addresses. services: public "
    "addresses of Services not managed by yoshi. calico: addresses of VMs in Calico IPAM. csv: files (-f).",
)  # fmt: skip
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only into this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@no_headers_option
@output_option(ATTACHMENT)
@dry_run_option
@as_options(ImportOptions)
def import_ips(session: Session, options: ImportOptions) -> None:
    """Import addresses that VMs already have.

    Each address is allocated to its VM and written to the VM, as by `vm attach`. No VM is restarted. An address that
    is reserved, outside the network or used by another VM is refused; the exit code is 1 then.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.output.formats import ListFormat, print_rows
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
    rows = [_Row(one, REFUSED, "no network that you can access contains it") for one in found if not one.network]
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
    print_rows(rows, columns, _row_json, session.out, ListFormat(options.output, options.no_headers))
    if not rows and options.output.is_human_readable:
        session.note("No addresses found.")
    session.note_unreadable(snapshot.unreadable_reasons())
    if refused_count := sum(row.result == REFUSED for row in rows):
        print(f"error: {refused_count} of {len(rows)} addresses refused", file=session.err)
        click.get_current_context().exit(ExitCode.FAILURE)


@dataclass(frozen=True)
class _Row:
    """An address with its result; `reason` is the evidence for it, or the reason for the refusal."""

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
    from kubectl_yoshi.plan.import_.planner import ImportRequest, plan_import

    request = ImportRequest(network, tuple(observation.existing for observation in found))
    execute_options = ExecuteOptions(
        options.dry_run, options.output, activity="importing", total=len(found), unchanged={}, tolerate_errors=True
    )
    try:
        done = execute(session, partial(plan_import, request), execute_options)
    except (PreconditionFailed, UsageError) as error:  # of the whole network; other networks are still imported
        if session.is_diff:
            raise
        return [_Row(observation, REFUSED, error.message) for observation in found]
    return [_result_row(observation, done, options.dry_run) for observation in found] if done is not None else []


def _result_row(observation: Observation, result: RunResult, dry_run: str) -> _Row:
    owner = "/".join(observation.existing.vm)
    if error := result.errors.get(owner):
        return _Row(observation, REFUSED, error.message)
    if not is_changed(result, owner, str(observation.existing.address)):
        return _Row(observation, UNCHANGED, observation.evidence)
    return _Row(observation, ADOPTED if dry_run == "none" else TO_BE_ADOPTED, observation.evidence)


def _row_json(row: _Row) -> Json:
    from kubectl_yoshi.model.address_state import AddressState

    existing, is_refused = row.observation.existing, row.result == REFUSED
    status = {
        "address": str(existing.address),
        "mac": existing.mac,
        "state": (AddressState.UNKNOWN if is_refused else AddressState.BOUND).value,
        "changed": row.result in (ADOPTED, TO_BE_ADOPTED),
        "error" if is_refused else "evidence": row.reason,
    }
    return attachment_object(existing.vm, row.network, status)


def read_address_files(names: Iterable[str], namespace: str) -> list[tuple[ExistingAddress, str]]:
    """Return the addresses in files, each with the file and line that has it.

    Args:
        names: files, "-" for stdin.
        namespace: of VMs without a namespace in the file.

    Raises:
        UsageError: a file cannot be read, has another header, or lines in it are wrong; all of them are reported.
    """
    from kubectl_yoshi.cli.manifests import read_text

    return [one for name in names for one in parse_address_file(*read_text(name), namespace)]


def parse_address_file(source: str, text: str, namespace: str) -> list[tuple[ExistingAddress, str]]:
    """Return the addresses in the text of one file; see read_address_files. `source` is its name."""
    rows = _rows(source, text)
    number, header = next(rows, (1, ()))
    if header == HEADER:
        parse_row = _parse_row
    elif header[: len(OPENSTACK_HEADER)] == OPENSTACK_HEADER:
        parse_row = _parse_openstack_row
    else:
        raise UsageError(
            f"{source}, line {number}: the header is not {','.join(HEADER)}",
            "Write that as the first line, or give what `openstack port list -f csv` prints.",
        )
    found: list[tuple[ExistingAddress, str]] = []
    errors: list[str] = []
    for number, row in rows:
        try:
            found += [(existing, f"{source}, line {number}") for existing in parse_row(row, namespace)]
        except UsageError as error:
            errors.append(f"line {number}: {error.message}")
    if errors:
        more = f"; and {len(errors) - MAX_SHOWN} more lines" if len(errors) > MAX_SHOWN else ""
        raise UsageError(f"{source}, {'; '.join(errors[:MAX_SHOWN])}{more}", "Correct the file; nothing was changed.")
    if not found:
        raise UsageError(f"{source}: no lines below the header", "Give a line for each VM.")
    return found


def _rows(source: str, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each line that is not empty with the number at which it begins."""
    import csv

    rows = csv.reader(text.splitlines(keepends=True))
    previous_line = 0
    try:
        for row in rows:
            number, previous_line = previous_line + 1, rows.line_num
            if row:
                yield number, tuple(cell.strip() for cell in row)
    except csv.Error as error:
        raise UsageError(
            f"{source}, line {rows.line_num}: {error}", "Correct the file; nothing was changed."
        ) from error


def _parse_row(row: Sequence[str], namespace: str) -> Iterator[ExistingAddress]:
    """Parse a line below HEADER."""
    if len(row) > len(HEADER):
        raise UsageError(f"expected {len(HEADER)} cells, found {len(row)}")
    name, address, mac, named_namespace = (*row, "", "", "")[: len(HEADER)]
    yield _existing_address((named_namespace or namespace, name), address, mac)


def _parse_openstack_row(row: Sequence[str], namespace: str) -> Iterator[ExistingAddress]:
    """Parse a line below OPENSTACK_HEADER; the name of the port is that of the VM."""
    _, name, mac, addresses = (*row, "", "", "")[:4]
    for address in re.findall(FIXED_IP_PATTERN, addresses) or [""]:
        yield _existing_address((namespace, name), address, mac)


def _existing_address(vm: tuple[str, str], address: str, mac: str) -> ExistingAddress:
    from kubectl_yoshi.cli.vm_args import parse_mac
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.plan.attach.context import ExistingAddress

    if not all(re.fullmatch(NAME_PATTERN, part) for part in vm):
        raise UsageError(f'"{"/".join(vm)}" is not the name of a VM')
    if not address:
        raise UsageError(f"VM {'/'.join(vm)} has no address")
    return ExistingAddress(vm, parse_address(address), (parse_mac(mac, "MAC address") or "") if mac else "")
