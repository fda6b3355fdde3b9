"""Watches, and what happens in a cluster while a command watches it.

Such a command has threads of its own and takes real time. An action is taken when the command has printed a text and
then was silent for a while, so that what it sends does not depend on how fast it is.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.golden.kinds import Json
from tests.golden.server import FakeApiServer, Request

SILENT_SECONDS = 0.7
LIMIT_SECONDS = 60.0


class Stream:
    """The body of a watch's answer: a line of JSON for each event, until it is ended."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.closed = False

    def send(self, kind: str, obj: Json) -> None:
        """Send an event."""
        self._lines.put(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def read1(self, amount: int = -1) -> bytes:
        """Return what has come; wait for it where there is nothing."""
        return self._lines.get()

    read = read1

    def close(self) -> None:
        """Close the connection."""
        self.closed = True


@dataclass
class Watches:
    """The watches that are open, by the plural of their kind and their namespace.

    Attributes:
        server: whose events they show.
        active: when something was sent or changed last, by the real clock.
    """

    server: FakeApiServer
    active: float = 0.0
    _open: list[tuple[str, str, Stream]] = field(default_factory=list)
    _refused: set[str] = field(default_factory=set)
    _sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, request: Request) -> Stream:
        """Open a watch; its events begin now."""
        plural, namespace = self.server.watched(request)
        stream = Stream()
        with self._lock:
            self._open.append((plural, namespace, stream))
        if plural in self._refused:
            self._send_refusal(plural, stream)
        return stream

    def is_initialized(self, count: int) -> bool:
        """Return whether so many watches are open."""
        return len(self._open) >= count

    def is_silent(self) -> bool:
        """Return whether nothing was sent or changed for a while."""
        return time.perf_counter() - self.active > SILENT_SECONDS

    def send_events(self) -> None:
        """Send what has happened since the last time."""
        with self._lock:
            events, self._sent = self.server.events[self._sent :], len(self.server.events)
            for kind, resource, obj in events:
                for plural, namespace, stream in self._open:
                    if plural == resource.full_name and namespace in ("", obj["metadata"].get("namespace")):
                        stream.send(kind, obj)

    def refuse(self) -> None:
        """End one of the watches with an error, and all later ones of its kind."""
        plural, _, stream = min(self._open, key=lambda watch: watch[:2])
        self._refused.add(plural)
        self._send_refusal(plural, stream)

    def _send_refusal(self, plural: str, stream: Stream) -> None:
        message = f'{plural} is forbidden: User "mary" cannot watch resource "{plural}"'
        stream.send("ERROR", {"kind": "Status", "reason": "Forbidden", "message": message, "code": 403})


Action = tuple[str, Callable[[], object]]
"""A text that the command prints, and what is done after it."""


def act(actions: Sequence[Action], count: int, watches: Watches, printed: Callable[[], str]) -> None:
    """Start a thread that takes the actions.

    Args:
        actions: in order; each text is looked for in what was printed since the action before.
        count: how many watches the command has.
        watches: its watches.
        printed: gives what it has printed.
    """

    def run() -> None:
        begin = 0
        for text, action in actions:
            end = time.perf_counter() + LIMIT_SECONDS
            while not (watches.is_initialized(count) and text in printed()[begin:] and watches.is_silent()):
                if time.perf_counter() > end:
                    print(f"{text!r} was not printed, or no {count} watches came:\n{printed()}", file=sys.__stderr__)
                    os._exit(1)
                time.sleep(0.02)
            begin = len(printed())
            watches.active = time.perf_counter()
            action()
            watches.send_events()

    threading.Thread(target=run, daemon=True).start()
