"""Time and chance without the machine: waits take no time, the date is given, random numbers come from a seed.

The wall clock stands still during a command, whatever it waits for, so that timestamps do not depend on how often it
looks; the monotonic clock advances by the waits.
"""

from __future__ import annotations

import datetime
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.golden.rebinding import rebind, replace

RealDate = datetime.datetime
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
SEED = 5


class Clock:
    """The time of a scenario.

    Attributes:
        date: the wall clock.
        monotonic: seconds that the commands have waited.
        time_passes: called after each wait.
    """

    def __init__(self) -> None:
        self.date = START
        self.monotonic = 0.0
        self.time_passes: Callable[[], object] = lambda: None

    def timestamp(self) -> str:
        """Return the date as Kubernetes writes it."""
        return self.date.strftime("%Y-%m-%dT%H:%M:%SZ")

    def advance(self, **spans: float) -> None:
        """Advance the wall clock, by what datetime.timedelta takes."""
        self.date += datetime.timedelta(**spans)

    def wait(self, seconds: float) -> None:
        """Let a command wait."""
        self.monotonic += seconds
        self.time_passes()


def install(clock: Clock, *, real_waits: bool = False) -> None:
    """Let this process use that clock from now on, and seeded random numbers.

    Args:
        clock: the clock.
        real_waits: for commands that wait for several threads: waits take real time.
    """
    _install_date(clock)
    _install_seeds()
    if real_waits:
        return
    wait_for_event = threading.Event.wait

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout is None or event.is_set():
            return wait_for_event(event, timeout)
        clock.wait(timeout)
        return event.is_set()

    replace(threading.Event, "wait", wait)
    rebind(time, "sleep", clock.wait)
    rebind(time, "monotonic", lambda: clock.monotonic)
    rebind(time, "perf_counter", lambda: clock.monotonic)


def _install_date(clock: Clock) -> None:
    class IsDate(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, RealDate)

    class Date(RealDate, metaclass=IsDate):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return clock.date.astimezone(tz)

    rebind(datetime, "datetime", Date)
    rebind(time, "time", lambda: clock.date.timestamp())
    rebind(time, "time_ns", lambda: int(clock.date.timestamp()) * 10**9)


def _install_seeds() -> None:
    seed = random.Random.seed

    def seeded(generator: random.Random, value: Any = None, version: int = 2) -> None:
        seed(generator, SEED if value is None else value, version)

    replace(random.Random, "seed", seeded)
    getrandbits = random.Random.getrandbits

    def same_for_each_attempt(generator: random.Random, bits: int) -> int:
        """A seed of 64 bits, which is drawn once for each attempt, does not depend on what was drawn before it."""
        return SEED if bits == 64 else getrandbits(generator, bits)

    replace(random.Random, "getrandbits", same_for_each_attempt)
    os.urandom = random.Random(SEED).randbytes


def begin_command() -> None:
    """Let a command draw the same random numbers whatever ran before it."""
    random.seed(SEED)
