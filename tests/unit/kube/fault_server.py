"""An HTTP server with scripted behaviours, for faults that a real API server cannot be made to show."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Request:
    """A request that the server received."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class FaultServer:
    """A server that answers with its behaviours in order, and repeats the last one."""

    url: str = ""
    behaviours: list[Behaviour] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    by_path: dict[str, Behaviour] = field(default_factory=dict)

    def then(self, *behaviours: Behaviour) -> FaultServer:
        self.behaviours += behaviours
        return self

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        try:
            content = json.loads(body) if body else None
        except ValueError:
            content = body
        self.requests.append(Request(handler.command, handler.path, dict(handler.headers), content))
        by_path = self.by_path.get(handler.path.partition("?")[0])
        if by_path:
            by_path(handler)
            return
        (self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0])(handler)


@contextmanager
def fault_server() -> Iterator[FaultServer]:
    told = FaultServer()
    with serving(told.handle) as told.url:
        yield told


@contextmanager
def serving(answer: Behaviour, secured: ssl.SSLContext | None = None) -> Iterator[str]:
    """Open an HTTP server that passes every request to `answer`, each in its own thread; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            answer(self)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64  # as many connect at once

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        if secured:
            server.socket = secured.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"{'https' if secured else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def says(status: int, content: Any = None, **headers: str) -> Behaviour:
    """Answer completely; a dict or list as JSON, a str unchanged. Header names are written with _ for -."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        body = (
            content.encode() if isinstance(content, str) else b"" if content is None else json.dumps(content).encode()
        )
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def refuses(status: int, reason: str, message: str, details: Any = None, **headers: str) -> Behaviour:
    """Answer with a metav1.Status."""
    return says(status, status_body(status, reason, message, details), **headers)


def status_body(status: int, reason: str, message: str, details: Any = None) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details or {},
        "code": status,
    }


def cuts(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(2)


def cuts_within(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"kind":')
    handler.wfile.flush()
    cuts(handler)


def forgets(answer: Behaviour) -> Behaviour:
    """Answer a connection's first request and close it at the second one, like a firewall with idle connections."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        if vars(handler).setdefault("answered", False):
            cuts(handler)
            return
        vars(handler)["answered"] = True
        answer(handler)

    return behave


def closes(answer: Behaviour) -> Behaviour:
    """Answer, and close the connection without notice, as a server does with an idle one."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        answer(handler)
        handler.wfile.flush()
        cuts(handler)

    return behave


def hangs(seconds: float) -> Behaviour:
    """Wait, then close the connection."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        cuts(handler)

    return behave


def streams(*lines: Any, then: Behaviour | None = None) -> Behaviour:
    """Answer with chunked JSON lines, as a watch; each in two chunks."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for line in lines:
            text = (line if isinstance(line, str) else json.dumps(line)).encode() + b"\n"
            for part in (text[:5], text[5:]):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                handler.wfile.flush()
        if then:
            then(handler)
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return behave
