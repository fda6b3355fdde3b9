"""Public networks whose spec was edited: what they had by what it said before goes (I8), and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends import metallb
from kubectl_yoshi.backends.calico_api import RAW
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Resource, dig, name_of
from tests.unit.plan.test_public import FIRST, PUB, make_public, public
from tests.unit.plan.world import World

CALICOS = RAW.bgp_configuration.ref("default")


def edit(world: World, name: str = "pub", public: Json | None = None, **spec: Any) -> None:
    """Edits a network as `kubectl edit` does, and brings it up again."""

    def change(obj: Json) -> None:
        obj["spec"].update(spec)
        obj["spec"]["public"].update(public or {})
        for key in [key for key, value in obj["spec"].items() if value is None]:
            del obj["spec"][key]

    world.api.change(NETWORKWIZARD.ref(name, "prod"), change)
    assert not world.sync_network(name).refusals
    world.api.writes.clear()
    assert not world.sync_network(name).refusals
    assert world.api.writes == []


def names(world: World, resource: Resource) -> list[str]:
    return [name_of(obj) for obj in world.api.every(resource)]


def bgp(*peers: str) -> Json:
    return {"peers": ",".join(peers), "myASN": 64512, "remoteASN": 64514}


@pytest.mark.parametrize("to", ["external-ips", "load-balancer"])
def test_an_address_that_is_announced_another_way_leaves_the_list_that_it_was_in(to: str) -> None:
    world = public()
    ways = [{"via": "external-ips"}, {"via": None}]
    lists = ["serviceExternalIPs", "serviceLoadBalancerIPs"]
    if to == "load-balancer":
        edit(world, public=ways[0])
        ways.reverse()
        lists.reverse()
    world.attach("a", network=PUB, ip=FIRST)
    assert dig(world.api.look(CALICOS), "spec", lists[1]) == [{"cidr": f"{FIRST}/32"}]
    edit(world, public=ways[0])
    assert not world.attach("a", network=PUB).refusals
    spec = world.api.get(CALICOS)["spec"]
    assert (spec[lists[0]], spec.get(lists[1], [])) == ([{"cidr": f"{FIRST}/32"}], [])
    world.detach("a", network=PUB)
    assert not world.delete_network("pub").refusals
    assert world.api.look(CALICOS) is None


@pytest.mark.parametrize(("announce", "resource"), [("calico-bgp", RAW.bgp_peer), ("metallb-bgp", metallb.PEER)])
def test_a_router_that_is_a_peer_no_more_is_one_only_of_networks_that_need_it(
    announce: str, resource: Resource
) -> None:
    world = public("203.0.113.0/24", announce)
    make_public(world, "far", "198.51.100.0/24", announce)
    edit(world, bgpConfig=bgp("10.240.0.9"))
    assert names(world, resource) == ["yoshi-10.240.0.5", "yoshi-10.240.0.9"]
    edit(world, "far", bgpConfig=bgp("10.240.0.9"))
    assert names(world, resource) == ["yoshi-10.240.0.9"]


def test_a_network_that_metallb_announces_another_way_is_announced_that_way_only() -> None:
    world = public("203.0.113.0/24", "metallb-l2")
    make_public(world, "far", "198.51.100.0/24", "metallb-l2")
    edit(world, public={"announce": "metallb-bgp"}, bgpConfig=bgp("10.240.0.5"))
    assert names(world, metallb.L2_ADVERTISEMENT) == ["prod.far"]
    assert (names(world, metallb.BGP_ADVERTISEMENT), names(world, metallb.PEER)) == (["prod.pub"], ["yoshi-10.240.0.5"])
    edit(world, public={"announce": "metallb-l2"}, bgpConfig=None)
    assert names(world, metallb.L2_ADVERTISEMENT) == ["prod.far", "prod.pub"]
    assert names(world, metallb.BGP_ADVERTISEMENT) == names(world, metallb.PEER) == []


def made_by_metallb(world: World) -> list[str]:
    resources = (metallb.POOL, metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.PEER)
    return [name for resource in resources for name in names(world, resource)]


def made_by_calico(world: World) -> list[str]:
    return [*names(world, RAW.bgp_peer), *names(world, RAW.bgp_configuration)]


@pytest.mark.parametrize("cidr", ["203.0.113.0/24", ""])
@pytest.mark.parametrize("to_calico", [True, False])
@pytest.mark.parametrize("metallbs", ["metallb-l2", "metallb-bgp"])
def test_what_announced_a_network_before_goes_once_no_service_needs_it(
    cidr: str, to_calico: bool, metallbs: str
) -> None:
    ways = [
        ({"announce": metallbs}, bgp("10.240.0.5") if "bgp" in metallbs else None, made_by_metallb),
        ({"announce": "calico-bgp"}, bgp("10.240.0.5"), made_by_calico),
    ]
    (_, _, before), (announce, config, after) = ways if to_calico else reversed(ways)
    world = public(cidr, metallbs if to_calico else "calico-bgp")
    world.attach("a", network=PUB, ip=FIRST)
    there = before(world)
    assert there and not after(world)
    edit(world, public=announce, bgpConfig=config)
    assert before(world) == there
    assert world.attach("a", network=PUB).answers == {"prod/a": FIRST}
    assert not world.sync_network("pub").refusals
    assert before(world) == [] != after(world)
    world.detach("a", network=PUB)
    assert not world.delete_network("pub").refusals
    assert after(world) == []
