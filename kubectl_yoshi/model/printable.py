"""Text from elsewhere (names, notes, the API server's words) made safe to print: no terminal obeys what is in it.

A character that a terminal or a reader's eye would obey is shown instead, as kubectl and cat -v do: the escape
character as `^[`, DEL as `^?`, others as `\\u202e`. These are the C0 and C1 controls (ECMA-48), DEL, the controls of
bidirectional text (CVE-2021-42574), the line and paragraph separators, and lone surrogates, which UTF-8 cannot have.
"""

from __future__ import annotations

import re

_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
OBEYED = re.compile(f"[{_OBEYED}]")
"""What is shown instead of written; line feed and tab are not among them, since layout is made of them."""
_BREAKS = re.compile(r"\r\n|[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029]")


def visible(text: str) -> str:
    """The text with such characters shown; line feeds and tabs stay."""
    return text if text.isascii() and text.isprintable() else OBEYED.sub(_shown, text)


def on_one_line(text: str) -> str:
    """The text with such characters shown, and a space for each line break or tab."""
    return text if text.isprintable() else visible(_BREAKS.sub(" ", text))


def indented(text: str) -> str:
    """A text of several lines, of which none but the first begins at the left, where it could pass for a message of
    this program's."""
    return "\n  ".join(text.splitlines()) if "\n" in text else text


def escaped(text: str) -> str:
    """The text with such characters as JSON and double-quoted YAML escape them, inside whose strings they stand."""
    return OBEYED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    return f"\\u{code:04x}"
