"""Concurrent users, in threads, on one small cluster. Real processes: tests/cluster."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.errors import PreconditionFailed
from tests.unit.plan.fake_cluster import FakeCluster

pytestmark = [pytest.mark.I1, pytest.mark.I2, pytest.mark.I3]

SEEDS = range(6)
CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/28", "10.133.0.0/23"], ids=["in its status", "in blocks"])


@pytest.mark.parametrize("seed", SEEDS)
def test_exactly_as_many_vms_are_attached_as_there_are_addresses(seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/29")
    names = [f"web-{number}" for number in range(9)]
    for name in names:
        cluster.vm(name)
    outcomes = cluster.run_concurrently(*(lambda mine, name=name: mine.attach(name) for name in names), seed=seed)
    refused = [error.message for done in outcomes for error in done.errors.values()]
    assert len(refused) == 3
    assert all("is full" in message for message in refused)
    assert len(cluster.records()) == 6
    assert sorted(address for done in outcomes for address in done.results.values()) == sorted(cluster.records())
    cluster.check()


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_vm_attached_concurrently_has_one_address_and_one_allocation(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    outcomes = cluster.run_concurrently(*[lambda mine: mine.attach()] * 5, seed=seed)
    assert {str(done.results) for done in outcomes} == {str({"prod/web-1": cluster.pin()})}
    assert list(cluster.records()) == [cluster.pin()]
    cluster.check()


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_one_address_requested_by_many_is_assigned_once(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    names = [f"web-{number}" for number in range(5)]
    for name in names:
        cluster.vm(name)
    operations = [lambda mine, name=name: mine.attach(name, ip="10.133.0.7") for name in names]
    outcomes = cluster.run_concurrently(*operations, lambda mine: mine.reserve("10.133.0.7"), seed=seed)
    got = [one for one in outcomes if not isinstance(one, PreconditionFailed) and not one.errors]
    assert len(got) == 1
    assert list(cluster.records()) == ["10.133.0.7"]
    cluster.check()


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_vm_attached_to_two_networks_at_once_is_on_one(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.network("red", "10.144.0.0/23")
    cluster.vm()
    cluster.run_concurrently(lambda mine: mine.attach(), lambda mine: mine.attach(network="prod/red"), seed=seed)
    assert list(cluster.records("blue")) + list(cluster.records("red")) == [cluster.pin()]
    cluster.check()


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_concurrent_attach_detach_and_gc_keep_the_invariants(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    names = [f"web-{number}" for number in range(4)]
    for name in names:
        cluster.vm(name)
    operations = []
    for name in names:
        operations.append(lambda mine, name=name: mine.attach(name))
        operations.append(lambda mine, name=name: mine.detach(name))
    operations.append(lambda mine: mine.collect(grace=3600.0))
    cluster.run_concurrently(*operations, seed=seed)
    cluster.check()
    for name in names:
        cluster.detach(name)
    assert cluster.records() == {}


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_network_deleted_during_attaches_leaves_no_attached_vm(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    names = [f"web-{number}" for number in range(4)]
    for name in names:
        cluster.vm(name)
    operations = [lambda mine, name=name: mine.attach(name) for name in names]
    cluster.run_concurrently(*operations, lambda mine: mine.delete_network(), seed=seed)
    networks = cluster.networks()
    for name in names:
        assert not cluster.pin(name) or networks == ["blue"]
    cluster.check()
