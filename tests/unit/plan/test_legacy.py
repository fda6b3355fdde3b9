"""Taking over from the original yoshi, and living with what it wrote until then.

| What the original left                   | What becomes of it                                                     |
|------------------------------------------|------------------------------------------------------------------------|
| address: vm-name, the VM is there        | a record; of a large network in its block first, then off the status   |
| address: vm-name, there is no such VM    | stays as it is, held; `ips gc` gives it back                           |
| the same, of a large network, not moved  | held: nobody else gets it, its VM keeps it, detach and gc strike it    |
| its finalizers                           | go, since nobody is left who would take them off                       |
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.backend import HW_ADDR_ANNOTATION, IP_ADDRS_ANNOTATION
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef, dig
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.legacy import (
    NETWORK_FINALIZER,
    VM_FINALIZER,
    LegacyConversionRequest,
    plan_legacy_conversion,
)
from tests.unit.plan.fake_cluster import World, is_killed

SMALL, LARGE = "10.133.0.0/24", "10.133.0.0/16"
CIDRS = pytest.mark.parametrize("cidr", [SMALL, LARGE])


@pytest.fixture
def world() -> World:
    return World()


def original(world: World, cidr: str, allocations: dict[str, Any], **metadata: Any) -> None:
    """A network as the original yoshi left it, with its pool."""
    world.make_network("blue", cidr)

    def as_it_was(obj: Json) -> None:
        obj["status"] = {"created": True, "allocations": allocations}
        obj["metadata"] |= metadata

    world.api.change(NETWORKWIZARD.ref("blue", "prod"), as_it_was)
    world.api.writes.clear()


def take_over(world: World, **more: Any) -> RunResult:
    return world.run(plan_legacy_conversion, LegacyConversionRequest(**more))


def in_status(world: World) -> Json:
    return dict(dig(world.api.get(NETWORKWIZARD.ref("blue", "prod")), "status", "allocations", default={}))


def unmoved(world: World) -> Json:
    return {address: value for address, value in in_status(world).items() if isinstance(value, str)}


@CIDRS
def test_a_vms_name_becomes_a_record(world: World, cidr: str) -> None:
    template = {
        "metadata": {"annotations": {IP_ADDRS_ANNOTATION: '["10.133.0.7"]', HW_ADDR_ANNOTATION: "02:00:00:00:00:07"}},
        "spec": {},
    }
    vm = world.vm(template=template)
    original(world, cidr, {"10.133.0.7": "web-1"})
    done = take_over(world)
    assert done.results == {}, "nothing is left to take over"
    assert done.plan.results == {"prod/blue": "1"}
    record = world.records()["10.133.0.7"]
    assert (record.namespace, record.name, record.uid, record.mac) == ("prod", "web-1", vm.uid, "02:00:00:00:00:07")
    assert record.since
    assert not unmoved(world)
    world.check()
    world.api.writes.clear()
    take_over(world)
    assert not world.api.writes


@CIDRS
def test_what_has_no_vm_stays_and_is_told(world: World, cidr: str) -> None:
    world.vm()
    original(world, cidr, {"10.133.0.7": "web-1", "10.133.0.8": "gone"})
    done = take_over(world)
    assert world.holders() == {"10.133.0.7": "prod/web-1", "10.133.0.8": "prod/gone"}
    assert unmoved(world) == {"10.133.0.8": "gone"}
    (note,) = done.notes
    assert "does not convert 10.133.0.8 of gone" in note
    world.collect()
    assert "10.133.0.8" not in world.holders()


def test_where_vms_may_not_be_seen_nothing_is_taken_over(world: World) -> None:
    world.vm()
    original(world, SMALL, {"10.133.0.7": "web-1"})
    world.api.refuse("list", VM)
    done = take_over(world)
    assert unmoved(world) == {"10.133.0.7": "web-1"}
    assert "may not list virtualmachines" in done.notes[0]


def test_only_networks_of_the_namespace_are_taken_over(world: World) -> None:
    world.vm()
    original(world, SMALL, {"10.133.0.7": "web-1"})
    take_over(world, namespace="shop")
    assert unmoved(world)
    take_over(world, networks=frozenset({("prod", "blue")}))
    assert not unmoved(world)


def test_one_network_that_cannot_be_written_does_not_stop_another(world: World) -> None:
    world.vm()
    original(world, SMALL, {"10.133.0.7": "web-1"})
    world.make_network("green", "10.134.0.0/24")

    def as_it_was(obj: Json) -> None:
        obj["status"] = {"allocations": {"10.134.0.7": "web-1"}}

    world.api.change(NETWORKWIZARD.ref("green", "prod"), as_it_was)

    def no_writes_to_blue(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.name) == ("patch", "blue"):
            world.api.refuse("patch", NETWORKWIZARD)
        else:
            world.api.allow_everything()

    world.api.before.append(no_writes_to_blue)
    done = take_over(world)
    assert [*done.errors] == ["prod/blue"]
    assert world.records("green")["10.134.0.7"].uid
    assert unmoved(world) == {"10.133.0.7": "web-1"}


def test_an_address_of_a_large_network_is_never_without_a_record(world: World) -> None:
    """Killed before any of its writes, a takeover leaves every address recorded, and the next one completes it."""
    for stop_at in itertools.count():
        world = World()
        world.vm()
        world.vm("web-2")
        original(world, LARGE, {"10.133.0.7": "web-1", "10.133.9.9": "web-2", "10.133.9.10": "gone"})
        killed = is_killed(world, stop_at, take_over)
        recorded = {*in_status(world)}
        for block in world.api.every(ADDRESSBLOCK):
            recorded |= {*dig(block, "status", "allocations", default={})}
        assert recorded == {"10.133.0.7", "10.133.9.9", "10.133.9.10"}, stop_at
        take_over(world)
        assert unmoved(world) == {"10.133.9.10": "gone"}, stop_at
        assert all(record.uid for address, record in world.records().items() if address != "10.133.9.10")
        if not killed:
            break
    assert stop_at > 3, "so many writes at least have had a kill before them"


def test_two_that_disagree_are_told_and_left(world: World) -> None:
    world.network("blue", LARGE)
    world.vm()
    world.attach(ip="10.133.0.7")
    world.vm("web-2")

    def disagree(obj: Json) -> None:
        obj["status"]["allocations"] = {"10.133.0.7": "web-2"}

    world.api.change(NETWORKWIZARD.ref("blue", "prod"), disagree)
    done = take_over(world)
    assert "10.133.0.7 is recorded for prod/web-1, but its status still has web-2" in done.notes[0]
    assert unmoved(world) == {"10.133.0.7": "web-2"}


# -- before anything is taken over -----------------------------------------------------------------------------------


def test_an_address_that_was_not_moved_yet_is_given_to_nobody_else(world: World) -> None:
    original(world, "10.133.0.0/23", {f"10.133.{n // 256}.{n % 256}": f"old-{n}" for n in range(1, 510)})
    world.vm()
    done = world.attach()
    assert world.pin() == "10.133.1.254", "the only one that is left"
    world.vm("web-2")
    assert "full" in str(world.attach("web-2").errors["prod/web-2"])
    done = world.attach("web-2", ip="10.133.0.9")
    assert "prod/old-9 holds it" in str(done.errors["prod/web-2"])
    with pytest.raises(PreconditionFailed, match="prod/old-9 holds it"):
        world.reserve("10.133.0.9")


@pytest.mark.parametrize("carries", [True, False])
def test_its_own_vm_keeps_an_address_that_was_not_moved_yet(world: World, carries: bool) -> None:
    vm = world.vm(pin="10.133.9.9" if carries else "")
    original(world, LARGE, {"10.133.9.9": "web-1"})
    assert not world.attach().errors
    assert world.pin() == "10.133.9.9"
    assert world.records()["10.133.9.9"].uid == vm.uid
    assert not unmoved(world)
    world.check()


def test_a_half_moved_address_is_moved_whole_by_whoever_touches_it(world: World) -> None:
    world.network("blue", LARGE)
    world.vm()
    world.attach(ip="10.133.9.9")

    def half_moved(obj: Json) -> None:
        obj["status"]["allocations"] = {"10.133.9.9": "web-1"}

    world.api.change(NETWORKWIZARD.ref("blue", "prod"), half_moved)
    assert not world.attach().errors
    assert not unmoved(world)
    assert world.holders() == {"10.133.9.9": "prod/web-1"}


@pytest.mark.parametrize("gone", [True, False])
def test_detaching_strikes_an_address_that_was_not_moved_yet(world: World, gone: bool) -> None:
    original(world, LARGE, {"10.133.9.9": "web-1"})
    vm = world.vm(pin="10.133.9.9")
    if gone:
        world.api.drop(vm.ref)
    assert not world.detach().errors
    assert not in_status(world)
    assert not world.api.every(ADDRESSBLOCK)


def test_an_address_that_the_original_gives_to_another_vm_meanwhile_stays_that_ones(world: World) -> None:
    original(world, LARGE, {"10.133.9.9": "web-1"})
    world.vm(pin="10.133.9.9")

    def meanwhile(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", NETWORKWIZARD):
            world.api.before.clear()
            world.api.change(ref, lambda obj: obj["status"]["allocations"].update({"10.133.9.9": "web-2"}))

    world.api.before.append(meanwhile)
    world.detach()
    assert not world.api.before
    assert in_status(world) == {"10.133.9.9": "web-2"}


# -- finalizers ------------------------------------------------------------------------------------------------------


def test_its_finalizers_go_and_those_of_others_stay(world: World) -> None:
    def hold(obj: Json) -> None:
        obj["metadata"]["finalizers"] = ["a/first", VM_FINALIZER, "b/last"]

    world.api.change(world.vm().ref, hold)
    original(world, SMALL, {"10.133.0.7": "web-1"}, finalizers=[NETWORK_FINALIZER])
    take_over(world)
    assert VM_FINALIZER in world.now().raw["metadata"]["finalizers"], "only install takes them off"
    done = take_over(world, finalizers=True)
    assert not done.errors
    assert world.now().raw["metadata"]["finalizers"] == ["a/first", "b/last"]
    assert world.api.get(NETWORKWIZARD.ref("blue", "prod"))["metadata"]["finalizers"] == []
    world.api.writes.clear()
    take_over(world, finalizers=True)
    assert not world.api.writes


def test_a_finalizer_that_cannot_be_taken_off_stops_nothing_else(world: World) -> None:
    def hold(obj: Json) -> None:
        obj["metadata"]["finalizers"] = [VM_FINALIZER]

    world.api.change(world.vm().ref, hold)
    original(world, SMALL, {"10.133.0.7": "web-1"}, finalizers=[NETWORK_FINALIZER])
    world.api.refuse("patch", VM)
    done = take_over(world, finalizers=True)
    assert [*done.errors] == ["virtualmachine/web-1 in namespace prod"]
    assert world.records()["10.133.0.7"].uid


def test_a_network_of_this_program_costs_a_takeover_one_list(world: World) -> None:
    world.network()
    world.vm()
    world.attach()
    world.api.tried.clear()
    take_over(world, finalizers=True)
    assert world.api.tried == {("list", "networkwizards"): 1}
    assert Vm(world.api.get(VM.ref("web-1", "prod"))).template_annotations[IP_ADDRS_ANNOTATION] == json.dumps(
        ["10.133.0.1"]
    )
