"""The Service that carries a VM's public address: one for each VM and network, owned by the VM, known by its labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from kubectl_yoshi.backends.metallb.objects import LOAD_BALANCER_IPS_ANNOTATION, NETWORK_LABEL
from kubectl_yoshi.backends.ownership import NETWORK_ANNOTATION
from kubectl_yoshi.backends.public.annotations import PUBLIC_IP
from kubectl_yoshi.backends.public.announcer import ServiceTemplate
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, differing_fields, matches
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import (
    ANNOTATIONS,
    Json,
    ObjectRef,
    Resource,
    annotations_of,
    dig,
    labels_of,
    metadata,
    name_of,
    namespace_of,
    new_object,
    owner_reference,
    short_hash,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.ports import DEFAULT_PORTS, Port
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm

SERVICE = Resource("", "v1", "services", "Service")
MANAGED_BY = "app.kubernetes.io/managed-by"
_FIELDS = Fields(
    unordered=frozenset({"externalIPs", "ipFamilies"}), whole=frozenset({"selector"}), defaults={"type": "ClusterIP"}
)
_OTHER_IP_ANNOTATIONS = (
    LOAD_BALANCER_IPS_ANNOTATION,
    "metallb.universe.tf/loadBalancerIPs",
    "projectcalico.org/loadBalancerIPs",
)


def service_ref(vm: Vm, network: Network) -> ObjectRef:
    """The Service of a VM and a network: "yoshi-web-1-0a1b2c3d"; the end differs for a VM or network made anew."""
    name = f"yoshi-{vm.name.replace('.', '-')[:45].rstrip('-')}-{short_hash((vm.uid, network.uid))}"
    return SERVICE.ref(name, vm.namespace)


def service_query(vm: Vm, network: Network) -> Query:
    """The read that brings it."""
    ref = service_ref(vm, network)
    return Query(SERVICE, ref.namespace, ref.name)


def find_service(vm: Vm, network: Network, snapshot: Snapshot) -> Json | None:
    """The Service of a VM and a network; None where there is none.

    Raises:
        PreconditionFailed: an object of that name is somebody else's, or may not be read.
    """
    query = service_query(vm, network)
    found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(f"the Services of VM {vm.full_name} cannot be read: {reason}", ASK_ADMIN_HINT)
    for service in found:
        if not is_for_network(service, network):
            raise PreconditionFailed(
                f"{service_ref(vm, network)} exists and was not made for network {network.full_name}",
                "Rename or delete it.",
            )
        return service
    return None


def is_for_network(service: Json, network: Network) -> bool:
    """Whether a Service was made for an address of a network."""
    return labels_of(service).get(NETWORK_LABEL) == network.uid


def is_created_by_yoshi(service: Json) -> bool:
    """Whether this program has made a Service, for an address of whatever network."""
    return NETWORK_LABEL in labels_of(service)


def network_services_query(network: Network) -> Query:
    """The read that brings all Services of a network, of all namespaces."""
    return Query(SERVICE, label_selector=f"{NETWORK_LABEL}={network.uid}")


def get_service_address(service: Json) -> Address | None:
    """The address that one of our Services is made for."""
    try:
        return ip_address(annotations_of(service).get(PUBLIC_IP, ""))
    except ValueError:
        return None


def list_service_addresses(service: Json) -> set[Address]:
    """Every address that a Service, whosever it is, has or asks for."""
    texts = [str(entry.get("ip", "")) for entry in dig(service, "status", "loadBalancer", "ingress", default=[])]
    texts += [*dig(service, "spec", "externalIPs", default=[]), dig(service, "spec", "loadBalancerIP", default="")]
    for key in (PUBLIC_IP, *_OTHER_IP_ANNOTATIONS):
        text = annotations_of(service).get(key, "")
        try:
            texts += json.loads(text) if text.startswith("[") else text.split(",")
        except ValueError:
            continue
    found = set()
    for text in texts:
        try:
            found.add(ip_address(str(text).strip()))
        except ValueError:
            continue
    return found


def get_owner_vm(service: Json) -> tuple[str, str, str]:
    """Namespace, name and uid of the VM that owns a Service; "" where none does."""
    for reference in metadata(service).get("ownerReferences") or []:
        if reference.get("kind") == VM.kind:
            return namespace_of(service), str(reference.get("name", "")), str(reference.get("uid", ""))
    return "", "", ""


def to_service_ports(ports: Sequence[Port]) -> list[Json]:
    """Ports as a Service has them."""
    return [
        {"name": f"{p.protocol.lower()}-{p.number}", "port": p.number, "targetPort": p.number, "protocol": p.protocol}
        for p in ports
    ]


def get_service_ports(service: Json) -> tuple[Port, ...]:
    """The ports of a Service."""
    ports = dig(service, "spec", "ports", default=[])
    return tuple(Port(int(port["port"]), str(port.get("protocol", "TCP"))) for port in ports)


def new_service(
    vm: Vm,
    network: Network,
    address: Address,
    service_template: ServiceTemplate,
    selector: Mapping[str, str],
    ports: Sequence[Port],
) -> Json:
    """The Service to create; Kubernetes deletes it with the VM."""
    ref = service_ref(vm, network)
    is_load_balancer = service_template.spec["type"] == "LoadBalancer"
    spec = {
        **service_template.spec,
        "externalTrafficPolicy": "Local",
        **({"allocateLoadBalancerNodePorts": False} if is_load_balancer else {}),
        "ipFamilyPolicy": "SingleStack",
        "ipFamilies": [f"IPv{address.version}"],
        "selector": dict(selector),
        "ports": to_service_ports(ports or DEFAULT_PORTS),
    }
    return new_object(
        ref,
        {"spec": spec},
        labels={MANAGED_BY: "kubectl-yoshi", NETWORK_LABEL: network.uid},
        annotations={
            NETWORK_ANNOTATION: network.full_name,
            PUBLIC_IP: str(address),
            **service_template.annotations,
        },
        ownerReferences=[owner_reference(vm.raw)],
    )


def get_owner_networks(service: Json) -> dict[str, str]:
    """The network for which this program made a Service: uid -> "namespace/name"; {} for one of others."""
    uid = labels_of(service).get(NETWORK_LABEL, "")
    return {uid: annotations_of(service).get(NETWORK_ANNOTATION, "")} if uid else {}


def needs_recreation(service: Json, wanted: Json) -> bool:
    """Whether a Service differs in what Kubernetes lets nobody change."""
    keys = ("type", "loadBalancerClass", "ipFamilies")
    return bool(differing_fields({key: wanted["spec"].get(key) for key in keys}, service.get("spec"), _FIELDS))


def build_service_patch(
    service: Json, wanted: Json, ports: Sequence[Port], selectors: Sequence[Mapping[str, str]]
) -> list[Json]:
    """The JSON patch that makes a Service what is wanted; [] where it is.

    Args:
        service: as read.
        wanted: see new_service.
        ports: those asked for; () leaves the Service's own.
        selectors: those that find the VM's pods; any of them is left.
    """
    patch = PatchBuilder.for_uid(uid_of(service))
    fields: list[tuple[str, ...]] = [("metadata", "labels", key) for key in wanted["metadata"]["labels"]]
    fields += [(*ANNOTATIONS, key) for key in wanted["metadata"]["annotations"]]
    fields += [("spec", key) for key in ("externalTrafficPolicy", "externalIPs") if key in wanted["spec"]]
    if dig(service, "spec", "selector") not in selectors:
        fields.append(("spec", "selector"))
    if not get_owner_vm(service)[2]:
        fields.append(("metadata", "ownerReferences"))
    if ports and set(get_service_ports(service)) != set(ports):
        fields.append(("spec", "ports"))
    has_changes = False
    for path in fields:
        if not matches(dig(wanted, *path), dig(service, *path), _FIELDS, path[-1]):
            patch.set_in(service, path, dig(wanted, *path))
            has_changes = True
    return patch.ops if has_changes else []


def deletion(service: Json, owner: str) -> Change:
    """Takes a Service away."""
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    return Change(
        Verb.DELETE, ref, f"delete {ref}", before=service, uid=uid_of(service), owner=owner, ignore_not_found=True
    )
