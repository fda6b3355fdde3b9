"""The streams that the whole program writes to: whatever is written, no terminal obeys what comes from elsewhere.

`run` (in __main__) puts a guard before stdout and stderr, so no message, table or log can be forgotten. What this
program itself wants a terminal to obey (colours, the line of progress) is written past it, by `unwrap_stream`, and only
where the text was made safe before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from kubectl_yoshi.model.printable import escape_controls


class EscapingStream:
    """A text stream that shows control characters instead of writing them; line feeds and tabs pass.

    Attributes:
        stream: the stream itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes the text; see the class. Gives how many characters were meant to be written."""
        self.stream.write(escape_controls(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each text."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # or click would write past the guard
            raise AttributeError(name)
        return getattr(self.stream, name)


def unwrap_stream(stream: TextIO) -> TextIO:
    """The stream behind a guard, for text that is safe already; any other stream as it is."""
    return stream.stream if isinstance(stream, EscapingStream) else stream


def raw_unless_terminal(stream: TextIO) -> TextIO:
    """For output that a program reads byte for byte (jsonpath): past the guard, but not to a terminal."""
    return stream if stream.isatty() else unwrap_stream(stream)


@contextmanager
def escape_std_streams() -> Iterator[None]:
    """Puts a guard before stdout and stderr for a while."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, EscapingStream(out)), cast(TextIO, EscapingStream(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
