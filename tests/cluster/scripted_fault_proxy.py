"""A proxy before the real API server that fails by rules: for faults in the middle of a command.

Requests go on to the cluster with the administrator's credentials, unless a rule says otherwise. What a rule does is
one of the behaviours of tests/unit/kube/fault_server.py. Beside it, servers that cannot be reached at all.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from kubectl_yoshi.kube.connection import Connection, ConnectionOptions, HttpRequest
from lab.testing import Cluster
from tests.cluster.request_gate import RequestGate
from tests.unit.kube.fault_server import Behaviour, cuts, serving

FORWARDED_HEADERS = ("Accept", "Content-Type", "User-Agent")


@dataclass
class Rule:
    """A fault: which requests it affects, and how often.

    Attributes:
        behaviour: what is answered instead.
        method: of these requests; "" for any.
        path: whose path holds this.
        times: so often; None for ever.
        skip: the first ones are well.
        done: the request is handed on all the same: it is done, and only its answer goes wrong.
    """

    behaviour: Behaviour
    method: str = ""
    path: str = ""
    times: int | None = None
    skip: int = 0
    done: bool = False

    def matches(self, method: str, path: str) -> bool:
        """Return whether the rule applies to a request; count it."""
        if self.method not in ("", method) or self.path not in path:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return True


@dataclass
class ScriptedFaultProxy:
    """A proxy that fails by its rules.

    Attributes:
        url: where it is.
        rules: the first one that takes a request wins; may be changed between two commands.
        gate: where requests are kept back first of all.
        asked: every request, "GET /path?query".
        most: how many requests were under way at once, at most.
    """

    url: str
    upstream: Connection
    rules: list[Rule] = field(default_factory=list)
    gate: RequestGate | None = None
    asked: list[str] = field(default_factory=list)
    most: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            self._answer(handler)
        finally:
            with self.lock:
                self.under_way -= 1

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self.lock:
            self.asked.append(f"{handler.command} {handler.path}")
            gate = self.gate if self.gate and self.gate.matches(handler.command, handler.path) else None
            rule = next((rule for rule in self.rules if rule.matches(handler.command, handler.path)), None)
        if gate and not gate.wait_for_turn():
            cuts(handler)
            return
        if rule is None or rule.done:
            headers = {name: handler.headers[name] for name in FORWARDED_HEADERS if name in handler.headers}
            response = self.upstream.send(HttpRequest(handler.command, handler.path, headers, body or None))
        if rule is not None:
            rule.behaviour(handler)
            return
        handler.send_response(response.status)
        for name in ("Content-Type", "Retry-After"):
            if name in response.headers:
                handler.send_header(name, response.headers[name])
        handler.send_header("Content-Length", str(len(response.data)))
        handler.end_headers()
        handler.wfile.write(response.data)


@contextmanager
def open_fault_proxy(cluster: Cluster) -> Iterator[ScriptedFaultProxy]:
    """Open a proxy before the cluster."""
    upstream = Connection.open(ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context))
    told = ScriptedFaultProxy("", upstream)
    with closing(upstream), serving(told.answer) as told.url:
        yield told


@contextmanager
def deaf_port() -> Iterator[int]:
    """Open a port that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=16)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def blackhole_port() -> Iterator[int]:
    """Open a port whose queue is full, so that the kernel drops connections, as a firewall does."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listening:
        port = listening.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                waiting.append(one)
            yield port
        finally:
            for one in waiting:
                one.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """Reserve a port on which nothing listens."""
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield nobody.getsockname()[1]


def write_kubeconfig(path: Path, server: str, *, cluster: Any = None, user: Any = None, namespace: str = "") -> Path:
    """Write a kubeconfig with one context, named "it".

    Args:
        cluster, user: what they hold besides.
    """
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "it", "user": user or {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace or "default"}}],
        "current-context": "it",
    }
    path.write_text(json.dumps(content))
    return path
