"""Following what happens to a kind of object: listed once, then watched, for as long as the program runs.

A watch that ends is taken up where it ended; one that expired, or was cut off, begins anew with a list, so that
nothing is missed. While nothing answers it is tried again, ever more slowly.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import SimpleQueue
from random import Random

from kubectl_yoshi.kube.client import Api, Listing
from kubectl_yoshi.kube.errors import ExpiredError
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, Resource, resource_version_of

MIN_BACKOFF, MAX_BACKOFF = 0.5, 15.0
WATCH_SECONDS = 300
STABLE_WATCH_SECONDS = 5.0
"""A watch that lasted so long was a good one."""


@dataclass(frozen=True)
class ObjectChanged:
    """An object was made, changed or deleted."""

    resource: Resource
    obj: Json
    deleted: bool = False


@dataclass(frozen=True)
class ObjectsListed:
    """Everything that there is of a kind: what is not in it is gone. Also the sign that it can be read (again)."""

    resource: Resource
    objects: tuple[Json, ...]


@dataclass(frozen=True)
class WatchFailed:
    """A kind can no longer be followed for the time being; said once, until it can be again."""

    resource: Resource
    error: YoshiError


@dataclass(frozen=True)
class ReflectorCrashed:
    """Following ended by a mistake in this program."""

    error: BaseException


WatchEvent = ObjectChanged | ObjectsListed | WatchFailed | ReflectorCrashed | None
"""None wakes whoever listens."""


def backoff_delay(failures: int, rng: Random) -> float:
    """Seconds until the next try after so many failures in a row: doubled each time, and not all clients at once."""
    upper_bound = min(MIN_BACKOFF * 2.0 ** min(failures - 1, 16), MAX_BACKOFF)
    return upper_bound * (0.5 + 0.5 * rng.random())


class Reflector(threading.Thread):
    """Follows one kind of object and puts what happens into a queue.

    Args:
        api: the cluster.
        resource: which kind.
        namespace: where; None for all namespaces.
        queue: where to put what happens.
        initial_list: a list that the listener knows already; None to begin with one.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str | None,
        queue: SimpleQueue[WatchEvent],
        initial_list: Listing | None = None,
    ) -> None:
        super().__init__(name=f"follow {resource.plural}", daemon=True)
        self._api, self._resource, self._namespace, self._queue = api, resource, namespace, queue
        self._version = initial_list.resource_version if initial_list else ""
        self._stop_requested = threading.Event()
        self._rng = Random()
        self._failures = 0

    def stop(self) -> None:
        """Stops following, at the latest when the API server sends something."""
        self._stop_requested.set()

    def run(self) -> None:
        """See Reflector."""
        try:
            while not self._stop_requested.is_set():
                if self._version or self._list():
                    self._watch()
        except BaseException as error:
            self._queue.put(ReflectorCrashed(error))

    def _list(self) -> bool:
        try:
            listing = self._api.listing(self._resource, self._namespace)
        except YoshiError as error:
            self._record_failure(error)
            return False
        self._queue.put(ObjectsListed(self._resource, listing.items))
        self._version = listing.resource_version
        return True

    def _watch(self) -> None:
        started = self._api.clock.now()
        try:
            events = self._api.watch(
                self._resource, self._namespace, resource_version=self._version, timeout_seconds=WATCH_SECONDS
            )
            for kind, obj in events:
                if self._stop_requested.is_set():
                    return
                self._failures = 0
                self._version = resource_version_of(obj) or self._version
                if kind != "BOOKMARK":
                    self._queue.put(ObjectChanged(self._resource, obj, kind == "DELETED"))
        except ExpiredError:
            self._version = ""
        except YoshiError as error:
            self._version = ""
            if self._api.clock.now() - started > STABLE_WATCH_SECONDS:
                self._failures = 0
            self._record_failure(error)
        else:
            if self._api.clock.now() - started < STABLE_WATCH_SECONDS:  # a proxy that does not let watches live
                self._stop_requested.wait(backoff_delay(1, self._rng))

    def _record_failure(self, error: YoshiError) -> None:
        self._failures += 1
        if self._failures == 2:  # the first may be a connection that was cut; the list after it tells
            self._queue.put(WatchFailed(self._resource, error))
        self._stop_requested.wait(backoff_delay(self._failures, self._rng))
