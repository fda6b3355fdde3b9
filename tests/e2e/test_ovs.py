"""Layer 2 networks on the whole lab: KubeVirt takes the VMs, Open vSwitch the bridges, dnsmasq the configuration.

| what is real | what is shown |
|---|---|
| KubeVirt's webhooks and virt-controller | VMs are taken; the pod asks Multus for the MAC; plugged in and out live |
| Open vSwitch, by the HostNetworkTemplate | two VLANs over one bridge, which goes with the last network |
| dnsmasq with the ConfigMap as it is, udhcpc | each its recorded address, unknown clients others |

Hostplumber, the ovs CNI and luigi's controller are played by lab/hostplumber.py, lab/ovs.py and lab/dhcp.py, Multus and
virt-handler, in what an API server sees of them, by virt_handler.py.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest

import lab
from lab.dhcp import ALLOCATIONS, DhcpOffer, can_ping, reconcile, request_address, run_dhcp_server
from lab.hostplumber import reconcile_templates
from lab.ovs import Switch, get_attachment_config, guest, switches
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, get, reported_address
from tests.e2e.virt_handler import MULTUS, VirtHandler
from tests.waiting import wait_for

Json = dict[str, Any]

OF_VM = "vm.kubevirt.io/name"
MARKER = "ovs-cni.network.kubevirt.io/br-ext"


@dataclass
class OvsLab:
    """The full lab with Open vSwitch on its nodes, and a namespace of the test's own."""

    lab: lab.Lab
    cluster: Cluster
    yoshi: Yoshi
    nodes: list[Switch]

    @property
    def namespace(self) -> str:
        return self.yoshi.namespace

    def kubectl(self, *args: str, input: str | None = None) -> str:
        return self.lab.kubectl("-n", self.namespace, *args, input=input)

    def get(self, kind: str, name: str = "") -> Json:
        return get(self.cluster, kind, name, namespace=self.namespace)

    def network(self, name: str, cidr: str, vlan: int, *more: str) -> None:
        """Makes a network on br-ext, and has Hostplumber see to it."""
        words = ("--plugin", "ovs", "--cidr", cidr, "--bridge", "br-ext", "--uplink", "eth1", "--vlan", str(vlan))
        self.yoshi.done("network", "create", name, *words, *more)
        reconcile_templates(self.lab.api, self.nodes)

    def delete(self, *names: str) -> None:
        self.yoshi.done("network", "delete", *names)
        reconcile_templates(self.lab.api, self.nodes)

    def vm(self, name: str, strategy: str = "Halted") -> None:
        template: Json = {
            "domain": {
                "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
                "memory": {"guest": "128Mi"},
            },
            "networks": [{"name": "default", "pod": {}}],
        }
        machine = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": name},
            "spec": {"runStrategy": strategy, "template": {"spec": template}},
        }
        self.kubectl("create", "-f", "-", input=json.dumps(machine))
        if strategy == "Always":
            wait_for(lambda: self.runs(name))

    def runs(self, name: str) -> bool:
        """Whether it runs, and KubeVirt is not busy with it."""
        told = self.get("vm", name).get("status", {})
        return told.get("printableStatus") == "Running" and not told.get("stateChangeRequests")

    def start(self, name: str) -> None:
        self.kubectl("patch", "vm", name, "--type=merge", "-p", '{"spec": {"runStrategy": "Always"}}')
        wait_for(lambda: self.runs(name))

    def launcher(self, name: str) -> Json:
        """The pod that a VM runs in."""
        found = [pod for pod in self.get("pods")["items"] if pod["metadata"]["labels"].get(OF_VM) == name]
        [pod] = [pod for pod in found if pod["status"].get("phase") in ("Pending", "Running")]
        return dict(pod)

    def records(self, network: str) -> dict[str, Json]:
        """VM -> its record on the network, with its address."""
        found = self.get("networkwizard", network)["status"]["allocations"]
        return {
            record["name"]: {**record, "address": address}
            for address, record in found.items()
            if record["kind"] == "VirtualMachine"
        }

    def nics(self, kind: str, name: str) -> dict[str, Json]:
        """The interfaces of a VM's template, or of a VMI."""
        spec = self.get(kind, name)["spec"]
        spec = spec["template"]["spec"] if kind == "vm" else spec
        return {nic["name"]: nic for nic in spec["domain"]["devices"]["interfaces"]}

    def told(self, name: str) -> dict[str, Json]:
        """The interfaces that a VMI's status lists."""
        return {one["name"]: one for one in self.get("vmi", name)["status"]["interfaces"]}

    def left(self) -> list[str]:
        """What there is of any Layer 2 network."""
        kinds = "hostnetworktemplates.plumber.k8s.pf9.io,dhcpservers,network-attachment-definitions,networkwizards"
        found = self.kubectl("get", kinds, "-o", "name").split()
        config_maps = self.kubectl("get", "configmaps", "-o", "name").split()
        return [*found, *(name for name in config_maps if name != "configmap/kube-root-ca.crt")]


@pytest.fixture(scope="module")
def nodes(full_lab: lab.Lab) -> Iterator[list[Switch]]:
    with switches(full_lab) as found:
        yield found


@pytest.fixture
def ovs_lab(full_lab: lab.Lab, forks: ForkServer, nodes: list[Switch]) -> Iterator[OvsLab]:
    namespace = f"l2-{secrets.token_hex(4)}"
    full_lab.kubectl("create", "namespace", namespace)
    cluster = Cluster(full_lab.kubeconfig, "lab")
    found = OvsLab(full_lab, cluster, Yoshi(full_lab.kubeconfig, "lab", forks, namespace), nodes)
    found.yoshi.done("install")
    yield found
    found.kubectl("delete", "virtualmachines", "--all")
    for wizard in found.get("networkwizards")["items"]:
        found.yoshi.run("network", "delete", wizard["metadata"]["name"], "--force", "--restart", "--yes")
    reconcile_templates(full_lab.api, nodes)
    full_lab.kubectl("delete", "namespace", namespace, "--wait=false")


def test_vm_starts_on_two_vlans_of_one_bridge_and_everything_is_removed(ovs_lab: OvsLab) -> None:
    ovs_lab.network("red", "10.71.0.0/24", 20)
    ovs_lab.network("green", "10.72.0.0/24", 30)
    for switch in ovs_lab.nodes:
        assert switch.bridges() == ["br-ext"]
        assert "eth1" in switch.ports("br-ext")
    ovs_lab.vm("web")
    ovs_lab.yoshi.done(
        "vm", "attach", "web", "--network", "red", "--interface-name", "data", "--interface-model", "virtio"
    )
    ovs_lab.yoshi.done("vm", "attach", "web", "--network", "green")
    ovs_lab.start("web")

    pod = ovs_lab.launcher("web")
    asked = {one["name"]: one for one in json.loads(pod["metadata"]["annotations"][MULTUS])}
    macs = {name: ovs_lab.records(name)["web"]["mac"] for name in ("red", "green")}
    assert {name: (one["namespace"], one["mac"]) for name, one in asked.items()} == {
        name: (ovs_lab.namespace, mac) for name, mac in macs.items()
    }
    [compute] = [one for one in pod["spec"]["containers"] if one["name"] == "compute"]
    assert compute["resources"]["requests"][MARKER] == "2", "the scheduler finds a node that has the bridge"
    listed = ovs_lab.yoshi.done("vm", "list", "--no-headers")
    for name in ("red", "green"):
        assert ovs_lab.records(name)["web"]["address"] in listed
    assert "Bound" in listed
    ovs_lab.yoshi.done("ips", "check")

    ovs_lab.yoshi.done("vm", "detach", "web", "--network", "green", "--restart")
    wait_for(lambda: ovs_lab.runs("web"))
    wait_for(lambda: [one["name"] for one in json.loads(annotation(ovs_lab.launcher("web")))] == ["red"])
    ovs_lab.delete("green")
    assert ovs_lab.nodes[0].bridges() == ["br-ext"], "red is on it"
    assert "is in use" in ovs_lab.yoshi.refused("network", "delete", "red")
    ovs_lab.kubectl("delete", "vm", "web")
    wait_for(lambda: not ovs_lab.get("pods")["items"])
    ovs_lab.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    ovs_lab.delete("red")
    assert ovs_lab.left() == []
    assert all(switch.bridges() == [] for switch in ovs_lab.nodes)


def annotation(pod: Json) -> str:
    return str(pod["metadata"]["annotations"].get(MULTUS, "[]"))


def plug_in_live(ovs_lab: OvsLab, handler: VirtHandler) -> None:
    """A VM that runs gets an interface on the network red with its next live migration."""
    ovs_lab.vm("web", "Always")
    handler.begin("web")
    ran = ovs_lab.yoshi.run("vm", "attach", "web", "--network", "red", "--hotplug")
    assert ran.code == 0, str(ran)
    assert "cannot be live-migrated" in ran.err
    handler.let_migrate("web")
    ran = ovs_lab.yoshi.run("vm", "attach", "web", "--network", "red", "--hotplug")
    assert f"virtctl migrate web -n {ovs_lab.namespace}" in ran.err, str(ran)
    wait_for(lambda: "red" in ovs_lab.nics("vmi", "web"))
    handler.migrate("web")
    restart = [c for c in ovs_lab.get("vm", "web")["status"]["conditions"] if c["type"] == "RestartRequired"]
    assert not restart


def start_with_it(ovs_lab: OvsLab, handler: VirtHandler) -> None:
    """A VM is started with an interface on the network red."""
    ovs_lab.vm("web")
    ovs_lab.yoshi.done("vm", "attach", "web", "--network", "red")
    ovs_lab.start("web")
    handler.begin("web")
    handler.let_migrate("web")


@pytest.mark.parametrize("plug_in", [plug_in_live, start_with_it])
def test_interface_is_unplugged_from_a_running_vm_by_live_migration(
    ovs_lab: OvsLab, plug_in: Callable[[OvsLab, VirtHandler], None]
) -> None:
    ovs_lab.network("red", "10.73.0.0/24", 20)
    handler = VirtHandler(ovs_lab.kubectl)
    plug_in(ovs_lab, handler)
    record = ovs_lab.records("red")["web"]
    assert [one["mac"] for one in json.loads(annotation(ovs_lab.launcher("web")))] == [record["mac"]]
    assert ovs_lab.told("web")["red"]["infoSource"] == "domain, multus-status"
    assert "Bound" in ovs_lab.yoshi.done("vm", "list", "--no-headers")

    detach = ("vm", "detach", "web", "--network", "red", "--hotplug")
    assert f"virtctl migrate web -n {ovs_lab.namespace}" in ovs_lab.yoshi.run(*detach).err
    wait_for(lambda: ovs_lab.nics("vmi", "web")["red"].get("state") == "absent")
    ovs_lab.vm("db")
    stays_with_web(ovs_lab, record)
    handler.unplug("web")
    assert ovs_lab.told("web")["red"]["infoSource"] == "multus-status"
    stays_with_web(ovs_lab, record)
    handler.migrate("web")
    for kind in ("vmi", "vm"):
        wait_for(lambda kind=kind: list(ovs_lab.nics(kind, "web")) == ["default"])  # type: ignore[misc]
    assert annotation(ovs_lab.launcher("web")) == "[]"

    ovs_lab.yoshi.done(*detach)
    assert ovs_lab.records("red") == {}
    assert "ip.plumber.k8s.pf9.io" not in json.dumps(ovs_lab.get("vm", "web")["spec"])
    assert reported_address(ovs_lab.yoshi.run("vm", "attach", "db", "--network", "red")) == record["address"]
    ovs_lab.yoshi.done("ips", "check")


def stays_with_web(ovs_lab: OvsLab, record: Json) -> None:
    """A guest that may still use its address keeps it, from other VMs and from gc."""
    ovs_lab.yoshi.done("vm", "detach", "web", "--network", "red", "--hotplug")
    ovs_lab.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    said = ovs_lab.yoshi.refused("vm", "attach", "db", "--network", "red", "--ip", record["address"])
    assert f"{ovs_lab.namespace}/web holds it" in said
    assert ovs_lab.records("red") == {"web": record}


def boot(ovs_lab: OvsLab, held: ExitStack, name: str, switch: Switch, network: str, mac: str) -> str:
    """A guest that is plugged in as the ovs CNI does it; gives its network namespace."""
    inside = held.enter_context(guest(ovs_lab.lab.lab_id, name))
    switch.plug(inside, mac, get_attachment_config(ovs_lab.lab.api, ovs_lab.namespace, network))
    return inside


def test_dhcp_serves_allocated_addresses_by_mac_and_leases_others(ovs_lab: OvsLab) -> None:
    ovs_lab.network(
        "red", "10.74.0.0/24", 20, "--gateway", "10.74.0.254", "--mtu", "1400", "--dhcp-lease-time", "10m",
        "--dns-server", "9.9.9.9", "--range", "10.74.0.10-10.74.0.29", "--exclude", "10.74.0.20",
    )  # fmt: skip
    ovs_lab.network("green", "10.75.0.0/24", 30, "--no-dhcp")
    for name, address in (("web", "10.74.0.15"), ("db", "10.74.0.29")):
        ovs_lab.vm(name)
        ovs_lab.yoshi.done("vm", "attach", name, "--network", "red", "--ip", address)
    ovs_lab.yoshi.done("ips", "reserve", "red", "10.74.0.11")
    assert not reconcile(ovs_lab.lab.api, ovs_lab.namespace, "red"), "luigi's controller leaves the ConfigMap as it is"
    macs = {name: record["mac"] for name, record in ovs_lab.records("red").items()}
    near, far = ovs_lab.nodes
    with ExitStack() as held:
        leases = held.enter_context(run_dhcp_server(ovs_lab.lab, near, ovs_lab.namespace, "red"))
        with ExitStack() as earlier:  # wherever it runs
            moving = boot(ovs_lab, earlier, "web", far, "red", macs["web"])
            assert request_address(ovs_lab.lab, moving) == DhcpOffer(
                "10.74.0.15/24", "10.74.0.254", "9.9.9.9", "1400", "600"
            )
        web = boot(ovs_lab, held, "web", near, "red", macs["web"])
        db = boot(ovs_lab, held, "db", far, "red", macs["db"])
        strangers = [boot(ovs_lab, held, f"s{n}", far, "red", f"02:00:00:00:01:0{n}") for n in (1, 2)]
        elsewhere = boot(ovs_lab, held, "else", near, "green", macs["web"])

        for _ in range(2):  # at every boot
            assert request_address(ovs_lab.lab, web) == DhcpOffer(
                "10.74.0.15/24", "10.74.0.254", "9.9.9.9", "1400", "600"
            )
            assert request_address(ovs_lab.lab, db) == DhcpOffer(
                "10.74.0.29/24", "10.74.0.254", "9.9.9.9", "1400", "600"
            )
        given = []
        for stranger in strangers:
            answer = request_address(ovs_lab.lab, stranger)
            assert answer is not None
            given.append(answer.address.partition("/")[0])
        assert len(set(given)) == 2
        for address in given:
            assert ip_address("10.74.0.10") < ip_address(address) < ip_address("10.74.0.29")
            assert address not in ("10.74.0.11", "10.74.0.15", "10.74.0.20"), "reserved, recorded, excluded"
        assert request_address(ovs_lab.lab, elsewhere, patience=3) is None
        wait_for(lambda: can_ping(web, "10.74.0.29"), "a ping goes over the wire between the nodes")
        assert not can_ping(elsewhere, "10.74.0.15")

        leases.report()
        ovs_lab.vm("new")
        said = ovs_lab.yoshi.refused("vm", "attach", "new", "--network", "red", "--ip", given[0])
        assert f"ipallocation/{given[0]} in namespace default uses it" in said
    for lease in ovs_lab.lab.api.get(ALLOCATIONS)["items"]:
        ovs_lab.lab.kubectl("-n", "default", "delete", "ipallocation", lease["metadata"]["name"])
