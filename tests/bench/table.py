"""The results of the measurements: the table, and bench.json."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from tests.bench.measuring import Row

HEADERS = ("MEASURED", "MEDIAN", "BESIDE", "MEDIAN", "RATIO", "TARGET", "MET")
MET = {True: "yes", False: "NO", None: ""}


@dataclass
class Taken:
    """What one run of the benchmarks has measured so far.

    Attributes:
        runs: how often each, at least.
        loads: load averages, from before the first and after each measurement.
        rows: as measured.
        seconds: how long each measurement took.
        failures: why a measurement was not completed.
    """

    runs: int
    loads: list[float]
    rows: list[Row] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def table(rows: Iterable[Row]) -> str:
    """The rows, aligned as kubectl aligns."""
    cells = [HEADERS, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADERS))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(lines)


def summary(taken: Taken) -> str:
    """The lines below the table: how it was taken, and which measurements failed."""
    loads = " to ".join(f"{load:.1f}" for load in (min(taken.loads), max(taken.loads)))
    lines = [f"{os.cpu_count()} CPUs; load average {loads}; medians of {taken.runs} or more"]
    lines += [f"{name} failed: {why}" for name, why in taken.failures.items()]
    return "\n".join(lines)


def report(taken: Taken) -> dict[str, object]:
    """What bench.json holds: every sample, and how it was taken."""
    machine = {"cpus": os.cpu_count(), "loads": taken.loads, "python": platform.python_version()}
    rows = [{**asdict(row), "met": row.met} for row in taken.rows]
    return {
        "machine": machine,
        "runs": taken.runs,
        "seconds": taken.seconds,
        "failures": taken.failures,
        "rows": rows,
    }


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
