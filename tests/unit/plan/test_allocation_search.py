"""Where a large network is searched for a free address: the lowest one is given, and the status says where to begin.

attached one by one, many, reserved    the lowest free addresses, block after block
a block is full                        one table of counts is read, and the status names the next block with room
an address of a lower block released   it is the next one given; not while it cools down
the status is wrong, or not writable   everything works, from another block or by one table more
somebody was faster                    random in the block, and for a minute in one of the next few
a VM made anew                         gets its address where the back-end still knows it, in whichever block
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from kubectl_yoshi.kube.errors import UnreachableError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef, dig
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.attach.allocate import CONTENDED_SHARDS
from kubectl_yoshi.plan.context import format_timestamp
from tests.unit.plan.fake_api import FakeApi
from tests.unit.plan.fake_cluster import World
from tests.unit.plan.test_attach import once_before

pytestmark = pytest.mark.I9

LARGE = "10.133.0.0/16"
BLUE = NETWORKWIZARD.ref("blue", "prod")
VMS = [f"web-{number}" for number in range(1, 6)]


def large(**spec: object) -> World:
    """Network prod/blue, and VMs web-1 to web-5."""
    world = World()
    world.network(cidr=LARGE, **spec)
    for name in VMS:
        world.vm(name)
    return world


def search_from(world: World) -> str:
    return str(dig(world.api.get(BLUE), "status", "searchFrom", default=""))


def tables(world: World) -> int:
    return world.api.tried[("list", ADDRESSBLOCK.plural)]


def full_but(world: World, *free: str, blocks: int = 1) -> None:
    """Reserves all addresses of the first blocks but these."""
    world.reserve(count=blocks * 256 - 1)
    if free:
        world.release(*free)


@pytest.mark.parametrize("together", [True, False])
def test_the_lowest_free_addresses_are_given(together: bool) -> None:
    world = large()
    for names in [VMS[:3]] if together else VMS[:3]:
        world.attach(*([names] if isinstance(names, str) else names))
    world.reserve(count=2)
    assert list(world.holders()) == [f"10.133.0.{last}" for last in range(1, 6)]
    assert search_from(world) == "", "nothing is written while the first block has room"
    world.detach("web-2")
    world.attach("web-4")
    assert world.holders()["10.133.0.2"] == "prod/web-4"
    world.check()


def test_after_a_full_block_comes_the_next_and_later_searches_begin_there() -> None:
    world = large()
    full_but(world, "10.133.0.200")
    world.attach("web-1")
    assert world.pin("web-1") == "10.133.0.200"
    world.attach("web-2")
    assert (world.pin("web-2"), search_from(world)) == ("10.133.1.1", "10.133.1.0")
    before = tables(world)
    world.attach("web-3")
    world.attach("web-4")
    assert (world.pin("web-3"), world.pin("web-4")) == ("10.133.1.2", "10.133.1.3")
    assert tables(world) == before, "where to begin is known"
    world.check()


def test_a_released_address_of_a_lower_block_is_given_next() -> None:
    world = large()
    full_but(world)
    world.attach("web-1")
    assert search_from(world) == "10.133.1.0"
    world.release("10.133.0.9")
    assert search_from(world) == "10.133.0.0"
    world.attach("web-2")
    world.attach("web-3")
    assert (world.pin("web-2"), world.pin("web-3")) == ("10.133.0.9", "10.133.1.2")
    assert search_from(world) == "10.133.1.0"
    world.check()


def test_what_cools_down_does_not_bring_the_search_back() -> None:
    world = large(coolDown="10m")
    full_but(world)
    world.attach("web-1")
    world.release("10.133.0.9")
    assert search_from(world) == "10.133.1.0"
    world.attach("web-2")
    assert world.pin("web-2") == "10.133.1.2"


def test_the_one_that_somebody_lowered_meanwhile_is_not_raised() -> None:
    world = large()
    full_but(world, blocks=2)
    world.api.change(BLUE, lambda obj: obj["status"].update(searchFrom="10.133.1.0"))

    def lower(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == ADDRESSBLOCK:
            world.api.change(BLUE, lambda obj: obj["status"].update(searchFrom="10.133.0.0"))

    world.api.before.append(lower)
    world.attach("web-1")
    assert (world.pin("web-1"), search_from(world)) == ("10.133.2.1", "10.133.0.0")


@pytest.mark.parametrize("wrong", ["10.133.9.0", "10.133.0.0", "10.133.255.0", "172.16.0.1", "nonsense"])
def test_wherever_the_status_says_to_begin_every_address_is_free_once(wrong: str) -> None:
    """It is a hint: an older version does not write it, and anybody may have written it."""
    world = large(range_start="10.133.8.254", range_end="10.133.10.1")
    world.reserve("10.133.8.254", "10.133.8.255", *[f"10.133.9.{last}" for last in range(256)])
    world.api.change(BLUE, lambda obj: obj["status"].update(searchFrom=wrong))
    done = world.attach("web-1", "web-2", "web-3")
    assert list(done.errors) == ["prod/web-3"]
    assert {world.pin("web-1"), world.pin("web-2")} == {"10.133.10.0", "10.133.10.1"}
    world.check()


@pytest.mark.parametrize("fails", [True, False])
def test_where_it_cannot_be_written_nothing_is_lost_but_time(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write fails, or the API server drops the field, which older CRDs do not have."""
    world = large()
    full_but(world)
    patch = FakeApi.patch

    def without(api: FakeApi, ref: ObjectRef, body: list[Json], **more: Any) -> Json:
        if fails and any(op["path"] == "/status/searchFrom" and op["op"] == "add" for op in body):
            raise UnreachableError("the API server cannot be reached")
        return patch(api, ref, [op for op in body if op["path"] != "/status/searchFrom"], **more)

    monkeypatch.setattr(FakeApi, "patch", without)
    for place, name in enumerate(VMS[:3], 1):
        done = world.attach(name)
        assert not done.errors
        assert not done.notes
        assert world.pin(name) == f"10.133.1.{place}"
    assert search_from(world) == ""
    world.check()


def test_who_was_slower_chooses_at_random_and_for_a_moment_others_spread_over_the_next_blocks() -> None:
    world = large()
    world.attach("web-1")
    once_before(world, "patch", "AddressBlock", lambda: world.twin(1).attach("web-2"))
    world.attach("web-3")
    assert world.pin("web-2") == "10.133.0.2"
    assert world.pin("web-3").startswith("10.133.0."), "still in the first block"
    assert dig(world.api.get(BLUE), "status", "contendedAt")
    world.reserve(count=1)
    world.attach("web-4")
    world.attach("web-5")
    thirds = {int(address.split(".")[2]) for address in world.holders()}
    assert max(thirds) < CONTENDED_SHARDS
    assert len(thirds) > 1
    assert search_from(world) == "", "where the lowest free address is, is not forgotten"
    world.api.change(BLUE, lambda obj: obj["status"].update(contendedAt="2026-01-01T00:00:00Z"))
    world.vm("web-6")
    world.attach("web-6")
    assert world.pin("web-6") == "10.133.0.3"
    world.check()


def test_while_writers_contend_one_block_is_read_for_a_choice() -> None:
    world = large()
    world.attach("web-1")
    world.api.change(BLUE, lambda obj: obj["status"].update(contendedAt=format_timestamp(datetime.now(timezone.utc))))
    before = world.api.tried[("get", ADDRESSBLOCK.plural)]
    world.attach("web-2", dry_run="client")
    assert world.api.tried[("get", ADDRESSBLOCK.plural)] == before + 1


def test_a_preview_and_its_plan_do_not_speak_of_it() -> None:
    world = large()
    full_but(world)
    shown = world.attach("web-1", dry_run="client").plan
    assert not [change.summary for change in shown if "search" in change.summary]
    assert search_from(world) == ""


def test_a_vm_made_anew_gets_the_address_that_the_back_end_still_knows_in_whichever_block() -> None:
    world = large()
    world.vm("db", runStrategy="Always")
    world.attach("db", restart=True)
    had = world.pin("db")
    world.time_passes()
    full_but(world, blocks=2)
    world.attach("web-1")
    assert search_from(world) == "10.133.2.0"
    world.api.change(VM.ref("db", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    world.time_passes()
    world.drop_vm("db")
    world.vm("db")
    world.attach("db")
    assert world.pin("db") == had
