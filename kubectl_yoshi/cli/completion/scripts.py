"""`kubectl yoshi completion bash|zsh|fish`, and the scripts that these print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubectl_yoshi.cli.options import as_options, command
from kubectl_yoshi.cli.session import Session

SHELLS = ("bash", "zsh", "fish")
FILES = {"bash": "kubectl-yoshi.bash", "zsh": "_kubectl-yoshi", "fish": "kubectl-yoshi.fish"}
COMPLETER = "kubectl_complete-yoshi"


@dataclass(frozen=True)
class PrintOptions:
    """`completion SHELL` has no flags of its own."""


@command("bash", examples="source <(kubectl yoshi completion bash)")
@as_options(PrintOptions)
def bash(session: Session, _options: PrintOptions) -> None:
    """Print the completion script of kubectl-yoshi for bash."""
    session.out.write(get_completion_script("bash"))


@command("zsh", examples="source <(kubectl yoshi completion zsh)")
@as_options(PrintOptions)
def zsh(session: Session, _options: PrintOptions) -> None:
    """Print the completion script of kubectl-yoshi for zsh."""
    session.out.write(get_completion_script("zsh"))


@command("fish", examples="kubectl yoshi completion fish | source")
@as_options(PrintOptions)
def fish(session: Session, _options: PrintOptions) -> None:
    """Print the completion script of kubectl-yoshi for fish."""
    session.out.write(get_completion_script("fish"))


def get_completion_script(shell: str) -> str:
    """Return the completion script for a shell."""
    return read_completion_file(FILES[shell])


def read_completion_file(name: str) -> str:
    """Return the text of a file of kubectl_yoshi/completions."""
    return (Path(__file__).parent.parent.parent / "completions" / name).read_text(encoding="utf-8")
