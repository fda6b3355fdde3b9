"""VMs on networks deleted with kubectl: reported, and cleaned up by `vm detach`; their pool is kept till then.

| what is left on the VM            | what is removed                                           |
|-----------------------------------|-----------------------------------------------------------|
| an address and a MAC of Calico's  | both, and the network's name                              |
| an interface of a Layer 2 network | that, and the network's name; what it has of others stays |
| a name, and an address of another | the name                                                  |
"""

from __future__ import annotations

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import dig
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.orphaned_vms import find_orphaned_vms
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster, refusal, requested_network
from tests.unit.plan.test_layer2 import layer2

pytestmark = pytest.mark.I8

BLUE = NETWORKWIZARD.ref("blue", "prod")
TOLD = "VM prod/web-1 requests network prod/blue, which does not exist, and still has 10.133.0.1"


@pytest.fixture
def cluster() -> FakeCluster:
    """Network prod/blue was deleted while web-1 was on it; web-2 is on none."""
    cluster = FakeCluster()
    cluster.network()
    cluster.vm()
    cluster.vm("web-2")
    cluster.attach()
    cluster.api.drop(BLUE)
    return cluster


def told(cluster: FakeCluster) -> list[str]:
    def ask(snapshot: Snapshot) -> list[str]:
        return [one.message for one in find_orphaned_vms([cluster.now(), cluster.now("web-2")], BACKENDS, snapshot)]

    return ask(new_snapshot(cluster.api))  # type: ignore[arg-type]


def test_vm_of_a_deleted_network_is_reported(cluster: FakeCluster) -> None:
    assert told(cluster) == [TOLD]
    cluster.network()
    assert told(cluster) == []


def test_unreadable_network_is_not_treated_as_deleted(cluster: FakeCluster) -> None:
    cluster.api.refuse("get", NETWORKWIZARD)
    cluster.api.refuse("list", NETWORKWIZARD)
    assert told(cluster) == []


def test_detach_removes_the_settings_of_a_deleted_network(cluster: FakeCluster) -> None:
    done = cluster.detach()
    assert done.plan.results == {"prod/web-1": "10.133.0.1"}
    assert done.has_changed("prod/web-1")
    assert not done.errors
    assert (cluster.pin(), cluster.mac(), requested_network(cluster.now())) == ("", "", None)
    assert told(cluster) == []
    with pytest.raises(PreconditionFailed, match='"blue" not found'):
        cluster.detach()


def test_vms_without_settings_of_the_deleted_network_are_refused(cluster: FakeCluster) -> None:
    done = cluster.detach("web-1", "web-2")
    assert cluster.pin() == ""
    assert '"blue" not found' in refusal(done, "prod/web-2").message


def test_address_of_an_existing_network_is_kept(cluster: FakeCluster) -> None:
    cluster.api.drop(RAW.pool.ref("prod.blue"))
    cluster.network("green", "10.133.0.0/25")
    cluster.detach()
    assert cluster.pin() == "10.133.0.1"
    assert requested_network(cluster.now()) is None


def test_running_orphaned_vm_needs_a_restart() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.running()
    cluster.attach(restart=True)
    cluster.time_passes()
    cluster.api.drop(BLUE)
    done = cluster.detach()
    assert any("restart needed: virtualmachine/web-1" in note for note in done.notes)


def test_interface_of_a_deleted_layer2_network_is_removed_and_others_kept() -> None:
    cluster = FakeCluster()
    layer2(cluster, "lab")
    layer2(cluster, "other", "10.21.0.0/24", vlan=21)
    cluster.vm()
    cluster.attach(network="prod/lab")
    cluster.attach(network="prod/other")
    cluster.api.drop(NETWORKWIZARD.ref("lab", "prod"))
    assert not cluster.detach(network="prod/lab").errors
    networks = dig(cluster.now().raw, "spec", "template", "spec", "networks")
    assert [dig(one, "multus", "networkName") for one in networks if "multus" in one] == ["other"]
    assert requested_network(cluster.now()) == "other"


def test_pool_of_a_deleted_network_is_kept_while_a_stopped_vm_needs_it(cluster: FakeCluster) -> None:
    done = cluster.collect()
    assert len(cluster.api.every(RAW.pool)) == 1
    assert any(
        note.startswith("ippool/prod.blue is kept: VM prod/web-1 is pinned to 10.133.0.1") for note in done.notes
    ), done.notes
    cluster.detach()
    cluster.collect()
    assert not cluster.api.every(RAW.pool)


def test_network_overlapping_an_orphaned_pool_is_refused_with_a_hint(cluster: FakeCluster) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        cluster.network("green", "10.133.0.0/25")
    assert "overlaps ippool/prod.blue (10.133.0.0/24), created for network prod/blue" in refused.value.message
    assert "`kubectl yoshi ips gc -n prod` removes it" in refused.value.message
