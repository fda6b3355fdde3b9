"""-w: call a function after each change of the resources that a list is based on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.reflector import ObjectsListed, Reflector, ReflectorCrashed, WatchEvent, WatchFailed
from kubectl_yoshi.model.objects import Resource

SETTLE_SECONDS = 0.3
"""Changes that follow each other within this time are printed together."""


def show_on_changes(
    session: Session, all_namespaces: bool, resources: Sequence[Resource], show: Callable[[], None]
) -> None:
    """Print what has changed after each change of these resources, until Ctrl-C; the caller has printed the list.

    Raises:
        YoshiError: a resource can no longer be watched.
    """
    session.out.flush()
    namespace = None if all_namespaces else session.namespace
    events: SimpleQueue[WatchEvent] = SimpleQueue()
    reflectors = [Reflector(session.api, resource, namespace, events) for resource in resources]
    for reflector in reflectors:
        reflector.start()
    listed: set[Resource] = set()
    try:
        while True:
            has_changed = _is_change(events.get(), listed)
            with suppress(Empty):
                while True:
                    has_changed |= _is_change(events.get(timeout=SETTLE_SECONDS), listed)
            if has_changed:
                show()
                session.out.flush()
    finally:
        for reflector in reflectors:
            reflector.stop()


def _is_change(event: WatchEvent, listed: set[Resource]) -> bool:
    """Return whether something may have changed since the list was printed.

    Args:
        event: from a reflector.
        listed: the resources that are listed already; the first list of each is what was printed, and is added here.
    """
    if isinstance(event, (WatchFailed, ReflectorCrashed)):
        raise event.error
    if isinstance(event, ObjectsListed) and event.resource not in listed:
        listed.add(event.resource)
        return False
    return True
