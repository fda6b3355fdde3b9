"""VMs on networks that no longer exist: deleted with kubectl, while their VMs still have what the networks assigned.

Their allocations went with the network. What is left on a VM keeps it from starting once its pool is gone too, so `ips
check` reports it, and `vm detach` removes it as if the network were there. This module is not part of `detach`, since
lists and `ips check` use it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation, allocations_outside_cidr
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, UsageError, YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network, parse_network_name
from kubectl_yoshi.model.objects import Json, NamespacedName
from kubectl_yoshi.model.plan import AttachmentResult, Change, Plan, parallel_plans
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm, find_instance, instance_queries
from kubectl_yoshi.plan import restart as restarts
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.network_lookup import list_networks, network_query, networks_requested_by


@dataclass(frozen=True)
class OrphanedVm:
    """A VM that requests a network that does not exist.

    Attributes:
        network: namespace and name of the requested network.
        addresses: the addresses of no existing network that the VM still has or requests.
    """

    vm: Vm
    network: NamespacedName
    addresses: tuple[Address, ...]

    @property
    def message(self) -> str:
        """Return the finding in a sentence."""
        name = "/".join(self.network)
        address_text = f", and still has {', '.join(map(str, self.addresses))}" if self.addresses else ""
        return f"VM {self.vm.full_name} requests network {name}, which does not exist{address_text}"


def find_orphaned_vms(vms: Iterable[Vm], backends: Mapping[str, Backend], snapshot: Snapshot) -> list[OrphanedVm]:
    """Return those VMs that request networks that do not exist; an unreadable network counts as existing."""
    requested = [
        (vm, (namespace, name))
        for vm in vms
        for namespace, name in _requested_networks(vm, backends)
        if snapshot.get_object(NETWORKWIZARD, name, namespace) is None  # else it was read, so it exists
    ]
    snapshot.lookup(*dict.fromkeys(network_query(*name) for _, name in requested))
    orphaned = [(vm, name) for vm, name in requested if is_network_missing(name, snapshot)]
    residue = snapshot.parallel(partial(_find_residue, vm, name, backends, snapshot) for vm, name in orphaned)
    return [
        OrphanedVm(vm, name, one.addresses if one else ()) for (vm, name), one in zip(orphaned, residue, strict=True)
    ]


def is_network_missing(network: NamespacedName, snapshot: Snapshot) -> bool:
    """Return whether there is no network of that name, as far as can be read."""
    query = network_query(*network)
    return not snapshot.lookup(query) and not snapshot.unreadable_reason(query)


def plan_detach_from_missing(
    network: NamespacedName, vms: Iterable[NamespacedName], ctx: PlanContext, error: PreconditionFailed
) -> Plan:
    """Plan the changes that detach VMs from a network that no longer exists.

    Args:
        network: its namespace and name.
        vms: namespace and name of each.
        error: that the network does not exist, for VMs that do not request it.

    Raises:
        PreconditionFailed: none of the VMs requests the network.
    """
    errors: dict[str, YoshiError] = dict(ctx.run.failed)
    present: list[Vm] = []
    for query in [Query(VM, *name) for name in vms]:
        owner = f"{query.namespace}/{query.name}"
        found = ctx.snapshot.lookup(query)
        if owner in errors or ctx.run.done_for(owner):
            continue
        if reason := ctx.snapshot.unreadable_reason(query):
            errors[owner] = PreconditionFailed(f'VM "{query.name}" cannot be read: {reason}', ASK_ADMIN_HINT)
        elif found:
            present.append(Vm(found[0]))
        else:
            errors[owner] = error
    residues, _ = ctx.snapshot.parallel_pair(
        lambda: ctx.snapshot.parallel(
            partial(_find_residue, vm, network, ctx.backends, ctx.snapshot) for vm in present
        ),
        lambda: ctx.snapshot.lookup(*instance_queries(present)),
    )
    results: dict[str, str] = {}
    plans: list[Plan] = []
    for vm, residue in zip(present, residues, strict=True):
        if residue is None:
            errors[vm.full_name] = error
            continue
        results[vm.full_name] = ", ".join(map(str, residue.addresses))
        notes = _restart_notes(vm, results[vm.full_name], ctx.snapshot) if residue.backend.pins_vm_template else ()
        plans.append(Plan((_detach_changes(vm, network, residue, ctx.snapshot),), notes))
    if not plans and error in errors.values() and not ctx.run.sent:
        raise error
    attachments = {
        vm: AttachmentResult("/".join(network), addresses, state=AddressState.RELEASED)
        for vm, addresses in results.items()
    }
    return replace(parallel_plans(plans), results=results, attachments=attachments, errors=errors)


def _restart_notes(vm: Vm, addresses: str, snapshot: Snapshot) -> tuple[str, ...]:
    if not addresses or find_instance(vm, snapshot) is None:
        return ()
    return (restarts.restart_note(f"{vm.ref} still runs with {addresses}"),)


def _requested_networks(vm: Vm, backends: Mapping[str, Backend]) -> list[NamespacedName]:
    names = (name for backend in backends.values() for name in networks_requested_by(vm, backend))
    return [*dict.fromkeys(names)]


@dataclass(frozen=True)
class _Residue:
    """What a network has left on a VM, and the backend that is to remove it."""

    backend: Backend
    addresses: tuple[Address, ...]


def _find_residue(
    vm: Vm, network: NamespacedName, backends: Mapping[str, Backend], snapshot: Snapshot
) -> _Residue | None:
    """Return what a network that no longer exists has left on a VM; None if the VM is not on it.

    The backend of the network is unknown, and two backends may read the annotation that names it. The one whose
    addresses the VM has is chosen, else one that gives VMs interfaces.
    """
    requested_from = [
        one for one in backends.values() if one.detach_patch(vm, _reconstruct_network(network, one), snapshot)
    ]
    found = [_Residue(one, _orphaned_addresses(vm, network, one, snapshot)) for one in requested_from]
    return max(found, key=lambda residue: (bool(residue.addresses), residue.backend.has_interface), default=None)


def _orphaned_addresses(vm: Vm, network: NamespacedName, backend: Backend, snapshot: Snapshot) -> tuple[Address, ...]:
    """Return the addresses that the VM has or requests and that belong to no existing network."""
    others = [other for other in list_networks(vm.namespace, snapshot) if other.plugin == backend.plugin]
    addresses = (
        backend.addresses_on_vm(vm, "/".join(network))
        if backend.pins_vm_template
        else _requested_addresses(vm, network, backend, others)
    )
    return tuple(
        a for a in addresses if not any(a in other or a in allocations_outside_cidr(other) for other in others)
    )


def _requested_addresses(
    vm: Vm, network: NamespacedName, backend: Backend, others: Iterable[Network]
) -> tuple[Address, ...]:
    """Return the addresses that the VM requests; () if some may belong to another network that it names.

    Such a network does not exist either, or has no CIDR.
    """
    try:
        requested_networks = backend.requested_networks(vm)
        other_names = {parse_network_name(text, vm.namespace) for text in requested_networks.networks} - {network}
    except UsageError:
        return ()
    known = {(other.namespace, other.name) for other in others if other.cidr is not None}
    return requested_networks.addresses if other_names <= known else ()


def _detach_changes(vm: Vm, network: NamespacedName, residue: _Residue, snapshot: Snapshot) -> tuple[Change, ...]:
    """Return the changes that detach the VM from the network."""
    one = residue.backend.pins_vm_template or len(residue.addresses) == 1
    cidr = str(ip_network(residue.addresses[0])) if residue.addresses and one else ""
    record = Allocation(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid).to_json()
    recorded = {} if one else {str(address): record for address in residue.addresses}
    return residue.backend.detach_patch(vm, _reconstruct_network(network, residue.backend, cidr, recorded), snapshot)


def _reconstruct_network(
    network: NamespacedName, backend: Backend, cidr: str = "", recorded: Mapping[str, Json] | None = None
) -> Network:
    """Reconstruct a network that no longer exists, with a CIDR, or with the records of one without a CIDR."""
    namespace, name = network
    obj = {
        "kind": NETWORKWIZARD.kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"plugin": backend.plugin, **({"cidr": cidr} if cidr else {})},
        "status": {"allocations": dict(recorded or {})},
    }
    return parse_network(obj)
