"""YAML as kubectl prints it: block style, keys in order, no aliases. PyYAML is imported when first needed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TextIO

from kubectl_yoshi.model.objects import Json


def to_yaml(value: Any) -> str:
    """A JSON value as a YAML document without its "---"."""
    import yaml

    return str(yaml.dump(value, Dumper=_dumper(), default_flow_style=False, width=10**6, allow_unicode=True))


def write_documents(objects: Iterable[Json], out: TextIO) -> None:
    """Objects as documents of one stream, "---" between them."""
    for number, obj in enumerate(objects):
        out.write(("---\n" if number else "") + to_yaml(obj))


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """No aliases, and text of several lines as a literal block."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper
