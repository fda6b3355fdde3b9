"""What the steps of a JSONPath do, as kubectl does it: each takes a list of values to a list of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubectl_yoshi.model.errors import UsageError

Values = list[Any]
Step = Callable[[Values], Values]


class NoMatchError(Exception):
    """A template does not fit the object: an index out of bounds, a filter on what is no list."""


@dataclass(frozen=True)
class Action:
    """A chain of steps."""

    steps: tuple[Step, ...]

    def values(self, value: Any) -> Values:
        """What the chain finds, starting from one value."""
        found = [value]
        for step in self.steps:
            found = step(found)
        return found


def literal_step(value: Any) -> Step:
    """ "x", 3, true: a literal, once for each value."""
    return lambda values: [value for _ in values]


def field(name: str) -> Step:
    """.name: what is under this key, of those values that have it."""

    def step(values: Values) -> Values:
        return [value[name] for value in values if isinstance(value, Mapping) and name in value]

    return step


def _children(value: Any) -> Values:
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, list) else []


def wildcard(values: Values) -> Values:
    """.*: everything in each value."""
    return [child for value in values for child in _children(value)]


def recursive(values: Values) -> Values:
    """..: each value that has something in it, and all such values below it."""
    result = []
    for value in values:
        children = _children(value)
        if children:
            result += [value, *recursive(children)]
    return result


def chain(action: Action) -> Step:
    """['a.b']: what a chain of steps finds."""
    return lambda values: [found for value in values for found in action.values(value)]


def union(steps: list[Step]) -> Step:
    """['a','b']: what each of the steps finds, one after the other."""
    return lambda values: [found for step in steps for found in step(values)]


def slice_step(start: int | None, stop: int | None, step: int | None, single: bool) -> Step:
    """[1], [1:3:2]: a list's element (`single`) or a stretch of it; as in kubectl, indices must be within bounds."""
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
    """[?(@.a)]: the elements in which something is found."""
    return lambda values: [element for element in _elements(values) if what.values(element)]


def filter_compare(left: Action, operator: str, right: Action) -> Step:
    """[?(@.a=="x")]: the elements of which the comparison holds."""

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
    """As Go's templates: both of one kind (integers and floats are kinds of their own), else it is an error."""
    if _kind(left) != _kind(right) or isinstance(left, (dict, list)):
        raise NoMatchError(f"incompatible types for comparison: {_kind(left)} {operator} {_kind(right)}")
    if isinstance(left, bool) and operator not in ("==", "!="):
        raise NoMatchError(f"invalid type for comparison: {_kind(left)}")
    return OPERATORS[operator](left, right)


def _kind(value: Any) -> str:
    """A value's type, for messages."""
    names = {dict: "map", list: "list", str: "string", bool: "bool", int: "int", float: "float", type(None): "null"}
    return names.get(type(value), type(value).__name__)
