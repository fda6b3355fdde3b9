"""kubectl yoshi help, and kubectl yoshi options."""

from __future__ import annotations

import click

from kubectl_yoshi.cli.group import LazyGroup, YoshiCommand
from kubectl_yoshi.cli.kubectl_flags import KUBECTL_FLAGS
from kubectl_yoshi.cli.param_types import NameKind, NameType


@click.command("help", cls=YoshiCommand, examples="kubectl yoshi help vm attach")
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


@click.command("options", cls=YoshiCommand)
def options() -> None:
    """Show the flags of kubectl that every command takes.

    They may stand before and after the command's name; where one is given twice, the later one wins.
    """
    lines = ["The following options can be passed to any command:", ""]
    for flag in KUBECTL_FLAGS:
        if isinstance(flag, click.Option):
            metavar = f" {flag.metavar}" if flag.metavar else ""
            lines += [f"    {', '.join(flag.opts)}{metavar}", f"        {flag.help}", ""]
    click.echo("\n".join(lines), nl=False)
