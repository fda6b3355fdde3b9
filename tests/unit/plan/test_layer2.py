"""Layer 2 networks and their VMs, through the planners.

| what | is shown |
|---|---|
| create | every object once, the server's address recorded; two VLANs share a bridge; what is in the way is named |
| attach | record, DHCP's file, VM; several networks; nothing else of the VM changes |
| detach, delete | nothing is left, and of others' nothing is taken |
| what is missing | Multus, Hostplumber, the DHCP controller: which, and what still works |
"""

from __future__ import annotations

import copy
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from kubectl_yoshi.backends.kubevirt import KUBEVIRT
from kubectl_yoshi.backends.ovs.backend import Ovs
from kubectl_yoshi.backends.ovs.cloud_init import SECRET
from kubectl_yoshi.backends.ovs.interface import MULTUS_NETWORKS
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, LEASE, NAD, TEMPLATE
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import NETWORKWIZARD, Network
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, name_of
from kubectl_yoshi.model.snapshot import ServedApis
from kubectl_yoshi.model.vm import POD, VM, VMI, Nic
from tests.unit.plan.fake_cluster import FakeCluster, refusal, requested_network

LAB = "prod/lab"
MADE = (TEMPLATE, NAD, DHCPSERVER, CONFIGMAP)


def layer2(
    cluster: FakeCluster, name: str = "lab", cidr: str = "10.20.0.0/24", namespace: str = "prod", **ovs: Any
) -> Network:
    spec = spec_of(**ovs)
    return cluster.network(name, cidr, namespace, **spec)


def spec_of(**ovs: Any) -> Json:
    more = {key: ovs.pop(key) for key in ("gateway", "exclude", "range_start", "range_end") if key in ovs}
    return {"plugin": "ovs", "ovs": {"bridge": "br-ext", "nic": "eth1", "vlan": 20, **ovs}, **more}


def in_the_way(cluster: FakeCluster, name: str = "lab", cidr: str = "10.20.0.0/24", **ovs: Any) -> str:
    with pytest.raises(PreconditionFailed) as caught:
        cluster.make_network(name, cidr, **spec_of(**ovs))
    assert not cluster.networks() or name not in cluster.networks()
    return str(caught.value)


def made(cluster: FakeCluster) -> list[str]:
    """Everything of a Layer 2 network that there is: "kind/name"."""
    return [f"{resource.kind}/{name_of(obj)}" for resource in MADE for obj in cluster.api.every(resource)]


def files(cluster: FakeCluster, name: str = "lab") -> dict[str, str]:
    config = cluster.api.look(CONFIGMAP.ref(name, "prod")) or {}
    return {key: b64decode(value).decode() for key, value in (config.get("binaryData") or {}).items()}


def hosts(cluster: FakeCluster, name: str = "lab") -> dict[str, str]:
    """The files of addresses that are held, each its last line: the one before it has the record's time."""
    return {key: text.splitlines()[-1] for key, text in files(cluster, name).items() if key != "yoshi-options.conf"}


def without(cluster: FakeCluster, *resources: Resource) -> None:
    """The cluster does not serve these kinds."""
    names = {resource.full_name for resource in resources}
    known = cluster.api.served
    kept = {name: resource for name, resource in known.resources.items() if name not in names}
    cluster.api.served = ServedApis(kept, {r.group: (r.version,) for r in kept.values()}, {})


# -- networks --------------------------------------------------------------------------------------------------------


def test_network_create_creates_each_object_once_and_records_the_dhcp_address() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    assert [one.partition("/")[0] for one in made(cluster)] == [resource.kind for resource in MADE]
    assert cluster.holders("lab") == {"10.20.0.1": "the network itself (DHCP server)"}
    [obj] = cluster.api.every(NETWORKWIZARD)
    assert (obj["status"]["created"], obj["status"]["used"]) == (True, 1)
    before = copy.deepcopy(cluster.api.writes)
    cluster.sync_network("lab")
    assert cluster.api.writes == before


def test_networks_of_different_vlans_share_a_bridge_until_the_last_is_deleted() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    layer2(cluster, "fast", "10.21.0.0/24", vlan=30)
    layer2(cluster, "far", "10.22.0.0/24", namespace="other", vlan=40)
    assert [name_of(obj) for obj in cluster.api.every(TEMPLATE)] == ["yoshi-br-ext-7fefc507"]
    for name, namespace, left in (("lab", "prod", 1), ("far", "other", 1), ("fast", "prod", 0)):
        cluster.delete_network(name, namespace)
        assert len(cluster.api.every(TEMPLATE)) == left
    assert made(cluster) == []


def test_foreign_template_is_reused_and_kept() -> None:
    cluster = FakeCluster()
    theirs = {"ovsConfig": [{"bridgeName": "br-ext", "nodeInterface": "eth1", "params": {"mtuRequest": 9000}}]}
    before = cluster.api.put(TEMPLATE, {"metadata": {"name": "theirs", "namespace": "infra"}, "spec": theirs})
    layer2(cluster, mtu=1500)
    cluster.delete_network("lab")
    assert cluster.api.every(TEMPLATE) == [before]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"ovsConfig": [{"bridgeName": "br-int", "nodeInterface": "eth1"}]}, "adds eth1 to bridge br-int"),
        ({"ovsConfig": [{"bridgeName": "br-ext", "nodeInterface": "eth2"}]}, "adds eth2 to bridge br-ext, not eth1"),
        ({"ovsConfig": [{"bridgeName": "br-int", "nodeInterface": "eth0,eth1"}]}, "adds eth1 to bridge br-int"),
        (
            {"nodeSelector": {"zone": "a"}, "ovsConfig": [{"bridgeName": "br-ext", "nodeInterface": "eth1"}]},
            "creates bridge br-ext on other nodes",
        ),
        (
            {"ovsConfig": [{"bridgeName": "br-ext", "nodeInterface": "eth1", "params": {"mtuRequest": 1400}}]},
            "sets the MTU of bridge br-ext to 1400, which is less than 1500",
        ),
    ],
)
def test_contradicting_template_is_a_conflict(spec: Json, says: str) -> None:
    cluster = FakeCluster()
    cluster.api.put(TEMPLATE, {"metadata": {"name": "theirs", "namespace": "infra"}, "spec": spec})
    message = in_the_way(cluster, mtu=1500)
    assert "hostnetworktemplate/theirs in namespace infra" in message
    assert says in message


def test_template_for_disjoint_nodes_is_no_conflict() -> None:
    cluster = FakeCluster()
    spec = {"nodeSelector": {"zone": "a"}, "ovsConfig": [{"bridgeName": "br-int", "nodeInterface": "eth1"}]}
    cluster.api.put(TEMPLATE, {"metadata": {"name": "theirs", "namespace": "infra"}, "spec": spec})
    layer2(cluster, nodeSelector={"zone": "b"})
    assert len(cluster.api.every(TEMPLATE)) == 2


@pytest.mark.parametrize(
    ("cidr", "ovs", "says"),
    [
        ("10.21.0.0/24", {}, "network prod/lab is on bridge br-ext, VLAN 20, already"),
        ("10.21.0.0/24", {"bridge": "br-int", "vlan": 30}, "network prod/lab has eth1 in bridge br-ext"),
        ("10.21.0.0/24", {"nic": "eth2", "vlan": 30}, "network prod/lab has eth1 in bridge br-ext"),
        (
            "10.21.0.0/24",
            {"vlan": 30, "nodeSelector": {"zone": "a"}},
            "network prod/lab creates bridge br-ext on other nodes",
        ),
        ("10.20.0.128/25", {"vlan": 30}, "10.20.0.128/25 overlaps network prod/lab"),
    ],
)
def test_contradicting_network_is_a_conflict(cidr: str, ovs: Json, says: str) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    assert says in in_the_way(cluster, "fast", cidr, **ovs)
    assert len(made(cluster)) == 4


@pytest.mark.parametrize("seed", range(6))
def test_networks_created_at_once_on_one_vlan_leave_one_with_all_its_objects(seed: int) -> None:
    cluster = FakeCluster()
    outcomes = cluster.run_concurrently(
        lambda mine: mine.make_network("lab", "10.20.0.0/24", **spec_of()),
        lambda mine: mine.make_network("fast", "10.21.0.0/24", **spec_of()),
        seed=seed,
    )
    assert len(cluster.networks()) == 1
    assert sum(isinstance(one, PreconditionFailed) or bool(one.errors) for one in outcomes) == 1
    assert len(made(cluster)) == 4


@pytest.mark.parametrize("resource", [NAD, DHCPSERVER, CONFIGMAP])
def test_foreign_object_of_the_same_name_is_a_conflict_and_kept(resource: Resource) -> None:
    cluster = FakeCluster()
    theirs = cluster.api.put(resource, {"metadata": {"name": "lab", "namespace": "prod"}, "spec": {}, "data": {}})
    assert f"{resource.kind.lower()}/lab in namespace prod exists" in in_the_way(cluster)
    assert cluster.api.every(resource) == [theirs]


@pytest.mark.parametrize(
    ("gone", "ovs", "says", "helps"),
    [
        ([NAD], {}, "Multus", ""),
        ([TEMPLATE], {}, "Hostplumber", "--no-host-config"),
        ([DHCPSERVER], {}, "DHCP controller", "--no-dhcp"),
        ([DHCPSERVER, TEMPLATE], {"hostConfig": False}, "DHCP controller", "--no-dhcp"),
    ],
)
def test_missing_crds_are_named_with_the_remaining_options(
    gone: list[Resource], ovs: Json, says: str, helps: str
) -> None:
    cluster = FakeCluster()
    without(cluster, *gone)
    message = in_the_way(cluster, **ovs)
    assert says in message
    assert helps in message


def test_network_without_host_config_and_dhcp_creates_only_the_attachment_definition() -> None:
    cluster = FakeCluster()
    without(cluster, TEMPLATE, DHCPSERVER, LEASE)
    layer2(cluster, hostConfig=False, nic=None, dhcp={"enabled": False})
    assert made(cluster) == ["NetworkAttachmentDefinition/lab"]
    cluster.vm()
    assert cluster.attach(network=LAB).results == {"prod/web-1": "10.20.0.1"}
    cluster.detach(network=LAB)
    cluster.delete_network("lab")
    assert made(cluster) == []


def test_configmap_recreated_by_the_luigi_controller_is_filled_again() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.attach(network=LAB)
    cluster.reserve("10.20.0.9", network="lab", note="the printer")
    whole = files(cluster)
    server = cluster.api.look(DHCPSERVER.ref("lab", "prod"))
    owner = {"kind": "DHCPServer", "name": "lab", "uid": dig(server, "metadata", "uid"), "controller": True}

    def forget(config: Json) -> None:
        del config["binaryData"]
        config["metadata"] = {key: config["metadata"][key] for key in ("name", "namespace", "uid")}
        config["metadata"]["ownerReferences"] = [owner]

    cluster.api.change(CONFIGMAP.ref("lab", "prod"), forget)
    cluster.sync_network("lab")
    assert files(cluster) == whole
    cluster.delete_network("lab", force=True)
    assert made(cluster) == []


def test_dhcp_can_be_disabled_and_enabled_again() -> None:
    cluster = FakeCluster()
    layer2(cluster)

    def set_dhcp(enabled: bool) -> None:
        cluster.api.change(
            NETWORKWIZARD.ref("lab", "prod"), lambda obj: obj["spec"]["ovs"].update(dhcp={"enabled": enabled})
        )
        cluster.sync_network("lab")

    set_dhcp(False)
    assert not cluster.api.every(DHCPSERVER) + cluster.api.every(CONFIGMAP)
    assert cluster.holders("lab") == {}
    set_dhcp(True)
    assert len(made(cluster)) == 4
    assert cluster.holders("lab") == {"10.20.0.1": "the network itself (DHCP server)"}


def test_gc_deletes_templates_of_networks_deleted_with_kubectl() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    layer2(cluster, "fast", "10.21.0.0/24", vlan=30)
    cluster.api.drop(NETWORKWIZARD.ref("lab", "prod"))
    cluster.collect()
    assert [one for one in made(cluster) if one.startswith("HostNetworkTemplate")]
    cluster.api.drop(NETWORKWIZARD.ref("fast", "prod"))
    cluster.collect()
    assert made(cluster) == []


def test_dhcp_server_address_is_never_assigned_nor_released() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    assert "the network itself (DHCP server) holds it" in str(refusal(cluster.attach(network=LAB, ip="10.20.0.1")))
    released = cluster.release("10.20.0.1", network="lab")
    assert "stays recorded for the network itself" in str(released.errors["10.20.0.1"])
    assert cluster.holders("lab")


@pytest.mark.parametrize(
    ("ovs", "says"),
    [
        ({"bridge": None}, "needs a bridge"),
        ({"bridge": "br external"}, 'bridge "br external" is not a valid network device name'),
        ({"nic": None}, "the node interface of bridge br-ext is not specified"),
        ({"nic": "eth1,eth2,eth3"}, "neither one interface nor two"),
        ({"nic": "eth1,eth1"}, "neither one interface nor two"),
        ({"bond": {"mode": "balance-slb"}}, "bond is for two interfaces"),
        ({"vlan": 5000}, "vlan 5000 is not valid"),
        ({"dhcp": {"rangeStart": "10.9.0.1", "rangeEnd": "10.9.0.2"}}, "outside 10.20.0.0/24"),
        ({"dhcp": {"rangeStart": "10.20.0.9", "rangeEnd": "10.20.0.2"}}, "the lower one first"),
    ],
)
def test_invalid_ovs_spec_is_a_usage_error(ovs: Json, says: str) -> None:
    with pytest.raises(UsageError, match="network prod/lab: ") as caught:
        FakeCluster().make_network("lab", "10.20.0.0/24", **spec_of(**ovs))
    assert says in caught.value.message


def test_dhcp_requires_ipv4_and_ipv6_works_without_it() -> None:
    cluster = FakeCluster()
    with pytest.raises(UsageError, match="IPv4 only"):
        cluster.make_network("lab", "fd00:20::/64", **spec_of())
    layer2(cluster, cidr="fd00:20::/64", dhcp={"enabled": False})
    cluster.vm()
    assert cluster.attach(network=LAB).results["prod/web-1"].startswith("fd00:20::")


# -- VMs -------------------------------------------------------------------------------------------------------------


def interfaces(cluster: FakeCluster, name: str = "web-1") -> list[Json]:
    return dig(cluster.now(name).raw, "spec", "template", "spec", "domain", "devices", "interfaces", default=[])  # type: ignore[no-any-return]


def multus(cluster: FakeCluster, name: str = "web-1") -> dict[str, str]:
    networks = dig(cluster.now(name).raw, "spec", "template", "spec", "networks", default=[])
    return {one["name"]: dig(one, "multus", "networkName", default="pod") for one in networks}


def test_attach_adds_interface_mac_and_dhcp_file() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    done = cluster.attach(network=LAB, nic=Nic("data", "virtio"))
    assert done.results == {"prod/web-1": "10.20.0.2"}
    record = cluster.records("lab")["10.20.0.2"]
    assert interfaces(cluster) == [
        {"name": "default", "bridge": {}},
        {"name": "data", "bridge": {}, "macAddress": record.mac, "model": "virtio"},
    ]
    assert multus(cluster) == {"default": "pod", "data": "lab"}
    assert hosts(cluster) == {"10.20.0.2.conf": f"dhcp-host={record.mac},10.20.0.2"}
    assert requested_network(cluster.now()) == "lab"
    assert not cluster.attach(network=LAB).executed


def test_attach_writes_allocation_then_dhcp_then_vm() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.api.writes.clear()
    cluster.attach(network=LAB)
    order = [write for write in cluster.api.writes if "count" not in write]
    assert order == [
        "patch networkwizard/lab status", "patch configmap/lab", "patch virtualmachine/web-1",
    ]  # fmt: skip


def test_detach_from_one_network_keeps_the_others() -> None:
    cluster = FakeCluster()
    cluster.network()
    layer2(cluster)
    layer2(cluster, "fast", "10.21.0.0/24", vlan=30)
    cluster.vm()
    for name in ("lab", "blue", "fast"):
        cluster.attach(network=f"prod/{name}")
    assert requested_network(cluster.now()) == "lab,blue,fast"
    assert multus(cluster) == {"default": "pod", "lab": "lab", "fast": "fast"}
    cluster.detach(network=LAB)
    assert requested_network(cluster.now()) == "blue,fast"
    assert multus(cluster) == {"default": "pod", "fast": "fast"}
    assert cluster.pin() == "10.133.0.1"
    cluster.detach()
    cluster.detach(network="prod/fast")
    assert requested_network(cluster.now()) is None
    assert [list(cluster.holders(name)) for name in ("lab", "blue", "fast")] == [["10.20.0.1"], [], ["10.21.0.1"]]
    assert hosts(cluster) == hosts(cluster, "fast") == {}


def test_attach_and_detach_preserve_other_fields_of_the_vm() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    template = {
        "metadata": {"annotations": {"theirs": "1"}, "labels": {"app": "x"}},
        "spec": {
            "domain": {
                "devices": {"interfaces": [{"name": "eth", "masquerade": {}, "state": "up"}], "disks": [{"x": 1}]}
            },
            "networks": [{"name": "eth", "pod": {"vmNetworkCIDR": "10.0.2.0/24"}}],
            "volumes": [{"name": "root"}],
        },
    }
    cluster.vm(template=copy.deepcopy(template))
    cluster.attach(network=LAB)
    assert interfaces(cluster)[0] == {"name": "eth", "masquerade": {}, "state": "up"}
    cluster.detach(network=LAB)
    assert cluster.now().raw["spec"]["template"] == template


def test_existing_interface_is_adopted_with_its_mac() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    interface = {"name": "mine", "bridge": {}, "macAddress": "02:00:00:00:00:07", "bootOrder": 2}
    networks = [{"name": "mine", "multus": {"networkName": "prod/lab"}}]
    cluster.vm(template={"spec": {"domain": {"devices": {"interfaces": [interface]}}, "networks": networks}})
    cluster.attach(network=LAB)
    assert interfaces(cluster) == [interface]
    assert hosts(cluster) == {"10.20.0.2.conf": "dhcp-host=02:00:00:00:00:07,10.20.0.2"}


def test_copied_vm_gets_its_own_mac_and_address() -> None:
    """Or the server would know both machines by one MAC address, and give both the same address."""
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.attach(network=LAB)
    copied = copy.deepcopy(cluster.now().raw)
    copied["metadata"] = {"name": "web-2", "namespace": "prod", "annotations": copied["metadata"]["annotations"]}
    cluster.api.put(VM, copied)
    assert "prod/web-1 holds it" in refusal(cluster.attach("web-2", network=LAB), "prod/web-2").message
    assert cluster.attach("web-2", network=LAB, ip="10.20.0.9", replace=True).results == {"prod/web-2": "10.20.0.9"}
    macs = {record.name: record.mac for record in cluster.records("lab").values() if record.mac}
    assert macs.keys() == {"web-1", "web-2"} and len({*macs.values()}) == 2
    assert interfaces(cluster, "web-2")[-1]["macAddress"] == macs["web-2"]
    assert hosts(cluster)["10.20.0.9.conf"] == f"dhcp-host={macs['web-2']},10.20.0.9"
    cluster.api.writes.clear()
    assert not cluster.attach("web-2", network=LAB).executed


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"nic": Nic("root")}, 'has an interface "root" already'),
        ({"nic": Nic("-x")}, "is not a valid interface name"),
        ({"mac": ""}, "identifies its VMs by their MAC addresses"),
    ],
)
def test_refused_interface_leaves_nothing(more: Json, says: str) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    networks = [{"name": "root", "pod": {}}]
    cluster.vm(template={"spec": {"domain": {"devices": {"interfaces": [{"name": "root"}]}}, "networks": networks}})
    assert says in str(refusal(cluster.attach(network=LAB, **more)))
    assert list(cluster.holders("lab")) == ["10.20.0.1"]
    assert hosts(cluster) == {}


def test_layer2_flags_are_refused_by_other_networks() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm()
    with pytest.raises(PreconditionFailed, match="adds no interface to its VMs"):
        cluster.attach(nic=Nic("data"))


def test_interface_name_in_use_is_replaced_by_a_free_one() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    networks = [{"name": "lab", "multus": {"networkName": "other/lab"}}]
    cluster.vm(template={"spec": {"domain": {"devices": {"interfaces": [{"name": "lab"}]}}, "networks": networks}})
    cluster.attach(network=LAB)
    [_, name] = multus(cluster)
    assert name.startswith("lab-")


def test_leased_address_is_not_assigned() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    for last, mac in ((2, "02:00:00:00:00:99"), (3, "02:00:00:00:00:98")):
        cluster.api.put(
            LEASE, {"metadata": {"name": f"10.20.0.{last}", "namespace": "default"}, "spec": {"macAddr": mac}}
        )
    assert cluster.attach(network=LAB).results == {"prod/web-1": "10.20.0.4"}
    cluster.vm("web-2")
    lent = refusal(cluster.attach("web-2", network=LAB, ip="10.20.0.3"), "prod/web-2")
    assert "ipallocation/10.20.0.3 in namespace default uses it" in str(lent)


def test_lease_of_the_vm_itself_is_no_conflict() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    interface = {"name": "mine", "bridge": {}, "macAddress": "02:00:00:00:00:07"}
    networks = [{"name": "mine", "multus": {"networkName": "lab"}}]
    cluster.vm(template={"spec": {"domain": {"devices": {"interfaces": [interface]}}, "networks": networks}})
    cluster.api.put(
        LEASE, {"metadata": {"name": "10.20.0.9", "namespace": "default"}, "spec": {"macAddr": "02:00:00:00:00:07"}}
    )
    assert cluster.attach(network=LAB, ip="10.20.0.9").results == {"prod/web-1": "10.20.0.9"}


def test_reservation_is_excluded_from_dhcp_until_it_is_released() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.reserve("10.20.0.7", network="lab", note="the printer")
    assert hosts(cluster) == {"10.20.0.7.conf": "dhcp-host=id:reserved-10.20.0.7,10.20.0.7"}
    cluster.release("10.20.0.7", network="lab")
    assert hosts(cluster) == {}


def test_rolled_back_reservation_removes_its_dhcp_file() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    mine = cluster.second_client(1)

    def delete(verb: str, ref: ObjectRef) -> None:
        if verb == "get" and ref.resource == NETWORKWIZARD and [key for key in hosts(cluster) if "10.20.0.2" in key]:
            mine.api.before.clear()
            cluster.api.change(ref, lambda obj: obj["status"].update(deleting="2026-01-01T00:00:00Z"))

    there = files(cluster)
    mine.api.before.append(delete)
    with pytest.raises(PreconditionFailed, match="network prod/lab is being deleted"):
        mine.reserve(network="lab")
    assert (list(cluster.holders("lab")), files(cluster)) == (["10.20.0.1"], there)


def test_gc_removes_only_dhcp_files_without_an_allocation() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.attach(network=LAB)
    kept = hosts(cluster)
    late = b64encode(b"dhcp-host=02:00:00:00:00:01,10.20.0.77\n").decode()
    cluster.api.change(
        CONFIGMAP.ref("lab", "prod"),
        lambda obj: obj["binaryData"].update({"10.20.0.77.conf": late, "theirs.conf": late}),
    )
    told = [change.summary for change, _ in cluster.collect().executed]
    assert told == ["remove the reservation of 10.20.0.77 for 02:00:00:00:00:01 from configmap/lab in namespace prod"]
    assert hosts(cluster).keys() == {*kept, "theirs.conf"}


@pytest.mark.parametrize(
    ("file", "whom"),
    [
        (b"# 2026-01-01T00:00:00Z\ndhcp-host=id:reserved-10.20.0.77,10.20.0.77\n", "a reservation"),
        (b"", "an unknown client"),
        (b"\xff", "an unknown client"),
    ],
)
def test_removed_dhcp_file_is_reported_with_its_owner(file: bytes, whom: str) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    binary = {"10.20.0.77.conf": b64encode(file).decode()}
    cluster.api.change(CONFIGMAP.ref("lab", "prod"), lambda obj: obj["binaryData"].update(binary))
    [(change, _)] = cluster.collect().executed
    assert f"remove the reservation of 10.20.0.77 for {whom} from " in change.summary


def test_removed_dhcp_file_is_reported_with_its_vm() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.attach(network=LAB)
    summary = [change.summary for change, _ in cluster.detach(network=LAB).executed]
    assert "remove the reservation of 10.20.0.2 for prod/web-1 from configmap/lab in namespace prod" in summary


def test_dhcp_files_of_many_vms_are_written_by_one_patch() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    names = [f"web-{number}" for number in range(30)]
    for name in names:
        cluster.vm(name)
    cluster.api.writes.clear()
    done = cluster.attach(*names, network=LAB)
    assert len(set(done.results.values())) == 30
    assert cluster.api.writes.count("patch configmap/lab") == 1
    assert len(hosts(cluster)) == 30


def test_refused_vm_leaves_no_allocation_and_no_dhcp_file() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.api.refuse("patch", VM)
    assert refusal(cluster.attach(network=LAB))
    assert list(cluster.holders("lab")) == ["10.20.0.1"]
    assert hosts(cluster) == {}


def overtaken(cluster: FakeCluster, *meanwhile: Callable[[], Any]) -> RunResult:
    """An attachment while others do something between its record and its file."""
    mine = cluster.second_client(1)
    left = list(meanwhile)

    def first(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", CONFIGMAP):
            while left:
                left.pop(0)()

    mine.api.before.append(first)
    return mine.attach(network=LAB)


def test_overtaken_attach_rolls_back_its_dhcp_file() -> None:
    """Others removed its allocation before the file was there, and gave the VM another address."""
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    done = overtaken(cluster, lambda: cluster.detach(network=LAB), lambda: cluster.attach(network=LAB, ip="10.20.0.77"))
    assert done.results == {"prod/web-1": "10.20.0.77"}
    assert list(hosts(cluster)) == ["10.20.0.77.conf"]
    assert not cluster.collect().executed


def test_overtaken_attach_keeps_the_dhcp_file_of_the_new_owner() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.vm()
    cluster.vm("web-2")
    done = overtaken(
        cluster,
        lambda: cluster.detach(network=LAB),
        lambda: cluster.attach("web-2", network=LAB, ip="10.20.0.2"),
        lambda: cluster.attach(network=LAB, ip="10.20.0.77"),
    )
    assert done.results == {"prod/web-1": "10.20.0.77"}
    records = {a: r for a, r in cluster.records("lab").items() if r.kind == "VirtualMachine"}
    assert hosts(cluster) == {f"{a}.conf": f"dhcp-host={r.mac},{a}" for a, r in records.items()}
    assert len(records) == 2


def test_running_vm_needs_a_restart_to_get_its_address() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.running()
    done = cluster.attach(network=LAB)
    assert any(note.startswith("restart needed") for note in done.notes)
    cluster.attach(network=LAB, restart=True)
    cluster.time_passes()
    vmi = cluster.api.look(VMI.ref("web-1", "prod"))
    assert dig(vmi, "metadata", "annotations", "ip.plumber.k8s.pf9.io/lab") == "10.20.0.2"
    stays = cluster.detach(network=LAB)
    assert any("stays recorded" in note for note in stays.notes)
    cluster.detach(network=LAB, restart=True)
    cluster.time_passes()
    cluster.detach(network=LAB)
    assert list(cluster.holders("lab")) == ["10.20.0.1"]


# -- guests without DHCP ---------------------------------------------------------------------------------------------

WITHOUT_DHCP = {"dhcp": {"enabled": False, "dns": ["10.20.0.1"]}, "gateway": "10.20.0.1", "mtu": 1400}


def guest(cluster: FakeCluster, volume: Json, name: str = "web-1") -> None:
    volumes = [{"name": "root", "containerDisk": {}}, {"name": "init", **volume}]
    interface = {"name": "lab", "bridge": {}, "macAddress": "02:00:00:00:00:07"}
    networks = [{"name": "lab", "multus": {"networkName": "lab"}}]
    spec = {"domain": {"devices": {"interfaces": [interface]}}, "networks": networks, "volumes": volumes}
    cluster.vm(name, template={"spec": spec})


def init(cluster: FakeCluster) -> Json:
    return cluster.now().raw["spec"]["template"]["spec"]["volumes"][1]  # type: ignore[no-any-return]


def test_attach_without_dhcp_prints_the_guest_configuration() -> None:
    cluster = FakeCluster()
    layer2(cluster, **WITHOUT_DHCP)
    cluster.vm()
    notes = cluster.attach(network=LAB).notes
    assert any("set 10.20.0.2/24, gateway 10.20.0.1 in the guest, or pass --cloud-init" in note for note in notes)


def test_cloud_init_network_data_is_added_and_removed() -> None:
    cluster = FakeCluster()
    layer2(cluster, **WITHOUT_DHCP)
    guest(cluster, {"cloudInitNoCloud": {"userData": "#cloud-config", "networkData": "{version: 2, ethernets: {}}"}})
    done = cluster.attach(network=LAB, nic=Nic(cloud_init=True))
    assert not done.notes
    data = yaml.safe_load(init(cluster)["cloudInitNoCloud"]["networkData"])
    assert data["ethernets"] == {
        "yoshi-lab": {
            "match": {"macaddress": "02:00:00:00:00:07"},
            "addresses": ["10.20.0.2/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "10.20.0.1"}],
            "nameservers": {"addresses": ["10.20.0.1"]},
            "mtu": 1400,
        }
    }
    assert not cluster.attach(network=LAB, nic=Nic(cloud_init=True)).executed
    assert not cluster.attach(network=LAB).notes  # it was printed already
    cluster.detach(network=LAB)
    assert yaml.safe_load(init(cluster)["cloudInitNoCloud"]["networkData"]) == {"version": 2, "ethernets": {}}
    assert init(cluster)["cloudInitNoCloud"]["userData"] == "#cloud-config"


def in_secret(cluster: FakeCluster, text: str) -> None:
    """Secret net, with network data and a password."""
    data = {"networkdata": b64encode(text.encode()).decode(), "password": "aGk="}
    cluster.api.put(SECRET, {"metadata": {"name": "net", "namespace": "prod"}, "data": data})


IN_SECRET: Json = {"cloudInitNoCloud": {"userData": "x", "networkDataSecretRef": {"name": "net"}}}


def test_network_data_in_a_secret_is_written_or_refused() -> None:
    cluster = FakeCluster()
    layer2(cluster, **WITHOUT_DHCP)
    guest(cluster, IN_SECRET)
    in_secret(cluster, "version: 2\nethernets: {}\n")
    cluster.api.refuse("get", SECRET)
    refused = refusal(cluster.attach(network=LAB, nic=Nic(cloud_init=True)))
    assert "is in secret/net in namespace prod, which cannot be read" in str(refused)
    assert list(cluster.holders("lab")) == []
    cluster.api.allow_everything()
    done = cluster.attach(network=LAB, nic=Nic(cloud_init=True))
    assert done.results
    there = cluster.api.look(SECRET.ref("net", "prod"))
    assert there
    assert there["data"]["password"] == "aGk="
    [entry] = yaml.safe_load(b64decode(there["data"]["networkdata"]))["ethernets"].values()
    assert entry["addresses"] == ["10.20.0.2/24"]
    assert not [change for change, _ in done.executed if "password" in str(change.before)]
    cluster.detach(network=LAB)
    there = cluster.api.get(SECRET.ref("net", "prod"))
    assert yaml.safe_load(b64decode(there["data"]["networkdata"])) == {"version": 2, "ethernets": {}}


def test_secret_shared_by_several_vms_is_refused_until_it_has_the_address() -> None:
    cluster = FakeCluster()
    layer2(cluster, **WITHOUT_DHCP)
    guest(cluster, IN_SECRET)
    guest(cluster, IN_SECRET, "web-2")
    in_secret(cluster, "version: 2\nethernets: {}\n")
    before = cluster.api.look(SECRET.ref("net", "prod"))
    refused = refusal(cluster.attach(network=LAB, nic=Nic(cloud_init=True)))
    assert "is in secret/net in namespace prod, which VM prod/web-2 uses too" in str(refused)
    assert cluster.api.look(SECRET.ref("net", "prod")) == before
    assert list(cluster.holders("lab")) == []


@pytest.mark.parametrize(
    ("volume", "says"),
    [
        (
            {"cloudInitConfigDrive": {"networkData": "{}"}},
            "is of cloudInitConfigDrive, and only that of cloudInitNoCloud",
        ),
        ({"cloudInitNoCloud": {"networkData": "version: 1\nconfig: []\n"}}, "is version 1, and only version 2"),
        (
            {"cloudInitNoCloud": {"networkData": "network: {version: 1, config: []}"}},
            "is version 1, and only version 2",
        ),
    ],
)
def test_unsupported_network_data_is_refused_with_the_configuration_to_add(volume: Json, says: str) -> None:
    cluster = FakeCluster()
    layer2(cluster, **WITHOUT_DHCP)
    guest(cluster, volume)
    refused = refusal(cluster.attach(network=LAB, nic=Nic(cloud_init=True)))
    assert says in refused.message
    entry = (
        "{version: 2, ethernets: {yoshi-lab: {match: {macaddress: '02:00:00:00:00:07'}, addresses: [10.20.0.2/24], "
        "routes: [{to: 0.0.0.0/0, via: 10.20.0.1}], nameservers: {addresses: [10.20.0.1]}, mtu: 1400}}}"
    )
    assert refused.hint.endswith(f" and attach with --ip 10.20.0.2 --mac 02:00:00:00:00:07: {entry}")
    assert list(cluster.holders("lab")) == []

    ((kind, _),) = volume.items()
    by_hand = {kind: {"networkData": "{version: 1, networks: [{ip_address: 10.20.0.2}]}"}}
    cluster.api.change(
        VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"]["spec"]["volumes"][1].update(by_hand)
    )
    done = cluster.attach(network=LAB, nic=Nic(cloud_init=True))
    assert done.results == {"prod/web-1": "10.20.0.2"}
    assert init(cluster)[kind] == by_hand[kind]
    cluster.detach(network=LAB)
    assert init(cluster)[kind] == by_hand[kind]


@pytest.mark.parametrize(
    ("volume", "says"),
    [
        ({"emptyDisk": {}}, "has no cloud-init volume"),
        ({"cloudInitNoCloud": {"networkData": "- a list"}}, "is not a valid cloud-init network configuration"),
        ({"cloudInitNoCloud": {"networkData": "x: " + "y" * 2000}}, "longer than 2048 bytes"),
    ],
)
def test_unusable_network_data_is_refused(volume: Json, says: str) -> None:
    cluster = FakeCluster()
    layer2(cluster, **WITHOUT_DHCP)
    guest(cluster, volume)
    assert says in str(refusal(cluster.attach(network=LAB, nic=Nic(cloud_init=True))))
    assert list(cluster.holders("lab")) == []


# -- while it runs ---------------------------------------------------------------------------------------------------


def kubevirt(
    cluster: FakeCluster, version: str = "v1.8.0", methods: list[str] | None = None, **configuration: Any
) -> None:
    spec = {"configuration": configuration, "workloadUpdateStrategy": {"workloadUpdateMethods": methods or []}}
    status = {"observedKubeVirtVersion": version}
    cluster.api.put(
        KUBEVIRT, {"metadata": {"name": "kubevirt", "namespace": "kubevirt"}, "spec": spec, "status": status}
    )


def migratable(cluster: FakeCluster, status: str = "True") -> None:
    def change(vmi: Json) -> None:
        vmi["status"]["conditions"] = [{"type": "LiveMigratable", "status": status, "message": "it has a local disk"}]

    cluster.api.change(VMI.ref("web-1", "prod"), change)


@pytest.mark.parametrize(
    ("live_migration", "can_migrate", "says"),
    [
        ({}, "True", "are updated by its next live migration: virtctl migrate web-1 -n prod"),
        ({"methods": ["LiveMigrate"]}, "True", "KubeVirt live-migrates virtualmachine/web-1"),
        ({}, "False", "it cannot be live-migrated: it has a local disk (`--restart`)"),
        ({"version": "v1.3.0"}, "True", "KubeVirt v1.3 does not support that (v1.4 and later do) (`--restart`)"),
        ({"vmRolloutStrategy": "Stage"}, "True", "vmRolloutStrategy is Stage (`--restart`)"),
        (None, "True", "cannot determine what KubeVirt supports"),
    ],
)
def test_interface_is_hotplugged_if_kubevirt_and_the_vm_support_it(
    live_migration: Json | None, can_migrate: str, says: str
) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    if live_migration is not None:
        kubevirt(cluster, **live_migration)
    cluster.running()
    migratable(cluster, can_migrate)
    done = cluster.attach(network=LAB, nic=Nic(live=True))
    assert done.results == {"prod/web-1": "10.20.0.2"}
    assert any(says in note for note in done.notes), done.notes
    assert not [change for change, _ in done.executed if change.subresource in ("restart", "stop")]


def plugged_in_live(cluster: FakeCluster, cidr: str = "10.20.0.0/24") -> None:
    """A VM that runs, with an interface on the network that KubeVirt has plugged in meanwhile."""
    layer2(cluster, cidr=cidr)
    kubevirt(cluster)
    cluster.running()
    migratable(cluster)
    plug_in_live(cluster)


def plug_in_live(cluster: FakeCluster, address: str = "") -> None:
    cluster.attach(network=LAB, ip=address, nic=Nic(live=True))

    def plugged(vmi: Json) -> None:  # what KubeVirt does: the VMI's spec, then, with the migration, its status
        vmi["spec"] = copy.deepcopy(cluster.now().raw["spec"]["template"]["spec"])
        vmi["status"]["interfaces"].append({"name": "lab", "infoSource": "domain, multus-status"})

    cluster.api.change(VMI.ref("web-1", "prod"), plugged)


def restarted(cluster: FakeCluster) -> None:
    """The VM is restarted: its VMI is recreated from the template."""
    cluster.asked[("prod", "web-1")] = ["restart"]
    cluster.time_passes()


def without_last(spec: Json) -> None:
    """What KubeVirt does with an absent interface in the end."""
    spec["networks"].pop()
    spec["domain"]["devices"]["interfaces"].pop()


def test_hotplugged_interface_has_its_address_and_is_unplugged_live() -> None:
    cluster = FakeCluster()
    plugged_in_live(cluster)
    assert not [note for note in cluster.attach(network=LAB).notes if "restart" in note]
    stays = cluster.detach(network=LAB, live=True)
    assert interfaces(cluster)[-1]["state"] == "absent"
    assert multus(cluster) == {"default": "pod", "lab": "lab"}
    assert any("are updated by its next live migration" in note for note in stays.notes)
    assert stays.notes[-1] == "then run the same command again, or `kubectl yoshi ips gc`, to release 10.20.0.2"

    vmi = VMI.ref("web-1", "prod")
    steps: list[Callable[[Json], Any]] = [
        lambda _: None,
        lambda obj: obj["spec"]["domain"]["devices"]["interfaces"][-1].update(state="absent"),
        lambda obj: obj["status"]["interfaces"][-1].update(infoSource="multus-status"),
    ]
    for step in steps:  # the guest may use it still
        cluster.api.change(vmi, step)
        again = cluster.detach(network=LAB, live=True)
        assert not again.executed
        assert any("are updated by its next live migration" in note for note in again.notes)
        cluster.collect()
        assert "10.20.0.2" in cluster.holders("lab")
        assert hosts(cluster)

    cluster.api.change(vmi, lambda obj: obj["status"]["interfaces"].pop())
    cluster.api.change(vmi, lambda obj: without_last(obj["spec"]))
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: without_last(obj["spec"]["template"]["spec"]))
    cluster.detach(network=LAB, live=True)
    assert not cluster.now().template_annotations
    assert list(cluster.holders("lab")) == ["10.20.0.1"]
    assert hosts(cluster) == {}


@pytest.mark.parametrize("cidr", ["10.20.0.0/24", "10.20.0.0/16"])
@pytest.mark.parametrize("how", ["gc", "detach", "release"])
def test_address_of_a_hotplugged_interface_stays_allocated_while_the_vm_uses_it(how: str, cidr: str) -> None:
    """Only the template said which it is, and says so no more once the VM is detached, or has another one."""
    cluster = FakeCluster()
    plugged_in_live(cluster, cidr)
    (address,) = (text for text, record in cluster.records("lab").items() if record.kind == "VirtualMachine")
    give_back: dict[str, Callable[[], Any]] = {
        "gc": cluster.collect,
        "detach": lambda: cluster.detach(network=LAB),
        "release": lambda: cluster.release(address, network="lab"),
    }
    if how == "gc":
        assert cluster.attach(network=LAB, ip="10.20.0.9", replace=True).results == {"prod/web-1": "10.20.0.9"}
        cluster.collect()
        assert {address, "10.20.0.9"} <= cluster.holders("lab").keys()
    cluster.detach(network=LAB)
    assert multus(cluster) == {"default": "pod"}
    give_back[how]()
    assert address in cluster.holders("lab") and f"{address}.conf" in hosts(cluster)
    restarted(cluster)
    give_back[how]()
    assert "prod/web-1" not in cluster.holders("lab").values()
    assert hosts(cluster) == {}


def about_to_start() -> tuple[FakeCluster, Json]:
    """A VM with an interface on the network, and its template's spec as it will be without that."""
    cluster = FakeCluster()
    layer2(cluster)
    kubevirt(cluster)
    cluster.vm()
    cluster.attach(network=LAB)
    bare = copy.deepcopy(cluster.now().raw["spec"]["template"]["spec"])
    without_last(bare)
    return cluster, bare


def test_interface_hotplugged_again_has_its_second_address() -> None:
    """The VMI keeps the annotation of the interface that it was started with."""
    cluster, bare = about_to_start()
    restarted(cluster)
    migratable(cluster)
    vmi, pod = VMI.ref("web-1", "prod"), POD.ref("virt-launcher-web-1", "prod")
    cluster.detach(network=LAB, live=True)
    cluster.api.change(vmi, lambda obj: obj.update(spec=bare))
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].update(spec=bare))
    cluster.api.change(pod, lambda obj: obj["metadata"]["annotations"].pop(MULTUS_NETWORKS))
    cluster.detach(network=LAB, live=True)
    assert list(cluster.holders("lab")) == ["10.20.0.1"]
    plug_in_live(cluster, "10.20.0.9")
    cluster.detach(network=LAB)
    cluster.collect()
    assert cluster.holders("lab")["10.20.0.9"] == "prod/web-1"


def test_initial_address_is_released_once_the_vm_runs_in_a_pod_without_it() -> None:
    """The VMI keeps the annotation with the address that it was started with, and hands it to every pod of it."""
    cluster, bare = about_to_start()
    cluster.asked[("prod", "web-1")] = ["start"]
    cluster.time_passes()
    migratable(cluster)
    vmi, pod = VMI.ref("web-1", "prod"), POD.ref("virt-launcher-web-1", "prod")
    cluster.api.change(vmi, lambda obj: obj["status"]["interfaces"].append({"name": "lab", "infoSource": "domain"}))
    cluster.detach(network=LAB, live=True)
    assert "10.20.0.2" in cluster.holders("lab")

    cluster.api.change(vmi, lambda obj: (obj["status"]["interfaces"].pop(), obj.update(spec=bare)))
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].update(spec=bare))
    cluster.detach(network=LAB, live=True)
    assert "10.20.0.2" in cluster.holders("lab")  # the pod that it was started in is there still

    cluster.api.change(pod, lambda obj: obj["metadata"]["annotations"].pop(MULTUS_NETWORKS))
    cluster.detach(network=LAB, live=True)
    assert list(cluster.holders("lab")) == ["10.20.0.1"]


def test_interface_is_not_hotplugged_again_before_it_was_unplugged() -> None:
    """Or the guest would have two interfaces with one MAC address."""
    cluster = FakeCluster()
    plugged_in_live(cluster)
    cluster.detach(network=LAB, live=True)
    refused = refusal(cluster.attach(network=LAB, nic=Nic(live=True)))
    assert 'its interface "lab" on network prod/lab is still being unplugged' in str(refused)
    assert "10.20.0.2" in cluster.holders("lab")
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: without_last(obj["spec"]["template"]["spec"]))
    assert cluster.attach(network=LAB, nic=Nic(live=True)).results == {"prod/web-1": "10.20.0.2"}


def test_network_with_an_interface_without_address_is_not_deleted() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    guest(cluster, {"emptyDisk": {}})
    with pytest.raises(PreconditionFailed, match="virtualmachine/web-1 in namespace prod still has an interface"):
        cluster.delete_network("lab")
    assert cluster.networks() == ["lab"]
    cluster.detach(network=LAB)
    cluster.delete_network("lab")
    assert made(cluster) == []


def test_running_dhcp_server_needs_a_restart() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.running("lab-0")
    cluster.vm()
    notes = cluster.attach(network=LAB).notes
    assert any("reads its addresses only when it starts: virtctl restart lab-0 -n prod" in note for note in notes)


SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_concurrent_attaches_each_have_an_address_and_a_dhcp_file(seed: int) -> None:
    cluster = FakeCluster()
    layer2(cluster)
    names = [f"web-{number}" for number in range(8)]
    for name in names:
        cluster.vm(name)
    outcomes = cluster.run_concurrently(
        *(lambda mine, name=name: mine.attach(name, network=LAB) for name in names), seed=seed
    )
    assert not [one for one in outcomes if not isinstance(one, RunResult) or one.errors]
    records = {a: r for a, r in cluster.records("lab").items() if r.kind == "VirtualMachine"}
    assert len(records) == 8
    assert hosts(cluster) == {f"{a}.conf": f"dhcp-host={r.mac},{a}" for a, r in records.items()}


def test_ovs_backend_properties() -> None:
    backend = Ovs()
    assert (backend.plugin, backend.pins_vm_template, backend.has_interface, backend.allowed_as_default) == (
        "ovs",
        True,
        True,
        False,
    )


def test_address_of_a_running_vm_deleted_during_adoption_stays_allocated() -> None:
    cluster = FakeCluster(keeps=False)
    layer2(cluster)
    cluster.running()
    cluster.attach(network="prod/lab", restart=True)
    cluster.time_passes()
    (address,) = (address for address, holder in cluster.holders("lab").items() if holder == "prod/web-1")
    lab = NETWORKWIZARD.ref("lab", "prod")
    cluster.api.change(lab, lambda obj: obj["status"]["allocations"].pop(address))

    def deleted(verb: str, ref: ObjectRef) -> None:
        if address in dig(cluster.api.look(lab), "status", "allocations"):
            cluster.api.before.clear()
            going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]}
            cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["metadata"].update(going))

    cluster.api.before.append(deleted)
    assert "is being deleted" in refusal(cluster.attach(network="prod/lab")).message
    assert cluster.holders("lab")[address] == "prod/web-1"
    cluster.vm("other")
    assert cluster.attach("other", network="prod/lab").results["prod/other"] != address
