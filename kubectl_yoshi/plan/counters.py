"""The counters in the status of a large network: `size`, `used`, `free`, `usePercent`, and when they were counted.

Exact ones would be one number that every writer of any block writes. So they are counted from the counters of the
blocks, after a run that has written allocations, and not again within COUNT_SECONDS. `ips gc` and `ips rebuild`, which
read all blocks, write them whenever they differ. This is best effort, like the search hint: nothing depends on them,
and `network list` counts by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kubectl_yoshi.model.allocations import allocations_outside_cidr, block_label, compute_counters, is_large
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, name_of, namespace_of
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.plan.context import format_timestamp, seconds_between
from kubectl_yoshi.plan.network_lookup import parse_networks
from kubectl_yoshi.plan.records import STATUS_ALLOCATIONS, blocks_query

STATUS_COUNTED = ("status", "countedAt")
COUNT_SECONDS = 60.0
"""How long counters stay as they are while allocations change, in seconds."""

Answers = Mapping[ObjectRef, Json]
"""The objects that a run has written, as the API server returned them last."""


@dataclass(frozen=True)
class Count:
    """A large network and the number of allocations in its blocks; None if they are still to be counted."""

    network: Network
    in_blocks: int | None


def list_counts(answers: Answers, snapshot: Snapshot, now: datetime, exact: bool = False) -> list[Count]:
    """Return the large networks whose counters should be written after a run.

    Args:
        answers: what the run has written.
        snapshot: of its last round.
        now: the time.
        exact: the run has read all blocks: write the counters whenever they differ.
    """
    counts = []
    for network in _large_networks(answers, snapshot, only_written=not exact):
        counted_at = str(dig(network.raw, *STATUS_COUNTED, default=""))
        if not exact and abs(seconds_between(counted_at, now)) < COUNT_SECONDS:
            continue
        in_blocks = None
        if (blocks := _read_blocks(network, snapshot)) is not None:
            in_blocks = sum(len(dig(answers.get(_ref(block), block), *STATUS_ALLOCATIONS) or {}) for block in blocks)
        if not exact or (in_blocks is not None and not _has_counters(network, in_blocks)):
            counts.append(Count(network, in_blocks))
    return counts


def _has_counters(network: Network, in_blocks: int) -> bool:
    counters = _compute_counters(network, in_blocks)
    return all(dig(network.raw, "status", key) == value for key, value in counters.items())


def _compute_counters(network: Network, in_blocks: int) -> dict[str, int]:
    own = len(dig(network.raw, *STATUS_ALLOCATIONS) or {})
    return compute_counters(network, in_blocks + own, len(allocations_outside_cidr(network)))


def counting_query(network: Network) -> Query:
    """Return the query for the counters of a network's blocks."""
    return Query(ADDRESSBLOCK, network.namespace, label_selector="=".join(block_label(network)), as_table=True)


def count_blocks(network: Network, rows: Iterable[Json]) -> int:
    """Return the number of allocations in a network's blocks, from the rows of `counting_query`."""
    return sum(row["Used"] for row in rows if row.get("Network") == network.name and isinstance(row.get("Used"), int))


def count_change(count: Count, now: datetime) -> Change | None:
    """Return the write of a large network's counters; None if it has no status, or nobody has counted.

    It tests that no other writer has counted meanwhile.
    """
    network = count.network
    if network.raw.get("status") is None or count.in_blocks is None:
        return None
    patch = PatchBuilder.for_uid(network.uid).test(STATUS_COUNTED, dig(network.raw, *STATUS_COUNTED))
    for key, value in _compute_counters(network, count.in_blocks).items():
        patch.add(("status", key), value)
    patch.add(STATUS_COUNTED, format_timestamp(now))
    return Change(Verb.PATCH, network.ref, "update the address counters", patch.ops, "status", before=network.raw)


def _large_networks(answers: Answers, snapshot: Snapshot, only_written: bool) -> list[Network]:
    """Return the large networks that a run has read; with `only_written`, those whose allocations it wrote."""
    written = {
        NETWORKWIZARD.ref(str(dig(obj, "spec", "network")), ref.namespace) if ref.resource == ADDRESSBLOCK else ref
        for ref, obj in answers.items()
    }
    if only_written and not written:
        return []
    latest = {_ref(obj): obj for obj in snapshot.list_objects(NETWORKWIZARD)}
    latest |= {ref: obj for ref, obj in answers.items() if ref.resource == NETWORKWIZARD}
    candidates = [obj for ref, obj in latest.items() if not only_written or ref in written]
    return [network for network in parse_networks(candidates) if is_large(network) and not network.is_deleting]


def _read_blocks(network: Network, snapshot: Snapshot) -> list[Json] | None:
    """Return all blocks of a network, if the run has read all of them; else None."""
    queries = (blocks_query(network.namespace), blocks_query(None))
    if not any(query in snapshot.results and not snapshot.unreadable_reason(query) for query in queries):
        return None
    blocks = snapshot.list_objects(ADDRESSBLOCK, network.namespace)
    return [block for block in blocks if dig(block, "spec", "networkUID") == network.uid]


def _ref(obj: Json) -> ObjectRef:
    resource = ADDRESSBLOCK if obj.get("kind") == ADDRESSBLOCK.kind else NETWORKWIZARD
    return resource.ref(name_of(obj), namespace_of(obj))
