"""A full lab with a namespace for public networks, and what a host on the LAN and a router see of their addresses."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import lab
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, find, get
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


def bgp(address: str) -> tuple[str, ...]:
    """What makes MetalLB announce to the lab's router, with an ASN that Calico would not take."""
    return ("--announce", "metallb-bgp", "--peer", address, "--my-asn", "4200000001", "--remote-asn", "64513")


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


def routes_to(public_lab: PublicLab, prefixes: Collection[str]) -> dict[str, list[str]]:
    """Prefix -> the next hops that the router has for it."""
    routes = public_lab.lab.routes()
    return {prefix: [route.next_hop for route in routes if route.prefix == prefix] for prefix in prefixes}
