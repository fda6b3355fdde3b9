"""Output streams that escape control characters, so that a terminal does not interpret text from other sources.

`run` (in __main__) wraps stdout and stderr, so that no message, table or log is missed. Control sequences of this
program itself (colours, the progress line) are written to the underlying stream (`unwrap_stream`), and only with text
that is already escaped.
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
        stream: the underlying stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the escaped text; return the number of characters before escaping."""
        self.stream.write(escape_controls(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each text."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # else click would write past the escaping
            raise AttributeError(name)
        return getattr(self.stream, name)


def unwrap_stream(stream: TextIO) -> TextIO:
    """Return the underlying stream, for text that is already escaped; any other stream as it is."""
    return stream.stream if isinstance(stream, EscapingStream) else stream


def raw_unless_terminal(stream: TextIO) -> TextIO:
    """Return the stream for output that a program reads byte for byte (jsonpath): unescaped unless it is a terminal."""
    return stream if stream.isatty() else unwrap_stream(stream)


@contextmanager
def escape_std_streams() -> Iterator[None]:
    """Wrap stdout and stderr within the context."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, EscapingStream(out)), cast(TextIO, EscapingStream(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
