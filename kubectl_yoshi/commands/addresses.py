"""Lists of addresses: what the ledger says joined with what is true."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.engine.read import read_and_compute
from kubectl_yoshi.model.addresses import Intervals, format_span
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import VM, VMI
from kubectl_yoshi.output.formats import print_rows
from kubectl_yoshi.output.tables import Column, age
from kubectl_yoshi.plan.cool_down import cooling_down
from kubectl_yoshi.plan.inventory import InventoryRow, build_inventory
from kubectl_yoshi.plan.network_lookup import get_backend, list_requested_networks
from kubectl_yoshi.plan.records import load_allocations

if TYPE_CHECKING:
    from kubectl_yoshi.commands.ips import ListOptions

FreeRow = tuple[Network, str, int]


def list_addresses(session: Session, options: ListOptions) -> None:
    """`ips list`"""
    if options.free:
        _list_free(session, options)
        return

    def show() -> None:
        rows, _ = load_inventory(session, options.network, options.all_namespaces)
        count = print_rows(
            rows,
            _columns(options.all_namespaces),
            row_to_json,
            session.out,
            options.output,
            no_headers=options.no_headers,
        )
        if not count and options.output.is_human_readable:
            session.note("No addresses found." if options.all_namespaces else _none_found_message(session))

    show()
    if options.watch:
        from kubectl_yoshi.commands.watching import show_on_changes

        show_on_changes(session, options.all_namespaces, [NETWORKWIZARD, ADDRESSBLOCK, VM, VMI], show)


def _none_found_message(session: Session) -> str:
    return f"No addresses found in {session.namespace} namespace."


def load_inventory(
    session: Session, network: str | None, all_namespaces: bool, exact: bool = False
) -> tuple[list[InventoryRow], Snapshot]:
    """Every row of the networks that are meant, and the snapshot behind them; says what could not be read."""
    now = datetime.now(timezone.utc)

    def compute(snapshot: Snapshot) -> list[InventoryRow]:
        rows: list[InventoryRow] = []
        for one in _select_and_warn(session, network, all_namespaces, snapshot):
            rows += build_inventory(one, get_backend(one, BACKENDS), snapshot, now, all_namespaces, exact)
        return rows

    rows, snapshot = read_and_compute(compute, session.api, trim_objects=True)
    session.note_unreadable(snapshot.unreadable_reasons())
    return rows, snapshot


def select_networks(session: Session, name: str | None, all_namespaces: bool, snapshot: Snapshot) -> list[Network]:
    """The network of that name, or those of the session's namespace, or of all; those of unknown plugins left out."""
    return [
        network for network in _parse_selected(session, name, all_namespaces, snapshot)[0] if network.plugin in BACKENDS
    ]


def _select_and_warn(session: Session, name: str | None, all_namespaces: bool, snapshot: Snapshot) -> list[Network]:
    """As `select_networks`; says which are broken."""
    for text in _parse_selected(session, name, all_namespaces, snapshot)[1]:
        session.warn(text)
    return select_networks(session, name, all_namespaces, snapshot)


def _parse_selected(
    session: Session, name: str | None, all_namespaces: bool, snapshot: Snapshot
) -> tuple[list[Network], list[str]]:
    network_name = parse_network_name(name, session.namespace) if name else None
    networks, broken = list_requested_networks(network_name, None if all_namespaces else session.namespace, snapshot)
    return networks, list(broken)


def _columns(namespaces: bool) -> list[Column[InventoryRow]]:
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
        Column("NOTE", lambda row: row.record.note if row.record else "", wide=True),
        Column("AGE", lambda row: age(row.record.since) if row.record and row.record.since else "<unknown>"),
    ]
    if namespaces:
        columns.insert(0, Column("NAMESPACE", lambda row: row.network.namespace))
    return columns


def row_to_json(row: InventoryRow) -> Json:
    """A row for -o json: not an object of the API server, but shaped like one."""
    record = row.record
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "Address",
        "metadata": {"name": row.address, "namespace": row.network.namespace},
        "spec": {"network": row.network.name, "address": row.address},
        "status": {
            "state": row.state.value,
            "running": row.running,
            **({"record": record.to_json()} if record else {}),
            "uses": [
                {
                    "how": u.kind.value,
                    "object": str(u.ref),
                    "namespace": u.namespace,
                    "vm": u.name,
                    **({"announcedBy": u.announcer} if u.announcer else {}),
                    **({"node": u.node} if u.node else {}),
                }
                for u in row.address_uses
            ],
        },
    }


def _list_free(session: Session, options: ListOptions) -> None:
    now = datetime.now(timezone.utc)

    def compute(snapshot: Snapshot) -> list[FreeRow]:
        rows: list[FreeRow] = []
        for network in _select_and_warn(session, options.network, options.all_namespaces, snapshot):
            allocations = load_allocations(network, snapshot, options.all_namespaces)
            unavailable = Intervals.from_numbers({*allocations.records(), *cooling_down(allocations, now)})
            rows += [
                (network, format_span(s, network.version), s[1] - s[0] + 1)
                for s in (network.usable - unavailable).spans
            ]
        return rows

    rows, _ = read_and_compute(compute, session.api, trim_objects=True)
    columns: list[Column[FreeRow]] = [
        Column("NAMESPACE", lambda row: row[0].namespace),
        Column("NETWORK", lambda row: row[0].name),
        Column("FREE", lambda row: row[1]),
        Column("COUNT", lambda row: str(row[2])),
    ]
    if not options.all_namespaces:
        del columns[0]
    print_rows(rows, columns, _free_row_to_json, session.out, options.output, no_headers=options.no_headers)


def _free_row_to_json(row: FreeRow) -> Json:
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "FreeAddresses",
        "metadata": {"name": row[1], "namespace": row[0].namespace},
        "spec": {"network": row[0].name, "range": row[1], "count": row[2]},
    }
