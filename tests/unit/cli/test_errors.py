"""How errors are shown, and with which exit code the program ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from kubectl_yoshi.cli.errors import reserve_failure_for_findings, run_reporting_errors
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.objects import ObjectRef
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster


def ends(error: BaseException, verbosity: int = 0) -> tuple[int, str]:
    """Exit code and stderr of a program that raises."""
    err = io.StringIO()

    def run() -> int:
        raise error

    return run_reporting_errors(run, err=err, verbosity=lambda: verbosity), err.getvalue()


def test_failures_of_a_command_that_reports_findings_exit_with_3() -> None:
    ctx = click.Context(click.Command("c"))
    reserve_failure_for_findings(ctx)

    def ends_with(error: BaseException) -> int:
        def run() -> int:
            raise error

        return run_reporting_errors(run, err=io.StringIO(), verbosity=lambda: 0, root=lambda: ctx)

    assert [ends_with(error) for error in (PreconditionFailed("No."), TypeError("bad"))] == [3, 3]
    assert [ends_with(error) for error in (UsageError("No."), click.exceptions.Exit(1), KeyboardInterrupt())] == [
        2,
        1,
        130,
    ]


def usage_error() -> click.UsageError:
    return click.UsageError("No such thing.", click.Context(click.Command("c"), info_name="kubectl yoshi c"))


@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (lambda: PreconditionFailed("No.", "Do this."), 1, "error: No.\nDo this.\n"),
        (lambda: UsageError("No."), 2, "error: No.\n"),
        (usage_error, 2, "error: no such thing\nSee 'kubectl yoshi c --help' for usage.\n"),
        (lambda: click.ClickException("CRDs are missing."), 1, "error: CRDs are missing\n"),
        (lambda: click.exceptions.Exit(3), 3, ""),
        (KeyboardInterrupt, 130, "error: interrupted; run the same command again to complete it\n"),
        (click.Abort, 130, "error: interrupted; run the same command again to complete it\n"),
        (
            lambda: TypeError("bad"),
            1,
            "error: internal error: TypeError: bad\n(run again with -v 9 for the details, and please report it)\n",
        ),
    ],
)
def test_errors_have_their_message_and_exit_code(make: Callable[[], BaseException], code: int, text: str) -> None:
    assert ends(make()) == (code, text)


@pytest.mark.parametrize("error", [TypeError("bad"), PreconditionFailed("No.")])
def test_traceback_is_printed_only_with_v9(error: Exception) -> None:
    assert "Traceback" not in ends(error, 8)[1]
    assert "Traceback" in ends(error, 9)[1]


@pytest.mark.skipif(os.name != "posix", reason="no pipes like these")
def test_closed_pipe_prints_nothing() -> None:
    code = "import sys; sys.argv = ['kubectl-yoshi', 'options']; from kubectl_yoshi.__main__ import main; main()"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        result = subprocess.run([sys.executable, "-c", code], stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ips list -w", ""),
        ("network list -w", ""),
        ("vm list -w", ""),
        ("ips gc --yes", "error: interrupted; run the same command again to complete it\n"),
    ],
)
def test_ctrl_c_without_possible_changes_prints_nothing(cluster: FakeCluster, line: str, says: str) -> None:
    def interrupt(verb: str, ref: ObjectRef) -> None:
        raise KeyboardInterrupt

    cluster.api.before.append(interrupt)
    said = run(cluster, *line.split())
    assert (said.code, said.out, said.err) == (130, "", says)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("words", [["options"], ["--help"], ["version", "--client", "-o", "json"]])
def test_unwritable_output_is_reported(words: list[str]) -> None:
    code = f"import sys; sys.argv = ['kubectl-yoshi', *{words}]; from kubectl_yoshi.__main__ import main; main()"
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.stderr.startswith(b"error: the output cannot be written: ")
    assert result.stderr.count(b"\n") == 1
    assert result.returncode == 1


def test_other_os_errors_are_internal_errors() -> None:
    import errno

    assert "internal error" in ends(OSError(errno.ENOSPC, "No space left", "a.json"))[1]
    assert "internal error" in ends(OSError(errno.EACCES, "Permission denied"))[1]
