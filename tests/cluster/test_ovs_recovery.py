"""A Layer 2 network after a restore: its addresses, its DHCP server and its bridge are what they were."""

from __future__ import annotations

import json

import pytest

from tests.cluster.checker import check
from tests.cluster.harness import make, make_vms, resource_versions
from tests.cluster.layer2_scene import KINDS, NETWORK_UID, OWN, SERVERS, Cidrs, Layer2Scene
from tests.waiting import wait_for

pytestmark = [pytest.mark.I2, pytest.mark.I7]


def lose(layer2: Layer2Scene, how: str) -> None:
    """What a restore leaves out: the status; or all is recreated, the network under a new uid, with the objects that
    were made for it ("all recreated"), or without them ("network recreated")."""
    lab, where = layer2.there("networkwizard", "lab"), ("-n", layer2.namespace)
    if how == "status":
        gone = json.dumps([{"op": "remove", "path": "/status"}])
        patch = ("patch", "networkwizard", "lab", *where, "--subresource=status", "--type=json", "-p", gone)
        layer2.cluster.kubectl(*patch)
        return
    objects = [layer2.there(kind, "lab") for kind in OWN]
    layer2.cluster.kubectl("delete", "networkwizard", "lab", *where, "--timeout=120s")
    wait_for(lambda: not layer2.made("lab"))
    for obj in (lab, *(objects if how == "all recreated" else ())):
        kept = {key: obj["metadata"][key] for key in ("name", "namespace", "annotations") if key in obj["metadata"]}
        make(layer2.cluster, {key: value for key, value in obj.items() if key != "status"} | {"metadata": kept})


@pytest.mark.parametrize("how", ["status", "all recreated", "network recreated"])
def test_rebuild_restores_allocations_dhcp_server_and_bridge(layer2: Layer2Scene, cidr: Cidrs, how: str) -> None:
    network = cidr(24)
    layer2.create("lab", network, "--vlan", "20")
    make_vms(layer2.cluster, layer2.namespace, "web-1", "web-2")
    layer2.yoshi.done("vm", "attach", "web-1", "web-2", "--network", "lab")
    before, hosts = layer2.records("lab"), layer2.hosts("lab")
    server = layer2.there(SERVERS, "lab")["spec"]
    [bridge] = [template["metadata"]["uid"] for template in layer2.templates()]
    lose(layer2, how)
    make_vms(layer2.cluster, layer2.namespace, "late")
    assert "assigns no addresses yet" in layer2.yoshi.refused("vm", "attach", "late", "--network", "lab")

    rebuilt = layer2.yoshi.run("ips", "rebuild", "--yes")
    assert rebuilt.code == 0, str(rebuilt)
    assert "contradiction" not in rebuilt.err
    allocations = layer2.there("networkwizard", "lab")["status"]["allocations"]
    kinds = [record["kind"] for record in allocations.values()]
    assert kinds.count("Network") == (0 if how == "network recreated" else 1)
    assert {a: (r["name"], r["uid"], r["mac"]) for a, r in layer2.records("lab").items()} == {
        a: (r["name"], r["uid"], r["mac"]) for a, r in before.items()
    }  # fmt: skip
    assert "unchanged" in layer2.yoshi.done("ips", "rebuild", "--yes")

    synced = layer2.yoshi.run("sync")
    assert synced.code == 0, str(synced)
    assert layer2.there(SERVERS, "lab")["spec"] == server
    assert layer2.hosts("lab") == hosts
    assert [template["metadata"]["uid"] for template in layer2.templates()] == [bridge]
    uid = layer2.there("networkwizard", "lab")["metadata"]["uid"]
    for kind in OWN:
        metadata = layer2.there(kind, "lab")["metadata"]
        assert metadata["annotations"][NETWORK_UID] == uid
        assert [owner["uid"] for owner in metadata["ownerReferences"]] == [uid]
    versions = resource_versions(layer2.cluster, layer2.namespace, *KINDS)
    assert "unchanged" in layer2.yoshi.done("sync")
    assert resource_versions(layer2.cluster, layer2.namespace, *KINDS) == versions
    layer2.yoshi.done("vm", "attach", "late", "--network", "lab")
    assert len(layer2.records("lab")) == 3
    check(layer2.cluster, layer2.namespace, settled=True)
    layer2.yoshi.done("ips", "check")
    layer2.yoshi.done("network", "delete", "lab", "--force", "--yes")
    assert layer2.templates() == []
