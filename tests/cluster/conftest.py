"""The program on the cluster that was chosen, installed, with a namespace and addresses for each test of its own."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterator

import pytest

from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, fork_server

_sixteens = itertools.count()


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """The warm parent of the test's processes."""
    with fork_server() as server:
        yield server


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest, cluster: Cluster, forks: ForkServer) -> Iterator[Cluster]:
    """The cluster, after `kubectl yoshi install`."""
    yoshi = Yoshi(cluster.kubeconfig, cluster.context, forks)
    yoshi.done("install")
    yield cluster
    if request.config.getoption("cluster") != "lab":  # pools and the like of networks that went with their namespace
        yoshi.done("ips", "gc", "-A", "--grace", "1h", "--yes")


@pytest.fixture
def yoshi(installed: Cluster, forks: ForkServer, namespace: str) -> Yoshi:
    """The program, run by the administrator in the test's namespace."""
    return Yoshi(installed.kubeconfig, installed.context, forks, namespace)


@pytest.fixture
def cidr() -> Callable[[int], str]:
    """Gives CIDRs of a prefix length from 16 on that nobody else uses, of the test's own /16: each call another one."""
    mine = ipaddress.ip_network(f"10.{128 + next(_sixteens) % 128}.0.0/16")
    used: list[ipaddress.IPv4Network] = []

    def next_cidr(length: int) -> str:
        for candidate in mine.subnets(new_prefix=length):
            if not any(candidate.overlaps(other) for other in used):
                used.append(candidate)
                return str(candidate)
        raise AssertionError(f"no /{length} is left in {mine}")

    return next_cidr
