"""Services not managed by this program that have a VM's address: used as they are, and never written to.

Which VM such a Service is for follows from its selector, for a stopped VM too: KubeVirt puts the labels of the VM's
template on its pods, and its own. Nothing else is stored, so nothing can get out of step: a user who gives the Service
another selector has taken the address from the VM. The allocation has the Service's name only for people.

A Service holds its addresses against all other VMs. For a VM that it selects alone, attaching is the allocation and the
annotation of the VM; no Service is created and nothing of the other one is written or deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubectl_yoshi.backends.kubevirt import pod_labels
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.public.annotations import list_requested_addresses
from kubectl_yoshi.backends.public.services import SERVICE, is_created_by_yoshi, list_service_addresses
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import AddressUse, UsageKind
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, dig, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm

FOREIGN_SERVICE_LABEL = "a Service that is not managed by yoshi"


def selects(service: Json, vm: Vm) -> bool:
    """Return whether the pods of a VM are a Service's endpoints.

    A Service without a selector does not match any.
    """
    selector = dig(service, "spec", "selector", default={})
    if not selector or namespace_of(service) != vm.namespace:
        return False
    labels = pod_labels(vm)
    return all(labels.get(key) == value for key, value in selector.items())


def list_service_uses(service: Json, network: Network, vms: Iterable[Vm]) -> list[AddressUse]:
    """Return the uses of addresses that a Service not managed by yoshi shows.

    It holds each address for the VMs that it selects, and announces it if such a VM requests it.

    Args:
        service: the Service.
        network: the network; only addresses of its family count.
        vms: the VMs that it may select.
    """
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    addresses = list_service_addresses(service)
    selected = [vm for vm in vms if selects(service, vm)] if addresses else []
    found: list[AddressUse] = []
    for address in sorted(addresses, key=str):
        if network.cidr is not None and address.version != network.version:
            continue
        if not selected:
            found.append(AddressUse(int(address), UsageKind.HELD_BY_BACKEND, ref))
        for vm in selected:
            vm_fields = vm.namespace, vm.name, vm.uid
            found.append(AddressUse(int(address), UsageKind.HELD_BY_BACKEND, ref, *vm_fields))
            if has_address(service, address) and address in list_requested_addresses(vm, network):
                found.append(AddressUse(int(address), UsageKind.ANNOUNCED, ref, *vm_fields, FOREIGN_SERVICE_LABEL))
    return found


def service_addresses(
    network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
) -> tuple[AddressUse, ...]:
    """Return the addresses of Services not managed by yoshi (see Backend.service_addresses).

    A network without a CIDR may have any address.
    """
    search_namespaces: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
    service_queries, vm_queries = (
        [Query(SERVICE, namespace) for namespace in search_namespaces],
        [Query(VM, namespace) for namespace in search_namespaces],
    )
    snapshot.lookup(*service_queries, *vm_queries)
    if reason := snapshot.unreadable_reason(*service_queries):
        raise PreconditionFailed(
            f"cannot determine which Services have addresses of network {network.full_name}: {reason}", ASK_ADMIN_HINT
        )
    nearby_vms = group_by_namespace(snapshot.lookup(*vm_queries))
    return tuple(
        use
        for service in snapshot.lookup(*service_queries)
        if not is_created_by_yoshi(service)
        for use in list_service_uses(service, network, nearby_vms.get(namespace_of(service), ()))
        if use.kind is UsageKind.HELD_BY_BACKEND
        and use.name
        and (network.cidr is None or use.number in network.cidr_addresses)
    )


def group_by_namespace(objects: Iterable[Json]) -> dict[str, list[Vm]]:
    """Group VMs by namespace."""
    found: dict[str, list[Vm]] = {}
    for vm in map(Vm, objects):
        found.setdefault(vm.namespace, []).append(vm)
    return found


def has_address(service: Json, address: Address) -> bool:
    """Return whether a Service has an address already, rather than only requesting it."""
    return metallb.is_served(service, address) or str(address) in dig(service, "spec", "externalIPs", default=[])


def list_vms_in_namespaces_of(services: Iterable[Json], vms: Sequence[Vm], snapshot: Snapshot) -> list[Vm]:
    """Return the readable VMs in the namespaces of these Services that contain one of `vms`."""
    namespaces = {vm.namespace for vm in vms} & {namespace_of(service) for service in services}
    return [Vm(obj) for obj in snapshot.lookup(*(Query(VM, namespace) for namespace in sorted(namespaces)))]


def find_foreign_service(vm: Vm, address: Address, snapshot: Snapshot) -> Json | None:
    """Return the Service not managed by yoshi that has an address and selects a VM; None if there is none.

    Raises:
        PreconditionFailed: Services cannot be read.
    """
    all_services = Query(SERVICE)
    is_listed = all_services in snapshot.results and not snapshot.unreadable_reason(all_services)
    query = all_services if is_listed else Query(SERVICE, vm.namespace)
    found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(
            f"cannot check whether a Service has {address} for VM {vm.full_name} already: {reason}", ASK_ADMIN_HINT
        )
    for service in found:
        if not is_created_by_yoshi(service) and selects(service, vm) and address in list_service_addresses(service):
            return service
    return None
