"""Opening a ledger: who has addresses of a network already is recorded before anybody is given one.

A network without any status is a new one, or one whose status a restore has left out while VMs still carry its
addresses. Nothing tells them apart, so both are treated alike: its ledger is not open, no address of it is given out,
and whoever opens it (`network create`, `sync`, `ips rebuild`) first records what `reckoning` finds.
"""

from __future__ import annotations

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import dig
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.rebuilds import plan_records, vms_named
from kubectl_yoshi.plan.reckoning import reckon

GOING_WAY_OUT = "To keep it, make it again with `kubectl yoshi network create`; to be rid of it, `network delete`."


def being_deleted(network: Network) -> Refused:
    """Why a network gives out no more addresses while it is being deleted."""
    return Refused(f"network {network.full_name} is being deleted", GOING_WAY_OUT)


def not_made(network: Network) -> Refused | None:
    """Why a network that could not be made gives nobody an address who has none of it; None where it was, or where
    nobody has tried."""
    if dig(network.raw, "status", "created") is not False:
        return None
    reason = dig(network.raw, "status", "reason") or "it could not be made"
    return Refused(
        f"network {network.full_name} is not ready: {reason}",
        f"See `kubectl yoshi network describe {network.name} -n {network.namespace}`; once that is mended, "
        f"`kubectl yoshi sync -n {network.namespace}` makes it.",
    )


def must_be_open(network: Network) -> None:
    """Raises Refused where the ledger does not say yet who has the network's addresses."""
    if not network.is_open:
        if network.is_going:
            raise being_deleted(network)
        if refused := not_made(network):
            raise refused
        raise Refused(
            f"network {network.full_name} gives out no addresses yet: it was not made, or its status was lost",
            f"`kubectl yoshi sync -n {network.namespace}` makes it. After a restore see first what "
            f"`kubectl yoshi ips rebuild --network {network.full_name}` finds.",
        )


def plan_opening(network: Network, backend: Backend, facts: Facts, attempt: Attempt, is_new: bool) -> Plan:
    """The changes that record for VMs what they have of a network whose ledger is not open; empty where they are.

    Args:
        network, backend: which.
        facts, attempt: as every planner gets them.
        is_new: this very run has made the network; then it is enough to look where one may, and at least in the
            network's own namespace.

    Raises:
        NeedMore: more must be read first.
        Refused: not all may be seen that may have an address.
    """
    if network.is_open:
        return Plan()
    everywhere = Read(VM)
    facts.ask(everywhere)
    within = (network.namespace,) if is_new and facts.why_unknown(everywhere) else None
    vms = vms_named(facts, within)
    return plan_records(reckon(network, backend, vms, facts, within=within, partial=is_new), vms, attempt)
