"""Groups that import their commands only when these run, so that --help and version start fast.

A group has a table of its commands, with the import path and the summary of each.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from kubectl_yoshi.cli.help_format import MAX_WIDTH, HelpContext, write_help, write_options
from kubectl_yoshi.cli.kubectl_flags import (
    HELP_NAMES,
    KUBECTL_FLAGS,
    KubectlFlag,
    OptionalValue,
    get_kubectl_flags,
    normalize_args,
)
from kubectl_yoshi.cli.param_types import NameType
from kubectl_yoshi.model.errors import ExitCode

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": HELP_NAMES, "max_content_width": MAX_WIDTH}


@dataclass(frozen=True)
class CommandEntry:
    """A row of a group's table.

    Attributes:
        import_path: "module:attribute" of the click command, relative to kubectl_yoshi.cli.
        summary: its help in one line.
        hidden: whether it is left out of lists of commands.
    """

    import_path: str
    summary: str
    hidden: bool = False


class YoshiCommand(click.Command):
    """A command with kubectl's common flags, which its help does not list, and with examples in kubectl's format.

    Args:
        examples: comments and commands ("# Purpose", "kubectl yoshi …"), printed unchanged.
    """

    context_class = HelpContext

    def __init__(self, *args: Any, examples: str = "", **settings: Any) -> None:
        settings["context_settings"] = {**CONTEXT_SETTINGS, **settings.get("context_settings", {})}
        super().__init__(*args, **settings)
        self.examples = examples
        self.params = [*self.params, *KUBECTL_FLAGS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with set_error_context(ctx):
            return super().parse_args(ctx, normalize_args(args, self.get_params(ctx)))

    def make_parser(self, ctx: click.Context) -> Any:
        """Return click's parser, extended to refuse a repeated flag that names a single object.

        click and kubectl use the last value, and would ignore the objects that the others name.
        """
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_each_once(args: list[str]) -> Any:
            parsed = parse(args)
            for param, count in () if ctx.resilient_parsing else Counter(parsed[2]).items():
                if count > 1 and isinstance(param.type, NameType) and not param.multiple and param not in KUBECTL_FLAGS:
                    flag = max(param.opts, key=len)
                    raise click.UsageError(
                        f"{flag} is given twice, but accepts one value: run the command once for each", ctx
                    )
            return parsed

        parser.parse_args = parse_each_once  # type: ignore[method-assign]
        return parser

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends a command that only reads without a message, as it does in kubectl."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if any(param.name == "dry_run" for param in self.params):
                raise
            return ctx.exit(ExitCode.INTERRUPTED)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return complete_flags(ctx, incomplete)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_help(self, self.examples, ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter)


class LazyGroup(click.Group):
    """A group that imports a command only when it runs, or when its own help is printed.

    Args:
        table: name -> the command's entry, or a nested group; in the order in which the help lists them.
        aliases: other names of commands, which the help does not list.
        suggestions: command -> words that users try instead of it, and that are no commands here.
        examples: see YoshiCommand.
    """

    context_class = HelpContext

    def __init__(
        self,
        name: str,
        help: str,
        table: Mapping[str, CommandEntry | LazyGroup],
        aliases: Mapping[str, str] | None = None,
        suggestions: Mapping[str, Sequence[str]] | None = None,
        examples: str = "",
    ) -> None:
        super().__init__(
            name,
            help=help,
            invoke_without_command=True,
            callback=self.show_help_without_command,
            subcommand_metavar="COMMAND",
            context_settings=CONTEXT_SETTINGS,
        )
        self.params = [*self.params, *KUBECTL_FLAGS]
        self.table = table
        self.aliases = aliases or {}
        self.suggestions = suggestions or {}
        self.examples = examples

    @staticmethod
    @click.pass_context
    def show_help_without_command(ctx: click.Context) -> None:
        """Print the group's help where no command is given, which is not an error, as in kubectl."""
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with set_error_context(ctx):
            return super().parse_args(ctx, normalize_args(args, self.get_params(ctx), stop_at_first_word=True))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(self.aliases.get(cmd_name, cmd_name))
        if entry is None or isinstance(entry, LazyGroup):
            return entry
        module, _, attribute = entry.import_path.partition(":")
        return cast(click.Command, getattr(importlib.import_module(f"kubectl_yoshi.cli.{module}"), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            raise click.UsageError(self.unknown_command_message(ctx, args[0]), ctx)
        return self.aliases.get(args[0], args[0]), command, args[1:]

    def unknown_command_message(self, ctx: click.Context, word: str) -> str:
        """Return kubectl's message for an unknown command, with what to use instead, or similar names."""
        from difflib import get_close_matches

        message = f'unknown command "{word}" for "{ctx.command_path}"'
        for instead, words in self.suggestions.items():
            if word in words:
                return f"{message} (use {instead})"
        close = get_close_matches(word, [*self.table, *self.aliases])
        close = list(dict.fromkeys(self.aliases.get(name, name) for name in close))
        if not close:
            close = [name for name in self.table if len(word) > 1 and name.startswith(word)]
        if close:
            message += f" (did you mean {' or '.join(close)}?)"
        return message

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, get_summary(entry)) for name, entry in self.table.items() if not entry.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands with their summaries, without an import of any; where none matches, the flags."""
        from click.shell_completion import CompletionItem

        rows = ((name, entry) for name, entry in self.table.items() if not entry.hidden and name.startswith(incomplete))
        return [*(CompletionItem(name, help=get_summary(entry)) for name, entry in rows)] or complete_flags(
            ctx, incomplete
        )

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_help(self, self.examples, ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)


@contextmanager
def set_error_context(ctx: click.Context) -> Iterator[None]:
    """Add the command's context to usage errors for which click's parser does not set it."""
    try:
        yield
    except click.UsageError as error:
        error.ctx = error.ctx or ctx
        raise


def get_summary(entry: CommandEntry | LazyGroup) -> str:
    """Return the help of a command or group in one line, without a full stop."""
    return entry.summary if isinstance(entry, CommandEntry) else entry.get_short_help_str(limit=100).rstrip(".")


def complete_flags(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the long flags with this prefix that can still be added, the command's own first, then kubectl's."""
    from click.shell_completion import CompletionItem

    options = [param for param in ctx.command.get_params(ctx) if isinstance(param, click.Option)]
    return [
        CompletionItem(word, help=option.help, keep_order=True)
        for option in options
        if _can_be_given(option, ctx)
        for word in _spellings(option)
        if incomplete.startswith("-") and word.startswith(incomplete)
    ]


def _can_be_given(option: click.Option, ctx: click.Context) -> bool:
    """Return whether a flag is visible, and either repeatable or not on the command line yet."""
    if isinstance(option, KubectlFlag):
        return option.multiple or option.field not in get_kubectl_flags(ctx)
    is_given = ctx.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
    return not option.hidden and (option.multiple or not is_given)


def _spellings(option: click.Option) -> Iterator[str]:
    for name in (*option.opts, *option.secondary_opts):
        if not name.startswith("--"):
            continue
        if isinstance(option, OptionalValue) and isinstance(option.type, click.Choice):
            yield from (f"{name}={choice}" for choice in option.type.choices)
        else:
            yield name
