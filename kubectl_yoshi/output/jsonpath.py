"""kubectl's JSONPath templates: https://kubernetes.io/docs/reference/kubectl/jsonpath/

A template is text with actions in braces; an action is a chain of steps, each of which maps a list of values to a list
of values. The output equals that of kubectl (k8s.io/client-go/util/jsonpath), with these differences: keys of a map are
sorted (in kubectl their order is random); a template without any braces is parsed as one action (kubectl prints it
unchanged); "{.}" and "{.['a']}" are parsed as "{@}" and "{['a']}". As in kubectl, a {range} may lack its {end}, and a
dot in ['a.b'] leads on to b unless it is escaped: ['a\\.b'].
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubectl_yoshi.model.errors import UsageError

Values = list[Any]
Step = Callable[[Values], Values]
FIELD_END = set(" \t\r\n.,[]$@{}")
_INDEX = re.compile(r"(-?\d*)(:-?\d*)?(:-?\d*)?")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+)")
_KEY = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_NUMBER = re.compile(r"[+-]?[\d.]+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class NoMatchError(Exception):
    """A template does not fit the object: an index out of bounds, or a filter on a value that is no list."""


@dataclass(frozen=True)
class Action:
    """A chain of steps."""

    steps: tuple[Step, ...]

    def values(self, value: Any) -> Values:
        """Return what the chain finds, starting from one value."""
        found = [value]
        for step in self.steps:
            found = step(found)
        return found


def literal_step(value: Any) -> Step:
    """Step for "x", 3, true: a literal, once for each value."""
    return lambda values: [value for _ in values]


def field(name: str) -> Step:
    """Step for .name: the value of this key, for each value that has it."""

    def step(values: Values) -> Values:
        return [value[name] for value in values if isinstance(value, Mapping) and name in value]

    return step


def _children(value: Any) -> Values:
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, list) else []


def wildcard(values: Values) -> Values:
    """Step for .*: all children of each value."""
    return [child for value in values for child in _children(value)]


def recursive(values: Values) -> Values:
    """Step for ..: each value that has children, and all such values below it."""
    result = []
    for value in values:
        children = _children(value)
        if children:
            result += [value, *recursive(children)]
    return result


def chain(action: Action) -> Step:
    """Step for ['a.b']: what a chain of steps finds."""
    return lambda values: [found for value in values for found in action.values(value)]


def union(steps: list[Step]) -> Step:
    """Step for ['a','b']: what each of the steps finds, one after the other."""
    return lambda values: [found for step in steps for found in step(values)]


def slice_step(start: int | None, stop: int | None, step: int | None, single: bool) -> Step:
    """Step for [1], [1:3:2]: a list's element (`single`) or slice; as in kubectl, indices must be within bounds."""
    if step is not None and step <= 0:
        raise UsageError("JSONPath: step must be > 0", "Write it as [0:10:2].")

    def select(value: Any) -> Values:
        if value is None:
            return []
        if not isinstance(value, list):
            raise NoMatchError(f"{_kind(value)} is not array or slice")
        length = len(value)
        first = 0 if start is None else start + length if start < 0 else start
        last = first + 1 if single else length if stop is None else stop + length if stop < 0 else stop
        if first == last:
            return []
        if not 0 <= first < length:
            raise NoMatchError(f"array index out of bounds: index {first}, length {length}")
        if not 0 <= last <= length:
            raise NoMatchError(f"array index out of bounds: index {last - 1}, length {length}")
        if first > last:
            raise NoMatchError(f"starting index {first} is greater than ending index {last}")
        return value[first : last : step or 1]

    return lambda values: [found for value in values for found in select(value)]


def _elements(values: Values) -> Iterator[Any]:
    for value in values:
        if not isinstance(value, list):
            raise NoMatchError(f"{_kind(value)} is not array or slice and cannot be filtered")
        yield from value


def filter_exists(what: Action) -> Step:
    """Step for [?(@.a)]: the elements in which something is found."""
    return lambda values: [element for element in _elements(values) if what.values(element)]


def filter_compare(left: Action, operator: str, right: Action) -> Step:
    """Step for [?(@.a=="x")]: the elements for which the comparison holds."""

    def is_match(element: Any) -> bool:
        lefts, rights = left.values(element), right.values(element)
        if len(lefts) > 1 or len(rights) > 1:
            raise NoMatchError("can only compare one element at a time")
        return bool(lefts and rights) and _compare(lefts[0], operator, rights[0])

    return lambda values: [element for element in _elements(values) if is_match(element)]


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def _compare(left: Any, operator: str, right: Any) -> bool:
    """Compare like Go's templates: values of different types (also integers and floats) are an error."""
    if _kind(left) != _kind(right) or isinstance(left, (dict, list)):
        raise NoMatchError(f"incompatible types for comparison: {_kind(left)} {operator} {_kind(right)}")
    if isinstance(left, bool) and operator not in ("==", "!="):
        raise NoMatchError(f"invalid type for comparison: {_kind(left)}")
    return OPERATORS[operator](left, right)


def _kind(value: Any) -> str:
    """Return a value's type, for messages."""
    names = {dict: "map", list: "list", str: "string", bool: "bool", int: "int", float: "float", type(None): "null"}
    return names.get(type(value), type(value).__name__)


@dataclass(frozen=True)
class Text:
    """Text between actions."""

    text: str


@dataclass(frozen=True)
class Range:
    """{range …}…{end}: the body once for each value that the action finds."""

    action: Action
    body: tuple[Node, ...]


Node = Text | Action | Range


@dataclass(frozen=True)
class Template:
    """A parsed template; `source` is its text."""

    source: str
    nodes: tuple[Node, ...]

    def render(self, value: Any) -> str:
        """Return what kubectl prints for this value.

        Raises:
            NoMatchError: the template does not fit the value.
        """
        return "".join(_render(self.nodes, value))

    def find(self, value: Any) -> Values:
        """Return every value that the template's actions find."""
        return [found for node in self.nodes if isinstance(node, Action) for found in node.values(value)]


def parse_template(source: str) -> Template:
    """Parse a template.

    Raises:
        UsageError: it is invalid.
    """
    text = source
    if "{" not in text and "}" not in text:
        text = "{" + text + "}" if text[:1] in (".", "[", "$", "@") else text
    return Template(source, _Parser(text).template())


def parse_expression(source: str) -> Template:
    """Parse one expression of custom-columns or --sort-by: "{.a.b}", ".a.b" and "a.b" are equivalent.

    Raises:
        UsageError: it is invalid.
    """
    inner = source[1:-1] if source.startswith("{") and source.endswith("}") else source
    if not inner.strip() or "{" in inner or "}" in inner:
        raise UsageError(f'"{source}" is not a path', "Write it as .metadata.name or {.metadata.name}.")
    if inner[0] not in ".[$@":
        inner = "." + inner
    return Template(source, _Parser("{" + inner + "}").template())


def text_of(value: Any) -> str:
    """Format a value as a template prints it: maps and lists as JSON, all else as Go's fmt does."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return go_text(value)


def go_text(value: Any) -> str:
    """Format a value like Go's fmt.Sprint: <nil>, true, map[a:1 b:2], [1 2]."""
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
    """Format a float like Go's %v: shortest digits, with an exponent below 1e-4 and from 1e21 on."""
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
    """Parses a template from left to right."""

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
        """Parse text and actions up to the end, or up to {end}."""
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
        """Parse the steps up to the closing brace."""
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
                if self.peek() == "[":  # kubectl accepts .['a'] and .[0] too
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
        """Parse [0], [1:3], [-1:], [*], ['key'], ['a','b'], [?(@.a=="x")]."""
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
        """Parse [?(@.a)], [?(@.a=="x")] with ==, !=, <, <=, >, >=."""
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
        """Parse one side of a filter, or a key."""
        parser = _Parser("{" + text.strip() + "}")
        parser.position = 1
        return parser.action()

    def closing(self, bracket: str, start: int | None = None) -> int:
        """Return the position of a closing bracket, ignoring those in quotes."""
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
    """Split at commas that are not in quotes."""
    return re.findall(r"""(?:'[^']*'|"[^"]*"|[^,'"])+""", text)


def _parse_int(digits: str) -> int | None:
    return int(digits) if digits not in ("", "-") else None
