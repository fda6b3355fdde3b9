"""Rules about nodes and Layer 2 networks: each finds its fault, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.backends.nmstate import NNCP
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, NAD, TEMPLATE
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.model.objects import NODE, Resource
from kubectl_yoshi.model.vm import VMI
from tests.unit.diagnosis.diagnosing import diagnosis_of
from tests.unit.diagnosis.public_cluster import check_schemas, drop_all, named
from tests.unit.diagnosis.remedies import check_remedy
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster
from tests.unit.plan.test_layer2 import layer2

FAMILY = [rule for rule in RULES if rule.number.startswith("4")]
MARKER = "ovs-cni.network.kubevirt.io/br-ext"


def layer2_cluster(**ovs: Any) -> FakeCluster:
    """Return a cluster with a Layer 2 network prod/lab and a VM; its bridge and its DHCP server work."""
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, NNCP))
    put_node(cluster, bridge=True)
    layer2(cluster, **ovs)
    cluster.running("lab-0")
    cluster.vm("web-1")
    assert not cluster.attach("web-1", network="prod/lab").errors
    return cluster


def put_node(cluster: FakeCluster, *, bridge: bool) -> None:
    cluster.api.put(NODE, named("node1", status={"allocatable": {MARKER: "1k"} if bridge else {}}))


def codes(cluster: FakeCluster) -> list[str]:
    """Return the numbers of the rules about nodes that find something."""
    check_schemas(cluster)
    diagnosis = diagnosis_of(cluster, FAMILY)
    assert not diagnosis.unchecked
    for finding in diagnosis.findings:
        check_remedy(finding.observation)
    return [finding.rule.number for finding in diagnosis.findings]


@pytest.mark.parametrize("ovs", [{}, {"hostConfig": False}, {"dhcp": {"enabled": False}}], ids=str)
def test_healthy_cluster_has_no_findings(ovs: dict[str, Any]) -> None:
    assert codes(layer2_cluster(**ovs)) == []


def with_other_vlan(cluster: FakeCluster) -> None:
    change = NAD.ref("lab", "prod")
    cluster.api.change(change, lambda nad: nad["spec"].update(config=nad["spec"]["config"].replace("20", "30")))


def without_reservations(cluster: FakeCluster) -> None:
    cluster.api.change(CONFIGMAP.ref("lab", "prod"), lambda config: config.update(binaryData={}))


def with_other_range(cluster: FakeCluster) -> None:
    server = DHCPSERVER.ref("lab", "prod")
    cluster.api.change(server, lambda one: one["spec"]["networks"][0]["cidr"].update(range_start="10.20.0.1"))


def put_policy(cluster: FakeCluster, bridge: str) -> None:
    state = {"interfaces": [{"name": bridge, "type": "ovs-bridge", "state": "up"}]}
    conditions = [{"type": "Degraded", "status": "True", "message": "1/1 nodes failed"}]
    cluster.api.put(NNCP, named("bridges", spec={"desiredState": state}, status={"conditions": conditions}))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lambda cluster: drop_all(cluster, NAD), "4401"),
        (with_other_vlan, "4401"),
        (lambda cluster: put_policy(cluster, "br-ext"), "4402"),
        (without_reservations, "4403"),
        (with_other_range, "4403"),
        (lambda cluster: drop_all(cluster, DHCPSERVER), "4404"),
        (lambda cluster: drop_all(cluster, CONFIGMAP), "4404"),
        (lambda cluster: cluster.api.drop(VMI.ref("lab-0", "prod")), "4404"),
        (lambda cluster: drop_all(cluster, TEMPLATE), "4405"),
        (lambda cluster: put_node(cluster, bridge=False), "4405"),
    ],
)
def test_fault_is_found_once(fault: Callable[[FakeCluster], Any], code: str) -> None:
    cluster = layer2_cluster()
    fault(cluster)
    assert codes(cluster) == [code]


def test_bridge_that_yoshi_does_not_create_must_be_on_a_node() -> None:
    cluster = layer2_cluster(hostConfig=False)
    put_node(cluster, bridge=False)
    assert codes(cluster) == ["4401"]


def test_policy_of_other_bridges_does_not_matter() -> None:
    cluster = layer2_cluster()
    put_policy(cluster, "br-other")
    assert codes(cluster) == []


def test_message_names_the_addresses_without_reservation_and_sync_repairs_it() -> None:
    cluster = layer2_cluster()
    without_reservations(cluster)
    [finding] = diagnosis_of(cluster, FAMILY).findings
    [address] = [one for one, record in cluster.records("lab").items() if record.name == "web-1"]
    assert finding.observation.message == (
        "configmap/lab in namespace prod, the DHCP configuration of network prod/lab, lacks the reservations of "
        f"{address}"
    )
    assert finding.observation.commands == ("kubectl yoshi sync -n prod", "virtctl restart lab-0 -n prod")
    cluster.sync_network("lab")
    assert codes(cluster) == []


@pytest.mark.parametrize(
    ("resource", "expected"),
    [(NAD, {"4401"}), (CONFIGMAP, {"4403", "4404"}), (TEMPLATE, {"4405"}), (NODE, {"4405"}), (NNCP, {"4402"})],
    ids=lambda value: getattr(value, "plural", ""),
)
def test_what_cannot_be_read_is_unchecked(resource: Resource, expected: set[str]) -> None:
    cluster = layer2_cluster()
    for verb in ("get", "list"):
        cluster.api.refuse(verb, resource)
    diagnosis = diagnosis_of(cluster, FAMILY)
    assert not diagnosis.findings
    assert {one.rule.number for one in diagnosis.unchecked} == expected
