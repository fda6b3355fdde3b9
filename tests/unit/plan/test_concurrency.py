"""Users who do things at the same time, in threads, on one small cluster. Real processes: tests/cluster."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.errors import PreconditionFailed
from tests.unit.plan.fake_cluster import FakeCluster

pytestmark = [pytest.mark.I1, pytest.mark.I2, pytest.mark.I3]

SEEDS = range(6)
CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/28", "10.133.0.0/23"], ids=["in its status", "in blocks"])


@pytest.mark.parametrize("seed", SEEDS)
def test_of_more_vms_than_addresses_exactly_as_many_get_one(seed: int) -> None:
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
def test_one_vm_that_is_attached_many_times_has_one_address_and_one_record(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    outcomes = cluster.run_concurrently(*[lambda mine: mine.attach()] * 5, seed=seed)
    assert {str(done.results) for done in outcomes} == {str({"prod/web-1": cluster.pin()})}
    assert list(cluster.records()) == [cluster.pin()]
    cluster.check()


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_asks_for_one_address_one_gets_it(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    names = [f"web-{number}" for number in range(5)]
    for name in names:
        cluster.vm(name)
    errands = [lambda mine, name=name: mine.attach(name, ip="10.133.0.7") for name in names]
    outcomes = cluster.run_concurrently(*errands, lambda mine: mine.reserve("10.133.0.7"), seed=seed)
    got = [one for one in outcomes if not isinstance(one, PreconditionFailed) and not one.errors]
    assert len(got) == 1
    assert list(cluster.records()) == ["10.133.0.7"]
    cluster.check()


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_a_vm_on_two_networks_at_once_ends_up_on_one(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.network("red", "10.144.0.0/23")
    cluster.vm()
    cluster.run_concurrently(lambda mine: mine.attach(), lambda mine: mine.attach(network="prod/red"), seed=seed)
    assert list(cluster.records("blue")) + list(cluster.records("red")) == [cluster.pin()]
    cluster.check()


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_attaching_detaching_and_collecting_side_by_side_keep_the_invariants(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    names = [f"web-{number}" for number in range(4)]
    for name in names:
        cluster.vm(name)
    errands = []
    for name in names:
        errands.append(lambda mine, name=name: mine.attach(name))
        errands.append(lambda mine, name=name: mine.detach(name))
    errands.append(lambda mine: mine.collect(grace=3600.0))
    cluster.run_concurrently(*errands, seed=seed)
    cluster.check()
    for name in names:
        cluster.detach(name)
    assert cluster.records() == {}


@CIDRS
@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_that_is_deleted_while_vms_are_attached_leaves_no_vm_without_it(cidr: str, seed: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    names = [f"web-{number}" for number in range(4)]
    for name in names:
        cluster.vm(name)
    errands = [lambda mine, name=name: mine.attach(name) for name in names]
    cluster.run_concurrently(*errands, lambda mine: mine.delete_network(), seed=seed)
    networks = cluster.networks()
    for name in names:
        assert not cluster.pin(name) or networks == ["blue"]
    cluster.check()
