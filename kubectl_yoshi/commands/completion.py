"""kubectl yoshi completion"""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import get_completion_class

from kubectl_yoshi.commands.lazy import YoshiCommand

PROGRAM = "kubectl-yoshi"
VARIABLE = "_KUBECTL_YOSHI_COMPLETE"


@click.command(
    "completion",
    cls=YoshiCommand,
    examples="""
    # For this shell only
    source <(kubectl yoshi completion bash)

    # For every new fish
    kubectl yoshi completion fish > ~/.config/fish/completions/kubectl-yoshi.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print completion code for bash, zsh or fish."""
    click.echo(completion_code(shell))


def completion_code(shell: str) -> str:
    """The code that makes a shell complete `kubectl-yoshi`.

    bash's is made without asking bash for its version, which click does.
    """
    from kubectl_yoshi.commands.root import cli

    kind: Any = get_completion_class(shell)
    maker = kind(cli, {}, PROGRAM, VARIABLE)
    return str(maker.source_template % maker.source_vars())
