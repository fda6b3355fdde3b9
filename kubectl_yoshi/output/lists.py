"""A v1 List in JSON or YAML, written item by item: of a long one neither its text nor its objects are held."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TextIO

from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.printable import escaped

INDENT = 4


def as_list(items: list[Json]) -> Json:
    """A v1 List, as `kubectl get` prints several objects."""
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}


def to_json_text(value: Any) -> str:
    """JSON as kubectl prints it: four spaces, keys in order. What a terminal would obey is escaped."""
    return escaped(json.dumps(value, indent=INDENT, sort_keys=True, ensure_ascii=False)) + "\n"


def write_json_list(items: Iterable[Json], out: TextIO) -> int:
    """Writes what to_json_text makes of such a List. Gives the number of items."""
    before, after = to_json_text(as_list([])).split("[]")
    deeper = "\n" + " " * 2 * INDENT
    count = 0
    out.write(before + "[")
    for count, item in enumerate(items, 1):
        text = to_json_text(item).rstrip("\n")
        out.write(("," if count > 1 else "") + deeper + text.replace("\n", deeper))
    out.write(("\n" + " " * INDENT if count else "") + "]" + after)
    return count


def write_yaml_list(items: Iterable[Json], out: TextIO) -> int:
    """Writes what to_yaml makes of such a List. Gives the number of items."""
    from kubectl_yoshi.output.yamls import to_yaml

    before, after = to_yaml(as_list([])).split(" []\n")
    count = 0
    out.write(before)
    for count, item in enumerate(items, 1):
        out.write(("\n" if count == 1 else "") + to_yaml([item]))
    out.write(("" if count else " []\n") + after)
    return count
