"""-w: shows a list again whenever something that it is made of changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, Queue

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import Expired
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Resource

SETTLE_SECONDS = 0.3
"""What changes together is shown together."""


def show_again(session: Session, everywhere: bool, resources: Sequence[Resource], show: Callable[[], None]) -> None:
    """Shows a list, which was shown once, anew after each change of these resources, until Ctrl-C.

    Raises:
        YoshiError: one of them can no longer be watched.
    """
    session.out.flush()
    namespace = None if everywhere else session.namespace
    news: Queue[YoshiError | None] = Queue()
    for resource in resources:
        threading.Thread(target=_follow, args=(session.api, resource, namespace, news), daemon=True).start()
    while True:
        error = news.get()
        try:
            while error is None:
                error = news.get(timeout=SETTLE_SECONDS)
        except Empty:
            print(file=session.out)
            show()
            session.out.flush()
            continue
        raise error


def _follow(api: Api, resource: Resource, namespace: str | None, news: Queue[YoshiError | None]) -> None:
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
                        news.put(None)
            except Expired:
                version = ""
                news.put(None)
    except YoshiError as error:
        news.put(error)
