"""Man pages, kubectl-yoshi*.1, in the man macros of groff (man 7 man).

click-man cannot: it wants an entry point that is a click command, and knows neither examples nor hidden common flags.
"""

from __future__ import annotations

from itertools import groupby

from kubectl_yoshi import __version__
from kubectl_yoshi.model.errors import ExitCode
from tools.documents.tree import PROGRAM, Page, common_flags, pages


def man_pages() -> dict[str, str]:
    """The text of each page, by the name of its file."""
    found = pages()
    return {f"{_name(page)}.1": _man_page(page, found) for page in found}


def _man_page(page: Page, every: list[Page]) -> str:
    lines = [
        f'.TH "{_name(page).upper()}" "1" "" "{_text("kubectl-yoshi " + __version__)}" "kubectl yoshi"',
        ".SH NAME",
        f"{_text(_name(page))} \\- {_text(page.summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_text(page.title)}",
        _text(page.usage.removeprefix(page.title).strip()),
    ]
    if page.text:
        lines.append(".SH DESCRIPTION")
        for paragraph in page.text:
            lines += [".PP", _text(paragraph)]
    if page.below:
        lines.append(".SH COMMANDS")
        for name, summary in page.below:
            lines += [".TP", f".B {_text(name)}", _text(summary + ".")]
    lines.append(".SH OPTIONS")
    for group, flags in groupby(page.flags, lambda flag: flag.group):
        lines += [] if group == "Options" else [f".SS {group}"]
        for flag in flags:
            lines += [".TP", f".B {_text(flag.spelling)}", _text(flag.meaning)]
    if page.words == (PROGRAM,):
        for flag in common_flags():
            lines += [".TP", f".B {_text(flag.spelling)}", _text(flag.meaning)]
    else:
        lines += [".PP", "For kubectl's flags, which every command takes, see", ".BR kubectl\\-yoshi (1)."]
    if page.examples:
        lines += [".SH EXAMPLES", ".nf", *map(_text, page.examples), ".fi"]
    lines.append(".SH EXIT STATUS")
    for code in ExitCode:
        lines += [".TP", f".B {code.value}", _text(code.meaning.replace("`", "") + ".")]
    return "\n".join([*lines, ".SH SEE ALSO", ",\n".join(_see_also(page, every)), ""])


def _see_also(page: Page, every: list[Page]) -> list[str]:
    near = [
        other for other in every if other.words in (page.words[:-1], *((*page.words, name) for name, _ in page.below))
    ]
    return [f".BR {_text(_name(other))} (1)" for other in near] + [".BR kubectl (1)"]


def _name(page: Page) -> str:
    return page.title.replace(" ", "-")


def _text(text: str) -> str:
    """A line of text: no escape, no request, dashes that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{text}" if text[:1] in (".", "'") else text
