"""`kubectl yoshi ips list`: allocations joined with their use in the cluster, or the free addresses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    no_headers_option,
    output_option,
    watch_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS, API_VERSION, FREE_ADDRESSES
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.network import Network
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.inventory import InventoryRow

    FreeRow = tuple[Network, str, int]


@dataclass(frozen=True)
class ListOptions:
    """The flags of `ips list`."""

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
@click.argument("named", type=NETWORK_NAME, required=False, metavar="[NETWORK]")
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@click.option("--free", is_flag=True, help="List the free addresses instead, as ranges.")
@watch_option
@no_headers_option
@output_option(ADDRESS, FREE_ADDRESSES)
@as_options(ListOptions)
def list_ips(session: Session, options: ListOptions) -> None:
    """List allocated addresses with holder and state, or free addresses."""
    from kubectl_yoshi.cli.inventory import load_inventory, row_to_json
    from kubectl_yoshi.cli.watch import show_on_changes
    from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
    from kubectl_yoshi.model.vm import VM, VMI
    from kubectl_yoshi.output.formats import ListFormat, print_rows

    options = replace(options, named=None, network=options.named or options.network)
    if options.free:
        _list_free(session, options)
        return

    def show() -> None:
        rows, _ = load_inventory(session, options.network, options.all_namespaces)
        list_format = ListFormat(options.output, options.no_headers)
        count = print_rows(rows, _columns(options.all_namespaces), row_to_json, session.out, list_format)
        if not count and options.output.is_human_readable:
            where = "" if options.all_namespaces else f" in {session.namespace} namespace"
            session.note(f"No addresses found{where}.")

    show()
    if options.watch:
        show_on_changes(session, options.all_namespaces, [NETWORKWIZARD, ADDRESSBLOCK, VM, VMI], show)


def _columns(namespaces: bool) -> list[Column[InventoryRow]]:
    from kubectl_yoshi.output.tables import Column, age

    columns: list[Column[InventoryRow]] = [
        Column("ADDRESS", lambda row: row.address),
        Column("NETWORK", lambda row: row.network.name),
        Column("STATE", lambda row: row.state.value, state=True),
        Column("HOLDER", lambda row: row.holder),
        Column("RUNNING", lambda row: "yes" if row.running else "no"),
        Column("MAC", lambda row: row.record.mac if row.record else "", wide=True),
        Column("UID", lambda row: row.record.uid if row.record else "", wide=True),
        Column("ANNOUNCED BY", lambda row: ", ".join(u.announcer for u in row.address_uses if u.announcer), wide=True),
        Column("NODE", lambda row: ",".join(u.node for u in row.address_uses if u.node), wide=True),
        Column("REASON", lambda row: row.reason, wide=True),
        Column("NOTE", lambda row: row.record.note if row.record else "", wide=True),
        Column("AGE", lambda row: age(row.record.since) if row.record and row.record.since else "<unknown>"),
    ]
    if namespaces:
        columns.insert(0, Column("NAMESPACE", lambda row: row.network.namespace))
    return columns


def _list_free(session: Session, options: ListOptions) -> None:
    from kubectl_yoshi.cli.inventory import select_networks_and_warn
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.addresses import Intervals, format_span
    from kubectl_yoshi.output.formats import ListFormat, print_rows
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.cool_down import cooling_down
    from kubectl_yoshi.plan.records import load_allocations

    now = datetime.now(timezone.utc)

    snapshot = new_snapshot(session.api, trim_objects=True)
    rows: list[FreeRow] = []
    for network in select_networks_and_warn(session, options.network, options.all_namespaces, snapshot):
        allocations = load_allocations(network, snapshot, options.all_namespaces)
        unavailable = Intervals.from_numbers({*allocations.records(), *cooling_down(allocations, now)})
        rows += [
            (network, format_span(s, network.version), s[1] - s[0] + 1) for s in (network.usable - unavailable).spans
        ]
    columns: list[Column[FreeRow]] = [
        Column("NAMESPACE", lambda row: row[0].namespace),
        Column("NETWORK", lambda row: row[0].name),
        Column("FREE", lambda row: row[1]),
        Column("COUNT", lambda row: str(row[2])),
    ]
    if not options.all_namespaces:
        del columns[0]
    print_rows(rows, columns, _free_row_to_json, session.out, ListFormat(options.output, options.no_headers))


def _free_row_to_json(row: FreeRow) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": FREE_ADDRESSES,
        "metadata": {"name": row[1], "namespace": row[0].namespace},
        "spec": {"network": row[0].name, "range": row[1], "count": row[2]},
    }
