"""`kubectl yoshi network describe`: the details of a network, and its allocations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.options import as_options, command, output_option
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import NETWORK
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.printable import to_single_line
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.allocations import Allocations
    from kubectl_yoshi.model.network import Network
    from kubectl_yoshi.plan.inventory import InventoryRow


MAX_ADDRESSES = 50
"""Maximum number of addresses that are printed; the others are counted."""


@dataclass(frozen=True)
class DescribeOptions:
    """The flags of `network describe`."""

    name: str
    output: OutputFormat


@command("describe", examples="kubectl yoshi network describe blue")
@click.argument("name", type=NETWORK_NAME)
@output_option(NETWORK)
@as_options(DescribeOptions)
def describe(session: Session, options: DescribeOptions) -> None:
    """Show the details of a network and its allocations."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network_name
    from kubectl_yoshi.output.address_map import one_line_map
    from kubectl_yoshi.output.formats import print_objects
    from kubectl_yoshi.output.tables import write_fields
    from kubectl_yoshi.plan.address_map import build_address_map
    from kubectl_yoshi.plan.context import PlanContext, RunContext
    from kubectl_yoshi.plan.inventory import build_inventory
    from kubectl_yoshi.plan.network_lookup import get_backend, load_network
    from kubectl_yoshi.plan.records import load_allocations

    namespace, name = parse_network_name(options.name, session.namespace)
    if not options.output.is_human_readable:
        print_objects([session.api.get(NETWORKWIZARD.ref(name, namespace))], session.out, options.output, single=True)
        return
    snapshot = new_snapshot(session.api, trim_objects=True)
    network = load_network(namespace, name, snapshot)
    backend = get_backend(network, BACKENDS)
    try:
        details = backend.describe(network, snapshot)
    except PreconditionFailed as error:
        details = (("Backend", error.message),)
    ctx = PlanContext(snapshot, BACKENDS, RunContext())
    rows = build_inventory(network, ctx, all_namespaces=False)
    session.note_unreadable(snapshot.unreadable_reasons())
    allocations = load_allocations(network, snapshot)
    line = one_line_map(build_address_map(network, rows))
    fields = [*_network_fields(network, allocations), ("Map", line), *details]
    write_fields([(label, value) for label, value in fields if value], session.out)
    _write_addresses(session, rows[:MAX_ADDRESSES])
    if len(rows) > MAX_ADDRESSES:
        rest = len(rows) - MAX_ADDRESSES
        print(f"  … and {rest} more: kubectl yoshi ips list --network {network.full_name}", file=session.out)


def _network_fields(network: Network, allocations: Allocations) -> list[tuple[str, object]]:
    from kubectl_yoshi.cli.inventory import NetworkRow
    from kubectl_yoshi.model.allocations import is_large
    from kubectl_yoshi.model.objects import dig

    held = len(allocations.records())
    row = NetworkRow(network.raw, network, held)
    blocks = sum(1 for shard, obj in allocations.objects.items() if shard.is_block and obj)
    return [
        ("Name", network.name),
        ("Namespace", network.namespace),
        ("Plugin", network.plugin),
        ("CIDR", str(network.cidr or "")),
        ("Range", _format_range(network)),
        ("Excluded", dig(network.raw, "spec", "exclude", default=[])),
        ("Gateway", str(network.gateway or "")),
        ("Ready", row.ready),
        ("Reason", dig(network.raw, "status", "reason", default="")),
        ("Size", row.count("size")),
        ("Used", str(held)),
        ("Free", row.count("free")),
        ("Cool Down", dig(network.raw, "spec", "coolDown", default="")),
        ("Most per Namespace", network.max_per_namespace),
        ("Kept In", f"{blocks} address blocks" if is_large(network) else "its own status"),
    ]


def _format_range(network: Network) -> str:
    """Return the range in the syntax of --range, with "start" or "end" where only the CIDR limits it."""
    from kubectl_yoshi.model.objects import dig

    first, last = (dig(network.raw, "spec", key, default="") for key in ("range_start", "range_end"))
    return f"{first or 'start'}-{last or 'end'}" if first or last else ""


def _address_row(row: InventoryRow) -> tuple[str, ...]:
    from kubectl_yoshi.output.tables import age

    since = age(row.record.since) if row.record and row.record.since else "<unknown>"
    return row.address, row.state.value, row.holder, since


def _write_addresses(session: Session, rows: Sequence[InventoryRow]) -> None:
    from tabulate import tabulate

    from kubectl_yoshi.output.escaping import unwrap_stream
    from kubectl_yoshi.output.tables import NONE, paint_state, uses_colours

    if not rows:
        print(f"Addresses: {NONE}", file=session.out)
        return
    print("Addresses:", file=session.out)
    cells = [[*map(to_single_line, _address_row(row))] for row in rows]
    for line in cells if uses_colours(session.out) else ():
        line[1] = paint_state(line[1])
    table = tabulate(cells, ("ADDRESS", "STATE", "HOLDER", "AGE"), "plain", disable_numparse=True)
    print(table, file=unwrap_stream(session.out))
