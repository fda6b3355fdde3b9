"""What the tests of commands look at on VMs and networks of Calico: pins, requested networks, pools."""

from __future__ import annotations

import json

from lab.testing import Cluster
from tests.cluster.harness import Json, get

POOLS = "ippools.crd.projectcalico.org"
PIN = "cni.projectcalico.org/ipAddrs"
MAC = "cni.projectcalico.org/hwAddr"
NETWORK_NAME = "plumber.k8s.pf9.io/networkName"


def annotations(obj: Json) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("annotations", {})
    return found


def template_annotations(obj: Json) -> dict[str, str]:
    found: dict[str, str] = obj["spec"]["template"].get("metadata", {}).get("annotations", {})
    return found


def pinned(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """The addresses on a VM's template."""
    found = get(cluster, "virtualmachine", name, namespace=namespace)
    return list(json.loads(template_annotations(found).get(PIN, "[]")))


def host(cidr: str, number: int) -> str:
    """The address with that last octet, of a CIDR that begins at 0."""
    return f"{cidr.rpartition('.')[0]}.{number}"
