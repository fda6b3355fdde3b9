"""`kubectl yoshi ips map`: the address space of a network, drawn on the terminal, as SVG or as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import all_namespaces_option, as_options, command, output_option
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS_MAP, API_VERSION
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from datetime import datetime

    from kubectl_yoshi.model.addresses import Cidr
    from kubectl_yoshi.model.network import Network
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.plan.address_map import AddressMap, MapRun

FORMATS = ("terminal", "svg", "html")
"""The formats that only this command has."""
WIDE_COLUMNS = 64
"""The columns of -o wide."""


@dataclass(frozen=True)
class MapOptions:
    """The arguments and flags of `ips map`."""

    target: str
    part: str | None
    all_namespaces: bool
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.part and _is_cidr(self.target):
            raise usage_error("give a CIDR either alone, or after the name of its network")


@command(
    "map",
    examples="kubectl yoshi ips map blue\n"
    "kubectl yoshi ips map blue 10.133.4.0/24\n"
    "kubectl yoshi ips map blue -o html > blue.html",
)
@click.argument("target", type=NETWORK_NAME, metavar="NETWORK|CIDR")
@click.argument("part", required=False, metavar="[CIDR]")
@all_namespaces_option
@output_option(ADDRESS_MAP, other_formats=FORMATS)
@as_options(MapOptions)
def map_ips(session: Session, options: MapOptions) -> None:
    """Draw the address space of a network, or of a part of it.

    Each cell is an address, or in networks larger than a /20 a block of 256 addresses, shaded by use; a CIDR draws its
    addresses. Of large IPv6 networks only the surroundings of addresses in use are drawn. -o svg and -o html write a
    picture to stdout, with the holders as tooltips.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.plan.address_map import build_address_map
    from kubectl_yoshi.plan.context import PlanContext, RunContext
    from kubectl_yoshi.plan.inventory import build_inventory
    from kubectl_yoshi.plan.records import require_allocations

    ctx = PlanContext(new_snapshot(session.api, trim_objects=True), BACKENDS, RunContext())
    network, part = _load_network(session, options, ctx.snapshot)
    rows = build_inventory(network, ctx, options.all_namespaces)
    require_allocations(network, ctx.snapshot, options.all_namespaces)  # else held addresses would be drawn as free
    session.note_unreadable(ctx.snapshot.unreadable_reasons())
    _print(session, options.output, build_address_map(network, rows, part), ctx.run.now)


def _is_cidr(target: str) -> bool:
    """Return whether an argument is a CIDR or an address, and not NAME or NAMESPACE/NAME."""
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.errors import UsageError

    try:
        parse_address(target.partition("/")[0])
    except UsageError:
        return False
    return True


def _load_network(session: Session, options: MapOptions, snapshot: Snapshot) -> tuple[Network, Cidr | None]:
    """Return the network, and the part of it to draw; None for all of it."""
    from kubectl_yoshi.cli.inventory import select_networks_and_warn
    from kubectl_yoshi.model.addresses import parse_cidr
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.network_lookup import check_part_of_network, find_network_of_cidr, load_network

    if _is_cidr(options.target):
        cidr, _ = parse_cidr(options.target, "CIDR")
        networks = select_networks_and_warn(session, None, options.all_namespaces, snapshot)
        return _with_part(find_network_of_cidr(cidr, networks), cidr)
    part = parse_cidr(options.part, "CIDR")[0] if options.part else None
    network = load_network(*parse_network_name(options.target, session.namespace), snapshot)
    if part is None:
        return network, None
    check_part_of_network(part, network)
    return _with_part(network, part)


def _with_part(network: Network, cidr: Cidr) -> tuple[Network, Cidr | None]:
    """Return a network with a CIDR as the part of it to draw; None if that has all of the network."""
    has_all = network.cidr is not None and cidr.prefixlen <= network.cidr.prefixlen and network.cidr[0] in cidr
    return network, None if has_all else cidr


def _print(session: Session, output: OutputFormat, address_map: AddressMap, now: datetime) -> None:
    from kubectl_yoshi.output.map_layout import ROW_LENGTH

    if output.kind == "svg":
        from kubectl_yoshi.output.address_map_svg import to_svg

        session.out.write(to_svg(address_map, now))
    elif output.kind == "html":
        from kubectl_yoshi.output.address_map_html import to_html

        session.out.write(to_html(address_map, now))
    elif output.kind == "terminal" or output.is_human_readable:
        from kubectl_yoshi.output.address_map import write_address_map

        write_address_map(address_map, session.out, WIDE_COLUMNS if output.kind == "wide" else ROW_LENGTH)
    else:
        from kubectl_yoshi.output.formats import print_objects

        print_objects([_to_json(address_map)], session.out, output, single=True)


def _to_json(address_map: AddressMap) -> Json:
    network = address_map.network
    return {
        "apiVersion": API_VERSION,
        "kind": ADDRESS_MAP,
        "metadata": {"name": network.name, "namespace": network.namespace},
        "spec": {"network": network.name, "cidr": str(address_map.cidr or "")},
        "status": {
            "totals": {state.value: count for state, count in address_map.totals.items()},
            "runs": [_run_to_json(run, network) for run in address_map.runs],
        },
    }


def _run_to_json(run: MapRun, network: Network) -> Json:
    from kubectl_yoshi.plan.address_map import format_run

    row = run.row
    state = {
        "range": format_run(run, network),
        "count": run.size,
        "state": run.state.value,
        "addressState": row.state.value if row else run.state.value,
        "reason": run.reason,
    }
    if row is None:
        return state
    since = {"since": row.record.since} if row.record and row.record.since else {}
    return {**state, "holder": row.holder, **since}
