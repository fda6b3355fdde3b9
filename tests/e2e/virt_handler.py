"""What Multus, virt-handler and virt-launcher do for a VM's interfaces, played as an API server sees it.

kwok plays a kubelet, so none of them is there. What virt-controller makes of their reports is its own: where a pod is
made, which network it asks Multus for, the interfaces of the VMI's and the VM's spec. KubeVirt's own code (v1.8):

| played | as |
|---|---|
| what Multus says on a pod | as virt-controller reads it (pkg/network/controllers/vmi.go: UpdateVMIStatus) |
| a VMI's status.interfaces | pkg/network/setup/netstat.go: UpdateStatus |
| a live migration, both ends of it | pkg/virt-handler/migration-source.go and migration-target.go |

Without what Multus says, virt-controller takes nothing out: HasOrdinalSecondaryIfaces (pkg/network/namescheme), which
pkg/network/controllers/vm.go asks, holds for pods of which it does not know how their interfaces are named.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.waiting import wait_for

Json = dict[str, Any]

MULTUS = "k8s.v1.cni.cncf.io/networks"
NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status"
KUBEVIRTS_OWN = "--as=system:serviceaccount:kubevirt:kubevirt-controller"
"""KubeVirt's webhooks let nobody else write a VMI's status."""
MULTUS_SAYS = "multus-status"


class VirtHandler:
    """The virt-handlers of all nodes, in one namespace.

    Args:
        kubectl: runs kubectl in the namespace, with these words.
    """

    def __init__(self, kubectl: Callable[..., str]) -> None:
        self._kubectl = kubectl

    def begin(self, name: str) -> None:
        """Reports what a VMI that has just started runs with."""
        self._multus(name)
        self._domain(name)

    def let_migrate(self, name: str) -> None:
        """Reports that a VMI can be migrated live."""
        conditions = [c for c in self._vmi(name)["status"]["conditions"] if c["type"] != "LiveMigratable"]
        migratable = {"type": "LiveMigratable", "status": "True"}
        self._tell(name, selinuxContext="none", conditions=[*conditions, migratable])

    def unplug(self, name: str) -> None:
        """Takes the devices that are to be absent out of the guest; the pod keeps its end of them."""
        self._domain(name)

    def migrate(self, name: str) -> None:
        """Has a VMI migrated live, as `virtctl migrate` does; returns when its old pod has ended."""
        body = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration", "spec": {"vmiName": name}}
        body = {**body, "metadata": {"generateName": f"{name}-"}}
        made = json.loads(self._kubectl("create", "-f", "-", "-o", "json", input=json.dumps(body)))

        def phase() -> str:
            migration = self._get("virtualmachineinstancemigration", made["metadata"]["name"])
            return str(migration.get("status", {}).get("phase"))

        wait_for(lambda: phase() == "PreparingTarget")
        self._tell(name, migrationState={"targetNodeAddress": "10.0.0.1", "targetDirectMigrationNodePorts": {"0": 1}})
        wait_for(lambda: phase() == "TargetReady")
        self._tell(name, migrationState={"startTimestamp": _now()})
        wait_for(lambda: phase() == "Running")
        state = self._vmi(name)["status"]["migrationState"]
        self._multus(name)
        arrived = {"targetNodeDomainDetected": True, "targetNodeDomainReadyTimestamp": _now()}
        conditions = [c for c in self._vmi(name)["status"]["conditions"] if c["type"] != "MigrationRequired"]
        self._tell(
            name, {"labels": {"kubevirt.io/nodeName": state["targetNode"]}}, nodeName=state["targetNode"],
            conditions=conditions, migrationState={**arrived, "endTimestamp": _now(), "completed": True},
        )  # fmt: skip
        wait_for(lambda: phase() == "Succeeded")
        ended = json.dumps({"status": {"phase": "Succeeded"}})
        self._kubectl("patch", "pod", state["sourcePod"], "--subresource=status", "--type=merge", "-p", ended)
        self._domain(name)

    def _get(self, *what: str) -> Json:
        return dict(json.loads(self._kubectl("get", *what, "-o", "json")))

    def _vmi(self, name: str) -> Json:
        return self._get("vmi", name)

    def _tell(self, name: str, metadata: Json | None = None, **status: Any) -> None:
        body = json.dumps({"metadata": metadata or {}, "status": status})
        self._kubectl("patch", "vmi", name, KUBEVIRTS_OWN, "--type=merge", "-p", body)

    def _pods(self, name: str) -> list[Json]:
        """The pods in which a VMI runs, or is about to."""
        found = self._get("pods", "-l", f"kubevirt.io/created-by={self._vmi(name)['metadata']['uid']}")["items"]
        return [pod for pod in found if pod["status"].get("phase") == "Running"]

    def _multus(self, name: str) -> None:
        """Says on a VMI's new pods what is plugged into them; what is asked for later is nothing to it."""
        for pod in self._pods(name):
            if NETWORK_STATUS in pod["metadata"]["annotations"]:
                continue
            found = [{"name": "cbr0", "interface": "eth0", "default": True}]
            found += [{**one, "name": f"{one['namespace']}/{one['name']}"} for one in _asked(pod)]
            said = f"{NETWORK_STATUS}={json.dumps(found)}"
            self._kubectl("annotate", "--overwrite", "pod", pod["metadata"]["name"], said)

    def _domain(self, name: str) -> None:
        """Reports what libvirt's domain has: what the spec says, without what is to be absent or is not in the pod."""
        wait_for(lambda: self._virt_controller_has_heard_of_multus(name))
        vmi = self._vmi(name)
        before = {one["name"]: one for one in vmi["status"]["interfaces"]}
        primary = {one["name"] for one in vmi["spec"]["networks"] if "pod" in one}
        told = []
        for nic in vmi["spec"]["domain"]["devices"]["interfaces"]:
            there = before.get(nic["name"], {})
            in_pod = MULTUS_SAYS in there.get("infoSource", "")
            in_domain = nic.get("state") != "absent" and (in_pod or nic["name"] in primary)
            if in_domain or in_pod:
                sources = [*(["domain"] if in_domain else []), *([MULTUS_SAYS] if in_pod else [])]
                kept = {key: value for key, value in there.items() if key == "podInterfaceName"}
                mac = {"mac": nic["macAddress"]} if "macAddress" in nic else {}
                told.append({"name": nic["name"], "infoSource": ", ".join(sources), **mac, **kept})
        self._tell(name, interfaces=told)

    def _virt_controller_has_heard_of_multus(self, name: str) -> bool:
        """Whether a VMI's status has what Multus says on its pod."""
        vmi = self._vmi(name)
        [pod] = [pod for pod in self._pods(name) if pod["spec"]["nodeName"] == vmi["status"]["nodeName"]]
        plugged = json.loads(pod["metadata"]["annotations"][NETWORK_STATUS])
        told = [one for one in vmi["status"].get("interfaces", []) if MULTUS_SAYS in one.get("infoSource", "")]
        return len(told) == len([one for one in plugged if not one.get("default")])


def _asked(pod: Json) -> list[Json]:
    """What virt-controller asks Multus for."""
    return list(json.loads(pod["metadata"]["annotations"].get(MULTUS, "[]")))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
