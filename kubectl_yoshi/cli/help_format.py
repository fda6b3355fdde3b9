"""The layout of --help: examples before flags, flags in groups, lines as wide as the terminal, no word broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_WIDTH = 120
"""Longer lines are hard to read, however wide the terminal."""
MAX_NAME_WIDTH = 34
"""Flags with longer names have their text on the next line."""
MAX_SHOWN = 2**31 - 1
"""The limit of the API's integers, which no help text needs to name."""


class HelpFormatter(click.HelpFormatter):
    """A formatter that breaks lines at spaces only; click's also breaks words, and at the hyphens of flags."""

    def write_text(self, text: str) -> None:
        """Write paragraphs, which empty lines separate."""
        indent = " " * self.current_indent
        paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        self.write("\n\n".join(self._fill(paragraph, indent, indent) for paragraph in paragraphs) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = MAX_NAME_WIDTH, col_spacing: int = 2) -> None:
        """Write names with their descriptions beside them, or below those that are too long."""
        rows = list(rows)
        column = min(max(len(name) for name, _ in rows), col_max) + col_spacing
        for name, text in rows:
            first = " " * self.current_indent + name.ljust(column)
            rest = " " * (self.current_indent + column)
            if len(name) > column - col_spacing:
                self.write(f"{first.rstrip()}\n")
                first = rest
            self.write(self._fill(text, first, rest) + "\n" if text else f"{first.rstrip()}\n")

    def _fill(self, text: str, first: str, rest: str) -> str:
        import textwrap

        return textwrap.fill(
            text, self.width, initial_indent=first, subsequent_indent=rest, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip


class HelpContext(click.Context):
    """A context whose help is written by a HelpFormatter."""

    formatter_class = HelpFormatter


class GroupedOption(click.Option):
    """A flag that --help lists in a group of its own.

    Args:
        group: the group's title, such as "Calico".
    """

    def __init__(self, *args: Any, group: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


def option_group(title: str) -> Callable[..., Callable[[Function], Function]]:
    """Return click.option for the flags of a group."""
    return partial(click.option, cls=GroupedOption, group=title)


def write_help(command: click.Command, examples: str, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write usage, description, examples, flags and where to read about kubectl's flags."""
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    if examples:
        import textwrap

        with formatter.section("Examples"):
            for line in textwrap.dedent(examples).strip().splitlines():
                formatter.write(f"  {line}\n" if line.strip() else "\n")
    command.format_options(ctx, formatter)
    formatter.write_paragraph()
    formatter.write(
        f'Use "{ctx.find_root().command_path} options" for the flags of kubectl that every command takes.\n'
    )


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the flags by group."""
    for title, options in group_options(command, ctx).items():
        rows = [(record[0], describe(option)) for option in options if (record := option.get_help_record(ctx))]
        with formatter.section(title):
            formatter.write_dl(rows)


def group_options(command: click.Command, ctx: click.Context) -> dict[str, list[click.Option]]:
    """Return title -> flags that --help lists, in the order in which the groups are first used.

    Flags without a group, --help among them, come first, as "Options".
    """
    groups: dict[str, list[click.Option]] = {"Options": []}
    for param in command.get_params(ctx):
        if isinstance(param, click.Option) and not param.hidden:
            groups.setdefault(param.group if isinstance(param, GroupedOption) else "Options", []).append(param)
    return groups


def describe(option: click.Option) -> str:
    """Return a flag's help with its range, if it has one that a user may meet."""
    text = option.help or ""
    if isinstance(option.type, click.IntRange) and option.type.max is not None and option.type.max < MAX_SHOWN:
        text += f" From {option.type.min} to {option.type.max}."
    return text + (" (required)" if option.required else "")
