"""How `ips rebuild` shows what it will write, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.commands.changing import fail_if_refused
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import Record
from kubectl_yoshi.output.tables import Column, write_table
from kubectl_yoshi.plan.rebuilds import RebuildRequest, reckon_all
from kubectl_yoshi.plan.reckoning import Reckoning, Verdict

if TYPE_CHECKING:
    from kubectl_yoshi.cluster.running import Done


@dataclass(frozen=True)
class _Row:
    """An address whose record is to be written."""

    network: str
    verdict: Verdict


UNCHANGED = "unchanged: every address is recorded as it should be"
CONTRADICTED = "unchanged: no record is to be written, but see the contradictions"


def show_reckonings(session: Session, request: RebuildRequest) -> tuple[int, str]:
    """Shows on stderr what the ledgers say, what they should say, and why.

    Returns:
        How many addresses differ; and what to say where none does.
    """

    def ask(facts: Facts) -> tuple[list[Reckoning], tuple[str, ...]]:
        return reckon_all(request, BACKENDS, facts)

    (reckonings, _), _ = observe_value(ask, session.api)
    rows = [_Row(one.network.full_name, verdict) for one in reckonings for verdict in one.different]
    columns: list[Column[_Row]] = [
        Column("NETWORK", lambda row: row.network),
        Column("ADDRESS", lambda row: row.verdict.address),
        Column("RECORDED FOR", lambda row: _told(row.verdict.record)),
        Column("SHOULD BE", lambda row: _told(row.verdict.should)),
        Column("SINCE", lambda row: row.verdict.why),
    ]
    contradicted = any(one.contradictions_besides(()) for one in reckonings)
    return write_table(rows, columns, session.err), CONTRADICTED if contradicted else UNCHANGED


def _told(record: Record | None) -> str:
    """Whose a record is; with its uid, since after a restore that may be all that differs."""
    if record is None:
        return ""
    return f"{record.holder} ({record.uid[:8]})" if record.uid else record.holder


def tell_outcome(session: Session, done: Done, unchanged: str) -> None:
    """A line for each network, those first that were written; `unchanged` where none was.

    Raises:
        YoshiError: a network could not be rebuilt; the others were.
    """
    written = {**done.plan.answers, **done.answers}
    for name, count in written.items():
        if name not in done.refusals:
            what = {"0": "open, nobody has an address of it", "1": "1 address recorded"}
            print(f"network {name}: {what.get(count, f'{count} addresses recorded')}", file=session.out)
    if not written:
        print(unchanged, file=session.out)
    fail_if_refused(session, done)
