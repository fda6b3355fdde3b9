"""The full lab does what the tests of public networks rest on: a VM runs, its address is announced from its node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab
from lab.running import kubectl_command
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]

VM = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "metadata": {"name": "web"},
    "spec": {
        "runStrategy": "Always",
        "template": {
            "metadata": {"annotations": {"cni.projectcalico.org/ipAddrs": '["10.133.0.10"]'}},
            "spec": {
                "domain": {
                    "devices": {"interfaces": [{"name": "default", "bridge": {}}]},
                    "memory": {"guest": "128Mi"},
                },
                "networks": [{"name": "default", "pod": {}}],
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "annotations": {"metallb.io/loadBalancerIPs": "203.0.113.5"}},
    "spec": {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "selector": {"vmi.kubevirt.io/id": "web"},
        "ports": [{"port": 22}],
    },
}


def metallb_objects(router: str, addresses: str) -> list[dict[str, Any]]:
    """A pool that MetalLB announces to the router and to the link."""

    def metallb(kind: str, spec: object, version: str = "v1beta1") -> dict[str, Any]:
        metadata = {"name": "lab-test", "namespace": "metallb-system"}
        return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": metadata, "spec": spec}

    return [
        metallb("IPAddressPool", {"addresses": [addresses], "autoAssign": False}),
        metallb("BGPAdvertisement", {"ipAddressPools": ["lab-test"]}),
        metallb("L2Advertisement", {"ipAddressPools": ["lab-test"]}),
        metallb("BGPPeer", {"myASN": 4200000001, "peerASN": 64513, "peerAddress": router}, "v1beta2"),
    ]


@pytest.fixture(scope="module")
def announcing(full_lab: lab.Lab) -> Iterator[lab.Lab]:
    """The full lab with a pool that MetalLB announces."""
    objects = metallb_objects(full_lab.router_address, "203.0.113.0/26")
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    full_lab.kubectl("create", "-f", "-", input=manifest)
    yield full_lab
    full_lab.kubectl("delete", "-f", "-", input=manifest)


def fresh_namespace(running: lab.Lab) -> Iterator[str]:
    name = f"lab-test-{time.time_ns()}"
    running.kubectl("create", "namespace", name)
    yield name
    running.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(full_lab: lab.Lab) -> Iterator[str]:
    yield from fresh_namespace(full_lab)


@pytest.fixture
def namespace6(frr_lab: lab.Lab) -> Iterator[str]:
    yield from fresh_namespace(frr_lab)
    # The lab is shared: other tests look whether MetalLB's namespace is as they found it.
    for kind in ("bgpadvertisement", "l2advertisement", "bgppeer", "ipaddresspool"):
        frr_lab.kubectl("-n", "metallb-system", "delete", f"{kind}.metallb.io", "lab-test", "--ignore-not-found")


def test_service_address_is_announced_from_the_node_of_its_running_vm(announcing: lab.Lab, namespace: str) -> None:
    running = announcing
    for found in (VM, SERVICE):
        running.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(found))
    for node in (running.nodes[1], running.nodes[0]):
        selector = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": node.name}}}}}
        running.kubectl("-n", namespace, "patch", "vm", "web", "--type=merge", "-p", json.dumps(selector))
        wait_for(lambda: is_settled(running, namespace))
        before = vmi_of(running, namespace)
        subresource(running, namespace, "restart")
        wait_for(lambda before=before: is_another(vmi_of(running, namespace), before))  # type: ignore[misc]
        assert vmi_of(running, namespace)["status"]["nodeName"] == node.name
        assert vmi_of(running, namespace)["status"]["interfaces"][0]["ipAddress"] == "10.133.0.10"
        wait_for(lambda node=node: ("203.0.113.5/32", node.address) in running.routes())  # type: ignore[misc]
    wait_for(lambda: is_settled(running, namespace))
    subresource(running, namespace, "stop")
    wait_for(lambda: not [route for route in running.routes() if route.prefix == "203.0.113.5/32"])
    service = json.loads(running.kubectl("-n", namespace, "get", "service", "web", "-o", "json"))
    assert service["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.5"


def test_ipv6_address_is_announced_by_frr_from_the_node_of_its_vm(frr_lab: lab.Lab, namespace6: str) -> None:
    vm = json.loads(json.dumps(VM).replace("10.133.0.10", "fd00:10:133::a"))
    service = json.loads(json.dumps(SERVICE).replace("203.0.113.5", "2001:db8:1::5"))
    service["spec"]["ipFamilies"] = ["IPv6"]
    objects = [*metallb_objects(frr_lab.router_address6, "2001:db8:1::/64"), vm, service]
    for found in objects:
        frr_lab.kubectl("-n", namespace_of(found) or namespace6, "create", "-f", "-", input=json.dumps(found))
    wait_for(lambda: any(route.prefix == "2001:db8:1::5/128" for route in frr_lab.routes()))
    node = vmi_of(frr_lab, namespace6)["status"]["nodeName"]
    addresses = {node.name: node.address6 for node in frr_lab.nodes}
    assert ("2001:db8:1::5/128", addresses[node]) in frr_lab.routes()


def test_kubevirt_webhooks_refuse_invalid_vms(full_lab: lab.Lab, namespace: str) -> None:
    both = {**VM, "spec": {**VM["spec"], "running": True}}  # type: ignore[dict-item]
    with pytest.raises(lab.LabError, match="mutually exclusive"):
        full_lab.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(both))


def test_second_full_lab_shares_nothing_and_leaves_nothing(full_lab: lab.Lab, namespace: str) -> None:
    before = network_things()
    name = f"beside-{os.getpid()}"

    def run(*args: str) -> str:
        command = [sys.executable, "-m", "lab", *args, "--name", name]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    kubeconfig = run("up", "--profile", "full").strip()
    try:
        status = run("status")
        assert status.count(" yes ") == len(full_lab.programs)
        assert "ipv4:" in run("route")
        command = [kubectl_command(), f"--kubeconfig={kubeconfig}", "get", "namespaces", "-o", "name"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "namespace/kubevirt" in said
        assert namespace not in said
    finally:
        run("down")
    assert network_things() == before
    assert namespace in full_lab.kubectl("get", "namespaces", "-o", "name")
    assert "ipv4:" in full_lab.route_table()


def namespace_of(found: dict[str, Any]) -> str | None:
    namespace: str | None = found["metadata"].get("namespace")
    return namespace


def is_settled(running: lab.Lab, namespace: str) -> bool:
    """Whether the VM runs and KubeVirt has nothing to start or stop: until then it refuses to restart it."""
    status = json.loads(running.kubectl("-n", namespace, "get", "vm", "web", "-o", "json")).get("status", {})
    return status.get("printableStatus") == "Running" and not status.get("stateChangeRequests")


def vmi_of(running: lab.Lab, namespace: str) -> dict[str, Any]:
    """The VM's running instance, an empty one while there is none."""
    found = running.kubectl("-n", namespace, "get", "vmi", "web", "--ignore-not-found", "-o", "json")
    return dict(json.loads(found or "{}"))


def is_another(vmi: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a VMI runs that is not the one from before."""
    return vmi.get("status", {}).get("phase") == "Running" and vmi["metadata"]["uid"] != before["metadata"]["uid"]


def subresource(running: lab.Lab, namespace: str, verb: str) -> None:
    path = f"/apis/subresources.kubevirt.io/v1/namespaces/{namespace}/virtualmachines/web/{verb}"
    running.kubectl("replace", "--raw", path, "-f", "-", input="{}")


def network_things() -> list[str]:
    return sorted(
        line.split()[0]
        for command in (["ip", "netns", "list"], ["ip", "-brief", "link"])
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    )
