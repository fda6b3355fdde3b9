"""Networks are read in parallel with VMs: a VM that is read a moment later may have an address that its network, as it
was read, does not list. Nothing else of a VM is stale then, so its patch succeeds, and its answer does not show the
allocation, which must be released nevertheless.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.vm import VM
from tests.unit.plan.fake_cluster import FakeCluster

pytestmark = [pytest.mark.I5]

CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])


def after_network_is_read(cluster: FakeCluster, action: Callable[[FakeCluster], object]) -> None:
    """Let another client act between the first reads of a network and of the VM."""
    reads = cluster.api.tried[("get", NETWORKWIZARD.plural)]

    def act(verb: str, ref: ObjectRef) -> None:
        if verb == "get" and ref.resource == VM:
            cluster.api.before.remove(act)
            deadline = time.monotonic() + 5
            while cluster.api.tried[("get", NETWORKWIZARD.plural)] == reads:
                assert time.monotonic() < deadline, "the network is not read before the VM"
                time.sleep(0.001)
            action(cluster.second_client(1))

    cluster.api.before.append(act)


@CIDRS
def test_detach_releases_an_address_that_was_allocated_after_the_network_was_read(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    after_network_is_read(cluster, lambda other: other.attach())
    assert not cluster.detach().errors
    assert (cluster.pin(), cluster.holders()) == ("", {})
    cluster.check()


@CIDRS
def test_attach_to_another_network_releases_an_address_that_was_allocated_after_that_was_read(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.network("red", "10.144.0.0/24")
    cluster.vm()
    after_network_is_read(cluster, lambda other: other.attach())
    assert cluster.attach(network="prod/red", replace=True).results == {"prod/web-1": "10.144.0.1"}
    assert (cluster.pin(), cluster.holders()) == ("10.144.0.1", {})
    cluster.check()


@CIDRS
def test_attach_to_another_address_releases_one_that_was_allocated_after_the_network_was_read(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm()
    after_network_is_read(cluster, lambda other: other.attach())
    assert cluster.attach(ip="10.133.0.7", replace=True).results == {"prod/web-1": "10.133.0.7"}
    assert (cluster.pin(), [*cluster.holders()]) == ("10.133.0.7", ["10.133.0.7"])
    cluster.check()
