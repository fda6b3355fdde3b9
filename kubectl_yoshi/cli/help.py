"""`kubectl yoshi help` and `kubectl yoshi options`; separate from `app`, which every start imports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.group import LazyGroup, YoshiCommand
from kubectl_yoshi.cli.kubectl_flags import KUBECTL_FLAGS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class CommandName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A word of a command's full name."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the commands of the group that the preceding words name."""
        group = resolve_command(ctx.find_root(), ctx.params.get(str(param.name)) or ())
        return group.command.shell_complete(group, incomplete)


@click.command("help", cls=YoshiCommand, examples="kubectl yoshi help vm attach")
@click.argument("words", nargs=-1, type=CommandName(), metavar="[COMMAND]…")
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    found = resolve_command(ctx.find_root(), words)
    click.echo(found.command.get_help(found))


def resolve_command(root: click.Context, words: Sequence[str]) -> click.Context:
    """Return the context of the command with this full name.

    Raises:
        click.UsageError: there is no such command.
    """
    current = root
    for word in words:
        found = current.command.get_command(current, word) if isinstance(current.command, click.Group) else None
        if found is None:
            group = current.command if isinstance(current.command, LazyGroup) else None
            raise click.UsageError(
                group.unknown_command_message(current, word)
                if group
                else f'"{current.command_path}" has no subcommands',
                current,
            )
        current = found.context_class(found, info_name=found.name, parent=current)
    return current


@click.command("options", cls=YoshiCommand)
def options() -> None:
    """Show the flags of kubectl that every command takes.

    You can write them before or after the command's name. If you repeat one, the last value is used.
    """
    lines = ["The following options can be passed to any command:", ""]
    for flag in KUBECTL_FLAGS:
        if isinstance(flag, click.Option):
            metavar = f" {flag.metavar}" if flag.metavar else ""
            lines += [f"    {', '.join(flag.opts)}{metavar}", f"        {flag.help}", ""]
    click.echo("\n".join(lines), nl=False)
