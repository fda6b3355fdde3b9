"""Every kind of network on an API server that normalizes objects (tests/unit/normalization.py).

| shown                                        | what of it is tried here                                       |
|----------------------------------------------|----------------------------------------------------------------|
| without what is false or empty               | every command of every backend: the second run changes nothing |
| with defaults, lists reordered, other IPv6   | the same                                                        |
| never with what was written                  | test_lost_writes.py                                             |
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs.spec import DHCPSERVER, NAD, TEMPLATE
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, annotations_of, dig
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network
from tests.unit.normalization import normalized, without_empty
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster, wizard
from tests.unit.plan.test_public import ANNOUNCED

BGP = {"peers": "10.240.0.4, 10.240.0.5", "myASN": 64512, "remoteASN": 64514}
BGP_6 = {"peers": "fd00:f::5", "myASN": 64512, "remoteASN": 64514}
NETWORKS: dict[str, tuple[str, Json]] = {
    "calico": ("10.133.0.0/24", {"plugin": "calico"}),
    "calico without NAT": ("10.133.0.0/24", {"plugin": "calico", "calico": {"natOutgoing": False}}),
    "calico for migration": ("10.133.0.0/24", {"plugin": "calico", "calico": {"liveMigration": True}}),
    "calico IPv6": ("fd00:133::/120", {"plugin": "calico"}),
    "Layer 2": (
        "10.20.0.0/24",
        {"plugin": "ovs", "ovs": {"bridge": "br-ext", "nic": "eth1", "vlan": 20, "mtu": 1400}},
    ),
    "Layer 2 untagged on some nodes": (
        "10.20.0.0/24",
        {"plugin": "ovs", "ovs": {"bridge": "br-ext", "nic": "eth2,eth1", "nodeSelector": {"b": "1", "a": "2"}}},
    ),
    "Layer 2 IPv6": (
        "fd00:20::/120",
        {"plugin": "ovs", "ovs": {"bridge": "br-ext", "nic": "eth1", "dhcp": {"enabled": False}}},
    ),
    "metallb-l2": (
        "203.0.113.0/24",
        {"plugin": "public", "public": {"announce": "metallb-l2", "interfaces": ["eth0", "eth1"]}},
    ),
    "metallb-l2 IPv6": ("fd00:9::/120", {"plugin": "public", "public": {"announce": "metallb-l2"}}),
    "metallb-bgp": (
        "203.0.113.0/24",
        {"plugin": "public", "public": {"announce": "metallb-bgp", "nodeSelector": {"rack": "1"}}, "bgpConfig": BGP},
    ),
    "metallb-bgp IPv6": (
        "fd00:9::/120", {"plugin": "public", "public": {"announce": "metallb-bgp"}, "bgpConfig": BGP_6},
    ),
    "calico-bgp": ("203.0.113.0/24", {"plugin": "public", "public": {"announce": "calico-bgp"}, "bgpConfig": BGP}),
    "calico-bgp IPv6": ("fd00:9::/120", {"plugin": "public", "public": {"announce": "calico-bgp"}, "bgpConfig": BGP_6}),
    "external-ips": (
        "203.0.113.0/24",
        {"plugin": "public", "public": {"announce": "calico-bgp", "via": "external-ips"}, "bgpConfig": BGP},
    ),
    "no CIDR": ("", {"plugin": "public", "public": {"announce": "calico-bgp"}, "bgpConfig": BGP}),
}  # fmt: skip
SHOWN: dict[str, Callable[[Json, str], Json]] = {
    "without empty fields": lambda obj, plural: (
        {**obj, "spec": without_empty(obj["spec"])} if _is_shown(plural) else obj
    ),
    "otherwise": normalized,
}
MADE = (
    RAW.pool, RAW.bgp_peer, RAW.bgp_configuration, NAD, TEMPLATE, DHCPSERVER,
    metallb.POOL, metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.PEER,
)  # fmt: skip
"""What is made for networks and shown otherwise."""


def _is_shown(plural: str) -> bool:
    return plural in {resource.plural for resource in MADE}


@pytest.fixture(params=SHOWN)
def cluster(request: pytest.FixtureRequest) -> FakeCluster:
    found = FakeCluster()
    found.api.served = served((*SERVED, *ANNOUNCED))
    found.api.shows = SHOWN[request.param]
    found.vm("a")
    found.vm("b")
    return found


def twice(cluster: FakeCluster, command: Callable[[], RunResult]) -> RunResult:
    """Runs a command, and once more: that changes nothing."""
    first = command()
    assert not first.errors, first.errors
    before, state = len(cluster.api.writes), copy.deepcopy(cluster.api._objects)
    second = command()
    assert not second.errors, second.errors
    assert cluster.api.writes[before:] == []
    assert cluster.api._objects == state
    return first


def wanted(name: str, cidr: str, spec: Json) -> Json:
    network = wizard(name, cidr, **spec)
    if not cidr:
        del network["spec"]["cidr"]
    return network


@pytest.mark.parametrize("kind", NETWORKS)
def test_second_run_of_every_command_changes_nothing(cluster: FakeCluster, kind: str) -> None:
    cidr, spec = NETWORKS[kind]
    request = NetworkRequest("prod", "it", wanted("it", cidr, spec))
    ip = {"": "203.0.113.7", "10": "", "20": "", "fd": ""}[cidr[:2]]

    def detach(*names: str) -> RunResult:
        vms = tuple(("prod", name) for name in names)
        return cluster.run(plan_detach, DetachRequest(("prod", "it"), vms))

    twice(cluster, lambda: cluster.run(plan_network, request))
    twice(cluster, lambda: cluster.sync_network("it"))
    attached: Any = twice(cluster, lambda: cluster.attach("a", network="prod/it", ip=ip))
    twice(cluster, lambda: cluster.attach("b", network="prod/it", ip=ip and "203.0.113.9"))
    assert attached.results
    twice(cluster, lambda: cluster.sync_network("it"))
    twice(cluster, lambda: detach("b"))
    twice(cluster, lambda: detach("a"))
    twice(cluster, lambda: cluster.collect())
    cluster.delete_network("it")
    assert [obj["metadata"]["name"] for resource in MADE for obj in cluster.api.every(resource)] == []
    assert cluster.api.every(NETWORKWIZARD) == []


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if "bgp" in kind or kind in ("external-ips", "no CIDR")])
def test_second_network_shares_the_peers_of_the_first_and_keeps_them(cluster: FakeCluster, kind: str) -> None:
    cidr, spec = NETWORKS[kind]
    twice(cluster, lambda: cluster.run(plan_network, NetworkRequest("prod", "it", wanted("it", cidr, spec))))
    other = cidr and str(cidr).replace("203.0.113", "203.0.112").replace("fd00:9:", "fd00:8:")
    twice(cluster, lambda: cluster.run(plan_network, NetworkRequest("prod", "other", wanted("other", other, spec))))
    twice(cluster, lambda: cluster.sync_network("it"))
    cluster.delete_network("other")
    twice(cluster, lambda: cluster.sync_network("it"))
    cluster.delete_network("it")
    assert [obj["metadata"]["name"] for resource in MADE for obj in cluster.api.every(resource)] == []


def test_own_bgp_entries_are_removed_in_any_order_and_notation(cluster: FakeCluster) -> None:
    cidr, spec = NETWORKS["calico-bgp IPv6"]
    theirs = [{"cidr": "fd00:aaaa::/64"}, {"cidr": "FD00:0:0::5/128"}, {"cidr": "192.0.2.1/32"}]
    cluster.api.put(
        RAW.bgp_configuration, {"metadata": {"name": "default"}, "spec": {"serviceLoadBalancerIPs": theirs}}
    )
    twice(cluster, lambda: cluster.run(plan_network, NetworkRequest("prod", "it", wanted("it", cidr, spec))))
    twice(cluster, lambda: cluster.attach("a", "b", network="prod/it"))
    there = cluster.api.look(RAW.bgp_configuration.ref("default"))
    assert len(dig(there, "spec", "serviceLoadBalancerIPs")) == 5
    twice(cluster, lambda: cluster.detach("a", network="prod/it"))
    assert len(dig(cluster.api.look(RAW.bgp_configuration.ref("default")), "spec", "serviceLoadBalancerIPs")) == 4
    cluster.delete_network("it", force=True)
    there = cluster.api.look(RAW.bgp_configuration.ref("default"))
    shown = cluster.api.shows({"spec": {"serviceLoadBalancerIPs": theirs}}, "bgpconfigurations")["spec"]
    assert dig(there, "spec", "serviceLoadBalancerIPs") == shown["serviceLoadBalancerIPs"]
    assert not annotations_of(there or {})
