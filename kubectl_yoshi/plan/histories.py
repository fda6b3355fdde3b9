"""Writing down who had an address before, in the patch that ends it."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.allocations import Allocation, Allocations
from kubectl_yoshi.model.history import PastAllocation, prepend_past_allocation
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.objects import Json, dig

STATUS_HISTORY = ("status", "history")


def to_past_allocation(record: Allocation, until: str) -> PastAllocation:
    """The time for which a record stood."""
    return PastAllocation(record.kind, record.namespace, record.name, record.uid, record.note, record.since, until)


def find_replaced(allocations: Allocations, records: Mapping[int, Allocation]) -> dict[int, PastAllocation]:
    """The tenures that end because an address becomes another's: a VM made anew under its name is another VM.

    Not where a record is only completed: the original wrote no uid, and a rebuild after a restore keeps its time.
    """
    ended: dict[int, PastAllocation] = {}
    for number, record in records.items():
        entry = allocations.shard_entries.get(number)
        if entry is None or entry.record.uid == record.uid:
            continue
        old = entry.record
        same_name = (old.kind, old.namespace, old.name) == (record.kind, record.namespace, record.name)
        if not (same_name and (not old.uid or old.since == record.since)):
            ended[number] = to_past_allocation(old, record.since)
    return ended


def append_history(
    patch: PatchBuilder, allocations: Allocations, obj: Json, ended: Mapping[int, PastAllocation]
) -> None:
    """Adds ended tenures to the history of an object. The patch must test the records that they are of."""
    if not ended:
        return
    values = {
        allocations.key_of(number): prepend_past_allocation(allocations.history_of(number), past)
        for number, past in ended.items()
    }
    if dig(obj, *STATUS_HISTORY) is None:
        patch.set_in(obj, STATUS_HISTORY, values)
    else:
        for key, value in values.items():
            patch.add((*STATUS_HISTORY, key), value)
