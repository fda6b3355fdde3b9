"""kubectl yoshi ips import"""

from __future__ import annotations

from dataclasses import dataclass

import click

from kubectl_yoshi.commands.errors import usage_error
from kubectl_yoshi.commands.names import FILE, NETWORK
from kubectl_yoshi.commands.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    no_headers_option,
    output_option,
)
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

CSV = "csv"
SOURCES = ("vms", "services", "calico", CSV)


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
@click.option("--network", type=NETWORK, metavar="NAME", help="Only into this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@no_headers_option
@output_option("wide", "json", "yaml")
@dry_run_option
@as_options(ImportOptions)
def import_ips(session: Session, options: ImportOptions) -> None:
    """Adopt addresses that VMs have already: record them, and pin them to the VMs, as vm attach does.

    No VM is restarted. What is another VM's, reserved, or outside the network is refused and told; exit code 1 then.
    """
    from kubectl_yoshi.commands.adopting import import_addresses

    import_addresses(session, options)
