"""The reflector: it continues after everything that ends a watch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from kubectl_yoshi.engine.reflector import (
    MAX_BACKOFF,
    MIN_BACKOFF,
    ObjectChanged,
    ObjectsListed,
    Reflector,
    ReflectorCrashed,
    WatchEvent,
    WatchFailed,
    backoff_delay,
)
from kubectl_yoshi.kube.client import Listing
from kubectl_yoshi.kube.errors import ExpiredError, RequestInfo, UnreachableError, error_from_response
from kubectl_yoshi.kube.retry import Clock
from kubectl_yoshi.model.objects import Json, Resource

MAPS = Resource("", "v1", "configmaps", "ConfigMap")
GONE = UnreachableError("nothing answers")
TOO_OLD = error_from_response(410, b"{}", RequestInfo("watch", MAPS))
End = Callable[[], None]


def obj(name: str, version: str) -> Json:
    return {"metadata": {"name": name, "namespace": "prod", "resourceVersion": version}}


class Script:
    """An API whose answers to `listing` and `watch` are written down; at the end of the script following ends.

    A watch is a list of events, each (type, object) or an error to raise. A list is a resourceVersion or an error.
    """

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.clock = Clock()
        self.stop: End = lambda: None

    def listing(self, resource: Resource, namespace: str | None) -> Listing:
        self.asked.append("list")
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            self.end_if_over()
            raise answer
        return Listing((obj("one", answer),), answer)

    def watch(
        self, resource: Resource, namespace: str | None, *, resource_version: str, timeout_seconds: int
    ) -> Iterator[tuple[str, Json]]:
        self.asked.append(f"watch from {resource_version}")
        events = self.watches.pop(0)
        for event in events:
            if isinstance(event, BaseException):
                self.end_if_over()
                raise event
            yield event
        self.end_if_over()

    def end_if_over(self) -> None:
        if not self.watches and not self.lists:
            self.stop()


def followed(script: Script, monkeypatch: pytest.MonkeyPatch, initial_list: Listing | None = None) -> list[WatchEvent]:
    monkeypatch.setattr("kubectl_yoshi.engine.reflector.backoff_delay", lambda failures, rng: 0.0)
    news: SimpleQueue[WatchEvent] = SimpleQueue()
    follower = Reflector(script, MAPS, "prod", news, initial_list)  # type: ignore[arg-type]
    script.stop = follower.stop
    follower.start()
    follower.join(10)
    assert not follower.is_alive()
    return [news.get_nowait() for _ in range(news.qsize())]


def test_reflector_lists_and_then_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(["5"], [[("ADDED", obj("two", "6")), ("DELETED", obj("two", "7")), ("BOOKMARK", obj("", "9"))]])
    news = followed(script, monkeypatch)
    assert news == [
        ObjectsListed(MAPS, (obj("one", "5"),)),
        ObjectChanged(MAPS, obj("two", "6")),
        ObjectChanged(MAPS, obj("two", "7"), deleted=True),
    ]
    assert script.asked == ["list", "watch from 5"]


def test_reflector_starts_from_a_known_list(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([], [[("ADDED", obj("two", "6"))]])
    assert followed(script, monkeypatch, Listing((), "5")) == [ObjectChanged(MAPS, obj("two", "6"))]
    assert script.asked == ["watch from 5"]


def test_ended_watch_is_resumed_at_its_resource_version(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(["5"], [[("ADDED", obj("two", "6"))], [("BOOKMARK", obj("", "9"))], []])
    followed(script, monkeypatch)
    assert script.asked == ["list", "watch from 5", "watch from 6", "watch from 9"]


def test_expired_watch_restarts_with_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(TOO_OLD, ExpiredError)
    script = Script(["5", "90"], [[TOO_OLD], [("ADDED", obj("two", "91"))]])
    news = followed(script, monkeypatch)
    assert [type(one) for one in news] == [ObjectsListed, ObjectsListed, ObjectChanged]
    assert script.asked == ["list", "watch from 5", "list", "watch from 90"]


def test_interrupted_watch_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(["5", "8"], [[("ADDED", obj("two", "6")), GONE], []])
    news = followed(script, monkeypatch)
    assert [type(one) for one in news] == [ObjectsListed, ObjectChanged, ObjectsListed]


def test_unreachable_server_and_its_return_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(["5", GONE, GONE, GONE, "8"], [[("ADDED", obj("two", "6")), GONE], []])
    news = followed(script, monkeypatch)
    assert [type(one) for one in news] == [ObjectsListed, ObjectChanged, WatchFailed, ObjectsListed]


def test_programming_error_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    mistake = ZeroDivisionError()
    assert followed(Script(["5"], [[mistake]]), monkeypatch)[-1] == ReflectorCrashed(mistake)


def test_backoff_grows_to_a_limit_with_jitter() -> None:
    rng = random.Random(1)
    for failures in range(1, 40):
        longest = min(MIN_BACKOFF * 2 ** (failures - 1), MAX_BACKOFF)
        assert longest / 2 <= backoff_delay(failures, rng) <= longest
    assert len({backoff_delay(9, rng) for _ in range(10)}) == 10
