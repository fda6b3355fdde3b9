"""Tables, ages and colours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.output import tables
from kubectl_yoshi.output.progress import progress
from kubectl_yoshi.output.tables import (
    PAGE_SIZE,
    Column,
    TableStyle,
    TableWriter,
    age,
    cell_text,
    human_duration,
    width,
    write_fields,
    write_table,
)

PAIR = [
    Column[tuple[object, object]]("NAME", lambda row: row[0]),
    Column[tuple[object, object]]("STATE", lambda row: row[1], state=True),
]


class Terminal(io.StringIO):
    """Text that says it goes to a terminal."""

    def isatty(self) -> bool:
        return True


def table(rows: list[tuple[object, object]], colour: bool = False) -> str:
    out = io.StringIO()
    write_table(rows, PAIR, out, TableStyle(colour=colour))
    return out.getvalue()


def test_columns_are_separated_by_three_spaces_without_trailing_ones() -> None:
    assert table([("web-1", "Bound"), ("x", None)]) == "NAME    STATE\nweb-1   Bound\nx       <none>\n"


def test_columns_have_the_minimum_width_of_kubectl() -> None:
    out = io.StringIO()
    write_table([("x", "y")], PAIR, out, TableStyle(headers=False, colour=False))
    assert out.getvalue() == "x     y\n"


def test_table_without_rows_is_empty() -> None:
    assert table([]) == ""


def test_table_is_written_incrementally() -> None:
    out = io.StringIO()
    seen: list[int] = []

    def rows() -> Iterator[tuple[object, object]]:
        for number in range(2 * PAGE_SIZE + 1):
            seen.append(len(out.getvalue()))
            yield number, "Bound"

    assert write_table(rows(), PAIR, out, TableStyle(colour=False)) == 2 * PAGE_SIZE + 1
    assert seen[PAGE_SIZE - 1] == 0
    assert seen[PAGE_SIZE] > 0
    assert seen[2 * PAGE_SIZE] > seen[PAGE_SIZE]


def test_later_pages_keep_column_widths_and_have_no_headers() -> None:
    out = io.StringIO()
    writer = TableWriter(out, PAIR, TableStyle(colour=False))
    writer.page([("web-1", "Bound")])
    writer.page([])
    writer.page([("a", "Bound"), ("longer-than-before", "Bound")])
    assert out.getvalue().splitlines()[2:] == ["a       Bound", "longer-than-before Bound"]


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=8))
def test_every_row_is_one_line(rows: list[tuple[object, object]]) -> None:
    assert len(table(rows).split("\n")) == len(rows) + 2


@given(st.text())
def test_cell_text_is_printable(text: str) -> None:
    assert cell_text(text).isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "<none>"),
        ("", "<none>"),
        ([], "<none>"),
        (0, "0"),
        (True, "True"),
        (["a", "b"], "a,b"),
        ("a\nb", "a b"),
        ("\x1b[2J", "^[[2J"),
    ],
)
def test_cell_text(value: object, shown: str) -> None:
    assert cell_text(value) == shown


def test_width_of_wide_and_combining_characters() -> None:
    assert (width("abc"), width("日本"), width("e\u0301")) == (3, 4, 1)


def test_fields_print_lists_on_several_lines() -> None:
    out = io.StringIO()
    write_fields([("Name", "blue"), ("Peers", ["10.0.0.1", "10.0.0.2"]), ("Gateway", None)], out)
    assert out.getvalue() == "Name:      blue\nPeers:     10.0.0.1\n           10.0.0.2\nGateway:   <none>\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        # k8s.io/apimachinery/pkg/util/duration/duration_test.go
        (-2, "<invalid>"), (-1, "0s"), (0, "0s"), (1, "1s"), (59, "59s"), (60, "60s"), (119, "119s"), (120, "2m"),
        (121, "2m1s"), (192, "3m12s"), (599, "9m59s"), (600, "10m"), (3600, "60m"), (10799, "179m"), (10800, "3h"),
        (10860, "3h1m"), (28740, "7h59m"), (28800, "8h"), (172740, "47h"), (172800, "2d"), (176400, "2d1h"),
        (183600, "2d3h"), (687600, "7d23h"), (691200, "8d"), (3888000, "45d"), (63072000 - 1, "729d"), (63072000, "2y"),
        (63158400, "2y1d"), (252288000, "8y"), (315360000, "10y"),
    ],
)  # fmt: skip
def test_human_duration_matches_kubectl(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


def test_age_of_a_timestamp() -> None:
    now = datetime(2026, 1, 1, 0, 3, 12, tzinfo=timezone.utc)
    assert age("2026-01-01T00:00:00Z", now) == "3m12s"
    assert age("2026-01-01T00:00:00", now) == "3m12s"
    assert age(None) == age("") == age("yesterday") == "<unknown>"


@pytest.mark.parametrize(
    ("environ", "terminal", "wanted"),
    [
        ({}, True, True), ({}, False, False), ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False), ({"NO_COLOR": ""}, True, True), ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False), ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
    ],
)  # fmt: skip
def test_colours_depend_on_terminal_and_environment(environ: dict[str, str], terminal: bool, wanted: bool) -> None:
    assert tables.uses_colours(Terminal() if terminal else io.StringIO(), environ) is wanted


def test_coloured_states_keep_the_column_widths() -> None:
    plain = table([("a", "RestartNeeded"), ("longer", "Bound")])
    coloured = table([("a", "RestartNeeded"), ("longer", "Bound")], colour=True)
    assert "\x1b[33mRestartNeeded\x1b[0m" in coloured
    for code in ("\x1b[33m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_progress_is_one_line_on_a_terminal_and_erased_at_the_end() -> None:
    stream = Terminal()
    with progress("attaching", 24, stream) as shown:
        shown.step()
        shown.step(2)
        shown.step(21, "web-24")
    assert "attaching [--------------------] 0/24" in stream.getvalue()
    assert "attaching [####################] 24/24 web-24" in stream.getvalue()
    assert stream.getvalue().endswith("\r") and "\n" not in stream.getvalue()


def test_progress_is_drawn_at_a_limited_rate() -> None:
    stream = Terminal()
    with progress("attaching", 5000, stream) as shown:
        for number in range(5000):
            shown.step(1, f"web-{number}")
    assert "5000/5000" in stream.getvalue()
    assert stream.getvalue().count("attaching") < 500


def test_progress_fits_the_terminal_width() -> None:
    stream = Terminal()
    with progress("attaching", 24, stream) as shown:
        shown.step(24, "x" * 5000)
    assert max(map(len, stream.getvalue().split("\r"))) < 500


def test_progress_is_silent_in_a_pipe() -> None:
    stream = io.StringIO()
    with progress("attaching", 24, stream) as shown:
        shown.step()
    assert stream.getvalue() == ""
