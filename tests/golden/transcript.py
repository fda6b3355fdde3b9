"""The transcript of a command line, as readable text that is the same on every machine."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.golden.seam import VERSION
from tests.golden.transport import Exchange, all_of

LONGEST_VALUE = 2000
"""Characters of a value in a body that are shown; a longer one, such as a CRD's schema, is shown by its digest."""
MOST_LINES = 150
"""Lines of an output that are shown."""
SHORT = 280
"""Characters of a JSON value that stands on one line."""

RANDOM_MAC = re.compile(r"\b02(?!:00:00):[0-9a-f]{2}(?::[0-9a-f]{2}){4}\b")
"""A MAC address that the program has drawn: those of the scenarios begin otherwise, or with 02:00:00."""

LIST_VERSION = re.compile(r"\bresourceVersion=\d{4,}")
"""The resource version of a list, which counts all writes before it."""

USUAL_HEADERS = {"accept", "accept-encoding", "user-agent", "content-type"}
ACCEPTED = {
    "application/json": "",
    "*/*": "anything",
    "application/json;as=Table;v=v1;g=meta.k8s.io": "Table",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json": "discovery",
}


@dataclass(frozen=True)
class Entry:
    """A command line that was run.

    Attributes:
        name: unique within its subject.
        code: the exit code.
        out, err: what was printed.
        exchanges: the requests.
        home: the user's folder, which is named differently in each recording.
    """

    name: str
    code: int
    out: str
    err: str
    exchanges: list[Exchange]
    home: str

    def text(self, macs: dict[str, str]) -> str:
        """Return the transcript.

        Args:
            macs: random MAC addresses that appeared before in the scenario, and what they are shown as.
        """
        by_round = list(all_of(self.exchanges))
        counts = f"{len(self.exchanges)} requests in {len(by_round)} rounds"
        lines = [f"=== {self.name}", f"exit code {self.code}, {counts}"]
        for title, printed in (("stdout", self.out), ("stderr", self.err)):
            if printed:
                lines += [f"{title}:", *_shown(printed)]
        for exchanges in by_round:
            lines += [_title(exchanges), *sorted(map(_request, exchanges))]
        return _with_constant_macs(_constant("\n".join(lines), self.home), macs) + "\n\n"


def _shown(text: str) -> list[str]:
    lines = [f"| {line}".rstrip(" ") for line in text.removesuffix("\n").split("\n")]
    if not text.endswith("\n"):
        lines.append("(no line feed at the end)")
    if len(lines) <= MOST_LINES:
        return lines
    rest = "\n".join(lines[MOST_LINES:])
    return [*lines[:MOST_LINES], f"({len(lines) - MOST_LINES} more lines, {_digest(rest)})"]


def _title(exchanges: list[Exchange]) -> str:
    """Return the line before a round; without its number, or each round after a new one would differ."""
    sizes = Counter(exchange.position.pool for exchange in exchanges)
    workers = {exchange.position.pool: exchange.position.workers for exchange in exchanges}
    at_once = sum(min(workers[pool], size) if pool else size for pool, size in sizes.items())
    limit = f", at most {at_once} at once" if at_once < len(exchanges) else ""
    count = f"{len(exchanges)} request{'' if len(exchanges) == 1 else 's'}"
    return f"round of {count}{limit}"


def _request(exchange: Exchange) -> str:
    request = exchange.request
    first = f"  {request.method} {request.path}"
    if content_type := request.headers.get("content-type", ""):
        first += f" ({content_type.removeprefix('application/')})"
    accept = request.headers.get("accept", "")
    if accept := ACCEPTED.get(accept, accept):
        first += f" (accept: {accept})"
    if not exchange.result.startswith("2"):
        first += f" -> {exchange.result}"
    lines = [f"    {name}: {value}" for name, value in sorted(request.headers.items()) if name not in USUAL_HEADERS]
    return "\n".join([first, *lines, *(f"    {line}" for line in _body(request.body))])


def _body(text: str) -> list[str]:
    if not text:
        return []
    try:
        content = _shortened(json.loads(text))
    except ValueError:
        return text.splitlines()
    if isinstance(content, list):
        return [json.dumps(operation) for operation in content]
    return _indented(content)


def _indented(content: Any, before: str = "", after: str = "") -> list[str]:
    """Return JSON on one line where it is short or a list of scalars, else an item a line."""
    line = json.dumps(content)
    is_flat = isinstance(content, list) and not any(isinstance(one, dict | list) for one in content)
    if len(line) <= SHORT or is_flat or not isinstance(content, dict | list):
        return [f"{before}{line}{after}"]
    items = list(content.items() if isinstance(content, dict) else enumerate(content))
    opened, closed = "{}" if isinstance(content, dict) else "[]"
    lines = [f"{before}{opened}"]
    for number, (key, value) in enumerate(items):
        name = f"{json.dumps(key)}: " if isinstance(content, dict) else ""
        comma = "," if number + 1 < len(items) else ""
        lines += [f" {text}" for text in _indented(value, name, comma)]
    return [*lines, f"{closed}{after}"]


def _shortened(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _shortened(value) for key, value in content.items()}
    if isinstance(content, list):
        text = json.dumps(content)
        return f"<{_digest(text)}>" if len(text) > LONGEST_VALUE and not _operations(content) else content
    if isinstance(content, str) and len(content) > LONGEST_VALUE:
        return f"<{_digest(content)}>"
    return content


def _operations(content: list[Any]) -> bool:
    return all(isinstance(one, dict) and "op" in one for one in content)


def _digest(text: str) -> str:
    return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _with_constant_macs(text: str, macs: dict[str, str]) -> str:
    """Number the random MAC addresses: which ones are drawn depends on how often a plan is made."""

    def number(match: re.Match[str]) -> str:
        return macs.setdefault(match[0], f"02:xx:xx:xx:xx:{len(macs) + 1:02}")

    return RANDOM_MAC.sub(number, text)


def _constant(text: str, home: str) -> str:
    """Replace what differs from machine to machine, and from version to version."""
    text = LIST_VERSION.sub("resourceVersion=<version of a list>", text.replace(home, "<home>"))
    for version, name in ((platform.python_version(), "<python version>"), (VERSION, "<version>")):
        text = re.sub(rf"(?<![\d.]){re.escape(version)}(?![\d.])", name, text)
    return text
