"""Running VMs get their address by a restart, on KubeVirt's own controllers, webhooks and subresources.

| VM | Calico holds another address for it | --restart |
|---|---|---|
| each run strategy, and the deprecated running | no | restarted through the subresource; its spec stays |
| each run strategy, and the deprecated running | yes | stopped, released, started again; its spec stays |
| any | yes | without it: refused, nothing changed |
"""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

import lab
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, find, get
from tests.cluster.killing import open_proxied_program
from tests.e2e.virt_handler import VirtHandler
from tests.waiting import wait_for

SPECS: dict[str, dict[str, Any]] = {
    "always": {"runStrategy": "Always"},
    "rerun": {"runStrategy": "RerunOnFailure"},
    "manual": {"runStrategy": "Manual"},
    "running": {"running": True},
}
"""VM -> how it is to run. They run side by side, as KubeVirt takes its time."""
WAIT = ("--restart", "--wait", "--timeout", "300s")


class RestartScene:
    """The full lab with a namespace and a network of the test's own."""

    def __init__(self, running: lab.Lab, forks: ForkServer, namespace: str) -> None:
        self.lab = running
        self.cluster = Cluster(running.kubeconfig, "lab")
        self.namespace = namespace
        self.yoshi = Yoshi(running.kubeconfig, "lab", forks, namespace)

    def kubectl(self, *args: str, input: str | None = None) -> str:
        return self.lab.kubectl("-n", self.namespace, *args, input=input)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return get(self.cluster, kind, name, namespace=self.namespace)

    def vm_runs(self, name: str, spec: dict[str, Any]) -> None:
        self.vms_run({name: spec})

    def vms_run(self, specs: dict[str, dict[str, Any]]) -> None:
        """Makes VMs, starts those that do not start by themselves, and waits until all of them run."""
        for name, spec in specs.items():
            self.make_vm(name, spec)
        for name, spec in specs.items():
            if spec.get("runStrategy") == "Manual":
                self.call(name, "start")
        wait_for(lambda: all(self.phase(name) == "Running" for name in specs), f"{', '.join(specs)} run")

    def make_vm(self, name: str, spec: dict[str, Any]) -> None:
        vm = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": name},
            "spec": {
                **spec,
                "template": {
                    "spec": {
                        "domain": {
                            "devices": {"interfaces": [{"name": "default", "bridge": {}}]},
                            "memory": {"guest": "128Mi"},
                        },
                        "networks": [{"name": "default", "pod": {}}],
                    }
                },
            },
        }
        self.kubectl("create", "-f", "-", input=json.dumps(vm))

    def call(self, name: str, verb: str) -> None:
        path = f"/apis/subresources.kubevirt.io/v1/namespaces/{self.namespace}/virtualmachines/{name}/{verb}"
        self.lab.kubectl("replace", "--raw", path, "-f", "-", input="{}")

    def are_quiet(self, names: Collection[str]) -> bool:
        """Whether KubeVirt has written of VMs that run what it writes: nothing has come for a second."""
        vms = [self.get("virtualmachine", name) for name in names]
        time.sleep(1)
        told = [vm.get("status", {}) for vm in vms]
        settled = all(one.get("printableStatus") == "Running" and not one.get("stateChangeRequests") for one in told)
        return settled and [self.version(name) for name in names] == [vm["metadata"]["resourceVersion"] for vm in vms]

    def version(self, name: str) -> str:
        """A VM's resourceVersion."""
        return str(self.get("virtualmachine", name)["metadata"]["resourceVersion"])

    def uid(self, name: str) -> str:
        """That of what runs of a VM."""
        return str(self.get("vmi", name)["metadata"]["uid"])

    def address(self, name: str) -> str:
        """The address with which a VM runs."""
        assert self.phase(name) == "Running"
        return str(self.get("vmi", name)["status"]["interfaces"][0]["ipAddress"])

    def phase(self, name: str) -> str:
        found = find(self.cluster, "vmi", name, namespace=self.namespace) or {}
        return str(found.get("status", {}).get("phase", ""))

    def guest_shuts_down(self, name: str) -> None:
        """What virt-handler and the kubelet tell then. Of Manual and Once KubeVirt keeps instance and pod."""
        kubevirt = "--as=system:serviceaccount:kubevirt:kubevirt-controller"  # its webhook takes nobody else's status
        ended = ("--type=merge", "-p", json.dumps({"status": {"phase": "Succeeded"}}))
        self.kubectl("patch", "vmi", name, kubevirt, *ended)
        for pod in self.kubectl("get", "pods", "-l", f"vm.kubevirt.io/name={name}", "-o", "name").split():
            self.kubectl("patch", pod, "--subresource=status", *ended)
        assert self.phase(name) == "Succeeded"

    def hold_in_calico(self, name: str, address: str, ordinal: int, block: str) -> str:
        """What Calico 3.32 keeps for a VM: an allocation in a block, and the VM's handle. Gives the handle's name."""
        handle = f"k8s-pod-network.vmi.{self.namespace}.{name}"
        allocations: list[int | None] = [None] * 64
        allocations[ordinal] = 0
        objects = [
            {
                "apiVersion": "crd.projectcalico.org/v1",
                "kind": "IPAMBlock",
                "metadata": {"name": block.translate(str.maketrans("./:", "---"))},
                "spec": {
                    "cidr": block,
                    "affinity": "host:node-1",
                    "allocations": allocations,
                    "attributes": [{"handle_id": handle, "secondary": {"vmi-name": name, "namespace": self.namespace}}],
                    "unallocated": [i for i in range(64) if i != ordinal],
                    "strictAffinity": False,
                    "sequenceNumber": 5,
                },
            },
            {
                "apiVersion": "crd.projectcalico.org/v1",
                "kind": "IPAMHandle",
                "metadata": {"name": handle},
                "spec": {"handleID": handle, "block": {block: 1}},
            },
        ]
        for obj in objects:
            self.lab.kubectl("create", "--validate=false", "-f", "-", input=json.dumps(obj))
        return handle


@pytest.fixture
def scene(full_lab: lab.Lab, forks: ForkServer) -> Iterator[RestartScene]:
    namespace = f"restarts-{secrets.token_hex(4)}"
    full_lab.kubectl("create", "namespace", namespace)
    scene = RestartScene(full_lab, forks, namespace)
    scene.yoshi.done("install")
    yield scene
    full_lab.kubectl("delete", "ipamblocks,ipamhandles", "--all")
    scene.yoshi.done("network", "delete", "blue", "--force", "--restart", "--yes")
    full_lab.kubectl("delete", "namespace", namespace, "--wait=false")


def spec_of(scene: RestartScene, name: str) -> dict[str, Any]:
    spec = scene.get("virtualmachine", name)["spec"]
    return {key: spec[key] for key in ("runStrategy", "running") if key in spec}


def test_running_vms_get_their_addresses_by_a_restart(scene: RestartScene) -> None:
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.61.0.0/24")
    scene.vms_run(SPECS)
    before = {name: scene.uid(name) for name in SPECS}

    ran = scene.yoshi.run("vm", "attach", *SPECS, "--network", "blue")
    assert ran.code == 0, str(ran)
    for name in SPECS:
        assert f"restart needed: virtualmachine/{name} " in ran.err, str(ran)
    assert {name: scene.uid(name) for name in SPECS} == before, "restarted without being told to"
    assert scene.yoshi.done("vm", "list").count("RestartNeeded") == len(SPECS)

    scene.yoshi.done("vm", "attach", *SPECS, "--network", "blue", *WAIT)

    assert sorted(scene.address(name) for name in SPECS) == [f"10.61.0.{n}" for n in range(1, len(SPECS) + 1)]
    assert [name for name in SPECS if scene.uid(name) == before[name]] == []
    assert {name: spec_of(scene, name) for name in SPECS} == SPECS
    assert scene.yoshi.done("vm", "list", "--no-headers").count("Bound") == len(SPECS)
    assert scene.yoshi.done("ips", "check") == f"{len(SPECS)} addresses, all as recorded\n"


def test_running_vms_with_another_address_in_calico_are_stopped_released_and_started(scene: RestartScene) -> None:
    """Each has a block of its own in Calico, of 64 addresses."""
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.62.0.0/24")
    scene.vms_run(SPECS)
    first = {name: 64 * place for place, name in enumerate(SPECS)}
    held, wanted = ({name: f"10.62.0.{n + more}" for name, n in first.items()} for more in (7, 9))
    handles = {name: scene.hold_in_calico(name, held[name], 7, f"10.62.0.{n}/26") for name, n in first.items()}
    wait_for(lambda: scene.are_quiet(SPECS), "KubeVirt has written all it writes")
    before = {name: scene.version(name) for name in SPECS}

    attach = {name: ("vm", "attach", name, "--network", "blue", "--ip", wanted[name]) for name in SPECS}
    for name, words in attach.items():
        said = scene.yoshi.refused(*words)
        assert f"Calico holds {held[name]}" in said
        assert "--restart" in said
    assert {name: scene.version(name) for name in SPECS} == before
    checked = scene.yoshi.done("ips", "check", code=1)
    assert [address for address in held.values() if address not in checked] == []
    states = scene.yoshi.done("ips", "list", "--network", "blue", "-o", "jsonpath={.items[*].status.state}")
    assert states.split() == ["Unrecorded"] * len(SPECS)

    for ran in scene.yoshi.together(*((*words, *WAIT) for words in attach.values())):
        assert ran.code == 0, str(ran)

    assert {name: scene.address(name) for name in SPECS} == wanted
    assert {name: spec_of(scene, name) for name in SPECS} == SPECS
    for name, number in first.items():
        assert scene.lab.kubectl("get", "ipamhandle", handles[name], "--ignore-not-found") == ""
        block = get(scene.cluster, "ipamblock", f"10-62-0-{number}-26")["spec"]
        assert block["allocations"] == [None] * 64
        assert block["attributes"] == []
        assert sorted(block["unallocated"]) == list(range(64))
        annotations = scene.get("virtualmachine", name)["metadata"]["annotations"]
        assert "plumber.k8s.pf9.io/startAgain" not in annotations


@pytest.mark.parametrize("restart", [(), ("--restart",)])
def test_vm_with_a_shut_down_guest_gets_its_address_on_start(scene: RestartScene, restart: tuple[str, ...]) -> None:
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.66.0.0/24")
    scene.vm_runs("web", {"runStrategy": "Manual"})
    handle = scene.hold_in_calico("web", "10.66.0.7", 7, "10.66.0.0/26")
    scene.guest_shuts_down("web")
    scene.yoshi.done("vm", "attach", "web", "--network", "blue", "--ip", "10.66.0.9", *restart)
    assert scene.lab.kubectl("get", "ipamhandle", handle, "--ignore-not-found") == ""
    assert scene.phase("web") == "Succeeded", "it was stopped, and nobody asked for it to be started"
    scene.call("web", "start")
    wait_for(lambda: scene.phase("web") == "Running", "web runs again")
    assert scene.address("web") == "10.66.0.9"


def test_detach_of_a_running_vm_keeps_its_address_until_it_stops(scene: RestartScene) -> None:
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.63.0.0/24")
    scene.vm_runs("web", {"runStrategy": "Always"})
    scene.yoshi.done("vm", "attach", "web", "--network", "blue", *WAIT)

    ran = scene.yoshi.run("vm", "detach", "web", "--network", "blue")
    assert "10.63.0.1 stays recorded" in ran.err, str(ran)
    assert [line.split()[0] for line in scene.yoshi.done("ips", "list", "--no-headers").splitlines()] == ["10.63.0.1"]
    assert scene.yoshi.done("ips", "gc", "--yes", "--grace", "0s") == "nothing to collect\n"

    scene.yoshi.done("vm", "detach", "web", "--network", "blue", "--restart")
    wait_for(lambda: scene.phase("web") == "Running", "web runs again")
    assert scene.yoshi.done("ips", "list") == ""
    assert spec_of(scene, "web") == {"runStrategy": "Always"}


def test_restart_interrupted_after_the_stop_is_completed_by_a_second_run(scene: RestartScene, tmp_path: Path) -> None:
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.64.0.0/24")
    scene.vm_runs("web", {"runStrategy": "RerunOnFailure"})
    scene.hold_in_calico("web", "10.64.0.7", 7, "10.64.0.0/26")
    words = ("vm", "attach", "web", "--network", "blue", "--ip", "10.64.0.9")
    with open_proxied_program(scene.yoshi, tmp_path) as between:
        for writes in itertools.count():
            assert between.is_killed(writes, *words, "--restart"), "no kill fell between the stop and the start"
            if "plumber.k8s.pf9.io/startAgain" in scene.get("virtualmachine", "web")["metadata"]["annotations"]:
                break

    scene.yoshi.done(*words, *WAIT)

    assert scene.address("web") == "10.64.0.9"
    assert spec_of(scene, "web") == {"runStrategy": "RerunOnFailure"}
    assert scene.yoshi.done("ips", "check") == "1 addresses, all as recorded\n"


def test_kubevirt_webhooks_accept_the_changes_and_unknown_fields_are_preserved(scene: RestartScene) -> None:
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.65.0.0/24")
    scene.vm_runs("web", {"runStrategy": "Always"})
    scene.kubectl("annotate", "virtualmachine", "web", "example.com/ours=kept")
    before = scene.get("virtualmachine", "web")
    scene.yoshi.done("vm", "attach", "web", "--network", "blue")
    after = scene.get("virtualmachine", "web")
    template = after["spec"]["template"]
    assert template["metadata"]["annotations"].pop("cni.projectcalico.org/ipAddrs") == '["10.65.0.1"]'
    assert template["metadata"]["annotations"].pop("cni.projectcalico.org/hwAddr")
    assert after["metadata"]["annotations"].pop("plumber.k8s.pf9.io/networkName") == "blue"
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert after["spec"] == before["spec"]


def test_vm_starts_restarts_and_migrates_with_its_own_address_only(scene: RestartScene) -> None:
    """The admission policies: virt-controller's VMIs and pods are admitted with the address of their VM."""
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.69.0.0/24")
    is_enforced = ("policy", "explain", "10.69.0.1", "-o", "jsonpath={.status.policies} {.status.namespaces}")
    assert scene.yoshi.done(*is_enforced) == "enforce All"
    for name in ("web", "other"):
        scene.make_vm(name, {"runStrategy": "Halted"})
    scene.yoshi.done("vm", "attach", "web", "--network", "blue")
    start = {"spec": {"runStrategy": "Always"}}
    scene.kubectl("patch", "vm", "web", "--type=merge", "-p", json.dumps(start))
    wait_for(lambda: scene.phase("web") == "Running", "web runs")
    first = scene.uid("web")
    assert scene.address("web") == "10.69.0.1"

    scene.call("web", "restart")
    wait_for(lambda: scene.phase("web") == "Running" and scene.uid("web") != first, "web runs again")
    assert scene.address("web") == "10.69.0.1"

    handler = VirtHandler(scene.kubectl)
    handler.begin("web")
    handler.let_migrate("web")
    handler.migrate("web")
    assert len(scene.kubectl("get", "pods", "-l", "vm.kubevirt.io/name=web", "-o", "name").split()) == 2

    stolen = {"spec": {"template": {"metadata": {"annotations": {"cni.projectcalico.org/ipAddrs": '["10.69.0.1"]'}}}}}
    scene.kubectl("patch", "vm", "other", "--type=merge", "-p", json.dumps(stolen))  # an administrator may
    scene.kubectl("patch", "vm", "other", "--type=merge", "-p", json.dumps(start))

    def refusals() -> str:
        return json.dumps(scene.get("virtualmachine", "other").get("status", {}).get("conditions", []))

    reason = f"address 10.69.0.1 of network {scene.namespace}/blue is allocated to VM {scene.namespace}/web"
    wait_for(lambda: reason in refusals(), "virt-controller reports the refusal")
    assert scene.phase("other") == ""
    scene.kubectl("delete", "vm", "other")


def test_restored_vm_runs_with_its_address_after_rebuild(scene: RestartScene) -> None:
    """The admission policies: an administrator may create it, and KubeVirt start it once its new uid is recorded."""
    scene.yoshi.done("network", "create", "blue", "--cidr", "10.70.0.0/24")
    scene.make_vm("web", {"runStrategy": "Halted"})
    scene.yoshi.done("vm", "attach", "web", "--network", "blue")
    vm = scene.get("virtualmachine", "web")
    metadata = {key: vm["metadata"][key] for key in ("name", "annotations", "labels") if key in vm["metadata"]}
    backup = {"apiVersion": vm["apiVersion"], "kind": vm["kind"], "metadata": metadata, "spec": vm["spec"]}
    scene.kubectl("delete", "virtualmachine", "web")

    scene.kubectl("create", "-f", "-", input=json.dumps(backup))
    scene.yoshi.done("ips", "rebuild", "--network", "blue", "--yes")
    scene.call("web", "start")

    wait_for(lambda: scene.phase("web") == "Running", "the restored VM runs")
    assert scene.address("web") == "10.70.0.1"
    assert scene.yoshi.done("ips", "check") == "1 addresses, all as recorded\n"
