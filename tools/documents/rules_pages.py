"""docs/rules: a page for each rule of `doctor`, from its docstring, and an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kubectl_yoshi.diagnosis.rule import Rule
from kubectl_yoshi.diagnosis.rules import FAMILIES, RULES

NOTE = "<!-- Generated from kubectl_yoshi/diagnosis/rules by `make documents`; change the docstring instead. -->"
HEAD = f"""\
# Rules of `kubectl yoshi doctor`

{NOTE}

`kubectl yoshi doctor` checks these rules, and `kubectl yoshi ips check` those about allocations and
[YOSHI-1101](YOSHI-1101.md). A code never changes its meaning. `kubectl yoshi doctor --explain CODE` prints the page of
a rule. A rule that cannot read what it needs is listed as not checked, with `?`; it never counts as passed. The
[fault matrix](fault-matrix.md) lists faults, the rules that find them, and what repairs them.
"""


def rules_pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page."""
    yield "index.md", "\n".join([HEAD, *(_family(family.__doc__ or "", vars(family)) for family in FAMILIES)])
    for rule in RULES:
        yield Path(rule.documentation).name, _page(rule)


def _family(title: str, members: dict[str, object]) -> str:
    rules = sorted((one for one in members.values() if isinstance(one, Rule)), key=lambda rule: rule.number)
    rows = [f"| [{rule.code}]({rule.code}.md) | {rule.severity.value} | {rule.title} |" for rule in rules]
    heading = title.splitlines()[0].rpartition(":")[0]
    return "\n".join([f"## {heading}\n", "| code | severity | finding |", "|---|---|---|", *rows, ""])


def _page(rule: Rule) -> str:
    volatile = "\nIt is reported only if a second read, a second later, confirms it.\n" if rule.is_volatile else ""
    head = f"# {rule.code}: {rule.title}\n\n{NOTE}\n\nSeverity: {rule.severity.value}.\n"
    return f"{head}\n{rule.explanation}\n{volatile}"
