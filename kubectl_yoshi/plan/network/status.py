"""Plan the status of a network: whether it is created, why not, whether it is ready, whether it is being deleted."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_yoshi.model.allocations import count_addresses, is_large
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, matches
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.plan.context import RunContext
from kubectl_yoshi.plan.records import STATUS_DELETING, initial_status_entries, set_status_entries

READY = "Ready"
_FIELDS = Fields(unordered=frozenset({"conditions"}))


@dataclass(frozen=True)
class NetworkStatus:
    """What the status of a network states.

    Attributes:
        created: all objects of the network exist.
        problem: why the network is not ready; "" if it is.
        deleting: when the deletion started (RFC 3339); "" removes the mark of a deletion.
    """

    created: bool
    problem: str = ""
    deleting: str = ""


def plan_status(network: Network, wanted_status: NetworkStatus, run: RunContext, owner: str) -> Plan:
    """Plan the two fields of Platform9 yoshi, the Ready condition, and the counters if the status has none.

    Allocations are initialized only for a network that is created (plan/network/init_allocations.py).

    Args:
        network: the network.
        wanted_status: what its status is to state.
        run: the run.
        owner: see Change.owner.
    """
    created, problem, deleting = wanted_status.created, wanted_status.problem, wanted_status.deleting
    status = network.raw.get("status") or {}
    wanted: Json = {
        "created": created,
        "reason": problem,
        "observedGeneration": dig(network.raw, "metadata", "generation", default=1),
    }
    patch = PatchBuilder.for_uid(network.uid)
    if created or network.is_initialized:
        wanted |= initial_status_entries(network) | _outdated_counters(network)
    condition = _ready_condition(status, problem, run, wanted["observedGeneration"])
    others = [c for c in status.get("conditions") or [] if c.get("type") != READY]
    wanted["conditions"] = [*others, condition]
    if deleting:
        wanted["deleting"] = deleting
    changed = {
        # A missing field is written even if its value is empty: the API server keeps empty fields of these kinds, and
        # an empty map of allocations marks the network as initialized.
        key: value
        for key, value in wanted.items()
        if key not in status or not matches(value, status[key], _FIELDS, key)
    }
    if not deleting and "deleting" in status:
        patch.unset_in(network.raw, STATUS_DELETING)
    elif not changed:
        return Plan()
    set_status_entries(patch, network, changed)
    summary = f"record that network {network.full_name} is {'ready' if not problem else f'not ready: {problem}'}"
    return sequential(Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner))


def _outdated_counters(network: Network) -> Json:
    """Return the counters of a small network whose range has changed since they were written; {} if they are right."""
    free = dig(network.raw, "status", "free")
    if free is None or is_large(network):
        return {}
    counted = count_addresses(network, dig(network.raw, "status", "allocations", default={}))
    return {} if counted.get("free") in (free, None) else counted


def _ready_condition(status: Json, problem: str, run: RunContext, generation: int) -> Json:
    condition = {
        "type": READY,
        "status": "False" if problem else "True",
        "reason": "NotReady" if problem else "Made",
        "message": problem,
        "observedGeneration": generation,
        "lastTransitionTime": run.timestamp,
    }
    for existing in status.get("conditions") or []:
        if existing.get("type") == READY and existing.get("status") == condition["status"]:
            condition["lastTransitionTime"] = existing.get("lastTransitionTime", run.timestamp)
    return condition
