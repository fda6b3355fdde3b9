"""A map of a network's address space as an HTML page: one file without scripts, for narrow and wide screens.

The picture is that of `address_map_svg`. Below it are the legend with totals and, where cells are addresses, a table of
the addresses in use, which says the same as the tooltips to those who do not point at cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape

from kubectl_yoshi.model.printable import to_single_line
from kubectl_yoshi.output.address_map_svg import swatch, to_inline_svg
from kubectl_yoshi.output.map_layout import BLOCK_PREFIXES, choose_cell_size, map_title
from kubectl_yoshi.output.map_style import (
    DARK_BACKGROUND,
    DARK_TEXT,
    DRAWN_OF_BLOCKS,
    LIGHT_BACKGROUND,
    LIGHT_TEXT,
    SHADE_MEANINGS,
    STYLES,
    format_count,
    format_totals,
)
from kubectl_yoshi.output.tables import age
from kubectl_yoshi.plan.address_map import AddressMap

PAGE_STYLE = f"""\
:root{{color-scheme:light dark}}
body{{margin:0 auto;padding:1rem;max-width:75rem;background:#{LIGHT_BACKGROUND};color:#{LIGHT_TEXT};
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:break-word}}
h1{{font-size:1.25rem;line-height:1.3;margin:0 0 .5rem}}
h1,details td,details th{{overflow-wrap:anywhere}}
.map{{overflow-x:auto}}
.map svg{{max-width:100%;height:auto}}
.map.large svg{{max-width:none}}
table{{border-collapse:collapse;margin:1rem 0}}
caption,th{{text-align:left}}
caption,summary{{font-weight:bold}}
th,td{{padding:.15rem .75rem .15rem 0;vertical-align:top}}
.number{{text-align:right;font-variant-numeric:tabular-nums}}
.swatch{{vertical-align:middle}}
@media (prefers-color-scheme:dark){{body{{background:#{DARK_BACKGROUND};color:#{DARK_TEXT}}}}}"""
"""The CSS of the page; that of the picture is in the picture."""


def to_html(address_map: AddressMap, now: datetime) -> str:
    """Return a map as an HTML document."""
    title = escape(map_title(address_map))
    totals = escape(format_totals(address_map.totals) or "no addresses")
    is_large = choose_cell_size(address_map) > 1
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>Map of network {title}</title>",
        f"<style>{PAGE_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{title}</h1>",
        f"<p>{totals}. As of {now:%Y-%m-%dT%H:%M:%SZ}.</p>",
        f'<div class="map{" large" if is_large else ""}" role="region" aria-label="Map" tabindex="0">',
        to_inline_svg(address_map, now),
        "</div>",
        *_legend(address_map, is_large),
        *([] if is_large else _addresses(address_map, now)),
        "</main>",
        "</body>",
        "</html>\n",
    ]
    return "\n".join(lines)


def _legend(address_map: AddressMap, is_large: bool) -> Iterator[str]:
    if is_large:
        yield f"<table><caption>Each cell is a {BLOCK_PREFIXES[address_map.network.version]}, in use</caption>"
        for shade, meaning in SHADE_MEANINGS.items():
            yield f"<tr><td>{swatch(shade)}</td><td>{meaning}</td></tr>"
        yield "</table>"
    yield "<table><caption>Legend and totals</caption>"
    yield '<tr><td></td><th scope="col">state</th><th scope="col" class="number">addresses</th><td></td></tr>'
    for state, style in STYLES.items():
        mark = swatch(state) if not is_large or state in DRAWN_OF_BLOCKS else ""
        count = format_count(address_map.totals[state])
        yield (
            f'<tr><td>{mark}</td><th scope="row">{style.label}</th><td class="number">{count}</td>'
            f"<td>{escape(style.meaning)}</td></tr>"
        )
    yield "</table>"


def _addresses(address_map: AddressMap, now: datetime) -> Iterator[str]:
    """Yield a table of the addresses in use."""
    rows = [(run, run.row) for run in address_map.runs if run.row is not None]
    yield f"<details><summary>{len(rows)} addresses in use</summary>"
    yield (
        "<table><tr>"
        + "".join(f'<th scope="col">{head}</th>' for head in ("address", "state", "holder", "age"))
        + "</tr>"
    )
    for run, row in rows:
        since = age(row.record.since, now) if row.record else ""
        cells = (STYLES[run.state].label, to_single_line(row.holder), since)
        yield (
            f'<tr><th scope="row">{row.address}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        )
    yield "</table></details>"
