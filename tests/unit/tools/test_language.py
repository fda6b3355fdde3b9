"""The project uses the field's standard terms: code, messages, manifests, documentation, tests and tools."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kubectl_yoshi

PACKAGE = Path(kubectl_yoshi.__file__).parent
ROOT = PACKAGE.parent
DOCUMENTS = ("*.md", "docs/**/*.md", "examples/*.md", "tests/*.md", ".github/*.md", "Makefile", "pyproject.toml")
MANIFESTS = ("kubectl_yoshi/manifests/*.yaml", "*.yaml", ".krew.yaml", "examples/**/*.yaml", ".github/**/*.yml")
OTHER_CODE = ("lab", "release", "tests", "tools")
"""Folders with code besides the package's."""

_GIVE = r"g(?:ive[sn]?|ave|iving)"
_TAKE = r"t(?:akes?|aken|ook|aking)"
TERMS = {
    rf"\b{_GIVE}(?: \S*[^\s.:;,]){{0,4}} back\b": "release",
    rf"\b{_GIVE}(?: (?:it|them))? out\b": "assign, allocate",
    r"\bhand(?:s|ed|ing)?(?: (?:it|them))? (?:out|back)\b": "assign, release",
    rf"\b{_TAKE}(?: (?:it|them))? off\b": "detach, remove",
    rf"\b{_TAKE}(?: (?:it|them))? back\b": "roll back, undo",
    r"\banew\b": "again, recreated",
    r"\bm(?:akes?|ade|aking) (?:true|right again)\b": "reconcile, repair",
    r"\bmend(?:s|ed|ing)?\b": "fix, repair",
    r"\bis no more\b(?! than)": "no longer exists",
    r"\bwhoever\b|\bwho may\b": "users who can",
    r"\bledgers?\b|\bbooks\b": "allocations",
    r"\bwish(?:es|ed)?\b": "requested network",
    r"\bcannot be told\b": "cannot check whether",
    r"\b(?:is|are|was|were) (?:said|told)\b": "is reported, is printed",
    r"\bthe original(?:'s| yoshi)?\b": "Platform9 yoshi",
    r"\bunless given\b": "(default …)",
    r"\bother people(?:'s)?\b|\bsomebody else(?:'s)?\b": "not managed by yoshi",
    r"\bstrangers?\b": "unknown clients",
    r"\blent\b": "leased",
    r"\b[l]ayer 2\b": "Layer 2",
    r"\bback-ends?\b": "backend",
    r"\brights\b|\b(?:a|the|this) right (?:to|for)\b|\bthis right\b": "permission",
    r"\bforsaken\b": "orphaned",
    r"\bshel(?:f|ves)\b": "address block",
    r"\bdesks?\b": "state",
    r"\bobstacles?\b": "conflict",
}
"""Words that are not used, as regular expressions, and the terms to use instead."""

_CASE_SENSITIVE = {r"\b[l]ayer 2\b"}
_PATTERNS = {re.compile(words, 0 if words in _CASE_SENSITIVE else re.IGNORECASE): term for words, term in TERMS.items()}

Texts = Iterator[tuple[int, str]]
"""Texts of a file, each with the number of its first line."""


def find_words(text: str) -> list[str]:
    """The words of a text that are not used, each with the term to use instead."""
    text = " ".join(text.split())
    return [f'"{found[0]}": {term}' for pattern, term in _PATTERNS.items() for found in pattern.finditer(text)]


def list_literals(source: str) -> Texts:
    """The string literals of a module that are no docstrings; an f-string with "…" for its placeholders."""
    tree = ast.parse(source)
    docstrings = _docstrings(tree)
    parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(getattr(part, "value", "")) if _is_text(part) else "…" for part in node.values),
            )
        elif _is_text(node) and node not in docstrings and node not in parts:
            yield node.lineno, node.value


def list_docstrings_and_comments(source: str) -> Texts:
    """The docstrings, also those of attributes, and the comments of a module; those on adjacent lines are one text."""
    for node in _docstrings(ast.parse(source)):
        yield node.lineno, node.value
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] > last + 1 and block:
                yield first, " ".join(block)
                block = []
            first, last = (first if block else token.start[0]), token.start[0]
            block.append(token.string.lstrip("# "))
    if block:
        yield first, " ".join(block)


def list_paragraphs(text: str) -> Texts:
    """The paragraphs of a document or manifest."""
    number = 1
    for paragraph in text.split("\n\n"):
        yield number, paragraph
        number += paragraph.count("\n") + 2


def _docstrings(tree: ast.AST) -> set[ast.Constant]:
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]
    return {
        statement.value
        for body in bodies
        for statement in body
        if isinstance(statement, ast.Expr) and _is_text(statement.value)
    }


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _list_modules(folder: str) -> list[Path]:
    """Return the modules of a folder without this one, which contains the rejected words."""
    return sorted(file for file in (ROOT / folder).rglob("*.py") if file != Path(__file__))


def _check(files: list[Path], texts: Callable[[str], Texts]) -> None:
    assert files
    found = []
    for file in files:
        name = file.relative_to(ROOT).as_posix()
        for line, text in texts(file.read_text(encoding="utf-8")):
            found += [f"{name}:{line}: {words}" for words in find_words(text)]
    assert not found, "words that are not used, and the terms to use instead:\n" + "\n".join(found)


@pytest.mark.parametrize("folder", [PACKAGE.name, *OTHER_CODE])
def test_strings_use_standard_terms(folder: str) -> None:
    _check(_list_modules(folder), list_literals)


@pytest.mark.parametrize("folder", [PACKAGE.name, *OTHER_CODE])
def test_docstrings_and_comments_use_standard_terms(folder: str) -> None:
    _check(_list_modules(folder), list_docstrings_and_comments)


@pytest.mark.parametrize("patterns", [MANIFESTS, DOCUMENTS], ids=["manifests", "documents"])
def test_documentation_uses_standard_terms(patterns: tuple[str, ...]) -> None:
    _check(sorted(file for pattern in patterns for file in ROOT.glob(pattern)), list_paragraphs)


@pytest.mark.parametrize(
    "text",
    [
        "give 10.0.0.1 of prod/web-1 back",
        "the address is given back",
        "addresses that were\nhanded out",
        "take it off the network",
        "a layer 2 network",
        "Ask for this right.",
        "whether it runs cannot be told: forbidden",
        "Whoever reads this",
    ],
)
def test_rejected_words_are_found(text: str) -> None:
    assert len(find_words(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "a Layer 2 network",
        "give either the NAME or a FILE; the backup is in another place",
        "there is no more than one; the column on the right",
        "recommended, amended",
    ],
)
def test_other_words_are_accepted(text: str) -> None:
    assert find_words(text) == []


SOURCE = '''"""A docstring."""
NAME = f"network {NAME} is {'full'}"  # a comment
# that goes on
SIZE = 1
"""Of an attribute."""

def run():
    """Of a function."""
    return "a text" "of two parts"
'''


def test_literals_docstrings_and_comments_are_distinguished() -> None:
    assert sorted(list_literals(SOURCE)) == [(2, "full"), (2, "network … is …"), (9, "a textof two parts")]
    assert sorted(list_docstrings_and_comments(SOURCE)) == [
        (1, "A docstring."),
        (2, "a comment that goes on"),
        (5, "Of an attribute."),
        (8, "Of a function."),
    ]
