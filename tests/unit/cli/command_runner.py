"""Whole commands, from the words to what is printed, on the cluster in memory of tests/unit/plan/fake_cluster.py."""

from __future__ import annotations

import io
from dataclasses import dataclass

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.errors import run_reporting_errors
from kubectl_yoshi.cli.kubectl_flags import META_KEY
from kubectl_yoshi.cli.session import SESSION_KEY, Session
from kubectl_yoshi.output.escaping import EscapingStream
from tests.output_schema import check_output
from tests.unit.plan.fake_cluster import FakeCluster

PROGRAM = "kubectl yoshi"


@dataclass(frozen=True)
class CliResult:
    """The result of a command: its exit code, and what it printed on stdout and stderr."""

    code: int
    out: str
    err: str


def run(cluster: FakeCluster, *words: str, namespace: str = "prod") -> CliResult:
    """Run a command by its words; `namespace` is the one of the context."""
    out, err = io.StringIO(), io.StringIO()
    guarded = {"out": EscapingStream(out), "err": EscapingStream(err)}

    roots = []

    def do() -> int:
        root = cli.make_context(PROGRAM, ["-n", namespace, *words])
        roots.append(root)
        session = Session(root.meta[META_KEY], program=PROGRAM, api=cluster.api, **guarded)  # type: ignore[arg-type]
        session.is_diff = words[0] == "diff"  # which tells a session that is still to be made
        root.meta[SESSION_KEY] = session
        with root:
            cli.invoke(root)
        return 0

    root = lambda: roots[0] if roots else None  # noqa: E731
    code = run_reporting_errors(do, err=guarded["err"], verbosity=lambda: 0, root=root)
    check_output(words, out.getvalue())
    return CliResult(code, out.getvalue(), err.getvalue())
