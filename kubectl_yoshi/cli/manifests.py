"""-f: read objects from YAML and JSON files, directories and stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.objects import Json

SUFFIXES = (".yaml", ".yml", ".json")


def read_objects(filenames: Iterable[str]) -> list[Json]:
    """Return the Kubernetes objects in files, and the items of a v1 List instead of the list.

    Args:
        filenames: files, directories (their *.yaml, *.yml and *.json, without subdirectories), "-" for stdin.

    Raises:
        UsageError: a file cannot be read, is not valid YAML, or contains something else than Kubernetes objects.
    """
    return [obj for name in filenames for source, text in _read_texts(name) for obj in parse_objects(text, source)]


def parse_objects(text: str, source: str) -> list[Json]:
    """Return the objects of a text; `source` is its name in messages."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = list(yaml.load_all(text, Loader=_json_compatible_loader(loader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(
            f"{source}{line}: this is not valid YAML: {error.problem or error.context}",
            "Correct the file; nothing was changed.",
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(
            f"{source}: this is not valid YAML: {str(error).splitlines()[0]}", "Correct the file; nothing was changed."
        ) from error
    objects = [obj for number, document in enumerate(documents, 1) for obj in _objects(document, source, number)]
    if not objects:
        raise UsageError(f"{source}: no objects in it", "Give a file with at least one Kubernetes object.")
    return objects


def _read_texts(name: str) -> Iterator[tuple[str, str]]:
    if name == "-":
        yield "stdin", sys.stdin.read()
        return
    if name.startswith(("http://", "https://")):
        raise UsageError(f"{name}: URLs are not supported", f"Fetch it yourself: curl -L {name} | … -f -")
    path = Path(name)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise UsageError(f"{name}: no {', '.join(SUFFIXES)} files in this folder", "Check the path after -f.")
    for file in files:
        yield str(file), _read_file(file)


def read_text(name: str) -> tuple[str, str]:
    """Return the name for messages and the text of a file ("-" for stdin).

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    return ("stdin", sys.stdin.read()) if name == "-" else (name, _read_file(Path(name)))


def _read_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", "Check the path after -f.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: the text is not UTF-8", "Save it as UTF-8.") from error


def _objects(document: Any, source: str, number: int) -> Iterator[Json]:
    if document is None:
        return
    location = f"{source}, document {number}" if number > 1 else source
    hint = "Every document needs apiVersion, kind and metadata.name."
    if not isinstance(document, dict):
        raise UsageError(f"{location}: this is not a Kubernetes object", hint)
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str) or not document[field]:
            raise UsageError(f"{location}: the object has no {field}", hint)
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _objects(item, source, number)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise UsageError(f"{location}: the {document['kind']} has no metadata.name", hint)
    if not isinstance(metadata["name"], str):
        raise UsageError(f'{location}: metadata.name must be a string: write "{metadata["name"]}" in quotes', hint)
    yield document


def _json_compatible_loader(base: Any) -> Any:
    """Return a loader of JSON-compatible values: times stay strings, as in kubectl. It refuses repeated keys."""
    from yaml.constructor import ConstructorError

    class Loader(base):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.start_mark.index < node.start_mark.index or not isinstance(key.value, str):
                    continue  # merged in (<<) from a mapping before it, or no plain key
                if key.value in seen:
                    raise ConstructorError(None, None, f"{key.value} is a duplicate key", key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    return Loader
