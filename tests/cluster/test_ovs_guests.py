"""How guests of Layer 2 networks get their addresses, on a real API server.

| by | is shown |
|---|---|
| DHCP | what is leased to others is not chosen, what is held is not leased; files that were thrown away come back |
| cloud-init | network data on the VM, or in a Secret, by users who can read it; else refused |
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

import pytest
import yaml

from tests.cluster.checker import check
from tests.cluster.harness import Json, make, make_vms, vm, wait_for_role
from tests.cluster.layer2_scene import LEASES, Cidrs, Layer2Scene, at

# -- DHCP --------------------------------------------------------------------------------------------------------------


def lend(layer2: Layer2Scene, address: str, mac: str) -> Json:
    """What luigi's DHCP server writes for a lease."""
    metadata = {"name": address, "namespace": "default"}
    spec = {"macAddr": mac, "vlanId": "20", "leaseExpiry": "4000000000", "entityRef": "unknown"}
    api = {"apiVersion": "dhcp.plumber.k8s.pf9.io/v1alpha1", "kind": "IPAllocation"}
    return make(layer2.cluster, {**api, "metadata": metadata, "spec": spec})[0]


def test_leased_addresses_are_not_assigned_and_reserved_ones_not_leased(layer2: Layer2Scene, red: str) -> None:
    leases = [lend(layer2, at(red, number), f"02:00:00:00:00:{number:02}") for number in (2, 3)]
    try:
        make_vms(layer2.cluster, layer2.namespace, "web", "db")
        said = layer2.yoshi.refused("vm", "attach", "web", "--network", "red", "--ip", at(red, 3))
        assert f"ipallocation/{at(red, 3)} in namespace default uses it" in said
        assert f"attached to red: {at(red, 4)}" in layer2.yoshi.done("vm", "attach", "web", "--network", "red")
        # Its own lease is no conflict: the guest had the address before anybody wrote it down.
        lent_to_itself = lend(layer2, at(red, 9), layer2.nics()[-1]["macAddress"])
        leases.append(lent_to_itself)
        layer2.yoshi.done("vm", "attach", "web", "--network", "red", "--ip", at(red, 9), "--replace")
        assert list(layer2.records("red")) == [at(red, 9)]
    finally:
        for lease in leases:
            layer2.cluster.kubectl("-n", "default", "delete", LEASES, lease["metadata"]["name"])
    layer2.yoshi.done("ips", "reserve", "red", at(red, 60), "--note", "the printer")
    assert layer2.hosts("red")[f"{at(red, 60)}.conf"] == f"dhcp-host=id:reserved-{at(red, 60)},{at(red, 60)}"
    layer2.yoshi.done("ips", "release", "red", at(red, 60))
    assert list(layer2.hosts("red")) == [f"{at(red, 9)}.conf"]
    check(layer2.cluster, layer2.namespace, settled=True)


def test_dhcp_files_removed_by_the_luigi_controller_are_restored(layer2: Layer2Scene, red: str) -> None:
    make_vms(layer2.cluster, layer2.namespace, "web")
    layer2.yoshi.done("vm", "attach", "web", "--network", "red")
    before = layer2.files("red")
    patch = json.dumps([{"op": "remove", "path": "/binaryData"}])
    layer2.cluster.kubectl("-n", layer2.namespace, "patch", "configmap", "red", "--type=json", "-p", patch)
    layer2.yoshi.done("sync")
    assert layer2.files("red") == before


# -- guests without DHCP ---------------------------------------------------------------------------------------------


@pytest.fixture
def quiet(layer2: Layer2Scene, cidr: Cidrs) -> str:
    """The CIDR of a Layer 2 network without a DHCP server."""
    network = cidr(24)
    layer2.create("quiet", network, "--vlan", "40", "--no-dhcp", "--gateway", at(network, 1))
    return network


def guest(layer2: Layer2Scene, kind: str, source: Json) -> None:
    machine = vm(layer2.namespace, "web")
    machine["spec"]["template"]["spec"]["volumes"] = [{"name": "init", kind: source}]
    make(layer2.cluster, machine)


def test_cloud_init_network_data_is_added_and_removed(layer2: Layer2Scene, quiet: str) -> None:
    guest(layer2, "cloudInitNoCloud", {"userData": "#cloud-config"})
    before = layer2.template()
    ran = layer2.yoshi.run("vm", "attach", "web", "--network", "quiet")
    assert f"set {at(quiet, 2)}/24, gateway {at(quiet, 1)} in the guest, or pass --cloud-init" in ran.err, str(ran)
    ran = layer2.yoshi.run("vm", "attach", "web", "--network", "quiet", "--cloud-init")
    assert (ran.code, ran.err) == (0, "")
    source = layer2.template()["spec"]["volumes"][0]["cloudInitNoCloud"]
    mac = layer2.nics()[-1]["macAddress"]
    entries = yaml.safe_load(source["networkData"])["ethernets"].values()
    [mine] = [one for one in entries if one.get("match") == {"macaddress": mac}]
    assert mine["addresses"] == [f"{at(quiet, 2)}/24"]
    assert source["userData"] == "#cloud-config"
    layer2.yoshi.done("vm", "detach", "web", "--network", "quiet")
    assert mac not in json.dumps(layer2.template())
    after = layer2.template()["spec"]["volumes"][0]["cloudInitNoCloud"]
    assert after["userData"] == before["spec"]["volumes"][0]["cloudInitNoCloud"]["userData"]


def test_config_drive_network_data_is_refused_with_the_configuration_to_add(layer2: Layer2Scene, quiet: str) -> None:
    guest(layer2, "cloudInitConfigDrive", {"userData": "#cloud-config"})
    said = layer2.yoshi.refused("vm", "attach", "web", "--network", "quiet", "--cloud-init")
    assert "is of cloudInitConfigDrive" in said
    assert f"addresses: [{at(quiet, 2)}/24]" in said
    assert layer2.records("quiet") == {}


def test_network_data_in_a_secret_requires_permission_to_read_it(layer2: Layer2Scene, quiet: str) -> None:
    text = b64encode(b"version: 2\nethernets: {}\n").decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "data": {"networkdata": text, "password": "aGk="}}
    make(layer2.cluster, {**secret, "metadata": {"name": "net", "namespace": layer2.namespace}})
    guest(layer2, "cloudInitNoCloud", {"userData": "x", "networkDataSecretRef": {"name": "net"}})
    who = f"{layer2.namespace}-tenant"
    binding = ("create", "rolebinding", "tenant", "--clusterrole=yoshi-user", f"--user={who}")
    layer2.cluster.kubectl("-n", layer2.namespace, *binding)
    wait_for_role(layer2.cluster, who, layer2.namespace)
    words = ("vm", "attach", "web", "--network", "quiet", "--cloud-init")
    said = layer2.yoshi.refused(f"--as={who}", *words)
    assert f"is in secret/net in namespace {layer2.namespace}, which cannot be read" in said
    assert layer2.records("quiet") == {}
    layer2.yoshi.done(*words)
    data = layer2.there("secret", "net")["data"]
    assert data["password"] == "aGk="
    [entry] = yaml.safe_load(b64decode(data["networkdata"]))["ethernets"].values()
    assert entry["addresses"] == [f"{at(quiet, 2)}/24"]
    assert "networkData" not in layer2.template()["spec"]["volumes"][0]["cloudInitNoCloud"]
