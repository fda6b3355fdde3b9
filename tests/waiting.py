"""Waiting for conditions, the same for all tests."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 120.0
"""How long anything may take on a busy machine; who waits for less tests the machine."""


def wait_for(happened: Callable[[], object], what: str = "what is waited for", seconds: float = SECONDS) -> None:
    """Poll until a condition holds.

    Raises:
        AssertionError: it did not within this many seconds.
    """
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
