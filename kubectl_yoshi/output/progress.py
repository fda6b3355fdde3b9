"""A progress line on a terminal; no output to a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

from kubectl_yoshi.model.printable import to_single_line
from kubectl_yoshi.output.escaping import unwrap_stream

BAR_WIDTH = 20
"""Width of the bar, in characters."""
REDRAW_SECONDS = 0.05
"""Minimum time between two updates, in seconds: a terminal on a slow line must not delay the work."""


class Progress:
    """Shows "attaching [######--------------] 7/24 …" on one line of a terminal and clears it at the end.

    Args:
        what: the activity: "attaching".
        total: the number of steps; 0 if it is unknown, then no bar is shown.
        stream: stderr if None.
    """

    def __init__(self, what: str, total: int = 0, stream: TextIO | None = None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self.current = ""
        self.stream = unwrap_stream(stream or sys.stderr)
        self.is_terminal = self.stream.isatty()
        self._length = 0
        self._drawn = 0.0

    def step(self, count: int = 1, what: str = "") -> None:
        """Count completed steps; `what` may name the current one."""
        self.done += count
        self.current = what or self.current
        too_soon = time.monotonic() - self._drawn < REDRAW_SECONDS
        if self.is_terminal and not (too_soon and self.done < self.total):
            self._draw()

    def _draw(self) -> None:
        if not self.is_terminal:
            return
        # A longer line could not be cleared.
        line = to_single_line(self._line())[: shutil.get_terminal_size().columns - 1]
        self.stream.write("\r" + line.ljust(self._length))
        self.stream.flush()
        self._length = len(line)
        self._drawn = time.monotonic()

    def _line(self) -> str:
        if not self.total:
            counter = f" {self.done}" if self.done else ""
            return f"{self.current or self.what}{counter}"
        filled = min(BAR_WIDTH * self.done // self.total, BAR_WIDTH)
        words = f"{self.what} [{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {self.done}/{self.total}"
        return f"{words} {self.current}".rstrip()

    def clear(self) -> None:
        """Clear the line, so that other text can be written."""
        if self.is_terminal and self._length:
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
    """Return a context manager: `with progress("attaching", total=24) as p: p.step()`."""
    return Progress(what, total, stream)
