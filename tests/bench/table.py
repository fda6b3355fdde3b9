"""What the measurements come to: the table, and bench.json."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from tests.bench.measuring import Row

HEADERS = ("MEASURED", "MEDIAN", "BESIDE", "MEDIAN", "RATIO", "TARGET", "MET")
MET = {True: "yes", False: "NO", None: ""}


def table(rows: Iterable[Row]) -> str:
    """The rows, aligned as kubectl aligns."""
    cells = [HEADERS, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADERS))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(lines)


def report(rows: Iterable[Row], runs: int, loads: Sequence[float]) -> dict[str, object]:
    """What bench.json holds: every sample, and the load averages from before and after."""
    machine = {"cpus": os.cpu_count(), "load": loads, "python": platform.python_version()}
    return {"machine": machine, "runs": runs, "rows": [{**asdict(row), "met": row.met} for row in rows]}


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}x"
    target = ""
    if row.target is not None:
        target = str(row.target) if row.target.of_ratio else f"{row.target} {row.unit}".rstrip()
    return (row.what, _number(row, row.value), row.beside, _number(row, row.peer), ratio, target, MET[row.met])


def _number(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f} {row.unit}".rstrip() if value >= 100 else f"{value:.3g} {row.unit}".rstrip()
