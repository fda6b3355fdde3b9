"""A run's session: one for all contexts, notes once, and a cluster that is only made when it is asked for."""

from __future__ import annotations

import io
from dataclasses import dataclass

import click
import pytest

from kubectl_yoshi.cli.kubectl_flags import META_KEY, Seconds
from kubectl_yoshi.cli.options import as_options, command
from kubectl_yoshi.cli.session import Session


def test_note_is_printed_once_on_stderr() -> None:
    session = Session(out=io.StringIO(), err=io.StringIO())
    session.note("a")
    session.note("a")
    session.warn("b")
    assert session.err.getvalue() == "a\nWarning: b\n"  # type: ignore[attr-defined]
    assert session.out.getvalue() == ""  # type: ignore[attr-defined]


def test_namespace_flag_needs_no_cluster() -> None:
    assert Session({"namespace": "prod"}).namespace == "prod"


def test_flags_are_passed_to_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubectl_yoshi.kube.connection import Connection

    given = []
    monkeypatch.setattr(Connection, "open", classmethod(lambda cls, options: given.append(options)))
    monkeypatch.setattr("kubectl_yoshi.kube.client.Api", lambda connection, on_warning: "the api")
    flags = {"context": "c", "as_groups": ("a", "b"), "request_timeout": 5.0, "verbosity": 3, "cache_dir": "/x"}
    session = Session(flags)
    assert session.api == session.api == "the api"
    assert [(o.context, o.as_groups, o.request_timeout) for o in given] == [("c", ("a", "b"), 5.0)]
    assert session.verbosity == 3


def test_every_common_flag_is_a_connection_option_or_listed() -> None:
    from dataclasses import fields

    from kubectl_yoshi.cli.kubectl_flags import KUBECTL_FLAGS, KubectlFlag
    from kubectl_yoshi.cli.session import NON_CONNECTION_FLAGS
    from kubectl_yoshi.kube.connection import ConnectionOptions

    known = {field.name for field in fields(ConnectionOptions)}
    flags = {flag.field for flag in KUBECTL_FLAGS if isinstance(flag, KubectlFlag)}
    assert flags - set(NON_CONNECTION_FLAGS) == known


def test_options_are_a_frozen_dataclass_passed_with_the_session() -> None:
    @dataclass(frozen=True)
    class Options:
        names: tuple[str, ...]
        force: bool

    seen = []

    @command("c")
    @click.argument("names", nargs=-1)
    @click.option("--force", is_flag=True)
    @as_options(Options)
    def do(session: Session, options: Options) -> None:
        """Do it."""
        seen.append((session, options))

    ctx = do.make_context("c", ["a", "--force", "-n", "prod"])
    with ctx:
        do.invoke(ctx)
    (session, options) = seen[0]
    assert options == Options(("a",), True)
    assert session is Session.from_context(ctx)
    assert session.namespace == ctx.meta[META_KEY]["namespace"] == "prod"
    assert do.help == "Do it."


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0", 0), ("1.5", 1.5), ("500ms", 0.5), ("1m30s", 90), ("1h", 3600), ("1.5h", 5400), ("2.5s", 2.5)],
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 s", "1d", "-1s", "s", "1m30", "inf", "nan", "٣s"])
def test_invalid_duration_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a duration"):
        Seconds().convert(text, None, None)
