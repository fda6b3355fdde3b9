"""Print errors on stderr in kubectl's format; a traceback only with -v 9."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import TextIO

import click

from kubectl_yoshi.model.errors import ExitCode, UsageError, YoshiError
from kubectl_yoshi.model.printable import indent_continuation

TRACEBACK_LEVEL = 9
BROKEN_PIPE = 141
OUTPUT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing the output, besides a closed pipe. An error of a file that a command writes has a filename."""


FINDINGS_KEY = "kubectl_yoshi.reports_findings"


def reserve_failure_for_findings(ctx: click.Context) -> None:
    """Make failures of this run exit with UNCHECKED instead of FAILURE, which its command uses for findings."""
    ctx.meta[FINDINGS_KEY] = True


def failure_code(ctx: click.Context) -> ExitCode:
    """Return the exit code of failures of this run."""
    return ExitCode.UNCHECKED if ctx.meta.get(FINDINGS_KEY) else ExitCode.FAILURE


def run_reporting_errors(
    run: Callable[[], int],
    *,
    err: TextIO | None = None,
    verbosity: Callable[[], int],
    root: Callable[[], click.Context | None] = lambda: None,
) -> int:
    """Run the program, and print the error if it raises one.

    Args:
        run: the program; returns its exit code.
        err: the stream for errors (default stderr).
        verbosity: returns the level of -v, as far as the command line is parsed.
        root: returns the context of the program, as far as the command line is parsed.

    Returns:
        The exit code: that of `run`; ExitCode.USAGE for a usage error, INTERRUPTED for Ctrl-C, 141 for a closed pipe,
        that of `failure_code` for other errors.
    """
    err = err or sys.stderr
    try:
        return run()
    except click.exceptions.Exit as exit_exception:
        return exit_exception.exit_code
    except (KeyboardInterrupt, EOFError, click.Abort):
        print_error("interrupted; run the same command again to complete it", err)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except Exception as error:
        code, ctx = _report(error, verbosity(), err), root()
        return failure_code(ctx) if code == ExitCode.FAILURE and ctx is not None else code


def _report(error: Exception, verbosity: int, err: TextIO) -> ExitCode:
    """Print an error and return its exit code."""
    if isinstance(error, click.ClickException):
        print_error(format_click_error(error), err)
        return ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILURE
    if isinstance(error, OSError) and error.errno in OUTPUT_ERRNOS and error.filename is None:
        _discard_stdout()
        print_error(f"the output cannot be written: {error.strerror}", err)
        return ExitCode.FAILURE
    _print_traceback_if_verbose(verbosity, err)
    if isinstance(error, YoshiError):
        print_error(str(error), err)
        return error.exit_code
    print_error(
        f"internal error: {type(error).__name__}: {indent_continuation(str(error))}"
        f"\n(run again with -v {TRACEBACK_LEVEL} for the details, and please report it)",
        err,
    )
    return ExitCode.FAILURE


def print_error(message: str, err: TextIO) -> None:
    """Print one error."""
    print(f"error: {message}", file=err)


def format_click_error(error: click.ClickException) -> str:
    """Return click's message in kubectl's format: the error, then where to find the usage."""
    message = error.format_message()
    if isinstance(error, click.MissingParameter):  # click lists the choices on lines of their own
        message = " ".join(message.split())
    if isinstance(error, click.NoSuchOption):
        message = f"unknown flag: {error.option_name}"
        if error.possibilities:
            message += f" (did you mean {' or '.join(sorted(error.possibilities))}?)"
    message = message.rstrip(".")
    if message[:2].istitle():
        message = message[0].lower() + message[1:]
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    message = indent_continuation(message)
    return f"{message}\nSee '{ctx.command_path} --help' for usage." if ctx else message


def usage_error(message: str, hint: str = "") -> UsageError:
    """Return an error for misuse that click does not detect, such as two flags that exclude each other."""
    ctx = click.get_current_context(silent=True)
    usage_hint = f"See '{ctx.command_path} --help' for usage." if ctx else ""
    return UsageError(message, hint or usage_hint)


def _print_traceback_if_verbose(verbosity: int, err: TextIO) -> None:
    if verbosity >= TRACEBACK_LEVEL:
        import traceback

        traceback.print_exc(file=err)


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null, since the interpreter flushes it at exit and would fail again."""
    import os

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
