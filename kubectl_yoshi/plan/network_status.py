"""What a network's status says: whether it was made, why not, whether it works, and whether it is being deleted."""

from __future__ import annotations

from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.ledger import counters, is_large
from kubectl_yoshi.model.matching import Fields, matches
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import STATUS_DELETING

READY = "Ready"
_FIELDS = Fields(unordered=frozenset({"conditions"}))


def status_plan(
    network: Network, created: bool, problem: str, attempt: Attempt, subject: str, deleting: str = ""
) -> Plan:
    """Writes the original's two fields, the Ready condition, and the counters where they are not kept yet.

    `deleting` is when its deletion was begun; without it, a mark of that is taken off. A ledger is opened only for a
    network that was made (plan/opening.py).
    """
    there = network.raw.get("status") or {}
    wanted: Json = {
        "created": created,
        "reason": problem,
        "observedGeneration": dig(network.raw, "metadata", "generation", default=1),
    }
    patch = PatchBuilder.of_uid(network.uid)
    if created or network.is_open:
        wanted |= _first_entries(network)
    condition = _ready(there, problem, attempt, wanted["observedGeneration"])
    others = [c for c in there.get("conditions") or [] if c.get("type") != READY]
    wanted["conditions"] = [*others, condition]
    if deleting:
        wanted["deleting"] = deleting
    differing = {
        # What is not there is written even if it is empty: of objects of this program's own kinds nothing is omitted,
        # and an empty map of allocations is what opens a ledger.
        key: value
        for key, value in wanted.items()
        if key not in there or not matches(value, there[key], _FIELDS, key)
    }
    if not deleting and "deleting" in there:
        patch.unset_in(network.raw, STATUS_DELETING)
    elif not differing:
        return Plan()
    _set(patch, network, differing)
    says = f"note that network {network.full_name} is {'ready' if not problem else f'not ready: {problem}'}"
    return in_order(Change(Verb.PATCH, network.ref, says, patch.ops, "status", before=network.raw, subject=subject))


def opened(network: Network, subject: str) -> Plan:
    """Opens the ledger of a network all of whose addresses that somebody has are recorded; empty where it is open."""
    if network.is_open:
        return Plan()
    patch = PatchBuilder.of_uid(network.uid)
    _set(patch, network, _first_entries(network))
    says = f"open the ledger of network {network.full_name}"
    return in_order(Change(Verb.PATCH, network.ref, says, patch.ops, "status", before=network.raw, subject=subject))


def _set(patch: PatchBuilder, network: Network, entries: Json) -> None:
    """Writes entries of its status, which may not be there yet."""
    if not network.raw.get("status"):
        patch.set_in(network.raw, ("status",), entries)
    else:
        for key, value in entries.items():
            patch.set_in(network.raw, ("status", key), value)


def _first_entries(network: Network) -> Json:
    """The maps and counters of its status that are not there yet."""
    there = network.raw.get("status") or {}
    entries: Json = {}
    if "allocations" not in there:
        entries["allocations"] = {}
        if not is_large(network) or network.takes_outside:
            entries["history"] = {}
    if not is_large(network) and network.cidr is not None and "used" not in there:
        entries |= counters(network, there.get("allocations") or {})
    return entries


def _ready(status: Json, problem: str, attempt: Attempt, generation: int) -> Json:
    condition = {
        "type": READY,
        "status": "False" if problem else "True",
        "reason": "NotReady" if problem else "Made",
        "message": problem,
        "observedGeneration": generation,
        "lastTransitionTime": attempt.stamp,
    }
    for there in status.get("conditions") or []:
        if there.get("type") == READY and there.get("status") == condition["status"]:
            condition["lastTransitionTime"] = there.get("lastTransitionTime", attempt.stamp)
    return condition
