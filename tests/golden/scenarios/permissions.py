"""Users without a permission, kinds that cannot be read, and aggregated APIs that do not answer."""

from __future__ import annotations

from tests.golden import faults
from tests.golden.cluster import BLOCKS, NETWORKS, Cluster, allow_all, deny, hours, network, vms
from tests.golden.controllers import INSTANCES, VMS
from tests.golden.kinds import CALICO_V3
from tests.golden.scenario import Run, Scenario, Step, fails, prepare
from tests.golden.scenarios.calico import BIG, BLUE, RUNS
from tests.golden.server import CRDS

POOLS = "ippools.crd.projectcalico.org"
IPAM = [
    (verb, f"{kind}.crd.projectcalico.org") for verb in ("update", "delete") for kind in ("ipamblocks", "ipamhandles")
]
TENANT = "--as mary --as-group tenants --as-group system:authenticated"
ATTACH = "vm attach web-1 --network blue"


def unavailable(*groups: str) -> Step:
    """Return a step after which aggregated API servers do not answer."""

    def step(cluster: Cluster) -> None:
        cluster.server.unavailable = {*groups}
        for group in groups:
            condition = {"type": "Available", "status": "False", "message": "no endpoints for calico-apiserver"}
            cluster.put("apiservices.apiregistration.k8s.io", f"v3.{group}", status={"conditions": [condition]})

    return step


def remove_crd(name: str) -> Step:
    return lambda cluster: cluster.server.remove(CRDS, "", name)


SCENARIOS = [
    Scenario(
        "reads",
        [
            vms("web-1", **RUNS),
            vms("web-2"),
            *prepare(BLUE, f"{ATTACH} --restart"),
            deny(("list", "pods"), ("list", INSTANCES), ("get", INSTANCES)),
            "vm list",
            "ips list",
            "ips check",
            "vm attach web-2 --network blue",
            allow_all,
            deny(("list", "ipamblocks.crd.projectcalico.org"), ("get", "ipamblocks.crd.projectcalico.org")),
            Run("ips check", note="without Calico's blocks"),
            Run("vm detach web-2 --network blue", note="without Calico's blocks"),
            hours(1),
            "ips gc --yes",
            allow_all,
            deny(("list", NETWORKS)),
            "network list",
            Run("ips list", note="without networks"),
            "sync",
            BIG,
            allow_all,
            deny(("list", VMS)),
            Run("vm list", note="without VMs"),
            "vm attach -l app=web --network blue",
            Run("network list -A", note="without VMs"),
            allow_all,
            deny(("list", "nodes"), ("list", "servicecidrs.networking.k8s.io")),
            Run(BIG, note="without nodes"),
        ],
    ),
    Scenario(
        "writes",
        [
            vms("web-1", "web-2"),
            deny(("create", NETWORKS)),
            BLUE,
            allow_all,
            deny(("create", POOLS)),
            Run(BLUE, note="without pools"),
            deny(("create", POOLS), reviews=False),
            Run(BLUE, note="without pools, which no review tells"),
            allow_all,
            *prepare(BLUE, BIG),
            deny(("patch", f"{NETWORKS}/status")),
            ATTACH,
            allow_all,
            deny(("patch", VMS)),
            Run(ATTACH, note="without VMs"),
            Run("vm attach web-1 --network big", note="without VMs"),
            allow_all,
            deny(("create", BLOCKS)),
            Run("vm attach web-1 --network big", note="without blocks"),
            allow_all,
            *prepare(ATTACH),
            deny(("patch", VMS)),
            "vm detach web-1 --network blue",
            Run("vm detach web-1 --network blue --dry-run=server"),
            allow_all,
            deny(("delete", POOLS)),
            "network delete big",
            allow_all,
            deny(("patch", f"{NETWORKS}/status")),
            "ips reserve blue 10.20.0.9",
            "ips rebuild --yes",
            "sync",
        ],
    ),
    Scenario(
        "tenant",
        [
            vms("web-1", "web-2", **RUNS),
            *prepare(BLUE),
            deny(*IPAM),
            f"{ATTACH} {TENANT}",
            f"{ATTACH} --restart {TENANT}",
            f"vm list {TENANT}",
            f"vm detach web-1 --network blue --restart {TENANT}",
            f"ips list --network blue {TENANT}",
            "network create green --cidr 10.25.0.0/24 --as mary",
            "--as-group tenants vm list",
            deny(*IPAM, ("update", f"{VMS.replace('kubevirt', 'subresources.kubevirt')}/stop"), reviews=False),
            "vm attach web-2 --network blue --restart",
            "--token secret vm list",
        ],
    ),
    Scenario(
        "unavailable API server of Calico",
        [
            vms("web-1"),
            unavailable("projectcalico.org"),
            BLUE,
            network("blue", plugin="calico", cidr="10.20.0.0/24", status={"created": True}),
            ATTACH,
            "sync",
            "ips check",
            "network describe blue",
        ],
        {"also": CALICO_V3},
    ),
    Scenario(
        "unavailable custom resources of Calico",
        [
            vms("web-1"),
            *prepare(BLUE),
            unavailable("projectcalico.org"),
            BIG,
            ATTACH,
            "ips check",
            "network describe blue",
        ],
        {"calico": "projectcalico.org"},
    ),
    Scenario(
        "unavailable KubeVirt",
        [vms("web-1"), *prepare(BLUE), unavailable("kubevirt.io"), "vm list", ATTACH, "ips check"],
    ),
    Scenario(
        "without CRDs",
        [
            "network list",
            BLUE,
            f"{BLUE} --dry-run=client",
            ATTACH,
            "ips list",
            "ips check",
            "ips gc --yes",
            "sync",
            "vm list",
            "uninstall",
        ],
        {"crds": []},
    ),
    Scenario(
        "without AddressBlocks",
        [
            vms("web-1", "web-2"),
            *prepare(BLUE, BIG),
            remove_crd(BLOCKS),
            ATTACH,
            "vm attach web-2 --network big",
            "ips list",
        ],
    ),
    Scenario(
        "connection",
        [
            Run("--server http://127.0.0.1:1 network list", list, "another server"),
            "--kubeconfig missing network list",
            "--user nobody network list",
            "--cluster nobody network list",
            "--request-timeout soon network list",
            "--request-timeout 5s -n dev network list",
            Run("network list", note="without a kubeconfig", environment={"KUBECONFIG": "/nowhere"}),
            Run("network list", note="broken kubeconfig", environment={"KUBECONFIG": "broken"}),
            fails("version", "no answer", ("GET", faults.refuse_connection, 9)),
        ],
    ),
]
