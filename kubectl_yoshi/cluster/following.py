"""Following what happens to a kind of object: listed once, then watched, for as long as the program runs.

A watch that ends is taken up where it ended; one that expired, or was cut off, begins anew with a list, so that
nothing is missed. While nothing answers it is tried again, ever more slowly.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import SimpleQueue
from random import Random

from kubectl_yoshi.cluster.api import Api, Listing
from kubectl_yoshi.cluster.errors import Expired
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, Resource, resource_version_of

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
WATCH_SECONDS = 300
STEADY_SECONDS = 5.0
"""A watch that lasted so long was a good one."""


@dataclass(frozen=True)
class Happened:
    """An object was made, changed or deleted."""

    resource: Resource
    obj: Json
    deleted: bool = False


@dataclass(frozen=True)
class Listed:
    """Everything that there is of a kind: what is not in it is gone. Also the sign that it can be read (again)."""

    resource: Resource
    objects: tuple[Json, ...]


@dataclass(frozen=True)
class Lost:
    """A kind can no longer be followed for the time being; said once, until it can be again."""

    resource: Resource
    error: YoshiError


@dataclass(frozen=True)
class Broken:
    """Following ended by a mistake in this program."""

    error: BaseException


News = Happened | Listed | Lost | Broken | None
"""None wakes whoever listens."""


def pause_after(failures: int, chance: Random) -> float:
    """Seconds until the next try after so many failures in a row: doubled each time, and not all clients at once."""
    longest = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE)
    return longest * (0.5 + 0.5 * chance.random())


class Follower(threading.Thread):
    """Follows one kind of object and puts what happens into a queue.

    Args:
        api: the cluster.
        resource: which kind.
        namespace: where; None for all namespaces.
        news: where to put what happens.
        since: a list that the listener knows already; None to begin with one.
    """

    def __init__(
        self, api: Api, resource: Resource, namespace: str | None, news: SimpleQueue[News], since: Listing | None = None
    ) -> None:
        super().__init__(name=f"follow {resource.plural}", daemon=True)
        self._api, self._resource, self._namespace, self._news = api, resource, namespace, news
        self._version = since.resource_version if since else ""
        self._ended = threading.Event()
        self._chance = Random()
        self._failures = 0

    def end(self) -> None:
        """Stops following, at the latest when the API server sends something."""
        self._ended.set()

    def run(self) -> None:
        """See Follower."""
        try:
            while not self._ended.is_set():
                if self._version or self._list():
                    self._watch()
        except BaseException as mistake:
            self._news.put(Broken(mistake))

    def _list(self) -> bool:
        try:
            listing = self._api.listing(self._resource, self._namespace)
        except YoshiError as error:
            self._fail(error)
            return False
        self._news.put(Listed(self._resource, listing.items))
        self._version = listing.resource_version
        return True

    def _watch(self) -> None:
        begun = self._api.clock.now()
        try:
            events = self._api.watch(
                self._resource, self._namespace, resource_version=self._version, timeout_seconds=WATCH_SECONDS
            )
            for kind, obj in events:
                if self._ended.is_set():
                    return
                self._failures = 0
                self._version = resource_version_of(obj) or self._version
                if kind != "BOOKMARK":
                    self._news.put(Happened(self._resource, obj, kind == "DELETED"))
        except Expired:
            self._version = ""
        except YoshiError as error:
            self._version = ""
            if self._api.clock.now() - begun > STEADY_SECONDS:
                self._failures = 0
            self._fail(error)
        else:
            if self._api.clock.now() - begun < STEADY_SECONDS:  # a proxy that does not let watches live
                self._ended.wait(pause_after(1, self._chance))

    def _fail(self, error: YoshiError) -> None:
        self._failures += 1
        if self._failures == 2:  # the first may be a connection that was cut; the list after it tells
            self._news.put(Lost(self._resource, error))
        self._ended.wait(pause_after(self._failures, self._chance))
