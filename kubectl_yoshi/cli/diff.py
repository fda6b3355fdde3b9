"""`kubectl yoshi diff COMMAND…`: run a command, but print the differences it would make."""

from __future__ import annotations

from typing import Any

import click

from kubectl_yoshi.cli.app import cli, ips, network, vm
from kubectl_yoshi.cli.group import LazyGroup
from kubectl_yoshi.cli.session import DIFF_KEY, SESSION_KEY
from kubectl_yoshi.model.errors import YoshiError

EXIT_FAILED = 2


class DiffGroup(LazyGroup):
    """The commands that change something in the cluster; in this group they only print the differences."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.exceptions.Exit: with code 1 if there are differences, else 0.
            YoshiError: an error, with exit code EXIT_FAILED.
        """
        ctx.meta[DIFF_KEY] = True
        try:
            super().invoke(ctx)
        except click.exceptions.Exit as exit_exception:
            if exit_exception.exit_code:
                raise click.exceptions.Exit(EXIT_FAILED) from exit_exception
        except YoshiError as error:
            error.exit_code = EXIT_FAILED
            raise
        session = ctx.meta.get(SESSION_KEY)
        ctx.exit(1 if session is not None and session.has_differences else 0)


def _select(group: LazyGroup, *names: str) -> LazyGroup:
    """Return a group with only these commands of another group."""
    return LazyGroup(str(group.name), str(group.help), {name: group.table[name] for name in names})


diff = DiffGroup(
    "diff",
    """Show what a command would change; exit 1 if there are changes.

    Exit codes: 0 for no differences, 1 for differences, more than 1 for an error. For install and uninstall, use their
    --dry-run.
    """,
    {
        "network": _select(network, "create", "update", "delete"),
        "vm": _select(vm, "attach", "detach"),
        "ips": _select(ips, "reserve", "release", "move", "gc", "import", "rebuild"),
        "sync": cli.table["sync"],
    },
    aliases=cli.aliases,
    examples="kubectl yoshi diff vm attach web-1 --network blue",
)
