"""kubectl yoshi help"""

from __future__ import annotations

import click

from kubectl_yoshi.commands.lazy import LazyGroup
from kubectl_yoshi.commands.names import Name, Names
from kubectl_yoshi.commands.options import command


@command("help", examples="kubectl yoshi help vm attach")
@click.argument("words", nargs=-1, type=Name(Names.COMMAND), metavar="[COMMAND]…")
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, as its --help does."""
    at = ctx.find_root()
    for word in words:
        found = at.command.get_command(at, word) if isinstance(at.command, click.Group) else None
        if found is None:
            group = at.command if isinstance(at.command, LazyGroup) else None
            raise click.UsageError(
                group.no_such_command(at, word) if group else f'"{at.command_path}" has no commands of its own', at
            )
        at = click.Context(found, info_name=found.name, parent=at)
    click.echo(at.command.get_help(at))
