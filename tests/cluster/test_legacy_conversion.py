"""`install` on a cluster with Platform9 yoshi: its CRD is replaced, its allocations and networks stay.

Platform9 yoshi's CRD is the real one where LAB_CRDS has it, else a copy of what of its schema matters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

import lab
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Json, Yoshi, get, make, patch, vm
from tests.cluster.killing import ProxiedProgram
from tests.cluster.legacy_fixtures import ORIGINAL_CRD, original_crd
from tests.waiting import wait_for

pytestmark = [pytest.mark.I6, pytest.mark.I7]

NETWORK_NAME = "plumber.k8s.pf9.io/networkName"
PIN, MAC = "cni.projectcalico.org/ipAddrs", "cni.projectcalico.org/hwAddr"
VM_FINALIZER, NETWORK_FINALIZER = "vm.plumber.k8s.pf9.io", "network.plumber.k8s.pf9.io"
MANY = 120


@pytest.fixture
def theirs(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of the test's own with Platform9 yoshi's CRD."""
    if request.config.getoption("cluster") != "lab":
        pytest.skip("replaces the CRD, so it needs a lab of its own")
    with lab.start() as running:
        cluster = Cluster(running.kubeconfig, "lab")
        cluster.kubectl("create", "-f", "-", input=original_crd().decode())
        wait_for(
            lambda: ("plumber.k8s.pf9.io", "networkwizards") in running.api.list_served_resources(), "the CRD is served"
        )
        yield cluster


@pytest.fixture
def yoshi(theirs: Cluster, forks: ForkServer) -> Yoshi:
    return Yoshi(theirs.kubeconfig, theirs.context, forks, "default")


def network(cluster: Cluster, name: str, cidr: str, allocations: dict[str, str]) -> None:
    """A network and its pool as Platform9 yoshi left them."""
    metadata = {"name": name, "namespace": "default", "finalizers": [NETWORK_FINALIZER]}
    kind = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard"}
    pool = {"cidr": cidr, "vxlanMode": "Always", "ipipMode": "Never", "natOutgoing": True, "nodeSelector": "all()"}
    make(
        cluster,
        {**kind, "metadata": metadata, "spec": {"plugin": "calico", "cidr": cidr}},
        {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": pool},
    )
    status = {"status": {"created": True, "allocations": allocations}}
    patch(cluster, "networkwizard", name, status, namespace="default", subresource="status")


def machines(cluster: Cluster, network: str, **addresses: str) -> dict[str, str]:
    """VMs as Platform9 yoshi left them; gives their uids."""
    objects = []
    for number, (name, address) in enumerate(addresses.items()):
        pins = {PIN: json.dumps([address]), MAC: f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"}
        obj = vm("default", name, annotations={NETWORK_NAME: network}, template_annotations=pins)
        obj["metadata"]["finalizers"] = [VM_FINALIZER]
        objects.append(obj)
    return {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in make(cluster, *objects)}


def in_status(cluster: Cluster, name: str) -> Json:
    found = get(cluster, "networkwizard", name, namespace="default")["status"]
    return dict(found.get("allocations") or {})


def in_blocks(cluster: Cluster, name: str) -> Json:
    blocks = get(cluster, "addressblocks", namespace="default")["items"]
    mine = [block for block in blocks if block["spec"]["network"] == name]
    return {key: value for block in mine for key, value in (block.get("status", {}).get("allocations") or {}).items()}


def must_be_the_originals(theirs: Cluster) -> None:
    """The CRD of the lab has the fields of Platform9 yoshi's that matter here."""
    crd = get(theirs, "crd", "networkwizards.plumber.k8s.pf9.io")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    copy = yaml.safe_load(ORIGINAL_CRD)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert {*schema["spec"]["properties"]} == {*copy["spec"]["properties"]}
    assert schema["status"]["properties"]["allocations"]["additionalProperties"] == {"type": "string"}


def test_install_converts_all_legacy_objects(theirs: Cluster, yoshi: Yoshi) -> None:
    must_be_the_originals(theirs)
    network(theirs, "small", "10.1.0.0/24", {"10.1.0.1": "a", "10.1.0.9": "gone"})
    network(theirs, "large", "10.2.0.0/16", {"10.2.0.1": "b", "10.2.7.7": "c", "10.2.7.9": "gone"})
    uids = machines(theirs, "small", a="10.1.0.1") | machines(theirs, "large", b="10.2.0.1", c="10.2.7.7")

    shown = yoshi.run("install", "--dry-run=server")
    assert shown.code == 0, str(shown)
    assert "(server dry run): record 10.1.0.1 for default/a" in shown.err
    assert in_status(theirs, "small") == {"10.1.0.1": "a", "10.1.0.9": "gone"}

    ran = yoshi.run("install")
    assert ran.code == 0, str(ran)
    assert "network default/small: 1 record of Platform9 yoshi taken over" in ran.err
    assert "network default/large: 2 records of Platform9 yoshi taken over" in ran.err
    assert "default/large does not convert 10.2.7.9 of gone" in ran.err
    small = in_status(theirs, "small")
    assert small["10.1.0.9"] == "gone"
    record = small["10.1.0.1"]
    assert (record["kind"], record["namespace"], record["name"]) == ("VirtualMachine", "default", "a")
    assert (record["uid"], record["mac"]) == (uids["a"], "02:00:00:00:00:00")
    assert in_status(theirs, "large") == {"10.2.7.9": "gone"}
    large = in_blocks(theirs, "large")
    assert {address: record["uid"] for address, record in large.items()} == {
        "10.2.0.1": uids["b"], "10.2.7.7": uids["c"],
    }  # fmt: skip

    # It is a working cluster now: Platform9 yoshi's pools serve, VMs keep their addresses, and everything can go.
    assert yoshi.done("sync").count("is ready") == 2
    assert "unchanged: 2 networks and 3 VMs" in yoshi.done("sync")
    again = yoshi.run("install")
    assert "taken over" not in again.err
    theirs.kubectl("delete", "vm", "a", "b", "c", "--timeout=120s")
    yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    assert in_status(theirs, "small") == in_status(theirs, "large") == in_blocks(theirs, "large") == {}
    yoshi.done("network", "delete", "small", "large")


def test_killed_conversion_leaves_no_address_without_an_allocation(theirs: Cluster, proxied: ProxiedProgram) -> None:
    held = {f"10.2.{n // 4}.{n % 4 + 1}": f"vm-{n}" for n in range(MANY)}
    network(theirs, "large", "10.2.0.0/16", held)
    machines(theirs, "large", **{name: address for address, name in held.items()})

    def every_address_has_one() -> None:
        recorded = {**in_status(theirs, "large"), **(in_blocks(theirs, "large") if has_blocks(theirs) else {})}
        assert {*recorded} == {*held}

    assert proxied.kills("install", step=8, look=every_address_has_one) > 3
    assert in_status(theirs, "large") == {}
    assert {address: record["name"] for address, record in in_blocks(theirs, "large").items()} == held


def has_blocks(cluster: Cluster) -> bool:
    return ("plumber.k8s.pf9.io", "addressblocks") in cluster.api.list_served_resources()
