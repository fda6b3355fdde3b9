"""Validate what commands print with -o json and -o yaml: objects of the program's own kinds fit their schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

API_VERSION = "cli.plumber.k8s.pf9.io/v1alpha1"
SCHEMA = Path(__file__).parent.parent / "docs" / "reference" / "output.schema.json"


@cache
def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of the documentation."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return schema


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema = load_schema()
    assert kind in schema["$defs"], f"{SCHEMA.name} has no kind {kind}"
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})


def check_output(words: Sequence[str], out: str) -> None:
    """Validate the objects that a command line printed, if it asked for JSON or YAML.

    Raises:
        AssertionError: the output is not JSON or YAML, or an object does not fit the schema of its kind.
    """
    for obj in printed_objects(words, out):
        if obj.get("apiVersion") == API_VERSION:
            found = [f"{error.json_path}: {error.message}" for error in _validator(obj["kind"]).iter_errors(obj)]
            assert not found, f"{obj['kind']} printed by {' '.join(words)}: {'; '.join(found)}"


def printed_objects(words: Sequence[str], out: str) -> list[dict[str, Any]]:
    """Return the objects in the output of a command line with -o json or -o yaml; [] for other formats."""
    if "diff" in words:
        return []
    formats = [after for word, after in pairwise([*words, ""]) if word in ("-o", "--output")]
    documents = {"json": _json_documents, "yaml": yaml.safe_load_all}.get(formats[-1] if formats else "")
    found = list(documents(out)) if documents and out else []
    return [obj for document in found for obj in (document["items"] if document["kind"] == "List" else [document])]


def _json_documents(text: str) -> Iterator[Any]:
    """Yield the values of a text, of which --watch prints several."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text.rstrip()):
        value, position = decoder.raw_decode(text, position)
        yield value
        position += len(text[position:]) - len(text[position:].lstrip())
