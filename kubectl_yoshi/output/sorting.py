"""--sort-by: order the rows of a list by a JSONPath, as kubectl does, or by a column.

As in kubectl, texts are compared naturally (`web-2` before `web-10`), numbers by their value, and a row without the
field comes first. A column is named by its header in lower case, with "-" for spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.output.tables import Column, cell_text

if TYPE_CHECKING:
    from kubectl_yoshi.output.jsonpath import Template

Row = TypeVar("Row")
SortKey = tuple[Any, ...]
"""A key whose first item is the kind of the value, so that values of different kinds can be compared."""


@dataclass(frozen=True)
class SortBy:
    """A parsed value of --sort-by.

    Attributes:
        source: the text.
        path: the JSONPath; None for the name of a column.
    """

    source: str
    path: Template | None = None


def parse_sort_by(text: str) -> SortBy:
    """Parse the value of --sort-by: a word is a column, everything else a JSONPath.

    Raises:
        UsageError: it is neither.
    """
    if re.fullmatch(r"[a-z][a-z-]*%?", text):
        return SortBy(text)
    from kubectl_yoshi.output.jsonpath import parse_expression

    return SortBy(text, parse_expression(text))


def make_sorter(
    sort_by: SortBy | None, columns: Sequence[Column[Row]], to_json: Callable[[Row], Json]
) -> Callable[[list[Row]], list[Row]]:
    """Return a function that sorts rows, stably; it keeps their order if `sort_by` is None.

    Raises:
        UsageError: there is no such column. The returned function raises it if no row has the field of a JSONPath.
    """
    if sort_by is None:
        return lambda rows: rows
    if sort_by.path is None:
        column_key = _column_key(sort_by.source, columns)
        return lambda rows: sorted(rows, key=column_key)
    path = sort_by.path

    def sort_by_path(rows: list[Row]) -> list[Row]:
        values = [path.find(to_json(row)) for row in rows]
        if rows and not any(values):
            raise UsageError(
                f'couldn\'t find any field with path "{sort_by.source}" in the list of objects',
                "Look at an object with -o json.",
            )
        keys = [_value_key(found[0] if found else None) for found in values]
        order = sorted(range(len(rows)), key=keys.__getitem__)
        return [rows[number] for number in order]

    return sort_by_path


def _column_key(name: str, columns: Sequence[Column[Row]]) -> Callable[[Row], SortKey]:
    by_name = {column.header.lower().replace(" ", "-"): column for column in columns}
    if name not in by_name:
        raise UsageError(
            f'--sort-by: there is no column "{name}"',
            f"Choose one of {', '.join(by_name)}, or a JSONPath such as .metadata.name.",
        )
    column = by_name[name]
    value = column.sort_key or (lambda row: cell_text(column.cell(row)))
    return lambda row: _value_key(value(row))


def _value_key(value: object) -> SortKey:
    if value is None:
        return (0,)
    if isinstance(value, (bool, int, float)):
        return (1, value)
    return (2, *natural_key(str(value)))


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that compares the numbers in a text by their value."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
