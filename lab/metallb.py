"""MetalLB in the full profile: its controller, and a speaker (BGP, L2) in each node's network namespace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.lab_ids import LabId
from lab.manifests import metallb_manifest
from lab.network_setup import Node
from lab.processes import Launch

NAMESPACE = "metallb-system"
ACCOUNTS = ("controller", "speaker")
SPEAKER_PORT = 7472  # in a namespace of its own, so the same on every node
NEEDED_KINDS = ("Namespace", "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ConfigMap")


def objects(bgp: str) -> list[Mapping[str, Any]]:
    """What MetalLB's own manifest installs besides its CRDs and workloads: the namespace, the permissions."""
    return [found for found in metallb_manifest(bgp) if found["kind"] in NEEDED_KINDS]


def bgp_environment(bgp: str) -> dict[str, str]:
    """What tells MetalLB's programs how the speakers speak BGP: native, frr or frr-k8s."""
    return {"METALLB_BGP_TYPE": bgp}


def speaker_pod(node: Node) -> dict[str, Any]:
    """The Pod that a speaker takes itself for; it looks its own name up."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"speaker-{node.name}",
            "namespace": NAMESPACE,
            "labels": {"app": "metallb", "component": "speaker"},
        },
        "spec": {
            "nodeName": node.name,
            "hostNetwork": True,
            "serviceAccountName": "speaker",
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "speaker", "image": "quay.io/metallb/speaker"}],
        },
    }


def controller_launch(lab_id: LabId, programs: Mapping[str, Path], kubeconfig: Path, bgp: str) -> Launch:
    port = lab_id.port("metallb-controller")
    command = [
        str(programs["metallb-controller"]),
        f"--namespace={NAMESPACE}",
        f"--port={port}",
        "--webhook-mode=disabled",
        "--disable-cert-rotation",
    ]
    environment = {**bgp_environment(bgp), "KUBECONFIG": str(kubeconfig)}
    return Launch("metallb-controller", command, port, environment)


def speaker_launch(node: Node, programs: Mapping[str, Path], kubeconfig: Path, bgp: Mapping[str, str]) -> Launch:
    command = [
        str(programs["metallb-speaker"]),
        f"--namespace={NAMESPACE}",
        f"--node-name={node.name}",
        f"--pod-name=speaker-{node.name}",
        "--host=127.0.0.1",
        f"--port={SPEAKER_PORT}",
    ]
    environment = {**bgp, "KUBECONFIG": str(kubeconfig)}
    return Launch(f"speaker-{node.name}", command, SPEAKER_PORT, environment, node.network_namespace)
