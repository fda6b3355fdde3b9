"""How many requests may be under way at once.

API priority and fairness answers 429 to whoever asks for more at a time than is his share
(https://kubernetes.io/docs/concepts/cluster-administration/flow-control/). Then half as many go on at once, and one
more again after each round of good answers: so many threads soon send as many requests as are taken, whatever the
share is and whoever else has a part of it.
"""

from __future__ import annotations

import threading
from types import TracebackType

ENOUGH = 32.0
"""From here on there is no bound but the number of threads."""


class Crowd:
    """`with crowd: send()`; then `crowd.refused()` after a 429, `crowd.answered()` after anything else.

    May be used by several threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self.limit = ENOUGH

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < max(int(self.limit), 1) or self.limit >= ENOUGH)
            self._under_way += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify()

    def refused(self) -> None:
        """The server takes no more at once."""
        with self._changed:
            self.limit = max(min(self.limit, self._under_way + 1) / 2, 1.0)

    def answered(self) -> None:
        """The server took it."""
        if self.limit >= ENOUGH:
            return
        with self._changed:
            self.limit += 1 / self.limit
            self._changed.notify()
