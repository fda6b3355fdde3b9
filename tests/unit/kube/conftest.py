"""Fixtures for the tests of kube and engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.kube.retry import Clock
from tests.unit.kube.fault_server import FaultServer, fault_server


class FakeClock(Clock):
    """A clock on which time passes only by sleeping; it records each sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def jitter(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the cluster of the user who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as told:
        yield told


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def api(server: FaultServer, clock: FakeClock, warnings: list[str]) -> Iterator[Api]:
    """An Api on the fault server."""
    yield from _api(server, clock, warnings, 30.0)


@pytest.fixture
def impatient(server: FaultServer, clock: FakeClock, warnings: list[str]) -> Iterator[Api]:
    """An Api on the fault server with a short timeout."""
    yield from _api(server, clock, warnings, 0.3)


def _api(server: FaultServer, clock: FakeClock, warnings: list[str], timeout: float) -> Iterator[Api]:
    connection = Connection.open(ConnectionOptions(server=server.url, request_timeout=timeout))
    yield Api(connection, on_warning=warnings.append, clock=clock)
    connection.close()
