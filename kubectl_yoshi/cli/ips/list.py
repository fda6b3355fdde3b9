"""`kubectl yoshi ips list`: allocations joined with their use in the cluster, or the free addresses."""

from __future__ import annotations

from collections.abc import Callable
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
    sort_by_option,
    watch_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS, API_VERSION, FREE_ADDRESSES
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.cli.row_list import RowList
    from kubectl_yoshi.model.network import Network
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.output.sorting import SortBy
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.inventory import InventoryRow

    FreeRow = tuple[Network, str, int]

STATES = tuple(state.value for state in AddressState if state not in (AddressState.FREE, AddressState.UNUSABLE))
"""The states that the list can show."""


@dataclass(frozen=True)
class ListOptions:
    """The flags of `ips list`."""

    named: str | None
    network: str | None
    all_namespaces: bool
    free: bool
    states: tuple[str, ...]
    vm: str | None
    selector: str
    sort_by: SortBy | None
    watch: bool
    no_headers: bool
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.named and self.network:
            raise usage_error("name the network once, as NETWORK or with --network")
        if self.free and (self.states or self.vm or self.selector):
            raise usage_error("--free cannot be combined with --state, --vm or --selector: nobody has a free address")
        if self.vm and self.selector:
            raise usage_error("--vm cannot be combined with --selector: name VMs, or select them by labels")


@command("list", examples="kubectl yoshi ips list blue --free\nkubectl yoshi ips list --state Orphaned --sort-by age")
@click.argument("named", type=NETWORK_NAME, required=False, metavar="[NETWORK]")
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@click.option("--free", is_flag=True, help="List the free addresses instead, as ranges.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    metavar="STATE",
    help=f"Only addresses in this state: {', '.join(STATES)}; repeatable.",
)
@click.option("--vm", type=VM_NAME, metavar="VM", help="Only addresses of this VM: NAME, or NAMESPACE/NAME.")
@click.option(
    "-l",
    "--selector",
    default="",
    metavar="SELECTOR",
    help="Only addresses of VMs with these labels, as in kubectl: -l key1=value1,key2!=value2.",
)
@sort_by_option
@watch_option
@no_headers_option
@output_option(ADDRESS, FREE_ADDRESSES)
@as_options(ListOptions)
def list_ips(session: Session, options: ListOptions) -> None:
    """List allocated addresses with holder and state, or free addresses."""
    from kubectl_yoshi.cli.row_list import ListFlags, print_row_list
    from kubectl_yoshi.output.formats import ListFormat

    options = replace(options, named=None, network=options.named or options.network)
    list_format = ListFormat(options.output, options.no_headers)
    flags = ListFlags(options.all_namespaces, options.watch, options.sort_by, list_format)
    if options.free:
        print_row_list(session, _free_list(session, options), flags)
    else:
        print_row_list(session, _address_list(session, options), flags)


def _address_list(session: Session, options: ListOptions) -> RowList[InventoryRow]:
    from kubectl_yoshi.cli.inventory import load_inventory, row_to_json
    from kubectl_yoshi.cli.row_list import RowList
    from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
    from kubectl_yoshi.model.vm import VM, VMI
    from kubectl_yoshi.plan.inventory import free_row

    def load() -> list[InventoryRow]:
        rows, _ = load_inventory(session, options.network, options.all_namespaces)
        is_selected = _vm_filter(session, options, rows)
        return [row for row in rows if is_selected(row) and (not options.states or row.state.value in options.states)]

    return RowList(
        "addresses",
        _columns(options.all_namespaces),
        row_to_json,
        key=lambda row: (row.network.full_name, row.number),
        load=load,
        removed=None if options.states or options.vm or options.selector else free_row,
        resources=lambda: [NETWORKWIZARD, ADDRESSBLOCK, VM, VMI],
    )


def _vm_filter(session: Session, options: ListOptions, rows: list[InventoryRow]) -> Callable[[InventoryRow], bool]:
    """Return whether a row is of a selected VM: the VM holds the address, or uses it without an allocation."""
    from kubectl_yoshi.cli.vm_args import parse_vm_name
    from kubectl_yoshi.model.objects import name_of, namespace_of
    from kubectl_yoshi.model.vm import VM

    if options.vm:
        selected = {parse_vm_name(options.vm, session)}
    elif options.selector:
        vms = {vm for row in rows for vm in row.vms}
        namespaces = [None] if options.all_namespaces else sorted({namespace for namespace, _ in vms})
        selected = {
            (namespace_of(obj), name_of(obj))
            for namespace in namespaces or [session.namespace]
            for obj in session.api.list(VM, namespace, label_selector=options.selector)
        }
    else:
        return lambda row: True
    return lambda row: not selected.isdisjoint(row.vms)


def _columns(namespaces: bool) -> list[Column[InventoryRow]]:
    from kubectl_yoshi.output.tables import Column, age

    columns: list[Column[InventoryRow]] = [
        Column("ADDRESS", lambda row: row.address, sort_key=lambda row: row.number),
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
        Column(
            "AGE",
            lambda row: age(row.record.since) if row.record and row.record.since else "<unknown>",
            sort_key=lambda row: row.record.since if row.record else None,
            volatile=True,
        ),
    ]
    if namespaces:
        columns.insert(0, Column("NAMESPACE", lambda row: row.network.namespace))
    return columns


def _free_list(session: Session, options: ListOptions) -> RowList[FreeRow]:
    from kubectl_yoshi.cli.inventory import select_networks_and_warn
    from kubectl_yoshi.cli.row_list import RowList
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.addresses import Intervals, format_span
    from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.cool_down import cooling_down
    from kubectl_yoshi.plan.records import load_allocations

    def load() -> list[FreeRow]:
        now = datetime.now(timezone.utc)
        snapshot = new_snapshot(session.api, trim_objects=True)
        rows: list[FreeRow] = []
        for network in select_networks_and_warn(session, options.network, options.all_namespaces, snapshot):
            allocations = load_allocations(network, snapshot, options.all_namespaces)
            unavailable = Intervals.from_numbers({*allocations.records(), *cooling_down(allocations, now)})
            rows += [
                (network, format_span(span, network.version), span[1] - span[0] + 1)
                for span in (network.usable - unavailable).spans
            ]
        return rows

    columns: list[Column[FreeRow]] = [
        Column("NAMESPACE", lambda row: row[0].namespace),
        Column("NETWORK", lambda row: row[0].name),
        Column("FREE", lambda row: row[1]),
        Column("COUNT", lambda row: str(row[2]), sort_key=lambda row: row[2]),
    ]
    return RowList(
        "free addresses",
        columns if options.all_namespaces else columns[1:],
        _free_row_to_json,
        key=lambda row: (row[0].full_name, row[1]),
        load=load,
        removed=None,
        resources=lambda: [NETWORKWIZARD, ADDRESSBLOCK],
    )


def _free_row_to_json(row: FreeRow) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": FREE_ADDRESSES,
        "metadata": {"name": row[1], "namespace": row[0].namespace},
        "spec": {"network": row[0].name, "range": row[1], "count": row[2]},
    }
