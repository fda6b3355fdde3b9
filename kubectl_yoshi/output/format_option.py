"""The value of -o, parsed before any request to the cluster.

Expensive modules are imported when a format needs them: printing a table does not import JSONPath.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_yoshi.model.errors import UsageError

if TYPE_CHECKING:
    from kubectl_yoshi.output.jsonpath import Template

FORMATS = ("wide", "json", "yaml", "name", "jsonpath", "jsonpath-file", "custom-columns", "custom-columns-file")
"""The formats of -o, which every command with a result accepts; without -o, sentences or a table are printed."""
FORMATS_WITH_VALUE = ("jsonpath", "jsonpath-file", "custom-columns", "custom-columns-file")
_FOR_PROGRAMS = tuple(word.removesuffix("-file") for word in FORMATS if word != "wide")
_GO_TEMPLATES = ("go-template", "go-template-file", "template", "templatefile")


@dataclass(frozen=True)
class OutputFormat:
    """A requested output format.

    Attributes:
        kind: "" for human-readable output, "wide", "json", "yaml", "name", "jsonpath", "custom-columns", or a format
            that only one command has.
        template: for jsonpath.
        columns: for custom-columns, headers and paths.
    """

    kind: str = ""
    template: Template | None = None
    columns: tuple[tuple[str, Template], ...] = ()

    @property
    def is_human_readable(self) -> bool:
        """Return whether no objects are requested, but what people read, such as a table."""
        return self.kind not in _FOR_PROGRAMS


HUMAN_READABLE = OutputFormat()


def parse_output(text: str, other_formats: Sequence[str] = ()) -> OutputFormat:
    """Parse the value of -o, including templates and their files, so that errors are reported before any request.

    Args:
        text: the value.
        other_formats: formats that only this command has, such as pictures.

    Raises:
        UsageError: the format does not exist, or its template is invalid.
    """
    kind, equals, value = text.partition("=")
    if kind in _GO_TEMPLATES:
        raise UsageError(
            f"-o {kind} is not supported: it needs Go", "Use -o jsonpath=…, -o custom-columns=… or -o json."
        )
    if kind not in (*FORMATS, *other_formats):
        hint = _formats_hint(other_formats)
        raise UsageError(f'unable to match a printer suitable for the output format "{kind}"', hint)
    if kind not in FORMATS_WITH_VALUE:
        if equals:
            raise UsageError(f'the output format "{kind}" takes no value', _formats_hint(other_formats))
        return OutputFormat(kind)
    if not value:
        raise UsageError(f"{kind} format specified but no value given", f"Write it as -o {kind}=….")
    if kind.endswith("-file"):
        kind, value = kind[: -len("-file")], _read_file(value)
        if kind == "custom-columns":
            value = _parse_columns_file(value)
    if kind == "jsonpath":
        from kubectl_yoshi.output.jsonpath import parse_template

        return OutputFormat(kind, template=parse_template(value))
    return OutputFormat(kind, columns=tuple(_parse_custom_column(column) for column in value.split(",")))


def _formats_hint(other_formats: Sequence[str]) -> str:
    words = (word + ("=…" if word in FORMATS_WITH_VALUE else "") for word in (*other_formats, *FORMATS))
    return f"Allowed are {', '.join(words)}."


def _read_file(path: str) -> str:
    from pathlib import Path

    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the text is not UTF-8"
        raise UsageError(f"cannot read {path}: {reason}", "Name a file of UTF-8 text.") from error


def _parse_columns_file(text: str) -> str:
    """Convert kubectl's file format: a line of headers above a line of paths."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) != 2 or len(lines[0]) != len(lines[1]):
        raise UsageError(
            "the custom-columns file is not valid",
            "It needs a line of headers and, below it, a line of as many paths.",
        )
    return ",".join(f"{header}:{path}" for header, path in zip(*lines, strict=True))


def _parse_custom_column(text: str) -> tuple[str, Template]:
    from kubectl_yoshi.output.jsonpath import parse_expression

    header, colon, path = text.partition(":")
    if not colon or not header or not path:
        raise UsageError(
            f"unexpected custom-columns spec: {text}, expected <header>:<json-path-expr>",
            "For instance -o custom-columns=NAME:.metadata.name,CIDR:.spec.cidr",
        )
    return header, parse_expression(path)
