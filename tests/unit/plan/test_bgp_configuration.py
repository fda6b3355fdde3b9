"""Calico's shared BGPConfiguration: own entries are removed again, foreign ones never (I6, I8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.vm import VM
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster
from tests.unit.plan.test_public import ANNOUNCED, FIRST, PUB, make_public

pytestmark = [pytest.mark.I6, pytest.mark.I8]

CONFIGURATION = RAW.bgp_configuration.ref("default")
ADMINS: Json = {"nodeToNodeMeshEnabled": True}
"""What an administrator has in it before."""


def cluster_with_bgp(**more: object) -> FakeCluster:
    """A cluster whose BGPConfiguration another client has made, with VMs a and b."""
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, *ANNOUNCED))
    cluster.api.put(RAW.bgp_configuration, {"metadata": {"name": "default"}, "spec": {**ADMINS, **more}})
    cluster.vm("a")
    cluster.vm("b")
    return cluster


def spec(cluster: FakeCluster) -> Json:
    found: Json = cluster.api.get(CONFIGURATION)["spec"]
    return found


def writes_a_list(cluster: FakeCluster) -> None:
    """An administrator adds a network to the list that this program has made."""
    cluster.api.change(
        CONFIGURATION, lambda obj: obj["spec"]["serviceLoadBalancerIPs"].append({"cidr": "192.0.2.0/24"})
    )


def attaches(cluster: FakeCluster) -> None:
    """A VM gets the first address of another network."""
    assert cluster.attach("b", network="prod/far", ip="198.51.100.7").results == {"prod/b": "198.51.100.7"}


@pytest.mark.parametrize(("writes", "cidr"), [(writes_a_list, "192.0.2.0/24"), (attaches, "198.51.100.7/32")])
@pytest.mark.parametrize("how", ["deleted", "collected"])
def test_entry_added_while_a_list_is_removed_is_preserved(
    writes: Callable[[FakeCluster], None], cidr: str, how: str
) -> None:
    cluster = cluster_with_bgp(asNumber=64512)
    for name, its in (("pub", "203.0.113.0/24"), ("far", "198.51.100.0/24")):
        assert not make_public(cluster, name, its, "calico-bgp").errors
    cluster.attach("a", network=PUB, ip=FIRST)
    leaves_its_entry(cluster)
    if how == "collected":
        cluster.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    right_before_the_next_write(cluster, writes)
    cluster.collect() if how == "collected" else cluster.delete_network("pub")
    assert spec(cluster) == {**ADMINS, "asNumber": 64512, "serviceLoadBalancerIPs": [{"cidr": cidr}]}


def leaves_its_entry(cluster: FakeCluster) -> None:
    """VM a and its record are gone, and what let Calico announce its address is not."""
    cluster.api.drop(VM.ref("a", "prod"))
    cluster.api.change(NETWORKWIZARD.ref("pub", "prod"), lambda obj: obj["status"]["allocations"].clear())


def right_before_the_next_write(cluster: FakeCluster, happens: Callable[[FakeCluster], None]) -> None:
    def before(verb: str, ref: ObjectRef) -> None:
        if verb in ("patch", "delete") and ref == CONFIGURATION:
            cluster.api.before.clear()
            happens(cluster)

    cluster.api.before.append(before)


def test_network_created_during_deletion_of_the_last_one_has_its_as_number() -> None:
    cluster = cluster_with_bgp()
    assert not make_public(cluster, "pub", "203.0.113.0/24", "calico-bgp").errors

    def comes(cluster: FakeCluster) -> None:
        assert not make_public(cluster, "far", "198.51.100.0/24", "calico-bgp").errors

    right_before_the_next_write(cluster, comes)
    assert not cluster.delete_network("pub").errors
    assert spec(cluster) == {**ADMINS, "asNumber": 64512}
    assert not cluster.delete_network("far").errors
    assert cluster.api.get(CONFIGURATION)["spec"] == ADMINS
    assert not cluster.api.get(CONFIGURATION)["metadata"]["annotations"]


def test_concurrent_deletion_of_the_last_two_networks_removes_the_as_number() -> None:
    """Each has read that the other one still needs it."""
    cluster = cluster_with_bgp()
    for name, its in (("pub", "203.0.113.0/24"), ("far", "198.51.100.0/24")):
        assert not make_public(cluster, name, its, "calico-bgp").errors

    def deletes_the_other(cluster: FakeCluster) -> None:
        assert not cluster.second_client(1).delete_network("far").errors

    right_before_the_next_write(cluster, deletes_the_other)
    assert not cluster.delete_network("pub").errors
    assert cluster.networks() == []
    assert spec(cluster) == ADMINS
    assert not cluster.api.get(CONFIGURATION)["metadata"]["annotations"]


def test_failed_network_creation_leaves_the_bgp_configuration_unchanged() -> None:
    """Though nothing was made for it: there was a BGPConfiguration, and a BGPPeer that serves."""
    cluster = cluster_with_bgp()
    cluster.api.put(RAW.bgp_peer, {"metadata": {"name": "theirs"}, "spec": {"peerIP": "10.240.0.5", "asNumber": 64514}})
    cluster.api.refuse("patch", NETWORKWIZARD)
    assert make_public(cluster, "pub", "203.0.113.0/24", "calico-bgp").errors
    assert cluster.networks() == []
    assert spec(cluster) == ADMINS
    assert not cluster.api.get(CONFIGURATION)["metadata"]["annotations"]


@pytest.mark.parametrize("theirs", [False, True])
def test_list_created_for_a_network_is_removed_with_the_last_network(theirs: bool) -> None:
    """Unless there is something of others in it: it is theirs then."""
    cluster = cluster_with_bgp(asNumber=64512)
    assert not make_public(cluster, "pub", "203.0.113.0/24", "calico-bgp").errors
    cluster.attach("a", network=PUB, ip=FIRST)
    if theirs:
        writes_a_list(cluster)
    cluster.detach("a", network=PUB)
    assert not cluster.delete_network("pub").errors
    assert spec(cluster).get("serviceLoadBalancerIPs") == ([{"cidr": "192.0.2.0/24"}] if theirs else None)
    assert not cluster.api.get(CONFIGURATION)["metadata"]["annotations"]


OTHERS = ({"cidr": "192.0.2.0/24"}, {"cidr": "198.51.100.0/24"})


def entries_of(obj: Json) -> list[Json]:
    found: list[Json] = obj["spec"]["serviceLoadBalancerIPs"]
    return found


def entries(cluster: FakeCluster) -> list[Json]:
    return entries_of(cluster.api.get(CONFIGURATION))


def test_entry_that_moved_in_its_list_is_removed_and_no_other() -> None:
    """I6: its place was read before another client removed an entry in front of it."""
    first, last = OTHERS
    cluster = cluster_with_bgp(asNumber=64512, serviceLoadBalancerIPs=[first])
    assert not make_public(cluster, "pub", "203.0.113.0/24", "calico-bgp").errors
    cluster.attach("a", network=PUB, ip=FIRST)
    cluster.api.change(CONFIGURATION, lambda obj: entries_of(obj).append(last))
    assert entries(cluster) == [first, {"cidr": f"{FIRST}/32"}, last]
    right_before_the_next_write(
        cluster, lambda cluster: cluster.api.change(CONFIGURATION, lambda obj: entries_of(obj).remove(first))
    )
    assert not cluster.detach("a", network=PUB).errors
    assert entries(cluster) == [last]


def test_address_added_concurrently_is_not_added_twice() -> None:
    """Nor is theirs removed with the VM's (I6)."""
    cluster = cluster_with_bgp(asNumber=64512, serviceLoadBalancerIPs=[*OTHERS])
    assert not make_public(cluster, "pub", "203.0.113.0/24", "calico-bgp").errors
    theirs = {"cidr": f"{FIRST}/32"}
    right_before_the_next_write(
        cluster, lambda cluster: cluster.api.change(CONFIGURATION, lambda obj: entries_of(obj).append(theirs))
    )
    assert cluster.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}
    assert entries(cluster) == [*OTHERS, theirs]
    assert not cluster.detach("a", network=PUB).errors
    assert entries(cluster) == [*OTHERS, theirs]
