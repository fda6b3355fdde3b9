"""How errors are shown: in kubectl's manner, on stderr, never as a traceback unless with -v 9."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import TextIO

import click

from kubectl_yoshi.model.errors import UsageMistake, YoshiError
from kubectl_yoshi.model.printable import indented

TRACEBACK_LEVEL = 9
INTERRUPTED = 130
BROKEN_PIPE = 141
OF_STDOUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write of the output may end with, besides a reader that has gone; files that a command writes have a name."""


def exit_code_of(run: Callable[[], int], *, err: TextIO | None = None, verbosity: Callable[[], int]) -> int:
    """Runs the program and shows whatever it raises.

    Args:
        run: the program; gives its exit code.
        err: where errors go; stderr if None.
        verbosity: the level of -v as far as it is known when an error comes.

    Returns:
        The exit code: what `run` gave; 2 for a misuse, 130 for Ctrl-C, 141 where nobody reads stdout, 1 otherwise.
    """
    err = err or sys.stderr
    try:
        return run()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as mistake:
        show(misuse(mistake), err)
        return mistake.exit_code if isinstance(mistake, click.UsageError) else 1
    except YoshiError as error:
        _traceback_if(verbosity(), err)
        show(str(error), err)
        return error.exit_code
    except (KeyboardInterrupt, EOFError, click.Abort):
        show("interrupted; run the same command again to complete what was begun", err)
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in OF_STDOUT or error.filename is not None:
            return _surprised(error, verbosity(), err)
        _forget_stdout()
        show(f"the output cannot be written: {error.strerror}", err)
        return 1
    except Exception as surprise:
        return _surprised(surprise, verbosity(), err)


def _surprised(surprise: Exception, verbosity: int, err: TextIO) -> int:
    """Shows what this program should have met, and gives the exit code."""
    _traceback_if(verbosity, err)
    show(
        f"internal error: {type(surprise).__name__}: {indented(str(surprise))}"
        f"\n(run again with -v {TRACEBACK_LEVEL} for the details, and please report it)",
        err,
    )
    return 1


def show(message: str, err: TextIO) -> None:
    """One error."""
    print(f"error: {message}", file=err)


def misuse(mistake: click.ClickException) -> str:
    """click's words in kubectl's manner: what is wrong, and where to read about the usage."""
    message = mistake.format_message()
    if isinstance(mistake, click.MissingParameter):  # click lists the choices on lines of their own
        message = " ".join(message.split())
    if isinstance(mistake, click.NoSuchOption):
        message = f"unknown flag: {mistake.option_name}"
        if mistake.possibilities:
            message += f" (did you mean {' or '.join(sorted(mistake.possibilities))}?)"
    message = message.rstrip(".")
    if message[:2].istitle():
        message = message[0].lower() + message[1:]
    ctx = mistake.ctx if isinstance(mistake, click.UsageError) else None
    message = indented(message)
    return f"{message}\nSee '{ctx.command_path} --help' for usage." if ctx else message


def usage_mistake(message: str, way_out: str = "") -> UsageMistake:
    """A misuse that click cannot see, such as two flags that exclude each other."""
    ctx = click.get_current_context(silent=True)
    hint = f"See '{ctx.command_path} --help' for usage." if ctx else ""
    return UsageMistake(message, way_out or hint)


def _traceback_if(verbosity: int, err: TextIO) -> None:
    if verbosity >= TRACEBACK_LEVEL:
        import traceback

        traceback.print_exc(file=err)


def _forget_stdout() -> None:
    """Nobody reads stdout any more: let the interpreter's last flush go nowhere."""
    import os

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
