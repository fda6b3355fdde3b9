"""docs/troubleshooting.md has every error message of the program, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import kubectl_yoshi
from tools.documents.messages import messages_of_page, messages_of_program

PACKAGE = Path(kubectl_yoshi.__file__).parent
PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"


def check_complete(package: Path, page: str) -> None:
    """Fails with the entries to add if the page lacks a message of the program."""
    there = set(messages_of_page(page))
    missing = {m.text: m.where for m in messages_of_program(package) if m.text not in there}
    lines = [f"- {_span(text)}        ({where})\n  Why it comes. What to do." for text, where in missing.items()]
    assert not missing, (
        "docs/troubleshooting.md lacks error messages. Add under the heading where a reader would look, each as a line "
        "of its own (without the place in brackets), and below it the cause and the remedy in a sentence or two; "
        "messages with the same remedy may share it:\n\n" + "\n".join(lines)
    )


def check_current(package: Path, page: str) -> None:
    """Fails if the page has an entry for what the program never says."""
    made = {message.text for message in messages_of_program(package)}
    stale = [text for text in messages_of_page(page) if text not in made]
    assert not stale, "docs/troubleshooting.md explains what the program never says; reword or take out:\n" + "\n".join(
        map(_span, stale)
    )


def test_every_message_has_an_entry_with_its_cause_and_remedy() -> None:
    check_complete(PACKAGE, PAGE.read_text(encoding="utf-8"))


def test_every_entry_is_a_message_of_the_program() -> None:
    check_current(PACKAGE, PAGE.read_text(encoding="utf-8"))


def test_every_entry_is_followed_by_an_explanation() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if messages_of_page(line):
            assert below.startswith("  "), f"no explanation of {line.strip()}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The program's own source, to be changed."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / PACKAGE.name


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("raise PreconditionFailed(f'{vm} is haunted', f'see {vm}')", "… is haunted"),
        ("text = f'{vm} is ' + 'haunted'; raise PreconditionFailed(text if vm else 'nobody is')", "nobody is"),
        ("raise usage_error('one ghost at a time')", "one ghost at a time"),
    ],
)
def test_new_message_without_an_entry_is_found(copy: Path, added: str, message: str) -> None:
    (copy / "plan" / "haunting.py").write_text(
        f"from kubectl_yoshi.model.errors import PreconditionFailed\n\ndef haunt(vm):\n    {added}\n"
    )
    with pytest.raises(AssertionError, match=rf"lacks error messages(.|\n)*- `{message}` .*plan/haunting\.py:4"):
        check_complete(copy, PAGE.read_text(encoding="utf-8"))


def test_entry_of_a_removed_message_is_found(copy: Path) -> None:
    module = copy / "cli" / "errors.py"
    text = module.read_text(encoding="utf-8")
    assert REMOVED in text
    module.write_text(text.replace(REMOVED, "other words"), encoding="utf-8")
    with pytest.raises(AssertionError, match=rf"explains what the program never says(.|\n)*`{REMOVED}`"):
        check_current(copy, PAGE.read_text(encoding="utf-8"))


REMOVED = "interrupted; run the same command again to complete it"


def _span(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
