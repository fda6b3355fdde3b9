"""-w: shows a list again whenever something that it is made of changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.engine.reflector import ObjectsListed, Reflector, ReflectorCrashed, WatchEvent, WatchFailed
from kubectl_yoshi.model.objects import Resource

SETTLE_SECONDS = 0.3
"""What changes together is shown together."""


def show_on_changes(
    session: Session, all_namespaces: bool, resources: Sequence[Resource], show: Callable[[], None]
) -> None:
    """Show a list, which was shown once, again after each change of these resources, until Ctrl-C.

    Raises:
        YoshiError: one of them can no longer be watched.
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
                print(file=session.out)
                show()
                session.out.flush()
    finally:
        for reflector in reflectors:
            reflector.stop()


def _is_change(event: WatchEvent, listed: set[Resource]) -> bool:
    """Return whether something may have changed since the list was shown.

    Args:
        event: what a reflector reports.
        listed: the resources that it has listed already; the first list of each is what was shown.
    """
    if isinstance(event, (WatchFailed, ReflectorCrashed)):
        raise event.error
    if isinstance(event, ObjectsListed) and event.resource not in listed:
        listed.add(event.resource)
        return False
    return True
