"""YAML as kubectl prints it: block style, keys in order, no aliases. PyYAML is imported when first needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, TextIO

from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.printable import CONTROL_CHARACTERS, escape_json_controls

_STRING = "tag:yaml.org,2002:str"
_AMBIGUOUS_IN_GO = re.compile(
    r"[yn]$|[-+]?(\.\d+|\d+(\.\d*)?)(e[-+]?\d+)?$|0[xob][\da-f_]+$|[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?$", re.IGNORECASE
)
"""Text that PyYAML would write plainly and kubectl would not take for text: y, 1e3, the MAC 02:00:00:00:00:01."""


def to_yaml(value: Any) -> str:
    """A JSON value as a YAML document without its "---". What a terminal would obey is escaped."""
    import yaml

    text: str = yaml.dump(value, Dumper=_dumper(), default_flow_style=False, width=10**6, allow_unicode=True)
    return escape_json_controls(text.removesuffix("...\n"))


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
        ambiguous = dumper.resolve(yaml.ScalarNode, value, (True, False)) != _STRING or _AMBIGUOUS_IN_GO.match(value)
        quoted = ambiguous or CONTROL_CHARACTERS.search(value)
        return dumper.represent_scalar(_STRING, value, style='"' if quoted else "|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper
