"""`kubectl yoshi completion`: print a shell's script for completion; install it, and kubectl's completer on PATH."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import click

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import as_options, command
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed

PLUGIN = "kubectl-yoshi"
SHELLS = ("bash", "zsh", "fish")
FILES = {"bash": "kubectl-yoshi.bash", "zsh": "_kubectl-yoshi", "fish": "kubectl-yoshi.fish"}
COMPLETER = "kubectl_complete-yoshi"

_NEXT_STEPS = {
    "bash": "New shells use it if bash-completion is installed; `kubectl yoshi` also needs kubectl's own completion:\n"
    "echo 'source <(kubectl completion bash)' >> ~/.bashrc",
    "zsh": "Put this into ~/.zshrc, if it is not there yet:\n"
    "fpath=({folder} $fpath); autoload -Uz compinit; compinit; source <(kubectl completion zsh)",
    "fish": "New shells use it; `kubectl yoshi` also needs kubectl's own completion:\n"
    "kubectl completion fish > ~/.config/fish/completions/kubectl.fish",
}


@dataclass(frozen=True)
class InstallOptions:
    """The flags of `completion install`."""

    shell: str | None


@command(
    "install",
    examples="""
    # For the current shell, and for kubectl
    kubectl yoshi completion install

    # For another shell
    kubectl yoshi completion install --shell zsh
    """,
)
@click.option("--shell", type=click.Choice(SHELLS), help="The shell (default the current one).")
@as_options(InstallOptions)
def install(session: Session, options: InstallOptions) -> None:
    """Install completion of `kubectl yoshi` and kubectl-yoshi for new shells.

    The command writes a script to your own directory for completions, and kubectl_complete-yoshi, which kubectl's
    completion calls, to the directory of kubectl-yoshi. It changes nothing else.
    """
    install_files(session, options.shell)


def install_files(session: Session, shell: str | None) -> None:
    """Write the files, and print for each whether it was written.

    Raises:
        UsageError: the current shell is unknown.
        PreconditionFailed: a file cannot be written.
    """
    shell = shell or _detect_shell()
    _write(session, _script_file(shell), get_completion_script(shell), mode=0o644)
    found = shutil.which(COMPLETER)
    if found:  # pip and packages bring one
        print(f"{found} unchanged", file=session.out)
    else:
        _write(session, _find_completer_folder() / COMPLETER, read_completion_file(COMPLETER), mode=0o755)
    session.note(_NEXT_STEPS[shell].format(folder=_script_file(shell).parent))


def _detect_shell() -> str:
    name = os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119 - a name, not a file
    if name not in SHELLS:
        raise usage_error("cannot determine which shell you use", "Give --shell bash, zsh or fish.")
    return name


def _script_file(shell: str) -> Path:
    """Return the file in the user's home in which a shell looks for the completion of kubectl-yoshi."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return {
        "bash": data / "bash-completion" / "completions" / PLUGIN,
        "zsh": data / "zsh" / "site-functions" / f"_{PLUGIN}",
        "fish": config / "fish" / "completions" / f"{PLUGIN}.fish",
    }[shell]


def _find_completer_folder() -> Path:
    """Return the directory of kubectl-yoshi, which is on PATH, where kubectl looks for its completer."""
    plugin = shutil.which(PLUGIN)
    if plugin is None:
        raise PreconditionFailed(
            f"there is no {PLUGIN} on PATH", "Add its folder to PATH; kubectl finds plugins nowhere else."
        )
    return Path(plugin).parent


def _write(session: Session, file: Path, text: str, *, mode: int) -> None:
    """Write a file unless it has this text already, and print which."""
    try:
        if file.exists() and file.read_text(encoding="utf-8", errors="replace") == text:
            print(f"{file} unchanged", file=session.out)
            return
        word = "configured" if file.exists() else "created"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
    except OSError as error:
        raise PreconditionFailed(
            f"{file} cannot be written: {error.strerror}", "Check the permissions of its folder."
        ) from error
    print(f"{file} {word}", file=session.out)


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
