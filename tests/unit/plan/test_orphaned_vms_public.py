"""What a public network that is no more has left on VMs: told, and taken off by `vm detach`.

| left                                   | goes with                                                           |
|----------------------------------------|---------------------------------------------------------------------|
| the wish of a move that was killed     | the network's name, whatever else the VM asks for                   |
| an address that may be another's       | the last network that it may be of: gone as well, or without a CIDR |
"""

from __future__ import annotations

import pytest

from kubectl_yoshi.backends.public.annotations import PUBLIC_IP, PUBLIC_NETWORK
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move
from kubectl_yoshi.plan.orphaned_vms import find_orphaned_vms
from tests.unit.plan.fake_cluster import BACKENDS, World
from tests.unit.plan.test_public import FIRST, PUB, make_public, public

pytestmark = pytest.mark.I8


class Killed(BaseException):
    """What ends a run without a last word."""


def killed_move(world: World) -> None:
    """A move of the address from VM a to VM b that is killed once b asks for it."""
    mine = world.twin(1)

    def kill(verb: str, ref: ObjectRef) -> None:
        if world.now("b").annotations.get(PUBLIC_IP, "").endswith(FIRST):
            raise Killed

    mine.api.before.append(kill)
    with pytest.raises(Killed):
        mine.run(plan_move, MoveRequest(parse_address(FIRST), ("prod", "b")))


def told(world: World) -> list[str]:
    def ask(snapshot: Snapshot) -> list[str]:
        return [one.summary for one in find_orphaned_vms([world.now("a"), world.now("b")], BACKENDS, snapshot)]

    return ask(new_snapshot(world.api))  # type: ignore[arg-type]


def wish(world: World, name: str) -> tuple[str | None, str | None]:
    found = world.now(name).annotations
    return found.get(PUBLIC_NETWORK), found.get(PUBLIC_IP)


@pytest.mark.parametrize("by_kubectl", [False, True])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("cidr", ["203.0.113.0/24", ""])
def test_what_a_killed_move_left_is_told_and_taken_off(cidr: str, other: bool, by_kubectl: bool) -> None:
    world = public(cidr)
    kept: tuple[str | None, str | None] = (None, None)
    if other:
        make_public(world, "far", "198.51.100.0/24", "calico-bgp")
        world.attach("b", network="prod/far", ip="198.51.100.7")
        kept = ("far", "198.51.100.7")
    world.attach("a", network=PUB, ip=FIRST)
    killed_move(world)
    assert wish(world, "b")[1] == ",".join(filter(None, [kept[1], FIRST]))
    world.detach("a", network=PUB)
    if by_kubectl:
        world.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    else:
        assert not world.delete_network("pub").errors
    [line] = told(world)
    assert f"VM prod/b requests network prod/pub, which does not exist, and still has {FIRST}" in line
    assert not world.detach("b", network=PUB).errors
    assert wish(world, "b") == kept
    assert told(world) == []


def test_an_address_that_may_be_of_another_network_stays() -> None:
    """One without a CIDR, or one that is gone too: what it was given goes with the last of them."""
    world = public()
    for name in ("far", "loose"):
        make_public(world, name, "198.51.100.0/24" if name == "far" else "", "calico-bgp")
    world.attach("b", network=PUB, ip=FIRST)
    world.attach("b", network="prod/far", ip="198.51.100.7")
    world.attach("b", network="prod/loose", ip="192.0.2.7")
    for name in ("pub", "far"):
        world.api.drop(NETWORKWIZARD.ref(name, "prod"))
    texts = f"{FIRST},198.51.100.7,192.0.2.7"
    world.detach("b", network=PUB)
    assert wish(world, "b") == ("far,loose", texts)
    world.detach("b", network="prod/far")
    assert wish(world, "b") == ("loose", texts)
    world.detach("b", network="prod/loose")
    assert wish(world, "b") == (None, None)


def test_who_runs_needs_no_restart_for_what_was_beside_it() -> None:
    world = public()
    world.running("c")
    world.attach("c", network=PUB, ip=FIRST)
    world.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    done = world.detach("c", network=PUB)
    assert (wish(world, "c"), done.notes) == ((None, None), ())


def test_an_address_that_is_asked_for_without_its_network_stays() -> None:
    world = public()
    make_public(world, "far", "198.51.100.0/24", "calico-bgp")
    asking = {PUBLIC_NETWORK: "pub", PUBLIC_IP: f"{FIRST},198.51.100.7"}
    world.api.change(world.now("b").ref, lambda obj: obj["metadata"].update(annotations=asking))
    world.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    world.detach("b", network=PUB)
    assert wish(world, "b") == (None, "198.51.100.7")


def test_of_networks_that_are_gone_the_last_takes_what_all_have_left() -> None:
    world = public()
    make_public(world, "far", "198.51.100.0/24", "calico-bgp")
    make_public(world, "near", "192.0.2.0/24", "calico-bgp")
    for name, ip in (("pub", FIRST), ("far", "198.51.100.7"), ("near", "192.0.2.7")):
        world.attach("b", network=f"prod/{name}", ip=ip)
    for name in ("pub", "far"):
        world.api.drop(NETWORKWIZARD.ref(name, "prod"))
    world.detach("b", network=PUB)
    assert wish(world, "b") == ("far,near", f"{FIRST},198.51.100.7,192.0.2.7")
    world.detach("b", network="prod/far")
    assert wish(world, "b") == ("near", "192.0.2.7")
