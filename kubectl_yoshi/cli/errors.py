"""Print errors on stderr in kubectl's format; a traceback only with -v 9."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import TextIO

import click

from kubectl_yoshi.model.errors import UsageError, YoshiError
from kubectl_yoshi.model.printable import indent_continuation

TRACEBACK_LEVEL = 9
INTERRUPTED = 130
BROKEN_PIPE = 141
OUTPUT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing the output, besides a closed pipe. An error of a file that a command writes has a filename."""


def run_reporting_errors(run: Callable[[], int], *, err: TextIO | None = None, verbosity: Callable[[], int]) -> int:
    """Run the program, and print the error if it raises one.

    Args:
        run: the program; returns its exit code.
        err: the stream for errors (default stderr).
        verbosity: returns the level of -v, as far as the command line is parsed.

    Returns:
        The exit code: that of `run`; 2 for a usage error, 130 for Ctrl-C, 141 for a closed pipe, 1 for other errors.
    """
    err = err or sys.stderr
    try:
        return run()
    except click.exceptions.Exit as exit_exception:
        return exit_exception.exit_code
    except click.ClickException as error:
        print_error(format_click_error(error), err)
        return error.exit_code if isinstance(error, click.UsageError) else 1
    except YoshiError as error:
        _print_traceback_if_verbose(verbosity(), err)
        print_error(str(error), err)
        return error.exit_code
    except (KeyboardInterrupt, EOFError, click.Abort):
        print_error("interrupted; run the same command again to complete it", err)
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in OUTPUT_ERRNOS or error.filename is not None:
            return _report_unexpected(error, verbosity(), err)
        _discard_stdout()
        print_error(f"the output cannot be written: {error.strerror}", err)
        return 1
    except Exception as error:
        return _report_unexpected(error, verbosity(), err)


def _report_unexpected(error: Exception, verbosity: int, err: TextIO) -> int:
    """Print an internal error and return the exit code."""
    _print_traceback_if_verbose(verbosity, err)
    print_error(
        f"internal error: {type(error).__name__}: {indent_continuation(str(error))}"
        f"\n(run again with -v {TRACEBACK_LEVEL} for the details, and please report it)",
        err,
    )
    return 1


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
