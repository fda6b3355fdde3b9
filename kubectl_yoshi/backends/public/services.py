"""Create, find and compare Services for public addresses.

There is one per VM and network, owned by the VM and identified by labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from kubectl_yoshi.backends.ensure import FieldPath, set_fields
from kubectl_yoshi.backends.metallb.objects import LOAD_BALANCER_IPS_ANNOTATION, NETWORK_LABEL
from kubectl_yoshi.backends.ownership import NETWORK_ANNOTATION
from kubectl_yoshi.backends.public.annotations import PUBLIC_IP
from kubectl_yoshi.backends.public.announcer import ServiceTemplate
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Attachment
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, differing_fields
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
    """Return the reference of the Service of a VM and a network: "yoshi-web-1-0a1b2c3d".

    The suffix is different for a recreated VM or network.
    """
    name = f"yoshi-{vm.name.replace('.', '-')[:45].rstrip('-')}-{short_hash((vm.uid, network.uid))}"
    return SERVICE.ref(name, vm.namespace)


def service_query(vm: Vm, network: Network) -> Query:
    """Return the query for that Service."""
    ref = service_ref(vm, network)
    return Query(SERVICE, ref.namespace, ref.name)


def find_service(vm: Vm, network: Network, snapshot: Snapshot) -> Json | None:
    """Return the Service of a VM and a network; None if it does not exist.

    Raises:
        PreconditionFailed: the Service cannot be read, or another Service has its name.
    """
    query = service_query(vm, network)
    found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(f"the Services of VM {vm.full_name} cannot be read: {reason}", ASK_ADMIN_HINT)
    for service in found:
        if not is_for_network(service, network):
            raise PreconditionFailed(
                f"{service_ref(vm, network)} exists and was not created for network {network.full_name}",
                "Rename or delete it.",
            )
        return service
    return None


def is_for_network(service: Json, network: Network) -> bool:
    """Return whether a Service was created for an address of a network."""
    return labels_of(service).get(NETWORK_LABEL) == network.uid


def is_created_by_yoshi(service: Json) -> bool:
    """Return whether yoshi created a Service, for any network."""
    return NETWORK_LABEL in labels_of(service)


def network_services_query(network: Network) -> Query:
    """Return the query for all Services of a network, in all namespaces."""
    return Query(SERVICE, label_selector=f"{NETWORK_LABEL}={network.uid}")


def get_service_address(service: Json) -> Address | None:
    """Return the address that a Service managed by yoshi was created for."""
    try:
        return ip_address(annotations_of(service).get(PUBLIC_IP, ""))
    except ValueError:
        return None


def list_service_addresses(service: Json) -> set[Address]:
    """Return every address that a Service, created by yoshi or not, has or requests."""
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
    """Return namespace, name and uid of the VM that owns a Service; "" each if none does."""
    for reference in metadata(service).get("ownerReferences") or []:
        if reference.get("kind") == VM.kind:
            return namespace_of(service), str(reference.get("name", "")), str(reference.get("uid", ""))
    return "", "", ""


def to_service_ports(ports: Sequence[Port]) -> list[Json]:
    """Return ports in the form of a Service."""
    return [
        {"name": f"{p.protocol.lower()}-{p.number}", "port": p.number, "targetPort": p.number, "protocol": p.protocol}
        for p in ports
    ]


def get_service_ports(service: Json) -> tuple[Port, ...]:
    """Return the ports of a Service."""
    ports = dig(service, "spec", "ports", default=[])
    return tuple(Port(int(port["port"]), str(port.get("protocol", "TCP"))) for port in ports)


def new_service(attachment: Attachment, service_template: ServiceTemplate, selector: Mapping[str, str]) -> Json:
    """Return the Service to create; Kubernetes deletes it with the VM."""
    vm, network, address = attachment.vm, attachment.network, attachment.address
    ref = service_ref(vm, network)
    is_load_balancer = service_template.spec["type"] == "LoadBalancer"
    spec = {
        **service_template.spec,
        "externalTrafficPolicy": "Local",
        **({"allocateLoadBalancerNodePorts": False} if is_load_balancer else {}),
        "ipFamilyPolicy": "SingleStack",
        "ipFamilies": [f"IPv{address.version}"],
        "selector": dict(selector),
        "ports": to_service_ports(attachment.ports or DEFAULT_PORTS),
    }
    return new_object(
        ref,
        {"spec": spec},
        labels={MANAGED_BY: "kubectl-yoshi", NETWORK_LABEL: network.uid},
        annotations={NETWORK_ANNOTATION: network.full_name, PUBLIC_IP: str(address), **service_template.annotations},
        ownerReferences=[owner_reference(vm.raw)],
    )


def get_owner_networks(service: Json) -> dict[str, str]:
    """Return the network for which yoshi created a Service: uid -> "namespace/name"; {} for other Services."""
    uid = labels_of(service).get(NETWORK_LABEL, "")
    return {uid: annotations_of(service).get(NETWORK_ANNOTATION, "")} if uid else {}


def needs_recreation(service: Json, wanted: Json) -> bool:
    """Return whether a Service differs in a field that requires recreating it."""
    keys = ("type", "loadBalancerClass", "ipFamilies")
    return bool(differing_fields({key: wanted["spec"].get(key) for key in keys}, service.get("spec"), _FIELDS))


def build_service_patch(
    service: Json, wanted: Json, ports: Sequence[Port], selectors: Sequence[Mapping[str, str]]
) -> list[Json]:
    """Return the JSON patch that makes a Service match the wanted one; [] if it does.

    Args:
        service: the Service as read.
        wanted: see new_service.
        ports: the requested ports; () leaves the Service's own.
        selectors: selectors that match the VM's pods; any of them is kept.
    """
    patch = PatchBuilder.for_uid(uid_of(service))
    fields: list[FieldPath] = [("metadata", "labels", key) for key in wanted["metadata"]["labels"]]
    fields += [(*ANNOTATIONS, key) for key in wanted["metadata"]["annotations"]]
    fields += [("spec", key) for key in ("externalTrafficPolicy", "externalIPs") if key in wanted["spec"]]
    if dig(service, "spec", "selector") not in selectors:
        fields.append(("spec", "selector"))
    if not get_owner_vm(service)[2]:
        fields.append(("metadata", "ownerReferences"))
    if ports and set(get_service_ports(service)) != set(ports):
        fields.append(("spec", "ports"))
    differing = set_fields(patch, service, {path: dig(wanted, *path) for path in fields}, _FIELDS)
    return patch.ops if differing else []


def deletion(service: Json, owner: str) -> Change:
    """Return the change that deletes a Service."""
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    return Change(
        Verb.DELETE, ref, f"delete {ref}", before=service, uid=uid_of(service), owner=owner, ignore_not_found=True
    )
