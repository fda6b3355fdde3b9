"""Calico networks: small ones with their allocations in one object, large ones with AddressBlocks."""

from __future__ import annotations

import json
from typing import Any

from tests.golden.cluster import Cluster, files, hours, network, vms
from tests.golden.kinds import CALICO, KUBEVIRT, LAYER2, METALLB
from tests.golden.scenario import Run, Scenario, prepare

BLUE = "network create blue --cidr 10.20.0.0/24 --gateway 10.20.0.1"
BIG = "network create big --cidr 10.133.0.0/16"
TUNED = (
    "network create tuned --cidr 10.22.0.0/24 --range 10.22.0.10-10.22.0.250 --exclude 10.22.0.40-10.22.0.49 "
    "--block-size 28 --encapsulation IPIP --no-nat-outgoing --cooldown 10m --max-addresses-per-namespace 1"
)
RUNS: dict[str, Any] = {"runStrategy": "Always"}

VM_FILE = "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {name: web-2}\n"
LIST_FILE = """\
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata: {name: red}
spec: {plugin: calico, cidr: 10.134.0.0/24}
---
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata: {name: green}
spec: {plugin: calico, cidr: 10.135.0.0/24, exclude: [10.135.0.0/28], maxAddressesPerNamespace: 3}
"""


def node_with_pods_in_the_way(cluster: Cluster) -> None:
    cluster.put("nodes", "node2", spec={"podCIDR": "10.20.0.0/25"}, status={"addresses": []})


def foreign_pool(cluster: Cluster) -> None:
    cluster.put(f"ippools.{cluster.calico}", "corporate", spec={"cidr": "10.20.0.0/16", "blockSize": 26})


def bulk(count: int) -> list[str]:
    return [f"many-{number:03}" for number in range(count)]


def address_held_by_a_pod(cluster: Cluster) -> None:
    cluster.controllers.hold("10.20.0.2", "k8s-pod-network.abcdef", namespace="dev", pod="printer")


def stuck(cluster: Cluster) -> None:
    cluster.controllers.running = False


SCENARIOS = [
    Scenario(
        "small network",
        [
            vms("web-1", "web-2", "db-1", "cache-1", "cache-2"),
            f"{BLUE} --dry-run=client",
            f"{BLUE} --dry-run=client -o yaml",
            f"{BLUE} --dry-run=server",
            f"diff {BLUE}",
            BLUE,
            Run(BLUE, note="again"),
            "network create blue --cidr 10.21.0.0/24",
            "vm attach web-1 web-2 --network blue --dry-run=client",
            "vm attach web-1 web-2 --network blue --dry-run=server",
            "diff vm attach web-1 --network blue",
            "vm attach web-1 web-2 --network blue",
            Run("vm attach web-1 --network blue", note="again"),
            "vm attach db-1 --network blue --ip 10.20.0.50",
            "vm attach db-1 --network blue --ip 10.20.0.51",
            "vm attach db-1 --network blue --ip 10.20.0.51 --replace",
            "vm attach -l app=cache --network blue -o name",
            "network list",
            "vm list",
            "ips list",
            "vm detach web-2 --network blue --dry-run=client",
            "vm detach web-2 --network blue --dry-run=server",
            "diff vm detach web-2 --network blue",
            "vm detach web-2 --network blue",
            Run("vm detach web-2 --network blue", note="again"),
            "network delete blue",
            "network delete blue --force",
            Run("network delete blue --force", note="refused on the terminal", stdin="n\n", terminal=True),
            "network delete blue --force --dry-run=client",
            "diff network delete blue --force",
            Run("network delete blue --force", note="confirmed on the terminal", stdin="y\n", terminal=True),
            Run("network list", note="without networks"),
            Run("vm list", note="after all"),
        ],
    ),
    Scenario(
        "large network",
        [
            vms("web-1", "web-2", "db-1"),
            BIG,
            "vm attach web-1 --network big",
            "vm attach web-2 --network big --ip 10.133.200.7",
            "vm attach -l app=db --network big",
            "ips reserve big 10.133.17.7 --note printer",
            "ips list big",
            "ips list big --free",
            "ips show 10.133.17.7",
            "trace 10.133.17.7",
            "trace vm/web-2",
            "network describe big",
            "vm detach web-2 --network big",
            "ips release big 10.133.17.7",
            "network delete big --force --yes",
        ],
    ),
    Scenario(
        "settings of networks",
        [
            vms("web-1"),
            TUNED,
            "network create moving --cidr 10.23.0.0/24 --live-migration",
            "network create six --cidr fd00:20::/64",
            "network describe tuned",
            "network describe six -o yaml",
            "vm attach web-1 --network six -o json",
            Run("network create -f red.yaml", note="no such file"),
            files(red__yaml=LIST_FILE),
            "network create -f red.yaml --dry-run=client -o name",
            "network create -f red.yaml",
            Run("network create -f -", stdin=LIST_FILE, note="from stdin, again"),
            "network create blue --cidr 10.134.0.128/25",
            "network create blue --cidr 127.0.0.0/24",
            "network create blue --cidr 10.100.0.0/16",
            "network create blue --cidr 10.244.0.0/16",
            "-n no-such network create blue --cidr 10.30.0.0/24",
            node_with_pods_in_the_way,
            BLUE,
        ],
    ),
    Scenario(
        "pool of others",
        [vms("web-1"), foreign_pool, BLUE, f"{BLUE} --dry-run=client", "network list -o wide", "network describe blue"],
    ),
    Scenario(
        "network written with kubectl",
        [
            network("blue", plugin="calico", cidr="10.20.0.0/24"),
            network("odd", plugin="carrier-pigeon", cidr="10.21.0.0/24"),
            network("bare"),
            vms("web-1"),
            Run("network list", note="before"),
            "vm attach web-1 --network blue",
            "vm attach web-1 --network bare",
            "sync --dry-run",
            "diff sync",
            "sync",
            Run("network list", note="after"),
            Run("sync", note="again"),
        ],
    ),
    Scenario(
        "running VMs",
        [
            *prepare(BLUE, BIG),
            vms("web-1", "web-2", "web-3", **RUNS),
            "vm attach web-1 --network blue",
            Run("vm attach web-1 --network blue --restart", note="now with a restart"),
            "vm attach web-2 web-3 --network blue --restart --wait",
            "vm attach web-2 --network big --replace --restart",
            Run("vm list", note="running"),
            "vm list -o wide",
            "vm detach web-3 --network blue",
            Run("vm detach web-3 --network blue --restart", note="now with a restart"),
            "vm detach web-1 --network blue --restart --timeout 1m",
            "network delete big --force --restart --yes",
        ],
    ),
    Scenario(
        "other run strategies",
        [
            *prepare(BLUE),
            vms("manual", runStrategy="Manual"),
            vms("old", running=True),
            vms("failed", runStrategy="RerunOnFailure"),
            "vm attach manual old failed --network blue --restart",
            "vm detach manual old failed --network blue --restart",
        ],
    ),
    Scenario(
        "VM that does not stop",
        [
            *prepare(BLUE),
            vms("web-1", **RUNS),
            stuck,
            "vm attach web-1 --network blue --restart --wait --timeout 30s",
            "vm detach web-1 --network blue --restart --timeout 30s",
            "vm list",
        ],
    ),
    Scenario(
        "older Calico",
        [
            *prepare(BLUE),
            vms("web-1", **RUNS),
            "vm attach web-1 --network blue --restart",
            "vm detach web-1 --network blue --restart",
        ],
        {"calico_version": "v3.31.0"},
    ),
    Scenario(
        "Calico as custom resources of projectcalico.org",
        [
            vms("web-1", **RUNS),
            BLUE,
            "vm attach web-1 --network blue --restart",
            "ips check",
            "vm detach web-1 --network blue --restart",
            "network delete blue",
        ],
        {"calico": "projectcalico.org"},
    ),
    Scenario(
        "without Calico",
        [vms("web-1"), BLUE, f"{BLUE} --plugin calico", "network create any --plugin public --cidr 198.51.100.0/28"],
        {"calico": "", "without": CALICO},
    ),
    Scenario(
        "without KubeVirt", [BLUE, "vm list", "ips check", "vm attach web-1 --network blue"], {"without": KUBEVIRT}
    ),
    Scenario("without MetalLB and Multus", [BLUE, "sync", "ips gc --yes"], {"without": [*METALLB, *LAYER2]}),
    Scenario(
        "bulk of a small network",
        [
            *prepare("network create blue --cidr 10.20.0.0/25"),
            vms(*bulk(60)),
            "vm attach -l app=many --network blue",
            "vm detach -l app=many --network blue --dry-run=client",
            "vm detach -l app=many --network blue",
        ],
    ),
    Scenario(
        "bulk of a large network, with running VMs",
        [
            *prepare(BIG),
            vms(*bulk(6), **RUNS),
            "vm attach -l app=many --network big --restart",
            "vm detach -l app=many --network big --restart",
        ],
    ),
    Scenario(
        "lists of several pages",
        [
            vms(*(f"many-{number:04}" for number in range(700))),
            *prepare(BLUE, "vm attach many-0007 --network blue"),
            "vm list many-0007",
            "vm list",
            "ips check",
            vms(*(f"many-{number:04}" for number in range(700, 2100))),
            Run("ips check", note="of a long list"),
        ],
    ),
    Scenario(
        "full network",
        [
            *prepare("network create tiny --cidr 10.20.0.0/29"),
            vms(*bulk(8)),
            "vm attach -l app=many --network tiny",
            "vm attach many-007 --network tiny",
            "ips list tiny --free",
        ],
    ),
    Scenario(
        "quota and cool-down",
        [
            *prepare(
                "network create blue --cidr 10.20.0.0/29 --max-addresses-per-namespace 2 --cooldown 10m",
            ),
            vms("web-1", "web-2", "web-3"),
            vms("guest", namespace="dev"),
            "vm attach web-1 web-2 web-3 --network blue",
            "-n dev vm attach guest --network prod/blue",
            "vm detach web-1 --network blue",
            "vm attach web-3 --network blue",
            "ips show 10.20.0.1",
            "ips list --free",
            hours(1),
            Run("ips list --free", note="later"),
            "vm list -A",
        ],
    ),
    Scenario(
        "namespaces",
        [
            *prepare(BLUE),
            vms("web-1"),
            vms("web-1", "far-1", namespace="dev"),
            "vm attach prod/web-1 dev/web-1 --network blue",
            "-n dev vm attach far-1 --network blue",
            "vm attach -A -l app=far --network blue",
            "vm detach -A -l app=far --network blue -o name",
            "network list -A",
            "ips list -A",
            "vm list -A --network blue --no-headers",
            "--context other vm list",
            "--context nowhere vm list",
        ],
    ),
    Scenario(
        "files of VMs",
        [
            *prepare(BLUE),
            vms("web-1", "web-2"),
            files(vm__yaml=VM_FILE, **{"folder/one__json": json.dumps({"kind": "Pod"})}),
            "vm attach -f vm.yaml --network blue -o yaml",
            Run("vm detach -f - --network blue", stdin=VM_FILE),
            "vm attach -f folder --network blue",
            "vm attach -f vm.yaml web-1 --network blue",
        ],
    ),
    Scenario(
        "network update",
        [
            *prepare(BLUE),
            vms("web-1"),
            Run("vm attach web-1 --network blue", recorded=False),
            "network update blue --range 10.20.0.100-10.20.0.200 --exclude 10.20.0.150 --no-nat-outgoing --dry-run",
            "diff network update blue --cooldown 10m --max-addresses-per-namespace 5",
            "network update blue --range 10.20.0.100-10.20.0.200 --exclude 10.20.0.150 --no-nat-outgoing --wait",
            Run("network update blue --range 10.20.0.100-10.20.0.200", note="again"),
            "network update blue --range none --exclude none -o json",
            "network update blue",
            "network update blue --peer 10.240.0.5",
            "network update blue --max-addresses-per-namespace many",
            "network update nowhere --cooldown 10m",
            "help network update",
        ],
    ),
    Scenario(
        "MAC addresses",
        [
            *prepare(BLUE),
            vms("web-1", "web-2", "web-3"),
            "vm attach web-1 --network blue --mac 02:00:00:ab:cd:ef",
            "vm attach web-2 --network blue --mac none",
            "vm attach web-3 --network blue --mac auto",
            "vm attach web-2 --network blue --mac 02:00:00:ab:cd:ef --replace",
            "vm list -o wide",
        ],
    ),
    Scenario(
        "address that a pod has",
        [
            *prepare(BLUE),
            vms("web-1"),
            address_held_by_a_pod,
            "vm attach web-1 --network blue --ip 10.20.0.2",
            "vm attach web-1 --network blue",
            "ips check",
        ],
    ),
    Scenario(
        "VM with a pin of its own",
        [
            *prepare(BLUE),
            vms("web-1", pin="10.20.0.9"),
            vms("web-2", pin="192.168.7.7"),
            "vm attach web-1 --network blue",
            "vm attach web-2 --network blue",
            "ips check",
        ],
    ),
]
