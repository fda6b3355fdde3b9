"""Pictures of a terminal: they show their commands and output, and are those that the documents refer to."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.documents import PAGES, commands_of_program, parse
from tools.documents.pictures import COLUMNS, FOLDER, PICTURES, drawn


def text_of(svg: str) -> str:
    """What is to be read in a picture."""
    ElementTree.fromstring(svg)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", svg)).replace("\xa0", " ").split())


def test_picture_shows_commands_and_output_and_is_reproducible() -> None:
    session = [("$ kubectl yoshi ips list", "ADDRESS  \x1b[32mbound\x1b[0m <none>\n")]
    svg = drawn("one", session)
    assert "$ kubectl yoshi ips list ADDRESS bound <none>" in text_of(svg)
    assert svg == drawn("one", session)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_their_current_commands(name: str) -> None:
    shown = text_of((FOLDER / f"{name}.svg").read_text(encoding="utf-8"))
    for command in PICTURES[name].commands:
        assert f"$ {' '.join(command.split())}" in shown, "run `make pictures` and commit what it writes"


@pytest.mark.parametrize("name", PICTURES)
def test_commands_of_pictures_can_be_parsed(name: str) -> None:
    commands = [command for typed in PICTURES[name].commands for command in commands_of_program(typed)]
    assert len(commands) >= 3
    for words in commands:
        parse(words)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_commands_of_users_at_80_columns(name: str) -> None:
    assert COLUMNS == 80
    for command in PICTURES[name].commands:
        assert command.startswith("kubectl ")
        assert "$" not in command
        assert all(len(line) <= COLUMNS for line in f"$ {command}".splitlines())


def test_pictures_are_exactly_those_in_the_pages() -> None:
    wanted = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+\.svg)\)", page.read_text(encoding="utf-8"))
    }
    assert wanted == {path.resolve() for path in Path(FOLDER).glob("*.svg")}
