"""Colours: on a terminal only, and as NO_COLOR and FORCE_COLOR have it (https://no-color.org, https://force-color.org)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

COLOUR_CODES = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}

STATE_COLOURS = {
    "bound": "green",
    "ready": "green",
    "pending": "yellow",
    "restart needed": "yellow",
    "conflict": "red",
    "orphaned": "red",
    "failed": "red",
    "reserved": "cyan",
}
"""State words and their colours; a word is matched as it stands, whatever its case."""


def is_enabled(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether to colour what is written to a stream."""
    environ = os.environ if environ is None else environ
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    return stream.isatty() and environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in a colour of CODES."""
    return f"\x1b[{COLOUR_CODES[colour]}m{text}\x1b[0m"


def paint_state(text: str) -> str:
    """A state word in its colour, any other text as it is."""
    colour = STATE_COLOURS.get(text.lower())
    return paint(text, colour) if colour else text
