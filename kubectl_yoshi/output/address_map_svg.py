"""A map of a network's address space as SVG: one file without scripts, for light and dark backgrounds.

Each run of cells has a tooltip (`<title>`) with its holder and age. Each state has a mark of its own besides its
colour, drawn by a pattern of the size of a cell, so that one rectangle shows any number of cells. A screen reader reads
the picture's title and its totals.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html import escape

from kubectl_yoshi.model.addresses import address_of
from kubectl_yoshi.model.printable import to_single_line
from kubectl_yoshi.output.map_layout import (
    BLOCK_PREFIXES,
    BLOCK_SIZE,
    GAP_MARK,
    MapLayout,
    Rectangle,
    choose_cell_size,
    format_column,
    lay_out,
    map_title,
)
from kubectl_yoshi.output.map_style import (
    DARK_BACKGROUND,
    DARK_TEXT,
    DRAWN_OF_BLOCKS,
    LIGHT_BACKGROUND,
    LIGHT_TEXT,
    SHADE_MEANINGS,
    STYLES,
    Look,
    Shade,
    format_count,
    format_totals,
    look_of,
)
from kubectl_yoshi.output.tables import age
from kubectl_yoshi.plan.address_map import AddressMap, Cells, MapRun, MapState, format_run

MAX_CELLS = 65_536
"""The number of cells up to which rows without use are drawn: a /8 of /24s, 256 x 256."""
CELL_WIDTHS = {16: 22, 32: 14, 64: 10, 128: 6, 256: 4}
"""The width of a cell in pixels, by the number of columns."""
MIN_MARKED = 10
"""The least width in pixels of a cell that has room for a letter."""
MIN_LABEL_DISTANCE = 14
"""The least distance in pixels of two labels of rows."""
MIN_WIDTH = 430
"""The least width in pixels of a picture with a legend."""
MARGIN = 8
LINE = 18
"""The height of a line of text in pixels."""
CHARACTER = 6.7
"""The width of a character in pixels."""


def to_svg(address_map: AddressMap, now: datetime) -> str:
    """Return a map as an SVG document, with a heading and a legend."""
    picture = _Picture.of(address_map, now)
    legend = [*_legend_lines(picture)]
    width = max(picture.width, MIN_WIDTH)
    top, height = LINE, LINE + picture.height + LINE * (len(legend) + 1)
    return "\n".join(
        [
            _opening_tag(width, height),
            *picture.head(),
            f'<rect class="paper" width="{width}" height="{height}"/>',
            f'<text class="ink" x="{MARGIN}" y="{LINE - 4}">{escape(map_title(address_map))}</text>',
            f'<g transform="translate(0,{top})">',
            *picture.body(),
            "</g>",
            *_place_legend(legend, top + picture.height + LINE // 2),
            "</svg>\n",
        ]
    )


def to_inline_svg(address_map: AddressMap, now: datetime) -> str:
    """Return a map as an SVG element with its colours, for a page that has its own heading and legend."""
    picture = _Picture.of(address_map, now)
    return "\n".join([_opening_tag(picture.width, picture.height), *picture.head(), *picture.body(), "</svg>"])


def _opening_tag(width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="map-title" aria-describedby="map-totals">'
    )


def _style_sheet() -> str:
    """Return the CSS of a map: the colours of each state on light and on dark backgrounds."""
    light, dark = ("\n".join(_colour_rules(is_dark)) for is_dark in (False, True))
    font = "svg text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}"
    return f"{font}\n.line{{stroke-width:1.5;fill:none}}\n{light}\n@media (prefers-color-scheme:dark){{\n{dark}\n}}"


def _colour_rules(is_dark: bool) -> Iterator[str]:
    paper, ink = (DARK_BACKGROUND, DARK_TEXT) if is_dark else (LIGHT_BACKGROUND, LIGHT_TEXT)
    yield f".paper{{fill:#{paper}}}.ink{{fill:#{ink}}}svg .letter{{fill:#{paper};font-weight:bold;text-anchor:middle}}"
    for state, style in STYLES.items():
        colour = style.dark if is_dark else style.light
        yield f".{_name(state)}{{fill:#{colour}}}.{_name(state)}-line{{stroke:#{colour}}}"


def swatch(look: Look) -> str:
    """Return an SVG element with one cell, for a legend."""
    return f'<svg class="swatch" width="16" height="16" aria-hidden="true">{_mark(look, 16)}</svg>'


@cache
def _name(look: Look) -> str:
    """Return the name of a look for classes and identifiers."""
    return STYLES[look].label if isinstance(look, MapState) else f"use-{look.name.lower()}"


def _mark(look: Look, width: int) -> str:
    """Return the elements that draw one cell at the origin, with a gap around it."""
    gap = 0.5 if width < MIN_MARKED else 1
    if look in (MapState.FREE, Shade.NONE):
        radius = max(width / 10, 0.5)
        return f'<circle class="free" cx="{width / 2:g}" cy="{width / 2:g}" r="{radius:g}"/>'
    if look is MapState.UNUSABLE:
        near, far = f"{width * 0.3:g}", f"{width * 0.7:g}"
        return f'<path class="line unusable-line" d="M{near} {near}L{far} {far}M{far} {near}L{near} {far}"/>'
    if look is MapState.HELD:
        frame = _square(gap + 0.75, width)
        diagonal = f"M{gap} {width - gap}L{width - gap} {gap}"
        return f'{frame} class="line held-line"/><path class="line held-line" d="{diagonal}"/>'
    if isinstance(look, Shade):
        outline = f'{_square(gap + 0.75, width)} class="line used-line"/>' if width >= MIN_MARKED else ""
        inner = width - 2 * gap
        height = max(inner * look.share, 1)
        place = f'x="{gap:g}" y="{width - gap - height:g}" width="{inner:g}" height="{height:g}"'
        return f'<rect {place} class="used"/>{outline}'
    square = f'{_square(gap, width)} class="{_name(look)}"/>'
    if look is MapState.USED or width < MIN_MARKED:
        return square
    x, y, size = width / 2, width * 0.72, round(width * 0.6)
    return f'{square}<text class="letter" x="{x:g}" y="{y:g}" style="font-size:{size}px">{STYLES[look].glyph}</text>'


def _square(gap: float, width: int) -> str:
    """Return the beginning of a square's tag."""
    return f'<rect x="{gap:g}" y="{gap:g}" width="{width - 2 * gap:g}" height="{width - 2 * gap:g}"'


def _legend_lines(picture: _Picture) -> Iterator[str]:
    """Yield the elements of each line of the legend."""
    if picture.layout.cell_size > 1:
        prefix = BLOCK_PREFIXES[picture.address_map.network.version]
        yield f'<text class="ink" y="11">Each cell is a {prefix}, in use:</text>'
        for shade, meaning in SHADE_MEANINGS.items():
            yield f'{_mark(shade, 14)}<text class="ink" x="22" y="11">{meaning}</text>'
    for state, style in STYLES.items():
        mark = _mark(state, 14) if state in picture.looks else ""
        count = f"{format_count(picture.address_map.totals[state])} {style.label}: {style.meaning}"
        yield f'{mark}<text class="ink" x="22" y="11">{escape(count)}</text>'


def _place_legend(lines: Sequence[str], top: int) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f'<g transform="translate({MARGIN},{top + LINE * number})">{line}</g>'


def describe_run(run: MapRun, address_map: AddressMap, now: datetime) -> str:
    """Return a text about a run of addresses: "10.20.0.5: used, prod/web-1, age 3d4h"."""
    row = run.row
    parts = [STYLES[run.state].label]
    if row is not None:
        parts.append(row.holder)
        if row.record is not None:
            parts.append(f"age {age(row.record.since, now)}")
    text = ", ".join(part for part in parts if part)
    return to_single_line(f"{format_run(run, address_map.network)}: {text}{f' ({run.reason})' if run.reason else ''}")


def describe_blocks(cells: Cells, version: int) -> str:
    """Return a text about cells of BLOCK_SIZE addresses: "10.133.17.0/24: 3 used, 253 free"."""
    first = address_of(cells.first * BLOCK_SIZE, version)
    counts = ", ".join([f"{count} {STYLES[state].label}" for state, count in cells.counts.items()])
    if cells.first == cells.last:
        return f"{first}{BLOCK_PREFIXES[version]}: {counts}"
    last = address_of((cells.last + 1) * BLOCK_SIZE - 1, version)
    return f"{first}-{last}: {counts} in each of {cells.last - cells.first + 1} blocks"


@dataclass(frozen=True)
class _Picture:
    """The grid of a map with its labels.

    Attributes:
        address_map: the map.
        now: the time from which ages are computed.
        layout: its rows and rectangles.
        cell: the width of a cell in pixels.
        tops: where the first row of each span of rows begins, in pixels.
        left: where the grid begins, in pixels.
        width, height: of all, in pixels.
    """

    address_map: AddressMap
    now: datetime
    layout: MapLayout
    cell: int
    tops: Mapping[int, int]
    left: int
    height: int

    @classmethod
    def of(cls, address_map: AddressMap, now: datetime) -> _Picture:
        """Lay out a map."""
        cell_size = choose_cell_size(address_map)
        columns = _choose_columns(address_map.space.size // cell_size)
        layout = lay_out(address_map, cell_size, columns, MAX_CELLS)
        cell, top, tops = CELL_WIDTHS[columns], LINE, {}
        for (first, last), hidden in layout.bands():
            tops[first] = top
            top += (last - first + 1) * cell if hidden is None else LINE
        ends = [end for span in layout.rows.spans for end in span]
        label_length = max((len(str(address_map.network.address(row * layout.row_size))) for row in ends), default=0)
        return cls(address_map, now, layout, cell, tops, round(label_length * CHARACTER) + 2 * MARGIN, top + MARGIN)

    @property
    def width(self) -> int:
        return self.left + self.layout.columns * self.cell + MARGIN

    def head(self) -> Iterator[str]:
        """Yield what a screen reader reads, the colours, and the pattern of each look."""
        totals, size = self.address_map.totals, self.address_map.size
        cell = "address" if self.layout.cell_size == 1 else BLOCK_PREFIXES[self.address_map.network.version]
        yield f'<title id="map-title">Map of network {escape(map_title(self.address_map))}</title>'
        yield (
            f'<desc id="map-totals">{escape(format_totals(totals) or "no addresses")}; {format_count(size)} addresses. '
            f"Each cell is one {cell}.</desc>"
        )
        yield f"<style>{_style_sheet()}</style>"
        yield "<defs>"
        for look in self.looks:
            yield (
                f'<pattern id="{_name(look)}" width="{self.cell}" height="{self.cell}" patternUnits="userSpaceOnUse">'
                f"{_mark(look, self.cell)}</pattern>"
            )
        yield "</defs>"

    @property
    def looks(self) -> Sequence[Look]:
        """Return how the cells of this map can look."""
        return [*MapState] if self.layout.cell_size == 1 else [*Shade, *DRAWN_OF_BLOCKS]

    def body(self) -> Iterator[str]:
        """Yield the labels, and each rectangle with its tooltip."""
        yield '<g class="ink" aria-hidden="true">'
        yield from self._labels()
        yield "</g>"
        for top, rectangles in self._rectangles_by_band().items():
            yield f'<g transform="translate({self.left},{self.tops[top]})">'
            yield from self._elements(rectangles, top)
            yield "</g>"

    def _rectangles_by_band(self) -> Mapping[int, Sequence[Rectangle]]:
        """Return the rectangles of each span of drawn rows, by its first row."""
        bands: dict[int, list[Rectangle]] = {top: [] for top, _ in self.layout.rows.spans}
        tops = [*bands]
        for rectangle in self.layout.rectangles:
            bands[tops[bisect_right(tops, rectangle.top) - 1]].append(rectangle)
        return bands

    def _elements(self, rectangles: Iterable[Rectangle], band_top: int) -> Iterator[str]:
        """Yield each rectangle of a span of rows."""
        cell, version = self.cell, self.address_map.network.version
        for top, bottom, left, width, cells in rectangles:
            text = (
                escape(describe_run(cells.run, self.address_map, self.now))
                if cells.run is not None
                else describe_blocks(cells, version)
            )
            yield (
                f'<rect x="{left * cell}" y="{(top - band_top) * cell}" width="{width * cell}" '
                f'height="{(bottom - top + 1) * cell}" fill="url(#{_name(look_of(cells))})">'
                f"<title>{text}</title></rect>"
            )

    def _labels(self) -> Iterator[str]:
        columns, row_size = self.layout.columns, self.layout.row_size
        for column in range(0, columns, columns // 8):
            x = self.left + column * self.cell
            yield f'<text x="{x}" y="{LINE - 5}">{format_column(self.address_map, column)}</text>'
        step = -(-MIN_LABEL_DISTANCE // self.cell)
        for (top, bottom), hidden in self.layout.bands():
            y = self.tops[top]
            if hidden is not None:
                text = f"{format_count(hidden)} addresses, none in use" if hidden else ""
                yield f'<text x="{MARGIN}" y="{y + LINE - 5}">{GAP_MARK} {text}</text>'
                continue
            for row in range(top, bottom + 1, step):
                baseline = y + (row - top) * self.cell + self.cell / 2 + 4
                address = self.address_map.network.address(row * row_size)
                yield f'<text x="{MARGIN}" y="{baseline:g}">{address}</text>'


def _choose_columns(cells: int) -> int:
    """Return the number of columns with which so many cells are about square; of more than MAX_CELLS, the fewest."""
    return next((columns for columns in CELL_WIDTHS if columns * columns >= cells), min(CELL_WIDTHS))
