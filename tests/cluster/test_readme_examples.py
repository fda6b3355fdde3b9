"""The five examples of Platform9 yoshi's README, unchanged, reconciled by `sync -A`; a second one changes nothing.

The network that the last one names is not among them; its name is lower case, as an object's must be. It is in another
namespace, since a VM that names an address and no network must find one public network only in its own.
"""

from __future__ import annotations

import json

import pytest

import lab
from lab.testing import Cluster
from tests.cluster.checker import check
from tests.cluster.harness import ForkServer, Json, Yoshi, get, resource_versions
from tests.cluster.legacy_fixtures import (
    README_CALICO,
    README_PUBLIC,
    README_PUBLIC_IP,
    README_PUBLIC_NETWORK,
    README_VM,
    REST_OF_A_VM,
    vm_with,
)

pytestmark = pytest.mark.I7

KINDS = ("networkwizards", "addressblocks", "virtualmachines", "services", "events")
CONFIGURATION = "bgpconfigurations.crd.projectcalico.org"


def test_sync_reconciles_the_legacy_readme_examples_once(request: pytest.FixtureRequest, forks: ForkServer) -> None:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("syncs all namespaces, so it needs a lab of its own")
    with lab.start() as running:
        cluster = Cluster(running.kubeconfig, "lab")
        yoshi = Yoshi(running.kubeconfig, "lab", forks)
        yoshi.done("install")
        cluster.kubectl("create", "namespace", "shop")
        for text in (README_CALICO, README_PUBLIC, README_VM + REST_OF_A_VM, vm_with("elastic", README_PUBLIC_IP)):
            cluster.kubectl("-n", "default", "apply", "-f", "-", input=text)
        named = README_PUBLIC.replace("publicnetwork", "yoshipublicnetwork").replace("207.97.241.196", "203.0.113.8")
        for text in (named, vm_with("auto", README_PUBLIC_NETWORK)):
            cluster.kubectl("-n", "shop", "apply", "-f", "-", input=text)

        yoshi.done("sync", "-A")
        held = {(row["spec"]["network"], row["spec"]["address"]): row["status"] for row in addresses(yoshi)}
        assert {network for network, _ in held} == {"newarjunpool", "publicnetwork", "yoshipublicnetwork"}
        elastic = held["publicnetwork", "1.2.3.4"]["record"]
        assert (elastic["namespace"], elastic["name"]) == ("default", "elastic")
        assert held["yoshipublicnetwork", "203.0.113.9"]["record"]["name"] == "auto"
        announced = get(cluster, CONFIGURATION, "default")["spec"]["serviceLoadBalancerIPs"]
        assert sorted(entry["cidr"] for entry in announced) == ["1.2.3.4/32", "203.0.113.9/32"]
        status = get(cluster, "networkwizard", "publicnetwork", namespace="default")["status"]
        assert (status["used"], status["free"]) == (1, 6)

        before = versions(cluster)
        assert yoshi.done("sync", "-A") == "unchanged: 3 networks and 3 VMs are as requested\n"
        assert versions(cluster) == before
        assert yoshi.done("ips", "check", "-A") == "3 addresses, all as recorded\n"
        check(cluster, "default", "shop", settled=True)


def addresses(yoshi: Yoshi) -> list[Json]:
    rows: list[Json] = json.loads(yoshi.done("ips", "list", "-A", "-o", "json"))["items"]
    return rows


def versions(cluster: Cluster) -> list[object]:
    shared = get(cluster, CONFIGURATION, "default")["metadata"]["resourceVersion"]
    return [shared, *(resource_versions(cluster, namespace, *KINDS) for namespace in ("default", "shop"))]
