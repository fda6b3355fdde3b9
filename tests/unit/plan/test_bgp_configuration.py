"""Calico's BGPConfiguration is everybody's: what is written into it goes again, and nothing of others (I6, I8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.vm import VM
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, World
from tests.unit.plan.test_public import ANNOUNCED, FIRST, PUB, make_public

pytestmark = [pytest.mark.I6, pytest.mark.I8]

CONFIGURATION = RAW.bgp_configuration.ref("default")
ADMINS: Json = {"nodeToNodeMeshEnabled": True}
"""What an administrator has in it before."""


def cluster(**more: object) -> World:
    """A cluster whose BGPConfiguration somebody else has made, with VMs a and b."""
    world = World()
    world.api.served = served((*SERVED, *ANNOUNCED))
    world.api.put(RAW.bgp_configuration, {"metadata": {"name": "default"}, "spec": {**ADMINS, **more}})
    world.vm("a")
    world.vm("b")
    return world


def spec(world: World) -> Json:
    found: Json = world.api.get(CONFIGURATION)["spec"]
    return found


def writes_a_list(world: World) -> None:
    """An administrator adds a network to the list that this program has made."""
    world.api.change(CONFIGURATION, lambda obj: obj["spec"]["serviceLoadBalancerIPs"].append({"cidr": "192.0.2.0/24"}))


def attaches(world: World) -> None:
    """A VM gets the first address of another network."""
    assert world.attach("b", network="prod/far", ip="198.51.100.7").results == {"prod/b": "198.51.100.7"}


@pytest.mark.parametrize(("writes", "cidr"), [(writes_a_list, "192.0.2.0/24"), (attaches, "198.51.100.7/32")])
@pytest.mark.parametrize("how", ["deleted", "collected"])
def test_what_comes_into_a_list_while_it_is_given_up_stays(
    writes: Callable[[World], None], cidr: str, how: str
) -> None:
    world = cluster(asNumber=64512)
    for name, its in (("pub", "203.0.113.0/24"), ("far", "198.51.100.0/24")):
        assert not make_public(world, name, its, "calico-bgp").errors
    world.attach("a", network=PUB, ip=FIRST)
    leaves_its_entry(world)
    if how == "collected":
        world.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    right_before_the_next_write(world, writes)
    world.collect() if how == "collected" else world.delete_network("pub")
    assert spec(world) == {**ADMINS, "asNumber": 64512, "serviceLoadBalancerIPs": [{"cidr": cidr}]}


def leaves_its_entry(world: World) -> None:
    """VM a and its record are gone, and what let Calico announce its address is not."""
    world.api.drop(VM.ref("a", "prod"))
    world.api.change(NETWORKWIZARD.ref("pub", "prod"), lambda obj: obj["status"]["allocations"].clear())


def right_before_the_next_write(world: World, happens: Callable[[World], None]) -> None:
    def before(verb: str, ref: ObjectRef) -> None:
        if verb in ("patch", "delete") and ref == CONFIGURATION:
            world.api.before.clear()
            happens(world)

    world.api.before.append(before)


def test_a_network_that_comes_while_the_last_one_goes_has_its_as_number() -> None:
    world = cluster()
    assert not make_public(world, "pub", "203.0.113.0/24", "calico-bgp").errors

    def comes(world: World) -> None:
        assert not make_public(world, "far", "198.51.100.0/24", "calico-bgp").errors

    right_before_the_next_write(world, comes)
    assert not world.delete_network("pub").errors
    assert spec(world) == {**ADMINS, "asNumber": 64512}
    assert not world.delete_network("far").errors
    assert world.api.get(CONFIGURATION)["spec"] == ADMINS
    assert not world.api.get(CONFIGURATION)["metadata"]["annotations"]


def test_of_the_last_two_networks_that_are_deleted_at_the_same_moment_one_removes_the_as_number() -> None:
    """Each has read that the other one still needs it."""
    world = cluster()
    for name, its in (("pub", "203.0.113.0/24"), ("far", "198.51.100.0/24")):
        assert not make_public(world, name, its, "calico-bgp").errors

    def deletes_the_other(world: World) -> None:
        assert not world.twin(1).delete_network("far").errors

    right_before_the_next_write(world, deletes_the_other)
    assert not world.delete_network("pub").errors
    assert world.networks() == []
    assert spec(world) == ADMINS
    assert not world.api.get(CONFIGURATION)["metadata"]["annotations"]


def test_a_network_that_cannot_be_made_leaves_it_as_it_was() -> None:
    """Though nothing was made for it: there was a BGPConfiguration, and a BGPPeer that serves."""
    world = cluster()
    world.api.put(RAW.bgp_peer, {"metadata": {"name": "theirs"}, "spec": {"peerIP": "10.240.0.5", "asNumber": 64514}})
    world.api.refuse("patch", NETWORKWIZARD)
    assert make_public(world, "pub", "203.0.113.0/24", "calico-bgp").errors
    assert world.networks() == []
    assert spec(world) == ADMINS
    assert not world.api.get(CONFIGURATION)["metadata"]["annotations"]


@pytest.mark.parametrize("theirs", [False, True])
def test_a_list_that_was_made_for_a_network_goes_with_the_last_network(theirs: bool) -> None:
    """Unless there is something of others in it: it is theirs then."""
    world = cluster(asNumber=64512)
    assert not make_public(world, "pub", "203.0.113.0/24", "calico-bgp").errors
    world.attach("a", network=PUB, ip=FIRST)
    if theirs:
        writes_a_list(world)
    world.detach("a", network=PUB)
    assert not world.delete_network("pub").errors
    assert spec(world).get("serviceLoadBalancerIPs") == ([{"cidr": "192.0.2.0/24"}] if theirs else None)
    assert not world.api.get(CONFIGURATION)["metadata"]["annotations"]


OTHERS = ({"cidr": "192.0.2.0/24"}, {"cidr": "198.51.100.0/24"})


def entries_of(obj: Json) -> list[Json]:
    found: list[Json] = obj["spec"]["serviceLoadBalancerIPs"]
    return found


def entries(world: World) -> list[Json]:
    return entries_of(world.api.get(CONFIGURATION))


def test_an_entry_that_moves_in_its_list_meanwhile_is_removed_and_no_other_one() -> None:
    """I6: its place was read before somebody else removed an entry in front of it."""
    first, last = OTHERS
    world = cluster(asNumber=64512, serviceLoadBalancerIPs=[first])
    assert not make_public(world, "pub", "203.0.113.0/24", "calico-bgp").errors
    world.attach("a", network=PUB, ip=FIRST)
    world.api.change(CONFIGURATION, lambda obj: entries_of(obj).append(last))
    assert entries(world) == [first, {"cidr": f"{FIRST}/32"}, last]
    right_before_the_next_write(
        world, lambda world: world.api.change(CONFIGURATION, lambda obj: entries_of(obj).remove(first))
    )
    assert not world.detach("a", network=PUB).errors
    assert entries(world) == [last]


def test_an_address_that_somebody_else_adds_to_a_list_meanwhile_is_not_added_twice() -> None:
    """Nor is theirs removed with the VM's (I6)."""
    world = cluster(asNumber=64512, serviceLoadBalancerIPs=[*OTHERS])
    assert not make_public(world, "pub", "203.0.113.0/24", "calico-bgp").errors
    theirs = {"cidr": f"{FIRST}/32"}
    right_before_the_next_write(
        world, lambda world: world.api.change(CONFIGURATION, lambda obj: entries_of(obj).append(theirs))
    )
    assert world.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}
    assert entries(world) == [*OTHERS, theirs]
    assert not world.detach("a", network=PUB).errors
    assert entries(world) == [*OTHERS, theirs]
