"""Many VMs whose addresses are in one Calico block: what is written, and what others write at the same time.

The VMs are halted, have addresses of network blue, which Calico keeps for them, and move to network red.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.model.objects import ObjectRef, dig
from tests.unit.plan.fake_cluster import World, refusal
from tests.unit.plan.faulty_api import FaultyApi, Scripted

pytestmark = [pytest.mark.I6, pytest.mark.I10]

NAMES = [f"web-{number}" for number in range(1, 13)]
BLOCK = RAW.block.ref("10-133-0-0-26")


@pytest.fixture
def world(world: World) -> World:
    world.network("red", "10.20.0.0/24")
    for name in NAMES:
        world.vm(name)
    world.attach(*NAMES)
    for name in NAMES:
        world.hold(world.pin(name), handle(name))
    world.api.writes.clear()
    world.api.tried.clear()
    return world


def handle(name: str) -> str:
    return f"k8s-pod-network.vmi.prod.{name}"


def move(world: World, *names: str, **more: Any) -> Any:
    return world.attach(*(names or NAMES), network="prod/red", replace=True, **more)


def at_each_put(world: World, happens: Callable[[int], None]) -> None:
    """Calls this with the number of each PUT of the block before it arrives."""
    count = [0]

    def before(verb: str, ref: ObjectRef) -> None:
        if (verb, ref) == ("update", BLOCK):
            count[0] += 1
            happens(count[0])

    world.api.before.append(before)


def start_in_calico(world: World, address: str) -> None:
    """The VM that has the address starts: Calico's CNI plugin writes down who runs with it."""

    def change(block: Any) -> None:
        ordinal = int(address.rsplit(".", 1)[1])
        attribute = block["spec"]["attributes"][block["spec"]["allocations"][ordinal]]
        attribute["secondary"] = {"namespace": "prod", "node": "node1", "vmi-name": "x", "vmi-uid": "u"}

    world.api.change(BLOCK, change)


def pods_of_a_worker(world: World) -> Callable[[int], None]:
    return lambda number: world.hold_by_pod(f"10.133.0.{40 + number}") if number <= 8 else None


def test_the_addresses_of_many_vms_leave_their_block_in_one_write(world: World) -> None:
    assert not move(world).errors
    assert world.api.writes.count("replace ipamblock/10-133-0-0-26") == 1
    assert world.api.tried[("update", "ipamblocks")] == 1
    assert world.held_in_calico() == {}
    assert world.records() == {}
    assert {*world.holders("red").values()} == {f"prod/{name}" for name in NAMES}
    world.check()


def test_many_vms_are_detached_with_one_write_to_their_block(world: World) -> None:
    assert not world.detach(*NAMES).errors
    assert world.api.tried[("update", "ipamblocks")] == 1
    assert (world.held_in_calico(), world.records()) == ({}, {})


def test_after_a_conflict_only_the_block_is_read_again_and_nothing_of_others_is_lost(world: World) -> None:
    at_each_put(world, pods_of_a_worker(world))
    listed = world.api.tried.copy()
    assert not move(world).errors
    again = world.api.tried - listed
    assert again[("update", "ipamblocks")] == 9
    assert again[("patch", "virtualmachines")] == len(NAMES), "no second look for conflicts in the block"
    assert world.held_in_calico().keys() == {f"10.133.0.{40 + number}" for number in range(1, 9)}
    world.check()


def test_the_address_of_a_vm_that_starts_meanwhile_is_not_released_and_those_of_the_others_are(world: World) -> None:
    address = world.pin("web-5")

    def start(number: int) -> None:
        if number == 1:
            world.running("web-5", runStrategy="Always", pin=address)
            start_in_calico(world, address)

    at_each_put(world, start)
    done = move(world)
    assert [*done.errors] == ["prod/web-5"]
    assert f"Calico holds {address} for VM prod/web-5" in refusal(done, "prod/web-5").message
    assert world.held_in_calico() == {address: handle("web-5")}
    assert world.holders() == {address: "prod/web-5"}
    assert world.pin("web-5") == address
    assert {*world.holders("red").values()} == {f"prod/{name}" for name in NAMES if name != "web-5"}
    world.check()


def test_what_is_released_already_is_released_again_without_harm(world: World) -> None:
    """The answer to the write was lost."""
    first = world.api
    world.api = FaultyApi(first, Scripted(update__IPAMBlock="done-cut,"))  # type: ignore[assignment]
    assert not move(world).errors
    assert world.held_in_calico() == {}
    world.check()


def test_where_the_block_may_not_be_written_every_vm_keeps_what_it_had(world: World) -> None:
    pins = {name: world.pin(name) for name in NAMES}
    held, records = world.held_in_calico(), world.holders()
    world.may_not_write_calicos_books()
    for _ in range(2):
        done = move(world)
        assert done.errors.keys() == {f"prod/{name}" for name in NAMES}
        assert "may not update ipamblocks" in refusal(done).message
        assert {name: world.pin(name) for name in NAMES} == pins
        assert (world.held_in_calico(), world.holders(), world.records("red")) == (held, records, {})
        world.check()


def test_where_the_block_may_not_be_written_a_detached_vm_keeps_what_it_had(world: World) -> None:
    """Where no authorizer can say so before: otherwise it is detached, and only its record stays (test_permissions)."""
    pin, held, records = world.pin(), world.held_in_calico(), world.holders()
    world.may_not_write_calicos_books()
    world.api.reviews = False
    assert "may not update ipamblocks" in refusal(world.detach()).message
    assert (world.pin(), world.held_in_calico(), world.holders()) == (pin, held, records)
    world.check()


def test_where_others_write_the_block_without_end_every_vm_keeps_what_it_had(world: World) -> None:
    def count_up(_: int) -> None:
        world.api.change(BLOCK, lambda block: block["spec"].update(sequenceNumber=block["spec"]["sequenceNumber"] + 1))
        world.api.clock.time += 0.2

    pins = {name: world.pin(name) for name in NAMES}
    held, records = world.held_in_calico(), world.holders()
    at_each_put(world, count_up)
    done = move(world)
    assert "10-133-0-0-26 was changed by other clients" in refusal(done).message
    assert {name: world.pin(name) for name in NAMES} == pins
    assert (world.held_in_calico(), world.holders(), world.records("red")) == (held, records, {})
    assert world.api.clock.time < 60


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_a_vm_that_is_killed_halfway_starts_with_an_address_that_is_recorded_for_it(world: World, verb: str) -> None:
    """Whatever is written last, the VM's template, Calico and the records agree on the address that it gets."""
    for last in range(1, 6):
        world = World()
        world.network()
        world.vm()
        world.attach()
        world.hold(world.pin(), handle("web-1"))
        left = [last]

        def die(request: str, ref: ObjectRef, left: list[int] = left) -> None:
            if request not in ("get", "list"):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt

        world.api.before.append(die)
        try:
            world.attach(ip="10.133.0.9", replace=True) if verb == "attach" else world.detach()
        except KeyboardInterrupt:
            pass
        world.api.before.clear()
        held = [*world._held()]
        gets = held[0] if held else world.pin()
        assert gets in ("", world.pin()), f"after {last} writes Calico would give {gets}"
        assert not gets or gets in world.records()


def test_a_dry_run_of_the_server_sends_one_write_for_all(world: World) -> None:
    done = move(world, dry_run="server")
    assert not done.errors
    assert world.api.tried[("update", "ipamblocks")] == 1
    assert len([change for change, _ in done.executed if change.ref == BLOCK]) == len(NAMES)
    assert world.api.writes == []


def test_a_diff_shows_the_block_without_all_of_the_addresses(world: World) -> None:
    from kubectl_yoshi.output.plan_printer import object_changes

    (fate,) = [fate for fate in object_changes(move(world, dry_run="client").plan) if fate.ref == BLOCK]
    assert set(dig(fate.after, "spec", "allocations")) == {None}
    assert len(dig(fate.before, "spec", "attributes")) == len(NAMES)
