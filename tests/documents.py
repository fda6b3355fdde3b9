"""The pages whose command blocks are tried, and what becomes of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.group import LazyGroup
from tools.documents.blocks import read_document
from tools.documents.running import clean, constant, run

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def pages_that_need(kind: str) -> list[Path]:
    """Return the pages whose command blocks need this: "core" or "full" a lab, "parsed" none."""
    documents = {path: read_document(path.read_text(encoding="utf-8")) for path in PAGES}
    return [
        path
        for path, document in documents.items()
        if document.needs == kind and any(not block.not_run for block in document.blocks)
    ]


def check_page(page: Path, variables: dict[str, str]) -> None:
    """Run the page's blocks, and compare the output of each with what is shown."""
    text = page.read_text(encoding="utf-8")
    try:
        for block, printed in run(read_document(text), variables):
            assert block.output is None or constant(printed) == constant(block.output), (
                f"{page.name}, line {block.line} prints another text than the page shows. If the program is right, "
                f"`python -m tools.documents --outputs {page.relative_to(ROOT)}` writes it down. It printed:\n{printed}"
            )
    finally:
        clean(variables)


def commands_of_program(text: str) -> list[list[str]]:
    """Return the words after `kubectl yoshi` of each such command of a shell text."""
    lines = re.split(r"[\n;|>]", text.replace("\\\n", " "))
    found = [shlex.split(line, comments=True) for line in lines]
    return [words[2:] for words in found if words[:2] == ["kubectl", "yoshi"]]


def parse(words: list[str]) -> None:
    """Parse a command line, without `kubectl yoshi`, as the program does, without running it.

    Raises:
        UsageError: the program would not take it.
    """
    command: click.Command | None = cli
    ctx = click.Context(cli, info_name="kubectl yoshi")
    while isinstance(command, LazyGroup):
        command = command.get_command(ctx, words.pop(0))
    assert command is not None
    command.make_context(command.name, words, parent=ctx)
