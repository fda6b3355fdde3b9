"""`kubectl yoshi diff COMMAND…`: run a command, but print the differences it would make."""

from __future__ import annotations

from typing import Any

import click

from kubectl_yoshi.cli.app import cli, ips, network, vm
from kubectl_yoshi.cli.errors import failure_code, reserve_failure_for_findings
from kubectl_yoshi.cli.group import LazyGroup
from kubectl_yoshi.cli.session import DIFF_KEY, SESSION_KEY
from kubectl_yoshi.model.errors import ExitCode


class DiffGroup(LazyGroup):
    """The commands that change something in the cluster; in this group they only print the differences."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.exceptions.Exit: with FAILURE if there are differences, UNCHECKED if one of several parts failed, else
                SUCCESS.
            YoshiError: the command failed.
        """
        ctx.meta[DIFF_KEY] = True
        reserve_failure_for_findings(ctx)
        try:
            super().invoke(ctx)
        except click.exceptions.Exit as exit_exception:
            if exit_exception.exit_code:
                ctx.exit(failure_code(ctx))
        session = ctx.meta.get(SESSION_KEY)
        ctx.exit(ExitCode.FAILURE if session is not None and session.has_differences else ExitCode.SUCCESS)


def _select(group: LazyGroup, *names: str) -> LazyGroup:
    """Return a group with only these commands of another group."""
    return LazyGroup(str(group.name), str(group.help), {name: group.table[name] for name in names})


diff = DiffGroup(
    "diff",
    """Show what a command would change; exit 1 if there are changes.

    For install and uninstall, use their --dry-run.
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
