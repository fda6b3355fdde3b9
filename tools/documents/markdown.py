"""docs/reference/commands.md: every command with its usage, flags and examples."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from kubectl_yoshi.model.errors import ExitCode
from tools.documents.tree import Flag, Page, common_flags, pages

HEAD = """\
# Commands

<!-- Generated from the program by `make documents`; change the program instead. -->
<!-- documents: parsed -->

`kubectl yoshi COMMAND --help` prints the same. Results are on stdout, everything else on stderr.
"""


def commands_page() -> str:
    """The text of docs/reference/commands.md."""
    found = pages()
    parts = [HEAD, _contents(found)]
    parts += [_section(page) for page in found[1:]]
    parts.append(f"## Exit codes\n\nThe same for every command.\n\n{_exit_codes()}")
    parts.append(
        "## Flags of every command\n\nkubectl's flags, before or after the command's name.\n\n" + _flags(common_flags())
    )
    return "\n".join(parts)


def _contents(found: Iterable[Page]) -> str:
    rows = [f"| [`{page.title}`](#{_anchor(page.title)}) | {_cell(page.summary)} |" for page in found if page.words[1:]]
    return "\n".join(["| command | description |", "|---|---|", *rows]) + "\n"


def _section(page: Page) -> str:
    deep = "#" * min(len(page.words), 3)
    parts = [f"{deep} {page.title}\n", f"{page.summary}\n", *(f"{text}\n" for text in page.text)]
    if page.aliases:
        parts.append(f"Also: {', '.join(f'`{alias}`' for alias in page.aliases)}.\n")
    if page.below:
        return "\n".join(parts)
    parts.append(f"```text\n{page.usage}\n```\n")
    for group, flags in groupby(page.flags, lambda flag: flag.group):
        parts += [f"{group}:\n"] if group != "Options" else []
        parts.append(_flags(flags))
    if page.examples:
        parts.append("\n".join(["```sh", *page.examples, "```\n"]))
    return "\n".join(parts)


def _flags(flags: Iterable[Flag]) -> str:
    rows = [f"| `{_cell(flag.spelling)}` | {_cell(flag.meaning)} |" for flag in flags]
    return "\n".join(["| flag | meaning |", "|---|---|", *rows]) + "\n"


def _exit_codes() -> str:
    rows = [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(title: str) -> str:
    return title.replace(" ", "-")
