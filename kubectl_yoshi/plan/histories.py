"""Writing down who had an address before, in the patch that ends it."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.change import PatchBuilder
from kubectl_yoshi.model.history import Tenure, with_tenure
from kubectl_yoshi.model.ledger import Ledger, Record
from kubectl_yoshi.model.objects import Json, dig

STATUS_HISTORY = ("status", "history")


def tenure(record: Record, until: str) -> Tenure:
    """The time for which a record stood."""
    return Tenure(record.kind, record.namespace, record.name, record.uid, record.note, record.since, until)


def replaced_by(ledger: Ledger, records: Mapping[int, Record]) -> dict[int, Tenure]:
    """The tenures that end because an address becomes another's: a VM made anew under its name is another VM.

    Not where a record is only completed: the original wrote no uid, and a rebuild after a restore keeps its time.
    """
    ended: dict[int, Tenure] = {}
    for number, record in records.items():
        entry = ledger.shelved.get(number)
        if entry is None or entry.record.uid == record.uid:
            continue
        old = entry.record
        same_name = (old.kind, old.namespace, old.name) == (record.kind, record.namespace, record.name)
        if not (same_name and (not old.uid or old.since == record.since)):
            ended[number] = tenure(old, record.since)
    return ended


def end_tenures(patch: PatchBuilder, ledger: Ledger, obj: Json, ended: Mapping[int, Tenure]) -> None:
    """Adds ended tenures to the history of an object. The patch must test the records that they are of."""
    if not ended:
        return
    values = {ledger.key_of(number): with_tenure(ledger.history_of(number), one) for number, one in ended.items()}
    if dig(obj, *STATUS_HISTORY) is None:
        patch.set_in(obj, STATUS_HISTORY, values)
    else:
        for key, value in values.items():
            patch.add((*STATUS_HISTORY, key), value)
