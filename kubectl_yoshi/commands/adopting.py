"""`ips import`: what is found, adopted network by network, and a table of what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.address_files import read_address_files
from kubectl_yoshi.commands.changing import execute
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.read import read_and_compute
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import GROUP, parse_network_name
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.plan import Change
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.output.formats import print_rows
from kubectl_yoshi.output.tables import Column
from kubectl_yoshi.plan.import_.planner import ImportRequest, plan_import
from kubectl_yoshi.plan.import_.sources import Observation, SearchScope, Source, list_observations, match_networks

if TYPE_CHECKING:
    from kubectl_yoshi.commands.importing import ImportOptions

ADOPTED, TO_BE_ADOPTED, UNCHANGED, REFUSED = "adopted", "to be adopted", "already right", "refused"


@dataclass(frozen=True)
class _Row:
    """An address, and what became of it; `reason`: what shows it, or why it was refused."""

    observation: Observation
    result: str
    reason: str

    @property
    def network(self) -> str:
        return "/".join(self.observation.network) if self.observation.network else ""

    @property
    def vm(self) -> str:
        return "/".join(self.observation.existing.vm)


def import_addresses(session: Session, options: ImportOptions) -> None:
    """`ips import`

    Raises:
        UsageError: a line of a file is wrong; nothing was changed.
        Exit: with code 1 where an address was refused.
    """
    network = parse_network_name(options.network, session.namespace) if options.network else None
    search_scope = SearchScope(network, None if options.all_namespaces else session.namespace, session.namespace)
    requested = read_address_files(options.filenames, session.namespace) if options.filenames else []

    def find_observations(snapshot: Snapshot) -> list[Observation]:
        if options.filenames:
            return match_networks(requested, search_scope, snapshot)
        return list_observations(Source(options.source), search_scope, BACKENDS, snapshot)

    found, snapshot = read_and_compute(find_observations, session.api)
    networks = dict.fromkeys(one.network for one in found if one.network)
    rows = [_Row(one, REFUSED, "no network that you may see has it") for one in found if not one.network]
    for name in networks:
        rows += _import_network(session, options, name, [one for one in found if one.network == name])
    if session.is_diff:
        return
    columns: list[Column[_Row]] = [
        Column("NETWORK", lambda row: row.network),
        Column("ADDRESS", lambda row: str(row.observation.existing.address)),
        Column("VM", lambda row: row.vm),
        Column("RESULT", lambda row: row.result),
        Column("MAC", lambda row: row.observation.existing.mac, wide=True),
        Column("SINCE", lambda row: row.reason),
    ]
    print_rows(rows, columns, _row_json, session.out, options.output, no_headers=options.no_headers)
    if not rows and options.output.is_human_readable:
        session.note("No addresses found.")
    session.note_unreadable(snapshot.unreadable_reasons())
    if refused_count := sum(row.result == REFUSED for row in rows):
        print(f"error: {refused_count} of {len(rows)} addresses refused", file=session.err)
        click.get_current_context().exit(1)


def _import_network(
    session: Session, options: ImportOptions, network: tuple[str, str], found: list[Observation]
) -> list[_Row]:
    request = ImportRequest(network, tuple(observation.existing for observation in found))
    planner = partial(plan_import, request, BACKENDS)
    try:
        done = execute(
            session, planner, options.dry_run, options.output, total=len(found), activity="importing",
            tolerate_errors=True, unchanged={},
        )  # fmt: skip
    except (PreconditionFailed, UsageError) as error:  # of the network as a whole; others may do
        if session.is_diff:
            raise
        return [_Row(observation, REFUSED, error.message) for observation in found]
    return [_result_row(observation, done, options.dry_run) for observation in found] if done is not None else []


def _result_row(observation: Observation, result: RunResult, dry_run: str) -> _Row:
    owner = "/".join(observation.existing.vm)
    if error := result.errors.get(owner):
        return _Row(observation, REFUSED, error.message)
    changes = result.plan if dry_run != "none" else (change for change, _ in result.executed)
    if not _is_changed(changes, owner, str(observation.existing.address)):
        return _Row(observation, UNCHANGED, observation.evidence)
    return _Row(observation, ADOPTED if dry_run == "none" else TO_BE_ADOPTED, observation.evidence)


def _is_changed(changes: Iterable[Change], owner: str, address: str) -> bool:
    """Whether something was changed for a VM: on itself, or in a patch of records that it shares with others."""
    return any(
        change.owner == owner or (not change.owner and address in _written_addresses(change))
        for change in changes
        if not change.is_test_only
    )


def _written_addresses(change: Change) -> set[str]:
    found: set[str] = set()
    for op in change.body if isinstance(change.body, list) and change.subresource == "status" else ():
        if op["op"] != "test":
            value = op.get("value")
            found |= {op["path"].rpartition("/")[2]}
            found |= {*value, *(value.get("allocations") or ())} if isinstance(value, dict) else set()
    return found


def _row_json(row: _Row) -> Json:
    existing = row.observation.existing
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ImportedAddress",
        "metadata": {"name": str(existing.address), "namespace": existing.vm[0]},
        "spec": {"network": row.network, "address": str(existing.address), "vm": existing.vm[1], "mac": existing.mac},
        "status": {"result": row.result, "message": row.reason},
    }
