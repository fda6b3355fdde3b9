"""`vm detach` without a network lists those of the VM, and never chooses one."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.vm import VM
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster

PUBLIC = {"plumber.k8s.pf9.io/publicNetwork": "internet", "plumber.k8s.pf9.io/publicIP": "203.0.113.5"}
MISTAKE = "error: name the network with --network or --public-network\n"


@pytest.fixture
def joined(cluster: FakeCluster) -> FakeCluster:
    """web-1 is on blue, and on a Layer 2 network of another namespace."""
    cluster.network("lab", "10.20.0.0/24", "dev", plugin="ovs", ovs={"bridge": "br-ext", "nic": "eth1"})
    cluster.vm("web-1")
    cluster.vm("web-2")
    cluster.vm("web-3")
    cluster.api.change(VM.ref("web-3", "prod"), lambda obj: obj["metadata"].update(annotations=PUBLIC))
    cluster.attach("web-1")
    cluster.attach("web-1", network="dev/lab")
    return cluster


def test_detach_without_network_lists_the_networks_of_the_vm(joined: FakeCluster) -> None:
    before = joined.holders()
    said = run(joined, "vm", "detach", "web-1")
    assert said.err == f"{MISTAKE}What VM prod/web-1 has: --network blue, --network dev/lab.\n"
    assert (said.code, said.out, joined.holders()) == (2, "", before)
    assert run(joined, "vm", "detach", "web-1", "--network", "dev/lab").code == 0


def test_detach_without_network_for_a_vm_on_no_network_or_several_vms(joined: FakeCluster) -> None:
    said = run(joined, "vm", "detach", "web-3").err
    assert said == f"{MISTAKE}What VM prod/web-3 has: --public-network internet.\n"
    assert run(joined, "vm", "detach", "web-2").err == f"{MISTAKE}VM prod/web-2 requests no network.\n"
    for names in (("web-1", "web-2"), ("nowhere",)):
        said = run(joined, "vm", "detach", *names)
        assert said.err == f"{MISTAKE}See 'kubectl yoshi vm detach --help' for usage.\n"
        assert said.code == 2
