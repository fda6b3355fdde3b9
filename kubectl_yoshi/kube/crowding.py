"""How many requests may be under way at once.

API priority and fairness answers 429 to whoever asks for more at a time than is his share
(https://kubernetes.io/docs/concepts/cluster-administration/flow-control/). Then half as many go on at once, and one
more again after each round of good answers: so many threads soon send as many requests as are taken, whatever the
share is and whoever else has a part of it.
"""

from __future__ import annotations

import threading
from types import TracebackType

NO_LIMIT = 32.0
"""From here on there is no bound but the number of threads."""


class ConcurrencyLimiter:
    """`with crowd: send()`; then `crowd.decrease()` after a 429, `crowd.increase()` after anything else.

    May be used by several threads.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._in_flight = 0
        self.limit = NO_LIMIT

    def __enter__(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._in_flight < max(int(self.limit), 1) or self.limit >= NO_LIMIT)
            self._in_flight += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._condition:
            self._in_flight -= 1
            self._condition.notify()

    def decrease(self) -> None:
        """The server takes no more at once."""
        with self._condition:
            self.limit = max(min(self.limit, self._in_flight + 1) / 2, 1.0)

    def increase(self) -> None:
        """The server took it."""
        if self.limit >= NO_LIMIT:
            return
        with self._condition:
            self.limit += 1 / self.limit
            self._condition.notify()
