"""kubectl's JSONPath templates: https://kubernetes.io/docs/reference/kubectl/jsonpath/

A template is text with actions in braces; an action is a chain of steps, which are in jsonpath_steps.py. What kubectl
prints for a template (k8s.io/client-go/util/jsonpath) this prints too, with these differences: keys of a map come in
order (in kubectl at random); a template without any braces is read as one action (kubectl prints it as it stands,
which helps nobody); "{.}" and "{.['a']}" are taken as "{@}" and "{['a']}". As in kubectl, a {range} may lack its {end},
and a dot in ['a.b'] leads on to b unless it is escaped: ['a\\.b'].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.output.jsonpath_steps import (
    OPERATORS,
    Action,
    NoMatchError,
    Step,
    Values,
    chain,
    field,
    filter_compare,
    filter_exists,
    literal_step,
    recursive,
    slice_step,
    union,
    wildcard,
)

__all__ = ["NoMatchError", "Template", "go_text", "parse_expression", "parse_template", "text_of"]

FIELD_END = set(" \t\r\n.,[]$@{}")
_INDEX = re.compile(r"(-?\d*)(:-?\d*)?(:-?\d*)?")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+)")
_KEY = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_NUMBER = re.compile(r"[+-]?[\d.]+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


@dataclass(frozen=True)
class Text:
    """Text between actions, and literals of their own in braces."""

    text: str


@dataclass(frozen=True)
class Range:
    """{range …}…{end}: the body once for each value that the action finds."""

    action: Action
    body: tuple[Node, ...]


Node = Text | Action | Range


@dataclass(frozen=True)
class Template:
    """A template that was read; `source` is its text."""

    source: str
    nodes: tuple[Node, ...]

    def render(self, value: Any) -> str:
        """What kubectl prints for this value.

        Raises:
            NoMatchError: the template does not fit the value.
        """
        return "".join(_render(self.nodes, value))

    def find(self, value: Any) -> Values:
        """Every value that the template's actions find."""
        return [found for node in self.nodes if isinstance(node, Action) for found in node.values(value)]


def parse_template(source: str) -> Template:
    """Reads a template.

    Raises:
        UsageError: it is none.
    """
    text = source
    if "{" not in text and "}" not in text:
        text = "{" + text + "}" if text[:1] in (".", "[", "$", "@") else text
    return Template(source, _Parser(text).template())


def parse_expression(source: str) -> Template:
    """Reads one expression, as custom-columns and --sort-by have it: "{.a.b}", ".a.b" and "a.b" are the same.

    Raises:
        UsageError: it is none.
    """
    inner = source[1:-1] if source.startswith("{") and source.endswith("}") else source
    if not inner.strip() or "{" in inner or "}" in inner:
        raise UsageError(f'"{source}" is no path', "Write it as .metadata.name or {.metadata.name}.")
    if inner[0] not in ".[$@":
        inner = "." + inner
    return Template(source, _Parser("{" + inner + "}").template())


def text_of(value: Any) -> str:
    """A value as a template prints it: maps and lists as JSON, all else as Go's fmt does."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return go_text(value)


def go_text(value: Any) -> str:
    """A value as Go's fmt.Sprint prints it: <nil>, true, map[a:1 b:2], [1 2]."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if isinstance(value, float):
        return _go_float(value)
    return str(value)


def _go_float(value: float) -> str:
    """As Go's %v: shortest digits, an exponent below 1e-4 and from 1e21 on."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    mantissa, _, exponent = repr(value).partition("e")
    return mantissa + (f"e{exponent}" if exponent else "")


def _render(nodes: tuple[Node, ...], value: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Text):
            yield node.text
        elif isinstance(node, Action):
            yield " ".join("null" if found is None else text_of(found) for found in node.values(value))
        else:
            for found in node.action.values(value):
                yield from _render(node.body, found)


class _Parser:
    """Reads a template from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def template(self) -> tuple[Node, ...]:
        nodes = self.nodes(in_range=False)
        return tuple(nodes)

    def error(self, what: str) -> UsageError:
        return UsageError(
            f'JSONPath template "{self.text}": {what}', "See https://kubernetes.io/docs/reference/kubectl/jsonpath/."
        )

    def nodes(self, in_range: bool) -> list[Node]:
        """Text and actions up to the end, or up to {end}."""
        result: list[Node] = []
        while self.position < len(self.text):
            brace = self.text.find("{", self.position)
            end = brace if brace >= 0 else len(self.text)
            if end > self.position:
                result.append(Text(self.text[self.position : end]))
            self.position = end + 1
            if brace < 0:
                break
            word = re.match(r"\s*(range|end)\b", self.text[self.position :])
            if word and word[1] == "end":
                self.position += word.end()
                self.skip_blanks()
                if self.peek() != "}":
                    raise self.error("{end} takes nothing")
                self.position += 1
                if not in_range:
                    raise self.error("not in range, nothing to end")
                return result
            if word:
                self.position += word.end()
                result.append(Range(self.action(), tuple(self.nodes(in_range=True))))
            else:
                result.append(self.action())
        return result

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def skip_blanks(self) -> None:
        while self.peek() in (" ", "\t") and self.peek():
            self.position += 1

    def action(self) -> Action:
        """The steps up to the closing brace."""
        steps: list[Step] = []
        while True:
            char = self.peek()
            if not char or char in "\r\n":
                raise self.error("unclosed action")
            if char == "}":
                self.position += 1
                return Action(tuple(steps))
            if char in " @$":
                self.position += 1
            elif self.text.startswith("..", self.position):
                self.position += 2
                steps.append(recursive)
                if self.peek() == "." or self.text.startswith("..", self.position):
                    raise self.error("invalid multiple recursive descent")
                if self.peek() and self.peek() not in FIELD_END:
                    steps.append(self.field())
            elif char == ".":
                self.position += 1
                if self.peek() == "[":  # kubectl takes .['a'] and .[0] too
                    continue
                name = self.peek()
                if name and name not in FIELD_END:
                    steps.append(self.field())
                elif name not in ("}", " "):
                    raise self.error(f"no name after the dot at {self.position}")
            elif char == "[":
                steps.append(self.bracket())
            elif char in "\"'":
                steps.append(literal_step(self.quoted()))
            elif char in "+-" or char.isdigit():
                steps.append(literal_step(self.number()))
            elif char == "_" or char.isalpha():
                steps.append(self.word())
            else:
                raise self.error(f"unrecognized character in action: {char!r}")

    def field(self) -> Step:
        name = ""
        while self.peek() and self.peek() not in FIELD_END:
            if self.peek() == "\\":
                self.position += 1
            name += self.peek()
            self.position += 1
        return wildcard if name == "*" else field(name)

    def word(self) -> Step:
        name = re.match(r"\w+", self.text[self.position :])
        assert name
        self.position += name.end()
        if name[0] in ("true", "false"):
            return literal_step(name[0] == "true")
        raise self.error(f"unrecognized identifier {name[0]}")

    def number(self) -> int | float:
        digits = _NUMBER.match(self.text, self.position)
        if digits is None:
            raise self.error(f"no number at {self.position}")
        self.position = digits.end()
        try:
            return float(digits[0]) if "." in digits[0] else int(digits[0])
        except ValueError:
            raise self.error(f"cannot parse number {digits[0]}") from None

    def quoted(self) -> str:
        quote = self.peek()
        self.position += 1
        result = ""
        while self.peek() != quote:
            if not self.peek() or self.peek() == "\n":
                raise self.error("unterminated quoted string")
            if self.peek() == "\\":
                self.position += 1
                if self.peek() not in _ESCAPES:
                    raise self.error(f"unknown escape \\{self.peek()}")
                result += _ESCAPES[self.peek()]
            else:
                result += self.peek()
            self.position += 1
        self.position += 1
        return result

    def bracket(self) -> Step:
        """[0], [1:3], [-1:], [*], ['key'], ['a','b'], [?(@.a=="x")]"""
        if self.text.startswith("[?(", self.position):
            return self.filter()
        end = self.closing("]")
        inner = self.text[self.position + 1 : end]
        self.position = end + 1
        parts = _split(inner)
        if len(parts) > 1:
            return union([self.subscript(part.strip()) for part in parts])
        return self.subscript(inner)

    def subscript(self, text: str) -> Step:
        if text == "*":
            return slice_step(None, None, None, single=False)
        key = _KEY.fullmatch(text)
        if key:
            name = key[1] if key[1] is not None else key[2]
            return chain(self.part("." + name))
        index = _INDEX.fullmatch(text)
        if index is None or not text:
            raise self.error(f"invalid array index {text}")
        start, stop, step = ((part or "").lstrip(":") for part in index.groups())
        return slice_step(_parse_int(start), _parse_int(stop), _parse_int(step), single=index[2] is None)

    def filter(self) -> Step:
        """[?(@.a)], [?(@.a=="x")] with ==, !=, <, <=, >, >="""
        end = self.closing(")", self.position + 3)
        inner = self.text[self.position + 3 : end]
        if self.text[end + 1 : end + 2] != "]":
            raise self.error("unclosed array expect ]")
        self.position = end + 2
        comparison = _COMPARISON.fullmatch(inner)
        if comparison is None:
            return filter_exists(self.part(inner))
        if comparison[2] not in OPERATORS:
            raise self.error(f"unrecognized filter operator {comparison[2]}")
        return filter_compare(self.part(comparison[1]), comparison[2], self.part(comparison[3]))

    def part(self, text: str) -> Action:
        """One side of a filter."""
        parser = _Parser("{" + text.strip() + "}")
        parser.position = 1
        return parser.action()

    def closing(self, bracket: str, start: int | None = None) -> int:
        """Where a bracket closes, not counting those in quotes."""
        quote = ""
        for position in range(self.position if start is None else start, len(self.text)):
            char = self.text[position]
            if quote:
                quote = "" if char == quote and self.text[position - 1] != "\\" else quote
            elif char in "\"'":
                quote = char
            elif char == bracket:
                return position
        raise self.error("unterminated filter" if bracket == ")" else "unterminated array")


def _split(text: str) -> list[str]:
    """Splits at commas that are not in quotes."""
    return re.findall(r"""(?:'[^']*'|"[^"]*"|[^,'"])+""", text)


def _parse_int(digits: str) -> int | None:
    return int(digits) if digits not in ("", "-") else None
