"""A gate that holds requests, so that a test is in the middle of a command for as long as it needs.

However fast or busy the machine is: some requests of a command are done, and the next ones wait, in the proxy before
the API server (scripted_fault_proxy.py), or in a webhook of the API server's (admission.py).
"""

from __future__ import annotations

import threading

LONGEST_SECONDS = 300.0
"""How long a request may wait."""


class RequestGate:
    """A gate that the first requests pass, and where the others wait until they are released.

    Args:
        passes: so many go through.
        method: of these requests; "" for all that write.
        path: whose path holds this.
    """

    def __init__(self, passes: int, method: str = "", path: str = "") -> None:
        self.method, self.path = method, path
        self._passes = passes
        self._arrived = 0
        self._closed = False
        self._changed = threading.Condition()

    def matches(self, method: str, path: str) -> bool:
        """Return whether the gate applies to such requests."""
        return (method == self.method or (not self.method and method != "GET")) and self.path in path

    def wait_for_turn(self) -> bool:
        """Wait until a request may pass; return False if it is not to be forwarded."""
        with self._changed:
            self._arrived += 1
            turn = self._arrived
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._closed or turn <= self._passes, LONGEST_SECONDS):
                raise TimeoutError("the gate was not opened")
            return not self._closed

    def is_reached(self, within: float) -> bool:
        """Return whether a request waits, or does within this many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._arrived > self._passes, within)

    def release_waiting(self) -> None:
        """Release the waiting requests; later ones wait."""
        self._let_pass(max(self._arrived, self._passes))

    def open(self) -> None:
        """Release all requests."""
        self._let_pass(1 << 62)

    def _let_pass(self, passes: int) -> None:
        with self._changed:
            self._passes = passes
            self._changed.notify_all()

    def close(self) -> None:
        """Never forward the waiting requests, nor later ones."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
