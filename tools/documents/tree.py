"""The program's commands for documents, read from the click tree that --help shows."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import click

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.diff import DiffGroup
from kubectl_yoshi.cli.group import LazyGroup, YoshiCommand, get_summary
from kubectl_yoshi.cli.help_format import describe, group_options
from kubectl_yoshi.cli.kubectl_flags import KUBECTL_FLAGS
from kubectl_yoshi.cli.options import OutputType

PROGRAM = "kubectl yoshi"


@dataclass(frozen=True)
class Flag:
    """A flag.

    Attributes:
        spelling: as --help shows it, "-o, --output FORMAT".
        meaning: its help.
        group: the title under which --help lists it.
    """

    spelling: str
    meaning: str
    group: str = "Options"


@dataclass(frozen=True)
class Page:
    """A command.

    Attributes:
        words: its name from the root on, ("kubectl yoshi", "network", "create").
        usage: one line.
        summary: the first sentence of its help.
        text: the paragraphs after it, each on one line.
        flags: in the order of --help, without kubectl's common ones.
        examples: lines of comments and commands.
        below: for a group: name and summary of each command in it.
        aliases: other names that it answers to.
        kinds: the kinds of the objects that it prints with -o; None for a command without -o.
    """

    words: tuple[str, ...]
    usage: str
    summary: str
    text: tuple[str, ...]
    flags: tuple[Flag, ...]
    examples: tuple[str, ...]
    below: tuple[tuple[str, str], ...]
    aliases: tuple[str, ...] = ()
    kinds: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        """The words with spaces between."""
        return " ".join(self.words)


def pages() -> list[Page]:
    """Every command that is not hidden, each group before what is in it."""
    with click.Context(cli, info_name=PROGRAM, **cli.context_settings) as root:
        return list(_walk(cli, root, (PROGRAM,), ()))


def common_flags() -> list[Flag]:
    """kubectl's flags, which every command takes."""
    with click.Context(cli, info_name=PROGRAM, **cli.context_settings):
        return [
            Flag(", ".join(flag.opts) + (f" {flag.metavar}" if flag.metavar else ""), flag.help or "")
            for flag in KUBECTL_FLAGS
            if isinstance(flag, click.Option)
        ]


def _walk(
    command: click.Command, ctx: click.Context, words: tuple[str, ...], aliases: tuple[str, ...]
) -> Iterator[Page]:
    summary, *text = _paragraphs(command.help or "")
    below: list[tuple[str, click.Command]] = []
    if isinstance(command, LazyGroup) and not isinstance(command, DiffGroup):  # whose commands have their pages
        below = [
            (name, found)
            for name, entry in command.table.items()
            if not entry.hidden and (found := command.get_command(ctx, name)) is not None
        ]
    yield Page(
        words,
        " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]),
        summary,
        tuple(text),
        tuple(_flags(command, ctx)),
        tuple(textwrap.dedent(command.examples).strip().splitlines())
        if isinstance(command, (YoshiCommand, LazyGroup))
        else (),
        tuple((name, get_summary(command.table[name])) for name, _ in below) if isinstance(command, LazyGroup) else (),
        aliases,
        next((param.type.kinds for param in command.params if isinstance(param.type, OutputType)), None),
    )
    for name, found in below:
        others = (
            tuple(alias for alias, of in command.aliases.items() if of == name)
            if isinstance(command, LazyGroup)
            else ()
        )
        with click.Context(found, info_name=name, parent=ctx) as inner:
            yield from _walk(found, inner, (*words, name), others)


def _flags(command: click.Command, ctx: click.Context) -> list[Flag]:
    return [
        Flag(_spelling(option), describe(option), group)
        for group, options in group_options(command, ctx).items()
        for option in options
        if "--help" not in option.opts
    ]


def _spelling(option: click.Option) -> str:
    """As --help has it, whatever click's version."""
    names = ", ".join(option.opts) + (f" / {', '.join(option.secondary_opts)}" if option.secondary_opts else "")
    if option.is_flag:
        return names
    words = (
        "|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else option.type.name.upper()
    )
    return f"{names} {option.metavar or words}"


def _paragraphs(text: str) -> list[str]:
    """The paragraphs of a help text, each on one line; the first one always is there."""
    found = inspect.cleandoc(text).split("\n\n")
    return [" ".join(paragraph.split()) for paragraph in found]
