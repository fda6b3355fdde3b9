"""Progress of the lab: a moving line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Writes to stderr, so that stdout stays the answer. Safe to use from several threads."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live = not quiet and self._stream.isatty()
        self._lock = threading.Lock()
        self._running: dict[str, str] = {}
        self._drawn = False

    def print_line(self, line: str) -> None:
        """One line that stays."""
        if self._quiet:
            return
        with self._lock:
            self._erase()
            print(line, file=self._stream, flush=True)
            self._draw()

    def update(self, task: str, detail: str) -> None:
        """What a running task is at; seen on a terminal only."""
        with self._lock:
            if task in self._running:
                self._running[task] = detail
                self._erase()
                self._draw()

    @contextmanager
    def task(self, what: str) -> Iterator[None]:
        """Say that `what` goes on, and how long it took when it is done."""
        started_at = time.monotonic()
        if not self._live:
            self.print_line(f"{what} ...")
        with self._lock:
            self._running[what] = ""
            self._erase()
            self._draw()
        try:
            yield
        finally:
            with self._lock:
                self._erase()
                del self._running[what]
        self.print_line(f"{what}: {time.monotonic() - started_at:.1f} s")

    def _draw(self) -> None:
        if self._live and self._running:
            text = "; ".join(f"{what} {detail}".strip() for what, detail in self._running.items())
            self._stream.write("\r" + text[:110])
            self._stream.flush()
            self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._drawn = False
