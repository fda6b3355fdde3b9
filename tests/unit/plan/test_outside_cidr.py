"""Requested public addresses outside their network's CIDR: recorded like others, never chosen.

| Who asks                             | What happens                                                         |
|--------------------------------------|----------------------------------------------------------------------|
| a VM, by name                        | a record in the network's own status, a Service, announced by itself |
| a VM that wants any address          | one of the CIDR, also where it had one outside before                |
| a VM recreated under its name        | the same address                                                     |
| for a private network                | refused                                                              |
| for an address of the other family   | refused                                                              |

Whose an address is that several networks could have is in test_without_cidr.py.
"""

from __future__ import annotations

from functools import partial

import pytest

from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import Json, dig, labels_of, name_of
from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move
from kubectl_yoshi.plan.network_lookup import find_network_of
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from tests.unit.diagnosis.diagnosing import allocation_messages
from tests.unit.plan.fake_cluster import FakeCluster, refusal
from tests.unit.plan.test_public import PUB, SECOND, announced, make_public, public, requested_public_ip, services

pytestmark = [pytest.mark.I1, pytest.mark.I4]

OUT, OUT_TOO = "1.2.3.4", "1.2.3.5"
INSIDE = "203.0.113.1"
CLUSTERS = [
    ("203.0.113.0/29", "calico-bgp"),
    ("203.0.113.0/29", "metallb-l2"),
    ("203.0.112.0/22", "calico-bgp"),
    ("203.0.112.0/22", "metallb-bgp"),
]


@pytest.fixture(params=CLUSTERS, ids="-".join)
def cluster(request: pytest.FixtureRequest) -> FakeCluster:
    """A cluster with a small or a large public network, and VMs a and b."""
    return public(*request.param)


def network(cluster: FakeCluster) -> Network:
    return parse_network(cluster.api.get(NETWORKWIZARD.ref("pub", "prod")))


def status(cluster: FakeCluster) -> Json:
    found: Json = network(cluster).raw["status"]
    return found


def found(cluster: FakeCluster, ip: str) -> str:
    """The network of an address that is named alone."""
    having = partial(find_network_of, parse_address(ip), "prod", plugin="public")
    return having(new_snapshot(cluster.api)).full_name  # type: ignore[arg-type]


def findings(cluster: FakeCluster) -> list[str]:
    """What `ips check` says of the network."""
    return allocation_messages(cluster, "pub")


def whole(cluster: FakeCluster, held: dict[str, str]) -> bool:
    """Whether this and nothing else is recorded, asked for, on Services and announced by itself."""
    cluster.check()
    pools = cluster.api.every(metallb.POOL)
    on_vms = {holder.partition("/")[2]: ip for ip, holder in held.items() if holder.startswith("prod/")}
    asked = {name: requested_public_ip(cluster, name) for name in "ab" if requested_public_ip(cluster, name)}
    alone = [ip for ip in on_vms.values() if not pools or parse_address(ip) not in network(cluster)]
    return (
        cluster.holders("pub") == held and asked == on_vms == services(cluster) and announced(cluster) == sorted(alone)
    )


def test_requested_address_outside_the_cidr_is_recorded(cluster: FakeCluster) -> None:
    assert not cluster.attach("a", network=PUB, ip=OUT).errors
    cluster.attach("b", network=PUB, ip=INSIDE)
    assert whole(cluster, {OUT: "prod/a", INSIDE: "prod/b"})
    assert OUT in status(cluster)["allocations"]
    assert not findings(cluster)
    again = cluster.attach("a", network=PUB, ip=OUT)
    assert not again.executed
    assert not cluster.attach("a", network=PUB).executed


def test_small_network_counts_it_as_used_and_keeps_its_free_count() -> None:
    cluster = public("203.0.113.0/29", "calico-bgp")
    assert (status(cluster)["used"], status(cluster)["free"]) == (0, 6)
    cluster.attach("a", network=PUB, ip=OUT)
    assert (status(cluster)["used"], status(cluster)["free"]) == (1, 6)
    cluster.attach("b", network=PUB)
    assert (status(cluster)["used"], status(cluster)["free"]) == (2, 5)
    cluster.reserve(OUT_TOO, network="pub")
    assert (status(cluster)["used"], status(cluster)["free"]) == (3, 5)
    cluster.detach("a", "b", network=PUB)
    cluster.release(OUT_TOO, network="pub")
    assert (status(cluster)["used"], status(cluster)["free"]) == (0, 6)


def test_large_network_records_it_in_its_own_status() -> None:
    cluster = public("203.0.112.0/22", "calico-bgp")
    cluster.attach("a", network=PUB, ip=OUT)
    assert not cluster.api.every(ADDRESSBLOCK)
    assert [*status(cluster)["allocations"]] == [OUT]
    cluster.detach("a", network=PUB)
    assert status(cluster)["allocations"] == {}
    assert [*status(cluster)["history"]] == [OUT]


def test_replace_between_addresses_inside_and_outside_the_cidr(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=INSIDE)
    for ip in (OUT, OUT_TOO, INSIDE):
        assert "already has" in refusal(cluster.attach("a", network=PUB, ip=ip), "prod/a").message
        assert not cluster.attach("a", network=PUB, ip=ip, replace=True).errors
        assert whole(cluster, {ip: "prod/a"})


def test_address_outside_the_cidr_is_released_with_its_vm_and_never_chosen(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=OUT)
    assert not cluster.detach("a", network=PUB).errors
    assert whole(cluster, {})
    cluster.attach("a", "b", network=PUB)
    assert OUT not in cluster.holders("pub")
    assert len(cluster.holders("pub")) == 2


def test_recreated_vm_gets_its_address_outside_the_cidr_again(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=OUT)
    asked = dict(cluster.now("a").annotations)
    cluster.delete_vm("a")
    cluster.vm("a")
    cluster.api.change(cluster.now("a").ref, lambda obj: obj["metadata"].update(annotations=asked))
    assert not cluster.attach("a", network=PUB).errors
    assert cluster.holders("pub") == {OUT: "prod/a"}
    assert cluster.records("pub")[OUT].uid == cluster.now("a").uid


def test_allocated_address_outside_the_cidr_is_refused(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=OUT)
    assert f"{OUT} is not free: prod/a holds it" in refusal(cluster.attach("b", network=PUB, ip=OUT), "prod/b").message
    with pytest.raises(PreconditionFailed, match="prod/a holds it"):
        cluster.reserve(OUT, network="pub")
    assert whole(cluster, {OUT: "prod/a"})


def test_reserved_address_outside_the_cidr_is_refused_until_released(cluster: FakeCluster) -> None:
    cluster.reserve(OUT, network="pub", note="the printer")
    assert "reserved (the printer)" in refusal(cluster.attach("a", network=PUB, ip=OUT), "prod/a").message
    assert not cluster.release(OUT, network="pub").errors
    assert not cluster.attach("a", network=PUB, ip=OUT).errors
    assert whole(cluster, {OUT: "prod/a"})


def test_address_outside_the_cidr_moves_to_another_vm(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=OUT)
    for to in ("b", "a"):
        assert not cluster.run(plan_move, MoveRequest(parse_address(OUT), ("prod", to))).errors
        assert whole(cluster, {OUT: f"prod/{to}"})


def test_gc_releases_the_address_outside_the_cidr_of_a_deleted_vm(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=OUT)
    cluster.delete_vm("a")
    assert any(
        f"{OUT} on {PUB}: recorded for prod/a, but the VM no longer exists" in text for text in findings(cluster)
    )
    for service in cluster.api.every(SERVICE):  # as Kubernetes does
        cluster.api.drop(SERVICE.ref(name_of(service), "prod"))
    cluster.collect()
    assert (cluster.holders("pub"), announced(cluster)) == ({}, [])


def test_rebuild_restores_addresses_outside_the_cidr(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=OUT)
    cluster.attach("b", network=PUB, ip=INSIDE)
    for block in cluster.api.every(ADDRESSBLOCK):
        cluster.api.drop(ADDRESSBLOCK.ref(block["metadata"]["name"], "prod"))
    cluster.api.change(NETWORKWIZARD.ref("pub", "prod"), lambda obj: obj.pop("status"))
    assert not cluster.run(plan_rebuild, RebuildRequest(("prod", "pub"))).errors
    assert whole(cluster, {OUT: "prod/a", INSIDE: "prod/b"})


def test_network_with_an_address_outside_the_cidr_is_deleted_only_with_force(cluster: FakeCluster) -> None:
    cluster.attach("a", network=PUB, ip=OUT)
    with pytest.raises(PreconditionFailed, match=f"network prod/pub is in use: {OUT} prod/a"):
        cluster.delete_network("pub")
    assert not cluster.delete_network("pub", force=True).errors
    assert cluster.networks() == []
    assert (services(cluster), announced(cluster), requested_public_ip(cluster, "a")) == ({}, [], "")
    assert not cluster.api.every(metallb.POOL)


@pytest.mark.parametrize("announce", ["metallb-l2", "metallb-bgp"])
def test_metallb_announces_it_from_a_separate_pool(announce: str) -> None:
    cluster = public("203.0.113.0/29", announce)
    cluster.attach("a", network=PUB, ip=OUT)
    kind = metallb.L2_ADVERTISEMENT if announce == "metallb-l2" else metallb.BGP_ADVERTISEMENT
    [advertisement] = cluster.api.every(kind)
    [pool] = [pool for pool in cluster.api.every(metallb.POOL) if dig(pool, "spec", "addresses") == [f"{OUT}/32"]]
    [chosen] = dig(advertisement, "spec", "ipAddressPoolSelectors")
    assert chosen["matchLabels"].items() <= labels_of(pool).items()
    assert dig(advertisement, "spec", "ipAddressPools") == ["prod.pub"]
    if announce == "metallb-bgp":
        assert dig(advertisement, "spec", "aggregationLength") == 32
    assert not cluster.sync_network("pub").executed


def test_ipv6_address_outside_the_cidr_has_a_slash_128_pool() -> None:
    cluster = public("2001:db8::/64", "metallb-l2")
    assert not cluster.attach("a", network=PUB, ip="2001:db8:ffff::7").errors
    assert cluster.holders("pub") == {"2001:db8:ffff::7": "prod/a"}
    pools = [text for pool in cluster.api.every(metallb.POOL) for text in dig(pool, "spec", "addresses")]
    assert pools == ["2001:db8::/64", "2001:db8:ffff::7/128"]


@pytest.mark.parametrize(("cidr", "ip"), [("203.0.113.0/29", "2001:db8::7"), ("2001:db8::/64", OUT)])
def test_address_of_the_other_family_is_refused(cidr: str, ip: str) -> None:
    cluster = public(cidr, "calico-bgp")
    with pytest.raises(PreconditionFailed, match=f"{ip} cannot be assigned on network prod/pub: it is outside {cidr}"):
        cluster.attach("a", network=PUB, ip=ip)
    with pytest.raises(PreconditionFailed, match="outside"):
        cluster.reserve(ip, network="pub")


def test_private_network_refuses_addresses_outside_its_cidr() -> None:
    cluster = public()
    cluster.network("blue", "10.133.0.0/24")
    with pytest.raises(PreconditionFailed, match=f"{OUT} cannot be assigned on network prod/blue: it is outside 10"):
        cluster.attach("a", network="prod/blue", ip=OUT)
    with pytest.raises(PreconditionFailed, match="outside"):
        cluster.reserve(OUT, network="blue")


def test_vm_on_two_networks_keeps_the_address_of_each() -> None:
    cluster = public()
    make_public(cluster, "far", "198.51.100.0/24", "calico-bgp")
    cluster.attach("a", network="prod/far", ip=OUT)
    cluster.attach("a", network=PUB, ip=SECOND)
    assert (cluster.holders("pub"), cluster.holders("far")) == ({SECOND: "prod/a"}, {OUT: "prod/a"})
    assert not cluster.attach("a", network=PUB).executed
    assert not cluster.attach("a", network="prod/far").executed
    cluster.detach("a", network=PUB)
    assert requested_public_ip(cluster, "a") == OUT
    cluster.attach("a", network=PUB, ip=SECOND)
    cluster.detach("a", network="prod/far")
    assert (requested_public_ip(cluster, "a"), cluster.holders("far")) == (SECOND, {})


def test_allocated_address_is_not_attributed_to_a_deleted_network() -> None:
    cluster = public()
    make_public(cluster, "far", "198.51.100.0/24", "calico-bgp")
    cluster.attach("a", network="prod/far", ip=OUT)
    cluster.attach("a", network=PUB, ip=SECOND)
    cluster.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    cluster.detach("a", network=PUB)
    assert requested_public_ip(cluster, "a") == OUT


def test_network_of_an_address_is_the_one_holding_it_or_the_only_one() -> None:
    cluster = public()
    assert found(cluster, OUT) == "prod/pub"
    make_public(cluster, "far", "198.51.100.0/24", "calico-bgp")
    with pytest.raises(PreconditionFailed, match=f"{OUT} may belong to several networks: prod/far, prod/pub"):
        found(cluster, OUT)
    cluster.attach("a", network="prod/far", ip=OUT)
    assert found(cluster, OUT) == "prod/far"
    assert found(cluster, SECOND) == "prod/pub"
