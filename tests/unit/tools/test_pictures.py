"""Pictures of a terminal: they show the commands and what they printed, and are those that the documents refer to."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.documents import PAGES
from tools.documents.pictures import FOLDER, PICTURES, picture


def text_of(svg: str) -> str:
    """What is to be read in a picture."""
    ElementTree.fromstring(svg)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", svg)).replace("\xa0", " ").split())


def test_a_picture_shows_what_was_typed_and_printed_and_is_the_same_each_time() -> None:
    session = [("$ kubectl yoshi ips list", "ADDRESS  \x1b[32mbound\x1b[0m <none>\n")]
    svg = picture("one", session)
    assert "$ kubectl yoshi ips list ADDRESS bound <none>" in text_of(svg)
    assert svg == picture("one", session)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_its_commands_as_they_are_now(name: str) -> None:
    shown = text_of((FOLDER / f"{name}.svg").read_text(encoding="utf-8"))
    for command in PICTURES[name]:
        assert f"$ {command}" in shown, "run `make pictures` and commit what it writes"


def test_every_picture_that_a_page_refers_to_is_there_and_none_besides() -> None:
    wanted = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+\.svg)\)", page.read_text(encoding="utf-8"))
    }
    assert wanted == {path.resolve() for path in Path(FOLDER).glob("*.svg")}
