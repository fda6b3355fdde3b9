"""Collecting what nobody uses any more, and nothing else (I5)."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.vm import POD, VM, VMI
from kubectl_yoshi.plan.release import FENCE_ANNOTATION
from tests.unit.plan.fake_cluster import World, wizard
from tests.unit.plan.test_layer2 import hosts, layer2
from tests.unit.plan.test_public import public

pytestmark = pytest.mark.I5

BLUE = NETWORKWIZARD.ref("blue", "prod")
LAB = NETWORKWIZARD.ref("lab", "prod")
HANDLE = "k8s-pod-network.vmi.prod.web-1"
CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])


def with_network(cidr: str, keeps: bool = True) -> World:
    made = World(keeps)
    made.network(cidr=cidr)
    return made


@CIDRS
def test_the_address_of_a_vm_that_is_gone_is_given_back(cidr: str) -> None:
    world = with_network(cidr)
    for name in ("web-1", "web-2"):
        world.vm(name)
    world.attach("web-1", "web-2")
    world.drop_vm("web-1")
    world.collect()
    assert [*world.holders().values()] == ["prod/web-2"]
    world.drop_vm("web-2")
    world.collect()
    assert world.records() == {}


def test_the_address_of_a_vm_that_does_not_want_it_any_more_is_given_back(world: World) -> None:
    world.vm()
    world.attach()
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    world.collect()
    assert world.records() == {}


def test_the_address_of_a_vm_that_carries_it_stays(world: World) -> None:
    world.vm()
    world.attach()
    assert not world.collect().has_changed()
    world.check()


def test_an_address_that_a_vm_of_another_namespace_carries_stays(world: World) -> None:
    world.vm()
    world.attach()
    world.drop_vm()
    world.vm("web-9", "dev", pin="10.133.0.1")
    assert not world.collect().has_changed()
    assert world.holders() == {"10.133.0.1": "prod/web-1"}


def test_a_record_younger_than_the_grace_period_stays(world: World) -> None:
    world.vm()
    world.attach()
    world.drop_vm()
    done = world.collect(grace=300.0)
    assert not done.has_changed()
    assert done.notes == ("1 record of network prod/blue that no VM has is younger than --grace 5m: skipped for now",)
    assert not world.collect(grace=0.0).notes
    assert world.records() == {}


def test_young_records_of_vms_that_carry_them_are_not_worth_a_word(world: World) -> None:
    world.vm()
    world.attach()
    assert world.collect(grace=300.0).notes == ()


def test_a_record_of_the_original_has_no_age_and_is_old(world: World) -> None:
    world.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.5": "web-9"}))
    world.collect(grace=300.0)
    assert world.records() == {}


def test_reservations_stay(world: World) -> None:
    world.reserve("10.133.0.9")
    assert not world.collect().has_changed()


def test_the_address_of_a_vm_that_runs_with_it_stays_whether_it_wants_it_or_not(world: World) -> None:
    world.running(pin="10.133.0.7")
    world.attach()
    world.detach()
    done = world.collect()
    assert world.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("10.133.0.7 stays recorded" in note for note in done.notes)


@pytest.mark.parametrize("kind", [VMI, POD], ids=["instance", "pod"])
def test_what_still_runs_of_a_vm_that_is_gone_keeps_its_address(old_world: World, kind: Any) -> None:
    old_world.running(pin="10.133.0.7")
    old_world.attach()
    ref = VMI.ref("web-1", "prod") if kind is VMI else POD.ref("virt-launcher-web-1", "prod")
    left = old_world.api.get(ref)
    old_world.drop_vm()
    old_world.api.put(kind, left)
    old_world.collect()
    assert old_world.holders() == {"10.133.0.7": "prod/web-1"}
    old_world.api.drop(ref)
    old_world.collect()
    assert old_world.records() == {}


def test_an_address_that_another_vm_runs_with_stays(old_world: World) -> None:
    old_world.vm("web-1")
    old_world.attach("web-1", ip="10.133.0.7")
    old_world.drop_vm("web-1")
    old_world.running("web-2", pin="10.133.0.7")
    old_world.api.change(VM.ref("web-2", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    done = old_world.collect()
    assert old_world.holders() == {"10.133.0.7": "prod/web-1"}
    assert any("virtualmachineinstance/web-2" in note for note in done.notes)


@pytest.mark.parametrize("kind", [VM, VMI, POD], ids=["VMs", "instances", "pods"])
def test_what_cannot_be_told_stays(old_world: World, kind: Any) -> None:
    old_world.vm()
    old_world.attach()
    old_world.drop_vm()
    for verb in ("list", "get"):
        old_world.api.refuse(verb, kind)
    done = old_world.collect()
    assert old_world.holders() == {"10.133.0.1": "prod/web-1"}
    assert any("10.133.0.1 stays recorded" in note for note in done.notes)


def test_an_address_that_calico_will_give_to_a_vm_that_is_starting_stays(world: World) -> None:
    """Its instance shows no address yet, and is pinned to none; but its handle holds the old one."""
    world.running(pin="10.133.0.7")
    world.attach()
    world.detach()

    def starts(obj: Json) -> None:
        obj["metadata"]["annotations"] = {}
        obj["status"] = {"phase": "Scheduling"}

    world.api.change(VMI.ref("web-1", "prod"), starts)
    world.drop_pod("web-1")
    done = world.collect()
    assert world.holders() == {"10.133.0.7": "prod/web-1"}
    assert world.held_in_calico() == {"10.133.0.7": HANDLE}
    assert any("10.133.0.7 stays recorded" in note for note in done.notes)


def test_what_calico_holds_cannot_be_told_so_the_record_stays(world: World) -> None:
    world.vm()
    world.attach()
    world.drop_vm()
    world.api.refuse("get", RAW.handle)
    world.collect()
    assert world.holders() == {"10.133.0.1": "prod/web-1"}


def test_a_vm_made_anew_that_runs_elsewhere_keeps_nothing_of_the_old_one(old_world: World) -> None:
    old_world.vm()
    old_world.attach()
    old_world.drop_vm()
    old_world.running()
    old_world.collect()
    assert old_world.records() == {}


def test_only_the_networks_that_are_meant_are_collected(world: World) -> None:
    world.network("red", "10.144.0.0/24")
    world.vm("web-1")
    world.vm("web-2")
    world.attach("web-1")
    world.attach("web-2", network="prod/red")
    world.drop_vm("web-1")
    world.drop_vm("web-2")
    world.collect(networks=(("prod", "red"),))
    assert world.records("red") == {}
    assert world.holders("blue") == {"10.133.0.1": "prod/web-1"}


def test_without_the_right_to_see_networks_nothing_is_done(world: World) -> None:
    world.api.refuse("list", NETWORKWIZARD)
    with pytest.raises(PreconditionFailed, match="networks cannot be listed"):
        world.collect()


def test_what_may_not_be_written_is_told_and_not_tried_for_ever(world: World) -> None:
    world.vm()
    world.attach()
    world.drop_vm()
    world.api.refuse("patch", NETWORKWIZARD)
    done = world.collect()
    assert any("may not patch" in error.message for error in done.errors.values())
    assert world.api.tried[("patch", "networkwizards")] < 50


# -- Calico's own bookkeeping ---------------------------------------------------------------------------------------


def test_what_calico_keeps_of_a_vm_that_was_stopped_and_deleted_goes_in_the_safe_order(world: World) -> None:
    world.running(pin="10.133.0.7")
    world.attach()
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    world.time_passes()
    world.drop_vm()
    assert world.held_in_calico() == {"10.133.0.7": HANDLE}
    world.api.writes.clear()
    world.collect()
    assert world.held_in_calico() == {}
    assert world.records() == {}
    order = [write.split("/")[0] for write in world.api.writes]
    assert order == ["replace ipamblock", "delete ipamhandle", "patch networkwizard"]


def test_a_stray_that_the_ledger_knows_nothing_of_is_released_too(world: World) -> None:
    world.hold("10.133.0.7", HANDLE)
    world.hold("10.133.0.8", "k8s-pod-network.vmi.prod.web-2")
    world.hold_by_pod("10.133.0.9")
    world.vm("web-2")
    world.collect()
    assert world.held_in_calico() == {
        "10.133.0.8": "k8s-pod-network.vmi.prod.web-2",
        "10.133.0.9": "k8s-pod-network.some-container-9",
    }


@pytest.mark.parametrize("kind", [VM, VMI, POD], ids=["VM", "instance", "pod"])
def test_a_stray_stays_while_anything_of_its_vm_exists(world: World, kind: Any) -> None:
    world.running(pin="10.133.0.7")
    left = world.api.every(kind)[0]
    for obj in [*world.api.every(VM)]:
        world.api.drop(VM.ref(obj["metadata"]["name"], "prod"))
    world.drop_pod("web-1")
    world.api.put(kind, left)
    assert world.held_in_calico() == {"10.133.0.7": HANDLE}
    world.collect()
    assert world.held_in_calico() == {"10.133.0.7": HANDLE}


@pytest.mark.parametrize("kind", [VM, VMI, POD], ids=["VMs", "instances", "pods"])
def test_a_stray_stays_while_its_vm_cannot_be_seen(world: World, kind: Any) -> None:
    world.hold("10.133.0.7", HANDLE)
    for verb in ("list", "get"):
        world.api.refuse(verb, kind)
    world.collect()
    assert world.held_in_calico() == {"10.133.0.7": HANDLE}


def test_strays_outside_our_networks_are_none_of_our_business(world: World) -> None:
    world.hold("192.168.0.7", HANDLE)
    assert not world.collect().has_changed()


# -- what deleted networks left behind ------------------------------------------------------------------------------


def test_the_pool_of_a_network_that_was_deleted_with_kubectl_is_disabled_and_deleted(world: World) -> None:
    world.network("red", "10.144.0.0/24")
    world.api.drop(BLUE)
    world.api.writes.clear()
    world.collect()
    assert world.api.writes == ["patch ippool/prod.blue", "delete ippool/prod.blue"]
    assert [pool["metadata"]["name"] for pool in world.api.every(RAW.pool)] == ["prod.red"]


def test_the_pool_of_a_network_that_was_made_anew_under_its_name_is_a_leftover(world: World) -> None:
    world.api.drop(BLUE)
    world.api.put(NETWORKWIZARD, wizard("blue", "10.155.0.0/24"))
    world.collect()
    assert world.api.every(RAW.pool) == []


def test_a_leftover_pool_whose_addresses_calico_holds_stays(world: World) -> None:
    world.api.drop(BLUE)
    world.hold_by_pod("10.133.0.9")
    done = world.collect()
    assert world.api.get(RAW.pool.ref("prod.blue"))["spec"]["disabled"] is False
    assert any("ippool/prod.blue is kept" in note for note in done.notes)


@pytest.mark.parametrize("kind", [RAW.block, NETWORKWIZARD], ids=["blocks", "networks"])
def test_a_leftover_pool_stays_where_its_use_or_its_network_cannot_be_told(world: World, kind: Any) -> None:
    world.network("red", "10.144.0.0/24")
    world.api.drop(BLUE)

    def look(verb: str, ref: Any) -> None:
        """The right to list networks of one namespace, but not of all."""
        if verb == "list" and ref.resource == NETWORKWIZARD and ref.namespace:
            world.api.allow_everything()
        elif verb == "list":
            world.api.refuse("list", kind)

    world.api.before.append(look)
    world.collect(namespace="prod")
    assert world.api.look(RAW.pool.ref("prod.blue"))


def test_pools_of_others_stay(world: World) -> None:
    other: Json = {"metadata": {"name": "default", "annotations": {"a": "b"}}, "spec": {"cidr": "192.168.0.0/16"}}
    world.api.put(RAW.pool, other)
    assert not world.collect().has_changed()


def test_nothing_is_taken_for_a_leftover_while_a_networks_spec_is_broken(world: World) -> None:
    world.api.change(BLUE, lambda obj: obj["spec"].update(cidr="nonsense"))
    done = world.collect()
    assert world.api.look(RAW.pool.ref("prod.blue"))
    assert any("while a network's spec is broken" in note for note in done.notes)


def test_a_leftover_that_may_not_be_deleted_is_told(world: World) -> None:
    world.api.drop(BLUE)
    world.api.refuse("delete", RAW.pool)
    done = world.collect()
    assert any("may not delete ippools" in error.message for error in done.errors.values())
    assert world.api.tried[("delete", "ippools")] < 50


def test_one_network_alone_says_nothing_of_leftovers(world: World) -> None:
    world.network("red", "10.144.0.0/24")
    world.api.drop(BLUE)
    world.collect(networks=(("prod", "red"),))
    assert world.api.look(RAW.pool.ref("prod.blue"))


@pytest.mark.parametrize("namespace", ["shop", "pro", "prod/blue"])
def test_what_networks_of_other_namespaces_left_is_left_to_who_asks_for_those(world: World, namespace: str) -> None:
    world.api.drop(BLUE)
    assert not world.collect(namespace=namespace).has_changed()
    assert world.api.look(RAW.pool.ref("prod.blue"))
    world.collect(namespace="prod")
    assert not world.api.look(RAW.pool.ref("prod.blue"))


def test_several_records_of_one_vm_are_given_back_together(world: World) -> None:
    """Runs that were killed may leave one on each network; the VM is told once that its attachments have ended."""
    world.network("red", "10.134.0.0/24")
    world.vm()
    world.attach()
    (record,) = world.records().values()
    for network, address in (("blue", "10.133.0.7"), ("red", "10.134.0.7")):

        def add(obj: Json, address: str = address) -> None:
            obj["status"].setdefault("allocations", {})[address] = dict(record.as_written)

        world.api.change(NETWORKWIZARD.ref(network, "prod"), add)
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    assert world.collect().errors == {}
    assert (world.holders(), world.holders("red")) == ({}, {})
    assert FENCE_ANNOTATION not in world.now().annotations


def test_a_record_from_a_clock_that_is_ahead_is_as_young_as_can_be(world: World) -> None:
    world.vm()
    world.attach()
    world.drop_vm()

    def write(obj: Json) -> None:
        obj["status"]["allocations"]["10.133.0.1"]["since"] = "2999-01-01T00:00:00.000000Z"

    world.api.change(NETWORKWIZARD.ref("blue", "prod"), write)
    world.collect(grace=300.0)
    assert world.holders() == {"10.133.0.1": "prod/web-1"}
    world.collect(grace=0.0)
    assert world.holders() == {}


@pytest.mark.parametrize("cidr", ["10.20.0.0/24", "10.20.0.0/16"], ids=["in its status", "in blocks"])
@pytest.mark.parametrize("plugin", ["ovs", "public"])
def test_an_address_that_another_run_releases_and_allocates_while_it_is_collected_stays_announced(
    plugin: str, cidr: str
) -> None:
    """What the DHCP server or Calico has of it is the new VM's by then, though the record that was read is the old."""
    world = public("203.0.113.0/24") if plugin == "public" else World()
    network = "pub" if plugin == "public" else "lab"
    address = "203.0.113.7" if plugin == "public" else "10.20.0.7"
    if plugin == "ovs":
        layer2(world, cidr=cidr)
    elif cidr.endswith("/16"):
        world = public("203.0.0.0/16")
    for name in ("web-1", "web-2"):
        world.vm(name)
    world.attach("web-1", network=f"prod/{network}", ip=address)
    world.drop_vm("web-1")
    late = world.twin(1)

    def taken_meanwhile(verb: str, ref: ObjectRef) -> None:
        if ref.resource in (CONFIGMAP, RAW.bgp_configuration):
            late.api.before.clear()
            world.collect()
            assert not world.attach("web-2", network=f"prod/{network}", ip=address).errors

    late.api.before.append(taken_meanwhile)
    assert not late.collect().errors
    assert late.api.before == []
    assert world.holders(network)[address] == "prod/web-2"
    assert announced(world, plugin, address)
    world.check()


def test_of_two_vms_that_are_collected_the_one_that_is_attached_meanwhile_keeps_its_dhcp_entry() -> None:
    """What is refused for one VM is not done for it together with the other's."""
    world = World()
    layer2(world)
    bare = {name: world.vm(name).raw for name in ("web-1", "web-2")}
    world.attach("web-1", "web-2", network="prod/lab")
    attached = {name: world.now(name).raw for name in bare}
    for name in bare:  # as if each attachment had been slow, or killed, before it wrote to its VM
        become(world, name, bare[name])
    late = world.twin(1)
    happened: list[str] = []

    def goes_on(verb: str, ref: ObjectRef) -> None:
        if (verb, ref) == ("patch", VM.ref("web-1", "prod")) and not happened:
            happened.append("web-1 is attached")
            become(world, "web-1", attached["web-1"])

    late.api.before.append(goes_on)
    late.collect()
    assert happened
    assert len(world.records("lab")) == 2  # web-1's, and the DHCP server's own
    assert list(hosts(world)) == ["10.20.0.2.conf"]
    world.check()


def test_a_vm_that_is_attached_between_two_reads_of_a_deletion_keeps_its_record() -> None:
    """By the first read it was not attached; it must not have been written to since that one."""
    world = World()
    layer2(world)
    bare = world.vm().raw
    world.attach(network="prod/lab")
    attached = world.now().raw
    become(world, "web-1", bare)
    late = world.twin(1)
    happened: list[str] = []

    def goes_on(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("list", VM) and world.api.get(LAB)["status"].get("deleting") and not happened:
            happened.append("web-1 is attached")
            become(world, "web-1", attached)

    late.api.before.append(goes_on)
    late.delete_network("lab", force=True)
    assert happened
    assert world.networks() == [] or "prod/web-1" in world.holders("lab").values()
    world.check()


def become(world: World, name: str, wanted: Json) -> None:
    """A VM has the spec and the annotations that it had at another time."""

    def change(obj: Json) -> None:
        obj["spec"] = wanted["spec"]
        obj["metadata"]["annotations"] = wanted["metadata"].get("annotations", {})

    world.api.change(VM.ref(name, "prod"), change)


def announced(world: World, plugin: str, address: str) -> bool:
    """Whether the DHCP server keeps the address, or Calico announces it."""
    if plugin == "ovs":
        return f"{address}.conf" in hosts(world)
    spec = world.api.get(RAW.bgp_configuration.ref("default"))["spec"]
    return {"cidr": f"{address}/32"} in spec.get("serviceLoadBalancerIPs", ())
