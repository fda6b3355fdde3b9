"""`make bench`: measures on a lab of its own, prints one table, writes bench.json; exit 1 if a target is missed.

    python -m tests.bench                         everything, in a quarter of an hour
    python -m tests.bench list growth --runs 9    some of it, and more often
    python -m tests.bench --quick                 everything with little of each, to see that it works
    python -m tests.bench side-by-side --other DIR   beside another version, a checkout with its .venv

A new measurement is a module beside this one with `measure(bench) -> rows`, and a line in MEASUREMENTS. What is
compared is measured in turns on one API server; each figure is a median of at least five. Take them on an idle machine:
the load is printed beside them, and a busy one says more about itself. A measurement that fails is reported at the end,
and the others go on; bench.json is written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lab
from lab.building import find_or_build
from lab.programs import KUBECTL
from lab.progress import Progress
from tests.bench import (
    admission,
    bulk,
    choosing,
    diagnosis,
    growth,
    lists,
    maps,
    one_attach,
    one_block,
    policies,
    side_by_side,
    start_up,
)
from tests.bench.bench import QUICK, Bench, Sizes
from tests.bench.measuring import LEAST_RUNS, MOST_RUNS, Row
from tests.bench.programs import Programs
from tests.bench.scene import Scene
from tests.bench.table import Taken, report, summary, table

MEASUREMENTS: dict[str, Callable[[Bench], Iterable[Row]]] = {
    "start-up": start_up.measure,
    "one-attach": one_attach.measure,
    "diagnosis": diagnosis.measure,
    "list": lists.measure,  # before what makes thousands of VMs more: `ips list -A` shows all that there are
    "bulk": bulk.measure,
    "policies": policies.measure,
    "side-by-side": side_by_side.measure,
    "one-block": one_block.measure,
    "growth": growth.measure,
    "choosing": choosing.measure,
    "map": maps.measure,
    "admission": admission.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; returns the exit code."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    kubectl = find_or_build([KUBECTL], progress)[KUBECTL.name]
    taken = Taken(options.runs, [os.getloadavg()[0]])
    try:
        sizes = QUICK if options.quick else Sizes()
        with bench_on_a_lab(kubectl, options.runs, sizes, progress, options.other) as bench:
            for name in options.rows or MEASUREMENTS:
                take(name, bench, taken)
                options.json.write_text(json.dumps(report(taken), indent=2, ensure_ascii=False) + "\n")
    finally:  # also what was measured until Ctrl-C
        print(table(taken.rows))
        print(summary(taken))
    if options.quick:
        return 1 if taken.failures else 0
    return 1 if taken.failures or any(row.met is False for row in taken.rows) else 0


def take(name: str, bench: Bench, taken: Taken) -> None:
    """Takes a measurement; what goes wrong in it is no reason to lose the others."""
    start = time.monotonic()
    try:
        for row in MEASUREMENTS[name](bench):
            taken.rows.append(row)
    except Exception as error:
        traceback.print_exc()
        taken.failures[name] = str(error)
    taken.seconds[name] = time.monotonic() - start
    taken.loads.append(os.getloadavg()[0])


@contextmanager
def bench_on_a_lab(
    kubectl: Path, runs: int, sizes: Sizes, progress: Progress, other: Path | None = None
) -> Iterator[Bench]:
    """A lab of the bench's own, with `kubectl yoshi install` run. The kubectl is one that runs as it is: some
    distributions put a program in its place that looks for one of the server's version, which takes its time."""
    with tempfile.TemporaryDirectory() as folder, lab.start(progress=progress) as running:
        yoshi = Path(sys.executable).parent / "kubectl-yoshi"
        programs = Programs(yoshi, kubectl, running.kubeconfig, Path(folder))
        programs.by_yoshi("install")
        yield Bench(programs, running, Scene(running.kubeconfig), runs, progress, sizes, other)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(MEASUREMENTS)
    parser.add_argument("rows", nargs="*", metavar="ROW", type=_row, help=f"of: {names} (default all)")
    counts, some = range(LEAST_RUNS, MOST_RUNS + 1), f"{LEAST_RUNS} to {MOST_RUNS}"
    parser.add_argument(
        "--runs", type=int, default=LEAST_RUNS, choices=counts, metavar="N", help=f"how often each is measured, {some}"
    )
    parser.add_argument("--quick", action="store_true", help="little of each: to see that it works, not how fast")
    parser.add_argument("--other", type=Path, metavar="DIR", help="side-by-side: also measure the version there")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: bench.json")
    return parser


def _row(name: str) -> str:
    if name not in MEASUREMENTS:
        raise argparse.ArgumentTypeError(f"no row {name!r}: there are {', '.join(MEASUREMENTS)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
