"""Initialize the allocations of a network: record existing users before any address is assigned.

A network without a status is either new, or was restored without its status while VMs still have its addresses. The two
cases cannot be distinguished, so both are treated alike: the network is not initialized and assigns no address. Each
command that initializes it (`network create`, `sync`, `ips rebuild`) first records what `rebuild.expected` finds.
"""

from __future__ import annotations

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.rebuild.expected import audit_allocations
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
    return plan_record_updates(
        audit_allocations(network, backend, vms, ctx.snapshot, namespaces=namespaces, partial=is_new), vms, ctx.run
    )
