"""kwok and its stages, instead of kubelets, pod addresses and virt-handler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.lab_ids import LabId
from lab.manifests import module_folder
from lab.network_setup import Node
from lab.processes import Launch
from lab.programs import KWOK_MODULE, tool_cache

OWN_STAGES = Path(__file__).parent / "stages.yaml"
# kwok plays its own stages only as long as it is given none.
DEFAULT_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
KWOK_POD_IP = "podIP: {{ PodIPWith"
CALICO_ADDRESS = """{{ $calico := index (or .metadata.annotations dict) "cni.projectcalico.org/ipAddrs" }}
      {{ if $calico }}
      podIP: {{ regexFind "[0-9a-fA-F.:]+" $calico | Quote }}
      podIPs: [ {ip: {{ regexFind "[0-9a-fA-F.:]+" $calico | Quote }}} ]
      {{ else }}
      """


def kwok_launch(folder: Path, lab_id: LabId, programs: Mapping[str, Path]) -> Launch:
    """Write the stages; returns how kwok is started."""
    stages = folder / "stages.yaml"
    stages.write_text(default_stages() + "\n---\n" + OWN_STAGES.read_text())
    port = lab_id.port("kwok")
    command = [
        str(programs["kwok"]),
        f"--kubeconfig={folder / 'kubeconfig'}",
        f"--config={stages}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",  # or the nodes are found dead after a minute
        "--cidr=10.244.0.0/24",
        f"--node-ip={lab_id.gateway}",
        f"--server-address=127.0.0.1:{port}",
    ]
    return Launch("kwok", command, port)


def default_stages() -> str:
    """kwok's own stages for nodes and pods, from its Go module, with Calico's address for pods that ask for one."""
    cached = tool_cache("kwok", KWOK_MODULE) / "stages.yaml"
    if not cached.exists():
        source = module_folder("kwok", KWOK_MODULE) / "kustomize" / "stage"
        text = "\n---\n".join((source / name).read_text() for name in DEFAULT_STAGES)
        part = cached.with_suffix(".part")
        part.write_text(with_calico_address(text))
        part.replace(cached)
    return cached.read_text()


def with_calico_address(stages: str) -> str:
    """Let the pod stage give a pod the address that it asks Calico for, as Calico would."""
    line = next((line for line in stages.splitlines() if line.strip().startswith(KWOK_POD_IP)), None)
    if line is None:
        raise LabError(f"kwok's pod stage has no line `{KWOK_POD_IP}` any more: lab/kwok.py must learn its new form")
    return stages.replace(line, f"      {CALICO_ADDRESS}{line.strip()}\n      {{{{ end }}}}")


def node_object(node: Node, number: int) -> dict[str, Any]:
    """A Node that KubeVirt schedules VMs to."""
    capacity = {
        "cpu": "1k",
        "memory": "1Ti",
        "ephemeral-storage": "1Ti",
        "pods": "1k",
        **{f"devices.kubevirt.io/{device}": "1k" for device in ("kvm", "tun", "vhost-net")},
    }
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": node.name,
        "kubevirt.io/schedulable": "true",
        "machine-type.node.kubevirt.io/q35": "true",
        "cpu-model.node.kubevirt.io/host-model": "true",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"podCIDR": f"10.244.{number}.0/24", "podCIDRs": [f"10.244.{number}.0/24"]},
        "status": {
            "addresses": [  # kwok merges them by type, so there cannot be an IPv6 one as well
                {"type": "InternalIP", "address": node.address},
                {"type": "Hostname", "address": node.name},
            ],
            "allocatable": capacity,
            "capacity": capacity,
        },
    }
