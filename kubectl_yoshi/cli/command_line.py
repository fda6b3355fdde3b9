"""A command line that is still being typed: which command it is, what was given, and what its last word is to be.

Read as kubectl_flags.normalize_args and click would read it, but never refused: what cannot be understood is passed
over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from kubectl_yoshi.cli.group import LazyGroup
from kubectl_yoshi.cli.kubectl_flags import FALSE_VALUES, KubectlFlag, OptionalValue
from kubectl_yoshi.cli.param_types import NameKind, NameType


@dataclass
class CommandLine:
    """A command line as far as it is typed.

    Attributes:
        command: the innermost command; None where no such command exists.
        path: the names of the groups and the command that lead to it, whatever aliases were typed.
        values: parameter's name -> its values so far.
        flags: kubectl's common flags, as Session takes them.
        typed: the last word, or the part of it after "--flag=".
        typed_param: the parameter that `typed` is a value of; None where it is the name of a flag or command, or
            nothing.
        may_be_flag: whether `typed` may be the name of a flag.
    """

    command: click.Command | None
    path: tuple[str, ...] = ()
    values: dict[str, list[str]] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)
    typed: str = ""
    typed_param: click.Parameter | None = None
    may_be_flag: bool = True

    def options(self) -> dict[str, click.Option]:
        """Every spelling of a flag -> the flag."""
        if self.command is None:
            return {}
        found = [param for param in self.command.params if isinstance(param, click.Option)]
        return {name: option for option in found for name in (*option.opts, *option.secondary_opts)}

    def has_value(self, param: click.Parameter) -> bool:
        """Whether the line has a value of it already."""
        name = param.field if isinstance(param, KubectlFlag) else param.name
        return name in (self.flags if isinstance(param, KubectlFlag) else self.values)

    def add_value(self, param: click.Parameter, value: str) -> None:
        """One more value."""
        if not isinstance(param, KubectlFlag):
            self.values.setdefault(str(param.name), []).append(value)
        elif param.is_flag:
            self.flags[param.field] = value.lower() not in FALSE_VALUES
        else:
            self.flags[param.field] = (*self.flags.get(param.field, ()), value) if param.multiple else value

    def next_argument(self) -> click.Argument | None:
        """The argument that the next word that is no flag belongs to; None where there is none."""
        for param in self.command.params if self.command else ():
            if isinstance(param, click.Argument):
                count = len(self.values.get(str(param.name), ()))
                if param.nargs < 0 or count < param.nargs:
                    return param
        return None

    def add_word(self, word: str, root: click.Group) -> None:
        """A word that is no flag: the name of a command, or an argument."""
        argument = self.next_argument()
        if argument is not None and _is_command_line(argument):
            self.command, self.path, argument = root, (), None
        if isinstance(self.command, click.Group):
            aliases = self.command.aliases if isinstance(self.command, LazyGroup) else {}
            self.path += (aliases.get(word, word),)
            self.command = self.command.get_command(click.Context(self.command), word)
        elif argument is not None:
            self.add_value(argument, word)


def parse_command_line(root: click.Group, words: Sequence[str]) -> CommandLine:
    """What the words mean, the last of which is being typed (it may be "").

    Args:
        root: the program's command line.
        words: what follows the program's name.
    """
    *before, typed = words or [""]
    line = CommandLine(root, typed=typed)
    rest = iter(before)
    for word in rest:
        if line.may_be_flag and word == "--":
            line.may_be_flag = False
        elif line.may_be_flag and word.startswith("-") and len(word) > 1:
            _parse_flag(line, word, rest)
            if line.typed_param is not None:
                return line
        else:
            line.add_word(word, root)
    _resolve_typed_word(line, root)
    return line


def _parse_flag(line: CommandLine, word: str, rest: Iterator[str]) -> None:
    """A flag and its value; where the value is the word being typed, it is what is asked for."""
    option, value = _split_flag(line, word)
    if option is None:
        return
    if value is None and not option.is_flag and not isinstance(option, OptionalValue):
        value = next(rest, None)
        if value is None:
            line.typed_param = option
            return
    line.add_value(option, value or "")


def _split_flag(line: CommandLine, word: str) -> tuple[click.Option | None, str | None]:
    """A flag and the value that is written with it: --flag=value, -f=value, -fvalue; None where there is none."""
    options = line.options()
    name, equals, value = word.partition("=")
    if name in options:
        return options[name], value if equals else None
    if not word.startswith("--") and word[:2] in options:
        return options[word[:2]], word[2:]
    return None, None


def _resolve_typed_word(line: CommandLine, root: click.Group) -> None:
    """Finds out what the word is that is being typed."""
    if line.may_be_flag and line.typed.startswith("-"):
        option, value = _split_flag(line, line.typed)
        if value is not None:
            line.typed_param, line.typed = option, value
        return
    argument = line.next_argument()
    if argument is not None and _is_command_line(argument):
        line.command = root
    elif not isinstance(line.command, click.Group):
        line.typed_param = argument


def _is_command_line(argument: click.Argument) -> bool:
    return isinstance(argument.type, NameType) and argument.type.kind is NameKind.COMMAND
