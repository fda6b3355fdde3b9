"""Public networks and addresses on a real API server: what is made, what of others stays, and that nothing is left.

The API server has the custom resources of Calico and MetalLB, but not their programs: whether an address is announced,
tests/e2e/test_public.py shows.

| announced by | what is made | beside objects of others |
|---|---|---|
| calico-bgp, in both API groups | peers, asNumber, list entries, Services | three entries in each list, an ASN, peers |
| metallb-l2, metallb-bgp | pool, advertisement, peers, Services | pools, peers |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import lab
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Run, Yoshi, get, make, make_vms, vm

Json = dict[str, Any]

README_NETWORK = """\
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  name: publicnetwork
spec:
  plugin: "public"
  cidr: "207.97.241.196/29"
  bgpConfig:
    peers: 10.240.0.5, 10.240.0.4
    remoteASN: 64512
    myASN: 64514
"""
"""The original yoshi's README, unchanged."""

BGP = ("--peer", "10.240.0.5", "--my-asn", "64514", "--remote-asn", "64512")
FOREIGN = ["198.18.1.0/32", "198.18.0.0/30", "198.18.2.7/32"]
LISTS = ("serviceLoadBalancerIPs", "serviceExternalIPs", "serviceClusterIPs")


@dataclass
class World:
    """A cluster, and a namespace of the test's own."""

    cluster: Cluster
    yoshi: Yoshi
    namespace: str
    group: str

    def one(self, kind: str, name: str) -> Json | None:
        """A cluster-wide object of Calico's; None where there is none."""
        found = self.cluster.kubectl("get", f"{kind}.{self.group}", name, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found else None

    def calico(self, kind: str, name: str, spec: Json) -> Json:
        """Somebody else's object."""
        version = "v1" if self.group.startswith("crd.") else "v3"
        plain = {"apiVersion": f"{self.group}/{version}", "kind": kind, "metadata": {"name": name}, "spec": spec}
        return make(self.cluster, plain)[0]

    def configuration(self) -> Json | None:
        return self.one("bgpconfigurations", "default")

    def listed(self, name: str = "serviceLoadBalancerIPs") -> list[str]:
        there = self.configuration()
        return [entry["cidr"] for entry in (there or {"spec": {}})["spec"].get(name, [])]

    def peers(self) -> list[Json]:
        return list(get(self.cluster, f"bgppeers.{self.group}")["items"])

    def services(self) -> list[Json]:
        return list(get(self.cluster, "services", namespace=self.namespace)["items"])

    def records(self, network: str) -> Json:
        return get(self.cluster, "networkwizard", network, namespace=self.namespace)["status"]["allocations"]

    def vms(self, *names: str, **changes: Any) -> None:
        make_vms(self.cluster, self.namespace, *names, **changes)

    def vm(self, name: str) -> Json:
        return get(self.cluster, "virtualmachine", name, namespace=self.namespace)


@pytest.fixture(scope="module")
def native(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster whose Calico keeps its objects as projectcalico.org/v3."""
    with lab.start(calico="v3") as running:
        forks = request.getfixturevalue("forks")
        found = Cluster(running.kubeconfig, "lab")
        Yoshi(found.kubeconfig, found.context, forks).done("install")
        yield found


@pytest.fixture(params=["crd.projectcalico.org", "projectcalico.org"])
def world(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[World]:
    """BGPConfiguration "default" and the peers are the whole cluster's, so only a cluster of the tests' own will do."""
    if request.config.getoption("cluster") not in ("lab", "kind"):
        pytest.skip("writes the cluster's BGPConfiguration")
    cluster = request.getfixturevalue("installed" if request.param.startswith("crd.") else "native")
    with cluster.namespace() as namespace:
        yield from _world(cluster, forks, namespace, request.param)


@pytest.fixture
def raw(installed: Cluster, forks: ForkServer, namespace: str) -> Iterator[World]:
    """A world for what does not depend on the API group."""
    yield from _world(installed, forks, namespace, "crd.projectcalico.org")


def _world(cluster: Cluster, forks: ForkServer, namespace: str, group: str) -> Iterator[World]:
    yield World(cluster, Yoshi(cluster.kubeconfig, cluster.context, forks, namespace), namespace, group)
    cluster.kubectl("-n", namespace, "delete", "services,vm", "--all")
    cluster.kubectl("-n", namespace, "delete", "networkwizard", "--all", "--wait=false")
    kinds = f"bgppeers.{group},bgpconfigurations.{group}"
    cluster.kubectl("delete", kinds, "--all", "--ignore-not-found")
    cluster.kubectl(
        "-n", "metallb-system", "delete", "--all", "--ignore-not-found",
        "ipaddresspools,l2advertisements,bgpadvertisements,bgppeers.metallb.io",
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def metallb_namespace(installed: Cluster) -> None:
    if not installed.kubectl("get", "namespace", "metallb-system", "--ignore-not-found"):
        installed.kubectl("create", "namespace", "metallb-system")


# -- Calico's BGP ----------------------------------------------------------------------------------------------------


def test_others_entries_keep_their_place_and_all_of_ours_goes_again(world: World) -> None:
    spec = {"asNumber": 64514, "nodeToNodeMeshEnabled": True, **{f: [{"cidr": c} for c in FOREIGN] for f in LISTS}}
    before = world.calico("BGPConfiguration", "default", spec)
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    world.vms("web-1", "web-2", "web-3")
    world.yoshi.done("vm", "attach", "web-1", "web-2", "web-3", "--public-network", "pub")
    ours = [f"203.0.113.{n}/32" for n in (1, 2, 3)]
    assert world.listed()[:3] == FOREIGN
    assert sorted(world.listed()[3:]) == ours
    assert [world.listed(name) for name in LISTS[1:]] == [FOREIGN, FOREIGN]

    world.yoshi.done("vm", "detach", "web-2", "--public-network", "pub")
    assert world.listed()[:3] == FOREIGN
    assert sorted(world.listed()[3:]) == [ours[0], ours[2]]
    world.yoshi.done("vm", "detach", "web-1", "web-3", "--network", "pub")
    world.yoshi.done("network", "delete", "pub")

    after = world.configuration()
    assert after is not None
    assert after["spec"] == before["spec"]
    assert not after["metadata"].get("annotations")
    assert world.peers() == []
    assert world.services() == []


def test_the_objects_are_exactly_these(world: World) -> None:
    peers = ("--peer", "10.240.0.5,reachableBy=10.240.0.1", "--peer", "2001:db8::5,password-secret=router")
    asns = ("--my-asn", "64514", "--remote-asn", "64512")
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *peers, *asns)
    assert {peer["metadata"]["name"]: peer["spec"] for peer in world.peers()} == {
        "yoshi-10.240.0.5": {"peerIP": "10.240.0.5", "asNumber": 64512, "reachableBy": "10.240.0.1"},
        "yoshi-2001-0db8-0000-0000-0000-0000-0000-0005": {
            "peerIP": "2001:db8::5",
            "asNumber": 64512,
            "password": {"secretKeyRef": {"name": "router", "key": "password"}},
        },
    }
    world.vms("web")
    out = world.yoshi.done("vm", "attach", "web", "--public-network", "pub", "--port", "22/tcp,5000-5001/udp")
    assert out == "virtualmachine.kubevirt.io/web attached to pub: 203.0.113.1\n"
    configuration = world.configuration()
    assert configuration is not None
    assert configuration["spec"]["asNumber"] == 64514
    assert configuration["spec"]["serviceLoadBalancerIPs"] == [{"cidr": "203.0.113.1/32"}]
    [service] = world.services()
    uid = world.vm("web")["metadata"]["uid"]
    [owner] = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("VirtualMachine", "web", uid)
    told = service["spec"]
    wanted = {
        "type": "LoadBalancer",
        "loadBalancerClass": "plumber.k8s.pf9.io/yoshi",
        "externalTrafficPolicy": "Local",
        "allocateLoadBalancerNodePorts": False,
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "selector": {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "web"},
    }
    assert {key: told[key] for key in wanted} == wanted
    assert [(p["port"], p["protocol"]) for p in told["ports"]] == [(22, "TCP"), (5000, "UDP"), (5001, "UDP")]
    assert not any("nodePort" in port for port in told["ports"])
    assert [entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]] == ["203.0.113.1"]
    assert world.vm("web")["metadata"]["annotations"] == {
        "plumber.k8s.pf9.io/publicNetwork": "pub",
        "plumber.k8s.pf9.io/publicIP": "203.0.113.1",
        "plumber.k8s.pf9.io/publicPorts": "22/tcp,5000-5001/udp",
    }
    versions = [service["metadata"]["resourceVersion"], configuration["metadata"]["resourceVersion"]]
    again = world.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    assert again.endswith("203.0.113.1 (unchanged)\n")
    assert [world.services()[0]["metadata"]["resourceVersion"], version(world.configuration())] == versions
    world.yoshi.done("network", "delete", "pub", "--force", "--yes")
    assert (world.configuration(), world.peers(), world.services()) == (None, [], [])
    assert not world.vm("web")["metadata"].get("annotations")


def test_another_asn_is_refused_with_both_numbers_and_nothing_is_made(world: World) -> None:
    before = world.calico("BGPConfiguration", "default", {"asNumber": 64999})
    said = world.yoshi.refused("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    assert "64999" in said
    assert "64514" in said
    assert world.configuration() == before
    assert world.peers() == []
    assert get(world.cluster, "networkwizards", namespace=world.namespace)["items"] == []


def test_an_asn_is_set_where_there_was_none_and_taken_back_with_the_last_network(world: World) -> None:
    before = world.calico("BGPConfiguration", "default", {"nodeToNodeMeshEnabled": True})
    for name, cidr in (("one", "203.0.113.0/28"), ("two", "203.0.113.16/28")):
        world.yoshi.done("network", "create", name, "--plugin", "public", "--cidr", cidr, *BGP)
    assert len(world.peers()) == 1  # they share the router
    world.yoshi.done("network", "delete", "one")
    configuration = world.configuration()
    assert configuration is not None
    assert configuration["spec"]["asNumber"] == 64514
    assert len(world.peers()) == 1
    world.yoshi.done("network", "delete", "two")
    after = world.configuration()
    assert after is not None
    assert after["spec"] == before["spec"]
    assert not after["metadata"].get("annotations")
    assert world.peers() == []


def test_an_asn_beyond_calicos_limit_is_refused_with_the_limit(world: World) -> None:
    said = world.yoshi.refused(
        "network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28",
        "--peer", "10.240.0.5", "--my-asn", "4200000001", "--remote-asn", "64512",
    )  # fmt: skip
    assert "2147483647" in said
    assert "4200000001" in said


def test_somebody_elses_peer_is_used_where_it_says_the_same_and_stays(world: World) -> None:
    theirs = world.calico("BGPPeer", "rack-1", {"peerIP": "10.240.0.5", "asNumber": 64512})
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    assert world.peers() == [theirs]
    world.yoshi.done("network", "delete", "pub")
    assert world.peers() == [theirs]


def test_somebody_elses_peer_that_says_something_else_is_refused(world: World) -> None:
    theirs = world.calico("BGPPeer", "rack-1", {"peerIP": "10.240.0.5:179", "asNumber": 65000})
    said = world.yoshi.refused("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    assert "bgppeer/rack-1" in said
    assert "65000" in said
    assert world.peers() == [theirs]


def test_the_original_readmes_network_is_taken_as_it_is(world: World) -> None:
    world.yoshi.done("network", "create", "-f", "-", input=README_NETWORK)
    assert [peer["spec"]["peerIP"] for peer in world.peers()] == ["10.240.0.4", "10.240.0.5"]
    world.vms("web")
    assert "207.97.241.193" in world.yoshi.done("vm", "attach", "web", "--public-network", "publicnetwork")


def test_a_covering_cidr_of_somebody_else_is_told(world: World) -> None:
    spec = {"asNumber": 64514, "serviceLoadBalancerIPs": [{"cidr": "203.0.113.0/24"}]}
    world.calico("BGPConfiguration", "default", spec)
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    world.vms("web")
    ran = world.yoshi.run("vm", "attach", "web", "--public-network", "pub")
    assert ran.code == 0
    assert "every node announces 203.0.113.0/24" in ran.err
    assert "serviceLoadBalancerAggregation: Disabled" in ran.err
    assert world.listed() == ["203.0.113.0/24", "203.0.113.1/32"]


def test_an_entry_that_was_there_before_is_not_ours_to_remove(world: World) -> None:
    world.calico("BGPConfiguration", "default", {"serviceLoadBalancerIPs": [{"cidr": "203.0.113.1/32"}]})
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    world.vms("web")
    world.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    assert world.listed() == ["203.0.113.1/32"]
    world.yoshi.done("network", "delete", "pub", "--force", "--yes")
    assert world.listed() == ["203.0.113.1/32"]


def test_the_originals_external_ips_are_a_way_too(world: World) -> None:
    args = ("--plugin", "public", "--cidr", "203.0.113.0/28", "--via", "external-ips")
    world.yoshi.done("network", "create", "pub", *args, *BGP)
    world.vms("web")
    world.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    [service] = world.services()
    assert service["spec"]["type"] == "ClusterIP"
    assert service["spec"]["externalIPs"] == ["203.0.113.1"]
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert (world.listed("serviceExternalIPs"), world.listed()) == (["203.0.113.1/32"], [])
    world.yoshi.done("vm", "detach", "web", "--public-network", "pub")
    assert (world.listed("serviceExternalIPs"), world.services()) == ([], [])


def test_a_vm_that_was_deleted_leaves_nothing_after_gc(world: World) -> None:
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    world.vms("web-1", "web-2")
    world.yoshi.done("vm", "attach", "web-1", "web-2", "--public-network", "pub")
    world.cluster.kubectl("-n", world.namespace, "delete", "vm", "web-1")
    world.cluster.kubectl(
        "-n", world.namespace, "wait", "--for=delete", "--timeout=60s", "services",
        "-l", "plumber.k8s.pf9.io/networkUID", "--field-selector", f"metadata.name={service_of(world, 'web-1')}",
    )  # fmt: skip
    world.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    assert [record["name"] for record in world.records("pub").values()] == ["web-2"]
    assert world.listed() == [f"{next(iter(world.records('pub')))}/32"]


def test_a_service_that_came_after_its_record_was_given_back_is_taken_away_by_gc(raw: World) -> None:
    """A run that was slow or killed may make it so late; gc sees that no record speaks for it."""
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    raw.vms("web-1", "web-2")
    raw.yoshi.done("vm", "attach", "web-1", "web-2", "--public-network", "pub")
    late = next(s for s in raw.services() if s["metadata"]["ownerReferences"][0]["name"] == "web-1")
    raw.yoshi.done("vm", "detach", "web-1", "--public-network", "pub")
    for key in ("uid", "resourceVersion", "creationTimestamp"):
        del late["metadata"][key]
    del late["status"]
    make(raw.cluster, late)
    assert late["metadata"]["name"] in raw.yoshi.done("ips", "check", code=1)
    raw.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    assert [s["metadata"]["ownerReferences"][0]["name"] for s in raw.services()] == ["web-2"]
    assert [record["name"] for record in raw.records("pub").values()] == ["web-2"]
    assert raw.listed() == [f"{next(iter(raw.records('pub')))}/32"]


def service_of(world: World, name: str) -> str:
    """The name of a VM's Service, or of none once it is gone."""
    for service in world.services():
        if any(owner["name"] == name for owner in service["metadata"].get("ownerReferences", [])):
            return str(service["metadata"]["name"])
    return "gone"


def test_a_network_deleted_behind_our_back_leaves_nothing_after_gc(world: World) -> None:
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    world.vms("web")
    world.yoshi.done("vm", "attach", "web", "--public-network", "pub")
    world.cluster.kubectl("-n", world.namespace, "delete", "networkwizard", "pub")
    world.yoshi.done("ips", "gc", "-A", "--grace", "0s", "--yes")
    assert (world.configuration(), world.peers(), world.services()) == (None, [], [])


def version(obj: Json | None) -> str:
    assert obj is not None
    return str(obj["metadata"]["resourceVersion"])


# -- many at once, killed, moved -------------------------------------------------------------------------------------


def consistent(world: World, network: str) -> dict[str, str]:
    """Address -> VM by the ledger, after it was compared with Services and with Calico's list."""
    records = {address: record["name"] for address, record in world.records(network).items()}
    carried = {}
    for service in world.services():
        address = service["metadata"]["annotations"]["plumber.k8s.pf9.io/publicIP"]
        assert address not in carried
        carried[address] = service["metadata"]["ownerReferences"][0]["name"]
        assert [entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]] == [address]
    assert carried == records
    assert len(set(records.values())) == len(records)
    listed = world.listed()
    assert sorted(listed) == sorted(f"{address}/32" for address in records)
    return records


def test_twenty_vms_get_public_addresses_by_one_command(world: World) -> None:
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/27", *BGP)
    names = [f"web-{number}" for number in range(20)]
    world.vms(*names, labels={"app": "web"})
    world.yoshi.done("vm", "attach", "-l", "app=web", "--public-network", "pub")
    assert sorted(consistent(world, "pub").values()) == sorted(names)
    world.yoshi.done("vm", "detach", "-l", "app=web", "--public-network", "pub")
    assert consistent(world, "pub") == {}


def test_eight_processes_on_one_small_pool_give_no_address_twice(raw: World) -> None:
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/29", *BGP)
    names = [f"web-{number}" for number in range(8)]
    raw.vms(*names)
    runs = raw.yoshi.together(*(["vm", "attach", name, "--public-network", "pub"] for name in names))
    assert sorted(ran.code for ran in runs) == [0] * 6 + [1] * 2, "\n".join(map(str, runs))
    assert all("full" in ran.err for ran in runs if ran.code)
    winners = {ran.args[2] for ran in runs if not ran.code}
    assert set(consistent(raw, "pub").values()) == winners


def test_the_same_vm_attached_by_eight_processes_has_one_service(raw: World) -> None:
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    raw.vms("web")
    runs = raw.yoshi.together(*[["vm", "attach", "web", "--public-network", "pub"]] * 8)
    assert all(ran.code == 0 for ran in runs), "\n".join(map(str, runs))
    assert list(consistent(raw, "pub").values()) == ["web"]


def test_a_run_that_was_killed_is_finished_by_the_same_command(raw: World) -> None:
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/26", *BGP)
    names = [f"web-{number}" for number in range(12)]
    raw.vms(*names)
    attach = ["vm", "attach", *names, "--public-network", "pub"]
    detach = ["vm", "detach", *names, "--public-network", "pub"]
    killed = 0
    for words, wanted in ((attach, names), (detach, []), (attach, names)):
        for step in range(1, 9):
            killed += raw.yoshi.together(Run(tuple(words), kill_after=0.05 * step))[0].killed
        raw.yoshi.done(*words)
        assert sorted(consistent(raw, "pub").values()) == sorted(wanted)
    assert killed


def test_an_address_is_moved_with_its_ports_and_moving_it_again_changes_nothing(world: World) -> None:
    world.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    world.vms("web-1", "web-2", "web-3")
    world.yoshi.done("vm", "attach", "web-1", "--public-network", "pub", "--ip", "203.0.113.5", "--port", "8443")
    assert "203.0.113.5 is not free" in world.yoshi.refused("vm", "attach", "web-2", "--public-ip", "203.0.113.5")
    world.yoshi.done("ips", "move", "203.0.113.5", "--to", "web-2")
    assert consistent(world, "pub") == {"203.0.113.5": "web-2"}
    assert [port["port"] for port in world.services()[0]["spec"]["ports"]] == [8443]
    assert not world.vm("web-1")["metadata"].get("annotations")
    before = version(world.services()[0])
    assert "unchanged" in world.yoshi.done("ips", "move", "203.0.113.5", "--to", "web-2")
    assert version(world.services()[0]) == before
    world.yoshi.done("vm", "attach", "web-3", "--public-network", "pub")
    said = world.yoshi.refused("ips", "move", "203.0.113.5", "--to", "web-3")
    assert "already has 203.0.113.1" in said
    assert "nobody's" in world.yoshi.refused("ips", "move", "203.0.113.9", "--to", "web-3")
    world.yoshi.done("ips", "reserve", "pub", "203.0.113.9")
    assert "reserved" in world.yoshi.refused("ips", "move", "203.0.113.9", "--to", "web-3")


def test_a_killed_move_is_finished_by_the_same_command(raw: World) -> None:
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    raw.vms("web-0", "web-1")
    raw.yoshi.done("vm", "attach", "web-0", "--public-network", "pub")
    killed = 0
    for step in range(1, 13):
        words = ("ips", "move", "203.0.113.1", "--to", f"web-{step % 2}")
        killed += raw.yoshi.together(Run(words, kill_after=0.04 + 0.02 * step))[0].killed
        assert len(raw.services()) <= 1
        raw.yoshi.done(*words)
        assert consistent(raw, "pub") == {"203.0.113.1": f"web-{step % 2}"}
    assert killed


# -- without a CIDR, and by MetalLB ----------------------------------------------------------------------------------


def test_a_network_without_a_cidr_takes_addresses_that_are_named(raw: World) -> None:
    raw.yoshi.done("network", "create", "elastic", "--plugin", "public", *BGP)
    raw.vms("web-1", "web-2", "web-3")
    raw.yoshi.done("vm", "attach", "web-1", "--public-ip", "198.51.100.7")
    raw.yoshi.done("vm", "attach", "web-2", "--public-network", "elastic", "--ip", "2001:db8::7")
    assert raw.listed() == ["198.51.100.7/32", "2001:db8::7/128"]
    assert sorted(raw.records("elastic")) == ["198.51.100.7", "2001:db8::7"]
    families = {
        service["metadata"]["ownerReferences"][0]["name"]: service["spec"]["ipFamilies"] for service in raw.services()
    }
    assert families == {"web-1": ["IPv4"], "web-2": ["IPv6"]}
    assert "no cidr" in raw.yoshi.refused("vm", "attach", "web-3", "--public-network", "elastic")
    assert "not free" in raw.yoshi.refused("vm", "attach", "web-3", "--public-ip", "198.51.100.7")
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    said = raw.yoshi.refused("vm", "attach", "web-3", "--public-network", "elastic", "--ip", "203.0.113.4")
    assert "is of network" in said
    raw.yoshi.done("vm", "attach", "web-3", "--public-ip", "203.0.113.4")
    assert list(raw.records("pub")) == ["203.0.113.4"]
    raw.yoshi.done("network", "delete", "elastic", "pub", "--force", "--yes")
    assert (raw.configuration(), raw.peers(), raw.services()) == (None, [], [])


def metallb(world: World) -> dict[str, Json]:
    """ "kind/name" -> spec, of everything of MetalLB's in its namespace."""
    kinds = "ipaddresspools,l2advertisements,bgpadvertisements,bgppeers.metallb.io"
    items = get(world.cluster, kinds, namespace="metallb-system")["items"]
    return {f"{item['kind']}/{item['metadata']['name']}": item["spec"] for item in items}


def test_without_bgp_metallb_announces_on_the_lan(raw: World) -> None:
    args = ("--plugin", "public", "--cidr", "203.0.113.0/28", "--interface", "eth1", "--node-selector", "edge=yes")
    raw.yoshi.done("network", "create", "lan", *args)
    name = f"{raw.namespace}.lan"
    assert metallb(raw) == {
        f"IPAddressPool/{name}": {"addresses": ["203.0.113.0/28"], "autoAssign": False, "avoidBuggyIPs": False},
        f"L2Advertisement/{name}": {
            "ipAddressPools": [name],
            "interfaces": ["eth1"],
            "nodeSelectors": [{"matchLabels": {"edge": "yes"}}],
        },
    }
    raw.vms("web")
    raw.yoshi.done("vm", "attach", "web", "--public-network", "lan")
    [service] = raw.services()
    assert service["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] == "203.0.113.1"
    assert "loadBalancerClass" not in service["spec"]
    assert raw.configuration() is None
    raw.yoshi.done("network", "delete", "lan", "--force", "--yes")
    assert (metallb(raw), raw.services()) == ({}, [])


def test_with_bgp_metallb_speaks_to_the_routers_it_is_told(raw: World) -> None:
    peers = ("--peer", "10.240.0.5,multihop", "--peer", "2001:db8::5,password-secret=router")
    asns = ("--my-asn", "4200000001", "--remote-asn", "4200000002", "--announce", "metallb-bgp")
    raw.yoshi.done("network", "create", "six", "--plugin", "public", "--cidr", "2001:db8:1::/64", *peers, *asns)
    name = f"{raw.namespace}.six"
    found = metallb(raw)
    v6 = "yoshi-2001-0db8-0000-0000-0000-0000-0000-0005"
    assert found[f"BGPAdvertisement/{name}"] == {
        "ipAddressPools": [name],
        "peers": ["yoshi-10.240.0.5", v6],
        "aggregationLength": 32,
        "aggregationLengthV6": 128,
    }
    common = {"myASN": 4200000001, "peerASN": 4200000002}
    for key, wanted in (
        ("yoshi-10.240.0.5", {**common, "peerAddress": "10.240.0.5", "ebgpMultiHop": True}),
        (v6, {**common, "peerAddress": "2001:db8::5", "passwordSecret": {"name": "router"}}),
    ):
        spec = found[f"BGPPeer/{key}"]
        assert {field: spec.get(field) for field in wanted} == wanted
    raw.vms("web")
    raw.yoshi.done("vm", "attach", "web", "--public-network", "six", "--ip", "2001:db8:1::5")
    assert raw.services()[0]["spec"]["ipFamilies"] == ["IPv6"]
    raw.yoshi.done("network", "delete", "six", "--force", "--yes")
    assert metallb(raw) == {}


def test_metallbs_pools_of_others_are_not_overlapped_but_used_where_they_say_the_same(raw: World) -> None:
    def pool(name: str, **spec: Any) -> Json:
        metadata = {"name": name, "namespace": "metallb-system"}
        return {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata, "spec": spec}

    make(raw.cluster, pool("theirs", addresses=["203.0.113.8-203.0.113.20"]))
    for extra in ((), BGP):
        said = raw.yoshi.refused("network", "create", "a", "--plugin", "public", "--cidr", "203.0.113.0/28", *extra)
        assert "ipaddresspool/theirs" in said
    make(raw.cluster, pool("same", addresses=["198.51.100.0-198.51.100.15"], autoAssign=False))
    raw.yoshi.done("network", "create", "b", "--plugin", "public", "--cidr", "198.51.100.0/28")
    assert metallb(raw)[f"L2Advertisement/{raw.namespace}.b"]["ipAddressPools"] == ["same"]
    raw.yoshi.done("network", "delete", "b")
    assert set(metallb(raw)) == {"IPAddressPool/theirs", "IPAddressPool/same"}


def test_without_a_cidr_metallb_has_a_pool_for_each_address(raw: World) -> None:
    raw.yoshi.done("network", "create", "elastic", "--plugin", "public")
    raw.vms("web-1", "web-2")
    for number in (1, 2):
        raw.yoshi.done("vm", "attach", f"web-{number}", "--public-ip", f"198.51.100.{number}")
    pools = [spec["addresses"] for key, spec in metallb(raw).items() if key.startswith("IPAddressPool/")]
    assert sorted(pools) == [["198.51.100.1/32"], ["198.51.100.2/32"]]
    uid = get(raw.cluster, "networkwizard", "elastic", namespace=raw.namespace)["metadata"]["uid"]
    selector = metallb(raw)[f"L2Advertisement/{raw.namespace}.elastic"]["ipAddressPoolSelectors"]
    assert selector == [{"matchLabels": {"plumber.k8s.pf9.io/networkUID": uid}}]
    raw.yoshi.done("vm", "detach", "web-1", "--public-network", "elastic")
    pools = [spec["addresses"] for key, spec in metallb(raw).items() if key.startswith("IPAddressPool/")]
    assert pools == [["198.51.100.2/32"]]
    raw.yoshi.done("network", "delete", "elastic", "--force", "--yes")
    assert metallb(raw) == {}


def test_overlaps_with_other_networks_and_pools_of_calico_are_refused(raw: World) -> None:
    raw.yoshi.done("network", "create", "blue", "--plugin", "calico", "--cidr", "10.77.0.0/24")
    said = raw.yoshi.refused("network", "create", "pub", "--plugin", "public", "--cidr", "10.77.0.0/28", *BGP)
    assert "overlaps" in said
    raw.yoshi.done("network", "delete", "blue")


def test_public_is_never_chosen_unasked(raw: World) -> None:
    said = raw.yoshi.refused("network", "create", "pub", "--cidr", "203.0.113.0/28", *BGP, code=2)
    assert "--plugin public" in said


# -- rights, unknown fields, both at once ----------------------------------------------------------------------------


def test_a_private_and_a_public_address_come_by_one_command(raw: World) -> None:
    raw.yoshi.done("network", "create", "blue", "--plugin", "calico", "--cidr", "10.78.0.0/24")
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    unknown = {"updateVolumesStrategy": "Migration"}
    make(raw.cluster, vm(raw.namespace, "web", annotations={"mine": "stays"}, **unknown))
    out = raw.yoshi.done("vm", "attach", "web", "--network", "blue", "--public-network", "pub", "--ip", "10.78.0.9")
    assert "attached to blue: 10.78.0.9" in out
    assert "attached to pub: 203.0.113.1" in out
    told = raw.vm("web")
    assert told["spec"]["updateVolumesStrategy"] == "Migration"
    assert told["metadata"]["annotations"]["mine"] == "stays"
    rows = raw.yoshi.done("ips", "list", "-o", "wide")
    assert "203.0.113.1" in rows
    assert "calico-bgp" in rows
    raw.yoshi.done("vm", "detach", "web", "--network", "blue", "--public-network", "pub")
    assert raw.vm("web")["metadata"]["annotations"] == {"mine": "stays"}
    raw.yoshi.done("network", "delete", "blue", "pub")


def test_who_may_not_finish_leaves_nothing_behind(raw: World) -> None:
    raw.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", "203.0.113.0/28", *BGP)
    raw.vms("web")
    where = ("-n", raw.namespace)
    raw.cluster.kubectl(*where, "create", "rolebinding", "tenant", "--clusterrole=yoshi-user", "--user=tenant")
    raw.cluster.kubectl(
        "create", "clusterrolebinding", f"{raw.namespace}-looks", "--clusterrole=yoshi-admin", "--user=nobody-else"
    )
    said = raw.yoshi.run("--as", "tenant", "vm", "attach", "web", "--public-network", "pub")
    raw.cluster.kubectl("delete", "clusterrolebinding", f"{raw.namespace}-looks")
    assert said.code == 1
    assert "bgpconfigurations" in said.err
    assert (raw.services(), raw.records("pub"), raw.listed()) == ([], {}, [])
    assert not raw.vm("web")["metadata"].get("annotations")
