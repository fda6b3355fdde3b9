"""How `ips rebuild` shows what it will write, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.changing import raise_errors
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.engine.read import read_and_compute
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.output.tables import Column, write_table
from kubectl_yoshi.plan.rebuild.expected import AllocationAudit, ExpectedAllocation
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, audit_networks

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult


@dataclass(frozen=True)
class _Row:
    """An address whose record is to be written."""

    network: str
    entry: ExpectedAllocation


UNCHANGED = "unchanged: every address is recorded as it should be"
ONLY_CONTRADICTIONS = "unchanged: no record is to be written, but see the contradictions"


def show_audits(session: Session, request: RebuildRequest) -> tuple[int, str]:
    """Shows on stderr what the ledgers say, what they should say, and why.

    Returns:
        How many addresses differ; and what to say where none does.
    """

    def compute(snapshot: Snapshot) -> tuple[list[AllocationAudit], tuple[str, ...]]:
        return audit_networks(request, BACKENDS, snapshot)

    (audits, _), _ = read_and_compute(compute, session.api)
    rows = [_Row(audit.network.full_name, entry) for audit in audits for entry in audit.updates]
    columns: list[Column[_Row]] = [
        Column("NETWORK", lambda row: row.network),
        Column("ADDRESS", lambda row: row.entry.address),
        Column("RECORDED FOR", lambda row: _describe_allocation(row.entry.record)),
        Column("SHOULD BE", lambda row: _describe_allocation(row.entry.expected)),
        Column("SINCE", lambda row: row.entry.reason),
    ]
    contradicted = any(audit.contradictions_except(()) for audit in audits)
    return write_table(rows, columns, session.err), ONLY_CONTRADICTIONS if contradicted else UNCHANGED


def _describe_allocation(record: Allocation | None) -> str:
    """Whose a record is; with its uid, since after a restore that may be all that differs."""
    if record is None:
        return ""
    return f"{record.holder} ({record.uid[:8]})" if record.uid else record.holder


def print_rebuild_result(session: Session, result: RunResult, unchanged: str) -> None:
    """A line for each network, those first that were written; `unchanged` where none was.

    Raises:
        YoshiError: a network could not be rebuilt; the others were.
    """
    counts = {**result.plan.results, **result.results}
    for name, count in counts.items():
        if name not in result.errors:
            count_texts = {"0": "open, nobody has an address of it", "1": "1 address recorded"}
            print(f"network {name}: {count_texts.get(count, f'{count} addresses recorded')}", file=session.out)
    if not counts:
        print(unchanged, file=session.out)
    raise_errors(session, result)
