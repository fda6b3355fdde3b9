"""Maintenance of objects after a write: correct the counters, delete empty address blocks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import count_addresses, is_large
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.history import RETENTION_SECONDS, parse_history
from kubectl_yoshi.model.jsonpatch import PatchBuilder, json_pointer
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, STATUS_SEARCH_FROM, parse_network
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, name_of, namespace_of, resource_version_of
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.plan.context import age_in_seconds

BLOCK_STATUS_FIELDS = {"allocations", "used", "history"}


def fix_counters(obj: Json) -> Change | None:
    """Return a write that corrects the counters of an object that was just written; None if they are right.

    It tests the resourceVersion: the last writer counts last, so another writer's outdated counters do not stay.
    """
    allocations = dig(obj, "status", "allocations")
    used = dig(obj, "status", "used")
    if used is None or used == len(allocations or {}):
        return None
    patch = PatchBuilder().test(("metadata", "resourceVersion"), resource_version_of(obj))
    ref = _reference_to(obj)
    counted = {"used": len(allocations or {})}
    if ref.resource == NETWORKWIZARD:
        try:
            network = parse_network(obj)
        except UsageError:  # the free addresses of an invalid spec cannot be counted
            return None
        if is_large(network):  # plan/counters.py
            return None
        counted = count_addresses(network, allocations or {})
    for key, value in counted.items():
        patch.add(("status", key), value)
    return Change(Verb.PATCH, ref, "update the address counters", patch.ops, "status", before=obj)


def delete_empty_block(obj: Json, now: datetime) -> Change | None:
    """Return the deletion of an AddressBlock that has been written and is now empty; None if it is not.

    A block also stays if it has status fields of a newer version, or history that is still retained (model/history.py:
    RETENTION_SECONDS).
    """
    ref, status = _reference_to(obj), obj.get("status")
    if ref.resource != ADDRESSBLOCK or status is None or status.get("allocations") or {*status} - BLOCK_STATUS_FIELDS:
        return None
    for value in (dig(obj, "status", "history") or {}).values():
        if any(age_in_seconds(past.until, now) < RETENTION_SECONDS for past in parse_history(value)):
            return None
    return Change(
        Verb.DELETE, ref, f"delete the empty address block at {dig(obj, 'spec', 'first')}", before=obj,
        uid=str(dig(obj, "metadata", "uid", default="")), resource_version=resource_version_of(obj),
        ignore_not_found=True,
    )  # fmt: skip


def list_follow_ups(done: Iterable[Change]) -> list[Change]:
    """Return the changes to send after these ones (see Change.follow_up).

    Of several search hints for one network, the one with the lowest start is returned.
    """
    found: dict[ObjectRef, Change] = {}
    for change in done:
        if change.follow_up is not None:
            lowest = found.setdefault(change.follow_up.ref, change.follow_up)
            found[change.follow_up.ref] = min(lowest, change.follow_up, key=_search_start)
    return list(found.values())


def _search_start(hint: Change) -> int:
    path = json_pointer(STATUS_SEARCH_FROM)
    starts = [int(parse_address(op["value"])) for op in hint.body if op["op"] == "add" and op["path"] == path]
    return starts[0] if starts else 1 << 128


def _reference_to(obj: Json) -> ObjectRef:
    resource = ADDRESSBLOCK if obj.get("kind") == ADDRESSBLOCK.kind else NETWORKWIZARD
    return resource.ref(name_of(obj), namespace_of(obj))
