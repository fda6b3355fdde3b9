"""Tables like kubectl's: upper-case headers, three spaces between columns, no borders, written as the rows arrive.

Also the content of cells: ages as kubectl shows them, and the colours of state words.
"""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Generic, TextIO, TypeAlias, TypeVar

from kubectl_yoshi.model.printable import escape_controls
from kubectl_yoshi.output.escaping import unwrap_stream

NONE = "<none>"
UNKNOWN_AGE = "<unknown>"
PAGE_SIZE = 500
"""Number of rows that are collected to size the columns; the same number as kubectl's --chunk-size."""
COLUMN_GAP = 3
MIN_COLUMN_WIDTH = 6
"""Minimum width of a column with its gap, as in kubectl's tab writer."""


COLOUR_CODES = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "grey": 90}

STATE_COLOURS = {
    "Bound": "green",
    "Pending": "yellow",
    "RestartNeeded": "yellow",
    "Unknown": "yellow",
    "Conflict": "red",
    "Orphaned": "red",
    "Unrecorded": "red",
    "Reserved": "cyan",
    "Leased": "cyan",
    "Released": "grey",
    "Free": "grey",
    "Unusable": "grey",
}
"""The colour of each AddressState (model/address_state.py)."""


def uses_colours(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether to colour the output to a stream: on terminals only, unless NO_COLOR or FORCE_COLOR is set.

    See https://no-color.org and https://force-color.org.
    """
    environ = os.environ if environ is None else environ
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    return stream.isatty() and environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Return the text in a colour of COLOUR_CODES."""
    return f"\x1b[{COLOUR_CODES[colour]}m{text}\x1b[0m"


Painter: TypeAlias = Callable[[str, str], str]
"""Returns a text in a colour of COLOUR_CODES; unchanged if the colour is "", or if no colours are used."""


def painter(stream: TextIO) -> Painter:
    """Return what colours texts for a stream, if colours are used there (`uses_colours`)."""
    colours_used = uses_colours(stream)
    return lambda text, colour: paint(text, colour) if colours_used and colour else text


def paint_state(text: str) -> str:
    """Return a state word in its colour, any other text unchanged."""
    colour = STATE_COLOURS.get(text)
    return paint(text, colour) if colour else text


Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        header: in upper case.
        cell: return the value of a row; None and "" are shown as <none>, a list is joined by commas.
        wide: shown with -o wide only.
        state: the values are state words, which have colours.
        sort_key: return what --sort-by compares; None for the text of the cell.
        volatile: the values change with time alone, such as an age.
    """

    header: str
    cell: Callable[[Row], object]
    wide: bool = False
    state: bool = False
    sort_key: Callable[[Row], object] | None = None
    volatile: bool = False


@dataclass(frozen=True)
class TableStyle:
    """What is shown of a table.

    Attributes:
        wide: show the wide columns.
        headers: write the header line before the first row.
        colour: colour state words; None decides by the stream and the environment.
    """

    wide: bool = False
    headers: bool = True
    colour: bool | None = None


DEFAULT_STYLE = TableStyle()


class TableWriter(Generic[Row]):
    """Writes a table in pages; the first page determines the width of the columns.

    Args:
        out: the stream to write to.
        columns: all columns, including wide ones.
        style: what is shown.
    """

    def __init__(self, out: TextIO, columns: Sequence[Column[Row]], style: TableStyle = DEFAULT_STYLE) -> None:
        self.out = out
        self.columns = [column for column in columns if style.wide or not column.wide]
        self.headers = style.headers
        self.colour = uses_colours(out) if style.colour is None else style.colour
        self.widths: list[int] = []

    def page(self, rows: Iterable[Row]) -> None:
        """Write rows; nothing at all if there are none."""
        lines = [[cell_text(column.cell(row)) for column in self.columns] for row in rows]
        if not lines:
            return
        first = not self.widths
        if first:
            if self.headers:
                lines.insert(0, [column.header for column in self.columns])
            self.widths = [max(map(width, cells)) for cells in zip(*lines, strict=True)]
        coloured = [self._colour_cells(line) for line in lines]
        if first and self.headers:
            coloured[0] = lines[0]
        unwrap_stream(self.out).write("\n".join(align_columns(coloured, lines, self.widths)) + "\n")

    def pages(self, rows: Iterable[Row]) -> int:
        """Write rows as they arrive, PAGE_SIZE at a time; return their number."""
        count = 0
        iterator = iter(rows)
        while page := list(itertools.islice(iterator, PAGE_SIZE)):
            self.page(page)
            count += len(page)
        return count

    def _colour_cells(self, line: list[str]) -> list[str]:
        if not self.colour:
            return line
        return [paint_state(text) if column.state else text for column, text in zip(self.columns, line, strict=True)]


def write_table(
    rows: Iterable[Row], columns: Sequence[Column[Row]], out: TextIO, style: TableStyle = DEFAULT_STYLE
) -> int:
    """Write a table as its rows arrive, PAGE_SIZE rows at a time; return the number of rows."""
    return TableWriter(out, columns, style).pages(rows)


STATE_FIELD = "State"
"""The name of the field whose value is a state."""


def write_fields(fields: Iterable[tuple[str, object]], out: TextIO) -> None:
    """Write "Name:   value" lines as `kubectl describe` does; a list value continues on the next lines."""
    paint_field = paint_state if uses_colours(out) else str
    pairs = [(f"{name}:", value) for name, value in fields]
    label_width = max((width(name) for name, _ in pairs), default=0) + COLUMN_GAP
    for name, value in pairs:
        values = value if isinstance(value, (list, tuple)) and value else [value]
        for number, item in enumerate(values):
            label = name if number == 0 else ""
            text = paint_field(cell_text(item)) if name == f"{STATE_FIELD}:" else cell_text(item)
            unwrap_stream(out).write(f"{label:<{label_width}}{text}".rstrip() + "\n")


def align_columns(cells: Sequence[Sequence[str]], plain: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Return lines of aligned cells. `plain` has the cells without colours, which take no width."""
    lines = []
    for row, plain_row in zip(cells, plain, strict=True):
        line = ""
        for text, plain_text, column in zip(row, plain_row, widths, strict=True):
            line += text + " " * max(column + COLUMN_GAP - width(plain_text), MIN_COLUMN_WIDTH - width(plain_text), 1)
        lines.append(line.rstrip())
    return lines


def cell_text(value: object) -> str:
    """Format a value as a cell: one line, with control characters escaped."""
    if value is None or value == "" or value == () or value == []:
        return NONE
    if isinstance(value, bool):
        return "True" if value else "False"
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if text.isprintable() else "".join(map(_escape_char, text))


def width(text: str) -> int:
    """Return the number of terminal columns of a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _escape_char(char: str) -> str:
    if char.isprintable():
        return char
    if char in "\n\r\t":
        return " "
    shown = escape_controls(char)
    return shown if shown != char else f"\\u{ord(char):04x}"


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """Format the age of an object created at an RFC 3339 time: "5s", "3m12s", "2d3h"; "<unknown>" without a time."""
    if not timestamp:
        return UNKNOWN_AGE
    try:
        created = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return UNKNOWN_AGE
    if created.tzinfo is None:
        created = created.replace(tzinfo=timezone.utc)
    return human_duration(((now or datetime.now(timezone.utc)) - created).total_seconds())


def human_duration(seconds: float) -> str:
    """Format a duration like kubectl (k8s.io/apimachinery/pkg/util/duration.HumanDuration), in at most two units."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    minutes, hours = total // 60, total // 3600
    days = hours // 24
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
