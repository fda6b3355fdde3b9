"""Reading and writing allocations as changes: one guarded patch per shard, however many addresses.

The protocol's core: `test` that an address has no allocation, `add` the allocation. The API server re-applies a JSON
Patch to the newest object, so writers of different addresses never conflict, and the second writer of one address is
refused.

Fields of an allocation that this version does not know are kept when it is written again for the same holder.
`plan_init_status` is here and not in `plan.network`, since `plan.rebuild` needs it, which `plan.network` imports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.allocations import (
    COUNTERS,
    RESERVATION,
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
    parse_allocation,
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
    STATUS_RESERVED_FOR_VMS,
    STATUS_SEARCH_FROM,
    Network,
)
from kubectl_yoshi.model.objects import (
    ANNOTATIONS,
    Json,
    NamespacedName,
    ObjectRef,
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
MAX_RESERVED_FOR_VMS = 1024
"""Addresses of a large network that are reserved for single VMs: they are listed in its status, up to 70 KB."""
COUNTER_PATHS = tuple(f"/status/{counter}" for counter in COUNTERS)
"""Counters that every writer recomputes: what one patch writes there, another soon replaces."""


NOT_RECORDS = (json_pointer(STATUS_HISTORY), json_pointer(STATUS_RESERVED_FOR_VMS))
"""Maps in the status whose keys are addresses too."""


def shard_query(shard: Shard) -> Query:
    """Return the query for the object of a shard."""
    return Query(shard.ref.resource, shard.ref.namespace, shard.ref.name)


def load_shards(network: Network, shards: Iterable[Shard], snapshot: Snapshot) -> Allocations:
    """Load the allocations of these shards.

    Raises:
        PreconditionFailed: a shard cannot be read, or its block belongs to an earlier network of the same name.
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
                f"{shard.ref} belongs to a deleted network of the name {network.name}",
                "Kubernetes is still deleting it; try again in a moment.",
            )
    return Allocations(network, objects)


def blocks_query(namespace: str | None) -> Query:
    """Return the query for the AddressBlocks of a namespace (None: of all namespaces)."""
    return Query(ADDRESSBLOCK, namespace)


def reload_allocations(network: Network, snapshot: Snapshot) -> Allocations:
    """Load all allocations again, after everything read before; empty if the network no longer exists."""
    newest = snapshot.lookup(replace(network_query(network.namespace, network.name), read_number=1))
    found = [current for current in parse_networks(newest) if current.uid == network.uid]
    return load_allocations(found[0], snapshot, read_number=1) if found else Allocations(network, {})


def load_allocations(
    network: Network, snapshot: Snapshot, all_namespaces: bool = False, read_number: int = 0
) -> Allocations:
    """Load all allocations of a network.

    Args:
        network: the network; its status is taken from the object that it was parsed from.
        all_namespaces: read the blocks of all namespaces with one list.
        read_number: which read of the blocks to use (see Query).
    """
    if not is_large(network):
        return Allocations(network, {shard_of(network, 0): network.raw})
    found = _find_blocks_by_name(network, snapshot, all_namespaces, read_number)
    objects: dict[Shard, Json | None] = {
        shard: block for shard, block in found if dig(block, "spec", "networkUID") == network.uid
    }
    for number in Allocations(network, {}).records():  # those in the network's status that belong in blocks
        objects.setdefault(shard_of(network, number), None)
    if network.accepts_outside_cidr:
        objects[status_shard(network)] = network.raw
    return Allocations(network, objects)


def require_allocations(network: Network, snapshot: Snapshot, all_namespaces: bool = False) -> Allocations:
    """Load all allocations of a network, and require that all of them can be read.

    See load_allocations for the arguments.

    Raises:
        PreconditionFailed: some cannot be read.
    """
    allocations = load_allocations(network, snapshot, all_namespaces)
    if is_large(network):
        _check_readable(blocks_query(None if all_namespaces else network.namespace), network, snapshot)
    return allocations


def _check_readable(query: Query, network: Network, snapshot: Snapshot) -> None:
    if reason := snapshot.unreadable_reason(query):
        raise PreconditionFailed(
            f"the allocations of network {network.full_name} cannot be read: {reason}", ASK_ADMIN_HINT
        )


def find_stale_blocks(network: Network, snapshot: Snapshot, all_namespaces: bool = False) -> dict[Shard, Json]:
    """Return the blocks of an earlier network of this name that occupy the names of this network's blocks.

    See load_allocations for the arguments.
    """
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
            if first.version != network.version:  # of an earlier network with the other address family
                continue
            shard = block_shard(network, int(first))
            if shard.ref.name == name_of(block):
                yield shard, block


def records_written_by_run(network: Network, run: RunContext) -> dict[int, list[Json]]:
    """Return the addresses whose records this run wrote or may have written, each with all values written."""
    numbers: dict[int, list[Json]] = {}
    for change in run.sent:
        for key, value in written_records(change).items():
            address = parse_address(key)
            if address in network or (change.ref == network.ref and network.can_hold(address)):
                numbers.setdefault(int(address), []).append(value)
    return numbers


def written_records(change: Change) -> dict[str, Json]:
    """Return the records that a change writes, by address as written."""
    found: dict[str, Json] = {}
    for op in change.body if change.subresource == "status" and isinstance(change.body, list) else ():
        if op["op"] != "add" or op["path"].startswith(NOT_RECORDS):
            continue
        values = {op["path"].rsplit("/", 1)[1]: op["value"]}
        if op["path"].endswith("/allocations"):
            values = op["value"]
        elif op["path"] == "/status":
            values = dig(op, "value", "allocations", default={})
        found |= {key: value for key, value in values.items() if _is_address(key)}
    return found


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except UsageError:
        return False
    return True


def original_records(network: Network, run: RunContext) -> dict[int, Allocation]:
    """Return the records before this run first wrote to the objects that hold them; only of objects it wrote to."""
    first: dict[ObjectRef, Json] = {}
    for change in run.sent:
        if change.subresource == "status" and change.before is not None:
            first.setdefault(change.ref, change.before)
    return {
        int(parse_address(key)): parse_allocation(value, network.namespace)
        for obj in first.values()
        for key, value in dig(obj, *STATUS_ALLOCATIONS, default={}).items()
    }


def check_room_for_reservations(network: Network, numbers: Collection[int]) -> None:
    """Check that a large network can reserve more addresses for single VMs.

    Args:
        network: as read.
        numbers: the addresses to be reserved.

    Raises:
        PreconditionFailed: it would have more than MAX_RESERVED_FOR_VMS of them.
    """
    total = len({*network.reserved_for_vms, *numbers})
    if is_large(network) and total > MAX_RESERVED_FOR_VMS:
        raise PreconditionFailed(
            f"network {network.full_name} can reserve {MAX_RESERVED_FOR_VMS} addresses for single VMs, not {total}",
            "Reserve them for a namespace, or release reservations that are not needed: `kubectl yoshi ips release`.",
        )


def check_room_outside_cidr(allocations: Allocations, numbers: Iterable[int]) -> None:
    """Check that a network can hold more addresses outside its CIDR (without a CIDR: more addresses).

    All of them are in one object, the network itself. Addresses that are already recorded need no additional room.
    Concurrent writers do not see each other and may exceed the limit; etcd's limit is far higher.

    Args:
        allocations: those of the network, including its own status.
        numbers: the addresses to be recorded.

    Raises:
        PreconditionFailed: the network would hold more than SHARD_SIZE of them.
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
    """Plan to add or replace records, with one patch per shard that tests the old value of each address.

    A network that is being deleted refuses records: a small one by the patch itself; a large one, whose records are in
    other objects, by a separate patch that only tests. A deletion marks the network before it reads the records, so it
    either sees these, or they are refused.

    A shard has one patch for the VMs of each namespace; those of one object are merged when they are sent (see
    Change.vm_namespace). A patch belongs to one owner if all its addresses do, otherwise to all owners. The status of a
    large network is patched after its blocks, since a record in it initializes the network. Records that Platform9
    yoshi wrote there for these addresses are removed last, so that the addresses are never without a record.

    Where a large network lists the addresses reserved for VMs, they are added before the reservations are written and
    removed after these are replaced: none is missing if a run is killed in between.

    Args:
        if_unchanged: also test that no shard has changed since it was read, so that counts taken from it still hold.
        hint: where the next search for a free address starts.
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
                    Verb.CREATE, shard.ref, f"create the address block at {dig(obj, 'spec', 'first')}",
                    body=obj, ignore_already_exists=True, owner=owner,
                )
            )  # fmt: skip
        existing = dig(obj, *STATUS_ALLOCATIONS)
        current = allocations.records()
        values = {number: records[number].to_json(existing=current.get(number)) for number in numbers}
        held = {*(existing or {}), *map(allocations.key_of, numbers)}
        for namespace, group in _group_by_namespace(allocations, {number: records[number] for number in numbers}):
            patch = _guarded_patch(shard, allocations.network)
            if if_unchanged and allocations.objects[shard] is not None:
                patch.test(("metadata", "resourceVersion"), resource_version_of(obj))
            if not shard.is_block:
                _test_not_deleting(patch, obj)
            written = {allocations.key_of(number): values[number] for number in group}
            if existing is None:
                patch.set_in(obj, STATUS_ALLOCATIONS, written)
                if obj.get("status") is None:
                    patch.add(
                        STATUS_HISTORY, {}
                    )  # else the first clients that release an address would conflict in creating it
            else:
                for key, value in written.items():
                    patch.test((*STATUS_ALLOCATIONS, key), existing.get(key)).add((*STATUS_ALLOCATIONS, key), value)
                append_history(patch, allocations, obj, find_replaced(allocations, group))
            _update_counters(patch, shard, allocations.network, held)
            summary = _summary("record", allocations, group, _record_summary)
            owner = _single_value(owners[number] for number in group) if owners else ""
            change = Change(
                Verb.PATCH, shard.ref, summary, patch.ops, "status", before=obj, owner=owner, vm_namespace=namespace
            )
            (patches if shard.is_block else status_patches).append(change)
    if hint is not None and patches:
        patches[0] = replace(patches[0], follow_up=_search_hint_change(allocations.network, hint))
    legacy_removals = _remove_legacy_records(allocations, records, "its address block has the record now", owners)
    owner = _single_value(owners[n] for n in records) if owners else ""
    deletion_test = _deletion_test(allocations.network, owner)
    added, removed = _reserved_for_vms_changes(allocations, records, owner)
    stages = (added, tuple(creates), tuple(patches), tuple(status_patches), deletion_test, removed, legacy_removals)
    return Plan(tuple(stage for stage in stages if stage))


def _summary(
    verb: str,
    allocations: Allocations,
    records: Mapping[int, Allocation],
    summarize: Callable[[Address, Allocation], str],
) -> str:
    """Return what a patch does: up to three records each, of more their number."""
    if len(records) > 3:
        return f"{verb} {len(records)} addresses, starting with {allocations.address(min(records))}"
    return "; ".join(summarize(allocations.address(number), record) for number, record in records.items())


def _release_summary(address: Address, record: Allocation) -> str:
    return f"release {address} of {record.holder}"


def _record_summary(address: Address, record: Allocation) -> str:
    if record.kind == RESERVATION:  # its holder is "reserved for …"
        return f"reserve {address}{record.holder.removeprefix('reserved')}"
    return f"record {address} for {record.holder}"


def _reserved_for_vms_changes(
    allocations: Allocations, records: Mapping[int, Allocation | None], owner: str
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Return the changes of a large network's list of the addresses reserved for VMs.

    An entry for a VM of a namespace that the change of the allocation does not concern is outdated. It stays, since the
    user may not be permitted to remove it; `ips gc` of an administrator does.

    Args:
        allocations: as read.
        records: address -> its new record; None if it is released.
        owner: see Change.owner.

    Returns:
        The changes before and after the records are written.
    """
    network, before = allocations.network, allocations.records()
    if not is_large(network):
        return (), ()
    listed = network.reserved_for_vms
    current = {number: record.reserved_vm if record else None for number, record in records.items()}
    added = {number: vm for number, vm in current.items() if vm is not None and listed.get(number) != vm}
    removed = [
        number
        for number, vm in current.items()
        if vm is None
        and number in listed
        and listed[number][0]
        in {record.vm_namespace(network) for record in (records[number], before.get(number)) if record}
    ]
    return (
        _list_reserved_for_vms(network, added, owner),
        _unlist_reserved_for_vms(network, removed, owner),
    )


def _list_reserved_for_vms(network: Network, vms: Mapping[int, NamespacedName], owner: str) -> tuple[Change, ...]:
    summary = f"list addresses of network {network.full_name} as reserved for VMs"
    return _reserved_for_vms_patches(
        network, {number: (vm[0], "/".join(vm)) for number, vm in vms.items()}, summary, owner
    )


def _unlist_reserved_for_vms(network: Network, numbers: Iterable[int], owner: str) -> tuple[Change, ...]:
    summary = f"list addresses of network {network.full_name} as no longer reserved for VMs"
    entries = {number: (network.reserved_for_vms[number][0], None) for number in numbers}
    return _reserved_for_vms_patches(network, entries, summary, owner)


def _reserved_for_vms_patches(
    network: Network, entries: Mapping[int, tuple[str, str | None]], summary: str, owner: str
) -> tuple[Change, ...]:
    """Return a patch for the VMs of each namespace.

    Args:
        entries: address -> the namespace, and the new value; None to remove the entry.
    """
    by_namespace: dict[str, dict[str, str | None]] = {}
    for number, (namespace, value) in entries.items():
        by_namespace.setdefault(namespace, {})[str(network.address(number))] = value
    return tuple(
        Change(
            Verb.PATCH, network.ref, summary,
            PatchBuilder.for_uid(network.uid).set_keys(network.raw, STATUS_RESERVED_FOR_VMS, values).ops, "status",
            before=network.raw, owner=owner, vm_namespace=namespace,
        )
        for namespace, values in sorted(by_namespace.items())
    )  # fmt: skip


def unlist_outdated_reservations(network: Network, snapshot: Snapshot) -> Plan:
    """Plan to remove addresses that a killed run left in a large network's list of those reserved for VMs."""
    if not network.reserved_for_vms:
        return Plan()
    records = load_allocations(network, snapshot).records()
    if snapshot.unreadable_reason(blocks_query(network.namespace)):
        return Plan()
    # An allocation of a VM that replaced a reservation may become one again.
    reserved = {number for number, record in records.items() if record.reserved_for}
    outdated = [number for number in network.reserved_for_vms if number not in reserved]
    unlisted = _unlist_reserved_for_vms(network, outdated, "")
    return Plan((unlisted,) if unlisted else ())


def _deletion_test(network: Network, owner: str) -> tuple[Change, ...]:
    """Return a patch that tests that a large network is not being deleted; it changes nothing."""
    if not is_large(network):
        return ()
    patch = PatchBuilder.for_uid(network.uid)
    _test_not_deleting(patch, network.raw)
    summary = f"check that network {network.full_name} is not being deleted"
    return (Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner),)


def _test_not_deleting(patch: PatchBuilder, network: Json) -> None:
    """Add tests that the network is not being deleted and does not require a newer version."""
    if network.get("status") is not None:
        patch.test(STATUS_DELETING, None)
    if annotations := annotations_of(network):
        patch.test((*ANNOTATIONS, REQUIRES_ANNOTATION), annotations.get(REQUIRES_ANNOTATION))
    else:  # a test below a missing map would fail
        patch.test(ANNOTATIONS, network["metadata"].get("annotations"))


def _remove_legacy_records(
    allocations: Allocations, numbers: Iterable[int], reason: str, owners: Mapping[int, str] | None
) -> tuple[Change, ...]:
    """Plan to remove the records of Platform9 yoshi for these addresses from the status of a large network."""
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
    addresses = (
        first if len(legacy_allocations) == 1 else f"{len(legacy_allocations)} addresses (starting with {first})"
    )
    summary = f"remove {addresses} from the status of network {network.full_name}: {reason}"
    return (Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner),)


def remove_records(
    allocations: Allocations,
    records: Mapping[int, Allocation],
    owners: Mapping[int, str] | None = None,
    until: str = "",
) -> Plan:
    """Plan to release addresses; each record must still be what was read.

    Records of Platform9 yoshi in the status of a large network are removed first, so that they do not become valid
    again.

    Args:
        until: the time of the release for the history (RFC 3339); "" writes no history.
    """
    check_version_supported(allocations.network)
    patches: list[Change] = []
    for shard, numbers in _group_by_shard(
        allocations, (number for number in records if number in allocations.shard_entries)
    ).items():
        obj = allocations.objects[shard]
        if obj is None:
            continue
        held = {*dig(obj, *STATUS_ALLOCATIONS, default={})} - {allocations.key_of(number) for number in numbers}
        for namespace, group in _group_by_namespace(allocations, {number: records[number] for number in numbers}):
            patch = _guarded_patch(shard, allocations.network)
            for number, record in group.items():
                path = (*STATUS_ALLOCATIONS, allocations.key_of(number))
                patch.test(path, record.as_written).remove(path)
            if until:
                ended = {number: to_past_allocation(record, until) for number, record in group.items()}
                append_history(patch, allocations, obj, ended)
            _update_counters(patch, shard, allocations.network, held)
            summary = _summary("release", allocations, group, _release_summary)
            owner = _single_value(owners[number] for number in group) if owners else ""
            patches.append(
                Change(
                    Verb.PATCH, shard.ref, summary, patch.ops, "status", before=obj, owner=owner,
                    vm_namespace=namespace,
                )
            )  # fmt: skip
    if patches:
        patches[0] = replace(patches[0], follow_up=_lower_search_hint_change(allocations.network, min(records)))
    legacy_removals = _remove_legacy_records(allocations, records, "it is released", owners)
    owner = _single_value(owners[n] for n in records) if owners else ""
    _, unlisted = _reserved_for_vms_changes(allocations, dict.fromkeys(records), owner)
    return Plan(tuple(stage for stage in (legacy_removals, tuple(patches), unlisted) if stage))


def _search_hint_change(network: Network, hint: SearchHint) -> Change | None:
    """Return the write of a search hint into the status of a large network; None if the status already has it.

    The first block to search is raised only if it is unchanged since it was read, as a lower address may have been
    released meanwhile.
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
    return Change(
        Verb.PATCH, network.ref, "record where the next search starts", patch.ops, "status", before=network.raw
    )


def _lower_search_hint_change(network: Network, number: int) -> Change | None:
    """Return the write that lowers the search hint to a released address; None if none is needed.

    It is not lowered for a network with a cool-down, since the address is not assignable yet.
    """
    if not is_large(network) or network.cool_down or number >= network.search_from:
        return None
    return _search_hint_change(network, SearchHint(shard_of(network, number).span[0]))


def _guarded_patch(shard: Shard, network: Network) -> PatchBuilder:
    """Return a new patch that is refused if the network has been recreated."""
    if shard.is_block:
        return PatchBuilder().test(("spec", "networkUID"), network.uid)
    return PatchBuilder.for_uid(network.uid)


def _update_counters(patch: PatchBuilder, shard: Shard, network: Network, keys: Collection[str]) -> None:
    """Add the counters of a block or small network to a patch; those of a large network: plan/counters.py."""
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


def _group_by_namespace(
    allocations: Allocations, records: Mapping[int, Allocation]
) -> list[tuple[str, dict[int, Allocation]]]:
    """Return the records of each namespace whose VMs they concern, see Change.vm_namespace."""
    groups: dict[str, dict[int, Allocation]] = {}
    for number, record in records.items():
        groups.setdefault(record.vm_namespace(allocations.network), {})[number] = record
    return sorted(groups.items())


def _single_value(words: Iterable[str]) -> str:
    distinct = set(words)
    return distinct.pop() if len(distinct) == 1 else ""


def to_past_allocation(record: Allocation, until: str) -> PastAllocation:
    """Convert a record into an entry of the history that ends at `until` (RFC 3339)."""
    return PastAllocation(record.kind, record.namespace, record.name, record.uid, record.note, record.since, until)


def find_replaced(allocations: Allocations, records: Mapping[int, Allocation]) -> dict[int, PastAllocation]:
    """Return the past allocations that end because another holder gets the address.

    A VM that is recreated under its name is another holder. A record that is only completed ends nothing: Platform9
    yoshi wrote no uid, and a rebuild after a restore keeps the time.
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
    """Add past allocations to the history of an object. The patch must test the records that they replace."""
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
    """Plan to initialize a network whose existing users are all recorded; empty if it is initialized."""
    if network.is_initialized:
        return Plan()
    patch = PatchBuilder.for_uid(network.uid)
    set_status_entries(patch, network, initial_status_entries(network))
    summary = f"initialize the allocations of network {network.full_name}"
    return sequential(Change(Verb.PATCH, network.ref, summary, patch.ops, "status", before=network.raw, owner=owner))


def set_status_entries(patch: PatchBuilder, network: Network, entries: Json) -> None:
    """Add writes of status fields to a patch; the status may be missing."""
    if not network.raw.get("status"):
        patch.set_in(network.raw, ("status",), entries)
    else:
        for key, value in entries.items():
            patch.set_in(network.raw, ("status", key), value)


def initial_status_entries(network: Network) -> Json:
    """Return the maps and counters that the status of a network does not have yet."""
    status = network.raw.get("status") or {}
    entries: Json = {}
    if "allocations" not in status:
        entries["allocations"] = {}
        if not is_large(network) or network.accepts_outside_cidr:
            entries["history"] = {}
    if not is_large(network) and network.cidr is not None and "used" not in status:
        entries |= count_addresses(network, status.get("allocations") or {})
    return entries
