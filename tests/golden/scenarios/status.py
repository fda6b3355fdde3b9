"""status: healthy clusters, and what cannot be read."""

from __future__ import annotations

from tests.golden.cluster import NETWORKS, Cluster, allow_all, deny, vms
from tests.golden.controllers import VMS
from tests.golden.scenario import Run, Scenario, prepare
from tests.golden.scenarios.calico import BIG, BLUE, RUNS
from tests.golden.scenarios.public import LAN
from tests.golden.server import CRDS

FULL = "network create tiny --cidr 10.134.0.0/29"


def versions(cluster: Cluster) -> None:
    """KubeVirt and MetalLB report their versions."""
    cluster.put("kubevirts.kubevirt.io", "kubevirt", "kubevirt", status={"observedKubeVirtVersion": "v1.9.0"})
    containers = [{"name": "controller", "image": "quay.io/metallb/controller:v0.16.1"}]
    template = {"template": {"spec": {"containers": containers}}}
    labels = {"app.kubernetes.io/name": "metallb"}
    cluster.put("deployments.apps", "controller", "metallb-system", labels, spec=template)


def not_ready(cluster: Cluster) -> None:
    """Network blue is not ready."""
    conditions = [{"type": "Ready", "status": "False"}]
    cluster.server.edit(
        NETWORKS, "prod", "blue", lambda obj: obj["status"].update(conditions=conditions, reason="the pool is gone")
    )


SCENARIOS = [
    Scenario(
        "status",
        [
            versions,
            vms("web-1", **RUNS),
            vms("web-2", "web-3", "idle"),
            "status",
            *prepare(BLUE, BIG, LAN, FULL, "vm attach web-1 --network blue --restart", "vm attach web-2 --network big"),
            *prepare(
                *(f"ips reserve tiny 10.134.0.{number}" for number in range(1, 7)),
                "ips reserve blue 10.20.0.9",
                "vm attach web-3 --network blue",
            ),
            Run("status", note="with networks"),
            "status -A",
            Run("status -A", note="colours", environment={"FORCE_COLOR": "1"}),
            "status -o json",
            "status -o name",
            "status --wait",
            lambda cluster: cluster.delete_vm("web-2"),
            Run("status", note="with a finding"),
            not_ready,
            "status --wait --timeout 3s",
            "report -o report.tar.gz",
            Run("report -o report.tar.gz --redact", note="the file exists"),
            "report -A --redact --force -o report.tar.gz",
        ],
    ),
    Scenario(
        "status without permissions",
        [
            versions,
            vms("web-1", **RUNS),
            *prepare(BLUE, BIG),
            deny(("list", VMS), ("list", "deployments.apps"), ("get", CRDS), ("patch", VMS), ("create", NETWORKS)),
            "status",
            "status -o json",
            deny(("list", NETWORKS)),
            Run("status", note="without networks"),
            "status --wait --timeout 2s",
            allow_all,
            deny(("list", "addressblocks.plumber.k8s.pf9.io")),
            Run("status", note="without blocks"),
        ],
    ),
    Scenario("status without CRDs", ["status", "status --wait --timeout 2s", "report -o report.tar.gz"], {"crds": []}),
]
