"""Sending a request until it is answered, as often as that is safe.

What is sent again:

- anything that the server refused with 429 before it looked at it, after as long as Retry-After says, and with fewer
  requests at once from then on (see ConcurrencyLimiter);
- anything when the connection was refused, once;
- a read that the server answered with 500, 503 or 504 and a Retry-After, or whose connection was cut, the latter once
  and over a new connection;
- anything after a 401, once, if the kubeconfig can give new credentials.

A write whose connection was cut after it was sent is never sent again: it may have been done (AmbiguousWriteError).

After a 429 half as many requests are in flight, and one more after each round of good answers, so that a share of API
priority and fairness, however small, is respected.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from kubectl_yoshi.kube import request_log
from kubectl_yoshi.kube.connection import Connection, HttpRequest, RequestNotSentError
from kubectl_yoshi.kube.errors import (
    AmbiguousWriteError,
    ClusterError,
    RequestInfo,
    UnreachableError,
    error_from_response,
    invalid_json_error,
)
from kubectl_yoshi.model.objects import Json

CHUNK_BYTES = 1 << 18
MAX_TRIES = 5
"""Maximum number of attempts per request, not counting those refused with 429."""
MAX_WAITING_SECONDS = 20.0
"""Maximum total of all waits for one request, in seconds; users take a longer silence for a hang."""

_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')


NO_LIMIT = 32.0
"""From this value on, only the number of threads limits the concurrency."""


class ConcurrencyLimiter:
    """Limits the number of requests in flight: additive increase, multiplicative decrease (AIMD).

    API priority and fairness answers 429 to a client that sends more requests at a time than its share
    (https://kubernetes.io/docs/concepts/cluster-administration/flow-control/). The limit is then halved, and grows by
    one after each round of accepted requests: any number of threads soon send as many requests as are accepted, for any
    share and any other load.

    `with limiter: send()`; then `limiter.decrease()` after a 429, `limiter.increase()` after any other response.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._in_flight = 0
        self.limit = NO_LIMIT

    def __enter__(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._in_flight < max(int(self.limit), 1) or self.limit >= NO_LIMIT)
            self._in_flight += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._condition:
            self._in_flight -= 1
            self._condition.notify()

    def decrease(self) -> None:
        """Halve the limit after a 429."""
        with self._condition:
            self.limit = max(min(self.limit, self._in_flight + 1) / 2, 1.0)

    def increase(self) -> None:
        """Raise the limit after an accepted request."""
        if self.limit >= NO_LIMIT:
            return
        with self._condition:
            self.limit += 1 / self.limit
            self._condition.notify()


class WaitCancelledError(ClusterError):
    """A wait was cancelled because the user ends the program."""


class Clock:
    """The clock of all waits, which can be cancelled. Tests replace it."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""
        return time.monotonic()

    def jitter(self) -> float:
        """Return a random number from 0 to 1, so that many clients do not retry at the same time."""
        return random.random()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            WaitCancelledError: `stop` was called.
        """
        if self._stopping.wait(seconds):
            raise WaitCancelledError("stopped before completion")

    def stop(self, stopping: bool = True) -> None:
        """Cancel all current and future waits, until called with False."""
        if stopping:
            self._stopping.set()
        else:
            self._stopping.clear()


class Sender:
    """Sends requests over a connection. Thread-safe.

    Args:
        connection: the connection.
        on_warning: called once for each distinct warning of the API server (deprecated versions, unknown fields).
        clock: see Clock.
    """

    def __init__(
        self, connection: Connection, on_warning: Callable[[str], None] | None = None, clock: Clock | None = None
    ) -> None:
        self.connection = connection
        self.clock = clock or Clock()
        self._on_warning = on_warning
        self._limiter = ConcurrencyLimiter()
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def send(
        self,
        request_info: RequestInfo,
        path: str,
        *,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        """Send a request and return its response.

        Args:
            request_info: the purpose of the request, for messages.
            path: URL path and query.
            body: a value for json.dumps; None for no body.

        Returns:
            The JSON object of the response; {} for an empty response.

        Raises:
            ClusterError: see kube.errors.
        """
        headers = _build_headers(body, content_type, accept)
        request = HttpRequest(request_info.method, path, headers, _encode_body(body))
        response = self._send_with_retries(request_info, request)
        return _parse_object(request_info, response.data, self.connection.server)

    def stream_lines(self, request_info: RequestInfo, path: str, read_seconds: float) -> Iterator[bytes]:
        """Yield the lines of a continuous response, such as a watch's, until the server ends it."""
        headers = _build_headers(None, "", "application/json")
        request = HttpRequest(request_info.method, path, headers, stream=True, read_seconds=read_seconds)
        response = self._send_with_retries(request_info, request)
        try:
            rest = b""
            with self.connection.translate_errors(is_write=False):
                for chunk in _iter_chunks(response):
                    *complete_lines, rest = (rest + chunk).split(b"\n")
                    yield from complete_lines
            if rest.strip():
                yield rest
        finally:
            response.close()

    def stream_chunks(self, request_info: RequestInfo, path: str) -> Iterator[bytes]:
        """Yield the chunks of a long response as they arrive."""
        headers = _build_headers(None, "", "application/json")
        request = HttpRequest(request_info.method, path, headers, stream=True)
        response = self._send_with_retries(request_info, request)
        try:
            with self.connection.translate_errors(is_write=False):
                yield from response.stream(CHUNK_BYTES, decode_content=True)
        finally:
            response.release_conn()

    def _send_with_retries(self, request_info: RequestInfo, request: HttpRequest) -> Any:
        is_read = request.method == "GET"
        waited = 0.0
        tries_left, throttled_count = MAX_TRIES, 0
        renewed = connection_retried = False
        while True:
            tries_left -= 1
            credentials = self.connection.credentials
            try:
                with self._limiter:
                    response = self._send_once(request)
            except UnreachableError as error:
                is_transient = error.is_transient if isinstance(error, RequestNotSentError) else is_read
                if connection_retried or not is_transient or not tries_left or isinstance(error, AmbiguousWriteError):
                    raise
                connection_retried = True
                self.connection.close()  # else the retry may use another one that the server has dropped
                self.clock.sleep(0.2 + 0.2 * self.clock.jitter())
                continue
            self._report_warnings(response)
            if 200 <= response.status < 300:
                self._limiter.increase()
                return response
            if request.stream:
                with self.connection.translate_errors(is_write=not is_read):
                    _ = response.data
            if response.status == 401 and not renewed and tries_left and self.connection.renew_credentials(credentials):
                renewed = True
                continue
            if response.status == 429:
                self._limiter.decrease()
                throttled_count, tries_left = throttled_count + 1, tries_left + 1
            wait = _retry_after(response, is_read, throttled_count)
            if wait is not None and tries_left and waited + wait <= MAX_WAITING_SECONDS:
                waited += wait
                self.clock.sleep(wait + min(wait, 1.0) * 0.25 * self.clock.jitter())
                continue
            raise error_from_response(response.status, response.data, request_info, self.connection.server)

    def _send_once(self, request: HttpRequest) -> Any:
        method, url = request.method, self.connection.server + request.path
        request_log.log_request(method, url, request.headers.items(), request.body)
        start = self.clock.now()
        try:
            response = self.connection.send(request)
        except ClusterError as error:
            request_log.log_failure(method, url, (self.clock.now() - start) * 1000, error)
            raise
        elapsed_ms = (self.clock.now() - start) * 1000
        request_log.log_response(method, url, elapsed_ms, response, None if request.stream else response.data)
        return response

    def _report_warnings(self, response: Any) -> None:
        """Pass on Warning headers (RFC 7234, https://kubernetes.io/blog/2020/09/03/warnings/)."""
        if self._on_warning is None:
            return
        for header in response.headers.getlist("Warning"):
            for text in _WARNING.findall(header):
                text = re.sub(r"\\(.)", r"\1", text)
                with self._lock:
                    new = text not in self._warned
                    self._warned.add(text)
                if new:
                    self._on_warning(text)


def _retry_after(response: Any, is_read: bool, throttled_count: int) -> float | None:
    """Return the seconds to wait before the next attempt; None if there must be none.

    Args:
        throttled_count: how often the server has answered this request with 429.
    """
    header = response.headers.get("Retry-After", "")
    seconds = float(header) if re.fullmatch(r"\d+", header) else None
    if response.status == 429:
        return 0.5 * 2**throttled_count if seconds is None else max(seconds, 0.1)
    if is_read and response.status in (500, 503, 504):
        return seconds
    return None


def _build_headers(body: Any, content_type: str, accept: str) -> dict[str, str]:
    from kubectl_yoshi import __version__

    headers = {"Accept": accept, "Accept-Encoding": "gzip", "User-Agent": f"kubectl-yoshi/{__version__}"}
    if body is not None:
        headers["Content-Type"] = content_type
    return headers


def _encode_body(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body, separators=(",", ":")).encode()


def _parse_object(request_info: RequestInfo, data: bytes, server: str) -> Json:
    if not data.strip():
        return {}
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise invalid_json_error(request_info, data, server)
    return answer


def _iter_chunks(response: Any) -> Iterator[bytes]:
    """Yield the chunks of a streamed body as soon as they arrive."""
    if response.chunked or not hasattr(response, "read1"):
        yield from response.stream(decode_content=True)
        return
    while chunk := response.read1():
        yield chunk
