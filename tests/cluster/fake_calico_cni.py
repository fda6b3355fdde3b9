"""A fake of Calico's CNI plugin for the pods of VMs: what it reads and writes in IPAM, as from version 3.32 on.

A VM's pod gets what the VM's handle holds, else what it is pinned to. A handle that counts addresses which no block
contains is an allocation in progress to the plugin: it waits, fails, and the pod hangs. When a VM stops, its address
stays with the handle. RawState with Calico's own programs: docs/design.md, "Calico's handles".
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import NotFoundError
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource
from tests.cluster.fake_kubevirt import ELSEWHERE, Kubevirt

BLOCK_LENGTH = 26


class WithCalico(Kubevirt):
    """A fake KubeVirt on a cluster with Calico."""

    def assigned(self, vm: Json) -> list[str]:
        """See Kubevirt: CNI ADD."""
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        handle = handle_of(namespace, name)
        there = find(self.api, RAW.handle.ref(handle))
        if there is not None:
            return sorted(held(self.api, handle, there["spec"]["block"]))[:1]
        pins = super().assigned(vm)
        if pins != [ELSEWHERE]:
            assign(self.api, handle, *pins)
        return pins


def handle_of(namespace: str, name: str) -> str:
    """Return the handle name of a VM."""
    return f"k8s-pod-network.vmi.{namespace}.{name}"


def held(api: Api, handle: str, blocks: Mapping[str, int]) -> list[str]:
    """Return the addresses of a handle in the blocks that it counts."""
    found = []
    for cidr in blocks:
        block = find(api, RAW.block.ref(block_name(cidr)))
        spec = block["spec"] if block else {"allocations": []}
        for number, index in enumerate(spec["allocations"]):
            if index is not None and spec["attributes"][index]["handle_id"] == handle:
                found.append(str(ip_network(cidr)[number]))
    return found


def assign(api: Api, handle: str, *addresses: str) -> None:
    """Count addresses in a handle, then write them to their blocks."""
    cidrs = [str(ip_network(f"{address}/{BLOCK_LENGTH}", strict=False)) for address in addresses]
    counts = {cidr: cidrs.count(cidr) for cidr in cidrs}
    _create(api, RAW.handle, handle, {"handleID": handle, "block": counts, "deleted": False})
    for address, cidr in zip(addresses, cidrs, strict=True):
        ref = RAW.block.ref(block_name(cidr))
        block = find(api, ref) or _create(api, RAW.block, ref.name, _empty(cidr))
        spec, number = block["spec"], int(ip_address(address)) - int(ip_network(cidr)[0])
        assert spec["allocations"][number] is None, f"{address} is assigned already"
        spec["attributes"].append({"handle_id": handle})
        spec["allocations"][number] = len(spec["attributes"]) - 1
        spec["unallocated"].remove(number)
        spec["sequenceNumberForAllocation"][str(number)] = spec["sequenceNumber"]
        spec["sequenceNumber"] += 1
        api.replace(ref, block)


def block_name(cidr: str) -> str:
    """Return the name of a block: "10-133-0-0-26"."""
    return cidr.replace(".", "-").replace("/", "-")


def find(api: Api, ref: ObjectRef) -> Json | None:
    """Return an object; None if it does not exist."""
    try:
        return api.get(ref)
    except NotFoundError:
        return None


def _empty(cidr: str) -> Json:
    size = ip_network(cidr).num_addresses
    return {
        "cidr": cidr,
        "affinity": "host:node1",
        "strictAffinity": False,
        "allocations": [None] * size,
        "unallocated": list(range(size)),
        "attributes": [],
        "deleted": False,
        "sequenceNumber": 1,
        "sequenceNumberForAllocation": {},
    }


def _create(api: Api, resource: Resource, name: str, spec: Json) -> Json:
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, "spec": spec}
    return api.create(resource.ref(name), body)
