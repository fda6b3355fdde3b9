"""The scene of the tests of public networks: a cluster, and a namespace of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, delete_all, ensure, find, get, make, make_vms

Json = dict[str, Any]

METALLB = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metallb-system"}}
METALLB_KINDS = ("ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers.metallb.io")
BGP = ("--peer", "10.240.0.5", "--my-asn", "64514", "--remote-asn", "64512")


@dataclass
class PublicScene:
    """A cluster, and a namespace of the test's own."""

    cluster: Cluster
    yoshi: Yoshi
    namespace: str
    group: str

    def one(self, kind: str, name: str) -> Json | None:
        """Return a cluster-wide object of Calico; None if it does not exist."""
        return find(self.cluster, f"{kind}.{self.group}", name)

    def calico(self, kind: str, name: str, spec: Json) -> Json:
        """Create a foreign object."""
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


def open_public_scene(cluster: Cluster, forks: ForkServer, namespace: str, group: str) -> Iterator[PublicScene]:
    """Open a scene; at the end nothing of public networks is left in the cluster."""
    ensure(cluster, METALLB)
    yield PublicScene(cluster, Yoshi(cluster.kubeconfig, cluster.context, forks, namespace), namespace, group)
    delete_all(cluster, "services", "vm", namespace=namespace)
    cluster.api.delete(cluster.api.find_resource("networkwizards").path(namespace))
    delete_all(cluster, f"bgppeers.{group}", f"bgpconfigurations.{group}")
    delete_all(cluster, *METALLB_KINDS, namespace="metallb-system")


def version(obj: Json | None) -> str:
    assert obj is not None
    return str(obj["metadata"]["resourceVersion"])
