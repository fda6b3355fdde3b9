"""Printing of the results and errors of many VMs."""

from __future__ import annotations

import io

import click
import pytest

from kubectl_yoshi.cli.apply import format_errors_by_cause, print_results
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.cli.sync import error_lines, format_errors
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.sync import SyncReport
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.output.format_option import OutputFormat
from kubectl_yoshi.plan.sync.planner import SyncScope


def refused() -> PreconditionFailed:
    error = PreconditionFailed("web-1 said no.", "Ask it again.")
    error.changes_so_far = "Done before the error: record 10.0.0.1 for prod/web-1."
    return error


def test_changes_done_for_a_refused_vm_are_printed() -> None:
    session = Session(out=io.StringIO(), err=io.StringIO())
    done = RunResult(Plan(), errors={"prod/web-1": refused()}, results={"prod/web-2": "10.0.0.2"})
    with click.Context(click.Command("attach")), pytest.raises(click.exceptions.Exit):
        print_results(session, OutputFormat(), done, [("prod", "web-1"), ("prod", "web-2")], "attached: {answer}")
    assert session.err.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "error: prod/web-1: web-1 said no. Done before the error: record 10.0.0.1 for prod/web-1.",
        "error: 1 of 2 VMs failed",
    ]


def test_vms_with_the_same_error_are_printed_on_one_line() -> None:
    session = Session(out=io.StringIO(), err=io.StringIO())
    names = [f"web-{number}" for number in range(1, 46)]
    errors = {f"prod/{name}": PreconditionFailed("web may not update ipamblocks", "Ask.") for name in names}
    errors["prod/web-7"] = refused()
    done = RunResult(Plan(), errors=errors, results={"prod/db": "10.0.0.2"})
    with click.Context(click.Command("attach")), pytest.raises(click.exceptions.Exit):
        print_results(session, OutputFormat(), done, [("prod", name) for name in [*names, "db"]], "attached: {answer}")
    assert session.err.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "error: 44 VMs: web may not update ipamblocks (prod/web-1, prod/web-2, prod/web-3, and 41 more)",
        "error: prod/web-7: web-1 said no. Done before the error: record 10.0.0.1 for prod/web-1.",
        "error: 45 of 46 VMs failed",
    ]
    assert session.out.getvalue() == "virtualmachine.kubevirt.io/db attached: 10.0.0.2 (unchanged)\n"  # type: ignore[attr-defined]


def test_grouped_error_line_has_the_changes_done() -> None:
    errors = {f"prod/web-{number}": refused() for number in range(1, 4)}
    errors["prod/web-1"].changes_so_far = ""
    (line,) = format_errors_by_cause(errors)
    assert line.startswith("3 VMs: web-1 said no (prod/web-1, prod/web-2, prod/web-3). ")
    assert line.endswith(" prod/web-2: Done before the error: record 10.0.0.1 for prod/web-1.")


def test_sync_prints_the_changes_done_for_a_refused_vm() -> None:
    told = error_lines(SyncReport(SyncScope("prod"), vm_errors={("prod", "web-1"): refused()}))
    assert [*told.values()] == ["VM prod/web-1: web-1 said no. Done before the error: record 10.0.0.1 for prod/web-1."]


def test_sync_groups_vms_with_the_same_error() -> None:
    vms = {("prod", name): PreconditionFailed("no right") for name in ("web-1", "web-2")}
    sync_report = SyncReport(
        SyncScope("prod"),
        network_errors={("prod", "blue"): PreconditionFailed("no pool")},
        vm_errors={**vms, ("prod", "db"): refused()},
    )
    assert format_errors(sync_report) == [
        "network prod/blue: no pool",
        "VM prod/db: web-1 said no. Done before the error: record 10.0.0.1 for prod/web-1.",
        "2 VMs: no right (prod/web-1, prod/web-2)",
    ]
