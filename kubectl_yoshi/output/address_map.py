"""A map of a network's address space on a terminal: rows of glyphs, a legend with totals, and one line of all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TextIO

from kubectl_yoshi.output.escaping import unwrap_stream
from kubectl_yoshi.output.map_layout import (
    BLOCK_PREFIXES,
    BLOCK_SIZE,
    GAP_MARK,
    ROW_LENGTH,
    MapLayout,
    choose_cell_size,
    format_column,
    lay_out,
    map_title,
)
from kubectl_yoshi.output.map_style import (
    DRAWN_OF_BLOCKS,
    SHADE_MEANINGS,
    STYLES,
    Look,
    format_count,
    format_totals,
    glyph_of,
    look_of,
)
from kubectl_yoshi.output.tables import uses_colours
from kubectl_yoshi.plan.address_map import IN_USE, AddressMap, group_cells

MAX_CELLS = 4096
"""The number of cells up to which rows without use are printed: 128 rows."""
GROUP = 8
"""Columns between two spaces."""
LINE_CELLS = 32
"""The cells of the map in one line."""


def write_address_map(address_map: AddressMap, out: TextIO, columns: int = ROW_LENGTH) -> None:
    """Write a map with its legend; in colours if the stream takes them (`uses_colours`)."""
    colour = uses_colours(out)
    lines = [f"{map_title(address_map)}: {format_totals(address_map.totals) or 'no addresses'}"]
    cell_size = choose_cell_size(address_map)
    if address_map.runs:
        layout = lay_out(address_map, cell_size, columns, MAX_CELLS)
        lines += ["", *_grid(address_map, layout, colour)]
    lines += ["", *_legend(address_map, cell_size, colour)]
    unwrap_stream(out).write("\n".join(lines) + "\n")


def _grid(address_map: AddressMap, layout: MapLayout, colour: bool) -> Iterator[str]:
    """Yield a line for each row, below a line with the numbers of the columns."""
    looks = _looks_by_row(layout)
    labels = {row: str(address_map.network.address(row * layout.row_size)) for row in looks}
    width = max(map(len, labels.values())) + 2
    columns = max(rectangle.left + rectangle.width for rectangle in layout.rectangles)
    heads = (format_column(address_map, column) for column in range(0, columns, GROUP))
    yield (" " * width + "".join(f"{head:<{GROUP + 1}}" for head in heads)).rstrip()
    for (top, bottom), hidden in layout.bands():
        if hidden is not None:
            yield f"{GAP_MARK:<{width}}{f'{format_count(hidden)} addresses, none in use' if hidden else ''}".rstrip()
            continue
        for row in range(top, bottom + 1):
            cells = looks[row]
            groups = (_glyphs(cells[start : start + GROUP], colour) for start in range(0, layout.columns, GROUP))
            yield f"{labels[row]:<{width}}{' '.join(groups)}".rstrip()


def _looks_by_row(layout: MapLayout) -> dict[int, list[Look | None]]:
    """Return how the cells of each drawn row look; None for those that are not of the network."""
    rows: dict[int, list[Look | None]] = {
        row: [None] * layout.columns for top, bottom in layout.rows.spans for row in range(top, bottom + 1)
    }
    for top, bottom, left, width, cells in layout.rectangles:
        look = look_of(cells)
        for row in range(top, bottom + 1):
            rows[row][left : left + width] = [look] * width
    return rows


def _glyphs(looks: Iterable[Look | None], colour: bool) -> str:
    """Return the glyphs of neighbouring cells."""
    text = ""
    for look, cells in groupby(looks):
        glyph, number = glyph_of(look) if look is not None else (" ", 0)
        glyphs = glyph * len([*cells])
        text += f"\x1b[38;5;{number}m{glyphs}\x1b[0m" if colour and look is not None else glyphs
    return text


def _legend(address_map: AddressMap, cell_size: int, colour: bool) -> Iterator[str]:
    """Yield a line for each state with its total; for blocks, before them, what the shades mean."""
    if cell_size > 1:
        shades = "  ".join(f"{_glyphs([shade], colour)} {meaning}" for shade, meaning in SHADE_MEANINGS.items())
        yield f"Each cell is a {BLOCK_PREFIXES[address_map.network.version]}, in use: {shades}"
        if example := zoom_example(address_map):
            yield f"Its addresses: kubectl yoshi ips map {example}"
        yield ""
    totals = {state: format_count(count) for state, count in address_map.totals.items()}
    label_width = max(len(style.label) for style in STYLES.values())
    count_width = max(map(len, totals.values()))
    for state, style in STYLES.items():
        glyph = _glyphs([state], colour) if cell_size == 1 or state in DRAWN_OF_BLOCKS else " "
        yield f"{glyph} {style.label:<{label_width}} {totals[state]:>{count_width}}   {style.meaning}"


def zoom_example(address_map: AddressMap) -> str:
    """Return the arguments that map the first block with an address in use; "" if there is none."""
    used = next((run for run in address_map.runs if run.state in IN_USE), None)
    if used is None:
        return ""
    network = address_map.network
    first = network.address(used.first - used.first % BLOCK_SIZE)
    return f"{network.name} {first}{BLOCK_PREFIXES[network.version]} -n {network.namespace}"


def one_line_map(address_map: AddressMap) -> str:
    """Return a map of at most LINE_CELLS cells in one line, each shaded by use; "" for a network without a CIDR.

    Addresses outside the CIDR are left out.
    """
    if not address_map.space:
        return ""
    [(first, last)] = address_map.space.spans
    size = max((last - first + 1) // LINE_CELLS, 1)
    inside = (run for run in address_map.runs if first <= run.first <= last)
    glyphs = (glyph_of(look_of(cells))[0] * (cells.last - cells.first + 1) for cells in group_cells(inside, size))
    return f"{''.join(glyphs)}  {format_count(size)} {'address' if size == 1 else 'addresses'} a cell"
