"""A line of progress on a terminal; nothing in a pipe."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO


class Progress:
    """Shows "attaching 7/24" on one line of a terminal and wipes it at the end.

    Args:
        what: what is being done: "attaching".
        total: how many steps there will be; 0 where that is not known.
        stream: stderr if None.
    """

    def __init__(self, what: str, total: int = 0, stream: TextIO | None = None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self.stream = stream or sys.stderr
        self.shown = self.stream.isatty()
        self._length = 0

    def step(self, count: int = 1, what: str = "") -> None:
        """So many steps are done; `what` may say something newer."""
        self.done += count
        self.what = what or self.what
        self._draw()

    def _draw(self) -> None:
        if not self.shown:
            return
        counter = f" {self.done}/{self.total}" if self.total else f" {self.done}" if self.done else ""
        line = f"{self.what}{counter}"
        self.stream.write("\r" + line.ljust(self._length))
        self.stream.flush()
        self._length = len(line)

    def clear(self) -> None:
        """Wipes the line, so that something else can be written."""
        if self.shown and self._length:
            self.stream.write("\r" + " " * self._length + "\r")
            self.stream.flush()
            self._length = 0

    def __enter__(self) -> Progress:
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


def progress(what: str, total: int = 0, stream: TextIO | None = None) -> Progress:
    """`with progress("attaching", total=24) as p: p.step()`"""
    return Progress(what, total, stream)
