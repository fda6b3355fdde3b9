"""gc releases what is unused, and nothing else (I5)."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.vm import POD, VM, VMI
from kubectl_yoshi.plan.release import RELEASED_AT_ANNOTATION
from tests.unit.plan.fake_cluster import FakeCluster, wizard
from tests.unit.plan.test_layer2 import hosts, layer2
from tests.unit.plan.test_public import public

pytestmark = pytest.mark.I5

BLUE = NETWORKWIZARD.ref("blue", "prod")
LAB = NETWORKWIZARD.ref("lab", "prod")
HANDLE = "k8s-pod-network.vmi.prod.web-1"
CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])


def with_network(cidr: str, keeps: bool = True) -> FakeCluster:
    made = FakeCluster(keeps)
    made.network(cidr=cidr)
    return made


@CIDRS
def test_gc_releases_the_address_of_a_deleted_vm(cidr: str) -> None:
    cluster = with_network(cidr)
    for name in ("web-1", "web-2"):
        cluster.vm(name)
    cluster.attach("web-1", "web-2")
    cluster.delete_vm("web-1")
    cluster.collect()
    assert [*cluster.holders().values()] == ["prod/web-2"]
    cluster.delete_vm("web-2")
    cluster.collect()
    assert cluster.records() == {}


def test_gc_releases_an_address_that_its_vm_no_longer_requests(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    cluster.collect()
    assert cluster.records() == {}


def test_gc_keeps_the_address_on_its_vm(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    assert not cluster.collect().has_changed()
    cluster.check()


def test_gc_keeps_an_address_on_a_vm_of_another_namespace(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    cluster.vm("web-9", "dev", pin="10.133.0.1")
    assert not cluster.collect().has_changed()
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}


def test_gc_keeps_allocations_younger_than_the_grace_period(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    done = cluster.collect(grace=300.0)
    assert not done.has_changed()
    assert done.notes == ("1 record of network prod/blue that no VM has is younger than --grace 5m: skipped for now",)
    assert not cluster.collect(grace=0.0).notes
    assert cluster.records() == {}


def test_gc_prints_no_note_for_young_allocations_in_use(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    assert cluster.collect(grace=300.0).notes == ()


def test_gc_treats_legacy_allocations_as_old(cluster: FakeCluster) -> None:
    cluster.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.5": "web-9"}))
    cluster.collect(grace=300.0)
    assert cluster.records() == {}


def test_gc_keeps_reservations(cluster: FakeCluster) -> None:
    cluster.reserve("10.133.0.9")
    assert not cluster.collect().has_changed()


def test_gc_keeps_the_address_of_a_running_vm(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    cluster.detach()
    done = cluster.collect()
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("10.133.0.7 stays recorded" in note for note in done.notes)


@pytest.mark.parametrize("kind", [VMI, POD], ids=["instance", "pod"])
def test_gc_keeps_the_address_of_a_remaining_instance_or_pod(old_calico: FakeCluster, kind: Any) -> None:
    old_calico.running(pin="10.133.0.7")
    old_calico.attach()
    ref = VMI.ref("web-1", "prod") if kind is VMI else POD.ref("virt-launcher-web-1", "prod")
    left = old_calico.api.get(ref)
    old_calico.delete_vm()
    old_calico.api.put(kind, left)
    old_calico.collect()
    assert old_calico.holders() == {"10.133.0.7": "prod/web-1"}
    old_calico.api.drop(ref)
    old_calico.collect()
    assert old_calico.records() == {}


def test_gc_keeps_an_address_that_another_vm_runs_with(old_calico: FakeCluster) -> None:
    old_calico.vm("web-1")
    old_calico.attach("web-1", ip="10.133.0.7")
    old_calico.delete_vm("web-1")
    old_calico.running("web-2", pin="10.133.0.7")
    old_calico.api.change(VM.ref("web-2", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    done = old_calico.collect()
    assert old_calico.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("virtualmachineinstance/web-2" in note for note in done.notes)


@pytest.mark.parametrize("kind", [VM, VMI, POD], ids=["VMs", "instances", "pods"])
def test_gc_keeps_addresses_if_their_use_is_unreadable(old_calico: FakeCluster, kind: Any) -> None:
    old_calico.vm()
    old_calico.attach()
    old_calico.delete_vm()
    for verb in ("list", "get"):
        old_calico.api.refuse(verb, kind)
    done = old_calico.collect()
    assert old_calico.holders() == {"10.133.0.1": "prod/web-1"}
    assert any("10.133.0.1 stays recorded" in note for note in done.notes)


def test_gc_keeps_the_ipam_address_of_a_starting_vm(cluster: FakeCluster) -> None:
    """Its instance shows no address yet, and is pinned to none; but its handle holds the old one."""
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    cluster.detach()

    def starts(obj: Json) -> None:
        obj["metadata"]["annotations"] = {}
        obj["status"] = {"phase": "Scheduling"}

    cluster.api.change(VMI.ref("web-1", "prod"), starts)
    cluster.drop_pod("web-1")
    done = cluster.collect()
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}
    assert cluster.held_in_calico() == {"10.133.0.7": HANDLE}
    assert any("10.133.0.7 stays recorded" in note for note in done.notes)


def test_gc_keeps_the_allocation_if_ipam_is_unreadable(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    cluster.api.refuse("get", RAW.handle)
    cluster.collect()
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}


def test_gc_releases_the_address_of_a_vm_recreated_with_another_address(old_calico: FakeCluster) -> None:
    old_calico.vm()
    old_calico.attach()
    old_calico.delete_vm()
    old_calico.running()
    old_calico.collect()
    assert old_calico.records() == {}


def test_gc_is_limited_to_the_given_networks(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.vm("web-1")
    cluster.vm("web-2")
    cluster.attach("web-1")
    cluster.attach("web-2", network="prod/red")
    cluster.delete_vm("web-1")
    cluster.delete_vm("web-2")
    cluster.collect(networks=(("prod", "red"),))
    assert cluster.records("red") == {}
    assert cluster.holders("blue") == {"10.133.0.1": "prod/web-1"}


def test_gc_without_permission_to_list_networks_changes_nothing(cluster: FakeCluster) -> None:
    cluster.api.refuse("list", NETWORKWIZARD)
    with pytest.raises(PreconditionFailed, match="networks cannot be listed"):
        cluster.collect()


def test_gc_reports_a_forbidden_write_after_a_limited_number_of_tries(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()
    cluster.api.refuse("patch", NETWORKWIZARD)
    done = cluster.collect()
    assert any("may not patch" in error.message for error in done.errors.values())
    assert cluster.api.tried[("patch", "networkwizards")] < 50


# -- Calico's own bookkeeping ---------------------------------------------------------------------------------------


def test_gc_releases_ipam_before_the_allocation_of_a_deleted_vm(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.7")
    cluster.attach()
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    cluster.time_passes()
    cluster.delete_vm()
    assert cluster.held_in_calico() == {"10.133.0.7": HANDLE}
    cluster.api.writes.clear()
    cluster.collect()
    assert cluster.held_in_calico() == {}
    assert cluster.records() == {}
    order = [write.split("/")[0] for write in cluster.api.writes]
    assert order == ["replace ipamblock", "delete ipamhandle", "patch networkwizard"]


def test_gc_releases_unrecorded_ipam_addresses_of_deleted_vms(cluster: FakeCluster) -> None:
    cluster.hold("10.133.0.7", HANDLE)
    cluster.hold("10.133.0.8", "k8s-pod-network.vmi.prod.web-2")
    cluster.hold_by_pod("10.133.0.9")
    cluster.vm("web-2")
    cluster.collect()
    assert cluster.held_in_calico() == {
        "10.133.0.8": "k8s-pod-network.vmi.prod.web-2",
        "10.133.0.9": "k8s-pod-network.some-container-9",
    }


@pytest.mark.parametrize("kind", [VM, VMI, POD], ids=["VM", "instance", "pod"])
def test_gc_keeps_ipam_addresses_while_anything_of_the_vm_exists(cluster: FakeCluster, kind: Any) -> None:
    cluster.running(pin="10.133.0.7")
    left = cluster.api.every(kind)[0]
    for obj in [*cluster.api.every(VM)]:
        cluster.api.drop(VM.ref(obj["metadata"]["name"], "prod"))
    cluster.drop_pod("web-1")
    cluster.api.put(kind, left)
    assert cluster.held_in_calico() == {"10.133.0.7": HANDLE}
    cluster.collect()
    assert cluster.held_in_calico() == {"10.133.0.7": HANDLE}


@pytest.mark.parametrize("kind", [VM, VMI, POD], ids=["VMs", "instances", "pods"])
def test_gc_keeps_ipam_addresses_if_their_vm_is_unreadable(cluster: FakeCluster, kind: Any) -> None:
    cluster.hold("10.133.0.7", HANDLE)
    for verb in ("list", "get"):
        cluster.api.refuse(verb, kind)
    cluster.collect()
    assert cluster.held_in_calico() == {"10.133.0.7": HANDLE}


def test_gc_ignores_ipam_addresses_outside_the_networks(cluster: FakeCluster) -> None:
    cluster.hold("192.168.0.7", HANDLE)
    assert not cluster.collect().has_changed()


# -- what deleted networks left behind ------------------------------------------------------------------------------


def test_gc_disables_and_deletes_the_pool_of_a_network_deleted_with_kubectl(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.api.drop(BLUE)
    cluster.api.writes.clear()
    cluster.collect()
    assert cluster.api.writes == ["patch ippool/prod.blue", "delete ippool/prod.blue"]
    assert [pool["metadata"]["name"] for pool in cluster.api.every(RAW.pool)] == ["prod.red"]


def test_gc_deletes_the_pool_of_a_recreated_network_with_another_cidr(cluster: FakeCluster) -> None:
    cluster.api.drop(BLUE)
    cluster.api.put(NETWORKWIZARD, wizard("blue", "10.155.0.0/24"))
    cluster.collect()
    assert cluster.api.every(RAW.pool) == []


def test_gc_keeps_an_orphaned_pool_with_addresses_in_ipam(cluster: FakeCluster) -> None:
    cluster.api.drop(BLUE)
    cluster.hold_by_pod("10.133.0.9")
    done = cluster.collect()
    assert cluster.api.get(RAW.pool.ref("prod.blue"))["spec"]["disabled"] is False
    assert any("ippool/prod.blue is kept" in note for note in done.notes)


@pytest.mark.parametrize("kind", [RAW.block, NETWORKWIZARD], ids=["blocks", "networks"])
def test_gc_keeps_an_orphaned_pool_if_blocks_or_networks_are_unreadable(cluster: FakeCluster, kind: Any) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.api.drop(BLUE)

    def look(verb: str, ref: Any) -> None:
        """Permission to list networks of one namespace, but not of all."""
        if verb == "list" and ref.resource == NETWORKWIZARD and ref.namespace:
            cluster.api.allow_everything()
        elif verb == "list":
            cluster.api.refuse("list", kind)

    cluster.api.before.append(look)
    cluster.collect(namespace="prod")
    assert cluster.api.look(RAW.pool.ref("prod.blue"))


def test_gc_keeps_foreign_pools(cluster: FakeCluster) -> None:
    other: Json = {"metadata": {"name": "default", "annotations": {"a": "b"}}, "spec": {"cidr": "192.168.0.0/16"}}
    cluster.api.put(RAW.pool, other)
    assert not cluster.collect().has_changed()


def test_gc_keeps_orphaned_objects_while_a_network_spec_is_invalid(cluster: FakeCluster) -> None:
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(cidr="nonsense"))
    done = cluster.collect()
    assert cluster.api.look(RAW.pool.ref("prod.blue"))
    assert any("while a network's spec is broken" in note for note in done.notes)


def test_gc_reports_an_orphaned_pool_that_cannot_be_deleted(cluster: FakeCluster) -> None:
    cluster.api.drop(BLUE)
    cluster.api.refuse("delete", RAW.pool)
    done = cluster.collect()
    assert any("may not delete ippools" in error.message for error in done.errors.values())
    assert cluster.api.tried[("delete", "ippools")] < 50


def test_gc_of_one_network_ignores_orphaned_objects(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24")
    cluster.api.drop(BLUE)
    cluster.collect(networks=(("prod", "red"),))
    assert cluster.api.look(RAW.pool.ref("prod.blue"))


@pytest.mark.parametrize("namespace", ["shop", "pro", "prod/blue"])
def test_gc_of_a_namespace_ignores_orphaned_objects_of_others(cluster: FakeCluster, namespace: str) -> None:
    cluster.api.drop(BLUE)
    assert not cluster.collect(namespace=namespace).has_changed()
    assert cluster.api.look(RAW.pool.ref("prod.blue"))
    cluster.collect(namespace="prod")
    assert not cluster.api.look(RAW.pool.ref("prod.blue"))


def test_gc_releases_several_allocations_of_one_vm_together(cluster: FakeCluster) -> None:
    """Runs that were killed may leave one on each network; the fence is written to the VM once."""
    cluster.network("red", "10.134.0.0/24")
    cluster.vm()
    cluster.attach()
    (record,) = cluster.records().values()
    for network, address in (("blue", "10.133.0.7"), ("red", "10.134.0.7")):

        def add(obj: Json, address: str = address) -> None:
            obj["status"].setdefault("allocations", {})[address] = dict(record.as_written)

        cluster.api.change(NETWORKWIZARD.ref(network, "prod"), add)
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    assert cluster.collect().errors == {}
    assert (cluster.holders(), cluster.holders("red")) == ({}, {})
    assert RELEASED_AT_ANNOTATION in cluster.now().annotations


def test_gc_treats_an_allocation_from_the_future_as_new(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.delete_vm()

    def write(obj: Json) -> None:
        obj["status"]["allocations"]["10.133.0.1"]["since"] = "2999-01-01T00:00:00.000000Z"

    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), write)
    cluster.collect(grace=300.0)
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    cluster.collect(grace=0.0)
    assert cluster.holders() == {}


@pytest.mark.parametrize("cidr", ["10.20.0.0/24", "10.20.0.0/16"], ids=["in its status", "in blocks"])
@pytest.mark.parametrize("plugin", ["ovs", "public"])
def test_gc_keeps_an_address_announced_that_is_reallocated_concurrently(plugin: str, cidr: str) -> None:
    """What the DHCP server or Calico has of it is the new VM's by then, though the record that was read is the old."""
    cluster = public("203.0.113.0/24") if plugin == "public" else FakeCluster()
    network = "pub" if plugin == "public" else "lab"
    address = "203.0.113.7" if plugin == "public" else "10.20.0.7"
    if plugin == "ovs":
        layer2(cluster, cidr=cidr)
    elif cidr.endswith("/16"):
        cluster = public("203.0.0.0/16")
    for name in ("web-1", "web-2"):
        cluster.vm(name)
    cluster.attach("web-1", network=f"prod/{network}", ip=address)
    cluster.delete_vm("web-1")
    late = cluster.second_client(1)

    def taken_meanwhile(verb: str, ref: ObjectRef) -> None:
        if ref.resource in (CONFIGMAP, RAW.bgp_configuration):
            late.api.before.clear()
            cluster.collect()
            assert not cluster.attach("web-2", network=f"prod/{network}", ip=address).errors

    late.api.before.append(taken_meanwhile)
    assert not late.collect().errors
    assert late.api.before == []
    assert cluster.holders(network)[address] == "prod/web-2"
    assert announced(cluster, plugin, address)
    cluster.check()


def test_gc_keeps_the_dhcp_entry_of_a_vm_attached_concurrently() -> None:
    """What is refused for one VM is not done for it together with the other's."""
    cluster = FakeCluster()
    layer2(cluster)
    bare = {name: cluster.vm(name).raw for name in ("web-1", "web-2")}
    cluster.attach("web-1", "web-2", network="prod/lab")
    attached = {name: cluster.now(name).raw for name in bare}
    for name in bare:  # as if each attachment had been slow, or killed, before it wrote to its VM
        become(cluster, name, bare[name])
    late = cluster.second_client(1)
    happened: list[str] = []

    def goes_on(verb: str, ref: ObjectRef) -> None:
        if (verb, ref) == ("patch", VM.ref("web-1", "prod")) and not happened:
            happened.append("web-1 is attached")
            become(cluster, "web-1", attached["web-1"])

    late.api.before.append(goes_on)
    late.collect()
    assert happened
    assert len(cluster.records("lab")) == 2  # web-1's, and the DHCP server's own
    assert list(hosts(cluster)) == ["10.20.0.2.conf"]
    cluster.check()


def test_network_delete_keeps_the_allocation_of_a_vm_attached_between_two_reads() -> None:
    """By the first read it was not attached; it must not have been written to since that one."""
    cluster = FakeCluster()
    layer2(cluster)
    bare = cluster.vm().raw
    cluster.attach(network="prod/lab")
    attached = cluster.now().raw
    become(cluster, "web-1", bare)
    late = cluster.second_client(1)
    happened: list[str] = []

    def goes_on(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("list", VM) and cluster.api.get(LAB)["status"].get("deleting") and not happened:
            happened.append("web-1 is attached")
            become(cluster, "web-1", attached)

    late.api.before.append(goes_on)
    late.delete_network("lab", force=True)
    assert happened
    assert cluster.networks() == [] or "prod/web-1" in cluster.holders("lab").values()
    cluster.check()


def become(cluster: FakeCluster, name: str, wanted: Json) -> None:
    """A VM has the spec and the annotations that it had at another time."""

    def change(obj: Json) -> None:
        obj["spec"] = wanted["spec"]
        obj["metadata"]["annotations"] = wanted["metadata"].get("annotations", {})

    cluster.api.change(VM.ref(name, "prod"), change)


def announced(cluster: FakeCluster, plugin: str, address: str) -> bool:
    """Whether the DHCP server keeps the address, or Calico announces it."""
    if plugin == "ovs":
        return f"{address}.conf" in hosts(cluster)
    spec = cluster.api.get(RAW.bgp_configuration.ref("default"))["spec"]
    return {"cidr": f"{address}/32"} in spec.get("serviceLoadBalancerIPs", ())
