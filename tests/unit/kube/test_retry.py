"""Which requests are retried, and which never.

fault                          read                    write
-----------------------------  ----------------------  ----------------------------
429 + Retry-After              after that long         after that long
429 again and again            Busy, within 20 s       Busy, within 20 s
500/503/504 + Retry-After      after that long         ServerError at once
500 without                    ServerError at once     ServerError at once
cut before / within an answer  once more               Ambiguous, never sent again
no answer in time              TimedOutError                Ambiguous, never sent again
ended since the last answer    by a new connection     by a new connection
kept for long                  by a new connection     by a new connection
kept, and the server forgot it once more, by a new one Ambiguous; the next by a new one
connection refused             once more               once more
"""

from __future__ import annotations

import dataclasses
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions, RequestNotSentError
from kubectl_yoshi.kube.errors import (
    AmbiguousWriteError,
    ApiServiceUnavailableError,
    InvalidError,
    ServerError,
    TimedOutError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from kubectl_yoshi.kube.retry import MAX_WAITING_SECONDS
from kubectl_yoshi.model.objects import Resource
from tests.unit.kube.conftest import FakeClock
from tests.unit.kube.fault_server import FaultServer, closes, cuts, cuts_within, forgets, hangs, refuses, says

THING = Resource("", "v1", "things", "Thing").ref("a", "prod")
OK = says(200, {"kind": "Thing", "metadata": {"name": "a"}})
KEPT = 3
"""Connections that are kept open."""
BUSY = refuses(429, "TooManyRequests", "later", Retry_After="2")


def patch(api: Api) -> object:
    return api.patch(THING, [{"op": "add", "path": "/x", "value": 1}])


def get(api: Api) -> object:
    return api.get(THING)


@pytest.mark.parametrize("request_", [get, patch])
def test_429_waits_for_retry_after(api: Api, server: FaultServer, clock: FakeClock, request_):
    server.then(BUSY, refuses(429, "TooManyRequests", "later", Retry_After="3"), OK)
    assert request_(api)
    assert clock.slept == [2.0, 3.0]


@pytest.mark.parametrize("request_", [get, patch])
def test_429_is_given_up_after_the_limit(api: Api, server: FaultServer, clock: FakeClock, request_):
    server.then(BUSY)
    with pytest.raises(TooManyRequestsError) as caught:
        request_(api)
    assert server.url in str(caught.value)
    assert 0.8 * MAX_WAITING_SECONDS < clock.time <= MAX_WAITING_SECONDS
    assert len(server.requests) == len(clock.slept) + 1


def test_retry_after_above_the_limit_is_not_waited_for(api: Api, server: FaultServer, clock: FakeClock):
    server.then(refuses(429, "TooManyRequests", "later", Retry_After="3600"))
    with pytest.raises(TooManyRequestsError):
        get(api)
    assert clock.slept == []


def test_429_without_retry_after_backs_off(api: Api, server: FaultServer, clock: FakeClock):
    server.then(refuses(429, "TooManyRequests", "later"))
    with pytest.raises(TooManyRequestsError):
        get(api)
    assert clock.slept == sorted(clock.slept)
    assert len(set(clock.slept)) > 2


@pytest.mark.parametrize("status", [500, 503, 504])
def test_read_is_retried_on_a_server_error_with_retry_after(
    api: Api, server: FaultServer, clock: FakeClock, status: int
):
    server.then(refuses(status, "", "starting", Retry_After="1"), OK)
    assert get(api)
    assert clock.slept == [1.0]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_write_is_not_retried_on_a_server_error(api: Api, server: FaultServer, status: int):
    server.then(refuses(status, "", "broken", Retry_After="1"))
    with pytest.raises(ServerError):
        patch(api)
    assert len(server.requests) == 1


def test_server_error_without_retry_after_is_raised_at_once(api: Api, server: FaultServer):
    server.then(refuses(500, "InternalError", "etcd is on fire"))
    with pytest.raises(ServerError, match="etcd is on fire"):
        get(api)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [cuts, cuts_within])
def test_interrupted_read_is_retried_once(api: Api, server: FaultServer, fault):
    server.then(fault, OK)
    assert get(api)


@pytest.mark.parametrize("fault", [cuts, cuts_within])
def test_read_interrupted_twice_is_unreachable(api: Api, server: FaultServer, fault):
    server.then(fault)
    with pytest.raises(UnreachableError) as caught:
        get(api)
    assert not isinstance(caught.value, AmbiguousWriteError)
    assert server.url in str(caught.value)
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [cuts, cuts_within, hangs(30)])
@pytest.mark.parametrize("method", ["create", "patch", "replace", "apply", "delete", "call"])
def test_unanswered_write_is_never_retried(impatient: Api, server: FaultServer, fault, method: str):
    server.then(fault)
    arguments = {"delete": (), "call": ("restart",)}.get(method, ({"metadata": {"name": "a"}},))
    with pytest.raises(AmbiguousWriteError, match="may or may not have been made"):
        getattr(impatient, method)(THING, *arguments)
    assert len(server.requests) == 1


def kept_sockets(api: Api) -> list[socket.socket]:
    """What is kept open for the next request."""
    pool = api.connection._pool.connection_from_url(api.connection.server).pool
    return [connection.sock for connection in pool.queue if connection and connection.sock]


@pytest.mark.parametrize("request_", [get, patch])
def test_connection_closed_by_the_server_is_not_reused(api: Api, server: FaultServer, request_):
    server.then(closes(OK))
    for _ in range(3):
        assert request_(api)
        (kept,) = kept_sockets(api)
        assert select.select([kept], [], [], 30)[0], "the end of the connection does not arrive"
    assert len(server.requests) == 3


@pytest.fixture
def forgotten(api: Api, server: FaultServer) -> Api:
    """Several connections are kept open, and none of them leads anywhere any more."""
    together = threading.Barrier(KEPT)

    def meet(handler: BaseHTTPRequestHandler) -> None:
        together.wait(30)
        OK(handler)

    server.then(*[forgets(meet)] * KEPT, forgets(OK))
    with ThreadPoolExecutor(KEPT) as pool:
        assert all(pool.map(lambda _: get(api), range(KEPT)))
    server.requests.clear()
    return api


def test_read_is_retried_on_a_new_connection(forgotten: Api, server: FaultServer):
    assert get(forgotten)
    assert len(server.requests) == 2


def test_read_is_retried_on_a_new_connection_though_another_request_is_sent_meanwhile(
    forgotten: Api, server: FaultServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
):
    arrived, answered = threading.Event(), threading.Event()

    def hold(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        assert answered.wait(30)
        OK(handler)

    server.behaviours[:] = [forgets(OK), forgets(hold), forgets(OK)]
    with ThreadPoolExecutor(1) as pool:
        others = []

        def send_another(seconds: float) -> None:
            others.append(pool.submit(get, forgotten))
            assert arrived.wait(30)

        monkeypatch.setattr(clock, "sleep", send_another)
        try:
            assert get(forgotten)
        finally:
            answered.set()
        assert [other.result() for other in others] == [get(forgotten)]


@pytest.mark.parametrize("request_", [get, patch])
def test_another_thread_may_close_the_connections_before_one_is_taken(
    api: Api, server: FaultServer, monkeypatch: pytest.MonkeyPatch, request_
):
    server.then(OK)
    pool = api.connection._pool.connection_from_url(server.url)
    send = pool.urlopen

    def close_and_send(*args: object, **more: object) -> object:
        api.connection.close()
        pool.close()  # as the former does with urllib3 1.26
        return send(*args, **more)

    monkeypatch.setattr(pool, "urlopen", close_and_send)
    assert request_(api)
    assert len(server.requests) == 1


def test_write_on_a_dropped_connection_is_ambiguous_and_the_next_uses_a_new_one(forgotten: Api, server: FaultServer):
    with pytest.raises(AmbiguousWriteError):
        patch(forgotten)
    assert len(server.requests) == 1
    assert patch(forgotten)
    assert len(server.requests) == 2


@pytest.mark.parametrize("request_", [get, patch])
def test_connection_idle_for_long_is_not_reused(
    forgotten: Api, server: FaultServer, monkeypatch: pytest.MonkeyPatch, request_
):
    monkeypatch.setattr("kubectl_yoshi.kube.connection.IDLE_SECONDS", 0.05)
    time.sleep(0.1)
    assert request_(forgotten)
    assert len(server.requests) == 1


def test_unanswered_read_times_out(impatient: Api, server: FaultServer):
    server.then(hangs(30))
    with pytest.raises(TimedOutError, match="--request-timeout"):
        get(impatient)
    assert len(server.requests) == 1


@pytest.mark.parametrize("request_", [get, patch])
def test_refused_connection_is_retried_once(request_, clock: FakeClock):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(RequestNotSentError) as caught:
            request_(Api(Connection.open(ConnectionOptions(server=url)), clock=clock))
    assert len(clock.slept) == 1
    assert url in caught.value.message
    assert "VPN" in caught.value.hint


def test_refused_credentials_are_renewed_once_for_all_threads(api: Api, server: FaultServer):
    loads = []

    def again() -> object:
        loads.append(1)
        return dataclasses.replace(api.connection._loaded)

    api.connection._loaded = dataclasses.replace(api.connection._loaded, renewable=True)
    api.connection._reload = again
    all_asked = threading.Barrier(4, timeout=30)

    def refuse_together(handler: object) -> None:
        if not loads:
            all_asked.wait()
            refuses(401, "Unauthorized", "Unauthorized")(handler)
        else:
            OK(handler)

    server.then(refuse_together)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: get(api), range(4)))
    assert len(loads) == 1


def test_unauthorized_with_fixed_credentials_is_raised_at_once(api: Api, server: FaultServer):
    server.then(refuses(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(UnauthorizedError):
        get(api)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        says(200, "<html><title>Sign in</title></html>"),
        says(200, "not json"),
        says(200, "[1, 2]"),
        says(200, "{broken"),
        says(302, "", Location="https://login.example/"),
        says(502, "<html><title>Bad Gateway</title></html>"),
        says(404, "<html><title>nginx</title></html>"),
    ],
)
def test_response_of_another_server_is_reported(api: Api, server: FaultServer, answer):
    server.then(answer)
    with pytest.raises(ServerError) as caught:
        api.raw("/version")
    assert server.url in caught.value.message
    assert len(server.requests) == 1


def test_empty_response_is_an_empty_object(api: Api, server: FaultServer):
    server.then(says(202))
    assert api.call(THING, "restart") == {}


def test_each_api_warning_is_reported_once(api: Api, server: FaultServer, warnings: list[str]):
    header = '299 - "things v1 is deprecated", 299 - "unknown field \\"spec.x\\""'
    server.then(says(200, {}, Warning=header))
    get(api)
    patch(api)
    assert warnings == ["things v1 is deprecated", 'unknown field "spec.x"']


def test_unavailable_aggregated_api_is_not_reported_as_an_unavailable_server(api: Api, server: FaultServer):
    server.then(says(503, "service unavailable"))
    with pytest.raises(ApiServiceUnavailableError):
        api.list(Resource("projectcalico.org", "v3", "ippools", "IPPool", namespaced=False))
    with pytest.raises(ServerError) as caught:
        api.raw("/version")
    assert not isinstance(caught.value, ApiServiceUnavailableError)


def test_plain_text_refusal_is_reported(api: Api, server: FaultServer):
    server.then(says(400, "VM is not running"))
    with pytest.raises(InvalidError, match="VM is not running"):
        api.call(THING, "restart")
