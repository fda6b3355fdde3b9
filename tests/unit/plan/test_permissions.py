"""A user who lacks a permission: a command is done, or nothing is changed, and what is missing is named."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.vm import VM, VM_SUBRESOURCES
from tests.unit.plan.fake_cluster import World, refusal

UPDATE_BLOCKS = "may not update ipamblocks.crd.projectcalico.org"


def calico_keeps(world: World, **spec: Any) -> str:
    """A VM that has run with an address, which Calico keeps for it."""
    world.running(**spec)
    world.attach(restart=True)
    world.time_passes()
    return world.pin()


def halt(world: World) -> None:
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    world.time_passes()
    assert world.runs_with() == ""


def test_a_tenant_is_refused_another_address_for_a_halted_vm_before_anything_is_written(world: World) -> None:
    had = calico_keeps(world)
    halt(world)
    world.may_not_write_calicos_books()
    world.api.writes.clear()
    done = world.attach(ip="10.133.0.9", replace=True)
    assert UPDATE_BLOCKS in refusal(done).message
    assert "administrator" in refusal(done).hint
    assert world.api.writes == []
    assert (world.pin(), set(world.records())) == (had, {had})


@pytest.mark.parametrize("restart", [False, True])
def test_a_tenants_vm_is_not_stopped_for_another_address_that_calico_would_not_give_it(
    world: World, restart: bool
) -> None:
    had = calico_keeps(world)
    world.may_not_write_calicos_books()
    world.api.writes.clear()
    done = world.attach(ip="10.133.0.9", replace=True, restart=restart)
    assert UPDATE_BLOCKS in refusal(done).message
    assert "administrator" in refusal(done).hint
    assert world.api.writes == []
    assert world.runs_with() == had


def test_a_tenants_vm_is_not_stopped_to_release_what_calico_would_give_it_again(world: World) -> None:
    had = calico_keeps(world)
    world.may_not_write_calicos_books()
    world.api.writes.clear()
    done = world.detach(restart=True)
    assert UPDATE_BLOCKS in refusal(done).message
    assert world.api.writes == []
    done = world.detach()
    assert not done.errors
    assert (world.pin(), world.runs_with(), set(world.records())) == ("", had, {had})
    world.check()


def test_others_of_one_command_are_attached(world: World) -> None:
    calico_keeps(world)
    halt(world)
    world.vm("web-2")
    world.may_not_write_calicos_books()
    had = world.pin()
    world.network("green", "10.134.0.0/24")
    done = world.attach("web-1", "web-2", network="prod/green", replace=True)
    assert UPDATE_BLOCKS in refusal(done).message
    assert done.results == {"prod/web-2": world.pin("web-2")}
    assert world.pin() == had
    world.check()


def test_what_calico_keeps_of_a_vm_that_a_tenant_detaches_stays_recorded_for_an_administrators_gc(
    world: World,
) -> None:
    had = calico_keeps(world)
    halt(world)
    world.may_not_write_calicos_books()
    done = world.detach()
    assert not done.errors
    (note,) = done.notes
    assert note.startswith(f"{had} stays recorded for prod/web-1: ")
    assert UPDATE_BLOCKS in note
    assert world.pin() == ""
    assert set(world.records()) == {had}
    world.check()
    assert any(UPDATE_BLOCKS in one for one in world.collect().notes)
    assert set(world.records()) == {had}
    world.api.allow_everything()
    world.collect()
    assert world.records() == {}
    assert world.held_in_calico() == {}


def test_what_calico_keeps_for_a_vm_that_is_gone_stays_where_a_tenant_collects(world: World) -> None:
    had = calico_keeps(world)
    halt(world)
    world.drop_vm()
    world.release(had)
    world.hold(had, "k8s-pod-network.vmi.prod.web-1")
    world.may_not_write_calicos_books()
    done = world.collect()
    assert not done.errors
    assert any(UPDATE_BLOCKS in note for note in done.notes)


@pytest.mark.parametrize("strategy", ["Always", "Manual", "RerunOnFailure"])
@pytest.mark.parametrize("resource", [NETWORKWIZARD, VM_SUBRESOURCES])
def test_a_vm_is_not_stopped_by_who_could_not_complete_it(world: World, resource: Any, strategy: str) -> None:
    had = calico_keeps(world, runStrategy=strategy)
    world.api.refuse("patch" if resource == NETWORKWIZARD else "update", resource)
    world.api.writes.clear()
    done = world.detach(restart=True)
    assert "may not" in refusal(done).message
    assert world.api.writes == []
    assert (world.pin(), world.runs_with()) == (had, had)


def test_a_vm_keeps_its_template_where_its_record_may_not_be_removed(world: World) -> None:
    world.vm()
    world.attach()
    had = world.pin()
    world.api.refuse("patch", NETWORKWIZARD)
    assert "may not patch networkwizards" in refusal(world.detach()).message
    assert world.pin() == had
    world.api.reviews = False
    assert "may not patch networkwizards" in refusal(world.detach()).message


def test_no_block_is_made_by_who_may_not_write_into_it() -> None:
    world = World()
    world.network(cidr="10.133.0.0/22")
    world.vm()
    world.api.refuse("patch", ADDRESSBLOCK)
    assert "may not patch addressblocks" in refusal(world.attach()).message
    assert world.api.every(ADDRESSBLOCK) == []


def test_an_attachment_asks_for_no_permission_before(world: World) -> None:
    """A record whose VM may not be written to is removed again: nothing gets slower for those who may do everything."""
    world.vm()
    asked: list[Any] = []
    is_allowed = world.api.is_allowed
    world.api.is_allowed = lambda access: asked.append(access) or is_allowed(access)  # type: ignore[method-assign, func-returns-value]
    assert world.attach().results
    assert asked == []
    world.vm("web-2")
    world.api.refuse("patch", VM)
    assert "may not patch virtualmachines" in refusal(world.attach("web-2"), "prod/web-2").message
    assert len(world.records()) == 1
    assert asked == []


def test_a_network_is_not_begun_by_who_may_not_make_its_pool() -> None:
    world = World()
    world.api.refuse("create", RAW.pool)
    done = world.make_network("blue", "10.133.0.0/24")
    assert "may not create ippools" in refusal(done, "prod/blue").message
    assert world.api.writes == []


def test_a_network_is_not_marked_by_who_may_not_delete_its_pool(world: World) -> None:
    world.api.refuse("delete", RAW.pool)
    world.api.writes.clear()
    done = world.delete_network()
    assert "may not delete ippools" in refusal(done, "prod/blue").message
    assert world.api.writes == []


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("delete", NETWORKWIZARD), ("delete", RAW.pool), ("list", RAW.pool), ("list", RAW.block), ("get", RAW.handle)],
)
def test_no_vm_is_detached_by_who_cannot_complete_a_forced_deletion(world: World, verb: str, resource: Any) -> None:
    calico_keeps(world)
    halt(world)
    had = world.pin()
    world.api.refuse(verb, resource)
    world.api.writes.clear()
    try:
        refused: YoshiError = refusal(world.delete_network(force=True), "prod/blue")
    except PreconditionFailed as error:
        refused = error
    assert f"may not {verb} {resource.plural}" in refused.message
    assert (world.api.writes, world.pin()) == ([], had)
