"""Reading and writing allocations as changes: one guarded patch per shard, however many addresses.

The protocol's core: `test` that an address has no allocation, `add` the allocation. The API server re-applies a JSON
Patch to the newest object, so writers of different addresses never conflict, and the second writer of one address is
refused.

Fields of an allocation that this version does not know are kept when it is written again for the same holder.
`plan_init_status` is here and not in `plan.network`, since `plan.rebuild` needs it, which `plan.network` imports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import (
    SHARD_SIZE,
    Allocation,
    Allocations,
    SearchHint,
    Shard,
    block_shard,
    build_block,
    count_addresses,
    is_large,
    iter_shards,
    shard_of,
    status_shard,
)
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, UsageError
from kubectl_yoshi.model.history import PastAllocation, prepend_past_allocation
from kubectl_yoshi.model.jsonpatch import PatchBuilder, json_pointer
from kubectl_yoshi.model.network import (
    ADDRESSBLOCK,
    REQUIRES_ANNOTATION,
    STATUS_CONTENDED,
    STATUS_SEARCH_FROM,
    Network,
)
from kubectl_yoshi.model.objects import (
    ANNOTATIONS,
    Json,
    annotations_of,
    dig,
    name_of,
    namespace_of,
    resource_version_of,
)
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.plan.context import RunContext
from kubectl_yoshi.plan.network_lookup import check_version_supported, network_query, parse_networks

STATUS_ALLOCATIONS = ("status", "allocations")
STATUS_HISTORY = ("status", "history")
STATUS_DELETING = ("status", "deleting")
COUNTER_PATHS = ("/status/used", "/status/free")
"""Whoever writes last counts anew: what one patch wrote there is soon another's."""


def shard_query(shard: Shard) -> Query:
    """The read that brings the object of a shelf."""
    return Query(shard.ref.resource, shard.ref.namespace, shard.ref.name)


def load_shards(network: Network, shards: Iterable[Shard], snapshot: Snapshot) -> Allocations:
    """The ledger as far as these shelves go.

    Raises:
        PreconditionFailed: some may not be read.
    """
    requested = tuple(dict.fromkeys(shards))
    snapshot.lookup(*(shard_query(shard) for shard in requested))
    objects: dict[Shard, Json | None] = {}
    for shard in requested:
        query = shard_query(shard)
        _check_readable(query, network, snapshot)
        found = snapshot.lookup(query)
        objects[shard] = found[0] if found else None
        if found and shard.is_block and dig(found[0], "spec", "networkUID") not in (None, network.uid):
            raise PreconditionFailed(
                f"{shard.ref} belongs to an earlier network of the name {network.name}",
                "Kubernetes is still deleting it; try again in a moment.",
            )
    return Allocations(network, objects)


def blocks_query(namespace: str | None) -> Query:
    """The read that brings the AddressBlocks of a namespace (None: of all)."""
    return Query(ADDRESSBLOCK, namespace)


def reload_allocations(network: Network, snapshot: Snapshot) -> Allocations:
    """The whole ledger as it is after everything that was read before; without entries if the network is gone."""
    newest = snapshot.lookup(replace(network_query(network.namespace, network.name), read_number=1))
    found = [current for current in parse_networks(newest) if current.uid == network.uid]
    return load_allocations(found[0], snapshot, read_number=1) if found else Allocations(network, {})


def load_allocations(
    network: Network, snapshot: Snapshot, all_namespaces: bool = False, read_number: int = 0
) -> Allocations:
    """The whole ledger of a network.

    Args:
        network: whose; its own object is what it was parsed from.
        snapshot: what was read.
        all_namespaces: blocks of all namespaces were or will be read by one list.
        read_number: which reading of the blocks (see Query).
    """
    if not is_large(network):
        return Allocations(network, {shard_of(network, 0): network.raw})
    found = _find_blocks_by_name(network, snapshot, all_namespaces, read_number)
    objects: dict[Shard, Json | None] = {
        shard: block for shard, block in found if dig(block, "spec", "networkUID") == network.uid
    }
    for number in Allocations(network, {}).legacy_allocations:
        objects.setdefault(shard_of(network, number), None)
    if network.accepts_outside_cidr:
        objects[status_shard(network)] = network.raw
    return Allocations(network, objects)


def require_allocations(network: Network, snapshot: Snapshot) -> Allocations:
    """The whole ledger of a network, with nothing missing.

    Raises:
        PreconditionFailed: some of it may not be read.
    """
    allocations = load_allocations(network, snapshot)
    if is_large(network):
        _check_readable(blocks_query(network.namespace), network, snapshot)
    return allocations


def _check_readable(query: Query, network: Network, snapshot: Snapshot) -> None:
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(f"the ledger of network {network.full_name} cannot be read: {reason}", ASK_ADMIN_HINT)


def find_stale_blocks(network: Network, snapshot: Snapshot, all_namespaces: bool = False) -> dict[Shard, Json]:
    """The blocks that an earlier network of this name has left where this network's own would be; see
    load_allocations."""
    if not is_large(network):
        return {}
    found = _find_blocks_by_name(network, snapshot, all_namespaces)
    return {shard: block for shard, block in found if dig(block, "spec", "networkUID") != network.uid}


def _find_blocks_by_name(
    network: Network, snapshot: Snapshot, all_namespaces: bool, read_number: int = 0
) -> Iterator[tuple[Shard, Json]]:
    for block in snapshot.lookup(
        replace(blocks_query(None if all_namespaces else network.namespace), read_number=read_number)
    ):
        if dig(block, "spec", "network") == network.name and namespace_of(block) == network.namespace:
            first = parse_address(str(dig(block, "spec", "first")))
            if first.version != network.version:  # of an earlier network, of the other address family
                continue
            shard = block_shard(network, int(first))
            if shard.ref.name == name_of(block):
                yield shard, block


def records_written_by_run(network: Network, run: RunContext) -> dict[int, list[Json]]:
    """Addresses whose records earlier rounds of this run wrote, or may have written, and each value of it."""
    numbers: dict[int, list[Json]] = {}
    for change in run.sent:
        if change.subresource == "status" and isinstance(change.body, list):
            for op in change.body:
                if op["op"] != "add" or op["path"].startswith(json_pointer(STATUS_HISTORY)):
                    continue
                values = {op["path"].rsplit("/", 1)[1]: op["value"]}
                if op["path"].endswith("/allocations"):
                    values = op["value"]
                elif op["path"] == "/status":
                    values = dig(op, "value", "allocations", default={})
                for key, value in values.items():
                    try:
                        address = parse_address(key)
                    except UsageError:
                        continue
                    if address in network or (change.ref == network.ref and network.can_hold(address)):
                        numbers.setdefault(int(address), []).append(value)
    return numbers


def check_room_outside_cidr(allocations: Allocations, numbers: Iterable[int]) -> None:
    """Check that a network can hold more addresses outside its CIDR (where it has none, more addresses).

    One object holds all of them, the network itself. Addresses that are recorded already need no room. Writers at the
    same time do not see each other, so the limit may be exceeded by as many; etcd's is far above it.

    Args:
        allocations: those of the network, with its own status.
        numbers: the addresses that are to be recorded.

    Raises:
        PreconditionFailed: it would hold more than SHARD_SIZE.
    """
    network = allocations.network
    recorded = {number for number in allocations.records() if number not in network.cidr_addresses}
    added = {number for number in numbers if number not in network.cidr_addresses} - recorded
    if not added or len(recorded) + len(added) <= SHARD_SIZE:
        return
    counts = f"{len(recorded)} are recorded, and {len(added)} more requested"
    raise PreconditionFailed(
        f"network {network.full_name} has no CIDR and can hold {SHARD_SIZE} addresses: {counts}"
        if network.cidr is None
        else f"network {network.full_name} can hold {SHARD_SIZE} addresses outside its CIDR: {counts}",
        "Use another network for more, such as one whose CIDR has these addresses.",
    )


def write_records(
    allocations: Allocations,
    records: Mapping[int, Allocation],
    owners: Mapping[int, str] | None = None,
    if_unchanged: bool = False,
    hint: SearchHint | None = None,
) -> Plan:
    """Adds or replaces records, in one patch per shelf; the old value of each address is tested.

    With `if_unchanged` it is also tested that nobody has written to a shelf since it was read: what was counted on it
    is so still. `hint` is for whoever chooses an address next.

    A network that is being deleted refuses them: a small one with the patch itself, a large one, whose records are in
    other objects, by a patch that only tests. The deletion marks the network before it looks for records, so either
    it sees these, or they are refused.

    A shelf's patch is for one subject if all its addresses are, else for all. The status of a large network comes after
    its blocks, since records in it open the ledger. What the original yoshi wrote there for these addresses goes after
    that, so that they are never without a record.
    """
    check_version_supported(allocations.network)
    creates: list[Change] = []
    patches: list[Change] = []
    status_patches: list[Change] = []
    for shard, numbers in _group_by_shard(allocations, records).items():
        obj = allocations.objects[shard]
        owner = _single_value(owners[number] for number in numbers) if owners else ""
        if obj is None:
            obj = build_block(allocations.network, shard)
            creates.append(
                Change(
                    Verb.CREATE, shard.ref, f"open the address block of {dig(obj, 'spec', 'first')}",
                    body=obj, ignore_already_exists=True, owner=owner,
                )
            )  # fmt: skip
        patch = _guarded_patch(shard, allocations.network)
        if if_unchanged and allocations.objects[shard] is not None:
            patch.test(("metadata", "resourceVersion"), resource_version_of(obj))
        current = allocations.records()
        values = {
            allocations.key_of(number): records[number].to_json(existing=current.get(number)) for number in numbers
        }
        if not shard.is_block:
            _test_not_deleting(patch, obj)
        existing = dig(obj, *STATUS_ALLOCATIONS)
        if existing is None:
            patch.set_in(obj, STATUS_ALLOCATIONS, values)
            if obj.get("status") is None:
                patch.add(STATUS_HISTORY, {})  # or those who give back first would meet in making it
        else:
            for key, value in values.items():
                patch.test((*STATUS_ALLOCATIONS, key), existing.get(key)).add((*STATUS_ALLOCATIONS, key), value)
            append_history(
                patch, allocations, obj, find_replaced(allocations, {number: records[number] for number in numbers})
            )
        _update_counters(patch, shard, allocations.network, {**(existing or {}), **values})
        summary = "; ".join(f"record {allocations.address(n)} for {records[n].holder}" for n in numbers[:3])
        if len(numbers) > 3:
            summary = f"record {len(numbers)} addresses, {allocations.address(numbers[0])} and on"
        change = Change(Verb.PATCH, shard.ref, summary, patch.ops, "status", before=obj, owner=owner)
        (patches if shard.is_block else status_patches).append(change)
    if hint is not None and patches:
        patches[0] = replace(patches[0], follow_up=_search_hint_change(allocations.network, hint))
    legacy_removals = _remove_legacy_records(allocations, records, "its address block has it now", owners)
    deletion_test = _deletion_test(allocations.network, _single_value(owners[n] for n in records) if owners else "")
    return Plan(
        tuple(
            stage
            for stage in (tuple(creates), tuple(patches), tuple(status_patches), deletion_test, legacy_removals)
            if stage
        )
    )


def _deletion_test(network: Network, owner: str) -> tuple[Change, ...]:
    """Tests that the deletion of a large network was not begun; it changes nothing."""
    if not is_large(network):
        return ()
    patch = PatchBuilder.for_uid(network.uid)
    _test_not_deleting(patch, network.raw)
    summary = f"make sure that network {network.full_name} is not being deleted"
    return (Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner),)


def _test_not_deleting(patch: PatchBuilder, network: Json) -> None:
    """Tests that neither the network's deletion nor its change into what only a newer version understands was begun."""
    if network.get("status") is not None:
        patch.test(STATUS_DELETING, None)
    if annotations := annotations_of(network):
        patch.test((*ANNOTATIONS, REQUIRES_ANNOTATION), annotations.get(REQUIRES_ANNOTATION))
    else:  # a test of what is in a map that is missing would fail
        patch.test(ANNOTATIONS, network["metadata"].get("annotations"))


def _remove_legacy_records(
    allocations: Allocations, numbers: Iterable[int], reason: str, owners: Mapping[int, str] | None
) -> tuple[Change, ...]:
    """Removes from the status of a large network what the original yoshi wrote there for these addresses."""
    legacy_allocations = {
        number: allocations.legacy_allocations[number]
        for number in sorted(numbers)
        if number in allocations.legacy_allocations
    }
    if not legacy_allocations:
        return ()
    network = allocations.network
    patch = PatchBuilder.for_uid(network.uid)
    for entry in legacy_allocations.values():
        path = (*STATUS_ALLOCATIONS, entry.key)
        patch.test(path, entry.record.as_written).remove(path)
    owner = _single_value(owners[number] for number in legacy_allocations) if owners else ""
    first = next(iter(legacy_allocations.values())).key
    addresses = first if len(legacy_allocations) == 1 else f"{len(legacy_allocations)} addresses ({first} and on)"
    summary = f"strike {addresses} from the status of network {network.full_name}: {reason}"
    return (Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner),)


def remove_records(
    allocations: Allocations,
    records: Mapping[int, Allocation],
    owners: Mapping[int, str] | None = None,
    until: str = "",
) -> Plan:
    """Gives addresses back: each record must still be what was read.

    `until` is the time (RFC 3339), which goes into the history; without it nobody is said to have had the address.

    What the original yoshi wrote into the status of a large network goes first, so that it does not come to life again.
    """
    check_version_supported(allocations.network)
    patches: list[Change] = []
    for shard, numbers in _group_by_shard(
        allocations, (n for n in records if _is_in_its_shard(allocations, n))
    ).items():
        obj = allocations.objects[shard]
        if obj is None:
            continue
        owner = _single_value(owners[number] for number in numbers) if owners else ""
        patch = _guarded_patch(shard, allocations.network)
        keys = [allocations.key_of(number) for number in numbers]
        for key, number in zip(keys, numbers, strict=True):
            path = (*STATUS_ALLOCATIONS, key)
            patch.test(path, records[number].as_written).remove(path)
        if until:
            append_history(
                patch, allocations, obj, {number: to_past_allocation(records[number], until) for number in numbers}
            )
        _update_counters(
            patch, shard, allocations.network, dig(obj, *STATUS_ALLOCATIONS, default={}).keys() - set(keys)
        )
        summary = "; ".join(f"give back {allocations.address(n)} of {records[n].holder}" for n in numbers[:3])
        if len(numbers) > 3:
            summary = f"give back {len(numbers)} addresses, {allocations.address(numbers[0])} and on"
        patches.append(Change(Verb.PATCH, shard.ref, summary, patch.ops, "status", before=obj, owner=owner))
    if patches:
        patches[0] = replace(patches[0], follow_up=_lower_search_hint_change(allocations.network, min(records)))
    legacy_removals = _remove_legacy_records(allocations, records, "it is given back", owners)
    return Plan(tuple(stage for stage in (legacy_removals, tuple(patches)) if stage))


def _search_hint_change(network: Network, hint: SearchHint) -> Change | None:
    """Writes a hint into the status of a large network; None where that says so already.

    The block to begin with is raised only from what was read, since somebody may have released a lower address
    meanwhile.
    """
    if not is_large(network):
        return None
    patch = PatchBuilder.for_uid(network.uid)
    first_shard = next(iter_shards(network, network.search_from))
    if hint.contended_at:
        patch.add(STATUS_CONTENDED, hint.contended_at)
    if shard_of(network, hint.start) != first_shard and hint.start:
        if hint.start > first_shard.span[0]:
            patch.test(STATUS_SEARCH_FROM, dig(network.raw, *STATUS_SEARCH_FROM))
        patch.add(STATUS_SEARCH_FROM, str(network.address(hint.start)))
    if not patch.has_writes:
        return None
    return Change(Verb.PATCH, network.ref, "leave a hint for the next search", patch.ops, "status", before=network.raw)


def _lower_search_hint_change(network: Network, number: int) -> Change | None:
    """As _search_hint_change, for an address that is released. Not where addresses cool down: nobody may have it
    yet."""
    if not is_large(network) or network.cool_down or number >= network.search_from:
        return None
    return _search_hint_change(network, SearchHint(shard_of(network, number).span[0]))


def _is_in_its_shard(allocations: Allocations, number: int) -> bool:
    """Whether the record was read from where it belongs, not from where the original yoshi wrote it."""
    if number not in allocations.legacy_allocations:
        return True
    obj = allocations.objects.get(shard_of(allocations.network, number))
    return dig(obj, *STATUS_ALLOCATIONS, allocations.key_of(number)) is not None


def _guarded_patch(shard: Shard, network: Network) -> PatchBuilder:
    """Starts a patch that is refused if the network was made anew meanwhile."""
    if shard.is_block:
        return PatchBuilder().test(("spec", "networkUID"), network.uid)
    return PatchBuilder.for_uid(network.uid)


def _update_counters(patch: PatchBuilder, shard: Shard, network: Network, keys: Collection[str]) -> None:
    """Counts the addresses that an object holds; a large network counts those of its blocks only, in these."""
    if shard.is_block:
        patch.add(("status", "used"), len(keys))
    elif not is_large(network):
        for key, value in count_addresses(network, keys).items():
            patch.add(("status", key), value)


def _group_by_shard(allocations: Allocations, numbers: Iterable[int]) -> dict[Shard, list[int]]:
    shards: dict[Shard, list[int]] = {}
    for number in sorted(numbers):
        shards.setdefault(shard_of(allocations.network, number), []).append(number)
    return shards


def _single_value(words: Iterable[str]) -> str:
    distinct = set(words)
    return distinct.pop() if len(distinct) == 1 else ""


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


def plan_init_status(network: Network, owner: str) -> Plan:
    """Opens the ledger of a network all of whose addresses that somebody has are recorded; empty where it is open."""
    if network.is_initialized:
        return Plan()
    patch = PatchBuilder.for_uid(network.uid)
    set_status_entries(patch, network, initial_status_entries(network))
    summary = f"open the ledger of network {network.full_name}"
    return sequential(Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner))


def set_status_entries(patch: PatchBuilder, network: Network, entries: Json) -> None:
    """Writes entries of its status, which may not be there yet."""
    if not network.raw.get("status"):
        patch.set_in(network.raw, ("status",), entries)
    else:
        for key, value in entries.items():
            patch.set_in(network.raw, ("status", key), value)


def initial_status_entries(network: Network) -> Json:
    """The maps and counters of its status that are not there yet."""
    status = network.raw.get("status") or {}
    entries: Json = {}
    if "allocations" not in status:
        entries["allocations"] = {}
        if not is_large(network) or network.accepts_outside_cidr:
            entries["history"] = {}
    if not is_large(network) and network.cidr is not None and "used" not in status:
        entries |= count_addresses(network, status.get("allocations") or {})
    return entries
