"""Two VMs of a Layer 2 network with one MAC address: its DHCP server could not tell them apart.

| the MAC address is | the second VM |
|---|---|
| its owner's choice, or asked for | is refused, with the name of the first |
| a copy of what was written for the first one | gets another (test_layer2.py) |
"""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import VM
from tests.unit.plan.fake_cluster import FakeCluster, refusal
from tests.unit.plan.test_layer2 import LAB, hosts, layer2

MAC = "02:00:00:00:00:0a"


def plugged(cluster: FakeCluster, name: str, mac: str = MAC) -> None:
    """A VM whose owner has plugged it into the network."""
    interface = {"name": "mine", "bridge": {}, "macAddress": mac}
    networks = [{"name": "mine", "multus": {"networkName": "lab"}}]
    cluster.vm(name, template={"spec": {"domain": {"devices": {"interfaces": [interface]}}, "networks": networks}})


@pytest.mark.parametrize("mac", [MAC, MAC.upper()])
def test_second_vm_with_the_same_mac_is_refused_with_the_name_of_the_first(mac: str) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    plugged(cluster, "web-1")
    plugged(cluster, "web-2", mac)
    cluster.attach("web-1", network=LAB)
    holders, kept, before = cluster.holders("lab"), hosts(cluster), cluster.now("web-2").raw
    error = refusal(cluster.attach("web-2", network=LAB), "prod/web-2")
    assert error.message == f"VM prod/web-2 has MAC address {MAC} on network prod/lab, which VM prod/web-1 has"
    assert (cluster.holders("lab"), hosts(cluster), cluster.now("web-2").raw) == (holders, kept, before)
    cluster.api.writes.clear()
    assert not cluster.attach("web-1", network=LAB).errors
    assert cluster.api.writes == []


def test_requested_mac_of_another_vm_is_refused() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    plugged(cluster, "web-1")
    cluster.vm("web-2")
    cluster.attach("web-1", network=LAB)
    assert "which VM prod/web-1 has" in refusal(cluster.attach("web-2", network=LAB, mac=MAC), "prod/web-2").message
    assert list(cluster.holders("lab").values()) == ["the network itself (DHCP server)", "prod/web-1"]


def test_only_one_of_two_vms_with_one_mac_in_a_command_is_attached() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    plugged(cluster, "web-1")
    cluster.vm("web-2")
    done = cluster.attach("web-1", "web-2", network=LAB, mac=MAC.upper())
    assert done.results == {"prod/web-1": "10.20.0.2"}
    assert "which VM prod/web-1 has" in refusal(done, "prod/web-2").message
    assert list(cluster.holders("lab").values()) == ["the network itself (DHCP server)", "prod/web-1"]
    assert list(hosts(cluster)) == ["10.20.0.2.conf"]


def test_mac_is_free_after_the_first_vm_was_detached() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    plugged(cluster, "web-1")
    plugged(cluster, "web-2")
    cluster.attach("web-1", network=LAB)
    cluster.delete_vm("web-1")
    assert refusal(cluster.attach("web-2", network=LAB), "prod/web-2")
    cluster.collect()
    assert cluster.attach("web-2", network=LAB).results


def test_existing_duplicate_macs_are_accepted() -> None:
    """As two runs at the same time may do, or as an earlier version did."""
    cluster = FakeCluster()
    layer2(cluster)
    plugged(cluster, "web-1")
    plugged(cluster, "web-2", "02:00:00:00:00:0b")
    before = cluster.now("web-1").raw
    cluster.attach("web-1", "web-2", network=LAB)

    def alike(obj: Json) -> None:
        for address in ("10.20.0.2", "10.20.0.3"):
            obj["status"]["allocations"][address]["mac"] = MAC

    cluster.api.change(NETWORKWIZARD.ref("lab", "prod"), alike)
    cluster.api.put(VM, before)
    assert cluster.attach("web-1", network=LAB).results == {"prod/web-1": "10.20.0.2"}


def test_duplicate_macs_on_the_pod_network_are_accepted() -> None:
    cluster = FakeCluster()
    cluster.network()
    interface = {"name": "default", "bridge": {}, "macAddress": MAC}
    template = {
        "spec": {"domain": {"devices": {"interfaces": [interface]}}, "networks": [{"name": "default", "pod": {}}]}
    }
    for name in ("web-1", "web-2"):
        cluster.vm(name, template=template)
        assert not cluster.attach(name).errors
