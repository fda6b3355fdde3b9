"""Layer 2 networks on a real API server, with the custom resources of Multus and luigi; the real ones with LAB_CRDS.

The API server has the custom resources, but not their programs: tests/e2e/test_ovs.py shows what becomes of them.

| what | is shown |
|---|---|
| create, delete | each object as its CRD takes it; one template for all VLANs of a bridge; nothing is left |
| what is in the way | what is not installed, other networks, objects of others, which stay |
| attach, detach | interface, MAC, file of the DHCP server; leases; cloud-init; several networks; sync |
| at once | as many addresses as there are; the rest is in test_concurrency.py and test_kills.py |
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

import lab
from lab.testing import Cluster
from tests.cluster.checker import check
from tests.cluster.harness import ForkServer, Json, Yoshi, get, make, make_vms, resource_versions, vm

Cidrs = Callable[[int], str]
Bridges = Callable[[], tuple[str, str]]

TEMPLATES = "hostnetworktemplates.plumber.k8s.pf9.io"
ATTACHMENTS = "network-attachment-definitions.k8s.cni.cncf.io"
SERVERS = "dhcpservers.dhcp.plumber.k8s.pf9.io"
LEASES = "ipallocations.dhcp.plumber.k8s.pf9.io"
OWN = (ATTACHMENTS, SERVERS, "configmaps")
KINDS = ("networkwizards", TEMPLATES, *OWN, "virtualmachines")
WISH = "plumber.k8s.pf9.io/networkName"
NETWORK_UID = "plumber.k8s.pf9.io/networkUID"


@dataclass
class World:
    """A namespace, and a bridge that no other test has: bridges are the nodes', so all namespaces share them."""

    cluster: Cluster
    yoshi: Yoshi
    bridge: str
    nic: str

    @property
    def namespace(self) -> str:
        return self.yoshi.namespace

    def flags(self, cidr: str, *more: str) -> tuple[str, ...]:
        return ("--plugin", "ovs", "--cidr", cidr, "--bridge", self.bridge, "--nic", self.nic, *more)

    def create(self, name: str, cidr: str, *more: str) -> str:
        return self.yoshi.done("network", "create", name, *self.flags(cidr, *more))

    def one(self, kind: str, name: str) -> Json | None:
        found = self.cluster.kubectl("-n", self.namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found else None

    def there(self, kind: str, name: str) -> Json:
        found = self.one(kind, name)
        assert found is not None, f"{kind}/{name}"
        return found

    def templates(self) -> list[Json]:
        """Whoever's namespace they are in."""
        every = json.loads(self.cluster.kubectl("get", TEMPLATES, "-A", "-o", "json"))["items"]
        return [item for item in every if item["spec"]["ovsConfig"][0]["bridgeName"] == self.bridge]

    def made(self, name: str) -> list[str]:
        """The kinds of which there is an object for that network."""
        return [kind for kind in OWN if self.one(kind, name)]

    def records(self, name: str) -> Json:
        found: Json = self.there("networkwizard", name)["status"]["allocations"]
        return {address: record for address, record in found.items() if record["kind"] != "Network"}

    def files(self, name: str) -> dict[str, str]:
        files = self.there("configmap", name).get("binaryData", {})
        return {key: b64decode(text).decode() for key, text in files.items()}

    def hosts(self, name: str) -> dict[str, str]:
        """The files of addresses that are held, each its last line: the one before it has the record's time."""
        files = self.files(name)
        return {key: text.splitlines()[-1] for key, text in files.items() if key != "yoshi-options.conf"}

    def vm(self, name: str = "web") -> Json:
        return self.there("virtualmachine", name)

    def template(self, name: str = "web") -> Json:
        found: Json = self.vm(name)["spec"]["template"]
        return found

    def nics(self, name: str = "web") -> list[Json]:
        found: list[Json] = self.template(name)["spec"]["domain"]["devices"].get("interfaces", [])
        return found

    def plugged(self, name: str = "web") -> dict[str, str]:
        """Interface -> the Multus attachment that it is plugged into, or "pod"."""
        networks = self.template(name)["spec"].get("networks", [])
        return {one["name"]: one.get("multus", {}).get("networkName", "pod") for one in networks}


@pytest.fixture
def world(yoshi: Yoshi, installed: Cluster, bridge: Bridges) -> Iterator[World]:
    found = World(installed, yoshi, *bridge())
    yield found
    for template in found.templates():
        where = f"--namespace={template['metadata']['namespace']}"
        installed.kubectl("delete", TEMPLATES, template["metadata"]["name"], where)


def at(cidr: str, number: int) -> str:
    """The address with that last octet, of a CIDR that begins at 0."""
    return f"{cidr.rpartition('.')[0]}.{number}"


# -- networks --------------------------------------------------------------------------------------------------------


def test_every_object_is_as_its_custom_resource_takes_it(world: World, cidr: Cidrs) -> None:
    network = cidr(24)
    world.create(
        "lab", network, "--vlan", "20", "--mtu", "1500", "--gateway", at(network, 1), "--lease", "10m",
        "--range", f"{at(network, 10)}-{at(network, 250)}", "--dhcp-range", f"{at(network, 100)}-{at(network, 199)}",
        "--dns", at(network, 2), "--dns", "9.9.9.9", "--node-selector", "zone=a",
    )  # fmt: skip
    [template] = world.templates()
    assert template["spec"] == {
        "nodeSelector": {"zone": "a"},
        "ovsConfig": [{"bridgeName": world.bridge, "nodeInterface": world.nic, "params": {"mtuRequest": 1500}}],
    }
    attachment = world.there(ATTACHMENTS, "lab")
    assert json.loads(attachment["spec"]["config"]) == {
        "cniVersion": "0.4.0", "name": "lab", "type": "ovs", "bridge": world.bridge, "vlan": 20, "mtu": 1500,
    }  # fmt: skip
    marker = attachment["metadata"]["annotations"]["k8s.v1.cni.cncf.io/resourceName"]
    assert marker == f"ovs-cni.network.kubevirt.io/{world.bridge}"
    assert world.there(SERVERS, "lab")["spec"] == {
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
    assert world.there("configmap", "lab")["data"] == {
        "dnsmasq.conf": f"port=0\ndhcp-range=set:20,{at(network, 100)},{at(network, 199)},255.255.255.0,10m\n"
        f"dhcp-option=set:20,3,{at(network, 1)}\ninterface=eth1\n"
    }
    assert world.files("lab") == {
        "yoshi-options.conf": f"dhcp-option=3,{at(network, 1)}\ndhcp-option=6,{at(network, 2)},9.9.9.9\n"
        "dhcp-option=26,1500\n"
    }
    wizard = world.there("networkwizard", "lab")
    assert [c["status"] for c in wizard["status"]["conditions"] if c["type"] == "Ready"] == ["True"]
    assert world.records("lab") == {}
    for kind in OWN:
        metadata = world.there(kind, "lab")["metadata"]
        assert metadata["annotations"][NETWORK_UID] == wizard["metadata"]["uid"]
        assert [owner["uid"] for owner in metadata["ownerReferences"]] == [wizard["metadata"]["uid"]]
    told = world.yoshi.done("network", "describe", "lab")
    assert f"{world.bridge} on {world.nic}" in told
    assert f"{at(network, 10)}, leases of 10m" in told


def test_a_manifest_says_the_same_as_flags_and_a_second_run_changes_nothing(world: World, cidr: Cidrs) -> None:
    network = cidr(24)
    world.create("lab", network, "--vlan", "20", "--bond-mode", "balance-slb", "--lacp", "active", "--nic", "e1,e2")
    [template] = world.templates()
    entry = {"bridgeName": world.bridge, "nodeInterface": "e1,e2"}
    assert template["spec"] == {"ovsConfig": [{**entry, "params": {"bondMode": "balance-slb", "lacp": "active"}}]}
    spec = world.there("networkwizard", "lab")["spec"]
    before = resource_versions(world.cluster, world.namespace, *KINDS)
    manifest = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard", "metadata": {"name": "lab"}}
    said = world.yoshi.done("network", "create", "-f", "-", input=yaml.safe_dump({**manifest, "spec": spec}))
    assert said == "networkwizard.plumber.k8s.pf9.io/lab unchanged\n"
    assert world.yoshi.done("diff", "sync") == ""
    assert resource_versions(world.cluster, world.namespace, *KINDS) == before


@pytest.mark.parametrize("length", [24, 20])
def test_dry_runs_show_every_object_and_make_none(world: World, cidr: Cidrs, length: int) -> None:
    words = ("network", "create", "lab", *world.flags(cidr(length), "--vlan", "20"))
    for how in ("client", "server"):
        said = world.yoshi.done(*words, f"--dry-run={how}")
        assert "lab created" in said
    shown = world.yoshi.done("diff", *words, code=1)
    for words_of_kind in ("kind: HostNetworkTemplate", "kind: NetworkAttachmentDefinition", "kind: NetworkWizard"):
        assert words_of_kind in shown
    assert world.made("lab") == []
    assert world.templates() == []


def test_two_vlans_share_one_template_which_goes_with_the_last_of_them(
    world: World, forks: ForkServer, cidr: Cidrs
) -> None:
    world.create("red", cidr(24), "--vlan", "20")
    world.create("green", cidr(24), "--vlan", "30")
    with world.cluster.namespace() as elsewhere:
        other = world.yoshi.within(elsewhere)
        other.done("network", "create", "blue", *world.flags(cidr(24)))
        assert len(world.templates()) == 1
        world.yoshi.done("network", "delete", "red")
        assert world.made("red") == []
        world.yoshi.done("network", "delete", "green")
        assert len(world.templates()) == 1, "blue needs it"
        other.done("network", "delete", "blue")
    assert world.templates() == []
    assert not [item for kind in OWN[:2] for item in get(world.cluster, kind, namespace=world.namespace)["items"]]


def test_what_kubectl_deleted_is_taken_away_by_kubernetes_and_gc(world: World, cidr: Cidrs) -> None:
    world.create("red", cidr(24), "--vlan", "20")
    world.cluster.kubectl("-n", world.namespace, "delete", "networkwizard", "red", "--cascade=foreground")
    assert world.made("red") == []
    world.yoshi.done("ips", "gc", "--yes")
    assert world.templates() == []


def test_bridges_that_exist_and_no_dhcp_make_the_attachment_only(world: World, cidr: Cidrs) -> None:
    world.yoshi.done(
        "network", "create", "lab", "--plugin", "ovs", "--cidr", cidr(24), "--bridge", world.bridge,
        "--no-host-config", "--no-dhcp",
    )  # fmt: skip
    assert world.made("lab") == [ATTACHMENTS]
    assert json.loads(world.there(ATTACHMENTS, "lab")["spec"]["config"])["vlan"] == 0, "or it would be a trunk"
    assert world.templates() == []
    world.yoshi.done("network", "delete", "lab")
    assert world.made("lab") == []


# -- what is in the way ----------------------------------------------------------------------------------------------


def test_what_is_not_installed_is_named_with_what_still_works(forks: ForkServer) -> None:
    with lab.start() as running:
        yoshi = Yoshi(running.kubeconfig, "lab", forks, "default")
        yoshi.done("install")
        words = ["network", "create", "lab", "--plugin", "ovs", "--cidr", "10.20.0.0/24", "--bridge", "br"]
        running.kubectl("delete", "crd", SERVERS)
        said = yoshi.refused(*words, "--nic", "eth1")
        assert "luigi's DHCP controller" in said
        assert "--no-dhcp" in said
        words.append("--no-dhcp")
        running.kubectl("delete", "crd", TEMPLATES)
        said = yoshi.refused(*words, "--nic", "eth1")
        assert "Hostplumber" in said
        assert "--no-host-config" in said
        words.append("--no-host-config")
        yoshi.done(*words)
        yoshi.done("network", "delete", "lab")
        running.kubectl("delete", "crd", ATTACHMENTS)
        assert "Multus" in yoshi.refused(*words)
        assert running.kubectl("get", "networkwizards", "-o", "name") == ""


def test_networks_that_cannot_live_together_are_named(world: World, cidr: Cidrs) -> None:
    network = cidr(24)
    world.create("lab", network, "--vlan", "20")
    mine = f"network {world.namespace}/lab"
    before = resource_versions(world.cluster, world.namespace, *KINDS)
    for flags, says in (
        (world.flags(cidr(24), "--vlan", "20"), f"{mine} is on bridge {world.bridge}, VLAN 20, already"),
        (world.flags(cidr(24), "--vlan", "30", "--bridge", "br-else"), f"{mine} has {world.nic} in bridge"),
        (world.flags(cidr(24), "--vlan", "30", "--nic", "other"), f"{mine} has {world.nic} in bridge"),
        (world.flags(at(network, 128) + "/25", "--vlan", "30"), f"overlaps {mine}"),
    ):
        assert says in world.yoshi.refused("network", "create", "new", *flags)
    assert resource_versions(world.cluster, world.namespace, *KINDS) == before


@pytest.mark.parametrize("kind", [ATTACHMENTS, SERVERS, "configmaps"])
def test_an_object_that_somebody_else_made_is_in_the_way_and_stays(world: World, cidr: Cidrs, kind: str) -> None:
    bodies: dict[str, Json] = {
        ATTACHMENTS: {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"},
        SERVERS: {"apiVersion": "dhcp.plumber.k8s.pf9.io/v1alpha1", "kind": "DHCPServer", "spec": {"networks": []}},
        "configmaps": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"theirs": "1"}},
    }
    [theirs] = make(world.cluster, {**bodies[kind], "metadata": {"name": "lab", "namespace": world.namespace}})
    said = world.yoshi.refused("network", "create", "lab", *world.flags(cidr(24)))
    assert f"/lab in namespace {world.namespace} exists and was not made for this network" in said
    assert world.one(kind, "lab") == theirs
    assert world.made("lab") == [kind]
    assert world.one("networkwizard", "lab") is None
    assert world.templates() == []


def test_a_template_that_somebody_else_made_is_used_and_stays_or_is_in_the_way(world: World, cidr: Cidrs) -> None:
    spec = {"ovsConfig": [{"bridgeName": world.bridge, "nodeInterface": world.nic}]}
    api = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "HostNetworkTemplate", "spec": spec}
    [theirs] = make(world.cluster, {**api, "metadata": {"name": "theirs", "namespace": world.namespace}})
    said = world.yoshi.refused("network", "create", "no", *world.flags(cidr(24), "--nic", "other"))
    assert f"hostnetworktemplate/theirs in namespace {world.namespace} plugs {world.nic} into bridge" in said
    world.create("lab", cidr(24))
    assert world.templates() == [theirs]
    world.yoshi.done("network", "delete", "lab")
    assert world.templates() == [theirs]


# -- VMs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def red(world: World, cidr: Cidrs) -> str:
    """The CIDR of a layer 2 network of that name, on VLAN 20, whose server has its first address."""
    network = cidr(24)
    world.create("red", network, "--vlan", "20")
    return network


def test_a_vm_gets_an_interface_with_the_records_mac_and_loses_all_of_it_again(world: World, red: str) -> None:
    theirs: Json = {
        "interfaces": [{"name": "eth", "masquerade": {}, "ports": [{"port": 80}]}],
        "networks": [{"name": "eth", "pod": {"vmNetworkCIDR": "10.0.2.0/24"}}],
        "template_annotations": {"theirs": "1"},
    }
    make_vms(world.cluster, world.namespace, "web", **theirs)
    before = world.vm()
    said = world.yoshi.done(
        "vm", "attach", "web", "--network", "red", "--ip", at(red, 50), "--nic-name", "data", "--model", "e1000e"
    )
    assert f"attached to red: {at(red, 50)}" in said
    record = world.records("red")[at(red, 50)]
    mac = record["mac"]
    assert record["uid"] == before["metadata"]["uid"]
    assert world.nics() == [
        {"name": "eth", "masquerade": {}, "ports": [{"port": 80}]},
        {"name": "data", "bridge": {}, "macAddress": mac, "model": "e1000e"},
    ]
    assert world.template()["spec"]["networks"][1] == {"name": "data", "multus": {"networkName": "red"}}
    assert world.hosts("red") == {f"{at(red, 50)}.conf": f"dhcp-host={mac},{at(red, 50)}"}
    assert world.vm()["metadata"]["annotations"][WISH] == "red"
    check(world.cluster, world.namespace, settled=True)

    versions = resource_versions(world.cluster, world.namespace, *KINDS)
    assert "unchanged" in world.yoshi.done("vm", "attach", "web", "--network", "red")
    assert world.yoshi.done("sync") == "unchanged: 1 network and 1 VM are as asked for\n"
    assert resource_versions(world.cluster, world.namespace, *KINDS) == versions
    said = world.yoshi.refused("network", "delete", "red")
    assert f"is in use: {at(red, 50)} {world.namespace}/web" in said

    world.yoshi.done("vm", "detach", "web", "--network", "red")
    assert world.template() == before["spec"]["template"]
    assert world.hosts("red") == world.records("red") == {}
    world.yoshi.done("network", "delete", "red")
    assert world.made("red") == world.templates() == []


def test_the_same_mac_comes_back_with_the_record(world: World, red: str) -> None:
    """A template that was put back from a backup, without interface and address, is given both again."""
    make_vms(world.cluster, world.namespace, "web")
    bare = world.template()
    world.yoshi.done("vm", "attach", "web", "--network", "red")
    nics = world.nics()
    patch = json.dumps([{"op": "replace", "path": "/spec/template", "value": bare}])
    world.cluster.kubectl("-n", world.namespace, "patch", "vm", "web", "--type=json", "-p", patch)
    assert world.nics() == []
    world.yoshi.done("sync")
    assert world.nics() == nics
    check(world.cluster, world.namespace, settled=True)


def test_what_cannot_be_is_refused_and_leaves_nothing(world: World, red: str) -> None:
    make_vms(
        world.cluster, world.namespace, "web",
        interfaces=[{"name": "eth", "masquerade": {}}], networks=[{"name": "eth", "pod": {}}],
    )  # fmt: skip
    before = resource_versions(world.cluster, world.namespace, *KINDS)
    for flags, code, says in (
        (("--nic-name", "eth"), 1, 'has an interface "eth" already'),
        (("--nic-name", "-x"), 2, "is not a name for an interface"),
        (("--mac", "none"), 2, "knows its VMs by their MAC addresses"),
        (("--ip", at(red, 1)), 1, "the network itself (DHCP server) holds it"),
        (("--cloud-init",), 1, "has no cloud-init volume"),
    ):
        assert says in world.yoshi.refused("vm", "attach", "web", "--network", "red", *flags, code=code), flags
        check(world.cluster, world.namespace, settled=True)
    after = resource_versions(world.cluster, world.namespace, *KINDS)
    assert after["VirtualMachine/web"] == before["VirtualMachine/web"]
    assert world.hosts("red") == {}


def test_a_vm_on_two_layer_2_networks_and_a_calico_one_has_an_address_of_each(
    world: World, red: str, cidr: Cidrs
) -> None:
    world.create("green", cidr(24), "--vlan", "30")
    world.yoshi.done("network", "create", "blue", "--cidr", cidr(24))
    make_vms(world.cluster, world.namespace, "web")
    for name in ("red", "blue", "green"):
        world.yoshi.done("vm", "attach", "web", "--network", name)
    assert world.vm()["metadata"]["annotations"][WISH] == "red,blue,green"
    assert world.plugged() == {"default": "pod", "red": "red", "green": "green"}
    assert len({nic["macAddress"] for nic in world.nics() if "macAddress" in nic}) == 2
    held = {address for name in ("red", "blue", "green") for address in world.records(name)}
    listed, who = world.yoshi.done("vm", "list"), world.yoshi.done("ips", "list", "-o", "name")
    assert len(held) == 3
    for address in held:
        assert address in listed
        assert address in who
    check(world.cluster, world.namespace, settled=True)
    world.yoshi.done("ips", "check")
    for name in ("red", "blue"):
        world.yoshi.done("vm", "detach", "web", "--network", name)
    assert world.vm()["metadata"]["annotations"][WISH] == "green"
    assert world.plugged() == {"default": "pod", "green": "green"}
    check(world.cluster, world.namespace, settled=True)


def test_sync_makes_true_what_an_annotation_with_commas_asks_for(world: World, red: str, cidr: Cidrs) -> None:
    world.create("green", cidr(24), "--vlan", "30")
    world.yoshi.done("network", "create", "blue", "--cidr", cidr(24))
    wish = {WISH: f"red, {world.namespace}/green,blue"}
    make_vms(world.cluster, world.namespace, "web", "db", annotations=wish)
    world.yoshi.done("sync")
    for name in ("web", "db"):
        assert sorted(world.plugged(name)) == ["default", "green", "red"]
        assert "cni.projectcalico.org/ipAddrs" in world.template(name)["metadata"]["annotations"]
    assert all(len(world.records(name)) == 2 for name in ("red", "green", "blue"))
    check(world.cluster, world.namespace, settled=True)
    before = resource_versions(world.cluster, world.namespace, *KINDS)
    assert world.yoshi.done("sync") == "unchanged: 3 networks and 2 VMs are as asked for\n"
    assert resource_versions(world.cluster, world.namespace, *KINDS) == before


def lend(world: World, address: str, mac: str) -> Json:
    """What luigi's DHCP server writes for a lease."""
    metadata = {"name": address, "namespace": "default"}
    spec = {"macAddr": mac, "vlanId": "20", "leaseExpiry": "4000000000", "entityRef": "stranger"}
    api = {"apiVersion": "dhcp.plumber.k8s.pf9.io/v1alpha1", "kind": "IPAllocation"}
    return make(world.cluster, {**api, "metadata": metadata, "spec": spec})[0]


def test_what_is_lent_to_others_is_not_chosen_and_what_is_reserved_is_not_lent(world: World, red: str) -> None:
    leases = [lend(world, at(red, number), f"02:00:00:00:00:{number:02}") for number in (2, 3)]
    try:
        make_vms(world.cluster, world.namespace, "web", "db")
        said = world.yoshi.refused("vm", "attach", "web", "--network", "red", "--ip", at(red, 3))
        assert f"ipallocation/{at(red, 3)} in namespace default uses it" in said
        assert f"attached to red: {at(red, 4)}" in world.yoshi.done("vm", "attach", "web", "--network", "red")
        # Its own lease is no obstacle: the guest had the address before anybody wrote it down.
        lent_to_itself = lend(world, at(red, 9), world.nics()[-1]["macAddress"])
        leases.append(lent_to_itself)
        world.yoshi.done("vm", "attach", "web", "--network", "red", "--ip", at(red, 9), "--replace")
        assert list(world.records("red")) == [at(red, 9)]
    finally:
        for lease in leases:
            world.cluster.kubectl("-n", "default", "delete", LEASES, lease["metadata"]["name"])
    world.yoshi.done("ips", "reserve", "red", at(red, 60), "--note", "the printer")
    assert world.hosts("red")[f"{at(red, 60)}.conf"] == f"dhcp-host=id:reserved-{at(red, 60)},{at(red, 60)}"
    world.yoshi.done("ips", "release", "red", at(red, 60))
    assert list(world.hosts("red")) == [f"{at(red, 9)}.conf"]
    check(world.cluster, world.namespace, settled=True)


def test_files_that_luigis_controller_threw_away_are_written_again(world: World, red: str) -> None:
    make_vms(world.cluster, world.namespace, "web")
    world.yoshi.done("vm", "attach", "web", "--network", "red")
    before = world.files("red")
    patch = json.dumps([{"op": "remove", "path": "/binaryData"}])
    world.cluster.kubectl("-n", world.namespace, "patch", "configmap", "red", "--type=json", "-p", patch)
    world.yoshi.done("sync")
    assert world.files("red") == before


# -- guests without DHCP ---------------------------------------------------------------------------------------------


@pytest.fixture
def quiet(world: World, cidr: Cidrs) -> str:
    """The CIDR of a layer 2 network without a DHCP server."""
    network = cidr(24)
    world.create("quiet", network, "--vlan", "40", "--no-dhcp", "--gateway", at(network, 1))
    return network


def guest(world: World, kind: str, source: Json) -> None:
    machine = vm(world.namespace, "web")
    machine["spec"]["template"]["spec"]["volumes"] = [{"name": "init", kind: source}]
    make(world.cluster, machine)


@pytest.mark.parametrize("kind", ["cloudInitNoCloud", "cloudInitConfigDrive"])
def test_cloud_init_tells_the_guest_its_address_and_forgets_it(world: World, quiet: str, kind: str) -> None:
    guest(world, kind, {"userData": "#cloud-config"})
    before = world.template()
    ran = world.yoshi.run("vm", "attach", "web", "--network", "quiet")
    assert f"set {at(quiet, 2)}/24, gateway {at(quiet, 1)} in it, or pass --cloud-init" in ran.err, str(ran)
    ran = world.yoshi.run("vm", "attach", "web", "--network", "quiet", "--cloud-init")
    assert (ran.code, ran.err) == (0, "")
    source = world.template()["spec"]["volumes"][0][kind]
    told = yaml.safe_load(source["networkData"])
    mac = world.nics()[-1]["macAddress"]
    if kind == "cloudInitNoCloud":
        [mine] = [one for one in told["ethernets"].values() if one.get("match") == {"macaddress": mac}]
        assert mine["addresses"] == [f"{at(quiet, 2)}/24"]
    else:
        assert [one["ethernet_mac_address"] for one in told["links"]] == [mac]
        assert [one["ip_address"] for one in told["networks"]] == [at(quiet, 2)]
    assert source["userData"] == "#cloud-config"
    world.yoshi.done("vm", "detach", "web", "--network", "quiet")
    assert mac not in json.dumps(world.template())
    assert world.template()["spec"]["volumes"][0][kind]["userData"] == before["spec"]["volumes"][0][kind]["userData"]


def test_network_data_in_a_secret_is_written_by_who_may_read_it_only(world: World, quiet: str) -> None:
    text = b64encode(b"version: 1\nconfig: []\n").decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "data": {"networkdata": text, "password": "aGk="}}
    make(world.cluster, {**secret, "metadata": {"name": "net", "namespace": world.namespace}})
    guest(world, "cloudInitNoCloud", {"userData": "x", "networkDataSecretRef": {"name": "net"}})
    who = f"{world.namespace}-tenant"
    binding = ("create", "rolebinding", "tenant", "--clusterrole=yoshi-user", f"--user={who}")
    world.cluster.kubectl("-n", world.namespace, *binding)
    words = ("vm", "attach", "web", "--network", "quiet", "--cloud-init")
    said = world.yoshi.refused(f"--as={who}", *words)
    assert f"is in secret/net in namespace {world.namespace}, which cannot be read" in said
    assert world.records("quiet") == {}
    world.yoshi.done(*words)
    data = world.there("secret", "net")["data"]
    assert data["password"] == "aGk="
    [entry] = yaml.safe_load(b64decode(data["networkdata"]))["config"]
    assert entry["subnets"][0]["address"] == f"{at(quiet, 2)}/24"
    assert "networkData" not in world.template()["spec"]["volumes"][0]["cloudInitNoCloud"]


# -- who may do what -------------------------------------------------------------------------------------------------


def test_a_tenant_attaches_and_detaches_with_the_rights_of_his_namespace(world: World, red: str) -> None:
    """Leases are in another namespace: he is told that they could not be looked at."""
    make_vms(world.cluster, world.namespace, "web")
    who = f"{world.namespace}-tenant"
    world.cluster.kubectl(
        "-n", world.namespace, "create", "rolebinding", "t", "--clusterrole=yoshi-user", f"--user={who}"
    )
    ran = world.yoshi.run(f"--as={who}", "vm", "attach", "web", "--network", "red")
    assert ran.code == 0, str(ran)
    assert f"whether {at(red, 2)} is lent to another machine cannot be told" in ran.err
    check(world.cluster, world.namespace, settled=True)
    ran = world.yoshi.run(f"--as={who}", "vm", "detach", "web", "--network", "red")
    assert ran.code == 0, str(ran)
    assert world.nics() == [{"name": "default", "bridge": {}}]
    assert world.hosts("red") == world.records("red") == {}


# -- at once ---------------------------------------------------------------------------------------------------------


def test_of_8_processes_on_a_small_network_exactly_as_many_get_an_address_as_there_are(
    world: World, cidr: Cidrs
) -> None:
    """Of a /29 the DHCP server has one address, and strangers need none that is free."""
    world.create("small", cidr(29), "--vlan", "20")
    names = [f"web-{number}" for number in range(8)]
    make_vms(world.cluster, world.namespace, *names)
    rans = world.yoshi.together(*(("vm", "attach", name, "--network", "small") for name in names))
    assert sorted(ran.code for ran in rans) == [0] * 5 + [1] * 3
    assert all("is full" in ran.err for ran in rans if ran.code)
    records = world.records("small")
    assert {record["name"] for record in records.values()} == {ran.args[2] for ran in rans if ran.code == 0}
    assert world.hosts("small") == {f"{a}.conf": f"dhcp-host={r['mac']},{a}" for a, r in records.items()}
    check(world.cluster, world.namespace, settled=True)
    rans = world.yoshi.together(*(("vm", "detach", name, "--network", "small") for name in names))
    assert [ran.code for ran in rans] == [0] * 8, "\n".join(map(str, rans))
    assert world.hosts("small") == world.records("small") == {}


def test_of_two_networks_made_at_once_on_one_vlan_at_most_one_survives_with_all_its_objects(
    world: World, cidr: Cidrs
) -> None:
    for _ in range(3):
        rans = world.yoshi.together(
            *(("network", "create", name, *world.flags(cidr(24), "--vlan", "20")) for name in ("one", "two"))
        )
        made = [ran.args[2] for ran in rans if ran.code == 0]
        assert len(made) <= 1, "\n".join(map(str, rans))
        for ran in rans:
            assert world.made(ran.args[2]) == (list(OWN) if ran.code == 0 else []), str(ran)
            assert (world.one("networkwizard", ran.args[2]) is None) == (ran.code != 0)
        assert len(world.templates()) == len(made)
        for name in made:
            world.yoshi.done("network", "delete", name)
