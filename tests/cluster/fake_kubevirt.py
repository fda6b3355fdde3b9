"""A fake KubeVirt: VMs start and stop at once by their run strategy, and restart, stop and start are answered.

The core lab has KubeVirt's custom resources and none of its programs. A machine runs with what its template's
annotation pins for Calico, else with an address that is no network's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import AlreadyExistsError, NotFoundError
from kubectl_yoshi.model.objects import Json, owner_reference
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm

PIN = "cni.projectcalico.org/ipAddrs"
ELSEWHERE = "192.0.2.7"
"""What a machine runs with that has no pin."""
CALL = re.compile(
    r"/apis/subresources\.kubevirt\.io/v1/namespaces/(?P<namespace>[^/]+)/virtualmachines/(?P<name>[^/]+)"
    r"/(?P<verb>restart|stop|start)\b"
)
WRITTEN = re.compile(r"/apis/kubevirt\.io/v1/namespaces/(?P<namespace>[^/]+)/virtualmachines/(?P<name>[^/?]+)")


@dataclass(frozen=True)
class Answer:
    """A response of virt-api, with the attributes of urllib3's that the proxy uses."""

    status: int
    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Kubevirt:
    """A fake KubeVirt for the VMs that requests are about.

    Attributes:
        api: the API server, by the good way.
    """

    api: Api

    def answer(self, path: str) -> Answer | None:
        """Answer a call of virt-api; return None for other paths."""
        call = CALL.match(path)
        if call is None:
            return None
        namespace, name, verb = call["namespace"], call["name"], call["verb"]
        try:
            vm = Vm(self.api.get(VM.ref(name, namespace)))
        except NotFoundError:
            return Answer(404, _status(404, "NotFound", f'virtualmachine "{name}" not found'))
        if verb == "stop" and vm.run_strategy == "Always":
            self.api.patch(vm.ref, {"spec": {"runStrategy": "Halted"}})
        if verb != "start" and not self._end(namespace, name):
            return Answer(409, _status(409, "Conflict", "VM is not running"))
        if verb != "stop":
            self.run(vm.raw)
        return Answer(202)

    def follow(self, path: str) -> None:
        """Start or stop a VM by its run strategy after a write to it."""
        written = WRITTEN.match(path)
        if written is None:
            return
        namespace, name = written["namespace"], written["name"]
        try:
            vm = Vm(self.api.get(VM.ref(name, namespace)))
        except NotFoundError:
            self._end(namespace, name)
            return
        if vm.run_strategy == "Halted":
            self._end(namespace, name)
        elif vm.run_strategy == "Always":
            self.run(vm.raw)

    def run(self, vm: Json, addresses: Iterable[str] = (), owned: bool = True) -> None:
        """Create the instance and the pod of a VM, unless they exist.

        Args:
            vm: the VM.
            addresses: what it runs with, instead of what it should.
            owned: by the VM. What is owned by nothing that exists Kubernetes takes away, sooner or later.
        """
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        ips = [*addresses] or self.assigned(vm)
        status: Json = {
            "phase": "Running",
            "interfaces": [{"name": "default", "ipAddress": ip, "ipAddresses": ips} for ip in ips[:1]],
        }
        instance: Json = {
            "apiVersion": VMI.api_version,
            "kind": VMI.kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "ownerReferences": [owner_reference(vm)] if owned else [],
                "annotations": dict(Vm(vm).template_annotations),
            },
            "spec": {"domain": {"devices": {}}},
            "status": status if ips else {"phase": "Scheduling"},
        }
        try:
            made = self.api.create(VMI.ref(name, namespace), instance)
        except AlreadyExistsError:
            return
        pod: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"virt-launcher-{name}",
                "namespace": namespace,
                "labels": {
                    "kubevirt.io": "virt-launcher",
                    "kubevirt.io/created-by": made["metadata"]["uid"],
                    "vm.kubevirt.io/name": name,
                },
                "annotations": {"kubevirt.io/domain": name, **Vm(vm).template_annotations},
            },
            "spec": {"containers": [{"name": "compute", "image": "none"}]},
        }
        ref = POD.ref(f"virt-launcher-{name}", namespace)
        self.api.create(ref, pod)
        if ips:
            status = {"phase": "Running", "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
            self.api.patch(ref, {"status": status}, subresource="status")

    def assigned(self, vm: Json) -> list[str]:
        """Return the addresses of a VM's pod; [] if it is pending without an address."""
        pins: list[str] = json.loads(Vm(vm).template_annotations.get(PIN, "[]"))
        return pins or [ELSEWHERE]

    def _end(self, namespace: str, name: str) -> bool:
        """Delete the instance and the pod; return whether there was an instance."""
        for ref in (POD.ref(f"virt-launcher-{name}", namespace), VMI.ref(name, namespace)):
            try:
                self.api.delete(ref)
                ran = True
            except NotFoundError:
                ran = False
        return ran


def _status(code: int, reason: str, message: str) -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return json.dumps({**status, "message": message}).encode()
