"""A v1 List in JSON or YAML, written item by item: of a long one neither its text nor its objects are held."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TextIO

from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.printable import escape_json_controls

INDENT = 4


def to_list_object(items: list[Json]) -> Json:
    """A v1 List, as `kubectl get` prints several objects."""
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}


def to_json_text(value: Any) -> str:
    """JSON as kubectl prints it: four spaces, keys in order. What a terminal would obey is escaped."""
    return escape_json_controls(json.dumps(value, indent=INDENT, sort_keys=True, ensure_ascii=False)) + "\n"


def write_json_list(items: Iterable[Json], out: TextIO) -> int:
    """Writes what to_json_text makes of such a List. Gives the number of items."""
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
    """Writes what to_yaml makes of such a List. Gives the number of items."""
    from kubectl_yoshi.output.yamls import to_yaml

    head, tail = to_yaml(to_list_object([])).split(" []\n")
    count = 0
    out.write(head)
    for count, item in enumerate(items, 1):
        out.write(("\n" if count == 1 else "") + to_yaml([item]))
    out.write(("" if count else " []\n") + tail)
    return count
