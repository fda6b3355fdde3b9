"""`kubectl yoshi policy status`: which admission policies are installed, and whether they are in effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_yoshi.cli.options import as_options, command, no_headers_option, output_option
from kubectl_yoshi.cli.result_objects import API_VERSION, POLICY_STATUS
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.cli.policies import PolicyStatus
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.output.tables import Column


@dataclass(frozen=True)
class StatusOptions:
    """The flags of `policy status`."""

    no_headers: bool
    output: OutputFormat


@command("status", examples="kubectl yoshi policy status")
@no_headers_option
@output_option(POLICY_STATUS)
@as_options(StatusOptions)
def status(session: Session, options: StatusOptions) -> None:
    """Show the admission policies: whether they are installed, their mode, and whether they are in effect.

    ACTIVE is Unknown if your permissions do not suffice to find out. WARNINGS are those of the API server's type
    checking; -o wide shows their texts. A note names the namespaces with networks that lack a binding.
    """
    from kubectl_yoshi.cli.policies import are_policies_active, find_policies, list_policy_states
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.output.formats import ListFormat, print_rows
    from kubectl_yoshi.output.tables import Column

    found = find_policies(session.api)
    snapshot = new_snapshot(session.api)
    unbound = _find_unbound_namespaces(snapshot) if found else []
    states = list_policy_states(found, are_policies_active(session.api) if found else False, unbound)
    columns: list[Column[PolicyStatus]] = [
        Column("NAME", lambda row: row.name),
        Column("INSTALLED", lambda row: str(row.installed)),
        Column("MODE", lambda row: row.mode.value),
        Column("VERSION", lambda row: row.version),
        Column("ACTIVE", lambda row: _active(row)),
        Column("WARNINGS", lambda row: str(len(row.warnings))),
        Column("WARNING TEXT", lambda row: "; ".join(row.warnings), wide=True),
    ]
    print_rows(states, columns, _to_json, session.out, ListFormat(options.output, options.no_headers))
    for namespace in unbound or ():
        session.note(
            f"note: only objects of namespace {namespace} are compared with the networks in it; "
            f"`kubectl yoshi sync -n {namespace}` creates the missing bindings"
        )
    session.note_unreadable(snapshot.unreadable_reasons())


def _find_unbound_namespaces(snapshot: Snapshot) -> list[str] | None:
    """Return the namespaces with networks that lack a binding; None if that cannot be read."""
    from kubectl_yoshi.model.network import NETWORKWIZARD
    from kubectl_yoshi.model.objects import POLICY_BINDING, namespace_of
    from kubectl_yoshi.model.snapshot import Query
    from kubectl_yoshi.plan.address_policies import list_unbound_namespaces

    bindings, networks = Query(POLICY_BINDING), Query(NETWORKWIZARD)
    snapshot.prefetch(bindings, networks)
    if snapshot.unreadable_reason(bindings, networks):
        return None
    return list_unbound_namespaces(snapshot.lookup(bindings), map(namespace_of, snapshot.lookup(networks)))


def _active(row: PolicyStatus) -> str:
    return "Unknown" if row.active is None else str(row.active)


def _to_json(row: PolicyStatus) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": POLICY_STATUS,
        "metadata": {"name": row.name},
        "status": {
            "installed": row.installed,
            "mode": row.mode.value,
            "version": row.version,
            "active": _active(row),
            "warnings": list(row.warnings),
            **({} if row.unbound_namespaces is None else {"unboundNamespaces": list(row.unbound_namespaces)}),
        },
    }
