"""The layout of a map: cells in rows, rows without use left out where there are too many, and runs cut into rectangles.

The grid is aligned to multiples of a row, so that a row has the same low bits everywhere: with 32 columns a row is a
/27. The steps depend on the runs of the map, and not on the number of its cells.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kubectl_yoshi.model.addresses import Intervals, Span
from kubectl_yoshi.plan.address_map import AddressMap, Cells, group_cells

BLOCK_SIZE = 256
"""The addresses of a cell of a large network."""
BLOCK_PREFIXES = {4: "/24", 6: "/120"}
"""The prefix length of such a cell, by IP version."""
MAX_ADDRESSES = 4096
"""The largest space (a /20) of which each cell is an address."""
MAX_IPV6_ROWS = 128
"""Rows of ROW_LENGTH addresses in use up to which the cells of a large IPv6 network are addresses."""
ROW_LENGTH = 32
"""The columns of a terminal."""
GAP_MARK = "⋮"
"""Where rows are left out."""


class Rectangle(NamedTuple):
    """Cells of the same content, a rectangle of the grid.

    Attributes:
        top, bottom: its first and last row.
        left, width: its first column, and the number of columns.
        cells: where they are from.
    """

    top: int
    bottom: int
    left: int
    width: int
    cells: Cells


@dataclass(frozen=True)
class MapLayout:
    """A grid of cells.

    Attributes:
        columns: cells of a row.
        cell_size: addresses of a cell, 1 or BLOCK_SIZE.
        rows: the rows that are drawn; their number is that of their first cell, divided by `columns`.
        rectangles: what is drawn, by address.
        space: the addresses of the map, including rows that are left out.
    """

    columns: int
    cell_size: int
    rows: Intervals
    rectangles: Sequence[Rectangle]
    space: Intervals

    @property
    def row_size(self) -> int:
        """Return the number of addresses of a row."""
        return self.columns * self.cell_size

    def bands(self) -> Iterator[tuple[Span, int | None]]:
        """Yield spans of rows from top to bottom, each with None if it is drawn, else with its number of addresses."""
        in_space = [(first // self.row_size, last // self.row_size) for first, last in self.space.spans]
        ends = [end for span in (*in_space, *self.rows.spans) for end in span]
        hidden = Intervals.from_spans([(min(ends), max(ends))]) - self.rows if ends else Intervals()
        gaps = [(rows, self._count_addresses(rows)) for rows in hidden.spans]
        yield from sorted([*((rows, None) for rows in self.rows.spans), *gaps], key=lambda band: band[0])

    def _count_addresses(self, rows: Span) -> int:
        """Return how many addresses of the map are in rows."""
        top, bottom = rows
        return (self.space & Intervals.from_spans([(top * self.row_size, (bottom + 1) * self.row_size - 1)])).size


def map_title(address_map: AddressMap) -> str:
    """Return the network and the part of it that is drawn: "prod/blue 10.20.0.0/24"."""
    return f"{address_map.network.full_name} {address_map.cidr or ''}".rstrip()


def format_column(address_map: AddressMap, column: int) -> str:
    """Return the number of a column, from 0, in the notation of the addresses."""
    return f"{column:x}" if address_map.network.version == 6 else str(column)


def choose_cell_size(address_map: AddressMap) -> int:
    """Return how many addresses a cell has: 1, or BLOCK_SIZE for large networks.

    In a large network of IPv6 it is 1 as long as the addresses in use are in few rows.
    """
    if address_map.space.size <= MAX_ADDRESSES:
        return 1
    if address_map.network.version == 4:
        return BLOCK_SIZE
    rows = {run.first // ROW_LENGTH for run in address_map.runs if run.row is not None}
    return 1 if len(rows) <= MAX_IPV6_ROWS else BLOCK_SIZE


def lay_out(address_map: AddressMap, cell_size: int, columns: int, max_cells: int) -> MapLayout:
    """Return the layout of a map.

    Args:
        address_map: the map.
        cell_size: addresses of a cell.
        columns: cells of a row.
        max_cells: the number of cells up to which all rows are drawn; of a larger map only those with use, single rows
            between them, and the first.
    """
    cells = group_cells(address_map.runs, cell_size)
    draws_all = address_map.space.size <= max_cells * cell_size
    spans = {(run.first // columns, run.last // columns) for run in cells if draws_all or run.free < run.usable}
    rows = Intervals.from_spans([*spans, (cells[0].first // columns,) * 2]) if cells else Intervals()
    between = [(one[1] + 1, other[0] - 1) for one, other in zip(rows.spans, rows.spans[1:], strict=False)]
    rows |= Intervals.from_spans((top, bottom) for top, bottom in between if top == bottom)
    rectangles: list[Rectangle] = []
    for run in cells:
        row, column = divmod(run.first, columns)
        if run.first == run.last and row in rows:
            rectangles.append(Rectangle(row, row, column, 1, run))
        else:
            rectangles += _rectangles(run, rows, columns)
    return MapLayout(columns, cell_size, rows, rectangles, address_map.space)


def _rectangles(cells: Cells, rows: Intervals, columns: int) -> Iterator[Rectangle]:
    """Yield the drawn parts of a run of cells: at most three rectangles in each span of rows."""
    start = bisect_left(rows.spans, cells.first // columns, key=lambda span: span[1])
    end = bisect_right(rows.spans, cells.last // columns, key=lambda span: span[0])
    for top, bottom in rows.spans[start:end]:
        first, last = max(cells.first, top * columns), min(cells.last, (bottom + 1) * columns - 1)
        (top_row, left), (bottom_row, right) = divmod(first, columns), divmod(last, columns)
        if top_row == bottom_row:
            yield Rectangle(top_row, top_row, left, right - left + 1, cells)
            continue
        if left:
            yield Rectangle(top_row, top_row, left, columns - left, cells)
            top_row += 1
        last_full = bottom_row if right == columns - 1 else bottom_row - 1
        if top_row <= last_full:
            yield Rectangle(top_row, last_full, 0, columns, cells)
        if last_full < bottom_row:
            yield Rectangle(bottom_row, bottom_row, 0, right + 1, cells)
