"""Layer 2 networks on a real API server: each object is accepted by its CRD; one template for all VLANs of a bridge.

| what | is shown |
|---|---|
| create, delete | the objects to the field; what is shared goes with the last; nothing is left |
| what is in the way | what is not installed, other networks, objects of others, which stay |
| at once | of two that contradict each other at most one survives |
"""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cluster.harness import ForkServer, Json, get, make, resource_versions
from tests.cluster.layer2_scene import ATTACHMENTS, KINDS, NETWORK_UID, OWN, SERVERS, Cidrs, Layer2Scene, at
from tests.waiting import wait_for

pytestmark = [pytest.mark.I6, pytest.mark.I8]


def test_created_objects_are_accepted_by_their_crds(layer2: Layer2Scene, cidr: Cidrs) -> None:
    network = cidr(24)
    layer2.create(
        "lab", network, "--vlan", "20", "--mtu", "1500", "--gateway", at(network, 1), "--dhcp-lease-time", "10m",
        "--range", f"{at(network, 10)}-{at(network, 250)}", "--dhcp-range", f"{at(network, 100)}-{at(network, 199)}",
        "--dns-server", at(network, 2), "--dns-server", "9.9.9.9", "--node-selector", "zone=a",
    )  # fmt: skip
    [template] = layer2.templates()
    assert template["spec"] == {
        "nodeSelector": {"zone": "a"},
        "ovsConfig": [{"bridgeName": layer2.bridge, "nodeInterface": layer2.nic, "params": {"mtuRequest": 1500}}],
    }
    attachment = layer2.there(ATTACHMENTS, "lab")
    assert json.loads(attachment["spec"]["config"]) == {
        "cniVersion": "0.4.0", "name": "lab", "type": "ovs", "bridge": layer2.bridge, "vlan": 20, "mtu": 1500,
    }  # fmt: skip
    marker = attachment["metadata"]["annotations"]["k8s.v1.cni.cncf.io/resourceName"]
    assert marker == f"ovs-cni.network.kubevirt.io/{layer2.bridge}"
    assert layer2.there(SERVERS, "lab")["spec"] == {
        "networks": [
            {
                "networkName": "lab",
                "interfaceIp": f"{at(network, 10)}/24",
                "leaseDuration": "10m",
                "vlanId": "20",
                "cidr": {
                    "range": network, "range_start": at(network, 100), "range_end": at(network, 199),
                    "gateway": at(network, 1),
                },
            }
        ],
        "nodeSelector": {"zone": "a"},
    }  # fmt: skip
    assert layer2.there("configmap", "lab")["data"] == {
        "dnsmasq.conf": f"port=0\ndhcp-range=set:20,{at(network, 100)},{at(network, 199)},255.255.255.0,10m\n"
        f"dhcp-option=set:20,3,{at(network, 1)}\ninterface=eth1\n"
    }
    assert layer2.files("lab") == {
        "yoshi-options.conf": f"dhcp-option=3,{at(network, 1)}\ndhcp-option=6,{at(network, 2)},9.9.9.9\n"
        "dhcp-option=26,1500\n"
    }
    wizard = layer2.there("networkwizard", "lab")
    assert [c["status"] for c in wizard["status"]["conditions"] if c["type"] == "Ready"] == ["True"]
    assert layer2.records("lab") == {}
    for kind in OWN:
        metadata = layer2.there(kind, "lab")["metadata"]
        assert metadata["annotations"][NETWORK_UID] == wizard["metadata"]["uid"]
        assert [owner["uid"] for owner in metadata["ownerReferences"]] == [wizard["metadata"]["uid"]]
    told = layer2.yoshi.done("network", "describe", "lab")
    assert f"{layer2.bridge} on {layer2.nic}" in told
    assert f"{at(network, 10)}, leases of 10m" in told


def test_manifest_and_flags_are_equivalent_and_idempotent(layer2: Layer2Scene, cidr: Cidrs) -> None:
    network = cidr(24)
    layer2.create("lab", network, "--vlan", "20", "--bond-mode", "balance-slb", "--lacp", "active", "--uplink", "e1,e2")
    [template] = layer2.templates()
    entry = {"bridgeName": layer2.bridge, "nodeInterface": "e1,e2"}
    assert template["spec"] == {"ovsConfig": [{**entry, "params": {"bondMode": "balance-slb", "lacp": "active"}}]}
    spec = layer2.there("networkwizard", "lab")["spec"]
    before = resource_versions(layer2.cluster, layer2.namespace, *KINDS)
    manifest = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard", "metadata": {"name": "lab"}}
    said = layer2.yoshi.done("network", "create", "-f", "-", input=yaml.safe_dump({**manifest, "spec": spec}))
    assert said == "networkwizard.plumber.k8s.pf9.io/lab unchanged\n"
    assert layer2.yoshi.done("diff", "sync") == ""
    assert resource_versions(layer2.cluster, layer2.namespace, *KINDS) == before


@pytest.mark.parametrize("length", [24, 20])
def test_dry_run_prints_every_object_and_creates_none(layer2: Layer2Scene, cidr: Cidrs, length: int) -> None:
    words = ("network", "create", "lab", *layer2.flags(cidr(length), "--vlan", "20"))
    for how in ("client", "server"):
        said = layer2.yoshi.done(*words, f"--dry-run={how}")
        assert "lab created" in said
    shown = layer2.yoshi.done("diff", *words, code=1)
    for words_of_kind in ("kind: HostNetworkTemplate", "kind: NetworkAttachmentDefinition", "kind: NetworkWizard"):
        assert words_of_kind in shown
    assert layer2.made("lab") == []
    assert layer2.templates() == []


def test_vlans_of_one_bridge_share_a_template_until_the_last_is_deleted(
    layer2: Layer2Scene, forks: ForkServer, cidr: Cidrs
) -> None:
    layer2.create("red", cidr(24), "--vlan", "20")
    layer2.create("green", cidr(24), "--vlan", "30")
    with layer2.cluster.namespace() as elsewhere:
        other = layer2.yoshi.within(elsewhere)
        other.done("network", "create", "blue", *layer2.flags(cidr(24)))
        assert len(layer2.templates()) == 1
        layer2.yoshi.done("network", "delete", "red")
        assert layer2.made("red") == []
        layer2.yoshi.done("network", "delete", "green")
        assert len(layer2.templates()) == 1, "blue needs it"
        other.done("network", "delete", "blue")
    assert layer2.templates() == []
    assert not [item for kind in OWN[:2] for item in get(layer2.cluster, kind, namespace=layer2.namespace)["items"]]


def test_network_deleted_with_kubectl_is_cleaned_up_by_kubernetes_and_gc(layer2: Layer2Scene, cidr: Cidrs) -> None:
    layer2.create("red", cidr(24), "--vlan", "20")
    layer2.cluster.kubectl("-n", layer2.namespace, "delete", "networkwizard", "red", "--cascade=foreground")
    wait_for(lambda: not layer2.made("red"), "Kubernetes has taken away what it owned")
    layer2.yoshi.done("ips", "gc", "--yes")
    assert layer2.templates() == []


def test_bridge_and_dhcp_server_are_created_by_default(layer2: Layer2Scene, cidr: Cidrs) -> None:
    layer2.create("asked", cidr(24), "--vlan", "20", "--host-config", "--dhcp")
    layer2.create("unasked", cidr(24), "--vlan", "21")
    assert layer2.made("asked") == layer2.made("unasked") == [*OWN]
    assert len(layer2.templates()) == 1
    asked, unasked = (layer2.there(SERVERS, name)["spec"]["networks"][0] for name in ("asked", "unasked"))
    assert {*asked} == {*unasked}
    for network in ("asked", "unasked"):
        layer2.yoshi.done("network", "delete", network)


def test_network_without_host_config_and_dhcp_creates_only_the_attachment_definition(
    layer2: Layer2Scene, cidr: Cidrs
) -> None:
    layer2.yoshi.done(
        "network", "create", "lab", "--plugin", "ovs", "--cidr", cidr(24), "--bridge", layer2.bridge,
        "--no-host-config", "--no-dhcp",
    )  # fmt: skip
    assert layer2.made("lab") == [ATTACHMENTS]
    assert json.loads(layer2.there(ATTACHMENTS, "lab")["spec"]["config"])["vlan"] == 0, "or it would be a trunk"
    assert layer2.templates() == []
    layer2.yoshi.done("network", "delete", "lab")
    assert layer2.made("lab") == []


# -- what is in the way ----------------------------------------------------------------------------------------------


def test_conflicting_layer2_networks_are_named(layer2: Layer2Scene, cidr: Cidrs) -> None:
    network = cidr(24)
    layer2.create("lab", network, "--vlan", "20")
    mine = f"network {layer2.namespace}/lab"
    before = resource_versions(layer2.cluster, layer2.namespace, *KINDS)
    for flags, says in (
        (layer2.flags(cidr(24), "--vlan", "20"), f"{mine} is on bridge {layer2.bridge}, VLAN 20, already"),
        (layer2.flags(cidr(24), "--vlan", "30", "--bridge", "br-else"), f"{mine} has {layer2.nic} in bridge"),
        (layer2.flags(cidr(24), "--vlan", "30", "--uplink", "other"), f"{mine} has {layer2.nic} in bridge"),
        (layer2.flags(at(network, 128) + "/25", "--vlan", "30"), f"overlaps {mine}"),
    ):
        assert says in layer2.yoshi.refused("network", "create", "new", *flags)
    assert resource_versions(layer2.cluster, layer2.namespace, *KINDS) == before


@pytest.mark.parametrize("kind", [ATTACHMENTS, SERVERS, "configmaps"])
def test_foreign_object_of_the_same_name_is_a_conflict_and_unchanged(
    layer2: Layer2Scene, cidr: Cidrs, kind: str
) -> None:
    bodies: dict[str, Json] = {
        ATTACHMENTS: {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"},
        SERVERS: {"apiVersion": "dhcp.plumber.k8s.pf9.io/v1alpha1", "kind": "DHCPServer", "spec": {"networks": []}},
        "configmaps": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"theirs": "1"}},
    }
    [theirs] = make(layer2.cluster, {**bodies[kind], "metadata": {"name": "lab", "namespace": layer2.namespace}})
    said = layer2.yoshi.refused("network", "create", "lab", *layer2.flags(cidr(24)))
    assert f"/lab in namespace {layer2.namespace} exists and was not created for this network" in said
    assert layer2.one(kind, "lab") == theirs
    assert layer2.made("lab") == [kind]
    assert layer2.one("networkwizard", "lab") is None
    assert layer2.templates() == []


def test_foreign_template_is_reused_or_a_conflict(layer2: Layer2Scene, cidr: Cidrs) -> None:
    spec = {"ovsConfig": [{"bridgeName": layer2.bridge, "nodeInterface": layer2.nic}]}
    api = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "HostNetworkTemplate", "spec": spec}
    [theirs] = make(layer2.cluster, {**api, "metadata": {"name": "theirs", "namespace": layer2.namespace}})
    said = layer2.yoshi.refused("network", "create", "no", *layer2.flags(cidr(24), "--uplink", "other"))
    assert f"hostnetworktemplate/theirs in namespace {layer2.namespace} adds {layer2.nic} to bridge" in said
    layer2.create("lab", cidr(24))
    assert layer2.templates() == [theirs]
    layer2.yoshi.done("network", "delete", "lab")
    assert layer2.templates() == [theirs]


# -- at once -----------------------------------------------------------------------------------------------------------


def test_networks_created_at_once_on_one_vlan_leave_at_most_one(layer2: Layer2Scene, cidr: Cidrs) -> None:
    for _ in range(3):
        rans = layer2.yoshi.together(
            *(("network", "create", name, *layer2.flags(cidr(24), "--vlan", "20")) for name in ("one", "two"))
        )
        made = [ran.args[2] for ran in rans if ran.code == 0]
        assert len(made) <= 1, "\n".join(map(str, rans))
        for ran in rans:
            assert layer2.made(ran.args[2]) == (list(OWN) if ran.code == 0 else []), str(ran)
            assert (layer2.one("networkwizard", ran.args[2]) is None) == (ran.code != 0)
        assert len(layer2.templates()) == len(made)
        for name in made:
            layer2.yoshi.done("network", "delete", name)
