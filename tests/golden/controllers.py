"""What KubeVirt, Calico's CNI plugin and MetalLB do in a cluster, as far as this program sees it.

KubeVirt's subresources follow pkg/virt-api/rest/lifecycle.go of v1.8. Calico keeps the address of a VM in a handle, as
v3.32 does. Everything happens in `run`, which is called whenever time passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from tests.golden.kinds import Json
from tests.golden.server import Failure, FakeApiServer, Target

VMS = "virtualmachines.kubevirt.io"
INSTANCES = "virtualmachineinstances.kubevirt.io"
CALLS = "virtualmachines.subresources.kubevirt.io"
PIN = "cni.projectcalico.org/ipAddrs"
METALLB_PIN = "metallb.io/loadBalancerIPs"


class Controllers:
    """The controllers of a cluster.

    Attributes:
        running: whether anything happens; False for a cluster whose controllers are stuck.
        group: the API group of Calico's IPAM objects; "" where there is no Calico.
    """

    def __init__(self, server: FakeApiServer, group: str) -> None:
        self.server, self.group, self.running = server, group, True
        self._requested: dict[tuple[str, str], str] = {}
        for subresource in ("start", "stop", "restart"):
            server.calls[f"{CALLS}/{subresource}"] = self._call

    def run(self) -> None:
        """Do what is to be done now."""
        if not self.running:
            return
        for vm in self.server.each(VMS):
            self._reconcile_vm(vm)
        for service in self.server.each("services"):
            self._reconcile_service(service)

    # -- KubeVirt ------------------------------------------------------------------------------------------------

    def _call(self, server: FakeApiServer, target: Target, body: Json) -> None:
        vm = server.find(VMS, target.namespace, target.name)
        if vm is None:
            raise Failure(404, "NotFound", f'virtualmachine.kubevirt.io "{target.name}" not found', target.details)
        runs = server.find(INSTANCES, target.namespace, target.name) is not None
        strategy = _run_strategy(vm)
        allowed = {
            "stop": strategy in ("Always", "Once") or (runs and strategy in ("Manual", "RerunOnFailure")),
            "start": not runs and strategy in ("Halted", "Manual", "RerunOnFailure"),
            "restart": runs and strategy != "Halted",
        }
        if not allowed[target.subresource]:
            raise Failure(409, "Conflict", f"{strategy} does not support manual {target.subresource} requests")
        if target.subresource == "stop" and strategy in ("Always", "Once"):
            self._set_running(target, False)
        elif target.subresource == "start" and strategy == "Halted":
            self._set_running(target, True)
        else:
            self._requested[(target.namespace, target.name)] = target.subresource

    def _set_running(self, target: Target, running: bool) -> None:
        def change(obj: Json) -> None:
            if "running" in obj["spec"]:
                obj["spec"]["running"] = running
            else:
                obj["spec"]["runStrategy"] = "Always" if running else "Halted"

        self.server.edit(VMS, target.namespace, target.name, change)

    def _reconcile_vm(self, vm: Json) -> None:
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        requested = self._requested.pop((namespace, name), "")
        strategy = _run_strategy(vm)
        runs = self.server.find(INSTANCES, namespace, name) is not None
        if runs and (strategy == "Halted" or requested in ("stop", "restart")):
            self.server.remove(INSTANCES, namespace, name)
            runs = False
        if not runs and (strategy in ("Always", "Once") or requested in ("start", "restart")):
            self.start(vm)

    def start(self, vm: Json, address: str = "") -> None:
        """Create the instance and the pod of a VM.

        Args:
            vm: the VM.
            address: what it runs with; by default what Calico assigns.
        """
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        template = vm["spec"]["template"]
        annotations = dict(template.get("metadata", {}).get("annotations") or {})
        address = address or self._assign(namespace, name, annotations)
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "controller": True}
        instance = {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "annotations": annotations,
                "ownerReferences": [{**owner, "uid": vm["metadata"]["uid"]}],
            },
            "spec": template["spec"],
            "status": {"phase": "Running", "interfaces": [{"name": "default", "ipAddress": address}]},
        }
        made = self.server.put(INSTANCES, instance)
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name, "controller": True}
        networks = [_multus_network(one, namespace) for one in template["spec"].get("networks", []) if "multus" in one]
        selected = {"k8s.v1.cni.cncf.io/networks": json.dumps(networks)} if networks else {}
        pod = {
            "metadata": {
                "name": f"virt-launcher-{name}",
                "namespace": namespace,
                "labels": {
                    "kubevirt.io": "virt-launcher",
                    "kubevirt.io/created-by": made["metadata"]["uid"],
                    "vm.kubevirt.io/name": name,
                },
                "annotations": {
                    **annotations,
                    "kubevirt.io/domain": name,
                    "cni.projectcalico.org/podIPs": f"{address}/32",
                    **selected,
                },
                "ownerReferences": [{**owner, "uid": made["metadata"]["uid"]}],
            },
            "spec": {"containers": [{"name": "compute"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        }
        self.server.put("pods", pod)

    # -- Calico --------------------------------------------------------------------------------------------------

    def _assign(self, namespace: str, name: str, annotations: Json) -> str:
        pins: list[str] = json.loads(annotations.get(PIN, "[]"))
        if not self.group:
            return pins[0] if pins else "192.168.0.1"
        handle = f"k8s-pod-network.vmi.{namespace}.{name}"
        held = dict(self._held())
        if mine := [address for address, holder in held.items() if holder == handle]:
            return mine[0]
        free = (address for address in map(str, ip_network("192.168.0.0/24").hosts()) if address not in held)
        address = pins[0] if pins else next(free)
        self.hold(address, handle, namespace=namespace, pod=f"virt-launcher-{name}")
        return address

    def hold(self, address: str, handle: str, **attributes: Any) -> None:
        """Let Calico's IPAM assign an address to a handle."""
        cidr = self._block_of(address)
        name = str(cidr).replace(".", "-").replace(":", "-").replace("/", "-")
        size = cidr.num_addresses
        block = self.server.find(f"ipamblocks.{self.group}", "", name) or {
            "metadata": {"name": name},
            "spec": {
                "cidr": str(cidr), "affinity": "host:node1", "allocations": [None] * size, "attributes": [],
                "unallocated": list(range(size)), "sequenceNumber": 1, "sequenceNumberForAllocation": {},
                "deleted": False, "strictAffinity": False,
            },
        }  # fmt: skip
        spec = block["spec"]
        ordinal = int(ip_address(address)) - int(cidr[0])
        assert spec["allocations"][ordinal] is None, f"{address} is assigned already"
        spec["attributes"].append({"handle_id": handle, "secondary": attributes})
        spec["allocations"][ordinal] = len(spec["attributes"]) - 1
        spec["unallocated"].remove(ordinal)
        spec["sequenceNumberForAllocation"][str(ordinal)] = spec["sequenceNumber"]
        spec["sequenceNumber"] += 1
        self.server.put(f"ipamblocks.{self.group}", block)
        found = self.server.find(f"ipamhandles.{self.group}", "", handle)
        counter = found or {"metadata": {"name": handle}, "spec": {"handleID": handle, "block": {}}}
        blocks = counter["spec"]["block"]
        blocks[str(cidr)] = blocks.get(str(cidr), 0) + 1
        self.server.put(f"ipamhandles.{self.group}", counter)

    def _held(self) -> Iterator[tuple[str, str]]:
        """The addresses that are assigned, each with its handle."""
        for block in self.server.each(f"ipamblocks.{self.group}"):
            base = ip_network(block["spec"]["cidr"])
            for ordinal, index in enumerate(block["spec"]["allocations"]):
                if index is not None:
                    yield str(base[ordinal]), block["spec"]["attributes"][index]["handle_id"]

    def _block_of(self, address: str) -> Any:
        pools = self.server.each(f"ippools.{self.group}")
        here = ip_address(address)
        sizes = [p["spec"].get("blockSize", 26) for p in pools if here in ip_network(p["spec"]["cidr"])]
        return ip_network((address, sizes[0] if sizes else 26), strict=False)

    # -- MetalLB -------------------------------------------------------------------------------------------------

    def _reconcile_service(self, service: Json) -> None:
        """Assign the address that a Service asks for, unless another Service has it."""
        wanted = (service["metadata"].get("annotations") or {}).get(METALLB_PIN, "")
        ingress = [{"ip": wanted}] if wanted else []
        if service["spec"].get("type") != "LoadBalancer" or service["status"].get("loadBalancer") == {
            "ingress": ingress
        }:
            return
        others = [
            other for other in self.server.each("services") if other["metadata"]["uid"] != service["metadata"]["uid"]
        ]
        if wanted and not any({"ip": wanted} in _ingress(other) for other in others):
            self.server.put("services", {**service, "status": {"loadBalancer": {"ingress": ingress}}})


def _ingress(service: Json) -> list[Json]:
    found: list[Json] = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    return found


def _run_strategy(vm: Json) -> str:
    if "running" in vm["spec"]:
        return "Always" if vm["spec"]["running"] else "Halted"
    return str(vm["spec"].get("runStrategy", "Halted"))


def _multus_network(network: Json, namespace: str) -> Json:
    where, _, name = network["multus"]["networkName"].rpartition("/")
    return {"namespace": where or namespace, "name": name}
