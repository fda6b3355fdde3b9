"""Which VM can use an address, as the policies decide: the policies themselves are tested in tests/cluster."""

from __future__ import annotations

import pytest

from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.address_use import AddressUse, find_address_use
from tests.unit.plan.fake_cluster import FakeCluster


def use_of(cluster: FakeCluster, address: str) -> AddressUse | None:
    network = parse_network(cluster.api.get(NETWORKWIZARD.ref("blue", "prod")))
    return find_address_use(network, parse_address(address), new_snapshot(cluster.api))


def vm(cluster: FakeCluster, name: str) -> Vm:
    return Vm(cluster.api.get(VM.ref(name, "prod")))


@pytest.fixture
def cluster() -> FakeCluster:
    found = FakeCluster()
    found.network()
    found.vm("web-1")
    found.vm("web-2")
    found.attach("web-1", ip="10.133.0.9")
    found.reserve("10.133.0.50", note="printer")
    return found


def test_address_may_be_used_by_its_vm_only(cluster: FakeCluster) -> None:
    use = use_of(cluster, "10.133.0.9")
    assert use is not None
    assert use.users == ("VM prod/web-1", "Services in namespace prod")
    assert use.refusal(vm(cluster, "web-1")) == ""
    assert use.refusal(vm(cluster, "web-2")) == "prod/web-1 holds it"


def test_recreated_vm_may_not_use_the_address_of_the_earlier_one(cluster: FakeCluster) -> None:
    cluster.delete_vm("web-1")
    cluster.vm("web-1")
    use = use_of(cluster, "10.133.0.9")
    assert use is not None
    assert use.refusal(vm(cluster, "web-1")) == "an earlier VM of the name prod/web-1 holds it"


def test_reserved_address_may_be_used_by_no_vm(cluster: FakeCluster) -> None:
    use = use_of(cluster, "10.133.0.50")
    assert use is not None
    assert use.users == ()
    assert use.refusal(vm(cluster, "web-1")) == "it is reserved (printer)"


def test_address_without_allocation(cluster: FakeCluster) -> None:
    use = use_of(cluster, "10.133.0.77")
    assert use is not None
    assert (use.holder, use.users) == ("none", ())
    assert use.refusal(vm(cluster, "web-1")) == "it is not allocated"
    assert use_of(cluster, "10.9.9.9") is None


def test_address_of_a_block_that_does_not_exist() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/16")
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.9")
    same_block, other_block = use_of(cluster, "10.133.0.10"), use_of(cluster, "10.133.7.10")
    assert same_block is not None
    assert other_block is not None
    assert same_block.refusal(vm(cluster, "web-1")) == "it is not allocated"
    assert other_block.refusal(vm(cluster, "web-1")) == ""
    assert other_block.users == ("VMs, by users who can allocate addresses of the network",)
