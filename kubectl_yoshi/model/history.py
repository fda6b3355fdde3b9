"""Who had an address before, and until when: `status.history` of the object that holds the address's allocation.

It is bounded: two past allocations per address, 256 addresses per object, about 150 bytes each, so nothing needs to be
discarded. A past allocation is written by the very patch that removes or replaces the allocation, whose `test` guards
both, so no two writers meet in it. The time is the clock of the client that released the address. 256 addresses have 40
KB of allocations and, once all were released twice, 80 KB of history; with the longest names that Kubernetes allows,
less than half a MiB together.

What a run rolls back that it had written itself is not recorded, unless a reservation is restored. A VM recreated under
its name ends the allocation of the earlier VM; a rebuild after a restore, which only corrects uids, does not.
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
"""Maximum length of a reservation's note in the history, in characters."""
RETENTION_SECONDS = 30 * 24 * 3600.0
"""How long an empty block of a large network is kept for its history, in seconds (30 days)."""


@dataclass(frozen=True)
class PastAllocation:
    """A period in which an address was allocated.

    Attributes:
        kind, namespace, name, uid, note: as in the allocation.
        since: when it was allocated, RFC 3339 in UTC; "" if that is unknown.
        until: when it was released or allocated to another holder, RFC 3339 in UTC.
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
        """Return the holder as printed: "prod/web-1", "a reservation (printer)", "the network itself (DHCP server)"."""
        if self.kind == VM_KIND:
            return to_single_line(f"{self.namespace}/{self.name}")
        label = "a reservation" if self.kind == "Reservation" else "the network itself"
        return f"{label} ({to_single_line(self.note)})" if self.note else label

    def was_held_by(self, namespace: str, name: str) -> bool:
        """Return whether a VM of that name held the address, whatever its uid."""
        return self.kind == VM_KIND and (self.namespace, self.name) == (namespace, name)

    def to_json(self) -> Json:
        """Return the value to write: times in whole seconds, a shortened note, and no kind for a VM."""
        short = replace(
            self,
            kind="" if self.kind == VM_KIND else self.kind,
            note=self.note[:MAX_NOTE_LENGTH],
            since=_whole_seconds(self.since),
            until=_whole_seconds(self.until),
        )
        return {key: value for key, value in vars(short).items() if value}


def parse_history(value: Any) -> tuple[PastAllocation, ...]:
    """Parse an address's value in status.history, latest first; invalid items are left out."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    fields = ("namespace", "name", "uid", "note", "since", "until")
    return tuple(
        PastAllocation(str(item.get("kind") or VM_KIND), **{key: str(item.get(key) or "") for key in fields})
        for item in value
        if isinstance(item, Mapping) and item.get("until")
    )


def prepend_past_allocation(history: Sequence[PastAllocation], past: PastAllocation) -> list[Json]:
    """Return an address's history with one more past allocation, as it is written."""
    return [past_allocation.to_json() for past_allocation in (past, *history)][:MAX_PER_ADDRESS]


def _whole_seconds(time: str) -> str:
    whole, dot, _ = time.partition(".")
    return f"{whole}Z" if dot and time.endswith("Z") else time
