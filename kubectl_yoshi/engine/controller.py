"""`sync --watch`: one pass over everything, then passes over what changes, until it is stopped."""

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
    """Callbacks for the output of the controller.

    Attributes:
        info: print an informational line.
        error: print an error.
        report: print the report of a pass.
    """

    info: Callable[[str], None]
    error: Callable[[str], None]
    report: Callable[[SyncReport], None]


class Controller:
    """Reconciles networks and VM annotations continuously.

    Args:
        api: the cluster.
        full_scope: everything that is watched.
        backends: by plugin.
        sync: run a pass over a part of the scope.
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
        """Return whether the controller was stopped."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop once the current pass is complete. May be called by a signal handler."""
        self._stopping.set()
        self._events.put(None)

    def run(self) -> None:
        """Run until stopped.

        Raises:
            YoshiError: it could not start: nothing can be read.
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
            f"watching {report.sync_plan.networks} networks, and {report.sync_plan.vms} VMs that request networks"
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
        """Return the initial list; None if the resource is not served or cannot be read (yet)."""
        try:
            return self._api.listing(resource, self._full_scope.namespace)
        except (NotServedError, ForbiddenError):
            return None

    def _wait_for_events(self, queue: WorkQueue) -> None:
        """Wait for events until something is due, and handle all events that have arrived."""
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
            self._output.error(f"{event.error.message}; it is retried periodically")
            return
        if not self._is_failing:
            self._output.error(f"{event.error.message}; it is retried until it succeeds")
        self._failed_resources.add(event.resource)

    def _on_watch_recovered(self, resource: Resource) -> None:
        if resource in self._failed_resources:
            self._failed_resources.discard(resource)
            if not self._is_failing:
                self._output.info("the API server responds again")

    @property
    def _is_failing(self) -> bool:
        return bool(self._failed_resources or self._failures)

    def _sync_scope(self, scope: SyncScope, queue: WorkQueue) -> None:
        if scope.is_whole:
            self._api.invalidate_discovery()  # a backend may have been installed meanwhile
        try:
            report = self._sync(scope)
        except YoshiError as error:
            if not self._is_failing:
                self._output.error(f"{error.message}; it is retried until it succeeds")
            self._failures += 1
            queue.requeue(scope, self._api.clock.now(), backoff_delay(self._failures, self._rng))
            return
        if self._failures:
            self._failures = 0
            if not self._is_failing:
                self._output.info("the API server responds again")
        queue.finish(scope, report, self._api.clock.now())
        self._output.report(report)
