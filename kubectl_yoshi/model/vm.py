"""Read KubeVirt's VirtualMachine, its instance and its pods, without changing them.

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

BINDINGS = ("bridge", "masquerade", "sriov", "macvtap", "passt", "slirp")
"""The fields of an interface that name its binding."""
MASQUERADE_CIDR = "10.0.2.0/24"
LAUNCHER_SELECTOR = "kubevirt.io=virt-launcher"
LIST_THRESHOLD = 20
"""From this number of VMs per namespace on, instances and pods are listed instead of read one by one."""


@dataclass(frozen=True)
class Vm:
    """A VirtualMachine object."""

    raw: Json = field(repr=False)

    @property
    def name(self) -> str:
        """Return metadata.name."""
        return name_of(self.raw)

    @property
    def namespace(self) -> str:
        """Return metadata.namespace."""
        return namespace_of(self.raw)

    @property
    def uid(self) -> str:
        """Return metadata.uid, which distinguishes a VM from a recreated one of the same name (invariant I3)."""
        return uid_of(self.raw)

    @property
    def full_name(self) -> str:
        """Return "namespace/name", which groups results (see Change)."""
        return f"{self.namespace}/{self.name}"

    @property
    def ref(self) -> ObjectRef:
        """Return the reference of the VirtualMachine."""
        return VM.ref(self.name, self.namespace)

    @property
    def is_deleting(self) -> bool:
        """Return whether the VM is being deleted."""
        return bool(metadata(self.raw).get("deletionTimestamp"))

    @property
    def annotations(self) -> Mapping[str, str]:
        """Return the VM's own annotations, which KubeVirt does not copy to the pod."""
        return annotations_of(self.raw)

    @property
    def template_annotations(self) -> Mapping[str, str]:
        """Return spec.template.metadata.annotations, which KubeVirt copies to the VMI and its pod on creation."""
        return dig(self.raw, "spec", "template", "metadata", "annotations", default={})  # type: ignore[no-any-return]

    @property
    def run_strategy(self) -> str:
        """Return spec.runStrategy, or the meaning of the deprecated spec.running: "Always" or "Halted"."""
        strategy = dig(self.raw, "spec", "runStrategy")
        if strategy:
            return str(strategy)
        return "Always" if dig(self.raw, "spec", "running") else "Halted"

    @property
    def eviction_strategy(self) -> str:
        """Return the eviction strategy for node drains ("LiveMigrate"); "" for the cluster's default."""
        return str(dig(self.raw, "spec", "template", "spec", "evictionStrategy", default=""))

    @property
    def hostname(self) -> str:
        """Return the value of the pod label vm.kubevirt.io/name.

        It is spec.hostname, or else the name up to its first dot, cut to 63 characters (kubevirt:
        pkg/util/net/dns/sanitize.go).
        """
        name = dig(self.raw, "spec", "template", "spec", "hostname") or self.name.partition(".")[0]
        return str(name)[:63].rstrip("-")

    @property
    def pod_interface(self) -> Json | None:
        """Return the interface on the pod network; {} if KubeVirt adds a default one; None if the VM has none."""
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
    def masquerade_cidr(self) -> str:
        """Return the CIDR that a guest with masquerade binding has its address of."""
        return str(dig(self.pod_network, "pod", "vmNetworkCIDR") or MASQUERADE_CIDR)

    @property
    def pod_network(self) -> Json:
        """Return the entry of spec.template.spec.networks that is the pod network; {} if it is implicit."""
        for network in dig(self.raw, "spec", "template", "spec", "networks", default=[]):
            if "pod" in network:
                return dict(network)
        return {}


def binding_of(interface: Json) -> str:
    """Return how an interface is connected to its network, such as "bridge"; "" for KubeVirt's default."""
    plugin = dig(interface, "binding", "name")
    return str(plugin) if plugin else next((name for name in BINDINGS if name in interface), "")


def find_vms(queries: Iterable[Query], snapshot: Snapshot) -> list[Vm]:
    """Return the VMs in these lists, each in the version that was read first, which is what a patch tests."""
    return [Vm(snapshot.get_object(VM, name_of(obj), namespace_of(obj)) or obj) for obj in snapshot.lookup(*queries)]


def instance_queries(vms: Iterable[Vm]) -> tuple[Query, ...]:
    """Return the queries for the VMIs and launcher pods of these VMs, as lists if there are many."""
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
    """Return the VM's VMI that runs, starts or stops; None if there is none.

    A VMI of an earlier VM of the same name does not count.
    """
    vmi = snapshot.get_object(VMI, vm.name, vm.namespace)
    if vmi is None or has_ended(vmi):
        return None
    owner = owner_uid(vmi)
    return vmi if not owner or owner == vm.uid else None


def instances_unreadable_reason(namespace: str, snapshot: Snapshot) -> str:
    """Return why it is unknown what runs in a namespace, according to the reads so far; "" if it is known."""
    for query, reason in snapshot.unreadable_queries().items():
        if query.resource in (VMI, POD) and query.namespace in (None, namespace):
            return reason
    return ""


def owner_uid(vmi: Json) -> str:
    """Return the uid of the VirtualMachine that owns a VMI; "" for a VMI without an owner."""
    for reference in metadata(vmi).get("ownerReferences") or []:
        if reference.get("kind") == VM.kind:
            return str(reference.get("uid", ""))
    return ""


def get_instance_name(pod: Json) -> str:
    """Return the name of the VMI that a virt-launcher pod runs (annotation kubevirt.io/domain, else its controller)."""
    domain = annotations_of(pod).get("kubevirt.io/domain")
    if domain:
        return domain
    for reference in metadata(pod).get("ownerReferences") or []:
        if reference.get("kind") == VMI.kind:
            return str(reference.get("name", ""))
    return ""


def has_ended(instance: Json) -> bool:
    """Return whether a VMI or pod has ended, so that it no longer uses an address."""
    return dig(instance, "status", "phase") in ("Succeeded", "Failed")


def list_launcher_pods(namespace: str, name: str, snapshot: Snapshot) -> list[Json]:
    """Return the launcher pods of the VM of that name that have not ended; there are two during a migration."""
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
"""Key -> True to keep the whole value, or a mask of the fields to keep."""

FIELD_MASKS: Mapping[Resource, FieldMask] = {
    VM: {
        "spec": {
            "runStrategy": True,
            "running": True,
            "template": {
                "metadata": {"labels": True, "annotations": True},
                "spec": {**_INSTANCE, "evictionStrategy": True},
            },
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
"""The fields of listed objects that read-only commands keep, in addition to some of the metadata.

A VM object has kilobytes of disks, devices and managedFields, and there may be tens of thousands of VMs. Each page of a
list is trimmed before the next one is read. Objects to be written are never trimmed: a patch depends on all fields.
"""


def get_trimmer(resource: Resource) -> Callable[[Json], Json] | None:
    """Return a function that keeps the fields of FIELD_MASKS; None if objects of that resource are kept whole."""
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
    """The interface that a VM gets on a network that adds a separate one.

    Attributes:
        name: name of the interface; "" for the existing one, or a name derived from the network.
        model: the device model that the guest sees, such as "virtio"; "" for the current one, or KubeVirt's default.
        cloud_init: write the address into the VM's cloud-init network data.
        live: hot-plug it into the running VM if possible.
    """

    name: str = ""
    model: str = ""
    cloud_init: bool = False
    live: bool = False


DEFAULT_NIC = Nic()
"""An interface without specific requests."""
