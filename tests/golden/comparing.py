"""Comparing transcripts with the recorded ones, entry by entry."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

TRACES = Path(__file__).parent / "traces"
TITLE = "=== "
COUNTS = re.compile(r"(?<=\d), (\d+) requests in (\d+) rounds$", re.MULTILINE)
READS = ("round of ", "  GET ", "  POST /apis/authorization.k8s.io/")


def path_of(owner: str) -> Path:
    """Return the file with the traces of a subject."""
    return TRACES / f"{owner}.txt"


def write(texts: Mapping[str, str]) -> None:
    """Write the traces of subjects."""
    TRACES.mkdir(exist_ok=True)
    for owner, text in texts.items():
        path_of(owner).write_text(text, encoding="utf-8", newline="\n")


def recorded_text(owner: str) -> str:
    """Return the traces of a subject, "" where there are none."""
    path = path_of(owner)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def difference(owner: str, text: str, *, ignore_reads: bool = False) -> str:
    """Return a unified diff of each entry that differs from its trace; "" where none does.

    Args:
        owner: the subject.
        text: its transcripts now.
        ignore_reads: compare only exit codes, what is printed, and writes.
    """
    sides = [entries(recorded_text(owner)), entries(text)]
    if ignore_reads:
        sides = [{name: without_reads(entry) for name, entry in side.items()} for side in sides]
    recorded, now = sides
    names = [*recorded, *(name for name in now if name not in recorded)]
    return "".join(_unified(f"{owner}: {name}", recorded.get(name, ""), now.get(name, "")) for name in names)


def without_reads(entry: str) -> str:
    """Return a transcript without rounds, reads and reviews of permissions."""
    lines = []
    dropped = False
    for line in entry.splitlines(keepends=True):
        if not line.startswith("    "):
            dropped = line.startswith(READS)
        if not dropped:
            lines.append(COUNTS.sub("", line))
    return "".join(lines)


def summary(texts: Mapping[str, str]) -> str:
    """Return how many requests and rounds there are, and were recorded."""
    before, after = (_counts(some) for some in (map(recorded_text, texts), texts.values()))
    return "\n".join(f"{name}: {before[name]} recorded, {after[name]} now" for name in after)


def _counts(texts: Iterable[str]) -> dict[str, int]:
    found = [list(map(int, match.groups())) for text in texts for match in COUNTS.finditer(text)]
    requests, rounds = (sum(column) for column in zip(*found, strict=True)) if found else (0, 0)
    return {"command lines": len(found), "requests": requests, "rounds": rounds}


def entries(text: str) -> dict[str, str]:
    """Return the transcripts of a text by their titles."""
    found: dict[str, str] = {}
    for line in text.splitlines(keepends=True):
        if line.startswith(TITLE):
            title = line.removeprefix(TITLE).rstrip("\n")
            found[title] = ""
        found[title] += line
    return found


def _unified(name: str, recorded: str, now: str) -> str:
    sides = recorded.splitlines(True), now.splitlines(True)
    return "".join(difflib.unified_diff(*sides, f"recorded/{name}", f"now/{name}"))
