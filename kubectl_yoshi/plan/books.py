"""Reading and writing the ledger as changes: one guarded patch per shelf, however many addresses.

The protocol's heart: `test` that an address has no record, `add` the record. The API server re-applies a JSON patch
to the newest object, so writers of different addresses never conflict, and the second writer of one address is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from kubectl_yoshi import __version__
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, Unseen, UsageMistake
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import (
    Ledger,
    Record,
    SearchHint,
    Shelf,
    block_shelf,
    counters,
    is_large,
    new_block,
    own_shelf,
    shelf_of,
    shelves_from,
)
from kubectl_yoshi.model.network import (
    ADDRESSBLOCK,
    NETWORKWIZARD,
    REQUIRES,
    STATUS_CONTENDED,
    STATUS_SEARCH_FROM,
    Network,
    bare_network,
    parse_network,
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
from kubectl_yoshi.plan.histories import STATUS_HISTORY, end_tenures, replaced_by, tenure

SEE_NETWORKS = "See `kubectl yoshi network list`, or with -A if you may"
SEE_VMS = "See `kubectl get virtualmachines`, or with -A if you may; choose the namespace with -n."
STATUS_ALLOCATIONS = ("status", "allocations")
STATUS_DELETING = ("status", "deleting")
COUNTERS = ("/status/used", "/status/free")
"""Whoever writes last counts anew: what one patch wrote there is soon another's."""


def network_read(namespace: str, name: str) -> Read:
    """The read that brings one NetworkWizard."""
    return Read(NETWORKWIZARD, namespace, name)


def open_network(namespace: str, name: str, facts: Facts) -> Network:
    """The network of that name.

    Raises:
        NeedMore: it was not read yet.
        Refused: it does not exist, or its ledger is for a newer version only.
        Unseen: it may not be read.
        UsageMistake: its spec says something that cannot be.
    """
    read = network_read(namespace, name)
    found = facts.ask(read)
    if not found:
        why = facts.why_unknown(read)
        if why:
            raise Unseen(f'network "{name}" in namespace "{namespace}" cannot be read: {why}', ASK_FOR_IT)
        raise Refused(
            f'network "{name}" not found in namespace "{namespace}"',
            f"{SEE_NETWORKS}; name a network of another namespace as NAMESPACE/NAME.",
        )
    network = parse_network(found[0])
    must_be_understood(network)
    return network


def must_be_understood(network: Network) -> None:
    """Refuses what a newer version has written in a way that this one would read wrongly.

    Raises:
        Refused: that is so.
    """
    if needed := network.requires:
        raise Refused(
            f"network {network.full_name} requires kubectl yoshi {needed} or later, and this is {__version__}",
            f"Use kubectl yoshi {needed} or later: this one could give an address out twice.",
        )


def why_not_understood(network: Network) -> str:
    """Why this version must leave a network's ledger alone; "" where it need not."""
    try:
        must_be_understood(network)
    except Refused as refused:
        return refused.message
    return ""


def known_networks(namespace: str, facts: Facts, even_broken: bool = False) -> list[Network]:
    """Every network that may be read: of all namespaces, or at least of this one. Those whose spec says something that
    cannot be are left out, or with `even_broken` told as far as they can be (see bare_network).

    Raises:
        NeedMore: they were not read yet.
    """
    everywhere = Read(NETWORKWIZARD)
    found = facts.ask(everywhere)
    if facts.why_unknown(everywhere):
        found = facts.ask(Read(NETWORKWIZARD, namespace))
    return sound_networks(found, even_broken)


def networks_asked(
    one: tuple[str, str] | None, namespace: str | None, facts: Facts, here: str = ""
) -> tuple[list[Network], list[str]]:
    """The networks that a list is about, and what is wrong with those that cannot be read rightly.

    Args:
        one: namespace and name of a single network; None for all.
        namespace: of this namespace; None for every one.
        facts: what was read.
        here: where to look instead if not all namespaces may be seen.

    Raises:
        NeedMore: they were not read yet.
        Refused: the single network does not exist, or networks may not be listed.
    """
    if one is not None:
        return [open_network(*one, facts)], []
    read = Read(NETWORKWIZARD, namespace)
    found = facts.ask(read)
    if facts.why_unknown(read) and namespace is None and here:
        read = Read(NETWORKWIZARD, here)
        found = facts.ask(read)
    if why := facts.why_unknown(read):
        raise Refused(f"networks cannot be listed: {why}", f"Choose a namespace that you may see with -n. {ASK_FOR_IT}")
    networks, broken = [], []
    for obj in found:
        try:
            network = parse_network(obj)
        except UsageMistake as mistake:
            broken.append(mistake.message)
            continue
        if why := why_not_understood(network):
            broken.append(why)
        else:
            networks.append(network)
    return networks, broken


def sound_networks(objects: Iterable[Json], even_broken: bool = False) -> list[Network]:
    """The networks of these NetworkWizards; see known_networks."""
    networks = []
    for obj in objects:
        try:
            networks.append(parse_network(obj))
        except UsageMistake:
            if even_broken:
                networks.append(bare_network(obj))
    return networks


def shelf_read(shelf: Shelf) -> Read:
    """The read that brings the object of a shelf."""
    return Read(shelf.ref.resource, shelf.ref.namespace, shelf.ref.name)


def open_shelves(network: Network, shelves: Iterable[Shelf], facts: Facts) -> Ledger:
    """The ledger as far as these shelves go.

    Raises:
        NeedMore: some were not read yet.
        Refused: some may not be read.
    """
    wanted = tuple(dict.fromkeys(shelves))
    facts.ask(*(shelf_read(shelf) for shelf in wanted))
    objects: dict[Shelf, Json | None] = {}
    for shelf in wanted:
        read = shelf_read(shelf)
        _must_be_seen(read, network, facts)
        found = facts.ask(read)
        objects[shelf] = found[0] if found else None
        if found and shelf.is_block and dig(found[0], "spec", "networkUID") not in (None, network.uid):
            raise Refused(
                f"{shelf.ref} belongs to an earlier network of the name {network.name}",
                "Kubernetes is still deleting it; try again in a moment.",
            )
    return Ledger(network, objects)


def blocks_read(namespace: str | None) -> Read:
    """The read that brings the AddressBlocks of a namespace (None: of all)."""
    return Read(ADDRESSBLOCK, namespace)


def open_whole_anew(network: Network, facts: Facts) -> Ledger:
    """The whole ledger as it is after everything that was read before; without entries if the network is gone.

    Raises:
        NeedMore: it was not read yet.
    """
    newest = facts.ask(replace(network_read(network.namespace, network.name), look=1))
    found = [again for again in sound_networks(newest) if again.uid == network.uid]
    return open_whole(found[0], facts, look=1) if found else Ledger(network, {})


def open_whole(network: Network, facts: Facts, everywhere: bool = False, look: int = 0) -> Ledger:
    """The whole ledger of a network.

    Args:
        network: whose; its own object is what it was parsed from.
        facts: what was read.
        everywhere: blocks of all namespaces were or will be read by one list.
        look: which reading of the blocks (see Read).
    """
    if not is_large(network):
        return Ledger(network, {shelf_of(network, 0): network.raw})
    found = _blocks_of_its_name(network, facts, everywhere, look)
    objects: dict[Shelf, Json | None] = {
        shelf: block for shelf, block in found if dig(block, "spec", "networkUID") == network.uid
    }
    for number in Ledger(network, {}).unmoved:
        objects.setdefault(shelf_of(network, number), None)
    if network.takes_outside:
        objects[own_shelf(network)] = network.raw
    return Ledger(network, objects)


def open_complete(network: Network, facts: Facts) -> Ledger:
    """The whole ledger of a network, with nothing missing.

    Raises:
        NeedMore: it was not read yet.
        Refused: some of it may not be read.
    """
    ledger = open_whole(network, facts)
    if is_large(network):
        _must_be_seen(blocks_read(network.namespace), network, facts)
    return ledger


def _must_be_seen(read: Read, network: Network, facts: Facts) -> None:
    if why := facts.why_unknown(read):
        raise Refused(f"the ledger of network {network.full_name} cannot be read: {why}", ASK_FOR_IT)


def blocks_of_earlier(network: Network, facts: Facts, everywhere: bool = False) -> dict[Shelf, Json]:
    """The blocks that an earlier network of this name has left where this network's own would be; see open_whole."""
    if not is_large(network):
        return {}
    found = _blocks_of_its_name(network, facts, everywhere)
    return {shelf: block for shelf, block in found if dig(block, "spec", "networkUID") != network.uid}


def _blocks_of_its_name(
    network: Network, facts: Facts, everywhere: bool, look: int = 0
) -> Iterator[tuple[Shelf, Json]]:
    for block in facts.ask(replace(blocks_read(None if everywhere else network.namespace), look=look)):
        if dig(block, "spec", "network") == network.name and namespace_of(block) == network.namespace:
            first = parse_address(str(dig(block, "spec", "first")))
            if first.version != network.version:  # of an earlier network, of the other address family
                continue
            shelf = block_shelf(network, int(first))
            if shelf.ref.name == name_of(block):
                yield shelf, block


def write_records(
    ledger: Ledger,
    records: Mapping[int, Record],
    subjects: Mapping[int, str] | None = None,
    only_as_read: bool = False,
    hint: SearchHint | None = None,
) -> Plan:
    """Adds or replaces records, in one patch per shelf; the old value of each address is tested.

    With `only_as_read` it is also tested that nobody has written to a shelf since it was read: what was counted on it
    is so still. `hint` is for whoever chooses an address next.

    A network that is being deleted refuses them: a small one with the patch itself, a large one, whose records are in
    other objects, by a patch that only tests. The deletion marks the network before it looks for records, so either
    it sees these, or they are refused.

    A shelf's patch is for one subject if all its addresses are, else for all. The status of a large network comes after
    its blocks, since records in it open the ledger. What the original yoshi wrote there for these addresses goes after
    that, so that they are never without a record.
    """
    must_be_understood(ledger.network)
    makes: list[Change] = []
    patches: list[Change] = []
    own: list[Change] = []
    for shelf, numbers in _by_shelf(ledger, records).items():
        obj = ledger.objects[shelf]
        subject = _common(subjects[number] for number in numbers) if subjects else ""
        if obj is None:
            obj = new_block(ledger.network, shelf)
            makes.append(
                Change(
                    Verb.CREATE, shelf.ref, f"open the address block of {dig(obj, 'spec', 'first')}",
                    body=obj, tolerate_existing=True, subject=subject,
                )
            )  # fmt: skip
        patch = _guard(shelf, ledger.network)
        if only_as_read and ledger.objects[shelf] is not None:
            patch.test(("metadata", "resourceVersion"), resource_version_of(obj))
        there = ledger.records()
        values = {ledger.key_of(number): records[number].to_json(over=there.get(number)) for number in numbers}
        if not shelf.is_block:
            _test_nobody_claims_it(patch, obj)
        allocations = dig(obj, *STATUS_ALLOCATIONS)
        if allocations is None:
            patch.set_in(obj, STATUS_ALLOCATIONS, values)
            if obj.get("status") is None:
                patch.add(STATUS_HISTORY, {})  # or those who give back first would meet in making it
        else:
            for key, value in values.items():
                patch.test((*STATUS_ALLOCATIONS, key), allocations.get(key)).add((*STATUS_ALLOCATIONS, key), value)
            end_tenures(patch, ledger, obj, replaced_by(ledger, {number: records[number] for number in numbers}))
        _count(patch, shelf, ledger.network, {**(allocations or {}), **values})
        says = "; ".join(f"record {ledger.address(n)} for {records[n].holder}" for n in numbers[:3])
        if len(numbers) > 3:
            says = f"record {len(numbers)} addresses, {ledger.address(numbers[0])} and on"
        change = Change(Verb.PATCH, shelf.ref, says, patch.ops, "status", before=obj, subject=subject)
        (patches if shelf.is_block else own).append(change)
    if hint is not None and patches:
        patches[0] = replace(patches[0], then=_leave_hint(ledger.network, hint))
    moves = _forget_unmoved(ledger, records, "its address block has it now", subjects)
    stays = _stays(ledger.network, _common(subjects[n] for n in records) if subjects else "")
    return Plan(tuple(stage for stage in (tuple(makes), tuple(patches), tuple(own), stays, moves) if stage))


def _stays(network: Network, subject: str) -> tuple[Change, ...]:
    """Tests that the deletion of a large network was not begun; it changes nothing."""
    if not is_large(network):
        return ()
    patch = PatchBuilder.of_uid(network.uid)
    _test_nobody_claims_it(patch, network.raw)
    says = f"make sure that network {network.full_name} is not being deleted"
    return (Change(Verb.PATCH, network.ref, says, patch.ops, "status", before=network.raw, subject=subject),)


def _test_nobody_claims_it(patch: PatchBuilder, network: Json) -> None:
    """Tests that neither the network's deletion nor its change into what only a newer version understands was begun."""
    if network.get("status") is not None:
        patch.test(STATUS_DELETING, None)
    if annotations := annotations_of(network):
        patch.test((*ANNOTATIONS, REQUIRES), annotations.get(REQUIRES))
    else:  # a test of what is in a map that is missing would fail
        patch.test(ANNOTATIONS, network["metadata"].get("annotations"))


def _forget_unmoved(
    ledger: Ledger, numbers: Iterable[int], why: str, subjects: Mapping[int, str] | None
) -> tuple[Change, ...]:
    """Removes from the status of a large network what the original yoshi wrote there for these addresses."""
    unmoved = {number: ledger.unmoved[number] for number in sorted(numbers) if number in ledger.unmoved}
    if not unmoved:
        return ()
    network = ledger.network
    patch = PatchBuilder.of_uid(network.uid)
    for entry in unmoved.values():
        path = (*STATUS_ALLOCATIONS, entry.key)
        patch.test(path, entry.record.as_written).remove(path)
    subject = _common(subjects[number] for number in unmoved) if subjects else ""
    first = next(iter(unmoved.values())).key
    whose = first if len(unmoved) == 1 else f"{len(unmoved)} addresses ({first} and on)"
    says = f"strike {whose} from the status of network {network.full_name}: {why}"
    return (Change(Verb.PATCH, network.ref, says, patch.ops, "status", before=network.raw, subject=subject),)


def remove_records(
    ledger: Ledger, records: Mapping[int, Record], subjects: Mapping[int, str] | None = None, until: str = ""
) -> Plan:
    """Gives addresses back: each record must still be what was read.

    `until` is the time (RFC 3339), which goes into the history; without it nobody is said to have had the address.

    What the original yoshi wrote into the status of a large network goes first, so that it does not come to life again.
    """
    must_be_understood(ledger.network)
    patches: list[Change] = []
    for shelf, numbers in _by_shelf(ledger, (n for n in records if _is_on_its_shelf(ledger, n))).items():
        obj = ledger.objects[shelf]
        if obj is None:
            continue
        subject = _common(subjects[number] for number in numbers) if subjects else ""
        patch = _guard(shelf, ledger.network)
        keys = [ledger.key_of(number) for number in numbers]
        for key, number in zip(keys, numbers, strict=True):
            path = (*STATUS_ALLOCATIONS, key)
            patch.test(path, records[number].as_written).remove(path)
        if until:
            end_tenures(patch, ledger, obj, {number: tenure(records[number], until) for number in numbers})
        _count(patch, shelf, ledger.network, dig(obj, *STATUS_ALLOCATIONS, default={}).keys() - set(keys))
        says = "; ".join(f"give back {ledger.address(n)} of {records[n].holder}" for n in numbers[:3])
        if len(numbers) > 3:
            says = f"give back {len(numbers)} addresses, {ledger.address(numbers[0])} and on"
        patches.append(Change(Verb.PATCH, shelf.ref, says, patch.ops, "status", before=obj, subject=subject))
    if patches:
        patches[0] = replace(patches[0], then=_leave_lower_hint(ledger.network, min(records)))
    moves = _forget_unmoved(ledger, records, "it is given back", subjects)
    return Plan(tuple(stage for stage in (moves, tuple(patches)) if stage))


def _leave_hint(network: Network, hint: SearchHint) -> Change | None:
    """Writes a hint into the status of a large network; None where that says so already.

    The block to begin with is raised only from what was read, since somebody may have released a lower address
    meanwhile.
    """
    if not is_large(network):
        return None
    patch = PatchBuilder.of_uid(network.uid)
    begins = next(shelves_from(network, network.search_from))
    if hint.contended_at:
        patch.add(STATUS_CONTENDED, hint.contended_at)
    if shelf_of(network, hint.begin) != begins and hint.begin:
        if hint.begin > begins.span[0]:
            patch.test(STATUS_SEARCH_FROM, dig(network.raw, *STATUS_SEARCH_FROM))
        patch.add(STATUS_SEARCH_FROM, str(network.address(hint.begin)))
    if not patch.writes:
        return None
    return Change(Verb.PATCH, network.ref, "leave a hint for the next search", patch.ops, "status", before=network.raw)


def _leave_lower_hint(network: Network, number: int) -> Change | None:
    """As _leave_hint, for an address that is released. Not where addresses cool down: nobody may have it yet."""
    if not is_large(network) or network.cool_down or number >= network.search_from:
        return None
    return _leave_hint(network, SearchHint(shelf_of(network, number).span[0]))


def _is_on_its_shelf(ledger: Ledger, number: int) -> bool:
    """Whether the record was read from where it belongs, not from where the original yoshi wrote it."""
    if number not in ledger.unmoved:
        return True
    obj = ledger.objects.get(shelf_of(ledger.network, number))
    return dig(obj, *STATUS_ALLOCATIONS, ledger.key_of(number)) is not None


def _guard(shelf: Shelf, network: Network) -> PatchBuilder:
    """Starts a patch that is refused if the network was made anew meanwhile."""
    if shelf.is_block:
        return PatchBuilder().test(("spec", "networkUID"), network.uid)
    return PatchBuilder.of_uid(network.uid)


def _count(patch: PatchBuilder, shelf: Shelf, network: Network, texts: Collection[str]) -> None:
    """Counts the addresses that an object holds; a large network counts those of its blocks only, in these."""
    if shelf.is_block:
        patch.add(("status", "used"), len(texts))
    elif not is_large(network):
        for key, value in counters(network, texts).items():
            patch.add(("status", key), value)


def _by_shelf(ledger: Ledger, numbers: Iterable[int]) -> dict[Shelf, list[int]]:
    shelves: dict[Shelf, list[int]] = {}
    for number in sorted(numbers):
        shelves.setdefault(shelf_of(ledger.network, number), []).append(number)
    return shelves


def _common(words: Iterable[str]) -> str:
    distinct = set(words)
    return distinct.pop() if len(distinct) == 1 else ""
