"""Layer 2 networks with an edited spec: VMs keep their bridge, and nothing unused stays (I8).

| while | an edited bridge |
|---|---|
| VMs have addresses | stays as it was; the network says why, and which VMs |
| none has | is recreated, and the one before goes |
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.backends.ovs.backend import RESOURCE_NAME
from kubectl_yoshi.backends.ovs.spec import NAD, TEMPLATE
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, annotations_of, dig, name_of
from tests.unit.plan.fake_cluster import FakeCluster, refusal
from tests.unit.plan.test_layer2 import LAB, layer2

pytestmark = pytest.mark.I8

BEFORE = {"bridge": "br-ext", "nic": "eth1", "nodeSelector": None, "hostConfig": None}


def edit(cluster: FakeCluster, name: str = "lab", **ovs: Any) -> None:
    """What `kubectl edit` makes of a network's spec.ovs; None takes a field out."""

    def change(obj: Json) -> None:
        spec = {**obj["spec"]["ovs"], **ovs}
        obj["spec"]["ovs"] = {key: value for key, value in spec.items() if value is not None}

    cluster.api.change(NETWORKWIZARD.ref(name, "prod"), change)


def on_the_nodes(cluster: FakeCluster) -> list[Json]:
    return copy.deepcopy(cluster.api.every(TEMPLATE) + cluster.api.every(NAD))


def bridges(cluster: FakeCluster) -> list[str]:
    """The bridges of templates, then of attachments."""
    templates = [entry["bridgeName"] for obj in cluster.api.every(TEMPLATE) for entry in obj["spec"]["ovsConfig"]]
    return templates + [json.loads(obj["spec"]["config"])["bridge"] for obj in cluster.api.every(NAD)]


@pytest.mark.parametrize(
    ("ovs", "wanted"),
    [
        ({"bridge": "br-new"}, "br-new on eth1"),
        ({"nic": "eth2"}, "br-ext on eth2"),
        ({"nodeSelector": {"zone": "a"}}, "br-ext on eth1 (nodes with zone=a)"),
        ({"hostConfig": False}, "br-ext (hostConfig: false)"),
    ],
)
def test_edited_bridge_is_not_replaced_while_vms_use_it(ovs: Json, wanted: str) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.attach(network=LAB)
    before = on_the_nodes(cluster)
    edit(cluster, **ovs)
    message = str(refusal(cluster.sync_network("lab"), LAB))
    assert f"network prod/lab requires bridge {wanted}, but VMs are on bridge br-ext on eth1" in message
    assert "prod/web-1 (10.20.0.2)" in message
    assert on_the_nodes(cluster) == before
    status = cluster.api.get(NETWORKWIZARD.ref("lab", "prod"))["status"]
    assert (status["created"], status["reason"]) == (False, refusal(cluster.sync_network("lab"), LAB).message)

    edit(cluster, **BEFORE)
    assert not cluster.sync_network("lab").errors
    assert on_the_nodes(cluster) == before

    edit(cluster, **ovs)
    cluster.sync_network("lab")
    cluster.detach(network=LAB)
    assert not cluster.sync_network("lab").errors
    assert on_the_nodes(cluster) != before
    assert len(cluster.api.every(TEMPLATE)) == (0 if ovs.get("hostConfig") is False else 1)


def test_edited_unmanaged_bridge_is_refused_while_vms_use_it() -> None:
    cluster = FakeCluster()
    layer2(cluster, hostConfig=False, nic=None)
    cluster.vm()
    cluster.attach(network=LAB)
    edit(cluster, bridge="br-new")
    assert "requires bridge br-new (hostConfig: false), but VMs are on bridge br-ext: prod/web-1" in str(
        refusal(cluster.sync_network("lab"), LAB)
    )
    assert bridges(cluster) == ["br-ext"]
    cluster.detach(network=LAB)
    assert not cluster.sync_network("lab").errors
    assert bridges(cluster) == ["br-new"]


def test_edited_bridge_is_replaced_if_only_reservations_exist() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.reserve("10.20.0.7", network="lab")
    edit(cluster, bridge="br-new")
    assert not cluster.sync_network("lab").errors
    assert bridges(cluster) == ["br-new", "br-new"]


def in_the_config(obj: Json) -> None:
    obj["spec"]["config"] = obj["spec"]["config"].replace("br-ext", "br-theirs")


def in_the_annotation(obj: Json) -> None:
    obj["metadata"]["annotations"][RESOURCE_NAME] = "ovs-cni.network.kubevirt.io/br-theirs"


@pytest.mark.parametrize("meddle", [in_the_config, in_the_annotation])
def test_changed_attachment_definition_is_repaired_while_vms_use_it(
    meddle: Callable[[Json], None],
) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.attach(network=LAB)
    [before] = cluster.api.every(NAD)
    cluster.api.change(NAD.ref("lab", "prod"), meddle)
    assert not cluster.sync_network("lab").errors
    [after] = cluster.api.every(NAD)
    assert (after["spec"], annotations_of(after)) == (before["spec"], annotations_of(before))


def test_bridge_of_another_network_is_kept() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    layer2(cluster, "fast", "10.21.0.0/24", vlan=30)
    cluster.vm()
    cluster.attach(network=LAB)
    edit(cluster, hostConfig=False)
    assert not cluster.sync_network("lab").errors
    assert bridges(cluster) == ["br-ext", "br-ext", "br-ext"]
    assert not cluster.delete_network("fast").errors
    assert cluster.api.every(TEMPLATE) == []


def test_equal_foreign_template_does_not_replace_the_own_one() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    [ours] = cluster.api.every(TEMPLATE)
    cluster.api.put(TEMPLATE, {"metadata": {"name": "a", "namespace": "infra"}, "spec": ours["spec"]})
    cluster.sync_network("lab")
    assert [name_of(obj) for obj in cluster.api.every(TEMPLATE)] == ["a", name_of(ours)]
    assert dig(cluster.api.look(TEMPLATE.ref(name_of(ours), "prod")), "metadata", "uid") == ours["metadata"]["uid"]
