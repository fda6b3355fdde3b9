"""`sync --watch`: a pass over everything, then one over whatever changes, until it is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from random import Random

from kubectl_yoshi.engine.reflector import (
    ObjectsListed,
    Reflector,
    ReflectorCrashed,
    WatchEvent,
    WatchFailed,
    backoff_delay,
)
from kubectl_yoshi.engine.sync import SyncReport
from kubectl_yoshi.engine.workqueue import WorkQueue
from kubectl_yoshi.kube.client import Api, Listing
from kubectl_yoshi.kube.errors import ForbiddenError, NotServedError
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.sync.planner import SyncScope

MAX_SLEEP = 60.0


@dataclass(frozen=True)
class ControllerOutput:
    """How the program tells what it does.

    Attributes:
        info: a line on what goes well.
        error: a line on what does not.
        report: told of each pass; shows what it came to.
    """

    info: Callable[[str], None]
    error: Callable[[str], None]
    report: Callable[[SyncReport], None]


class Controller:
    """Keeps true what networks and VM annotations ask for.

    Args:
        api: the cluster.
        full_scope: what is watched over.
        backends: by plugin.
        sync: makes a pass over a part of it.
        output: see ControllerOutput.
    """

    def __init__(
        self,
        api: Api,
        full_scope: SyncScope,
        backends: Mapping[str, Backend],
        sync: Callable[[SyncScope], SyncReport],
        output: ControllerOutput,
    ) -> None:
        self._api, self._full_scope, self._backends, self._sync, self._output = api, full_scope, backends, sync, output
        self._events: SimpleQueue[WatchEvent] = SimpleQueue()
        self._stopping = threading.Event()
        self._rng = Random()
        self._failures = 0
        self._failed_resources: set[Resource] = set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Lets it end as soon as what it is doing is complete. May be called by a signal handler."""
        self._stopping.set()
        self._events.put(None)

    def run(self) -> None:
        """Keeps on until told to end.

        Raises:
            YoshiError: it could not even begin: nothing can be read.
        """
        queue = WorkQueue(self._full_scope, self._backends, self._api.clock.now())
        lists = {resource: self._list_initial(resource) for resource in (NETWORKWIZARD, VM)}
        for resource, listing in lists.items():
            queue.mark_known(listing.items if listing else (), resource.kind)
        report = self._sync(self._full_scope)
        queue.finish(self._full_scope, report, self._api.clock.now())
        self._output.report(report)
        reflectors = [
            Reflector(self._api, resource, self._full_scope.namespace, self._events, listing)
            for resource, listing in lists.items()
        ]
        for reflector in reflectors:
            reflector.start()
        self._output.info(
            f"watching {report.sync_plan.networks} networks, and {report.sync_plan.vms} VMs that ask for something"
        )
        try:
            while not self.is_stopping:
                self._wait_for_events(queue)
                scope = queue.pop_due(self._api.clock.now())
                if scope is not None and not self.is_stopping:
                    self._sync_scope(scope, queue)
        finally:
            for reflector in reflectors:
                reflector.stop()
        self._output.info("ended")

    def _list_initial(self, resource: Resource) -> Listing | None:
        """What there is, or None where that kind is not served or may not be seen (yet)."""
        try:
            return self._api.listing(resource, self._full_scope.namespace)
        except (NotServedError, ForbiddenError):
            return None

    def _wait_for_events(self, queue: WorkQueue) -> None:
        """Waits for news, as long as there is nothing to do, and takes all that there is."""
        timeout = min(max(queue.seconds_until_due(self._api.clock.now()), 0.0), MAX_SLEEP)
        try:
            self._handle_event(self._events.get(timeout=timeout), queue)
            while True:
                self._handle_event(self._events.get_nowait(), queue)
        except Empty:
            return

    def _handle_event(self, event: WatchEvent, queue: WorkQueue) -> None:
        if isinstance(event, ReflectorCrashed):
            raise event.error
        if isinstance(event, WatchFailed):
            self._on_watch_failed(event)
        elif event is not None:
            if isinstance(event, ObjectsListed):
                self._on_watch_recovered(event.resource)
            queue.add_event(event, self._api.clock.now())

    def _on_watch_failed(self, event: WatchFailed) -> None:
        if isinstance(event.error, ForbiddenError):
            self._output.error(f"{event.error.message} It is looked at again now and then.")
            return
        if not self._is_failing:
            self._output.error(f"{event.error.message} It is tried again until that is over.")
        self._failed_resources.add(event.resource)

    def _on_watch_recovered(self, resource: Resource) -> None:
        if resource in self._failed_resources:
            self._failed_resources.discard(resource)
            if not self._is_failing:
                self._output.info("the API server answers again")

    @property
    def _is_failing(self) -> bool:
        return bool(self._failed_resources or self._failures)

    def _sync_scope(self, scope: SyncScope, queue: WorkQueue) -> None:
        if scope.is_whole:
            self._api.invalidate_discovery()  # a back-end may have been installed meanwhile
        try:
            report = self._sync(scope)
        except YoshiError as error:
            if not self._is_failing:
                self._output.error(f"{error.message} It is tried again until that is over.")
            self._failures += 1
            queue.requeue(scope, self._api.clock.now(), backoff_delay(self._failures, self._rng))
            return
        if self._failures:
            self._failures = 0
            if not self._is_failing:
                self._output.info("the API server answers again")
        queue.finish(scope, report, self._api.clock.now())
        self._output.report(report)
