"""The formats of results: tables, JSON, YAML, names, JSONPath and custom columns, as kubectl prints them.

A list of any type has columns for tables, and a JSON object per row for all other formats. Lists in JSON and YAML are
written item by item: neither the text nor the objects of a long list are held in memory. PyYAML and JSONPath are
imported when a format needs them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, name_of
from kubectl_yoshi.model.printable import CONTROL_CHARACTERS, escape_json_controls
from kubectl_yoshi.output.escaping import raw_unless_terminal
from kubectl_yoshi.output.format_option import HUMAN_READABLE, OutputFormat
from kubectl_yoshi.output.tables import (
    NONE,
    Column,
    TableStyle,
    TableWriter,
    align_columns,
    cell_text,
    width,
    write_table,
)

if TYPE_CHECKING:
    from kubectl_yoshi.output import jsonpath


INDENT = 4


def to_list_object(items: list[Json]) -> Json:
    """Return a v1 List, as `kubectl get` prints several objects."""
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}


def to_json_text(value: Any) -> str:
    """Return JSON as kubectl prints it: four spaces, sorted keys. Control characters are escaped."""
    return escape_json_controls(json.dumps(value, indent=INDENT, sort_keys=True, ensure_ascii=False)) + "\n"


def write_json_list(items: Iterable[Json], out: TextIO) -> int:
    """Write a List as to_json_text formats it; return the number of items."""
    head, tail = to_json_text(to_list_object([])).split("[]")
    line_prefix = "\n" + " " * 2 * INDENT
    count = 0
    out.write(head + "[")
    for count, item in enumerate(items, 1):
        text = to_json_text(item).rstrip("\n")
        out.write(("," if count > 1 else "") + line_prefix + text.replace("\n", line_prefix))
    out.write(("\n" + " " * INDENT if count else "") + "]" + tail)
    return count


def write_yaml_list(items: Iterable[Json], out: TextIO) -> int:
    """Write a List as to_yaml formats it; return the number of items."""

    head, tail = to_yaml(to_list_object([])).split(" []\n")
    count = 0
    out.write(head)
    for count, item in enumerate(items, 1):
        out.write(("\n" if count == 1 else "") + to_yaml([item]))
    out.write(("" if count else " []\n") + tail)
    return count


_STRING = "tag:yaml.org,2002:str"
_AMBIGUOUS_IN_GO = re.compile(
    r"[yn]$|[-+]?(\.\d+|\d+(\.\d*)?)(e[-+]?\d+)?$|0[xob][\da-f_]+$|[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?$", re.IGNORECASE
)
"""Strings that PyYAML writes plainly and kubectl would parse as another type: y, 1e3, the MAC 02:00:00:00:00:01."""


def to_yaml(value: Any) -> str:
    """Return a JSON value as a YAML document without "---", as kubectl prints it: block style, sorted keys, no aliases.

    Control characters are escaped.
    """
    import yaml

    text: str = yaml.dump(value, Dumper=_dumper(), default_flow_style=False, width=10**6, allow_unicode=True)
    return escape_json_controls(text.removesuffix("...\n"))


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """A dumper without aliases that writes multi-line text as a literal block."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        ambiguous = dumper.resolve(yaml.ScalarNode, value, (True, False)) != _STRING or _AMBIGUOUS_IN_GO.match(value)
        quoted = ambiguous or CONTROL_CHARACTERS.search(value)
        return dumper.represent_scalar(_STRING, value, style='"' if quoted else "|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper


Row = TypeVar("Row")

WRITERS = {"json": write_json_list, "yaml": write_yaml_list}


@dataclass(frozen=True)
class ListFormat:
    """The requested format of a list.

    Attributes:
        output: the value of -o.
        no_headers: omit the header line of tables.
        single: a single object was requested by name: in JSON and YAML it is printed alone, not in a List.
    """

    output: OutputFormat = HUMAN_READABLE
    no_headers: bool = False
    single: bool = False


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[Column[Row]],
    to_json: Callable[[Row], Json],
    out: TextIO,
    list_format: ListFormat,
) -> int:
    """Print a list in the requested format; tables are written as the rows arrive.

    Args:
        rows: the items to list.
        columns: for tables.
        to_json: convert a row to a JSON object with apiVersion, kind and metadata.
        out: the stream to write to.
        list_format: the format.

    Returns:
        The number of rows, so that the caller can report on stderr that there were none.
    """
    output = list_format.output
    if output.is_human_readable:
        style = TableStyle(wide=output.kind == "wide", headers=not list_format.no_headers)
        return write_table(rows, columns, out, style)
    objects = (to_json(row) for row in rows)
    return print_objects(objects, out, output, no_headers=list_format.no_headers, single=list_format.single)


class RowPrinter(Generic[Row]):
    """Prints a list, and later the rows that have changed, below it and without headers, as `kubectl get -w` does.

    Args:
        columns, to_json, out, list_format: see print_rows.
    """

    def __init__(
        self, columns: Sequence[Column[Row]], to_json: Callable[[Row], Json], out: TextIO, list_format: ListFormat
    ) -> None:
        self._to_json, self._out, self._format = to_json, out, list_format
        style = TableStyle(wide=list_format.output.kind == "wide", headers=not list_format.no_headers)
        self._writer = TableWriter(out, columns, style)

    def print_list(self, rows: Sequence[Row]) -> int:
        """Print the list; return the number of rows."""
        if self._format.output.is_human_readable:
            self._writer.pages(rows)
            return len(rows)
        objects = map(self._to_json, rows)
        headers, single = self._format.no_headers, self._format.single
        return print_objects(objects, self._out, self._format.output, no_headers=headers, single=single)

    def print_changed(self, rows: Sequence[Row]) -> None:
        """Print rows that have changed; objects are printed one by one, not in a List."""
        if self._format.output.is_human_readable:
            self._writer.pages(rows)
            return
        for row in rows:
            if self._format.output.kind == "yaml":
                self._out.write("---\n")
            print_objects([self._to_json(row)], self._out, self._format.output, no_headers=True, single=True)

    def shown(self, row: Row) -> object:
        """Return what is printed of a row, without what changes with time alone, to find out whether it has changed."""
        if not self._format.output.is_human_readable:
            return without_managed_fields(self._to_json(row))
        return tuple(cell_text(column.cell(row)) for column in self._writer.columns if not column.volatile)


def print_objects(
    objects: Iterable[Json],
    out: TextIO,
    output: OutputFormat,
    *,
    no_headers: bool = False,
    single: bool = False,
) -> int:
    """Print JSON objects in a format other than a table, as they arrive; return their number. See ListFormat."""
    items = map(without_managed_fields, objects)
    if output.template is not None:
        out = raw_unless_terminal(out)
    if output.kind == "name":
        return _write_names(items, out)
    if output.kind in WRITERS and not single:
        return WRITERS[output.kind](items, out)
    all_items = list(items)
    if output.kind == "custom-columns":
        _print_custom_columns(all_items, out, output, no_headers)
    else:
        out.write(object_text(all_items[0] if single and len(all_items) == 1 else to_list_object(all_items), output))
    return len(all_items)


def object_text(value: Any, output: OutputFormat) -> str:
    """Return one JSON value as JSON, as YAML, or as rendered by a jsonpath template."""
    if output.template is not None:
        return _render(output.template, value)
    if output.kind == "yaml":
        return to_yaml(value)
    return to_json_text(value)


def kind_and_name(obj: Json) -> str:
    """Return an object's name in the format of -o name: "networkwizard.plumber.k8s.pf9.io/blue", "service/web"."""
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    kind = str(obj.get("kind", "")).lower()
    return f"{kind}.{group}/{name_of(obj)}" if group else f"{kind}/{name_of(obj)}"


def without_managed_fields(obj: Json) -> Json:
    """Return the object without managedFields, which kubectl does not print either."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}


def _render(template: jsonpath.Template, value: Any) -> str:
    from kubectl_yoshi.output import jsonpath

    try:
        return template.render(value)
    except jsonpath.NoMatchError as error:
        raise YoshiError(
            f"error executing jsonpath {template.source!r}: {error}", "Look at the object with -o json first."
        ) from error


def _write_names(items: Iterable[Json], out: TextIO) -> int:
    count = 0
    for item in items:
        out.write(f"{kind_and_name(item)}\n")
        count += 1
    return count


def _print_custom_columns(items: list[Json], out: TextIO, output: OutputFormat, no_headers: bool) -> None:
    lines = [[_custom_cell(path, item) for _, path in output.columns] for item in items]
    if not no_headers:
        lines.insert(0, [header for header, _ in output.columns])
    if lines:
        widths = [max(map(width, cells)) for cells in zip(*lines, strict=True)]
        out.write("\n".join(align_columns(lines, lines, widths)) + "\n")


def _custom_cell(path: jsonpath.Template, item: Json) -> str:
    from kubectl_yoshi.output import jsonpath

    try:
        values = path.find(item)
    except jsonpath.NoMatchError as error:
        raise YoshiError(
            f"error executing custom column {path.source!r}: {error}", "Look at the object with -o json first."
        ) from error
    if not values:
        return NONE
    return cell_text(",".join(jsonpath.go_text(value) for value in values))
