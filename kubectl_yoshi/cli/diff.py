"""kubectl yoshi diff COMMAND…"""

from __future__ import annotations

import click

from kubectl_yoshi.cli.command_line import parse_command_line
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import command
from kubectl_yoshi.cli.param_types import NameKind, NameType
from kubectl_yoshi.cli.session import DIFF_KEY, SESSION_KEY
from kubectl_yoshi.model.errors import YoshiError

EXIT_FAILED = 2
SUPPORTED_COMMANDS = {
    ("network", "create"),
    ("network", "delete"),
    ("vm", "attach"),
    ("vm", "detach"),
    ("ips", "reserve"),
    ("ips", "release"),
    ("ips", "gc"),
    ("ips", "import"),
    ("ips", "move"),
    ("ips", "rebuild"),
    ("sync",),
}
"""The commands whose changes it shows: all that change something in the cluster, but for install and uninstall."""


@command(
    "diff",
    examples="kubectl yoshi diff vm attach web-1 --network blue",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=NameType(NameKind.COMMAND), required=True, metavar="COMMAND…")
@click.pass_context
def diff(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show what a command would change; exit 1 if anything.

    Exit code 0: nothing, 1: differences, more than 1: an error.
    """
    root = ctx.find_root().command
    assert isinstance(root, click.Group)
    line = parse_command_line(root, [*words, ""])
    if line.command is not None and line.path not in SUPPORTED_COMMANDS:
        known = ", ".join(" ".join(path) for path in sorted(SUPPORTED_COMMANDS))
        raise usage_error(
            f'diff does not show "{" ".join(line.path)}"',
            f"It shows {known}. What install and uninstall would do is told by their --dry-run.",
        )
    ctx.meta[DIFF_KEY] = True
    try:
        with root.make_context(ctx.find_root().info_name, list(words), parent=ctx) as inner:
            root.invoke(inner)
    except click.exceptions.Exit as exit_exception:
        if exit_exception.exit_code:
            raise click.exceptions.Exit(EXIT_FAILED) from exit_exception
    except YoshiError as error:
        error.exit_code = EXIT_FAILED
        raise
    session = ctx.meta.get(SESSION_KEY)
    ctx.exit(1 if session is not None and session.has_differences else 0)
