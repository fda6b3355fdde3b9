"""How it is told what became of many VMs."""

from __future__ import annotations

import io

import click
import pytest

from kubectl_yoshi.cluster.running import Done
from kubectl_yoshi.cluster.syncing import Report
from kubectl_yoshi.commands.changing import report
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.syncing import errors_of
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.output.asked import Output
from kubectl_yoshi.plan.syncing import Scope


def refused() -> Refused:
    error = Refused("web-1 said no.", "Ask it again.")
    error.so_far = "Done before that: record 10.0.0.1 for prod/web-1."
    return error


def test_what_was_done_for_a_vm_that_was_refused_is_told_beside_the_others() -> None:
    session = Session(out=io.StringIO(), err=io.StringIO())
    done = Done(Plan(), refusals={"prod/web-1": refused()}, answers={"prod/web-2": "10.0.0.2"})
    with click.Context(click.Command("attach")), pytest.raises(click.exceptions.Exit):
        report(session, Output(), done, [("prod", "web-1"), ("prod", "web-2")], "attached: {answer}")
    assert session.err.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "error: prod/web-1: web-1 said no. Done before that: record 10.0.0.1 for prod/web-1.",
        "error: 1 of 2 VMs failed",
    ]


def test_sync_tells_what_was_done_for_a_vm_that_was_refused() -> None:
    told = errors_of(Report(Scope("prod"), vms={("prod", "web-1"): refused()}))
    assert [*told.values()] == ["VM prod/web-1: web-1 said no. Done before that: record 10.0.0.1 for prod/web-1."]
