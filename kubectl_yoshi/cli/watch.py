"""-w: shows a list again whenever something that it is made of changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, Queue

from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ExpiredError
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Resource

SETTLE_SECONDS = 0.3
"""What changes together is shown together."""


def show_on_changes(
    session: Session, all_namespaces: bool, resources: Sequence[Resource], show: Callable[[], None]
) -> None:
    """Shows a list, which was shown once, anew after each change of these resources, until Ctrl-C.

    Raises:
        YoshiError: one of them can no longer be watched.
    """
    session.out.flush()
    namespace = None if all_namespaces else session.namespace
    events: Queue[YoshiError | None] = Queue()
    for resource in resources:
        threading.Thread(target=_watch_resource, args=(session.api, resource, namespace, events), daemon=True).start()
    while True:
        error = events.get()
        try:
            while error is None:
                error = events.get(timeout=SETTLE_SECONDS)
        except Empty:
            print(file=session.out)
            show()
            session.out.flush()
            continue
        raise error


def _watch_resource(api: Api, resource: Resource, namespace: str | None, events: Queue[YoshiError | None]) -> None:
    """Reports each change of a resource; an expired watch begins anew, another error is reported and ends it."""
    version = ""
    try:
        while True:
            if not version:
                version = api.listing(resource, namespace).resource_version
            try:
                for kind, obj in api.watch(resource, namespace, resource_version=version):
                    version = str(obj.get("metadata", {}).get("resourceVersion", version))
                    if kind != "BOOKMARK":
                        events.put(None)
            except ExpiredError:
                version = ""
                events.put(None)
    except YoshiError as error:
        events.put(error)
