"""kubectl yoshi ips list|who|reserve|release|move|check|gc"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import click

from kubectl_yoshi.commands.changing import execute, raise_errors
from kubectl_yoshi.commands.errors import usage_error
from kubectl_yoshi.commands.flags import Seconds
from kubectl_yoshi.commands.names import FILE, FREE_ADDRESS, HELD_ADDRESS, NETWORK, VM
from kubectl_yoshi.commands.options import (
    LIST_FORMATS,
    FormatOrReport,
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    no_headers_option,
    output_option,
    timeout_option,
    wait_option,
    watch_option,
    yes_option,
)
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.output.format_option import OutputFormat, ReportFile

MIN_REPORT_INTERVAL = "5m"
"""How long the second look at leaks comes after the first, at least; as long as `ips gc` leaves a record alone."""
MAX_REPORT_AGE = "24h"
"""A report older than this says nothing about today."""


@dataclass(frozen=True)
class ListOptions:
    """What `ips list` was asked for."""

    named: str | None
    network: str | None
    all_namespaces: bool
    free: bool
    watch: bool
    no_headers: bool
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.named and self.network:
            raise usage_error("name the network once, as NETWORK or with --network")


@command("list", examples="kubectl yoshi ips list blue --free")
@click.argument("named", type=NETWORK, required=False, metavar="[NETWORK]")
@click.option("--network", type=NETWORK, metavar="NAME", help="Only this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@click.option("--free", is_flag=True, help="Show the free addresses instead, as ranges.")
@watch_option
@no_headers_option
@output_option(*LIST_FORMATS)
@as_options(ListOptions)
def list_ips(session: Session, options: ListOptions) -> None:
    """Show addresses, who holds them, and whether that is true."""
    from kubectl_yoshi.commands.addresses import list_addresses

    list_addresses(session, replace(options, named=None, network=options.named or options.network))


@dataclass(frozen=True)
class WhoOptions:
    """What `ips who` was asked for."""

    address: str
    output: OutputFormat


@command("who", examples="kubectl yoshi ips who 10.133.0.10")
@click.argument("address", type=HELD_ADDRESS, metavar="IP")
@output_option("json", "yaml", "name", "wide")
@as_options(WhoOptions)
def who(session: Session, options: WhoOptions) -> None:
    """Tell who holds an address, and who had it before."""
    from kubectl_yoshi.commands.holders import show_holder

    show_holder(session, options.address, options.output)


@dataclass(frozen=True)
class ReserveOptions:
    """What `ips reserve` was asked for."""

    network: str
    addresses: tuple[str, ...]
    count: int | None
    note: str
    dry_run: str

    def __post_init__(self) -> None:
        if self.addresses and self.count is not None:
            raise usage_error("give addresses or --count, not both")
        if self.count is not None and not 1 <= self.count <= 256:
            raise usage_error("--count must be from 1 to 256")


@command(
    "reserve",
    examples="""
    # This address, for the printer
    kubectl yoshi ips reserve blue 10.133.0.50 --note printer

    # Any three
    kubectl yoshi ips reserve blue --count 3
    """,
)
@click.argument("network", type=NETWORK)
@click.argument("addresses", nargs=-1, type=FREE_ADDRESS, metavar="[IP]…")
@click.option("--count", type=int, metavar="N", help="How many, if no address is named; 1 unless given.")
@click.option("--note", default="", metavar="TEXT", help="What for.")
@dry_run_option
@as_options(ReserveOptions)
def reserve(session: Session, options: ReserveOptions) -> None:
    """Keep addresses of a network out of everybody's reach."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.reserve import ReserveRequest, plan_reserve

    addresses = tuple(dict.fromkeys(parse_address(text) for text in options.addresses))
    network = parse_network_name(options.network, session.namespace)
    request = ReserveRequest(network, addresses, options.count or 1, options.note)
    done = execute(session, partial(plan_reserve, request, BACKENDS), options.dry_run, OutputFormat())
    if done is not None:
        raise_errors(session, done)
        suffix = "" if done.has_changed() else " (unchanged)"
        for address in done.results:
            print(f"{address} reserved on {network[1]}{suffix}", file=session.out)


@dataclass(frozen=True)
class ReleaseOptions:
    """What `ips release` was asked for."""

    network: str | None
    addresses: tuple[str, ...]
    from_report: tuple[str, ...]
    apart: float
    max_age: float
    dry_run: str

    def __post_init__(self) -> None:
        if self.from_report and self.network:
            raise usage_error("--from-report says which addresses: leave NETWORK and IP out")
        if self.from_report and len(self.from_report) != 2:
            raise usage_error("--from-report takes two reports, taken apart in time: give it twice")
        if not self.from_report and not self.addresses:
            raise usage_error("give a NETWORK and addresses of it, or --from-report twice")


@command(
    "release",
    examples="""
    kubectl yoshi ips release blue 10.133.0.50

    # What two looks, some time apart, both found left behind
    kubectl yoshi ips check -A -o monday.json; sleep 1h; kubectl yoshi ips check -A -o later.json
    kubectl yoshi ips release --from-report monday.json --from-report later.json
    """,
)
@click.argument("network", type=NETWORK, required=False)
@click.argument("addresses", nargs=-1, type=HELD_ADDRESS, metavar="[IP]…")
@click.option("--from-report", multiple=True, type=FILE, metavar="FILE", help="A report of `ips check`; give two.")
@click.option(
    "--apart",
    type=Seconds(),
    default=MIN_REPORT_INTERVAL,
    metavar="DURATION",
    help=f"How long the reports must be apart, at least; {MIN_REPORT_INTERVAL} unless given.",
)
@click.option(
    "--max-age",
    type=Seconds(),
    default=MAX_REPORT_AGE,
    metavar="DURATION",
    help=f"How old the reports may be; {MAX_REPORT_AGE} unless given.",
)
@dry_run_option
@as_options(ReleaseOptions)
def release(session: Session, options: ReleaseOptions) -> None:
    """Give reserved addresses back, and addresses whose VM does not use them."""
    if options.from_report:
        from kubectl_yoshi.commands.reports import release_leaked

        release_leaked(session, options)
        return
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.commands.releasing import print_released
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.reserve import ReleaseRequest, plan_release

    addresses = tuple(dict.fromkeys(parse_address(text) for text in options.addresses))
    network = parse_network_name(options.network or "", session.namespace)
    request = ReleaseRequest(network, addresses)
    done = execute(
        session, partial(plan_release, request, BACKENDS), options.dry_run, OutputFormat(), tolerate_errors=True
    )
    if done is not None:
        print_released(session, done, [str(address) for address in addresses], options.dry_run)


@dataclass(frozen=True)
class MoveOptions:
    """What `ips move` was asked for."""

    address: str
    to: str
    network: str | None
    port: tuple[str, ...]
    wait: bool
    timeout: float | None
    dry_run: str


@command("move", examples="kubectl yoshi ips move 203.0.113.5 --to web-2")
@click.argument("address", type=HELD_ADDRESS, metavar="IP")
@click.option("--to", type=VM, required=True, metavar="VM", help="The VM that is to have it: NAME, or NAMESPACE/NAME.")
@click.option("--network", type=NETWORK, metavar="NAME", help="The network that the address is of; found unless named.")
@click.option("--port", multiple=True, metavar="PORTS", help="Ports of the address; 22,80,443/tcp unless given.")
@wait_option("it can be reached")
@timeout_option()
@dry_run_option
@as_options(MoveOptions)
def move(session: Session, options: MoveOptions) -> None:
    """Give a VM's public address to another VM."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.commands.vms import resolve_vms
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.model.ports import parse_ports
    from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move

    address = parse_address(options.address)
    ports = parse_ports(options.port) if options.port else ()
    network = parse_network_name(options.network, session.namespace) if options.network else None
    (target,) = resolve_vms(session, (options.to,), "", (), False)
    request = MoveRequest(address, target, network, ports, options.wait)
    done = execute(
        session, partial(plan_move, request, BACKENDS), options.dry_run, OutputFormat(), timeout=options.timeout
    )
    if done is not None:
        raise_errors(session, done)
        suffix = "" if done.has_changed() else " (unchanged)"
        print(f"{address} moved to virtualmachine.kubevirt.io/{options.to}{suffix}", file=session.out)


@dataclass(frozen=True)
class CheckOptions:
    """What `ips check` was asked for."""

    network: str | None
    all_namespaces: bool
    output: OutputFormat | ReportFile


@command(
    "check",
    examples="""
    kubectl yoshi ips check -A

    # A report for programs, and for `ips release --from-report`
    kubectl yoshi ips check -A -o monday.json
    """,
)
@click.option("--network", type=NETWORK, metavar="NAME", help="Only this network.")
@all_namespaces_option
@click.option(
    "-o",
    "--output",
    type=FormatOrReport(("json", "yaml")),
    default=OutputFormat(),
    metavar="FORMAT|FILE.json",
    help="Output format: json|yaml; or the file that a report is written to.",
    show_default=False,
)
@as_options(CheckOptions)
def check(session: Session, options: CheckOptions) -> None:
    """Compare what is recorded with what is true; exit 1 if they differ."""
    from kubectl_yoshi.commands.reports import check_addresses

    if check_addresses(session, options):
        click.get_current_context().exit(1)


@dataclass(frozen=True)
class GcOptions:
    """What `ips gc` was asked for."""

    network: str | None
    all_namespaces: bool
    grace: float
    yes: bool
    dry_run: str


@command("gc", examples="kubectl yoshi ips gc -A --yes")
@click.option("--network", type=NETWORK, metavar="NAME", help="Only this network.")
@all_namespaces_option
@click.option(
    "--grace", type=Seconds(), default="5m", metavar="DURATION", help="Leave younger records alone; 5m unless given."
)
@yes_option
@dry_run_option
@as_options(GcOptions)
def gc(session: Session, options: GcOptions) -> None:
    """Give back addresses that nothing uses any more.

    What networks of the namespace left elsewhere that were deleted with plain kubectl (pools, Services, BGP entries,
    bridges) goes too; with -A, that of all namespaces.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import run
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.output.plan_printer import show_plan
    from kubectl_yoshi.plan.gc import GcRequest, plan_gc

    networks = (parse_network_name(options.network, session.namespace),) if options.network else None
    namespace = None if options.all_namespaces else session.namespace
    planner = partial(plan_gc, GcRequest(networks, namespace, options.grace), BACKENDS)
    if options.dry_run == "none" and not session.is_diff and not options.yes:
        preview = run(planner, session.api, dry_run="client")
        if any(preview.plan):
            show_plan(preview.plan, session.err, OutputFormat(), "client")
            session.confirm("Do this?", options.yes)
    empty_message = "nothing to collect"
    done = execute(
        session, planner, options.dry_run, OutputFormat(), activity="collecting", unchanged={"": empty_message}
    )
    if done is not None:
        for change, _ in done.executed:
            print(change.summary, file=session.out)
        raise_errors(session, done)
        if not done.executed:
            print(empty_message, file=session.out)
