"""`ips import`: what is found, adopted network by network, and a table of what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.cluster.running import Done
from kubectl_yoshi.commands.address_files import read_given
from kubectl_yoshi.commands.changing import carry
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.change import Change
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import GROUP, parse_network_name
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.output.formats import print_rows
from kubectl_yoshi.output.tables import Column
from kubectl_yoshi.plan.imports import ImportRequest, plan_import
from kubectl_yoshi.plan.sources import Sighting, Source, Where, placed, sightings

if TYPE_CHECKING:
    from kubectl_yoshi.commands.importing import ImportOptions

ADOPTED, FORESEEN, RIGHT, REFUSED = "adopted", "to be adopted", "already right", "refused"


@dataclass(frozen=True)
class _Row:
    """An address, and what became of it; `why`: what shows it, or why it was refused."""

    sighting: Sighting
    result: str
    why: str

    @property
    def network(self) -> str:
        return "/".join(self.sighting.network) if self.sighting.network else ""

    @property
    def vm(self) -> str:
        return "/".join(self.sighting.given.vm)


def import_addresses(session: Session, options: ImportOptions) -> None:
    """`ips import`

    Raises:
        UsageMistake: a line of a file is wrong; nothing was changed.
        Exit: with code 1 where an address was refused.
    """
    network = parse_network_name(options.network, session.namespace) if options.network else None
    where = Where(network, None if options.all_namespaces else session.namespace, session.namespace)
    told = read_given(options.filenames, session.namespace) if options.filenames else []

    def look(facts: Facts) -> list[Sighting]:
        if options.filenames:
            return placed(told, where, facts)
        return sightings(Source(options.source), where, BACKENDS, facts)

    found, facts = observe_value(look, session.api)
    networks = dict.fromkeys(one.network for one in found if one.network)
    rows = [_Row(one, REFUSED, "no network that you may see has it") for one in found if not one.network]
    for name in networks:
        rows += _adopt(session, options, name, [one for one in found if one.network == name])
    if session.diffing:
        return
    columns: list[Column[_Row]] = [
        Column("NETWORK", lambda row: row.network),
        Column("ADDRESS", lambda row: str(row.sighting.given.address)),
        Column("VM", lambda row: row.vm),
        Column("RESULT", lambda row: row.result),
        Column("MAC", lambda row: row.sighting.given.mac, wide=True),
        Column("SINCE", lambda row: row.why),
    ]
    print_rows(rows, columns, _row_json, session.out, options.output, no_headers=options.no_headers)
    if not rows and options.output.for_people:
        session.note("No addresses found.")
    session.tell_unseen(facts.unknowns())
    if refused := sum(row.result == REFUSED for row in rows):
        print(f"error: {refused} of {len(rows)} addresses refused", file=session.err)
        click.get_current_context().exit(1)


def _adopt(session: Session, options: ImportOptions, network: tuple[str, str], found: list[Sighting]) -> list[_Row]:
    request = ImportRequest(network, tuple(one.given for one in found))
    planner = partial(plan_import, request, BACKENDS)
    try:
        done = carry(
            session, planner, options.dry_run, options.output, total=len(found), doing="importing", lenient=True,
            unchanged={},
        )  # fmt: skip
    except (Refused, UsageMistake) as error:  # of the network as a whole; others may do
        if session.diffing:
            raise
        return [_Row(one, REFUSED, error.message) for one in found]
    return [_outcome(one, done, options.dry_run) for one in found] if done is not None else []


def _outcome(one: Sighting, done: Done, dry_run: str) -> _Row:
    subject = "/".join(one.given.vm)
    if error := done.refusals.get(subject):
        return _Row(one, REFUSED, error.message)
    changes = done.plan if dry_run != "none" else (change for change, _ in done.done)
    if not _changed(changes, subject, str(one.given.address)):
        return _Row(one, RIGHT, one.shown_by)
    return _Row(one, ADOPTED if dry_run == "none" else FORESEEN, one.shown_by)


def _changed(changes: Iterable[Change], subject: str, address: str) -> bool:
    """Whether something was changed for a VM: on itself, or in a patch of records that it shares with others."""
    return any(
        change.subject == subject or (not change.subject and address in _addresses_written(change))
        for change in changes
        if not change.only_tests
    )


def _addresses_written(change: Change) -> set[str]:
    found: set[str] = set()
    for op in change.body if isinstance(change.body, list) and change.subresource == "status" else ():
        if op["op"] != "test":
            value = op.get("value")
            found |= {op["path"].rpartition("/")[2]}
            found |= {*value, *(value.get("allocations") or ())} if isinstance(value, dict) else set()
    return found


def _row_json(row: _Row) -> Json:
    given = row.sighting.given
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ImportedAddress",
        "metadata": {"name": str(given.address), "namespace": given.vm[0]},
        "spec": {"network": row.network, "address": str(given.address), "vm": given.vm[1], "mac": given.mac},
        "status": {"result": row.result, "message": row.why},
    }
