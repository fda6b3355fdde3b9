"""The command blocks of a document, and how they are run.

A block fenced as `sh` is run by bash; the block fenced as `text` that follows it is what it printed. A comment before a
block, or one alone at the top of a page, says what is not plain::

    <!-- documents: full -->              a page: it needs the whole lab
    <!-- documents: parsed -->            a page: its commands name things that are not there; they are only parsed
    <!-- documents: exit 1 -->            the block ends with that exit code
    <!-- documents: not run: why -->      only bash's syntax check
    <!-- documents: given                 commands that are not shown, run at this place: what was there before
    halted web-1 web-2
    -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = re.compile(r"^<!-- documents: (?P<word>given|exit|not run|full|parsed):?\s*(?P<rest>.*?)(?P<end>-->)?$")
_FENCE = re.compile(r"^```(?P<language>\w*)$")


@dataclass(frozen=True)
class Block:
    """Commands.

    Attributes:
        commands: bash.
        line: of the first command, in the document, from 1 on.
        output: what the document says that it printed; None where it says nothing.
        output_lines: the first line of that output and the one after its last, from 0 on.
        shown: not one that only prepares.
        exit_code: that it ends with.
        not_run: why it is not run; "" where it is.
    """

    commands: str
    line: int
    output: str | None = None
    output_lines: tuple[int, int] = (0, 0)
    shown: bool = True
    exit_code: int = 0
    not_run: str = ""


@dataclass(frozen=True)
class Document:
    """A page's blocks, in order, and what it needs: "core", "full", or "parsed" where nothing of it is run."""

    blocks: tuple[Block, ...]
    needs: str = "core"


def read_document(text: str) -> Document:
    """The blocks of a document.

    Raises:
        ValueError: a mark or a fence is not closed.
    """
    lines = text.splitlines()
    blocks: list[Block] = []
    needs, exit_code, not_run = "core", 0, ""
    at = 0
    while at < len(lines):
        line = lines[at]
        if mark := _MARK.match(line):
            word, rest = mark["word"], mark["rest"].strip()
            if word in ("full", "parsed"):
                needs = word
            elif word == "exit":
                exit_code = int(rest)
            elif word == "not run":
                not_run = rest
            else:
                end = _until(lines, at + 1, "-->")
                blocks.append(Block("\n".join(lines[at + 1 : end]), at + 2, shown=False))
                at = end
        elif line.startswith("<!-- documents"):
            raise ValueError(f"line {at + 1} is no mark: {line}")
        elif fence := _FENCE.match(line):
            end = _until(lines, at + 1, "```")
            if fence["language"] == "sh":
                output, span = _output_after(lines, end)
                commands = "\n".join(lines[at + 1 : end])
                blocks.append(Block(commands, at + 2, output, span, exit_code=exit_code, not_run=not_run))
                exit_code, not_run = 0, ""
                end = span[1] if output is not None else end
            at = end
        at += 1
    return Document(tuple(blocks), needs)


def _until(lines: list[str], start: int, end: str) -> int:
    for at in range(start, len(lines)):
        if lines[at] == end:
            return at
    raise ValueError(f"line {start} opens what is never closed by {end}")


def _output_after(lines: list[str], closing: int) -> tuple[str | None, tuple[int, int]]:
    """The block fenced as text that follows, blank lines between."""
    at = closing + 1
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at >= len(lines) or lines[at] != "```text":
        return None, (0, 0)
    end = _until(lines, at + 1, "```")
    return "\n".join(lines[at + 1 : end]), (at + 1, end)
