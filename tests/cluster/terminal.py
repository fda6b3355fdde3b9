"""A shell in a terminal: keys go in, a line is completed, the screen comes out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

TAB = "\t"
BEGIN_OF_LINE = "\x01"
KILL_LINE = "\x15"
PATIENCE_SECONDS = 120.0
_ESCAPES = re.compile(r"\x1b(\[[0-9;?<>=]*[A-Za-z]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>78cM])|[\r\x07\x0e\x0f]")


class Terminal:
    """An interactive shell on a pseudo-terminal of 200 columns; ended at the end of the `with`.

    Args:
        command: the shell, to be run interactively.
        environment: all of it.
        home: its working directory.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], home: Path) -> None:
        self._screen = ""
        self._marks = 0
        self._keys, shell_side = pty.openpty()
        fcntl.ioctl(self._keys, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            env=dict(environment), cwd=home, stdin=shell_side, stdout=shell_side, stderr=shell_side,
        )  # fmt: skip
        os.close(shell_side)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._keys)  # the shell is hung up on
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keys, keys.encode())

    def see(self, pattern: str) -> str:
        """Wait until the screen shows new text; return all new text until then."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            text = _ESCAPES.sub("", self._screen)
            if found := re.search(pattern, text):
                self._screen = text[found.end() :]
                return text[: found.end()]
            ready, _, _ = select.select([self._keys], [], [], max(end - time.monotonic(), 0))
            if not ready:
                raise AssertionError(f"the terminal does not show {pattern!r}, but:\n{text}")
            try:
                self._screen += os.read(self._keys, 1 << 16).decode(errors="replace")
            except OSError as error:
                raise AssertionError(f"the shell has ended; the terminal shows:\n{text}") from error

    def run(self, line: str) -> str:
        """Type a line and Enter; return its output."""
        self._marks += 1
        self.type(f"{line}; echo en''d {self._marks}\n")
        return self.see(rf"end {self._marks}\n")

    def completed(self, line: str, tabs: int = 1) -> str:
        """Return the line after some keys and TAB; it is not executed."""
        self._marks += 1
        self.type(f"{line}{TAB * tabs}{BEGIN_OF_LINE}echo 'line' {self._marks}: {chr(5)} :end\n")
        said = self.see(rf"\nline {self._marks}: [^\n]* :end\n")
        return said.rpartition(f"line {self._marks}: ")[2].removesuffix(" :end\n").strip()
