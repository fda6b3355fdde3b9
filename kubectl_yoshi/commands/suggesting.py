"""What may stand where somebody has pressed TAB: flags, commands, and names that the cluster is asked for."""

from __future__ import annotations

import enum
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import click

from kubectl_yoshi.commands.flags import KubectlFlag, OptionalValue
from kubectl_yoshi.commands.lazy import LazyGroup, summary_of
from kubectl_yoshi.commands.names import Name, Names
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.words import Line


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

    def beginning(self, typed: str) -> Suggestions:
        """Those that begin with what was typed; no space after the last of them if a value is to follow."""
        words = {word: about for word, about in self.words.items() if word.startswith(typed)}
        unfinished = bool(words) and all(word.endswith(("=", "/")) for word in words)
        return Suggestions(words, self.directive | Directive.NO_SPACE if unfinished else self.directive)


def asks_the_cluster(line: Line) -> bool:
    """Whether what is asked for are names that only the cluster or the kubeconfig knows."""
    kind = line.asked.type if line.asked is not None else None
    return isinstance(kind, Name) and kind.of not in (Names.FILE, Names.FOLDER)


def import_client() -> None:
    """Imports what asking takes."""
    from kubectl_yoshi.cluster.lean_import import kubernetes_parts

    importlib.import_module("kubectl_yoshi.commands.known_names")
    kubernetes_parts()


def suggestions_for(line: Line, session: Session) -> Suggestions:
    """What may stand in the place of the last word of a line.

    Raises:
        YoshiError: the cluster cannot be asked.
    """
    if line.asked is not None:
        found = _values(line, line.asked, session)
    elif line.may_be_flag and line.typed.startswith("-"):
        found = Suggestions(_flags(line), Directive.NO_FILES | Directive.KEEP_ORDER)
    elif isinstance(line.command, LazyGroup):
        rows = line.command.table.items()
        found = Suggestions({name: summary_of(entry) for name, entry in rows if not entry.hidden})
    else:
        found = Suggestions()
    return found.beginning(line.typed)


def _flags(line: Line) -> dict[str, str]:
    """The long flags that can still be given, the command's own first."""
    found: dict[str, str] = {}
    for option in dict.fromkeys(line.options().values()):
        common = isinstance(option, KubectlFlag)
        if (option.hidden and not common) or (line.was_given(option) and not option.multiple):
            continue
        for name in (*option.opts, *option.secondary_opts):
            if not name.startswith("--"):
                continue
            if isinstance(option, OptionalValue) and isinstance(option.type, click.Choice):
                found |= {f"{name}={choice}": option.help or "" for choice in option.type.choices}
            else:
                found[name] = option.help or ""
    return {**found, "--help": "Show this message and exit."}


def _values(line: Line, param: click.Parameter, session: Session) -> Suggestions:
    kind = param.type
    if not isinstance(kind, Name):
        words = kind.shell_complete(click.Context(line.command or click.Command(None)), param, line.typed)
        return Suggestions({item.value: item.help or "" for item in words})
    if kind.of is Names.FILE:
        return Suggestions(directive=Directive.DEFAULT)
    if kind.of is Names.FOLDER:
        return Suggestions(directive=Directive.ONLY_FOLDERS)
    from kubectl_yoshi.commands.known_names import known_names

    names = known_names(kind.of, line, param, session)
    given = line.given.get(str(param.name), ())
    ordered = Directive.KEEP_ORDER if kind.of in (Names.FREE_ADDRESS, Names.HELD_ADDRESS) else Directive.DEFAULT
    return Suggestions({n: about for n, about in names.items() if n not in given}, Directive.NO_FILES | ordered)
