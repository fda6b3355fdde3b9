"""Public networks with an edited spec: objects of the former spec are removed (I8), foreign ones never."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, name_of
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster, refusal
from tests.unit.plan.test_public import FIRST, PUB, make_public, public

pytestmark = [pytest.mark.I6, pytest.mark.I8]

CALICOS = RAW.bgp_configuration.ref("default")


def edit(cluster: FakeCluster, name: str = "pub", public: Json | None = None, **spec: Any) -> None:
    """Edits a network as `kubectl edit` does, and brings it up again."""
    only_edit(cluster, name, public, **spec)
    assert not cluster.sync_network(name).errors
    cluster.api.writes.clear()
    assert not cluster.sync_network(name).errors
    assert cluster.api.writes == []


def only_edit(cluster: FakeCluster, name: str = "pub", public: Json | None = None, **spec: Any) -> None:
    """Edits a network as `kubectl edit` does."""

    def change(obj: Json) -> None:
        obj["spec"].update(spec)
        obj["spec"]["public"].update(public or {})
        for key in [key for key, value in obj["spec"].items() if value is None]:
            del obj["spec"][key]

    cluster.api.change(NETWORKWIZARD.ref(name, "prod"), change)


def described(cluster: FakeCluster) -> dict[str, str]:
    """What `network describe` adds."""
    network = parse_network(cluster.api.get(NETWORKWIZARD.ref("pub", "prod")))
    return dict(BACKENDS["public"].describe(network, new_snapshot(cluster.api)))


def names(cluster: FakeCluster, resource: Resource) -> list[str]:
    return [name_of(obj) for obj in cluster.api.every(resource)]


def bgp(*peers: str) -> Json:
    return {"peers": ",".join(peers), "myASN": 64512, "remoteASN": 64514}


ROUTER = "10.240.0.5"
by_both_speakers = pytest.mark.parametrize(
    ("announce", "resource", "field"),
    [("calico-bgp", RAW.bgp_peer, "asNumber"), ("metallb-bgp", metallb.PEER, "peerASN")],
)
PASSWORDS = {
    "asNumber": {"password": {"secretKeyRef": {"name": "bgp", "key": "password"}}},
    "peerASN": {"passwordSecret": {"name": "bgp"}},
}


def peering(remote: int, secret: str = "") -> Json:
    """A bgpConfig for the router of `make_public`, with another ASN or password than it has there."""
    peer = {"peerIP": ROUTER, **({"passwordSecret": secret} if secret else {})}
    return {"peers": [peer], "myASN": 64512, "remoteASN": remote}


@pytest.mark.parametrize("to", ["external-ips", "load-balancer"])
def test_edited_via_removes_addresses_from_the_former_bgp_list(to: str) -> None:
    cluster = public()
    ways = [{"via": "external-ips"}, {"via": None}]
    lists = ["serviceExternalIPs", "serviceLoadBalancerIPs"]
    if to == "load-balancer":
        edit(cluster, public=ways[0])
        ways.reverse()
        lists.reverse()
    cluster.attach("a", network=PUB, ip=FIRST)
    assert dig(cluster.api.look(CALICOS), "spec", lists[1]) == [{"cidr": f"{FIRST}/32"}]
    edit(cluster, public=ways[0])
    assert not cluster.attach("a", network=PUB).errors
    spec = cluster.api.get(CALICOS)["spec"]
    assert (spec[lists[0]], spec.get(lists[1], [])) == ([{"cidr": f"{FIRST}/32"}], [])
    cluster.detach("a", network=PUB)
    assert not cluster.delete_network("pub").errors
    assert cluster.api.look(CALICOS) is None


@pytest.mark.parametrize(("announce", "resource"), [("calico-bgp", RAW.bgp_peer), ("metallb-bgp", metallb.PEER)])
def test_removed_peer_is_deleted_unless_another_network_needs_it(announce: str, resource: Resource) -> None:
    cluster = sharing_a_peering(announce)
    edit(cluster, bgpConfig=bgp("10.240.0.9"))
    assert names(cluster, resource) == ["yoshi-10.240.0.5", "yoshi-10.240.0.9"]
    edit(cluster, "far", bgpConfig=bgp("10.240.0.9"))
    assert names(cluster, resource) == ["yoshi-10.240.0.9"]


@pytest.mark.parametrize(("announce", "resource"), [("calico-bgp", RAW.bgp_peer), ("metallb-bgp", metallb.PEER)])
def test_concurrent_deletion_of_the_last_two_networks_deletes_the_peer(announce: str, resource: Resource) -> None:
    """Each has read that the other one still needs it."""
    cluster = sharing_a_peering(announce)
    mine = cluster.second_client(1)

    def first(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", resource) and len(cluster.networks()) == 2:
            mine.api.before.clear()
            assert not cluster.delete_network("far").errors

    mine.api.before.append(first)
    assert not mine.delete_network("pub").errors
    assert cluster.networks() == []
    assert cluster.api.every(resource) == []


def sharing_a_peering(announce: str) -> FakeCluster:
    """Two networks that announce to one router."""
    cluster = public("203.0.113.0/24", announce)
    make_public(cluster, "far", "198.51.100.0/24", announce)
    return cluster


@by_both_speakers
def test_unshared_peer_is_changed_with_its_network(announce: str, resource: Resource, field: str) -> None:
    cluster = public("203.0.113.0/24", announce)
    [made] = cluster.api.every(resource)
    only_edit(cluster, bgpConfig=peering(64999))
    later = "bgppeer/yoshi-10.240.0.5, to be changed by `kubectl yoshi sync`"
    assert described(cluster)["Peer"] == f"{ROUTER} (AS 64999): {later}"
    edit(cluster, bgpConfig=peering(64999))
    assert described(cluster)["Peer"] == f"{ROUTER} (AS 64999): bgppeer/yoshi-10.240.0.5"
    [peer] = cluster.api.every(resource)
    assert peer["spec"] == {**made["spec"], field: 64999}
    edit(cluster, bgpConfig=peering(64999, "bgp"))
    [peer] = cluster.api.every(resource)
    assert peer["spec"] == {**made["spec"], field: 64999, **PASSWORDS[field]}
    edit(cluster, bgpConfig=peering(64514))
    [peer] = cluster.api.every(resource)
    assert (peer["spec"], peer["metadata"]["uid"]) == (made["spec"], made["metadata"]["uid"])


@by_both_speakers
def test_shared_peer_is_changed_when_both_networks_agree(announce: str, resource: Resource, field: str) -> None:
    cluster = sharing_a_peering(announce)
    before = cluster.api.every(resource)
    only_edit(cluster, bgpConfig=peering(64999))
    message = refusal(cluster.sync_network("pub"), "prod/pub").message
    assert f"with {field} 64514, as network prod/far requires, but this network requires 64999" in message
    assert cluster.api.every(resource) == before
    assert not cluster.sync_network("far").errors
    only_edit(cluster, "far", bgpConfig=peering(64999))
    assert not cluster.sync_network("pub").errors
    assert not cluster.sync_network("far").errors
    assert [dig(peer, "spec", field) for peer in cluster.api.every(resource)] == [64999]


@by_both_speakers
def test_peer_that_becomes_shared_concurrently_is_not_changed(announce: str, resource: Resource, field: str) -> None:
    cluster = public("203.0.113.0/24", announce)
    only_edit(cluster, bgpConfig=peering(64999))
    mine = cluster.second_client(1)

    def first(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", resource) and len(cluster.networks()) == 1:
            make_public(cluster, "far", "198.51.100.0/24", announce)

    mine.api.before.append(first)
    assert "as network prod/far requires" in refusal(mine.sync_network("pub"), "prod/pub").message
    assert [dig(peer, "spec", field) for peer in cluster.api.every(resource)] == [64514]


@by_both_speakers
def test_networks_without_that_peer_do_not_block_its_change(announce: str, resource: Resource, field: str) -> None:
    cluster = public("203.0.113.0/24", announce)
    for name, cidr in (("far", "198.51.100.0/24"), ("gone", "192.0.2.0/24")):
        make_public(cluster, name, cidr, announce)
    only_edit(cluster, "far", bgpConfig=bgp("10.240.0.9"))
    cluster.api.drop(NETWORKWIZARD.ref("gone", "prod"))
    only_edit(cluster, bgpConfig=peering(64999))
    assert not cluster.sync_network("pub").errors
    assert [dig(peer, "spec", field) for peer in cluster.api.every(resource)] == [64999]


@by_both_speakers
def test_peer_of_unreadable_networks_is_not_changed(announce: str, resource: Resource, field: str) -> None:
    cluster = sharing_a_peering(announce)
    before = cluster.api.every(resource)
    only_edit(cluster, bgpConfig=peering(64999))
    cluster.api.refuse("list", NETWORKWIZARD)
    assert "as network prod/far requires" in refusal(cluster.sync_network("pub"), "prod/pub").message
    assert cluster.api.every(resource) == before


@by_both_speakers
def test_foreign_peer_is_not_changed(announce: str, resource: Resource, field: str) -> None:
    cluster = public("203.0.113.0/24", announce)

    def disown(obj: Json) -> None:
        obj["metadata"]["annotations"] = {}

    [made] = cluster.api.every(resource)
    cluster.api.change(resource.ref(name_of(made), made["metadata"].get("namespace")), disown)
    before = cluster.api.every(resource)
    only_edit(cluster, bgpConfig=peering(64999))
    message = refusal(cluster.sync_network("pub"), "prod/pub").message
    assert f"peers with {ROUTER} with {field} 64514, but this network requires 64999" in message
    assert cluster.api.every(resource) == before


def test_edited_announcer_replaces_the_former_advertisement() -> None:
    cluster = public("203.0.113.0/24", "metallb-l2")
    make_public(cluster, "far", "198.51.100.0/24", "metallb-l2")
    edit(cluster, public={"announce": "metallb-bgp"}, bgpConfig=bgp("10.240.0.5"))
    assert names(cluster, metallb.L2_ADVERTISEMENT) == ["prod.far"]
    assert (names(cluster, metallb.BGP_ADVERTISEMENT), names(cluster, metallb.PEER)) == (
        ["prod.pub"],
        ["yoshi-10.240.0.5"],
    )
    edit(cluster, public={"announce": "metallb-l2"}, bgpConfig=None)
    assert names(cluster, metallb.L2_ADVERTISEMENT) == ["prod.far", "prod.pub"]
    assert names(cluster, metallb.BGP_ADVERTISEMENT) == names(cluster, metallb.PEER) == []


def made_by_metallb(cluster: FakeCluster) -> list[str]:
    resources = (metallb.POOL, metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.PEER)
    return [name for resource in resources for name in names(cluster, resource)]


def made_by_calico(cluster: FakeCluster) -> list[str]:
    return [*names(cluster, RAW.bgp_peer), *names(cluster, RAW.bgp_configuration)]


@pytest.mark.parametrize("cidr", ["203.0.113.0/24", ""])
@pytest.mark.parametrize("to_calico", [True, False])
@pytest.mark.parametrize("metallbs", ["metallb-l2", "metallb-bgp"])
def test_former_announcer_objects_are_removed_once_unused(cidr: str, to_calico: bool, metallbs: str) -> None:
    ways = [
        ({"announce": metallbs}, bgp("10.240.0.5") if "bgp" in metallbs else None, made_by_metallb),
        ({"announce": "calico-bgp"}, bgp("10.240.0.5"), made_by_calico),
    ]
    (_, _, before), (announce, config, after) = ways if to_calico else reversed(ways)
    cluster = public(cidr, metallbs if to_calico else "calico-bgp")
    cluster.attach("a", network=PUB, ip=FIRST)
    there = before(cluster)
    assert there and not after(cluster)
    edit(cluster, public=announce, bgpConfig=config)
    assert before(cluster) == there
    assert cluster.attach("a", network=PUB).results == {"prod/a": FIRST}
    assert not cluster.sync_network("pub").errors
    assert before(cluster) == [] != after(cluster)
    cluster.detach("a", network=PUB)
    assert not cluster.delete_network("pub").errors
    assert after(cluster) == []
