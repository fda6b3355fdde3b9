"""How much work programs are, whatever else the machine does meanwhile."""

from __future__ import annotations

import resource
from collections.abc import Callable


def work_of(started: Callable[[], object]) -> float:
    """Seconds of processor time that the processes took which a function starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
