"""frr-k8s on the nodes of a full lab: the daemon that configures FRR for MetalLB's speakers, and reports its state.

The speakers create FRRConfigurations. On each node `frr-k8s` makes FRR's configuration of them and reports it as an
FRRNodeState, within 30 s; `frr-status` asks FRR for its sessions each second, and reports each as a BGPSessionState.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.frr import reload_environment, with_reload_status, with_vtysh
from lab.metallb import NAMESPACE
from lab.network_setup import Node
from lab.processes import Launch

ACCOUNT = "frr-k8s-daemon"
METRICS_PORT = 7572  # in a namespace of its own, so the same on every node


def daemon_pod(node: Node) -> dict[str, Any]:
    """The Pod that frr-k8s takes itself for; it owns the BGPSessionStates of its node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": _pod_name(node),
            "namespace": NAMESPACE,
            "labels": {"app": "frr-k8s", "control-plane": "frr-k8s", "app.kubernetes.io/component": "frr-k8s"},
        },
        "spec": {
            "nodeName": node.name,
            "hostNetwork": True,
            "serviceAccountName": ACCOUNT,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "frr-k8s", "image": "quay.io/metallb/frr-k8s"}],
        },
    }


def daemon_launches(folder: Path, node: Node, programs: Mapping[str, Path]) -> list[Launch]:
    """frr-k8s and frr-status of one node, whose FRR is ready and whose Pod exists."""
    flags = [f"--namespace={NAMESPACE}", f"--node-name={node.name}", f"--pod-name={_pod_name(node)}"]
    kubeconfig = {"KUBECONFIG": str(folder / f"{ACCOUNT}.kubeconfig")}
    return [
        Launch(
            f"frr-k8s-{node.name}",
            [
                *with_reload_status(folder, node),
                str(programs["frr-k8s"]),
                *flags,
                f"--metrics-bind-address=127.0.0.1:{METRICS_PORT}",
            ],
            METRICS_PORT,
            {**kubeconfig, **reload_environment(folder, node)},
            node.network_namespace,
        ),
        Launch(
            f"frr-status-{node.name}",
            [*with_vtysh(folder, node), str(programs["frr-status"]), *flags, "--poll-interval=1s"],
            environment=kubeconfig,
            network_namespace=node.network_namespace,
        ),
    ]


def _pod_name(node: Node) -> str:
    return f"frr-k8s-daemon-{node.name}"
