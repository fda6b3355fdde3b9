"""Public addresses on the whole lab: what a host on the LAN and a router outside the cluster see of them.

| announced | attached | VM on another node | stopped | detached |
|---|---|---|---|---|
| on the LAN, by MetalLB | its node answers ARP | – | – | nobody answers |
| by BGP, IPv4 and IPv6 | the router has it by its node | the next hop follows | withdrawn, kept | withdrawn, free |

What Calico's own programs announce is in kubectl_yoshi/backends/public/calico_bgp.py; its objects are tested in
tests/cluster/test_public.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from tests.cluster.harness import ForkServer
from tests.cluster.killing import open_proxied_program
from tests.cluster.legacy_fixtures import README_PUBLIC
from tests.e2e.public_lab import PublicLab, follows_its_vm, open_public_lab, routes_to
from tests.waiting import wait_for


@pytest.fixture
def public_lab(full_lab: lab.Lab, forks: ForkServer) -> Iterator[PublicLab]:
    yield from open_public_lab(full_lab, forks)


def test_node_of_the_vm_answers_arp_until_detach(public_lab: PublicLab) -> None:
    public_lab.yoshi.done("network", "create", "lan", "--plugin", "public", "--cidr", "203.0.113.0/28")
    for node in public_lab.lab.nodes:
        name = f"web-{node.name}"
        public_lab.vms(name, node=node.name)
        out = public_lab.yoshi.done("vm", "attach", name, "--public-network", "lan", "--wait")
        address = out.split()[-1]
        command = ["ip", "netns", "exec", node.network_namespace, "cat", "/sys/class/net/eth0/address"]
        mac = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        wait_for(lambda address=address, mac=mac: public_lab.answers(address) == mac)  # type: ignore[misc]
        wait_for(
            lambda words=(address, "metallb-l2", f" {node.name} "): public_lab.lists(*words),
            "it is known which node announces it",
        )  # type: ignore[misc]
        public_lab.yoshi.done("vm", "detach", name, "--public-network", "lan")
        wait_for(lambda address=address: not public_lab.answers(address, 1))  # type: ignore[misc]
    assert (public_lab.records("lan"), public_lab.services()) == ({}, [])


def test_bgp_route_points_to_the_node_of_the_vm(public_lab: PublicLab) -> None:
    hops = {node.name: node.address for node in public_lab.lab.nodes}
    follows_its_vm(public_lab, "203.0.113.64/28", "203.0.113.70/32", public_lab.lab.router_address, hops)


def test_moved_address_is_announced_from_the_node_of_the_new_vm(public_lab: PublicLab) -> None:
    public_lab.create_network("203.0.113.64/28", public_lab.lab.router_address)
    one, two = public_lab.lab.nodes
    public_lab.vms("web-1", node=one.name)
    public_lab.vms("web-2", node=two.name)
    public_lab.yoshi.done("vm", "attach", "web-1", "--public-ip", "203.0.113.70", "--port", "8443", "--wait")
    wait_for(lambda: public_lab.hops("203.0.113.70/32") == [one.address])
    public_lab.yoshi.done("ips", "move", "203.0.113.70", "--to", "web-2", "--wait")
    wait_for(lambda: public_lab.hops("203.0.113.70/32") == [two.address])
    [service] = public_lab.services()
    assert [port["port"] for port in service["spec"]["ports"]] == [8443]
    assert "unchanged" in public_lab.yoshi.done("ips", "move", "203.0.113.70", "--to", "web-2")


def test_route_is_withdrawn_with_the_deleted_vm(public_lab: PublicLab) -> None:
    public_lab.create_network("203.0.113.64/28", public_lab.lab.router_address)
    public_lab.vms("web")
    public_lab.yoshi.done("vm", "attach", "web", "--public-network", "pub", "--wait")
    wait_for(lambda: public_lab.hops("203.0.113.65/32"))
    public_lab.kubectl("delete", "vm", "web")
    wait_for(lambda: not public_lab.hops("203.0.113.65/32") and not public_lab.services())
    public_lab.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    assert public_lab.records("pub") == {}


def test_metallb_event_is_in_the_error_and_nothing_is_left(public_lab: PublicLab) -> None:
    public_lab.yoshi.done("network", "create", "lan", "--plugin", "public", "--cidr", "203.0.113.0/28")
    public_lab.vms("web", strategy="Halted")
    other = json.dumps({"spec": {"addresses": ["198.51.100.0/27"]}})
    pool = ("ipaddresspool", f"{public_lab.namespace}.lan")
    metallb = ("-n", "metallb-system")
    public_lab.lab.kubectl(*metallb, "patch", *pool, "--type=merge", "-p", other)
    free = (*metallb, "get", *pool, "-o", "jsonpath={.status.availableIPv4}")
    wait_for(lambda: public_lab.lab.kubectl(*free) == "32", "MetalLB has taken the other addresses")
    said = public_lab.yoshi.refused("vm", "attach", "web", "--public-network", "lan", "--wait")
    assert "could not wait until MetalLB has assigned 203.0.113.1 to service/" in said
    assert "not allowed in config" in said
    assert (public_lab.records("lan"), public_lab.services()) == ({}, [])
    assert not [key for key in public_lab.get("vm", "web")["metadata"].get("annotations", {}) if "plumber" in key]


def test_attach_of_ten_vms_is_idempotent_and_completes_after_a_kill(public_lab: PublicLab, tmp_path: Path) -> None:
    public_lab.create_network("203.0.113.64/26", public_lab.lab.router_address)
    names = [f"web-{number}" for number in range(10)]
    public_lab.vms(*names, labels={"app": "web"})
    attach = ("vm", "attach", "-l", "app=web", "--public-network", "pub")
    with open_proxied_program(public_lab.yoshi, tmp_path) as between:
        assert all(between.is_killed(writes, *attach) for writes in (0, 1, 2, 5))
    public_lab.yoshi.done(*attach, "--wait")
    records = {address: record["name"] for address, record in public_lab.records("pub").items()}
    carried = {
        service["status"]["loadBalancer"]["ingress"][0]["ip"]: service["metadata"]["ownerReferences"][0]["name"]
        for service in public_lab.services()
    }
    assert carried == records
    assert sorted(records.values()) == sorted(names)
    hops = {node.name: node.address for node in public_lab.lab.nodes}
    wanted = {f"{address}/32": [hops[public_lab.runs_on(name)]] for address, name in records.items()}
    wait_for(lambda: routes_to(public_lab, wanted) == wanted)
    assert public_lab.yoshi.done(*attach).count("(unchanged)") == 10


def test_eight_processes_on_a_small_pool_leave_it_consistent(public_lab: PublicLab) -> None:
    public_lab.create_network("203.0.113.64/29", public_lab.lab.router_address)
    names = [f"web-{number}" for number in range(8)]
    public_lab.vms(*names, strategy="Halted")
    runs = public_lab.yoshi.together(*(["vm", "attach", name, "--public-network", "pub", "--wait"] for name in names))
    assert sorted(ran.code for ran in runs) == [0] * 6 + [1] * 2, "\n".join(map(str, runs))
    given = [service["status"]["loadBalancer"]["ingress"][0]["ip"] for service in public_lab.services()]
    assert sorted(given) == sorted(public_lab.records("pub"))
    assert len(set(given)) == 6


def test_sync_of_the_legacy_readme_is_idempotent(public_lab: PublicLab) -> None:
    public_lab.kubectl("create", "-f", "-", input=README_PUBLIC)
    named = README_PUBLIC.replace("publicnetwork", "yoshipublicnetwork").replace("207.97.241.196/29", "203.0.113.64/28")
    public_lab.kubectl("create", "-f", "-", input=named)
    without = {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "NetworkWizard",
        "metadata": {"name": "elastic"},
        "spec": json.loads(public_lab.kubectl("get", "networkwizard", "publicnetwork", "-o", "json"))["spec"],
    }
    del without["spec"]["cidr"]
    public_lab.kubectl("create", "-f", "-", input=json.dumps(without))
    public_lab.vms("web-1", strategy="Halted", annotations={"plumber.k8s.pf9.io/publicIP": "1.2.3.4"})
    public_lab.vms("web-2", strategy="Halted", annotations={"plumber.k8s.pf9.io/publicNetwork": "yoshiPublicNetwork"})
    wait_for(lambda: all(public_lab.is_stopped(name) for name in ("web-1", "web-2")), "KubeVirt has told of both")
    public_lab.yoshi.done("sync")
    assert [record["name"] for record in public_lab.records("elastic").values()] == ["web-1"]
    assert [record["name"] for record in public_lab.records("yoshipublicnetwork").values()] == ["web-2"]
    listed = json.loads(
        public_lab.lab.kubectl("get", "bgpconfigurations.crd.projectcalico.org", "default", "-o", "json")
    )
    assert sorted(entry["cidr"] for entry in listed["spec"]["serviceLoadBalancerIPs"]) == [
        "1.2.3.4/32",
        "203.0.113.65/32",
    ]
    kinds = "networkwizards,services,vm,bgpconfigurations.crd.projectcalico.org,bgppeers.crd.projectcalico.org"

    def versions() -> list[str]:
        found = json.loads(public_lab.kubectl("get", kinds, "-o", "json"))["items"]
        return [item["metadata"]["uid"] + item["metadata"]["resourceVersion"] for item in found]

    before = versions()
    public_lab.yoshi.done("sync")
    assert versions() == before
