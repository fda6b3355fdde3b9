"""Services that somebody else has made and that have a VM's address: used as they are, and never written to.

Which VM such a Service is for is what its selector says, of a stopped VM too: KubeVirt puts the labels of the VM's
template on its pods, and its own. Nothing else is noted down, so nothing can get out of step: whoever gives the Service
another selector has taken the address from the VM.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kubectl_yoshi.backends import metallb
from kubectl_yoshi.backends.kubevirt import pod_labels
from kubectl_yoshi.backends.public_services import SERVICE, addresses_of_any, is_ours
from kubectl_yoshi.backends.public_wishes import wished_of
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import How, Use
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, dig, name_of, namespace_of
from kubectl_yoshi.model.vm import VM, Vm

BY = "a Service that others made"


def selects(service: Json, vm: Vm) -> bool:
    """Whether the pods of a VM are a Service's endpoints; one without a selector has none that it finds itself."""
    selector = dig(service, "spec", "selector", default={})
    if not selector or namespace_of(service) != vm.namespace:
        return False
    labels = pod_labels(vm)
    return all(labels.get(key) == value for key, value in selector.items())


def uses_of(service: Json, network: Network, vms: Iterable[Vm]) -> list[Use]:
    """What a Service of other people's making shows of its addresses: that it holds each, for the VMs that it selects,
    and that the world can reach it, where such a VM asks for it.

    Args:
        service: which.
        network: addresses of its family only.
        vms: those that it may select.
    """
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    addresses = addresses_of_any(service)
    selected = [vm for vm in vms if selects(service, vm)] if addresses else []
    found: list[Use] = []
    for address in sorted(addresses, key=str):
        if network.cidr is not None and address.version != network.version:
            continue
        if not selected:
            found.append(Use(int(address), How.HELD, ref))
        for vm in selected:
            whose = vm.namespace, vm.name, vm.uid
            found.append(Use(int(address), How.HELD, ref, *whose))
            if has(service, address) and address in wished_of(vm, network):
                found.append(Use(int(address), How.SERVED, ref, *whose, BY))
    return found


def carried(network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
    """See Backend. A network without a CIDR could have any address."""
    where: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
    reads, vm_reads = [Read(SERVICE, namespace) for namespace in where], [Read(VM, namespace) for namespace in where]
    facts.ask(*reads, *vm_reads)
    if why := facts.why_unknown(*reads):
        raise Refused(f"which Services have addresses of network {network.full_name} cannot be told: {why}", ASK_FOR_IT)
    near = by_namespace(facts.ask(*vm_reads))
    return tuple(
        use
        for service in facts.ask(*reads)
        if not is_ours(service)
        for use in uses_of(service, network, near.get(namespace_of(service), ()))
        if use.how is How.HELD and use.name and (network.cidr is None or use.number in network.everything)
    )


def by_namespace(objects: Iterable[Json]) -> dict[str, list[Vm]]:
    """VMs by their namespaces."""
    found: dict[str, list[Vm]] = {}
    for vm in map(Vm, objects):
        found.setdefault(vm.namespace, []).append(vm)
    return found


def has(service: Json, address: Address) -> bool:
    """Whether a Service has an address already, and does not only ask for it."""
    return metallb.is_served(service, address) or str(address) in dig(service, "spec", "externalIPs", default=[])


def vms_near(services: Iterable[Json], vms: Sequence[Vm], facts: Facts) -> list[Vm]:
    """The VMs beside which these Services are, as far as they may be seen, where one of `vms` is among them.

    Raises:
        NeedMore: they were not read yet.
    """
    namespaces = {vm.namespace for vm in vms} & {namespace_of(service) for service in services}
    return [Vm(obj) for obj in facts.ask(*(Read(VM, namespace) for namespace in sorted(namespaces)))]


def find_carrier(vm: Vm, address: Address, facts: Facts) -> Json | None:
    """The Service of other people's making that has an address and selects a VM; None where there is none.

    Raises:
        NeedMore: Services were not read yet.
        Refused: they may not be read.
    """
    everywhere = Read(SERVICE)
    seen = everywhere in facts.answers and not facts.why_unknown(everywhere)
    read = everywhere if seen else Read(SERVICE, vm.namespace)
    found = facts.ask(read)
    if why := facts.why_unknown(read):
        raise Refused(f"whether a Service has {address} for VM {vm.subject} already cannot be told: {why}", ASK_FOR_IT)
    for service in found:
        if not is_ours(service) and selects(service, vm) and address in addresses_of_any(service):
            return service
    return None
