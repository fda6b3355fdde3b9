"""A proxy before the real API server whose faults depend on a seed only: not on the order of threads.

    conflict, test-failed, invalid, busy, error, unavailable
                        refused: 409, 422 of two kinds, 429 with Retry-After, 500, 503
    lost                the connection is cut before the request is handed on
    done-cut, done-headers, done-half
                        it is done, and the answer is cut: before it, after its headers, in the middle of its body
    done-error          it is done, and the answer says 500
    late                the connection is cut, and the request is handed on when others were, or after the run's end
    slow, overtaken     handed on after a while, or after another request was
    closed              it is well, and its connection is closed afterwards, without having been said so
    forgotten           it is well, and the next request by its connection is cut before it is handed on

Requests go on with the administrator's credentials, as in tests/cluster/scripted_fault_proxy.py.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from kubectl_yoshi.cli.policies import PROBE
from kubectl_yoshi.kube.client import ACCESS_REVIEW
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions, HttpRequest
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK
from lab.testing import Cluster
from tests.cluster.fake_kubevirt import Kubevirt
from tests.cluster.normalizing_server import NormalizingServer
from tests.unit.kube.fault_server import Behaviour, cuts, refuses, serving

FORWARDED_HEADERS = ("Accept", "Content-Type", "User-Agent")
CALL = re.compile(r"/subresources\.kubevirt\.io/.*/virtualmachines/([^/?]+)/")
VM_READ = re.compile(r"/apis/kubevirt\.io/v1/.*virtualmachines(?:/([^/?]+))?(?:\?|$)")
LATEST = 25
"""How many requests a write may come late at most."""
LONGEST_SECONDS = 0.1
"""How long a request is kept back at most."""
IDLE_SECONDS = 60.0
"""How long the last requests of a killed process may take."""

CHOSEN = re.compile(r"(?<=/addressblocks/big)\.<ip>[\d.]+|(?<=/services/yoshi-web-\d-)[0-9a-f]{8}\b")
"""What of names depends on uids: which block of a large network a command turns to, and a Service's digest."""

NAMESPACE_BINDING = re.compile(r"POST .*/validatingadmissionpolicybindings|/validatingadmissionpolicybindings/.*\.")
"""Writes of bindings for the networks of a namespace: only the first network there has them; a failure is a note."""

PROBING = f"POST {ADDRESSBLOCK.path(PROBE.namespace)}"
"""The dry run that `install` repeats until the policies are in effect: how often differs from run to run."""
REVIEW = f"POST {ACCESS_REVIEW.path()}"
"""The beginning of a question what the user may do."""

REJECTED = "the server rejected our request due to an error in our request"
REFUSALS: dict[str, Behaviour] = {
    "conflict": refuses(409, "Conflict", "the object has been modified", {"name": "it", "kind": "it"}),
    "test-failed": refuses(422, "Invalid", REJECTED),
    "invalid": refuses(422, "Invalid", 'admission webhook "w" denied the request: not today', {"name": "it"}),
    "busy": refuses(429, "TooManyRequests", "busy", Retry_After="1"),
    "error": refuses(500, "InternalError", "etcd is on fire"),
    "unavailable": refuses(503, "ServiceUnavailable", "starting"),
}
WRITE_FAULTS = (
    *REFUSALS,
    "lost",
    "done-cut",
    "done-headers",
    "done-half",
    "done-error",
    "late",
    "slow",
    "overtaken",
    "closed",
    "forgotten",
)
READ_FAULTS = tuple(
    fault for fault in WRITE_FAULTS if fault not in ("conflict", "test-failed", "invalid", "done-error", "late")
)
WRITE_CLASSES = (
    ("conflict",),
    ("test-failed",),
    ("invalid",),
    ("busy",),
    ("error", "unavailable"),
    ("lost",),
    ("done-cut", "done-headers", "done-half"),
    ("done-error",),
    ("late",),
    ("slow", "overtaken"),
    ("closed",),
    ("forgotten",),
)
"""The faults at a write: those of a class are the same for the program, which sees the same and finds the same done."""
READ_CLASSES = (
    ("busy",),
    ("error",),
    ("unavailable",),
    ("lost", "done-cut"),
    ("done-headers", "done-half"),
    ("slow", "overtaken"),
    ("closed",),
    ("forgotten",),
)
"""The same of the faults at a read, for which 503 may mean that an aggregated API is not there."""
POINTS = 3
"""Before how many of its writes a command is cut off or killed: the first, the last, and one between."""
UNTIL = {"done-cut": "nothing", "done-headers": "headers", "done-half": "half"}


class FaultSchedule:
    """The faults, chosen by a seed, the request and how often it was sent.

    Args:
        seed: of all that is random here.
        write, read: the chance of each write and read to go wrong.

    Attributes:
        log: what went wrong, in order.
        counts: the kinds of it, each with how often.
    """

    def __init__(self, seed: str = "", write: float = 0.0, read: float = 0.0) -> None:
        self.seed, self.write, self.read = seed, write, read
        self.log: list[str] = []
        self.counts: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    @property
    def writes(self) -> list[str]:
        """Return the writes that were received, each once, in an order independent of threads."""
        return sorted(request for request in self.asked if not is_read(request))

    @property
    def reads(self) -> list[str]:
        """Return the reads that were received, likewise."""
        return sorted(request for request in self.asked if is_read(request))

    def of(self, request: str) -> tuple[str, random.Random]:
        """Return the fault of a request ("" for none), and the random generator for its details."""
        if NAMESPACE_BINDING.search(request):
            return "", random.Random()
        self.asked[request] += 1
        rng = random.Random(f"{self.seed}: {request}, time {self.asked[request]}")
        fault = self.choose(request, rng)
        if fault:
            self.log.append(f"{request}, time {self.asked[request]}: {fault}")
            self.counts[f"{'read' if is_read(request) else 'write'} {fault}"] += 1
        return fault, rng

    def choose(self, request: str, rng: random.Random) -> str:
        """Return the fault of a request, "" for none."""
        reading = is_read(request)
        if rng.random() >= (self.read if reading else self.write):
            return ""
        return rng.choice(READ_FAULTS if reading else WRITE_FAULTS)


def is_read(request: str) -> bool:
    """Return whether a request, as described by `_describe`, changes nothing."""
    return request.startswith(("GET ", REVIEW))


class OneFault(FaultSchedule):
    """One request fails the first times that it is sent; all others succeed.

    Args:
        request: as `ObjectChange.writes` and `ObjectChange.reads` tell it.
        fault: how.
        times: how often.
    """

    def __init__(self, request: str, fault: str, times: int = 1) -> None:
        super().__init__(f"{request} {fault}")
        self.request, self.fault, self.times = request, fault, times

    def choose(self, request: str, rng: random.Random) -> str:
        return self.fault if request == self.request and self.asked[request] <= self.times else ""


class CutOff(FaultSchedule):
    """Requests succeed until a number of writes was sent; then all fail.

    Args:
        writes: so many are done.
    """

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def choose(self, request: str, rng: random.Random) -> str:
        if self.left >= 0 and not is_read(request):
            self.left -= 1
        return "lost" if self.left < 0 else ""


def spread(count: int, most: int) -> list[int]:
    """Return this many numbers below `count` at equal distances, including the first and the last."""
    return sorted({n * (count - 1) // max(min(count, most) - 1, 1) for n in range(min(count, most))})


def spread_by_turns(count: int, turn: int, turns: int) -> list[int]:
    """Which of the three numbers below `count` that `spread` finds are for one of some that share them.

    Args:
        turn: which one of those that share them, from 0 on.
        turns: how many they are. Each has one number at least, and together they have every one.
    """
    found = spread(count, POINTS)
    shared = range(max(turns, POINTS)) if found else ()
    return sorted({found[point % POINTS % len(found)] for point in shared if point % turns == turn % turns})


class Kill(FaultSchedule):
    """Requests succeed until a process is about to send a certain write: it is killed, and then all fail.

    Args:
        write: the number of that write, from 1 on; 0 for none.
        killer: kills the process.
        path: writes are counted whose path has this in it.
        done: that write is handed on all the same.

    Attributes:
        written: how many writes have come, with the last one.
    """

    def __init__(self, write: int, killer: Callable[[], None], path: str = "", done: bool = False) -> None:
        super().__init__()
        self.at, self.killer, self.path, self.done = write, killer, re.compile(path), done
        self.written = 0
        self.is_dead = False

    def choose(self, request: str, rng: random.Random) -> str:
        if self.is_dead:
            return "lost"
        if is_read(request) or request == PROBING or not self.path.search(request):
            return ""
        self.written += 1
        if self.written != self.at:
            return ""
        self.is_dead = True
        self.killer()
        return "done-cut" if self.done else "lost"


@dataclass
class Proxy:
    """The proxy server.

    Attributes:
        url: where it is.
        upstream: the API server.
        schedule: what becomes of requests; may be changed between two runs.
        known: what is not the same in every run (namespaces, addresses) -> the placeholders in descriptions.
        kubevirt: who plays KubeVirt, where VMs run.
        shows: how objects are shown (see normalizing_server.py); as the API server does unless it is set.
        authorizer: who answers requests that are not to be handed on, since the user lacks a permission.
        late_calls: VMs that a late request to KubeVirt has stopped or started, and that nobody has read since. Such a
            request tests nothing, so a run cannot find out if it arrives after its last read.
    """

    url: str
    upstream: Connection
    schedule: FaultSchedule = field(default_factory=FaultSchedule)
    known: Mapping[str, str] = field(default_factory=dict)
    kubevirt: Kubevirt | None = None
    shows: NormalizingServer | None = None
    authorizer: Callable[[str, str, bytes], Any] | None = None
    late_calls: set[str] = field(default_factory=set)
    _late: list[tuple[int, str, Callable[[], object]]] = field(default_factory=list)
    _passed: threading.Condition = field(default_factory=threading.Condition)
    _count: int = 0
    _under_way: int = 0

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        with self._passed:
            self._under_way += 1
        try:
            self._answer(handler)
        finally:
            with self._passed:
                self._under_way -= 1
                self._passed.notify_all()

    def wait_until_idle(self) -> None:
        """Wait until all forwarded requests are done, also those without a client."""
        with self._passed:
            assert self._passed.wait_for(lambda: not self._under_way, IDLE_SECONDS), "a request is never answered"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if getattr(handler, "forgotten", False):
            cuts(handler)
            return
        if self.authorizer and (denied := self.authorizer(handler.command, handler.path, body)):
            send_response_until(handler, denied, "end")
            return
        with self._passed:
            fault, rng = self.schedule.of(self._describe(handler, body))
            due = [(path, send) for left, path, send in self._late if left <= 0]
            self._late = [(left - 1, path, send) for left, path, send in self._late if left > 0]
        for path, send in due:
            _arrive(send)
            if found := CALL.search(path):
                self.late_calls.add(found[1])
        if fault in REFUSALS:
            REFUSALS[fault](handler)
            return
        if fault == "late":
            send = self._later(handler, body)
            with self._passed:
                self._late.append((rng.randrange(LATEST), handler.path, send))
        if fault in ("lost", "late"):
            cuts(handler)
            return
        if fault == "slow":
            time.sleep(rng.random() * LONGEST_SECONDS)
        elif fault == "overtaken":
            self._let_another_pass()
        if handler.command == "GET" and (found := VM_READ.search(handler.path)):
            self.late_calls -= {found[1]} if found[1] else {*self.late_calls}
        response = self._later(handler, body)()
        if fault == "done-error":
            REFUSALS["error"](handler)
        else:
            send_response_until(handler, response, UNTIL.get(fault, "end"))
        if fault == "closed":
            handler.wfile.flush()
            cuts(handler)
        elif fault == "forgotten":
            handler.__dict__["forgotten"] = True

    def arrive_all(self) -> None:
        """Send the remaining late writes."""
        with self._passed:
            left, self._late = self._late, []
        for _, _, send in left:
            _arrive(send)

    def _describe(self, handler: BaseHTTPRequestHandler, body: bytes) -> str:
        path = handler.path.partition("?")[0]
        for word, instead in self.known.items():
            path = path.replace(word, instead)
        request = f"{handler.command} {CHOSEN.sub('<any>', path)}"
        if request == REVIEW:
            asked = json.loads(body)["spec"]["resourceAttributes"]
            words = (asked["verb"], asked["resource"], asked.get("subresource"))
            return " ".join([request, *filter(None, words)])
        return request

    def _later(self, handler: BaseHTTPRequestHandler, body: bytes) -> Callable[[], Any]:
        method, path = handler.command, handler.path
        headers = {name: handler.headers[name] for name in FORWARDED_HEADERS if name in handler.headers}

        def send() -> Any:
            response: Any = self.kubevirt.answer(path) if self.kubevirt else None
            if response is None:
                by_way_of = self.shows or self.upstream
                response = by_way_of.send(HttpRequest(method, path, headers, body or None))
                if self.kubevirt and method != "GET":
                    self.kubevirt.follow(path)
            with self._passed:
                self._count += 1
                self._passed.notify_all()
            return response

        return send

    def _let_another_pass(self) -> None:
        with self._passed:
            before = self._count
            self._passed.wait_for(lambda: self._count > before, LONGEST_SECONDS)


def _arrive(send: Callable[[], object]) -> None:
    try:
        send()
    except YoshiError:
        return  # nobody hears of it


def send_response_until(handler: BaseHTTPRequestHandler, response: Any, until: str) -> None:
    """Send a response, to its end or until the connection is cut: before it, after its headers, in its body."""
    if until == "nothing":
        cuts(handler)
        return
    body = response.data
    handler.send_response(response.status)
    for name in ("Content-Type", "Retry-After"):
        if name in response.headers:
            handler.send_header(name, response.headers[name])
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write({"headers": b"", "half": body[: len(body) // 2]}.get(until, body))
    if until != "end":
        handler.wfile.flush()
        cuts(handler)


@contextmanager
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """Open a proxy before the cluster; it speaks plain HTTP."""
    upstream = Connection.open(ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context))
    found = Proxy("", upstream)
    with closing(upstream), serving(found.answer) as found.url:
        yield found
