"""kubectl yoshi options"""

from __future__ import annotations

import click

from kubectl_yoshi.cli.group import YoshiCommand
from kubectl_yoshi.cli.kubectl_flags import KUBECTL_FLAGS


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
