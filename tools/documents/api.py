"""docs/reference/api.md: the resources of the program with their fields, from the CRDs that `install` creates."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import yaml

Json = dict[str, Any]

HEAD = """\
# API

<!-- Generated from kubectl_yoshi/manifests/crds.yaml by `make documents`; change the descriptions there instead. -->

The resources that `kubectl yoshi install` creates. `kubectl explain networkwizard.spec` prints the same. Users write
`spec`; `status` is written by `kubectl yoshi`.
"""


def api_page() -> str:
    """Return the text of docs/reference/api.md."""
    text = files("kubectl_yoshi.manifests").joinpath("crds.yaml").read_text(encoding="utf-8")
    return "\n".join([HEAD, *(_section(crd) for crd in yaml.safe_load_all(text))])


def _section(crd: Json) -> str:
    spec = crd["spec"]
    names = spec["names"]
    parts = []
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        parts += [
            f"## {names['kind']}\n",
            f"{_sentence(schema)}\n",
            f"- apiVersion: `{spec['group']}/{version['name']}`, kind: `{names['kind']}`, {spec['scope'].lower()}",
            f"- names for kubectl: {', '.join(f'`{name}`' for name in _kubectl_names(names))}\n",
            _columns(version["additionalPrinterColumns"]),
        ]
        parts += [
            _object(f"{names['kind']} {part}", part, schema["properties"][part])
            for part in ("spec", "status")
            if part in schema["properties"]
        ]
    return "\n".join(parts)


def _kubectl_names(names: Json) -> list[str]:
    return [names["plural"], names["singular"], *names["shortNames"]]


def _columns(columns: list[Json]) -> str:
    rows = [
        f"| {column['name'].upper()} | {'only with `-o wide`: ' if column.get('priority') else ''}"
        f"{_cell(column['description'])} |"
        for column in columns
    ]
    return "\n".join(["| column | description |", "|---|---|", *rows]) + "\n"


def _object(title: str, path: str, schema: Json) -> str:
    """Return the table of an object's fields, with the fields of the objects in it."""
    rows = [f"| `{field}` | {_cell(kind)} | {_cell(text)} |" for field, kind, text in _fields(path, schema)]
    table = "\n".join(["| field | type | description |", "|---|---|---|", *rows]) + "\n"
    return "\n".join([f"### {title}\n", f"{_sentence(schema)}\n", table, *_rules(schema)])


def _fields(path: str, schema: Json) -> Iterator[tuple[str, str, str]]:
    """Yield path, type and description of each field below an object, list or map."""
    for name, field in schema.get("properties", {}).items():
        inner = f"{path}.{name}"
        required = "Required. " if name in schema.get("required", ()) else ""
        yield inner, _type(field), required + _description(field)
        yield from _fields_inside(inner, field)


def _fields_inside(path: str, field: Json) -> Iterator[tuple[str, str, str]]:
    if "items" in field:
        yield from _fields(f"{path}[]", field["items"])
    elif isinstance(field.get("additionalProperties"), dict):
        inner = field["additionalProperties"]
        yield from _fields(f"{path}.KEY" + ("[]" if "items" in inner else ""), inner.get("items", inner))
    else:
        yield from _fields(path, field)


def _type(field: Json) -> str:
    """Return a type in the notation of `kubectl explain`: string, []string, map[string]Object."""
    if "items" in field and "type" in field:
        return f"[]{_type(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map[string]{_type(field['additionalProperties'])}"
    if field.get("type") == "object" or "properties" in field:
        return "Object"
    return str(field.get("format") if field.get("format") == "date-time" else field.get("type", "any"))


def _description(field: Json) -> str:
    texts = [_sentence(field)]
    if "enum" in field:
        texts.append(f"One of {', '.join(f'`{value}`' for value in field['enum'])}.")
    if field.get("default") not in (None, {}):
        texts.append(f"Default: `{field['default']}`.")
    return " ".join(filter(None, texts))


def _rules(schema: Json) -> list[str]:
    """Return the messages of the rules that compare fields, as a list."""
    messages = [str(rule["message"]) for rule in schema.get("x-kubernetes-validations", ())]
    return ["Rules:\n", "\n".join(f"- {message}" for message in messages) + "\n"] if messages else []


def _sentence(schema: Json) -> str:
    return " ".join(str(schema.get("description", "")).split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("->", "→")
