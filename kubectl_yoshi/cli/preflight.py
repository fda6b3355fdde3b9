"""`kubectl yoshi doctor --preflight`: which VMs keep their addresses if they are migrated, restarted or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kubectl_yoshi.cli.findings import read_facts
from kubectl_yoshi.cli.result_objects import API_VERSION, PREFLIGHT
from kubectl_yoshi.diagnosis.facts import Scope
from kubectl_yoshi.diagnosis.finding import CannotCheckError
from kubectl_yoshi.diagnosis.preflight import Action, PreflightRow, check_preflight, list_vms_on_node
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, UnreadableError
from kubectl_yoshi.model.objects import NODE, Json, NamespacedName
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.output.formats import print_objects
from kubectl_yoshi.output.tables import Column, TableStyle, write_table

if TYPE_CHECKING:
    from kubectl_yoshi.cli.session import Session
    from kubectl_yoshi.output.format_option import OutputFormat

WORDS = {True: "yes", False: "no", None: "?"}
"""PreflightRow.verdict.keeps -> as printed in tables."""
COLUMNS: Sequence[Column[PreflightRow]] = (
    Column("VM", lambda row: "/".join(row.vm)),
    Column("NETWORK", lambda row: "/".join(row.network or ())),
    Column("ADDRESS", lambda row: row.address),
    Column("BINDING", lambda row: row.binding),
    Column("MAC", lambda row: row.mac),
    Column("KEEPS ADDRESS", lambda row: WORDS[row.verdict.keeps]),
    Column("WHY", lambda row: row.verdict.reason),
)


def read_preflight(
    session: Session, action: Action, vms: Sequence[NamespacedName], manifests: Sequence[Json] = ()
) -> tuple[PreflightRow, ...]:
    """Return which of these VMs keep their addresses.

    Args:
        session: the session.
        action: what is about to be done.
        vms: the VMs.
        manifests: those of them that are checked as if they had been applied.

    Raises:
        PreconditionFailed: a VM does not exist, or VMs or networks cannot be read.
    """
    namespaces = {namespace for namespace, _ in vms}
    scope = Scope(namespaces.pop() if len(namespaces) == 1 else None)
    try:
        return check_preflight(action, vms, read_facts(session, scope, manifests))
    except CannotCheckError as error:
        raise UnreadableError(f"cannot check the VMs: {error.reason}", ASK_ADMIN_HINT) from None


def read_vms_on_nodes(session: Session, nodes: Iterable[str]) -> tuple[NamespacedName, ...]:
    """Return the VMs that run on these nodes.

    Raises:
        PreconditionFailed: a node does not exist, or VMs cannot be read.
    """
    facts = read_facts(session, Scope())
    found: dict[NamespacedName, None] = {}
    for node in nodes:
        query = Query(NODE, name=node)
        try:
            vms = list_vms_on_node(node, facts)
        except CannotCheckError as error:
            message = f"cannot check which VMs run on node/{node}: {error.reason}"
            raise UnreadableError(message, ASK_ADMIN_HINT) from None
        if not vms and not facts.snapshot.lookup(query) and not facts.snapshot.unreadable_reason(query):
            raise PreconditionFailed(f'node "{node}" not found', "See `kubectl get nodes`.")
        found |= dict.fromkeys(vms)
    return tuple(found)


def preflight_object(action: Action, row: PreflightRow) -> Json:
    """Return the object of a row that -o json prints."""
    words = {True: "Yes", False: "No", None: "Unknown"}
    return {
        "apiVersion": API_VERSION,
        "kind": PREFLIGHT,
        "metadata": {"name": row.vm[1], "namespace": row.vm[0]},
        "spec": {
            "action": action.value,
            "vm": row.vm[1],
            "network": "/".join(row.network or ()),
            "address": row.address,
        },
        "status": {
            "binding": row.binding,
            "mac": row.mac,
            "keepsAddress": words[row.verdict.keeps],
            "reason": row.verdict.reason,
        },
    }


def print_preflight(session: Session, action: Action, rows: Iterable[PreflightRow], output: OutputFormat) -> None:
    """Print a table, or an object for each row."""
    if output.is_human_readable:
        if not write_table(rows, COLUMNS, session.out, TableStyle(wide=output.kind == "wide")):
            print("No VMs found.", file=session.err)
        return
    print_objects((preflight_object(action, row) for row in rows), session.out, output)
