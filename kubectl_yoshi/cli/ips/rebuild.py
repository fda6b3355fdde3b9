"""`kubectl yoshi ips rebuild`: print the changes, ask for confirmation, and print the result of each network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    output_option,
    yes_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS, address_object, network_of_record, printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.allocations import Allocation
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.output.tables import Column
    from kubectl_yoshi.plan.rebuild.expected import ExpectedAllocation
    from kubectl_yoshi.plan.rebuild.planner import RebuildRequest


UNCHANGED = "unchanged: every address is recorded as it should be"
ONLY_CONTRADICTIONS = "unchanged: no record is to be written, but see the contradictions"


@dataclass(frozen=True)
class RebuildOptions:
    """The flags of `ips rebuild`."""

    network: str | None
    all_namespaces: bool
    yes: bool
    dry_run: str
    output: OutputFormat


@command(
    "rebuild",
    examples="""
    # After a restore: show the changes, and every contradiction
    kubectl yoshi ips rebuild -A --dry-run=client

    kubectl yoshi ips rebuild -A --yes
    """,
)
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only this network: NAME, or NAMESPACE/NAME.")
@all_namespaces_option
@yes_option
@dry_run_option
@output_option(ADDRESS)
@as_options(RebuildOptions)
def rebuild(session: Session, options: RebuildOptions) -> None:
    """Rebuild allocations from VMs, Services and Calico IPAM.

    Addresses that VMs run with take precedence over addresses that are only recorded or on templates. Reservations
    stay, no VM is changed, and no address is released.
    """
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild

    network = parse_network_name(options.network, session.namespace) if options.network else None
    request = RebuildRequest(network, None if options.all_namespaces else session.namespace)
    audited: list[_Row] = []
    unchanged = ""
    if not session.is_diff:
        audited, unchanged = _show_audits(session, request)
        if audited and options.dry_run == "none":
            session.confirm("Write these records?", options.yes)
    execute_options = ExecuteOptions(
        options.dry_run, options.output, activity="rebuilding", unchanged={"": unchanged}, exact_counters=True
    )
    with printed_objects(session, options.output) as objects:
        done = execute(session, partial(plan_rebuild, request), execute_options)
        if done is None:
            return
        objects += _address_objects(done, {(row.network, row.entry.address): row.entry for row in audited})
        if options.output.is_human_readable:
            _print_result(session, done, unchanged)
        raise_errors(session, done)


@dataclass(frozen=True)
class _Row:
    """An address whose allocation is to be written."""

    network: str
    entry: ExpectedAllocation


def _show_audits(session: Session, request: RebuildRequest) -> tuple[list[_Row], str]:
    """Print on stderr the recorded and the expected allocations that differ, with the reasons.

    Returns:
        The differences, and the message for a run without any.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.output.tables import Column, write_table
    from kubectl_yoshi.plan.rebuild.planner import audit_networks

    audits, _ = audit_networks(request, BACKENDS, new_snapshot(session.api))
    rows = [_Row(audit.network.full_name, entry) for audit in audits for entry in audit.updates]
    columns: list[Column[_Row]] = [
        Column("NETWORK", lambda row: row.network),
        Column("ADDRESS", lambda row: row.entry.address),
        Column("RECORDED FOR", lambda row: _describe_allocation(row.entry.record)),
        Column("SHOULD BE", lambda row: _describe_allocation(row.entry.expected)),
        Column("SINCE", lambda row: row.entry.reason),
    ]
    contradicted = any(audit.contradictions_except(()) for audit in audits)
    write_table(rows, columns, session.err)
    return rows, ONLY_CONTRADICTIONS if contradicted else UNCHANGED


def _describe_allocation(record: Allocation | None) -> str:
    """Return the holder of an allocation with its uid, since after a restore only the uid may differ."""
    if record is None:
        return ""
    return f"{record.holder} ({record.uid[:8]})" if record.uid else record.holder


def _print_result(session: Session, result: RunResult, unchanged: str) -> None:
    """Print a line for each network that was rebuilt, or `unchanged` if nothing was to be done."""
    counts = {**result.plan.results, **result.results}
    for name, count in counts.items():
        if name not in result.errors:
            count_texts = {"0": "initialized, no addresses in use", "1": "1 address recorded"}
            print(f"network {name}: {count_texts.get(count, f'{count} addresses recorded')}", file=session.out)
    if not counts:
        print(unchanged, file=session.out)


def _address_objects(result: RunResult, audited: Mapping[tuple[str, str], ExpectedAllocation]) -> list[Json]:
    """Return an Address for each record that was written.

    Args:
        result: of the run.
        audited: network and address -> the entry that was shown before the run.
    """
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.allocations import VIRTUALMACHINE, parse_allocation
    from kubectl_yoshi.plan.records import written_records

    found: dict[tuple[str, str], Json] = {}
    for change in result.changes:
        network = network_of_record(change)
        for address, value in written_records(change).items() if network else ():
            assert network is not None
            record = parse_allocation(value, network[0])
            entry = audited.get(("/".join(network), address))
            state = AddressState.BOUND if record.kind == VIRTUALMACHINE else AddressState.RESERVED
            status = {
                "state": state.value,
                "holder": record.holder,
                "changed": True,
                **({"previousHolder": entry.record.holder} if entry and entry.record else {}),
                **({"evidence": entry.reason} if entry and entry.reason else {}),
            }
            found[("/".join(network), address)] = address_object(network, address, status)
    return [*found.values()]
