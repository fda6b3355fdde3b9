"""What a network's status says: whether it was made, why not, whether it works, and whether it is being deleted."""

from __future__ import annotations

from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, matches
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.plan.context import RunContext
from kubectl_yoshi.plan.records import STATUS_DELETING, initial_status_entries, set_status_entries

READY = "Ready"
_FIELDS = Fields(unordered=frozenset({"conditions"}))


def plan_status(network: Network, created: bool, problem: str, run: RunContext, owner: str, deleting: str = "") -> Plan:
    """Writes the original's two fields, the Ready condition, and the counters where they are not kept yet.

    `deleting` is when its deletion was begun; without it, a mark of that is taken off. A ledger is opened only for a
    network that was made (plan/network/init_allocations.py).
    """
    status = network.raw.get("status") or {}
    wanted: Json = {
        "created": created,
        "reason": problem,
        "observedGeneration": dig(network.raw, "metadata", "generation", default=1),
    }
    patch = PatchBuilder.for_uid(network.uid)
    if created or network.is_initialized:
        wanted |= initial_status_entries(network)
    condition = _ready_condition(status, problem, run, wanted["observedGeneration"])
    others = [c for c in status.get("conditions") or [] if c.get("type") != READY]
    wanted["conditions"] = [*others, condition]
    if deleting:
        wanted["deleting"] = deleting
    changed = {
        # What is not there is written even if it is empty: of objects of this program's own kinds nothing is omitted,
        # and an empty map of allocations is what opens a ledger.
        key: value
        for key, value in wanted.items()
        if key not in status or not matches(value, status[key], _FIELDS, key)
    }
    if not deleting and "deleting" in status:
        patch.unset_in(network.raw, STATUS_DELETING)
    elif not changed:
        return Plan()
    set_status_entries(patch, network, changed)
    summary = f"note that network {network.full_name} is {'ready' if not problem else f'not ready: {problem}'}"
    return sequential(Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner))


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
