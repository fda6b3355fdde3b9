"""--help: examples before flags, flags in groups, lines as wide as the terminal, and no word broken."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.group import LazyGroup, YoshiCommand
from kubectl_yoshi.cli.help_format import GroupedOption

GROUPS = {"Options", "Addresses", "Calico", "Public", "Layer 2", "Output"}


def commands(group: LazyGroup, ctx: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below a group, with its context."""
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        assert found is not None
        inner = found.context_class(found, info_name=name, parent=ctx, **found.context_settings)
        yield found, inner
        if isinstance(found, LazyGroup):
            yield from commands(found, inner)


ROOT = cli.context_class(cli, info_name="kubectl yoshi", **cli.context_settings)
EVERY = list(commands(cli, ROOT))


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal_and_breaks_no_word(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for command, ctx in EVERY:
        text = command.get_help(ctx)
        options = text.partition("\nOptions:\n")[2].rpartition("\n\n")[0]
        too_long = [line for line in options.splitlines() if len(line) > min(columns, 120)]
        # A single word, such as the syntax of --peer, may be longer than its column.
        assert [line for line in too_long if len(line.split()[-1]) < 20] == [], command.name
        words = set(re.split(r"\s+", text))
        for param in command.get_params(ctx):
            if isinstance(param, click.Option) and not param.hidden and param.get_help_record(ctx):
                missing = {word for word in str(param.help).split() if word not in words}
                assert missing == set(), f"{command.name} {param.name}"


def test_lines_become_longer_in_a_wider_terminal_up_to_120_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    [(create, ctx)] = [(one, ctx) for one, ctx in EVERY if ctx.command_path == "kubectl yoshi network create"]
    longest = []
    for columns in (60, 100, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = create.get_help(ctx).partition("\nAddresses:\n")[2].splitlines()
        longest.append(max(map(len, lines[:-1])))
    assert longest[0] < longest[1] < longest[2] <= 120


def test_examples_come_before_the_options() -> None:
    for command, ctx in EVERY:
        if isinstance(command, YoshiCommand) and command.examples:
            text = command.get_help(ctx)
            assert text.index("\nExamples:\n") < text.index("\nOptions:\n"), command.name


def test_every_group_of_flags_has_a_known_title() -> None:
    titles = {param.group for command, _ in EVERY for param in command.params if isinstance(param, GroupedOption)}
    assert titles == GROUPS - {"Options"}
