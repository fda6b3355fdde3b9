"""kubectl yoshi options"""

from __future__ import annotations

import click

from kubectl_yoshi.commands.flags import KUBECTL_FLAGS
from kubectl_yoshi.commands.lazy import YoshiCommand


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
