"""A fake API server with random faults, which depend on a seed only.

Writes may be refused (409, 422, 429, 500), lost, done without an answer, or done later, when others have written
meanwhile and the client has long given them up. Reads may be lost or refused.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.kube.errors import AmbiguousWriteError, RequestInfo, UnreachableError, error_from_response
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource
from tests.unit.kube.fault_server import status_body
from tests.unit.plan.fake_api import REJECTED, FakeApi
from tests.unit.plan.fake_cluster import FakeCluster

LATEST = 25
"""How many requests a write may come late at most."""
MAY_OR_MAY_NOT = "ended the connection: the change may or may not have been made"

REFUSALS = {
    "conflict": (409, "Conflict", "the object has been modified"),
    "test-failed": (422, "Invalid", REJECTED),
    "invalid": (422, "Invalid", 'admission webhook "w" denied the request: not today'),
    "forbidden": (403, "Forbidden", 'User "web" cannot get resource "virtualmachines"'),
    "busy": (429, "TooManyRequests", "busy"),
    "error": (500, "InternalError", "etcd is on fire"),
    "unavailable": (503, "ServiceUnavailable", "starting"),
}
WRITE_FAULTS = (
    "conflict",
    "test-failed",
    "invalid",
    "busy",
    "error",
    "unavailable",
    "lost",
    "done-cut",
    "done-error",
    "late",
    "late",
)
READ_FAULTS = ("lost", "busy", "error", "unavailable")


@dataclass
class ApiFaultSchedule:
    """The faults, chosen by a seed, the request and how often it was sent: not by the order of threads.

    Attributes:
        write, read: the chance of each write and read to go wrong.
        log: what went wrong, in order.
        changed_late: what late writes of earlier commands have changed since `begin`.
        late: writes that are still on their way, with how many requests they still wait for.
    """

    seed: str
    write: float
    read: float
    log: list[str] = field(default_factory=list)
    late: list[tuple[int, Callable[[], object]]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    changed_late: set[str] = field(default_factory=set)
    state: Callable[[], dict[str, object]] = dict

    def begin(self, state: Callable[[], dict[str, object]]) -> None:
        """Start a new command: late writes of earlier ones are not its own."""
        self.late = [(left, lambda send=send: self._send_late(send)) for left, send in self.late]  # type: ignore[misc]
        self.state = state
        self.changed_late.clear()

    def _send_late(self, send: Callable[[], object]) -> None:
        before = self.state()
        _arrive(send)
        after = self.state()
        self.changed_late |= {key for key in {*before, *after} if before.get(key) != after.get(key)}

    def of(self, verb: str, ref: ObjectRef, writing: bool) -> tuple[str, int]:
        """Return the fault of a request ("" for none), and by how many requests it is late."""
        request = f"{verb} {ref}"
        self.asked[request] += 1
        rng = random.Random(f"{self.seed}: {request}, time {self.asked[request]}")
        if rng.random() >= (self.write if writing else self.read):
            return "", 0
        fault = rng.choice(WRITE_FAULTS if writing else READ_FAULTS)
        self.log.append(f"{request}: {fault}")
        return fault, rng.randrange(LATEST)

    def tick(self) -> None:
        """Count one more request: send the late writes whose time has come."""
        due = [send for left, send in self.late if left <= 0]
        self.late = [(left - 1, send) for left, send in self.late if left > 0]
        for send in due:
            _arrive(send)

    def arrive_all(self) -> None:
        """Send the remaining late writes."""
        left, self.late = self.late, []
        for _, send in left:
            _arrive(send)


def _arrive(send: Callable[[], object]) -> None:
    try:
        send()
    except YoshiError:
        return  # refused, and nobody hears of it


class FaultyApi:
    """An Api whose requests meet faults."""

    def __init__(self, api: FakeApi, schedule: ApiFaultSchedule) -> None:
        self._api = api
        self.schedule = schedule
        self.served = api.served
        self.clock = api.clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def get(self, ref: ObjectRef, **more: Any) -> Json:
        self._read("get", ref)
        return self._api.get(ref, **more)

    def list(self, resource: Resource, namespace: str | None = None, **more: Any) -> tuple[Json, ...]:
        self._read("list", resource.ref("", namespace))
        return self._api.list(resource, namespace, **more)

    def create(self, ref: ObjectRef, body: Json, **more: Any) -> Json:
        return self._write("create", ref, lambda: self._api.create(ref, body, **more))

    def patch(self, ref: ObjectRef, body: Any, **more: Any) -> Json:
        return self._write("patch", ref, lambda: self._api.patch(ref, body, **more))

    def replace(self, ref: ObjectRef, body: Json, **more: Any) -> Json:
        return self._write("update", ref, lambda: self._api.replace(ref, body, **more))

    def delete(self, ref: ObjectRef, **more: Any) -> Json:
        return self._write("delete", ref, lambda: self._api.delete(ref, **more))

    def call(self, ref: ObjectRef, subresource: str, body: Json | None = None, **more: Any) -> Json:
        return self._write("update", ref, lambda: self._api.call(ref, subresource, body, **more))

    def _read(self, verb: str, ref: ObjectRef) -> None:
        self.schedule.tick()
        fault, _ = self.schedule.of(verb, ref, writing=False)
        if not fault:
            return
        if fault == "lost":
            raise UnreachableError("the API server ended the connection", "Check it.")
        raise _refusal(fault, verb, ref)

    def _write(self, verb: str, ref: ObjectRef, send: Callable[[], Json]) -> Json:
        self.schedule.tick()
        fault, late = self.schedule.of(verb, ref, writing=True)
        if not fault:
            return send()
        if fault in ("done-cut", "done-error"):
            _arrive(send)
        elif fault == "late":
            self.schedule.late.append((late, send))
        if fault == "done-error":
            raise _refusal("error", verb, ref)
        if fault not in REFUSALS:
            raise AmbiguousWriteError(MAY_OR_MAY_NOT, "Run the same command again.")
        raise _refusal(fault, verb, ref)


def with_faults(cluster: FakeCluster, schedule: ApiFaultSchedule) -> FakeCluster:
    """Return the same cluster with faults."""
    other = copy.copy(cluster)
    other.api = FaultyApi(cluster.api, schedule)  # type: ignore[assignment]
    return other


def _refusal(fault: str, verb: str, ref: ObjectRef) -> YoshiError:
    status, reason, message = REFUSALS[fault]
    details = None if message == REJECTED else {"name": ref.name, "kind": ref.resource.plural}
    body = json.dumps(status_body(status, reason, message, details)).encode()
    return error_from_response(status, body, RequestInfo(verb, ref.resource, ref.name, ref.namespace))


class ScriptedApiFaults(ApiFaultSchedule):
    """Faults given beforehand: by request ("patch virtualmachine/web-1"), what becomes of it, time after time.

    The last word of a request is for all the times to come; "" is well.
    """

    def __init__(self, **faults: str) -> None:
        super().__init__("", 0.0, 0.0)
        self.faults = {request.replace("__", " "): words.split(",") for request, words in faults.items()}

    def of(self, verb: str, ref: ObjectRef, writing: bool) -> tuple[str, int]:
        words = self.faults.get(f"{verb} {ref.resource.kind}", [""])
        return (words.pop(0) if len(words) > 1 else words[0]), 10**6
