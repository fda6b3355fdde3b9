"""Lists of addresses: what the ledger says joined with what is true."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.addresses import Intervals, written
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import VM, VMI
from kubectl_yoshi.output.ages import age
from kubectl_yoshi.output.formats import print_rows
from kubectl_yoshi.output.tables import Column
from kubectl_yoshi.plan.books import networks_asked, open_whole
from kubectl_yoshi.plan.cooling import cooling_down
from kubectl_yoshi.plan.serving import backend_of
from kubectl_yoshi.plan.survey import Row, survey

if TYPE_CHECKING:
    from kubectl_yoshi.commands.ips import ListOptions

FreeRow = tuple[Network, str, int]


def list_addresses(session: Session, options: ListOptions) -> None:
    """`ips list`"""
    if options.free:
        _list_free(session, options)
        return

    def show() -> None:
        rows, _ = surveyed(session, options.network, options.all_namespaces)
        count = print_rows(
            rows, _columns(options.all_namespaces), row_json, session.out, options.output, no_headers=options.no_headers
        )
        if not count and options.output.for_people:
            session.note("No addresses found." if options.all_namespaces else _none(session))

    show()
    if options.watch:
        from kubectl_yoshi.commands.watching import show_again

        show_again(session, options.all_namespaces, [NETWORKWIZARD, ADDRESSBLOCK, VM, VMI], show)


def _none(session: Session) -> str:
    return f"No addresses found in {session.namespace} namespace."


def surveyed(session: Session, network: str | None, everywhere: bool, exact: bool = False) -> tuple[list[Row], Facts]:
    """Every row of the networks that are meant, and the facts behind them; says what could not be read."""
    now = datetime.now(timezone.utc)

    def ask(facts: Facts) -> list[Row]:
        rows: list[Row] = []
        for one in _networks(session, network, everywhere, facts):
            rows += survey(one, backend_of(one, BACKENDS), facts, now, everywhere, exact)
        return rows

    rows, facts = observe_value(ask, session.api, lean=True)
    session.tell_unseen(facts.unknowns())
    return rows, facts


def networks_meant(session: Session, name: str | None, everywhere: bool, facts: Facts) -> list[Network]:
    """The network of that name, or those of the session's namespace, or of all; those of unknown plugins left out."""
    return [network for network in _meant(session, name, everywhere, facts)[0] if network.plugin in BACKENDS]


def _networks(session: Session, name: str | None, everywhere: bool, facts: Facts) -> list[Network]:
    """As `networks_meant`; says which are broken."""
    for text in _meant(session, name, everywhere, facts)[1]:
        session.warn(text)
    return networks_meant(session, name, everywhere, facts)


def _meant(session: Session, name: str | None, everywhere: bool, facts: Facts) -> tuple[list[Network], list[str]]:
    one = parse_network_name(name, session.namespace) if name else None
    networks, broken = networks_asked(one, None if everywhere else session.namespace, facts)
    return networks, list(broken)


def _columns(namespaces: bool) -> list[Column[Row]]:
    columns: list[Column[Row]] = [
        Column("ADDRESS", lambda row: row.address),
        Column("NETWORK", lambda row: row.network.name),
        Column("STATE", lambda row: row.state.value, state=True),
        Column("HOLDER", lambda row: row.holder),
        Column("RUNNING", lambda row: "yes" if row.running else "no"),
        Column("MAC", lambda row: row.record.mac if row.record else "", wide=True),
        Column("UID", lambda row: row.record.uid if row.record else "", wide=True),
        Column("ANNOUNCED BY", lambda row: ", ".join(u.by for u in row.uses if u.by), wide=True),
        Column("NODE", lambda row: ",".join(u.node for u in row.uses if u.node), wide=True),
        Column("NOTE", lambda row: row.record.note if row.record else "", wide=True),
        Column("AGE", lambda row: age(row.record.since) if row.record and row.record.since else "<unknown>"),
    ]
    if namespaces:
        columns.insert(0, Column("NAMESPACE", lambda row: row.network.namespace))
    return columns


def row_json(row: Row) -> Json:
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
                    "how": u.how.value,
                    "object": str(u.ref),
                    "namespace": u.namespace,
                    "vm": u.name,
                    **({"announcedBy": u.by} if u.by else {}),
                    **({"node": u.node} if u.node else {}),
                }
                for u in row.uses
            ],
        },
    }


def _list_free(session: Session, options: ListOptions) -> None:
    now = datetime.now(timezone.utc)

    def ask(facts: Facts) -> list[FreeRow]:
        rows: list[FreeRow] = []
        for network in _networks(session, options.network, options.all_namespaces, facts):
            ledger = open_whole(network, facts, options.all_namespaces)
            held = Intervals.of_numbers({*ledger.records(), *cooling_down(ledger, now)})
            rows += [(network, written(s, network.version), s[1] - s[0] + 1) for s in (network.usable - held).spans]
        return rows

    rows, _ = observe_value(ask, session.api, lean=True)
    columns: list[Column[FreeRow]] = [
        Column("NAMESPACE", lambda row: row[0].namespace),
        Column("NETWORK", lambda row: row[0].name),
        Column("FREE", lambda row: row[1]),
        Column("COUNT", lambda row: str(row[2])),
    ]
    if not options.all_namespaces:
        del columns[0]
    print_rows(rows, columns, _free_json, session.out, options.output, no_headers=options.no_headers)


def _free_json(row: FreeRow) -> Json:
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "FreeAddresses",
        "metadata": {"name": row[1], "namespace": row[0].namespace},
        "spec": {"network": row[0].name, "range": row[1], "count": row[2]},
    }
