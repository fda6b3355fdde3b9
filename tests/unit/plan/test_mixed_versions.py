"""Two versions of this program at once: what a newer one has written and this one does not know stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi import __version__
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.allocations import parse_allocation
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, REQUIRES_ANNOTATION
from kubectl_yoshi.model.objects import Json, ObjectRef, name_of
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from tests.unit.plan.fake_cluster import World

pytestmark = pytest.mark.I6

ADDRESS = "10.133.0.1"
NEWER = {"kind": "Gateway", "namespace": "prod", "name": "edge", "uid": "1-2-3", "since": "2020-01-01T00:00:00.000000Z"}


def change_record(world: World, address: str, change: Callable[[Json], object], network: str = "blue") -> None:
    """What a newer version does with a record."""
    ref = NETWORKWIZARD.ref(network, "prod")
    world.api.change(ref, lambda obj: change(obj["status"]["allocations"][address]))


def write_newer(world: World, address: str = ADDRESS) -> None:
    """A record of a kind that this version does not know."""

    def write(obj: Json) -> None:
        obj["status"].setdefault("allocations", {})[address] = dict(NEWER)
        obj["status"]["used"] = len(obj["status"]["allocations"])

    world.api.change(NETWORKWIZARD.ref("blue", "prod"), write)


def written(world: World, address: str = ADDRESS) -> Json:
    record = world.records()[address].as_written
    assert isinstance(record, dict)
    return record


def test_a_record_that_is_written_again_for_its_holder_keeps_what_is_not_known() -> None:
    old = parse_allocation({**NEWER, "kind": "VirtualMachine", "lease": {"days": 3}}, "prod")
    new = parse_allocation({**NEWER, "kind": "VirtualMachine", "since": "2021-01-01T00:00:00Z"}, "prod")
    assert new.to_json(existing=old) == {**new.to_json(), "lease": {"days": 3}}
    assert "lease" not in parse_allocation({**NEWER, "kind": "Reservation"}, "prod").to_json(existing=old)
    assert "lease" not in parse_allocation({**NEWER, "kind": "VirtualMachine", "uid": "2"}, "prod").to_json(
        existing=old
    )


def test_an_attachment_that_renews_its_record_keeps_what_is_not_known(world: World) -> None:
    world.vm()
    world.attach()
    change_record(world, ADDRESS, lambda record: record.update(lease={"days": 3}))
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    before = written(world)["since"]
    world.time_passes()
    world.attach()
    assert world.pin() == ADDRESS
    assert written(world)["since"] != before
    assert written(world)["lease"] == {"days": 3}


@pytest.mark.parametrize(
    "command",
    [
        lambda w: w.release(ADDRESS),
        lambda w: w.collect(),
        lambda w: w.delete_network(force=True),
        lambda w: w.reserve(ADDRESS),
        lambda w: w.attach(ip=ADDRESS),
        lambda w: w.attach(),
        lambda w: w.sync_network(),
    ],
    ids=["release", "gc", "delete", "reserve", "attach-to-it", "attach", "sync"],
)
def test_a_record_of_a_kind_that_is_not_known_is_nobodys_to_take(
    world: World, command: Callable[[World], object]
) -> None:
    world.vm()
    write_newer(world)
    try:
        command(world)
    except YoshiError as error:
        assert isinstance(error, PreconditionFailed)
    assert written(world) == NEWER
    assert world.pin() != ADDRESS


def test_who_would_take_it_is_told_why_not(world: World) -> None:
    write_newer(world)
    done = world.release(ADDRESS)
    assert "Gateway prod/edge" in str(done.errors[ADDRESS])
    assert "newer" in str(done.errors[ADDRESS])
    with pytest.raises(PreconditionFailed, match="newer"):
        world.delete_network(force=True)


def test_a_block_with_more_in_it_than_is_known_is_not_closed(world: World) -> None:
    world.network("big", "10.134.0.0/20")
    world.vm()
    world.attach(network="prod/big")
    (block,) = world.api.every(ADDRESSBLOCK)
    ref = ADDRESSBLOCK.ref(name_of(block), "prod")
    world.api.change(ref, lambda obj: obj["status"].update(leases={"10.134.0.1": []}))
    world.detach(network="prod/big")
    (block,) = world.api.every(ADDRESSBLOCK)
    assert block["status"]["leases"] == {"10.134.0.1": []}
    assert block["status"]["allocations"] == {}


# -- a ledger that only a newer version understands -------------------------------------------------------------------


def require(world: World, version: str, network: str = "blue") -> None:
    """What a newer version writes before it records in a way of its own."""
    ref = NETWORKWIZARD.ref(network, "prod")
    world.api.change(
        ref, lambda obj: obj["metadata"].setdefault("annotations", {}).update({REQUIRES_ANNOTATION: version})
    )


@pytest.mark.parametrize(
    "command",
    [
        lambda w: w.attach("web-2"),
        lambda w: w.detach(),
        lambda w: w.reserve("10.133.0.9"),
        lambda w: w.release(ADDRESS),
        lambda w: w.delete_network(force=True),
        lambda w: w.sync_network(),
        lambda w: w.collect(networks=(("prod", "blue"),)),
        lambda w: w.run(plan_rebuild, RebuildRequest(("prod", "blue"), None)),
    ],
    ids=["attach", "detach", "reserve", "release", "delete", "sync", "gc", "rebuild"],
)
def test_a_network_that_requires_a_newer_version_is_left_alone(
    world: World, command: Callable[[World], RunResult]
) -> None:
    world.vm()
    world.vm("web-2")
    world.attach()
    require(world, "99.1")
    before = world.records(), world.pin()
    with pytest.raises(
        PreconditionFailed, match=r"network prod/blue requires kubectl yoshi 99\.1 or later, and this is"
    ) as caught:
        for error in command(world).errors.values():
            raise error
    assert "Use kubectl yoshi 99.1 or later" in caught.value.hint
    assert (world.records(), world.pin()) == before


def test_an_older_requirement_is_met(world: World) -> None:
    require(world, __version__)
    world.vm()
    world.attach()
    assert world.pin() == ADDRESS


def test_what_is_done_for_all_networks_is_done_for_the_others(world: World) -> None:
    world.network("red", "10.144.0.0/28")
    world.vm()
    world.vm("web-2")
    world.attach()
    world.attach("web-2", network="prod/red")
    world.drop_vm()
    world.drop_vm("web-2")
    require(world, "99.1")
    collected = world.collect()
    assert [note for note in collected.notes if note.startswith("network prod/blue requires")]
    rebuilt = world.run(plan_rebuild, RebuildRequest())
    assert [note for note in rebuilt.notes if note.startswith("network prod/blue requires")]
    assert (world.holders(), world.holders("red")) == ({ADDRESS: "prod/web-1"}, {})


def test_no_network_is_made_over_one_that_is_not_understood(world: World) -> None:
    require(world, "99.1")
    with pytest.raises(PreconditionFailed, match="overlaps network prod/blue"):
        world.network("red", "10.133.0.0/29")


@pytest.mark.parametrize("cidr", ["10.144.0.0/28", "10.144.0.0/20"], ids=["small", "large"])
@pytest.mark.parametrize("annotated", [True, False])
def test_an_attachment_that_a_newer_version_overtakes_is_refused(world: World, cidr: str, annotated: bool) -> None:
    """Whatever it read before: the newer version marks the network first, and reads the records then."""
    world.network("red", cidr)
    if annotated:
        ref = NETWORKWIZARD.ref("red", "prod")
        world.api.change(ref, lambda obj: obj["metadata"].update(annotations={"example.com/theirs": "stay"}))
    world.vm()

    def overtake(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource in (NETWORKWIZARD, ADDRESSBLOCK):
            world.api.before.clear()
            require(world, "99.1", "red")

    world.api.before.append(overtake)
    try:
        refused = [*world.attach(network="prod/red").errors.values()]
    except PreconditionFailed as error:
        refused = [error]
    assert [error for error in refused if "99.1" in error.message]
    assert world.pin() == ""
    assert len(world.records("red")) == (1 if cidr.endswith("20") else 0)  # which in a block is the newer one's to find
