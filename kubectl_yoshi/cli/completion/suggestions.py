"""What may stand where somebody has pressed TAB: flags, commands, and names that the cluster is asked for."""

from __future__ import annotations

import enum
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import click

from kubectl_yoshi.cli.command_line import CommandLine
from kubectl_yoshi.cli.group import LazyGroup, get_summary
from kubectl_yoshi.cli.kubectl_flags import KubectlFlag, OptionalValue
from kubectl_yoshi.cli.param_types import NameKind, NameType
from kubectl_yoshi.cli.session import Session


class Directive(enum.IntFlag):
    """What the shell is to do with the words, as Cobra has it (ShellCompDirective)."""

    DEFAULT = 0  # files, where there are no words
    NO_SPACE = 2
    NO_FILES = 4
    ONLY_FOLDERS = 16
    KEEP_ORDER = 32


@dataclass(frozen=True)
class Suggestions:
    """The words, each with a few words about it ("" for none), and what to do with them."""

    words: Mapping[str, str] = field(default_factory=dict)
    directive: Directive = Directive.NO_FILES

    def with_prefix(self, typed: str) -> Suggestions:
        """Those that begin with what was typed; no space after the last of them if a value is to follow."""
        words = {word: description for word, description in self.words.items() if word.startswith(typed)}
        unfinished = bool(words) and all(word.endswith(("=", "/")) for word in words)
        return Suggestions(words, self.directive | Directive.NO_SPACE if unfinished else self.directive)


def needs_cluster(line: CommandLine) -> bool:
    """Whether what is asked for are names that only the cluster or the kubeconfig knows."""
    param_type = line.typed_param.type if line.typed_param is not None else None
    return isinstance(param_type, NameType) and param_type.kind not in (NameKind.FILE, NameKind.FOLDER)


def import_client() -> None:
    """Imports what asking takes."""
    from kubectl_yoshi.kube.slim_import import import_client_modules

    importlib.import_module("kubectl_yoshi.cli.completion.sources")
    import_client_modules()


def suggestions_for(line: CommandLine, session: Session) -> Suggestions:
    """What may stand in the place of the last word of a line.

    Raises:
        YoshiError: the cluster cannot be asked.
    """
    if line.typed_param is not None:
        found = _values(line, line.typed_param, session)
    elif line.may_be_flag and line.typed.startswith("-"):
        found = Suggestions(_flags(line), Directive.NO_FILES | Directive.KEEP_ORDER)
    elif isinstance(line.command, LazyGroup):
        rows = line.command.table.items()
        found = Suggestions({name: get_summary(entry) for name, entry in rows if not entry.hidden})
    else:
        found = Suggestions()
    return found.with_prefix(line.typed)


def _flags(line: CommandLine) -> dict[str, str]:
    """The long flags that can still be given, the command's own first."""
    found: dict[str, str] = {}
    for option in dict.fromkeys(line.options().values()):
        common = isinstance(option, KubectlFlag)
        if (option.hidden and not common) or (line.has_value(option) and not option.multiple):
            continue
        for name in (*option.opts, *option.secondary_opts):
            if not name.startswith("--"):
                continue
            if isinstance(option, OptionalValue) and isinstance(option.type, click.Choice):
                found |= {f"{name}={choice}": option.help or "" for choice in option.type.choices}
            else:
                found[name] = option.help or ""
    return {**found, "--help": "Show this message and exit."}


def _values(line: CommandLine, param: click.Parameter, session: Session) -> Suggestions:
    param_type = param.type
    if not isinstance(param_type, NameType):
        words = param_type.shell_complete(click.Context(line.command or click.Command(None)), param, line.typed)
        return Suggestions({item.value: item.help or "" for item in words})
    if param_type.kind is NameKind.FILE:
        return Suggestions(directive=Directive.DEFAULT)
    if param_type.kind is NameKind.FOLDER:
        return Suggestions(directive=Directive.ONLY_FOLDERS)
    from kubectl_yoshi.cli.completion.sources import list_known_names

    names = list_known_names(param_type.kind, line, param, session)
    values = line.values.get(str(param.name), ())
    ordered = (
        Directive.KEEP_ORDER if param_type.kind in (NameKind.FREE_ADDRESS, NameKind.HELD_ADDRESS) else Directive.DEFAULT
    )
    return Suggestions(
        {n: description for n, description in names.items() if n not in values}, Directive.NO_FILES | ordered
    )
