"""Initializing a network's allocations: what VMs have already is recorded before any address is assigned.

A network without any status is a new one, or one whose status a restore has left out while stopped VMs still have its
addresses. Nothing tells them apart, so both are treated alike: the network assigns no address (`vm attach`, `ips
reserve`, `ips move`, `ips import` and their previews are refused), and the command that initializes it (`network
create`, `sync`, `ips rebuild`) first records what `rebuild.expected` finds. It is initialized when it has
`status.allocations`, empty or not; the `status.created` of Platform9 yoshi counts too, since that wrote no empty map.

In a small network one patch writes the allocations, with a test that there was no status. In a large one the
AddressBlocks come first and `status.allocations: {}` last, so a run that is killed in between leaves it uninitialized.
The address that the network itself needs is found or chosen after that.

This requires permission to see the VMs of all namespaces. A network that this very run has created is initialized with
what its creator may see, at least its own namespace: nobody could have attached to it before.
"""

from __future__ import annotations

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.rebuild.expected import AuditScope, audit_allocations
from kubectl_yoshi.plan.rebuild.planner import list_vms_by_name, plan_record_updates


def plan_init_allocations(network: Network, backend: Backend, ctx: PlanContext, is_new: bool) -> Plan:
    """Plan the records of VMs that already have addresses of an uninitialized network; empty if it is initialized.

    Args:
        is_new: this run has created the network; then it suffices to search the namespaces that may be read, at least
            the network's own.

    Raises:
        PreconditionFailed: VMs that may have an address cannot be read.
    """
    if network.is_initialized:
        return Plan()
    all_vms = Query(VM)
    ctx.snapshot.lookup(all_vms)
    namespaces = (network.namespace,) if is_new and ctx.snapshot.unreadable_reason(all_vms) else None
    vms = list_vms_by_name(ctx.snapshot, namespaces)
    scope = AuditScope(namespaces=namespaces, partial=is_new)
    return plan_record_updates(audit_allocations(network, backend, vms, ctx.snapshot, scope), vms, ctx.run)
