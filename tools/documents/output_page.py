"""docs/reference/output.md: the formats of each command, and the kinds of objects that only this program prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubectl_yoshi.output.format_option import FORMATS
from tools.documents.tree import pages

SCHEMA = Path(__file__).parent.parent.parent / "docs" / "reference" / "output.schema.json"
HEAD = """\
# Output for scripts

<!-- Generated from the program and output.schema.json by `make documents`; change these instead. -->

Without `-o` a command prints a table or sentences for people, which may change. With `-o json`, `yaml`, `name`,
`jsonpath` or `custom-columns`

- stdout has only objects; notes, progress and errors are on stderr, and the [exit code](commands.md#exit-codes) is the
  same;
- several objects are one `v1` List; an object that the command line names, alone, is printed alone;
- a VM or an address for which the command failed has an object with `status.error`; a command that fails as a whole
  prints nothing on stdout;
- with `--dry-run` the objects are those that would result.

`kubectl yoshi vm attach web-1 --network blue -o jsonpath='{.status.address}'` prints the address of the VM.
"""
TABLE = """\
## Commands and formats

References have only `apiVersion`, `kind`, `metadata.name` and `metadata.namespace`: of objects that were deleted, and
in `sync` of those that were created or changed. `ips map` also takes `-o terminal`, its default, `svg` and `html`.
"""
KINDS = """\
## Kinds

The objects of these kinds exist in no API server. Their `apiVersion` is `cli.plumber.k8s.pf9.io/v1alpha1`, and their
JSON Schema is [output.schema.json](output.schema.json).
"""


def output_page() -> str:
    """The text of docs/reference/output.md."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    kinds = [one["$ref"].rpartition("/")[2] for one in schema["oneOf"]]
    return "\n".join([HEAD, TABLE, _formats(), KINDS, *(_kind(kind, schema["$defs"]) for kind in kinds)])


def _formats() -> str:
    rows = [
        f"| `{' '.join(page.words[1:])}` | {' | '.join(['✓' if page.kinds else '–'] * len(FORMATS))} "
        f"| {', '.join(page.kinds or ()) or '–'} |"
        for page in pages()
        if page.words[1:] and not page.below
    ]
    header = f"| command | {' | '.join(FORMATS)} | objects |"
    return "\n".join([header, "|---" * (len(FORMATS) + 2) + "|", *rows]) + "\n"


def _kind(kind: str, definitions: dict[str, Any]) -> str:
    definition = definitions[kind]
    rows = [f"| `{path}` | {type_} | {meaning} |" for path, type_, meaning in _fields("", definition, definitions)]
    table = "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])
    return f"### {kind}\n\n{definition['description']}\n\n{table}\n"


def _fields(path: str, definition: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield path, type and meaning of each field, without apiVersion and kind, each object before its fields."""
    for name, field in definition.get("properties", {}).items():
        if "const" in field:
            continue
        target = _resolve(field, definitions)
        below, own = f"{path}.{name}", target.get("description", "")
        if own or not target.get("properties"):
            types = target["type"] if isinstance(target["type"], list) else [target["type"]]
            yield below.removeprefix("."), " or ".join(types), own
        if "$ref" not in field or not field["$ref"].startswith("#/$defs/Address/"):  # which has a table of its own
            yield from _fields(below, target, definitions)
        if "items" in target:
            yield from _fields(f"{below}[]", _resolve(target["items"], definitions), definitions)


def _resolve(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a field with what its $ref refers to; its own description takes precedence."""
    target: Any = {"$defs": definitions}
    for step in field.get("$ref", "").removeprefix("#/").split("/") if "$ref" in field else ():
        target = target[step]
    return {**target, **field} if "$ref" in field else field
