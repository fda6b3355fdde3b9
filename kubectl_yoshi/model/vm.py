"""A VM: KubeVirt's VirtualMachine, read without being changed, and what runs of it.

Fields: https://kubevirt.io/api-reference/ (VirtualMachineSpec, VirtualMachineInstanceSpec).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.model.objects import (
    Json,
    ObjectRef,
    Resource,
    annotations_of,
    dig,
    labels_of,
    metadata,
    name_of,
    namespace_of,
    uid_of,
)
from kubectl_yoshi.model.snapshot import Query, Snapshot

VM = Resource("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
VMI = Resource("kubevirt.io", "v1", "virtualmachineinstances", "VirtualMachineInstance")
VM_SUBRESOURCES = Resource("subresources.kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
POD = Resource("", "v1", "pods", "Pod")

LAUNCHER_SELECTOR = "kubevirt.io=virt-launcher"
LIST_THRESHOLD = 20
"""From this many VMs of a namespace on, its instances and pods are listed at once instead of asked for one by one."""


@dataclass(frozen=True)
class Vm:
    """A VirtualMachine."""

    raw: Json = field(repr=False)

    @property
    def name(self) -> str:
        """metadata.name"""
        return name_of(self.raw)

    @property
    def namespace(self) -> str:
        """metadata.namespace"""
        return namespace_of(self.raw)

    @property
    def uid(self) -> str:
        """metadata.uid: what tells a VM from one made anew under its name (invariant I3)."""
        return uid_of(self.raw)

    @property
    def full_name(self) -> str:
        """ "namespace/name", as outcomes are told apart."""
        return f"{self.namespace}/{self.name}"

    @property
    def ref(self) -> ObjectRef:
        """The VirtualMachine."""
        return VM.ref(self.name, self.namespace)

    @property
    def is_deleting(self) -> bool:
        """Whether it is being deleted."""
        return bool(metadata(self.raw).get("deletionTimestamp"))

    @property
    def annotations(self) -> Mapping[str, str]:
        """The VM's own annotations, which never reach its pod."""
        return annotations_of(self.raw)

    @property
    def template_annotations(self) -> Mapping[str, str]:
        """spec.template.metadata.annotations, which KubeVirt hands to the VMI and its pod when they are made."""
        return dig(self.raw, "spec", "template", "metadata", "annotations", default={})  # type: ignore[no-any-return]

    @property
    def run_strategy(self) -> str:
        """spec.runStrategy, or what the deprecated spec.running means: "Always" or "Halted"."""
        strategy = dig(self.raw, "spec", "runStrategy")
        if strategy:
            return str(strategy)
        return "Always" if dig(self.raw, "spec", "running") else "Halted"

    @property
    def eviction_strategy(self) -> str:
        """What becomes of it when its node is drained ("LiveMigrate"); "" where the cluster's own default holds."""
        return str(dig(self.raw, "spec", "template", "spec", "evictionStrategy", default=""))

    @property
    def hostname(self) -> str:
        """What KubeVirt writes into the pod label vm.kubevirt.io/name: spec.hostname, else the name up to its first
        dot, cut to 63 (kubevirt: pkg/util/net/dns/sanitize.go).
        """
        name = dig(self.raw, "spec", "template", "spec", "hostname") or self.name.partition(".")[0]
        return str(name)[:63].rstrip("-")

    @property
    def pod_interface(self) -> Json | None:
        """The interface on the pod network; {} where KubeVirt adds a default one; None where the VM has none."""
        template = dig(self.raw, "spec", "template", "spec", default={})
        networks = template.get("networks") or []
        interfaces = dig(template, "domain", "devices", "interfaces", default=[])
        if not networks and not interfaces:
            attach = dig(template, "domain", "devices", "autoattachPodInterface", default=True)
            return {} if attach else None
        on_pod_network = {network.get("name") for network in networks if "pod" in network}
        for interface in interfaces:
            if interface.get("name") in on_pod_network:
                return dict(interface)
        return None

    @property
    def pod_network(self) -> Json:
        """The entry of spec.template.spec.networks that is the pod network; {} where it is implied."""
        for network in dig(self.raw, "spec", "template", "spec", "networks", default=[]):
            if "pod" in network:
                return dict(network)
        return {}


def find_vms(queries: Iterable[Query], snapshot: Snapshot) -> list[Vm]:
    """Return the VMs of these lists, each as it was read first, which is what a patch of it tests."""
    return [Vm(snapshot.get_object(VM, name_of(obj), namespace_of(obj)) or obj) for obj in snapshot.lookup(*queries)]


def instance_queries(vms: Iterable[Vm]) -> tuple[Query, ...]:
    """What to read to know what runs of these VMs: VMIs and launcher pods, lists where they are many."""
    by_namespace: dict[str, list[Vm]] = {}
    for vm in vms:
        by_namespace.setdefault(vm.namespace, []).append(vm)
    queries: list[Query] = []
    for namespace, group in by_namespace.items():
        if len(group) >= LIST_THRESHOLD:
            queries += [Query(VMI, namespace), Query(POD, namespace, label_selector=LAUNCHER_SELECTOR)]
            continue
        for vm in group:
            queries.append(Query(VMI, namespace, vm.name))
            queries.append(
                Query(POD, namespace, label_selector=f"{LAUNCHER_SELECTOR},vm.kubevirt.io/name={vm.hostname}")
            )
    return tuple(queries)


def find_instance(vm: Vm, snapshot: Snapshot) -> Json | None:
    """The VM's VMI that still runs (or starts, or stops), None where there is none.

    A VMI left by an earlier VM of that name is no one of this VM's.
    """
    vmi = snapshot.get_object(VMI, vm.name, vm.namespace)
    if vmi is None or has_ended(vmi):
        return None
    owner = owner_uid(vmi)
    return vmi if not owner or owner == vm.uid else None


def instances_unreadable_reason(namespace: str, snapshot: Snapshot) -> str:
    """Why it cannot be told what runs in a namespace, as far as that was asked; "" if it can."""
    for query, reason in snapshot.unreadable_queries().items():
        if query.resource in (VMI, POD) and query.namespace in (None, namespace):
            return reason
    return ""


def owner_uid(vmi: Json) -> str:
    """The uid of the VirtualMachine that made a VMI; "" for one that stands alone."""
    for reference in metadata(vmi).get("ownerReferences") or []:
        if reference.get("kind") == VM.kind:
            return str(reference.get("uid", ""))
    return ""


def get_instance_name(pod: Json) -> str:
    """The name of the VMI that a virt-launcher pod runs (annotation kubevirt.io/domain, else its controller)."""
    domain = annotations_of(pod).get("kubevirt.io/domain")
    if domain:
        return domain
    for reference in metadata(pod).get("ownerReferences") or []:
        if reference.get("kind") == VMI.kind:
            return str(reference.get("name", ""))
    return ""


def has_ended(instance: Json) -> bool:
    """Whether a VMI or a pod has ended, so that it uses no address any more."""
    return dig(instance, "status", "phase") in ("Succeeded", "Failed")


def list_launcher_pods(namespace: str, name: str, snapshot: Snapshot) -> list[Json]:
    """The launcher pods of a VM (of that name) that have not ended: during a migration there are two."""
    pods = snapshot.group_by(POD, _instance_key).get((namespace, name), ())
    return [pod for pod in pods if labels_of(pod).get("kubevirt.io") == "virt-launcher" and not has_ended(pod)]


def _instance_key(pod: Json) -> tuple[str, str]:
    return namespace_of(pod), get_instance_name(pod)


_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)
_DOMAIN = {"devices": {"interfaces": True, "autoattachPodInterface": True}}
_INSTANCE = {"networks": True, "hostname": True, "domain": _DOMAIN}

FieldMask = Mapping[str, Any]
"""Key -> True for all of its value, or a mask of what is kept."""

FIELD_MASKS: Mapping[Resource, FieldMask] = {
    VM: {
        "spec": {
            "runStrategy": True,
            "running": True,
            "template": {"metadata": {"labels": True, "annotations": True}, "spec": _INSTANCE},
        },
        "status": {"printableStatus": True},
    },
    VMI: {
        "spec": _INSTANCE,
        "status": {"phase": True, "nodeName": True, "interfaces": True, "conditions": True},
    },
    POD: {
        "spec": {"nodeName": True},
        "status": {"phase": True, "podIP": True, "podIPs": True},
    },
}
"""The fields that commands which only read keep of listed objects, besides some of the metadata.

A VM is some kilobytes of disks, devices and managedFields, and there may be tens of thousands. A page of a list is
trimmed before the next one is read. An object that is to be written is never trimmed: a patch rests on all of it.
"""


def get_trimmer(resource: Resource) -> Callable[[Json], Json] | None:
    """Return a function that keeps the fields of FIELD_MASKS; None where objects of that kind are kept whole."""
    mask = FIELD_MASKS.get(resource)
    if mask is None:
        return None
    full_mask: FieldMask = {"apiVersion": True, "kind": True, "metadata": dict.fromkeys(_METADATA, True), **mask}
    return lambda obj: _apply_mask(obj, full_mask)


def _apply_mask(obj: Any, mask: FieldMask) -> Any:
    if not isinstance(obj, dict):
        return obj
    return {
        key: obj[key] if submask is True else _apply_mask(obj[key], submask)
        for key, submask in mask.items()
        if key in obj
    }


@dataclass(frozen=True)
class Nic:
    """The interface that a VM is to have on a network that gives it one of its own.

    Attributes:
        name: the interface's; "" for the one that it has, or a name after the network.
        model: what the guest sees, such as "virtio"; "" for what it is, or KubeVirt's choice.
        cloud_init: write the address into the VM's cloud-init network data.
        live: plug it into the running VM where that can be done.
    """

    name: str = ""
    model: str = ""
    cloud_init: bool = False
    live: bool = False


DEFAULT_NIC = Nic()
"""Nothing in particular is asked for."""
