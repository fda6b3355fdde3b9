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
import re
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lab
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, find, fork_server, get
from tests.cluster.killing import open_proxied_program
from tests.cluster.legacy_fixtures import README_PUBLIC
from tests.waiting import wait_for

Json = dict[str, Any]


@dataclass
class PublicLab:
    """A full lab with a namespace of the test's own."""

    lab: lab.Lab
    cluster: Cluster
    yoshi: Yoshi
    namespace: str

    def kubectl(self, *args: str, input: str | None = None) -> str:
        return self.lab.kubectl("-n", self.namespace, *args, input=input)

    def get(self, kind: str, name: str = "") -> Json:
        return get(self.cluster, kind, name, namespace=self.namespace)

    def create_network(self, cidr: str, router: str) -> None:
        """Create public network pub, announced by BGP to this router."""
        self.yoshi.done("network", "create", "pub", "--plugin", "public", "--cidr", cidr, *bgp(router))

    def vms(
        self, *names: str, strategy: str = "Always", node: str = "", pod_address: str = "", **metadata: Any
    ) -> None:
        """Creates VMs, and waits until they run. Their pods have an IPv4 address unless another one is named."""
        pinned = {"annotations": {"cni.projectcalico.org/ipAddrs": json.dumps([pod_address])}} if pod_address else {}
        selector = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
        template: Json = {
            "domain": {
                "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
                "memory": {"guest": "128Mi"},
            },
            "networks": [{"name": "default", "pod": {}}],
            **selector,
        }
        items = [
            {
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachine",
                "metadata": {"name": name, **metadata},
                "spec": {"runStrategy": strategy, "template": {"metadata": pinned, "spec": template}},
            }
            for name in names
        ]
        self.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        if strategy == "Always":
            wait_for(lambda: all(self.runs_on(name) for name in names))

    def runs_on(self, name: str) -> str:
        """The node on which a VM runs; "" where it does not, or KubeVirt is still busy with it."""
        told = self.get("vm", name).get("status", {})
        if told.get("printableStatus") != "Running" or told.get("stateChangeRequests"):
            return ""
        found = find(self.cluster, "vmi", name, namespace=self.namespace) or {}
        return str(found.get("status", {}).get("nodeName", ""))

    def is_stopped(self, name: str) -> bool:
        return bool(self.get("vm", name).get("status", {}).get("printableStatus") == "Stopped")

    def call(self, name: str, verb: str) -> None:
        path = f"/apis/subresources.kubevirt.io/v1/namespaces/{self.namespace}/virtualmachines/{name}/{verb}"
        self.lab.kubectl("replace", "--raw", path, "-f", "-", input="{}")

    def send_to(self, name: str, node: str) -> None:
        """Has a VM run on that node, by a restart."""
        patch = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}}}}
        self.kubectl("patch", "vm", name, "--type=merge", "-p", json.dumps(patch))
        self.call(name, "restart")
        wait_for(lambda: self.runs_on(name) == node)

    def hops(self, prefix: str) -> list[str]:
        """The next hops that the router has for a prefix."""
        return routes_to(self, [prefix])[prefix]

    def answers(self, address: str, seconds: int = 10) -> str:
        """The MAC address that answers arping in the router's network namespace; "" where none does in time."""
        ask = ["arping", "-f", "-I", "eth0", "-w", str(seconds), address]
        command = ["ip", "netns", "exec", self.lab.router_namespace, *ask]
        said = subprocess.run(command, check=False, capture_output=True, text=True)
        assert said.returncode in (0, 1), said.stderr
        found = re.search(r"reply from \S+ \[(\S+)\]", said.stdout)
        return found[1].lower() if found else ""

    def lists(self, *words: str) -> bool:
        """Whether a line of `ips list` has all of these words."""
        lines = self.yoshi.done("ips", "list", "-o", "wide").splitlines()
        return any(all(word in line for word in words) for line in lines)

    def records(self, network: str) -> Json:
        return dict(self.get("networkwizard", network)["status"]["allocations"])

    def services(self) -> list[Json]:
        return list(self.get("services")["items"])


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server() as server:
        yield server


def open_public_lab(running: lab.Lab, forks: ForkServer) -> Iterator[PublicLab]:
    namespace = f"public-{time.time_ns()}"
    running.kubectl("create", "namespace", namespace)
    yoshi = Yoshi(running.kubeconfig, "lab", forks, namespace)
    yoshi.done("install")
    public_lab = PublicLab(running, Cluster(running.kubeconfig, "lab"), yoshi, namespace)
    yield public_lab
    public_lab.kubectl("delete", "vm,services", "--all")
    public_lab.kubectl("delete", "networkwizards", "--all", "--wait=false")
    wait_for(lambda: not public_lab.get("networkwizards")["items"])
    yoshi.done("ips", "gc", "-A", "--grace", "0s", "--yes")
    running.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def public_lab(full_lab: lab.Lab, forks: ForkServer) -> Iterator[PublicLab]:
    yield from open_public_lab(full_lab, forks)


@pytest.fixture
def public_lab6(frr_lab: lab.Lab, forks: ForkServer) -> Iterator[PublicLab]:
    yield from open_public_lab(frr_lab, forks)


def bgp(address: str) -> tuple[str, ...]:
    """What makes MetalLB announce to the lab's router, with an ASN that Calico would not take."""
    return ("--announce", "metallb-bgp", "--peer", address, "--my-asn", "4200000001", "--remote-asn", "64513")


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


def follows_its_vm(public_lab: PublicLab, cidr: str, prefix: str, router: str, hop_of: dict[str, str]) -> None:
    """Attach, run on each node, stop, detach: what the router has at each step."""
    public_lab.create_network(cidr, router)
    first, second = (node.name for node in public_lab.lab.nodes)
    # kube-controller-manager gives a Service of IPv6 those pods only that have such an address
    public_lab.vms("web", node=first, pod_address="fd00:10:133::a" if ":" in prefix else "")
    before = public_lab.get("vm", "web")["spec"]
    address = prefix.partition("/")[0]
    public_lab.yoshi.done("vm", "attach", "web", "--public-network", "pub", "--ip", address, "--wait")
    assert public_lab.get("vm", "web")["spec"] == before  # nothing that needs a restart
    wait_for(lambda: public_lab.hops(prefix) == [hop_of[first]])
    public_lab.send_to("web", second)
    wait_for(lambda: public_lab.hops(prefix) == [hop_of[second]])
    wait_for(lambda: public_lab.lists(address, f" {second} "))
    public_lab.call("web", "stop")
    wait_for(lambda: public_lab.hops(prefix) == [])
    assert [record["name"] for record in public_lab.records("pub").values()] == ["web"]
    assert public_lab.services()[0]["status"]["loadBalancer"]["ingress"][0]["ip"] == address
    wait_for(
        lambda: not find(public_lab.cluster, "vmi", "web", namespace=public_lab.namespace),
        "nothing of it runs any more",
    )
    public_lab.call("web", "start")
    wait_for(lambda: public_lab.hops(prefix) == [hop_of[second]])
    public_lab.yoshi.done("vm", "detach", "web", "--public-network", "pub")
    wait_for(lambda: public_lab.hops(prefix) == [])
    assert (public_lab.records("pub"), public_lab.services()) == ({}, [])
    public_lab.yoshi.done("network", "delete", "pub")
    kinds = "ipaddresspools,bgpadvertisements,bgppeers.metallb.io"
    assert public_lab.lab.kubectl("-n", "metallb-system", "get", kinds, "-o", "name") == ""


def test_bgp_route_points_to_the_node_of_the_vm(public_lab: PublicLab) -> None:
    hops = {node.name: node.address for node in public_lab.lab.nodes}
    follows_its_vm(public_lab, "203.0.113.64/28", "203.0.113.70/32", public_lab.lab.router_address, hops)


def test_bgp_ipv6_route_points_to_the_node_of_the_vm(public_lab6: PublicLab) -> None:
    hops = {node.name: node.address6 for node in public_lab6.lab.nodes}
    follows_its_vm(public_lab6, "2001:db8:64::/120", "2001:db8:64::5/128", public_lab6.lab.router_address6, hops)


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


def routes_to(public_lab: PublicLab, prefixes: Collection[str]) -> dict[str, list[str]]:
    """Prefix -> the next hops that the router has for it."""
    routes = public_lab.lab.routes()
    return {prefix: [route.next_hop for route in routes if route.prefix == prefix] for prefix in prefixes}


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
