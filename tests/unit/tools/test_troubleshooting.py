"""docs/troubleshooting.md has every error message of the program, and none that the program has no more."""

from __future__ import annotations

from pathlib import Path

import kubectl_yoshi
from tools.documents.messages import messages_of_page, messages_of_program

PACKAGE = Path(kubectl_yoshi.__file__).parent
PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"


def test_every_message_has_an_entry_with_its_cause_and_remedy() -> None:
    there = set(messages_of_page(PAGE.read_text(encoding="utf-8")))
    missing = {m.text: m.where for m in messages_of_program(PACKAGE) if m.text not in there}
    lines = [f"- {_span(text)}        ({where})\n  Why it comes. What to do." for text, where in missing.items()]
    assert not missing, (
        "docs/troubleshooting.md lacks error messages. Add under the heading where a reader would look, each as a line "
        "of its own (without the place in brackets), and below it the cause and the remedy in a sentence or two; "
        "messages with the same remedy may share it:\n\n" + "\n".join(lines)
    )


def test_every_entry_is_a_message_that_the_program_gives() -> None:
    made = {message.text for message in messages_of_program(PACKAGE)}
    stale = [text for text in messages_of_page(PAGE.read_text(encoding="utf-8")) if text not in made]
    assert not stale, "docs/troubleshooting.md explains what the program never says; reword or take out:\n" + "\n".join(
        map(_span, stale)
    )


def test_every_entry_is_followed_by_an_explanation() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if messages_of_page(line):
            assert below.startswith("  "), f"nothing is said about {line.strip()}"


def _span(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
