"""What Platform9's yoshi left in a cluster, and the forms of its README."""

from __future__ import annotations

import json

from tests.cluster.legacy_fixtures import README_PUBLIC
from tests.golden.cluster import NETWORKS, Cluster, hours, network
from tests.golden.kinds import Kind
from tests.golden.scenario import Run, Scenario
from tests.golden.server import CRDS

CRD = {
    "metadata": {"name": NETWORKS},
    "spec": {
        "group": "plumber.k8s.pf9.io",
        "names": {"kind": "NetworkWizard", "plural": "networkwizards", "singular": "networkwizard"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}},
            }
        ],
    },
}
FINALIZERS = {"finalizers": ["network.plumber.k8s.pf9.io"]}


def left(cluster: Cluster, name: str, cidr: str, allocations: dict[str, str]) -> None:
    """A network, its pool and its VMs as the controller left them."""
    metadata = {"name": name, "namespace": "prod", **FINALIZERS}
    cluster.server.put(
        NETWORKS,
        {
            "metadata": metadata,
            "spec": {"plugin": "calico", "cidr": cidr},
            "status": {"created": True, "allocations": allocations},
        },
    )
    spec = {"cidr": cidr, "vxlanMode": "Always", "ipipMode": "Never", "natOutgoing": True, "nodeSelector": "all()"}
    cluster.put(f"ippools.{cluster.calico}", name, spec=spec)
    for address, vm in allocations.items():
        if not vm.startswith("gone"):
            cluster.vm(vm, annotations={"plumber.k8s.pf9.io/networkName": name}, pin=address)
            cluster.server.edit(
                "virtualmachines.kubevirt.io",
                "prod",
                vm,
                lambda obj: obj["metadata"].update(finalizers=["vm.plumber.k8s.pf9.io"]),
            )


def left_everything(cluster: Cluster) -> None:
    cluster.server.put(CRDS, json.loads(json.dumps(CRD)))
    left(cluster, "small", "10.1.0.0/24", {"10.1.0.1": "a", "10.1.0.9": "gone-1"})
    left(cluster, "large", "10.2.0.0/16", {"10.2.0.1": "b", "10.2.7.7": "c", "10.2.7.9": "gone-2"})


def readme_network(cluster: Cluster) -> None:
    cluster.network("newarjunpool", plugin="calico", cidr="10.133.0.7/24")
    cluster.vm("vmcalicobridge2", annotations={"plumber.k8s.pf9.io/networkName": "newarjunpool"})


def readme_public(cluster: Cluster) -> None:
    cluster.vm("elastic", annotations={"plumber.k8s.pf9.io/publicIP": "207.97.241.194"})
    cluster.vm("named", annotations={"plumber.k8s.pf9.io/publicNetwork": "publicnetwork"})
    cluster.vm("odd", annotations={"plumber.k8s.pf9.io/publicIP": "1.2.3"})


def two_wishes(cluster: Cluster) -> None:
    cluster.vm("many", annotations={"plumber.k8s.pf9.io/networkName": "newarjunpool, dev/far,nowhere"})
    cluster.network("far", "dev", plugin="calico", cidr="10.134.0.0/24")


def unset(cluster: Cluster) -> None:
    cluster.vm("mine", pin="10.133.0.50")


FOREIGN_CRD = Kind("example.com", "v1", "addressblocks", "AddressBlock")

SCENARIOS = [
    Scenario(
        "takeover",
        [
            left_everything,
            Run("network list", note="before"),
            Run("ips list", note="before"),
            "install --dry-run=client",
            "install --dry-run=server",
            "install",
            Run("install", note="again"),
            "network list",
            "ips list",
            "ips check",
            "sync",
            Run("sync", note="again"),
            hours(1),
            "ips gc --yes",
            "vm attach a --network small --ip 10.1.0.77 --replace",
            "network delete large --force --yes",
            "uninstall",
            "uninstall --force --dry-run=client",
            "uninstall --force --yes",
        ],
        {"crds": []},
    ),
    Scenario(
        "annotations of the README",
        [
            readme_network,
            "sync --dry-run=client",
            "sync --dry-run=server",
            "diff sync",
            "sync",
            Run("sync", note="again"),
            Run("network create -f -", stdin=README_PUBLIC),
            readme_public,
            Run("sync", note="public ones"),
            "sync --restart --timeout 30s",
            two_wishes,
            Run("sync -A", note="a list of networks"),
            unset,
            "ips check -A",
            "vm list -A",
        ],
    ),
    Scenario(
        "peers as a text",
        [
            network(
                "publicnetwork",
                plugin="public",
                cidr="207.97.241.196/29",
                bgpConfig={"peers": "10.240.0.5, 10.240.0.4", "remoteASN": 64512, "myASN": 64514},
            ),
            "sync",
            "network describe publicnetwork",
            "network delete publicnetwork",
        ],
    ),
]
