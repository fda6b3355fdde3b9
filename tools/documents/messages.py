"""The error messages in the program's source, and those that docs/troubleshooting.md explains.

A message is compared by its constant words: whatever is filled in is "…", so f"network {name} is full" is
"network … is full". In the page a message is a line that is one code span and nothing else, `- ` before the first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILLED_IN = "…"
ROOT_OF_ERRORS = "YoshiError"
MAKERS = {"usage_error": 0, "UsageError": 0, "fail": 0, "print_error": 0}
"""Functions that make or show an error, and which of their arguments is its message."""
IN_PARTS = re.compile(
    r"^(asn_)?conflicts$|^find_(overlaps|other_overlaps|peer|name_conflicts)$|^_overlaps$|^_template_conflict$"
    r"|^_list_contradictions$|^contradictions_except$|^_contradicts_winner$|^describe_overlay$"
)
"""Functions that give the reasons why a network cannot be made, which are shown as they are."""
_SPAN = re.compile(r"^(?:- |  )(?:``\s?(?P<double>.+?)\s?``|`(?P<single>[^`]+)`)$")


@dataclass(frozen=True)
class Message:
    """An error message.

    Attributes:
        text: its constant words, with "…" for what is filled in.
        where: "module.py:line", below the package.
    """

    text: str
    where: str


def messages_of_program(package: Path) -> list[Message]:
    """The messages of all modules of a package, in the order of its files; the same words once a place."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    errors = error_classes(sources.values())
    found = []
    for path, source in sources.items():
        for text, line in _messages_of(source, errors):
            if any(letter.isalpha() for letter in text):
                found.append(Message(text, f"{path.relative_to(package.parent)}:{line}"))
    return found


def error_classes(sources: Iterable[str]) -> frozenset[str]:
    """The names of YoshiError and of all that inherit from it."""
    bases = dict(one for source in sources for one in _bases_of(source))
    found = {ROOT_OF_ERRORS}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return frozenset(found)


@cache
def _parse(source: str) -> ast.AST:
    return ast.parse(source)


@cache
def _bases_of(source: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """The classes of a module, each with the names of those that it inherits from."""
    return tuple(
        (node.name, frozenset(base.id for base in node.bases if isinstance(base, ast.Name)))
        for node in ast.walk(_parse(source))
        if isinstance(node, ast.ClassDef)
    )


@cache
def _messages_of(source: str, errors: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """The messages of a module, each with its line."""
    return tuple(_messages(_parse(source), errors))


def messages_of_page(text: str) -> list[str]:
    """The messages that a troubleshooting page has entries for."""
    found = [_SPAN.match(line) for line in text.splitlines()]
    return [match["double"] or match["single"] for match in found if match]


def _messages(tree: ast.AST, errors: Collection[str]) -> Iterator[tuple[str, int]]:
    for function in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))]:
        in_parts = isinstance(function, ast.FunctionDef) and IN_PARTS.search(function.name)
        known = _assigned(function)
        for node in _own(function):
            if isinstance(node, ast.Call):
                for message in _said_by(node, errors):
                    yield from ((text, node.lineno) for text in _texts(message, known))
            elif in_parts and isinstance(node, ast.JoinedStr):
                yield from ((text, node.lineno) for text in _texts(node, {}))


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """What is in a function or module, without the functions inside it, nor the parts of a text."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.FunctionDef):
            continue
        yield child
        if not isinstance(child, ast.JoinedStr):
            yield from _own(child)


def _said_by(call: ast.Call, errors: Collection[str]) -> Iterator[ast.expr]:
    """The messages of a call that makes an error, or that gives what another error will say."""
    name = (
        call.func.id
        if isinstance(call.func, ast.Name)
        else call.func.attr
        if isinstance(call.func, ast.Attribute)
        else ""
    )
    if call.args and (name in errors or name in MAKERS):
        yield call.args[0]
    for keyword in call.keywords:
        if keyword.arg == "blocker":
            yield keyword.value
        if keyword.arg == "notes" and name == "Release" and isinstance(keyword.value, ast.Tuple):
            yield from keyword.value.elts


def _assigned(function: ast.AST) -> dict[str, list[ast.expr]]:
    """What a function's own names are set to."""
    found: dict[str, list[ast.expr]] = {}
    for node in _own(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def _texts(node: ast.expr, known: dict[str, list[ast.expr]]) -> list[str]:
    """The constant words of an expression's first line, once for each branch of it."""
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, known), *_texts(node.orelse, known)]
    if isinstance(node, ast.Name) and node.id in known:
        return [text for value in known[node.id] for text in _texts(value, {})]
    return [re.sub(f"{FILLED_IN}+", FILLED_IN, _constant(node)).partition("\n")[0]]


def _constant(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_constant, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _constant(node.left) + _constant(node.right)
    return FILLED_IN
