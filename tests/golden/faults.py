"""What can go wrong with a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from urllib3 import exceptions

from tests.golden.server import Answer, Failure, FakeApiServer, Request
from tests.golden.transport import Behaviour

TEST_FAILED = "the server rejected our request due to an error in our request"


def refuse(status: int, reason: str, message: str, **headers: str) -> Behaviour:
    """Answer with a metav1.Status; `_` in the names of headers stands for `-`."""

    def answer(server: FakeApiServer, request: Request) -> Answer:
        return Failure(status, reason, message, None, **headers).answer

    return answer


BUSY = refuse(429, "TooManyRequests", "too many requests, please try again later", Retry_After="1")
UNAVAILABLE = refuse(503, "ServiceUnavailable", "etcdserver: leader changed", Retry_After="1")
ERROR = refuse(500, "InternalError", "an internal error occurred")
PATCH_REJECTED = refuse(422, "Invalid", TEST_FAILED)
WEBHOOK = refuse(422, "Invalid", 'admission webhook "policy.example.com" denied the request: not on Fridays')
UNAUTHORIZED = refuse(401, "Unauthorized", "Unauthorized")
GONE = refuse(410, "Expired", "the provided continue parameter is too old")


def page(server: FakeApiServer, request: Request) -> Answer:
    """Answer with a web page, as a captive portal does."""
    return Answer(200, b"<html><body>Log in</body></html>", {"Content-Type": "text/html"})


def cut(server: FakeApiServer, request: Request) -> Answer:
    """End the connection before the request is handled."""
    reset = ConnectionResetError(104, "Connection reset by peer")
    raise exceptions.ProtocolError("Connection aborted.", reset) from reset


def lose(server: FakeApiServer, request: Request) -> Answer:
    """Handle the request and end the connection before the answer."""
    server.handle(request)
    return cut(server, request)


def time_out(server: FakeApiServer, request: Request) -> Answer:
    """Give no answer in time."""
    error = exceptions.ReadTimeoutError(None, request.path, "Read timed out.")  # type: ignore[arg-type]
    raise error from TimeoutError("timed out")


def refuse_connection(server: FakeApiServer, request: Request) -> Answer:
    """Refuse the connection."""
    error = exceptions.NewConnectionError(None, "[Errno 111] Connection refused")  # type: ignore[arg-type]
    raise error from ConnectionRefusedError(111, "Connection refused")


def interrupt(server: FakeApiServer, request: Request) -> Answer:
    """Handle the request, during which the user presses Ctrl-C."""
    server.handle(request)
    raise KeyboardInterrupt


def before(change: Callable[[FakeApiServer], object]) -> Behaviour:
    """Let another client change something, then handle the request."""

    def answer(server: FakeApiServer, request: Request) -> Answer:
        change(server)
        return server.handle(request)

    return answer


def warn(text: str) -> Behaviour:
    """Handle the request, and add a warning to the answer."""

    def answer(server: FakeApiServer, request: Request) -> Answer:
        well = server.handle(request)
        return dataclasses.replace(well, headers={**well.headers, "Warning": f'299 - "{text}"'})

    return answer
