"""Who had an address before, and until when: `status.history` of the object that holds the address's allocation.

It is bounded: two past allocations per address, 256 addresses per object, about 150 bytes each, so nothing needs to be
discarded. A past allocation is written by the very patch that removes or replaces the allocation, whose `test` guards
both, so no two writers meet in it. The time is the clock of the client that released the address. 256 addresses have 40
KB of allocations and, once all were released twice, 80 KB of history; with the longest names that Kubernetes allows,
less than half a MiB together.

What a run rolls back that it had written itself is not recorded. A VM recreated under its name ends the allocation of
the earlier VM; a rebuild after a restore, which only corrects uids, does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.printable import to_single_line

VM_KIND = "VirtualMachine"
MAX_PER_ADDRESS = 2
MAX_NOTE_LENGTH = 60
"""Characters of a reservation's words that are kept."""
RETENTION_SECONDS = 30 * 24 * 3600.0
"""For how long a block of a large network that holds nothing any more is kept for its history."""


@dataclass(frozen=True)
class PastAllocation:
    """A time for which somebody had an address.

    Attributes:
        kind, namespace, name, uid, note: as in his record.
        since: when he got it, RFC 3339 in UTC; "" where that was not known.
        until: when it was given back, or became another's.
    """

    kind: str
    namespace: str
    name: str
    uid: str = ""
    note: str = ""
    since: str = ""
    until: str = ""

    @property
    def holder(self) -> str:
        """As people read it: "prod/web-1", "a reservation (printer)", "the network itself (DHCP server)"."""
        if self.kind == VM_KIND:
            return to_single_line(f"{self.namespace}/{self.name}")
        label = "a reservation" if self.kind == "Reservation" else "the network itself"
        return f"{label} ({to_single_line(self.note)})" if self.note else label

    def was_held_by(self, namespace: str, name: str) -> bool:
        """Whether a VM of that name had it, whatever its uid was."""
        return self.kind == VM_KIND and (self.namespace, self.name) == (namespace, name)

    def to_json(self) -> Json:
        """The value to write: whole seconds, no more of a note than needed, a VM's kind left out."""
        short = replace(
            self,
            kind="" if self.kind == VM_KIND else self.kind,
            note=self.note[:MAX_NOTE_LENGTH],
            since=_whole_seconds(self.since),
            until=_whole_seconds(self.until),
        )
        return {key: value for key, value in vars(short).items() if value}


def parse_history(value: Any) -> tuple[PastAllocation, ...]:
    """An address's value in status.history, the latest tenure first; what is none is left out."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    fields = ("namespace", "name", "uid", "note", "since", "until")
    return tuple(
        PastAllocation(str(item.get("kind") or VM_KIND), **{key: str(item.get(key) or "") for key in fields})
        for item in value
        if isinstance(item, Mapping) and item.get("until")
    )


def prepend_past_allocation(history: Sequence[PastAllocation], past: PastAllocation) -> list[Json]:
    """An address's history after one more tenure, as it is written."""
    return [past_allocation.to_json() for past_allocation in (past, *history)][:MAX_PER_ADDRESS]


def _whole_seconds(time: str) -> str:
    whole, dot, _ = time.partition(".")
    return f"{whole}Z" if dot and time.endswith("Z") else time
