"""Layer 2 networks by Open vSwitch, with DHCP and without."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from tests.golden.cluster import Cluster, deny, hours, network, vms
from tests.golden.controllers import INSTANCES, VMS
from tests.golden.kinds import LAYER2, Json
from tests.golden.scenario import Run, Scenario, prepare
from tests.golden.scenarios.addresses import lose_allocations
from tests.golden.scenarios.calico import BLUE, RUNS
from tests.golden.scenarios.public import LAN

OVS = "--plugin ovs --bridge br-ext --uplink eth1"
LAB = f"network create lab --cidr 10.30.0.0/24 {OVS} --vlan 20"
TUNED = (
    f"{LAB} --mtu 1500 --gateway 10.30.0.1 --dhcp-lease-time 10m --range 10.30.0.10-10.30.0.250 "
    "--dhcp-range 10.30.0.100-10.30.0.199 --dns-server 10.30.0.2 --dns-server 9.9.9.9 --node-selector zone=a"
)
WIDE = f"network create wide --cidr 10.40.0.0/20 {OVS} --vlan 30"
QUIET = f"network create quiet --cidr 10.50.0.0/24 {OVS} --vlan 40 --no-dhcp --gateway 10.50.0.1"


def cloud_init(**source: Any) -> Any:
    """Return a step that creates VM web-1 with a cloud-init volume."""
    (kind, content), *_ = source.items()
    devices = {"interfaces": [{"name": "default", "masquerade": {}}]}
    volumes = [{"name": "init", kind: content}]
    networks = [{"name": "default", "pod": {}}]
    return vms("web-1", template={"domain": {"devices": devices}, "networks": networks, "volumes": volumes})


def lease(cluster: Cluster) -> None:
    """The DHCP server has leased the second address to an unknown client."""
    spec = {"macAddr": "0a:00:00:00:00:02", "vlanId": "20", "leaseExpiry": "4000000000", "entityRef": "client"}
    cluster.put("ipallocations.dhcp.plumber.k8s.pf9.io", "10.30.0.2", "default", spec=spec)


def secret(cluster: Cluster) -> None:
    text = b64encode(b"version: 2\nethernets: {}\n").decode()
    cluster.put("secrets", "net", "prod", data={"networkdata": text})


def lose_files(cluster: Cluster) -> None:
    cluster.server.edit("configmaps", "prod", "lab", lambda obj: obj.pop("binaryData"))


def hot_plug(cluster: Cluster) -> None:
    gates = {"developerConfiguration": {"featureGates": ["LiveMigration"]}}
    cluster.put(
        "kubevirts.kubevirt.io",
        "kubevirt",
        "default",
        spec={"configuration": {**gates, "vmRolloutStrategy": "LiveUpdate"}},
        status={"observedKubeVirtVersion": "v1.8.0", "phase": "Deployed"},
    )
    migratable = {"type": "LiveMigratable", "status": "True"}
    for name in ("web-1", "web-2"):
        cluster.server.edit(INSTANCES, "prod", name, lambda obj: obj["status"].update(conditions=[migratable]))


def restore_template(cluster: Cluster) -> None:
    """The template of web-1 is put back from a backup without the interface."""
    spec: Json = {"domain": {"devices": {}}}
    cluster.server.edit(VMS, "prod", "web-1", lambda vm: vm["spec"].update(template={"spec": spec}))


SCENARIOS = [
    Scenario(
        "network with DHCP",
        [
            vms("web-1", "db-1"),
            f"{LAB} --dry-run=client",
            f"{LAB} --dry-run=server",
            f"diff {LAB}",
            TUNED,
            "network describe lab",
            "vm attach db-1 --network lab --dry-run=client",
            "diff vm attach db-1 --network lab",
            "vm attach db-1 --network lab",
            Run("vm attach db-1 --network lab", note="again"),
            "vm attach web-1 --network lab --ip 10.30.0.50 --interface-name data --interface-model virtio",
            "vm list",
            "ips check",
            "trace vm/web-1",
            "ips reserve lab 10.30.0.60 --note 'the printer'",
            "ips release lab 10.30.0.60",
            "network delete lab",
            lose_files,
            "sync",
            restore_template,
            Run("sync", note="after a restore"),
            "vm detach db-1 --network lab",
            "network delete lab --force --yes",
        ],
    ),
    Scenario(
        "several networks",
        [
            vms("web-1"),
            LAB,
            WIDE,
            BLUE,
            "vm attach web-1 --network lab",
            "vm attach web-1 --network blue",
            "vm attach web-1 --network wide",
            "vm list web-1 -o yaml",
            "ips list",
            "vm detach web-1 --network blue",
            "vm detach web-1 --network wide",
            "network delete wide",
            f"network create other --cidr 10.60.0.0/24 {OVS} --vlan 20",
            "network create other --plugin ovs --cidr 10.60.0.0/24 --bridge br-ext --uplink eth2 --vlan 21",
        ],
    ),
    Scenario(
        "several networks by one command",
        [
            vms("web-1"),
            *prepare(LAB, BLUE, LAN),
            "vm attach web-1 --network blue=10.20.0.9 --network lab --network internet --port 22 --interface-name data",
            "vm attach web-1 --network blue --network lab --mac none",
            "vm list",
            "vm detach web-1 --network blue --network lab --network internet",
            Run(f"{LAB} --wait --timeout 1s", note="no node has the bridge"),
        ],
    ),
    Scenario(
        "running VMs",
        [
            vms("web-1", "web-2", **RUNS),
            *prepare(LAB),
            "vm attach web-1 --network lab",
            "vm attach web-2 --network lab --restart --wait",
            "vm attach web-1 --network lab --hotplug",
            hot_plug,
            Run("vm attach web-1 --network lab --hotplug", note="KubeVirt can do it"),
            "vm detach web-2 --network lab --restart",
            "vm detach web-1 --network lab --hotplug",
        ],
    ),
    Scenario(
        "leases and refusals",
        [
            vms("web-1"),
            *prepare(LAB),
            lease,
            "vm attach web-1 --network lab --ip 10.30.0.2",
            "vm attach web-1 --network lab --interface-name default",
            "vm attach web-1 --network lab --interface-name -x",
            "vm attach web-1 --network lab --mac none",
            "vm attach web-1 --network lab --ip 10.30.0.1",
            "vm attach web-1 --network lab --cloud-init",
            "vm attach web-1 --network lab",
            "ips check",
        ],
    ),
    Scenario(
        "cloud-init without DHCP",
        [
            cloud_init(cloudInitNoCloud={"userData": "#cloud-config"}),
            QUIET,
            "vm attach web-1 --network quiet",
            "vm attach web-1 --network quiet --cloud-init",
            "vm detach web-1 --network quiet",
        ],
    ),
    Scenario(
        "cloud-init of a config drive",
        [
            cloud_init(cloudInitConfigDrive={"userData": "#cloud-config"}),
            *prepare(QUIET),
            "vm attach web-1 --network quiet --cloud-init",
        ],
    ),
    Scenario(
        "cloud-init in a Secret",
        [
            secret,
            cloud_init(cloudInitNoCloud={"userData": "x", "networkDataSecretRef": {"name": "net"}}),
            *prepare(QUIET),
            deny(("get", "secrets")),
            "vm attach web-1 --network quiet --cloud-init",
            lambda cluster: cluster.server.denied.clear(),
            Run("vm attach web-1 --network quiet --cloud-init", note="with permission"),
        ],
    ),
    Scenario(
        "recovery",
        [
            vms("web-1", "web-2"),
            *prepare(LAB, "vm attach web-1 web-2 --network lab"),
            lose_allocations,
            "ips rebuild --yes",
            "sync",
            lambda cluster: cluster.delete_vm("web-2"),
            hours(1),
            "ips gc --yes",
            lambda cluster: cluster.server.remove("networkwizards.plumber.k8s.pf9.io", "prod", "lab"),
            Run("ips gc --yes", note="the network is deleted"),
        ],
    ),
    Scenario(
        "without Multus and luigi",
        [LAB, f"{LAB} --no-dhcp", network("lab", plugin="ovs", cidr="10.30.0.0/24", ovs={"bridge": "br-ext"}), "sync"],
        {"without": LAYER2},
    ),
    Scenario(
        "bonds, and bridges that exist",
        [
            f"network create bonded --cidr 10.30.0.0/24 {OVS},eth2 --bond-mode balance-slb --lacp active",
            "network create there --plugin ovs --cidr 10.31.0.0/24 --bridge br-int --no-host-config --no-dhcp",
            "network list --no-headers",
        ],
    ),
    Scenario(
        "errors of flags",
        [
            "network create lab --plugin ovs --cidr 10.30.0.0/24",
            f"{LAB} --vlan 4095",
            f"{LAB} --mtu 10",
            f"{LAB} --dns-server nobody",
            f"{LAB} --dhcp-lease-time soon",
            f"{LAB} --encapsulation IPIP",
        ],
    ),
]
