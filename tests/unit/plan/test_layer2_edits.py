"""Layer 2 networks whose spec was edited: nothing goes from under a VM, and nothing stays that nobody needs (I8).

| while | an edited bridge |
|---|---|
| VMs have addresses | stays as it was; the network says why, and which VMs |
| none has | is made anew, and the one before goes |
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
from tests.unit.plan.fake_cluster import World, refusal
from tests.unit.plan.test_layer2 import LAB, layer2

pytestmark = pytest.mark.I8

BEFORE = {"bridge": "br-ext", "nic": "eth1", "nodeSelector": None, "hostConfig": None}


def edit(world: World, name: str = "lab", **ovs: Any) -> None:
    """What `kubectl edit` makes of a network's spec.ovs; None takes a field out."""

    def change(obj: Json) -> None:
        spec = {**obj["spec"]["ovs"], **ovs}
        obj["spec"]["ovs"] = {key: value for key, value in spec.items() if value is not None}

    world.api.change(NETWORKWIZARD.ref(name, "prod"), change)


def on_the_nodes(world: World) -> list[Json]:
    return copy.deepcopy(world.api.every(TEMPLATE) + world.api.every(NAD))


def bridges(world: World) -> list[str]:
    """The bridges of templates, then of attachments."""
    templates = [entry["bridgeName"] for obj in world.api.every(TEMPLATE) for entry in obj["spec"]["ovsConfig"]]
    return templates + [json.loads(obj["spec"]["config"])["bridge"] for obj in world.api.every(NAD)]


@pytest.mark.parametrize(
    ("ovs", "wanted"),
    [
        ({"bridge": "br-new"}, "br-new on eth1"),
        ({"nic": "eth2"}, "br-ext on eth2"),
        ({"nodeSelector": {"zone": "a"}}, "br-ext on eth1 (nodes with zone=a)"),
        ({"hostConfig": False}, "br-ext (hostConfig: false)"),
    ],
)
def test_no_bridge_goes_from_under_vms(ovs: Json, wanted: str) -> None:
    world = World()
    layer2(world)
    world.vm()
    world.attach(network=LAB)
    before = on_the_nodes(world)
    edit(world, **ovs)
    message = str(refusal(world.sync_network("lab"), LAB))
    assert f"network prod/lab requires bridge {wanted}, but VMs are on bridge br-ext on eth1" in message
    assert "prod/web-1 (10.20.0.2)" in message
    assert on_the_nodes(world) == before
    status = world.api.get(NETWORKWIZARD.ref("lab", "prod"))["status"]
    assert (status["created"], status["reason"]) == (False, refusal(world.sync_network("lab"), LAB).message)

    edit(world, **BEFORE)
    assert not world.sync_network("lab").errors
    assert on_the_nodes(world) == before

    edit(world, **ovs)
    world.sync_network("lab")
    world.detach(network=LAB)
    assert not world.sync_network("lab").errors
    assert on_the_nodes(world) != before
    assert len(world.api.every(TEMPLATE)) == (0 if ovs.get("hostConfig") is False else 1)


def test_nor_a_bridge_that_is_not_made_here() -> None:
    world = World()
    layer2(world, hostConfig=False, nic=None)
    world.vm()
    world.attach(network=LAB)
    edit(world, bridge="br-new")
    assert "requires bridge br-new (hostConfig: false), but VMs are on bridge br-ext: prod/web-1" in str(
        refusal(world.sync_network("lab"), LAB)
    )
    assert bridges(world) == ["br-ext"]
    world.detach(network=LAB)
    assert not world.sync_network("lab").errors
    assert bridges(world) == ["br-new"]


def test_reservations_keep_no_bridge() -> None:
    world = World()
    layer2(world)
    world.reserve("10.20.0.7", network="lab")
    edit(world, bridge="br-new")
    assert not world.sync_network("lab").errors
    assert bridges(world) == ["br-new", "br-new"]


def in_the_config(obj: Json) -> None:
    obj["spec"]["config"] = obj["spec"]["config"].replace("br-ext", "br-theirs")


def in_the_annotation(obj: Json) -> None:
    obj["metadata"]["annotations"][RESOURCE_NAME] = "ovs-cni.network.kubevirt.io/br-theirs"


@pytest.mark.parametrize("meddle", [in_the_config, in_the_annotation])
def test_an_attachment_that_somebody_else_changed_is_mended_while_vms_are_on_it(
    meddle: Callable[[Json], None],
) -> None:
    world = World()
    layer2(world)
    world.vm()
    world.attach(network=LAB)
    [before] = world.api.every(NAD)
    world.api.change(NAD.ref("lab", "prod"), meddle)
    assert not world.sync_network("lab").errors
    [after] = world.api.every(NAD)
    assert (after["spec"], annotations_of(after)) == (before["spec"], annotations_of(before))


def test_a_bridge_that_another_network_needs_stays_anyway() -> None:
    world = World()
    layer2(world)
    layer2(world, "fast", "10.21.0.0/24", vlan=30)
    world.vm()
    world.attach(network=LAB)
    edit(world, hostConfig=False)
    assert not world.sync_network("lab").errors
    assert bridges(world) == ["br-ext", "br-ext", "br-ext"]
    assert not world.delete_network("fast").errors
    assert world.api.every(TEMPLATE) == []


def test_a_template_of_somebody_else_that_says_the_same_takes_nothing_away() -> None:
    world = World()
    layer2(world)
    [ours] = world.api.every(TEMPLATE)
    world.api.put(TEMPLATE, {"metadata": {"name": "a", "namespace": "infra"}, "spec": ours["spec"]})
    world.sync_network("lab")
    assert [name_of(obj) for obj in world.api.every(TEMPLATE)] == ["a", name_of(ours)]
    assert dig(world.api.look(TEMPLATE.ref(name_of(ours), "prod")), "metadata", "uid") == ours["metadata"]["uid"]
