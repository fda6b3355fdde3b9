"""`make bench`: measures on a lab of its own, prints one table, writes bench.json; exit 1 if a budget is missed.

A new measurement is a module beside this one with `measure(bench) -> rows`, and a line in MEASUREMENTS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import lab
from lab.progress import Progress
from lab.running import kubectl_command
from tests.bench import choosing, command_line
from tests.bench.measuring import LEAST_RUNS, Bench, Programs, Row

MEASUREMENTS: dict[str, Callable[[Bench], Iterable[Row]]] = {
    "command-line": command_line.measure,
    "choosing": choosing.measure,
}
HEADERS = ("MEASURED", "MEDIAN", "BESIDE", "MEDIAN", "RATIO", "BUDGET", "OK")
OK = {True: "yes", False: "NO", None: ""}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; returns the exit code."""
    options = _parser().parse_args(arguments)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, lab.start(progress=Progress()) as running:
        yoshi = Path(sys.executable).parent / "kubectl-yoshi"
        programs = Programs(yoshi, kubectl_command(), running.kubeconfig, Path(folder))
        programs.by_yoshi("install")
        bench = Bench(programs, max(options.runs, LEAST_RUNS))
        for name, measure in MEASUREMENTS.items():
            if not options.only or name in options.only:
                print(f"measuring {name} …", file=sys.stderr)
                rows += measure(bench)
    print_table(rows)
    options.json.write_text(json.dumps(report(rows), indent=2, ensure_ascii=False) + "\n")
    return 1 if any(row.ok is False for row in rows) else 0


def report(rows: Iterable[Row]) -> dict[str, object]:
    """What bench.json holds."""
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    return {"machine": machine, "rows": [{**asdict(row), "ok": row.ok} for row in rows]}


def print_table(rows: Iterable[Row]) -> None:
    """The table, as kubectl aligns one."""
    cells = [HEADERS, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADERS))]
    for row in cells:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.3g} {row.unit}" if value < 100 else f"{value:,.0f} {row.unit}"

    ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
    budget = "" if row.budget is None else str(row.budget) + ("" if row.budget.of_ratio else f" {row.unit}")
    return (row.what, number(row.value), row.beside, number(row.peer), ratio, budget, OK[row.ok])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), help="this one; may be repeated")
    parser.add_argument("--runs", type=int, default=7, help="how often each is measured (default 7, at least 5)")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: bench.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
