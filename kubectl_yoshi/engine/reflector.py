"""Follow the changes of a resource: list it once, then watch it, for as long as the program runs.

A watch that ends is resumed where it ended; one that expired, or whose connection failed, starts again with a list, so
that no change is missed. While the API server does not answer, it is retried with exponential backoff.
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
"""A watch that lasted this long counts as successful."""


@dataclass(frozen=True)
class ObjectChanged:
    """An object was created, changed or deleted."""

    resource: Resource
    obj: Json
    deleted: bool = False


@dataclass(frozen=True)
class ObjectsListed:
    """All objects of a resource: any other one no longer exists. Also shows that the resource can be read (again)."""

    resource: Resource
    objects: tuple[Json, ...]


@dataclass(frozen=True)
class WatchFailed:
    """A resource cannot be watched at the moment; sent once, until it can be watched again."""

    resource: Resource
    error: YoshiError


@dataclass(frozen=True)
class ReflectorCrashed:
    """A reflector ended because of a bug in this program."""

    error: BaseException


WatchEvent = ObjectChanged | ObjectsListed | WatchFailed | ReflectorCrashed | None
"""None only wakes the receiver."""


def backoff_delay(failures: int, rng: Random) -> float:
    """Return the delay in seconds after this number of consecutive failures: exponential, with jitter."""
    upper_bound = min(MIN_BACKOFF * 2.0 ** min(failures - 1, 16), MAX_BACKOFF)
    return upper_bound * (0.5 + 0.5 * rng.random())


class Reflector(threading.Thread):
    """Watches one resource and puts its events into a queue.

    Args:
        api: the cluster.
        resource: the resource.
        namespace: the namespace; None for all.
        queue: where to put the events.
        initial_list: a list that the receiver already has; None to start with a list.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str | None,
        queue: SimpleQueue[WatchEvent],
        initial_list: Listing | None = None,
    ) -> None:
        super().__init__(name=f"watch {resource.plural}", daemon=True)
        self._api, self._resource, self._namespace, self._queue = api, resource, namespace, queue
        self._version = initial_list.resource_version if initial_list else ""
        self._stop_requested = threading.Event()
        self._rng = Random()
        self._failures = 0

    def stop(self) -> None:
        """Stop watching, at the latest when the API server sends the next event."""
        self._stop_requested.set()

    def run(self) -> None:
        """Run until stopped."""
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
            if self._api.clock.now() - started < STABLE_WATCH_SECONDS:  # a proxy that ends watches early
                self._stop_requested.wait(backoff_delay(1, self._rng))

    def _record_failure(self, error: YoshiError) -> None:
        self._failures += 1
        if self._failures == 2:  # the first failure may be a closed connection; the list after it shows
            self._queue.put(WatchFailed(self._resource, error))
        self._stop_requested.wait(backoff_delay(self._failures, self._rng))
