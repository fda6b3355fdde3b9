"""VMs on Layer 2 networks on a real API server.

| what | is shown |
|---|---|
| attach, detach | interface, MAC, record, file of the DHCP server; nothing else of the VM; what is refused |
| several networks | each an address; sync reconciles a list with commas |
| permissions | a tenant attaches with the permissions of his namespace |
| at once | as many addresses as there are; the rest is in test_concurrency.py and test_kill_matrix.py |
"""

from __future__ import annotations

import json

from tests.cluster.checker import check
from tests.cluster.harness import Json, make_vms, resource_versions, wait_for_role
from tests.cluster.layer2_scene import KINDS, NETWORK_NAME, Cidrs, Layer2Scene, at


def test_attach_adds_an_interface_with_the_allocated_mac_and_detach_removes_it(layer2: Layer2Scene, red: str) -> None:
    theirs: Json = {
        "interfaces": [{"name": "eth", "masquerade": {}, "ports": [{"port": 80}]}],
        "networks": [{"name": "eth", "pod": {"vmNetworkCIDR": "10.0.2.0/24"}}],
        "template_annotations": {"theirs": "1"},
    }
    make_vms(layer2.cluster, layer2.namespace, "web", **theirs)
    before = layer2.vm()
    said = layer2.yoshi.done(
        "vm", "attach", "web", "--network", "red", "--ip", at(red, 50),
        "--interface-name", "data", "--interface-model", "e1000e",
    )  # fmt: skip
    assert f"attached to red: {at(red, 50)}" in said
    record = layer2.records("red")[at(red, 50)]
    mac = record["mac"]
    assert record["uid"] == before["metadata"]["uid"]
    assert layer2.nics() == [
        {"name": "eth", "masquerade": {}, "ports": [{"port": 80}]},
        {"name": "data", "bridge": {}, "macAddress": mac, "model": "e1000e"},
    ]
    assert layer2.template()["spec"]["networks"][1] == {"name": "data", "multus": {"networkName": "red"}}
    assert layer2.hosts("red") == {f"{at(red, 50)}.conf": f"dhcp-host={mac},{at(red, 50)}"}
    assert layer2.vm()["metadata"]["annotations"][NETWORK_NAME] == "red"
    check(layer2.cluster, layer2.namespace, settled=True)

    versions = resource_versions(layer2.cluster, layer2.namespace, *KINDS)
    assert "unchanged" in layer2.yoshi.done("vm", "attach", "web", "--network", "red")
    assert layer2.yoshi.done("sync") == "unchanged: 1 network and 1 VM are as requested\n"
    assert resource_versions(layer2.cluster, layer2.namespace, *KINDS) == versions
    said = layer2.yoshi.refused("network", "delete", "red")
    assert f"is in use: {at(red, 50)} {layer2.namespace}/web" in said

    layer2.yoshi.done("vm", "detach", "web", "--network", "red")
    assert layer2.template() == before["spec"]["template"]
    assert layer2.hosts("red") == layer2.records("red") == {}
    layer2.yoshi.done("network", "delete", "red")
    assert layer2.made("red") == layer2.templates() == []


def test_attach_of_a_restored_template_reuses_the_mac_address(layer2: Layer2Scene, red: str) -> None:
    """A template that was put back from a backup, without interface and address, is given both again."""
    make_vms(layer2.cluster, layer2.namespace, "web")
    bare = layer2.template()
    layer2.yoshi.done("vm", "attach", "web", "--network", "red")
    nics = layer2.nics()
    patch = json.dumps([{"op": "replace", "path": "/spec/template", "value": bare}])
    layer2.cluster.kubectl("-n", layer2.namespace, "patch", "vm", "web", "--type=json", "-p", patch)
    assert layer2.nics() == []
    layer2.yoshi.done("sync")
    assert layer2.nics() == nics
    check(layer2.cluster, layer2.namespace, settled=True)


def test_attach_with_unsupported_options_is_refused_and_changes_nothing(layer2: Layer2Scene, red: str) -> None:
    make_vms(
        layer2.cluster, layer2.namespace, "web",
        interfaces=[{"name": "eth", "masquerade": {}}], networks=[{"name": "eth", "pod": {}}],
    )  # fmt: skip
    before = resource_versions(layer2.cluster, layer2.namespace, *KINDS)
    for flags, code, says in (
        (("--interface-name", "eth"), 1, 'has an interface "eth" already'),
        (("--interface-name", "-x"), 2, "is not a valid interface name"),
        (("--mac", "none"), 2, "identifies its VMs by their MAC addresses"),
        (("--ip", at(red, 1)), 1, "the network itself (DHCP server) holds it"),
        (("--cloud-init",), 1, "has no cloud-init volume"),
    ):
        assert says in layer2.yoshi.refused("vm", "attach", "web", "--network", "red", *flags, code=code), flags
        check(layer2.cluster, layer2.namespace, settled=True)
    after = resource_versions(layer2.cluster, layer2.namespace, *KINDS)
    assert after["VirtualMachine/web"] == before["VirtualMachine/web"]
    assert layer2.hosts("red") == {}


def test_vm_on_two_layer2_networks_and_a_calico_network_has_an_address_of_each(
    layer2: Layer2Scene, red: str, cidr: Cidrs
) -> None:
    layer2.create("green", cidr(24), "--vlan", "30")
    layer2.yoshi.done("network", "create", "blue", "--cidr", cidr(24))
    make_vms(layer2.cluster, layer2.namespace, "web")
    for name in ("red", "blue", "green"):
        layer2.yoshi.done("vm", "attach", "web", "--network", name)
    assert layer2.vm()["metadata"]["annotations"][NETWORK_NAME] == "red,blue,green"
    assert layer2.plugged() == {"default": "pod", "red": "red", "green": "green"}
    assert len({nic["macAddress"] for nic in layer2.nics() if "macAddress" in nic}) == 2
    held = {address for name in ("red", "blue", "green") for address in layer2.records(name)}
    listed, who = layer2.yoshi.done("vm", "list"), layer2.yoshi.done("ips", "list", "-o", "name")
    assert len(held) == 3
    for address in held:
        assert address in listed
        assert address in who
    check(layer2.cluster, layer2.namespace, settled=True)
    layer2.yoshi.done("ips", "check")
    for name in ("red", "blue"):
        layer2.yoshi.done("vm", "detach", "web", "--network", name)
    assert layer2.vm()["metadata"]["annotations"][NETWORK_NAME] == "green"
    assert layer2.plugged() == {"default": "pod", "green": "green"}
    check(layer2.cluster, layer2.namespace, settled=True)
    layer2.yoshi.done("network", "delete", "blue")  # or another test's sync would take its pool away


def test_sync_attaches_to_all_networks_of_a_comma_separated_annotation(
    layer2: Layer2Scene, red: str, cidr: Cidrs
) -> None:
    layer2.create("green", cidr(24), "--vlan", "30")
    layer2.yoshi.done("network", "create", "blue", "--cidr", cidr(24))
    annotations = {NETWORK_NAME: f"red, {layer2.namespace}/green,blue"}
    make_vms(layer2.cluster, layer2.namespace, "web", "db", annotations=annotations)
    layer2.yoshi.done("sync")
    for name in ("web", "db"):
        assert sorted(layer2.plugged(name)) == ["default", "green", "red"]
        assert "cni.projectcalico.org/ipAddrs" in layer2.template(name)["metadata"]["annotations"]
    assert all(len(layer2.records(name)) == 2 for name in ("red", "green", "blue"))
    check(layer2.cluster, layer2.namespace, settled=True)
    before = resource_versions(layer2.cluster, layer2.namespace, *KINDS)
    assert layer2.yoshi.done("sync") == "unchanged: 3 networks and 2 VMs are as requested\n"
    assert resource_versions(layer2.cluster, layer2.namespace, *KINDS) == before


# -- permissions -------------------------------------------------------------------------------------------------


def test_tenant_attaches_and_detaches_with_permissions_in_one_namespace(layer2: Layer2Scene, red: str) -> None:
    """Leases are in another namespace: a note says that they could not be read."""
    make_vms(layer2.cluster, layer2.namespace, "web")
    who = f"{layer2.namespace}-tenant"
    layer2.cluster.kubectl(
        "-n", layer2.namespace, "create", "rolebinding", "t", "--clusterrole=yoshi-user", f"--user={who}"
    )
    wait_for_role(layer2.cluster, who, layer2.namespace)
    ran = layer2.yoshi.run(f"--as={who}", "vm", "attach", "web", "--network", "red")
    assert ran.code == 0, str(ran)
    assert f"cannot check whether {at(red, 2)} is leased to another client" in ran.err
    check(layer2.cluster, layer2.namespace, settled=True)
    ran = layer2.yoshi.run(f"--as={who}", "vm", "detach", "web", "--network", "red")
    assert ran.code == 0, str(ran)
    assert layer2.nics() == [{"name": "default", "bridge": {}}]
    assert layer2.hosts("red") == layer2.records("red") == {}


# -- at once ---------------------------------------------------------------------------------------------------------


def test_eight_processes_attach_exactly_as_many_vms_as_there_are_addresses(layer2: Layer2Scene, cidr: Cidrs) -> None:
    """Of a /29 the DHCP server has one address, and unknown clients need none that is free."""
    layer2.create("small", cidr(29), "--vlan", "20")
    names = [f"web-{number}" for number in range(8)]
    make_vms(layer2.cluster, layer2.namespace, *names)
    rans = layer2.yoshi.together(*(("vm", "attach", name, "--network", "small") for name in names))
    assert sorted(ran.code for ran in rans) == [0] * 5 + [1] * 3
    assert all("is full" in ran.err for ran in rans if ran.code)
    records = layer2.records("small")
    assert {record["name"] for record in records.values()} == {ran.args[2] for ran in rans if ran.code == 0}
    assert layer2.hosts("small") == {f"{a}.conf": f"dhcp-host={r['mac']},{a}" for a, r in records.items()}
    check(layer2.cluster, layer2.namespace, settled=True)
    rans = layer2.yoshi.together(*(("vm", "detach", name, "--network", "small") for name in names))
    assert [ran.code for ran in rans] == [0] * 8, "\n".join(map(str, rans))
    assert layer2.hosts("small") == layer2.records("small") == {}
