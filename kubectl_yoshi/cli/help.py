"""kubectl yoshi help"""

from __future__ import annotations

import click

from kubectl_yoshi.cli.group import LazyGroup
from kubectl_yoshi.cli.options import command
from kubectl_yoshi.cli.param_types import NameKind, NameType


@command("help", examples="kubectl yoshi help vm attach")
@click.argument("words", nargs=-1, type=NameType(NameKind.COMMAND), metavar="[COMMAND]…")
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, as its --help does."""
    current = ctx.find_root()
    for word in words:
        found = current.command.get_command(current, word) if isinstance(current.command, click.Group) else None
        if found is None:
            group = current.command if isinstance(current.command, LazyGroup) else None
            raise click.UsageError(
                group.unknown_command_message(current, word)
                if group
                else f'"{current.command_path}" has no commands of its own',
                current,
            )
        current = click.Context(found, info_name=found.name, parent=current)
    click.echo(current.command.get_help(current))
