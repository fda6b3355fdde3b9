"""Which tests a worker of pytest-xdist takes at a time, and which of them come first."""

from __future__ import annotations

import random
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

E2E = "e2e"
FIRST = (
    E2E,
    "test_faults",
    "test_permissions",
    "test_concurrency",
    "test_kill_matrix",
    "test_public_addresses",
    "test_calico_kill_matrix",
    "test_documents",
    "test_examples",
    "test_completion",
    "test_as_roles",
    "test_faults_installing",
    "test_outages",
    "test_scale",
    "test_bench",
    "test_crds",
)
"""What takes a minute or more, from the longest down: begun last, it would leave the other workers idle."""
TOGETHER = {"test_public": "test_public_addresses", "test_crds_status": "test_crds"}
"""Modules of tests/cluster, and others with whom they share a lab of their own."""


class Scheduling(LoadScopeScheduling):
    """Gives a worker one module after the other, and all of tests/e2e to one worker: it alone starts a full lab."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(Path(nodeid.partition("::")[0]))


def unit_of(module: Path) -> str:
    """Return what a module's tests are given to a worker with: "e2e", or a module's name with its folder."""
    if module.parent.name == E2E:
        return E2E
    return str(module.with_name(TOGETHER.get(module.stem, module.stem)))


def place_of(module: Path, seed: str = "") -> float:
    """Return the place of a module's tests among all that are run; those with the same place stay in their order.

    Args:
        seed: draws a random place for each module; "" for the order of FIRST.
    """
    unit = unit_of(module)
    if seed:
        return random.Random(f"{seed}: {unit}").random()
    name = Path(unit).name
    return FIRST.index(name) if name in FIRST else len(FIRST)
