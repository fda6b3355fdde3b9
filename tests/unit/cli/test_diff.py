"""`diff COMMAND…`: which commands it takes.

What it shows: tests/cluster/test_commands.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from kubectl_yoshi.__main__ import run
from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.diff import DiffGroup, diff
from kubectl_yoshi.cli.group import LazyGroup


def commands(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, with the names that lead to it."""
    for name in group.table:
        found = group.get_command(click.Context(group), name)
        if isinstance(found, LazyGroup) and not isinstance(found, DiffGroup):
            yield from commands(found, (*path, name))
        elif found is not None:
            yield (*path, name), found


def test_diff_accepts_every_command_with_a_dry_run_except_install_and_uninstall() -> None:
    trying = {path for path, found in commands(cli) if any(param.name == "dry_run" for param in found.params)}
    only_dry = {("install",), ("uninstall",)}
    assert trying == {path for path, _ in commands(diff)} | only_dry


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("install", 'unknown command "install" for "kubectl yoshi diff"'),
        ("uninstall --force", 'unknown command "uninstall" for "kubectl yoshi diff"'),
        ("vm list", 'unknown command "list" for "kubectl yoshi diff vm"'),
        ("vms -n prod list", 'unknown command "list" for "kubectl yoshi diff vm"'),
        ("vm atach", 'unknown command "atach" for "kubectl yoshi diff vm" (did you mean attach or detach?)'),
        ("vm attach --netwrok blue", "unknown flag: --netwrok"),
    ],
)
def test_diff_of_other_commands_is_a_usage_error(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert run(["diff", *words.split()], "kubectl yoshi") == 2
    said = capsys.readouterr().err
    assert f"error: {message}" in said
    assert "See 'kubectl yoshi diff" in said


@pytest.mark.parametrize(
    "words", ["vm -n prod attach web-1", "vms attach web-1", "vm attach -n=prod web-1", "-n prod vm attach web-1"]
)
def test_diff_finds_the_command_after_flags_and_aliases(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert run(["diff", *words.split(), "--help"], "kubectl yoshi") == 0
    assert "Usage: kubectl yoshi diff vm attach" in capsys.readouterr().out
