"""Public networks: by MetalLB on the LAN and with BGP, by Calico with BGP, with and without a CIDR."""

from __future__ import annotations

from typing import Any

from tests.golden.cluster import Cluster, deny, vms
from tests.golden.scenario import Run, Scenario, prepare
from tests.golden.scenarios.calico import BLUE, RUNS

PEERS = "--peer 10.240.0.5 --my-asn 64514 --remote-asn 64512"
LAN = "network create internet --plugin public --cidr 203.0.113.0/28"
BGP = f"network create internet --type public --cidr 203.0.113.0/28 --announce metallb-bgp {PEERS}"
CALICO = f"network create edge --plugin public --cidr 198.51.100.64/28 --announce calico-bgp {PEERS}"
ELASTIC = "network create given --plugin public"


def foreign_configuration(cluster: Cluster) -> None:
    """BGP configuration of the cluster's administrator."""
    lists = {name: [{"cidr": "198.18.1.0/32"}] for name in ("serviceLoadBalancerIPs", "serviceExternalIPs")}
    spec: dict[str, Any] = {"asNumber": 64514, "nodeToNodeMeshEnabled": True, **lists}
    cluster.put(f"bgpconfigurations.{cluster.calico}", "default", spec=spec)
    cluster.put(f"bgppeers.{cluster.calico}", "router", spec={"peerIP": "10.240.0.9", "asNumber": 64512})


def foreign_service(cluster: Cluster) -> None:
    """A Service of others that has the second address."""
    content = {"type": "LoadBalancer", "ports": [{"port": 80}], "loadBalancerIP": "203.0.113.2"}
    cluster.put("services", "shop", "dev", spec=content, status={"loadBalancer": {"ingress": [{"ip": "203.0.113.2"}]}})


def stuck(cluster: Cluster) -> None:
    cluster.controllers.running = False


def allocation_failed(cluster: Cluster) -> None:
    """MetalLB does not assign addresses, and says so in an event on each Service."""
    stuck(cluster)

    def fail() -> None:
        for service in cluster.server.all("services"):
            meta = service["metadata"]
            cluster.put(
                "events",
                f"{meta['name']}.1",
                meta["namespace"],
                involvedObject={"uid": meta["uid"], "kind": "Service", "name": meta["name"]},
                reason="AllocationFailed",
                message='Failed to allocate IP for "prod/web-1": ["203.0.113.1"] is not allowed in config',
            )

    cluster.clock.time_passes = fail


SCENARIOS = [
    Scenario(
        "MetalLB on the LAN",
        [
            vms("web-1", "web-2", "web-3"),
            f"{LAN} --dry-run=client",
            f"diff {LAN}",
            f"{LAN} --announce-interface eth0 --node-selector zone=a",
            "vm attach web-1 --public-network internet --dry-run=client",
            "vm attach web-1 --public-network internet --dry-run=server",
            "diff vm attach web-1 --public-network internet",
            "vm attach web-1 --public-network internet --port 22/tcp,443/tcp --wait",
            "vm attach web-2 --public-network internet --public-ip 203.0.113.5",
            "vm attach web-3 --public-ip 203.0.113.5",
            "vm attach web-1 --public-network internet --port 8443",
            "network describe internet",
            "ips list",
            "ips list -o wide",
            "ips show 203.0.113.5",
            "ips check",
            "trace vm/web-1",
            "trace 203.0.113.1 -o yaml",
            "ips move 203.0.113.5 --to web-3 --dry-run=client",
            "diff ips move 203.0.113.5 --to web-3",
            "ips move 203.0.113.5 --to web-3 --network internet --port 8080/udp --wait --timeout 30s",
            Run("ips move 203.0.113.5 --to web-3", note="again"),
            "ips move 203.0.113.1 --to web-3",
            "ips move 203.0.113.9 --to web-2",
            "vm detach web-1 --public-network internet",
            "network delete internet",
            "network delete internet --force --yes",
        ],
    ),
    Scenario(
        "MetalLB with BGP",
        [
            vms("web-1", "web-2", **RUNS),
            f"{BGP} --peer 2001:db8::5,multihop",
            "vm attach web-1 --network internet",
            "vm attach web-2 --public-network internet --wait --timeout 30s",
            "network describe internet",
            "sync",
            "vm detach web-1 web-2 --public-network internet",
            "network delete internet",
        ],
    ),
    Scenario(
        "Calico with BGP",
        [
            foreign_configuration,
            vms("web-1", "web-2", "web-3"),
            f"{CALICO} --dry-run=client",
            CALICO,
            "vm attach web-1 --public-network edge",
            "vm attach web-2 web-3 --public-network edge --wait",
            "ips move 198.51.100.65 --to web-3",
            "vm detach web-1 --public-network edge",
            "network describe edge",
            "network delete edge --force --yes",
        ],
    ),
    Scenario(
        "Calico with external IPs",
        [
            vms("web-1"),
            f"{CALICO} --via external-ips --peer 10.240.0.6,reachableBy=10.240.0.1,passwordSecret=router",
            "vm attach web-1 --public-network edge --port 22",
            "vm detach web-1 --public-network edge",
            "network delete edge",
        ],
        {"calico": "projectcalico.org"},
    ),
    Scenario(
        "without a CIDR",
        [
            vms("web-1", "web-2"),
            ELASTIC,
            "vm attach web-1 --public-network given",
            "vm attach web-1 --public-network given --public-ip 192.0.2.77 --wait",
            "vm attach web-2 --public-ip 192.0.2.78",
            "ips reserve given 192.0.2.90 --note printer",
            "ips list given",
            "ips list given --free",
            "ips show 192.0.2.77",
            "ips move 192.0.2.77 --to web-2",
            "ips release given 192.0.2.90",
            "vm detach web-1 --public-network given",
            "network delete given --force --yes",
        ],
    ),
    Scenario(
        "private and public address at once",
        [
            vms("web-1"),
            *prepare(BLUE, LAN),
            "vm attach web-1 --network blue --public-network internet --ip 10.20.0.9 --port 22,80",
            "vm list",
            "vm list -o json",
            "vm detach web-1 --network blue --public-network internet",
        ],
    ),
    Scenario(
        "address outside the CIDR, and of a Service of others",
        [
            vms("web-1", "web-2"),
            *prepare(LAN),
            foreign_service,
            "vm attach web-1 --public-ip 1.2.3.4 --public-network internet",
            "vm attach web-2 --public-ip 203.0.113.2",
            "vm attach web-2 --public-network internet --port 0",
            "vm attach web-2 --public-network internet --port telnet",
            "ips check",
            "network list",
        ],
    ),
    Scenario(
        "MetalLB does not assign the address",
        [
            vms("web-1"),
            *prepare(LAN),
            allocation_failed,
            "vm attach web-1 --public-network internet --wait",
            "network describe internet",
        ],
    ),
    Scenario(
        "MetalLB does nothing",
        [vms("web-1"), *prepare(LAN), stuck, "vm attach web-1 --public-network internet --wait --timeout 20s"],
    ),
    Scenario(
        "tenant without permission for the BGP configuration",
        [
            vms("web-1"),
            *prepare(CALICO),
            deny(
                ("patch", "bgpconfigurations.crd.projectcalico.org"),
                ("update", "bgpconfigurations.crd.projectcalico.org"),
            ),
            "vm attach web-1 --public-network edge",
            deny(reviews=False),
            Run("vm attach web-1 --public-network edge", note="which no review tells before"),
        ],
    ),
    Scenario(
        "errors of flags",
        [
            f"{LAN} --via external-ips",
            f"{LAN} --announce pigeons",
            f"{LAN} --announce metallb-bgp",
            f"{CALICO} --my-asn 0",
            f"{LAN} --peer router.example",
            f"{LAN} --peer 10.0.0.1,bogus=1",
            f"{LAN} --bridge br-ext",
        ],
    ),
]
