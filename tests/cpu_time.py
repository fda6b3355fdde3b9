"""How much work programs are, whatever else the machine does meanwhile."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

BARE_SECONDS = 0.025
"""What an interpreter that does nothing takes on a machine for which the limits were set."""


def least_work(started: Callable[[], object], times: int = 7) -> float:
    """Return the least CPU seconds of the processes that a function starts and waits for, over some runs.

    On a machine that is slower by itself, as an interpreter that does nothing, measured beside it, shows, so
    many seconds fewer.
    """
    bare, least = zip(*((_work_of(_bare), _work_of(started)) for _ in range(times)), strict=True)
    return min(least) / max(min(bare) / BARE_SECONDS, 1.0)


def _bare() -> None:
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)


def _work_of(started: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
