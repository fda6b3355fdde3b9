"""`diff COMMAND…`: which commands it shows, and what it says of others.

What it shows: tests/cluster/test_commands.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from kubectl_yoshi.__main__ import run
from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.command_line import parse_command_line
from kubectl_yoshi.cli.diff import SUPPORTED_COMMANDS
from kubectl_yoshi.cli.group import LazyGroup


def commands(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, with the names that lead to it."""
    for name in group.table:
        found = group.get_command(click.Context(group), name)
        if isinstance(found, LazyGroup):
            yield from commands(found, (*path, name))
        elif found is not None:
            yield (*path, name), found


def test_it_shows_all_that_have_a_dry_run_but_install_and_uninstall() -> None:
    trying = {path for path, found in commands(cli) if any(param.name == "dry_run" for param in found.params)}
    only_dry = {("install",), ("uninstall",)}
    assert trying == SUPPORTED_COMMANDS | only_dry


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("install", "install"),
        ("uninstall --force", "uninstall"),
        ("completion install --shell zsh", "completion install"),
        ("vm list", "vm list"),
        ("vms -n prod list", "vm list"),
        ("vm", "vm"),
    ],
)
def test_it_says_of_others_that_it_does_not_show_them(
    capsys: pytest.CaptureFixture[str], words: str, name: str
) -> None:
    assert run(["diff", *words.split()], "kubectl yoshi") == 2
    said = capsys.readouterr().err
    assert f'error: diff does not show "{name}"\n' in said
    assert "It shows ips gc, " in said
    assert "install and uninstall would do is told by their --dry-run" in said


def test_a_command_that_is_not_there_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "vm", "atach"], "kubectl yoshi") == 2
    assert "did you mean attach" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["vm -n prod attach web-1", "vms attach web-1", "vm attach -n=prod web-1", "-n prod vm attach web-1"]
)
def test_flags_and_aliases_do_not_hide_the_command(words: str) -> None:
    assert parse_command_line(cli, [*words.split(), ""]).path in SUPPORTED_COMMANDS
