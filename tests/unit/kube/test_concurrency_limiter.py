"""The concurrency limit falls after a 429, and rises with successful requests."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler

import pytest

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.kube.retry import NO_LIMIT, ConcurrencyLimiter
from kubectl_yoshi.model.objects import Resource
from tests.unit.kube.conftest import FakeClock
from tests.unit.kube.fault_server import FaultServer, refuses, says

THINGS = Resource("", "v1", "things", "Thing")
BUSY = refuses(429, "TooManyRequests", "later", Retry_After="1")
OK = says(200, {"kind": "Thing"})
SHARE = 2


@pytest.mark.parametrize(("under_way", "wanted"), [(16, [8, 4, 2, 1, 1]), (6, [3, 1.5, 1, 1]), (1, [1])])
def test_limit_is_halved_by_each_refusal_down_to_one(under_way: int, wanted: list[float]) -> None:
    """Half of those that were under way, where fewer were than might have been."""
    crowd = ConcurrencyLimiter()
    requests = [ExitStack() for _ in range(under_way)]
    for request in requests:
        request.enter_context(crowd)
    limits = []
    for request, _ in zip(requests, wanted, strict=False):
        request.close()
        crowd.decrease()
        limits.append(crowd.limit)
    assert limits == wanted


def test_limit_grows_by_one_per_successful_round() -> None:
    crowd = ConcurrencyLimiter()
    crowd.decrease()
    for _ in range(4):
        crowd.increase()
    assert 2.5 < crowd.limit < 4
    for _ in range(1000):
        crowd.increase()
    assert crowd.limit >= NO_LIMIT


def test_waiting_request_continues_when_another_ends() -> None:
    crowd = ConcurrencyLimiter()
    crowd.decrease()
    inside = threading.Barrier(2, timeout=10)
    most = [0, 0]
    lock = threading.Lock()

    def one(_: int) -> None:
        with crowd:
            with lock:
                most[0] += 1
                most[1] = max(most)
            time.sleep(0.001)
            with lock:
                most[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    assert most == [0, 1]
    crowd.limit = NO_LIMIT
    with ThreadPoolExecutor(2) as pool:

        def both(_: int) -> None:
            with crowd:
                inside.wait()

        list(pool.map(both, range(2)))


def test_limit_converges_to_the_server_limit(server: FaultServer, clock: FakeClock) -> None:
    """16 threads and 200 requests: were they not held back, they would be refused again and again."""
    connection = Connection.open(ConnectionOptions(server=server.url, request_timeout=60.0))
    api = Api(connection, clock=clock)
    lock = threading.Lock()
    under_way = 0

    def two_at_once(handler: BaseHTTPRequestHandler) -> None:
        nonlocal under_way
        with lock:
            under_way += 1
            full = under_way > SHARE
        time.sleep(0.003)
        with lock:
            under_way -= 1
        (BUSY if full else OK)(handler)

    server.then(two_at_once)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda number: api.get(THINGS.ref(f"a-{number}", "prod")), range(200)))
    assert len(results) == 200
    connection.close()
    assert len(server.requests) < 200 + 200
