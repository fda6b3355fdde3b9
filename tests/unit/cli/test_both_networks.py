"""A private and a public network by one command: a VM comes to both, or to none; it leaves both, or none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi.backends.public.services import SERVICE
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_public import public

BOTH = ("--network", "blue", "--public-network", "pub")


@pytest.fixture
def cluster() -> FakeCluster:
    found = public(announce="metallb-l2")
    found.network()
    for name in ("web-1", "web-2"):
        found.vm(name)
    return found


def may_not_make_services(cluster: FakeCluster) -> None:
    cluster.api.refuse("create", SERVICE)


def may_not_list_services(cluster: FakeCluster) -> None:
    cluster.api.refuse("list", SERVICE)
    cluster.api.refuse("get", SERVICE)


@pytest.mark.parametrize("refuse", [may_not_make_services, may_not_list_services])
def test_attach_to_both_networks_is_all_or_nothing(cluster: FakeCluster, refuse: Callable[[FakeCluster], None]) -> None:
    refuse(cluster)
    cluster.api.writes.clear()
    said = run(cluster, "vm", "attach", "web-1", *BOTH)
    assert said.code == 1
    assert " services" in said.err
    assert cluster.api.writes == []
    assert said.out == ""


def test_detach_from_both_networks_is_all_or_nothing(cluster: FakeCluster) -> None:
    assert run(cluster, "vm", "attach", "web-1", "web-2", *BOTH).code == 0
    cluster.api.refuse("delete", SERVICE)
    cluster.api.writes.clear()
    said = run(cluster, "vm", "detach", "web-1", "web-2", *BOTH)
    assert said.code == 1
    for name in ("web-1", "web-2"):
        assert f"error: prod/{name}: " in said.err
    assert "may not delete services" in said.err
    assert cluster.api.writes == []
