"""The state of the API server, read raw, and who has which address: the input of checker.py.

What carries a VM's address is the only thing that a backend's tests have to teach it: see CARRIERS.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lab.api import NOT_FOUND, ApiError
from lab.testing import Cluster

Json: TypeAlias = dict[str, Any]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Cidr: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

NETWORKS = "/apis/plumber.k8s.pf9.io/v1/networkwizards"
BLOCKS = "/apis/plumber.k8s.pf9.io/v1/addressblocks"
VMS = "/apis/kubevirt.io/v1/virtualmachines"
INSTANCES = "/apis/kubevirt.io/v1/virtualmachineinstances"
PODS = "/api/v1/pods"
SERVICES = "/api/v1/services"
CONFIGMAPS = "/api/v1/configmaps"
IPAM = ("/apis/crd.projectcalico.org/v1", "/apis/projectcalico.org/v3")
"""Where Calico keeps IPAMBlocks and IPAMHandles: one or the other."""

BLOCK_SIZE = 256
IP_OF = "ip.plumber.k8s.pf9.io/"


@dataclass(frozen=True)
class CarriedAddress:
    """An address that is set on a VM.

    Attributes:
        vm: the VirtualMachine.
        address: the address.
        where: the object and field that say so, for people.
        network: the uid of its network, where the object says it.
    """

    vm: Json
    address: Address
    where: str
    network: str = ""


def pinned_on_calico(vms: Iterable[Json], _others: Mapping[str, list[Json]]) -> Iterator[CarriedAddress]:
    """Yield the addresses in the annotation of Calico's CNI plugin."""
    for vm in vms:
        for text in json.loads(template_annotations(vm).get("cni.projectcalico.org/ipAddrs", "[]")):
            yield CarriedAddress(vm, ipaddress.ip_address(text), "cni.projectcalico.org/ipAddrs")


def on_a_service(vms: Iterable[Json], others: Mapping[str, list[Json]]) -> Iterator[CarriedAddress]:
    """The Services that this program created for public addresses, each owned by its VM, and foreign ones with an
    address that a VM of their selector requests."""
    by_uid = {vm["metadata"]["uid"]: vm for vm in vms}
    for service in others.get(SERVICES, ()):
        metadata = service["metadata"]
        network = (metadata.get("labels") or {}).get("plumber.k8s.pf9.io/networkUID")
        if network is None:
            yield from _on_anothers_service(by_uid.values(), service)
            continue
        for owner in metadata.get("ownerReferences") or []:
            if owner["uid"] in by_uid:
                address = ipaddress.ip_address(metadata["annotations"]["plumber.k8s.pf9.io/publicIP"])
                yield CarriedAddress(by_uid[owner["uid"]], address, f"service/{metadata['name']}", network)


def _on_anothers_service(vms: Iterable[Json], service: Json) -> Iterator[CarriedAddress]:
    spec, ingress = service["spec"], (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    has = {*spec.get("externalIPs", ()), *(entry.get("ip") for entry in ingress)}
    for vm in vms if has and spec.get("selector") else ():
        meta, template = vm["metadata"], vm["spec"]["template"].get("metadata") or {}
        labels = {**(template.get("labels") or {}), "vm.kubevirt.io/name": meta["name"]}
        asked = (meta.get("annotations") or {}).get("plumber.k8s.pf9.io/publicIP", "").split(",")
        if meta["namespace"] == service["metadata"]["namespace"] and spec["selector"].items() <= labels.items():
            for text in has.intersection(asked):
                yield CarriedAddress(vm, ipaddress.ip_address(text), f"service/{service['metadata']['name']}")


def plugged_in(vms: Iterable[Json], _others: Mapping[str, list[Json]]) -> Iterator[CarriedAddress]:
    """Yield the addresses of the template's interfaces on Layer 2 networks."""
    for vm in vms:
        nics = [nic["name"] for nic in interfaces_of(vm) if nic.get("state") != "absent"]
        for key, text in template_annotations(vm).items():
            if key.startswith(IP_OF) and key.removeprefix(IP_OF) in nics:
                yield CarriedAddress(vm, ipaddress.ip_address(text), key)


Carrier: TypeAlias = Callable[[Iterable[Json], Mapping[str, list[Json]]], Iterator[CarriedAddress]]

CARRIERS: list[tuple[Carrier, tuple[str, ...]]] = [
    (pinned_on_calico, ()),
    (on_a_service, (SERVICES,)),
    (plugged_in, (CONFIGMAPS,)),
]
"""How a VM carries an address, a row for each backend, with the raw paths of what else must be read to see it."""


@dataclass(frozen=True)
class RawState:
    """The objects that were read, as raw JSON.

    Attributes:
        networks, blocks: of all namespaces.
        vms, instances, pods: of the namespaces that are judged.
        steady: uids of the VMs that did not change while the rest was read, so that what they say belongs to it.
        others: by raw path, what carriers need.
        ipam_blocks, ipam_handles: Calico's, of the whole cluster.
    """

    networks: list[Json] = field(default_factory=list)
    blocks: list[Json] = field(default_factory=list)
    vms: list[Json] = field(default_factory=list)
    instances: list[Json] = field(default_factory=list)
    pods: list[Json] = field(default_factory=list)
    steady: Collection[str] | None = None
    others: Mapping[str, list[Json]] = field(default_factory=dict)
    ipam_blocks: list[Json] = field(default_factory=list)
    ipam_handles: list[Json] = field(default_factory=list)


def read_raw_state(cluster: Cluster, namespaces: Collection[str]) -> RawState:
    """Reads what the networks and VMs of these namespaces are judged by: what belongs to one of them in these only,
    and of the whole cluster what is judged across namespaces (networks, allocations, Services, Calico's IPAM).

    VMs are read before and after the allocations, so that a moment can be judged while others write: a VM whose
    resourceVersion is the same both times carried its address all the while that the allocations was read.
    """

    def every(path: str) -> list[Json]:
        return list(cluster.api.get(path)["items"])

    def within(path: str) -> list[Json]:
        base, _, plural = path.rpartition("/")
        return [item for namespace in namespaces for item in every(f"{base}/namespaces/{namespace}/{plural}")]

    def of_calico(plural: str) -> list[Json]:
        """Return the objects of the first group that serves the kind; none without Calico."""
        for group in IPAM:
            try:
                return every(f"{group}/{plural}")
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise
        return []

    before = within(VMS)
    networks, blocks = every(NETWORKS), every(BLOCKS)
    instances, pods = within(INSTANCES), within(PODS)
    others = {path: every(path) if path == SERVICES else within(path) for _, paths in CARRIERS for path in paths}
    ipam_blocks, ipam_handles = of_calico("ipamblocks"), of_calico("ipamhandles")
    after = within(VMS)
    versions = {uid(vm): vm["metadata"]["resourceVersion"] for vm in before}
    steady = {uid(vm) for vm in after if versions.get(uid(vm)) == vm["metadata"]["resourceVersion"]}
    return RawState(networks, blocks, after, instances, pods, steady, others, ipam_blocks, ipam_handles)


def running(raw_state: RawState, namespaces: Collection[str]) -> Iterator[tuple[str, str, Address, str]]:
    """Yield namespace and name of each running VM, an address of it, and the object that shows it."""
    for instance in raw_state.instances:
        metadata, status = instance["metadata"], instance.get("status") or {}
        if metadata["namespace"] not in namespaces or status.get("phase") in ("Succeeded", "Failed"):
            continue
        for interface in status.get("interfaces") or []:
            for text in {interface.get("ipAddress"), *(interface.get("ipAddresses") or [])} - {None, ""}:
                where = f"virtualmachineinstance/{full_name(instance)}"
                yield metadata["namespace"], metadata["name"], ipaddress.ip_address(text), where
    for pod in raw_state.pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        name = (metadata.get("annotations") or {}).get("kubevirt.io/domain")
        if metadata["namespace"] not in namespaces or not name or status.get("phase") in ("Succeeded", "Failed"):
            continue
        for text in {status.get("podIP"), *(ip["ip"] for ip in status.get("podIPs") or [])} - {None, ""}:
            yield metadata["namespace"], name, ipaddress.ip_address(text), f"pod/{full_name(pod)}"


def uid(obj: Json) -> str:
    """Return metadata.uid."""
    return str(obj["metadata"]["uid"])


def full_name(obj: Json) -> str:
    """Return "namespace/name"."""
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def interfaces_of(vm: Json) -> list[Json]:
    """Return the interfaces of a VM's template."""
    spec: Json = vm["spec"]["template"].get("spec") or {}
    found: list[Json] = spec.get("domain", {}).get("devices", {}).get("interfaces") or []
    return found


def template_annotations(vm: Json) -> Mapping[str, str]:
    """Return the annotations of a VM's template."""
    return (vm["spec"]["template"].get("metadata") or {}).get("annotations") or {}


def cidr_of(network: Json) -> Cidr | None:
    """Return spec.cidr without host bits; None if there is none."""
    text = network["spec"].get("cidr")
    return ipaddress.ip_network(text, strict=False) if text else None


def allocations(obj: Json) -> Mapping[str, Json]:
    """Return address -> allocation of a network or block; plain names of Platform9 yoshi as allocations."""
    records = (obj.get("status") or {}).get("allocations") or {}
    namespace = obj["metadata"]["namespace"]
    return {
        address: record
        if isinstance(record, dict)
        else {"kind": "VirtualMachine", "namespace": namespace, "name": record}
        for address, record in records.items()
    }
