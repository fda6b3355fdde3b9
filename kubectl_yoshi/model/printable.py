"""Text from elsewhere (names, notes, the API server's messages) made safe to print: no terminal obeys what is in it.

A character that a terminal or a reader's eye would obey is shown instead, as kubectl and cat -v do: the escape
character as `^[`, DEL as `^?`, others as `\\u202e`. These are the C0 and C1 controls (ECMA-48), DEL, the controls of
bidirectional text (CVE-2021-42574), the line and paragraph separators, and lone surrogates, which UTF-8 cannot have.

A stream cannot tell a line break of a note from one of this program. So a text that is to be one line is made one where
it is composed (`to_single_line`), and errors indent the lines after the first.
"""

from __future__ import annotations

import re

_CONTROL_RANGES = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
CONTROL_CHARACTERS = re.compile(f"[{_CONTROL_RANGES}]")
"""The characters to escape; line feed and tab are not among them, since output uses them for layout."""
_BREAKS = re.compile(r"\r\n|[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029]")


def escape_controls(text: str) -> str:
    """Return the text with control characters escaped; line feeds and tabs stay."""
    return text if text.isascii() and text.isprintable() else CONTROL_CHARACTERS.sub(_caret_notation, text)


def to_single_line(text: str) -> str:
    """Return the text with control characters escaped, and line breaks and tabs replaced by spaces."""
    return text if text.isprintable() else escape_controls(_BREAKS.sub(" ", text))


def indent_continuation(text: str) -> str:
    """Indent all lines of a text but the first.

    A line at the left margin could be mistaken for a message of this program.
    """
    return "\n  ".join(text.splitlines()) if "\n" in text else text


def escape_json_controls(text: str) -> str:
    """Return the text with control characters escaped as in the strings of JSON and double-quoted YAML."""
    return CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _caret_notation(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    return f"\\u{code:04x}"
