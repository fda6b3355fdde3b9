"""Check invariants I1 to I5 and I10 on what the API server holds, read raw, without any of the program's own code.

`look` reads, `violations` judges (a pure function, tested on hand-made violations in tests/unit/harness), `check` does
both and fails.

    I1  no address has two owners: in the allocations, on the VMs, over networks that overlap
    I2  an address that a VM is made to have has a record with that VM's namespace, name and uid
    I3  a VM, by its uid, has at most one address of a network
    I4  network, broadcast, gateway and excluded addresses, and those outside the range, are not assigned; outside the
        CIDR a public network holds addresses of its family that nobody else's is, once settled for a VM that names it
    I5  what a VMI or pod runs with is recorded; once settled, what is recorded is a VM's that exists and carries it
    I10 Calico's IPAMHandles count for each IPAMBlock as many addresses as it has with their name, or VMs cannot start
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lab.testing import Cluster
from tests.cluster.raw_state import (
    BLOCK_SIZE,
    CARRIERS,
    CONFIGMAPS,
    IP_OF,
    Address,
    CarriedAddress,
    Json,
    RawState,
    allocations,
    cidr_of,
    full_name,
    interfaces_of,
    read_raw_state,
    running,
    uid,
)


def check(cluster: Cluster, *namespaces: str, settled: bool = False, miscounted_handles: bool = False) -> RawState:
    """Fails if an invariant does not hold in these namespaces.

    Args:
        cluster: where.
        namespaces: whose networks and VMs are judged.
        settled: nothing is under way, and `sync` and `gc` have run: no record is left that no VM has.
        miscounted_handles: the test has made handles that do not count what their blocks contain (I10).
    """
    raw_state = read_raw_state(cluster, namespaces)
    found = violations(raw_state, namespaces, settled=settled)
    if miscounted_handles:
        assert any(map(is_of_handles, found)), "no handle is miscounted"
        found = [sentence for sentence in found if not is_of_handles(sentence)]
    assert not found, "\n".join(found)
    return raw_state


@dataclass(frozen=True)
class Entry:
    """A record of the allocations.

    Attributes:
        network: the NetworkWizard.
        address: whose record.
        record: as written.
        where: the object it is written in.
    """

    network: Json
    address: Address
    record: Json
    where: str


def violations(raw_state: RawState, namespaces: Collection[str], *, settled: bool = False) -> list[str]:
    """Every violation in the networks and VMs of these namespaces, a sentence each that begins with the invariant."""
    networks = [network for network in raw_state.networks if network["metadata"]["namespace"] in namespaces]
    vms = [vm for vm in raw_state.vms if vm["metadata"]["namespace"] in namespaces]
    steady = [vm for vm in vms if raw_state.steady is None or uid(vm) in raw_state.steady]
    carried = [one for carrier, _ in CARRIERS for one in carrier(steady, raw_state.others)]
    entries, found = read_ledgers(networks, raw_state.blocks)
    found += overlapping(networks, raw_state.networks)
    found += held_twice(entries, carried)
    found += not_recorded(networks, entries, carried)
    found += several_of_one_vm(networks, entries, carried)
    found += [f"I4 {entry.where}: {entry.address} is held, but {why}" for entry, why in _forbidden(entries)]
    found += runs_unrecorded(networks, entries, raw_state, namespaces)
    found += [f"I10 {sentence}" for sentence in miscounted_handles(raw_state, namespaces)]
    found += unknown_to_dhcp(networks, entries, carried, raw_state, settled)
    if settled:
        found += left_over(entries, vms, carried, raw_state)
        found += outside(entries, vms, raw_state.networks)
        found += outside_not_recorded(raw_state.networks, carried)
        found += miscounted(networks, raw_state.blocks)
        found += recorded_by_two(networks, raw_state.networks)
    return found


def read_ledgers(networks: list[Json], blocks: list[Json]) -> tuple[list[Entry], list[str]]:
    """Every record of these networks, and what is wrong with where they are written."""
    entries: list[Entry] = []
    wrong: list[str] = []
    by_uid = {uid(network): network for network in networks}
    names = {full_name(network) for network in networks}
    for network in networks:
        for text, record in allocations(network).items():
            entries.append(Entry(network, ipaddress.ip_address(text), record, full_name(network)))
        cidr = cidr_of(network)
        inside = [text for text in allocations(network) if cidr is not None and ipaddress.ip_address(text) in cidr]
        if cidr is not None and cidr.num_addresses > BLOCK_SIZE and inside:
            wrong.append(f"I1 {full_name(network)} is large, but records are in its own status")
    for block in blocks:
        spec, where = block["spec"], f"addressblock/{full_name(block)}"
        owner = by_uid.get(spec["networkUID"])
        if owner is None:
            if f"{block['metadata']['namespace']}/{spec['network']}" in names and allocations(block):
                wrong.append(f"I1 {where} holds records for an earlier network of the name {spec['network']}")
            continue
        first = int(ipaddress.ip_address(spec["first"]))
        for text, record in allocations(block).items():
            address = ipaddress.ip_address(text)
            if not first <= int(address) < first + BLOCK_SIZE:
                wrong.append(f"I1 {where} holds {address}, which belongs into another block")
            entries.append(Entry(owner, address, record, where))
        owners = [reference["uid"] for reference in block["metadata"].get("ownerReferences") or []]
        if owners != [uid(owner)]:
            wrong.append(f"I8 {where} does not go away with {full_name(owner)}: its owners are {owners}")
    return entries, wrong


def overlapping(networks: list[Json], all_networks: list[Json]) -> Iterator[str]:
    """Pairs of networks, one of them ours, that share addresses."""
    for network in networks:
        for other in all_networks:
            if full_name(network) < full_name(other) or (
                full_name(other) != full_name(network) and other not in networks
            ):
                one, two = cidr_of(network), cidr_of(other)
                if one is not None and two is not None and one.version == two.version and one.overlaps(two):
                    yield f"I1 networks {full_name(network)} ({one}) and {full_name(other)} ({two}) overlap"


def recorded_by_two(networks: list[Json], all_networks: list[Json]) -> Iterator[str]:
    """Addresses outside a network's CIDR, or of one without, that another network has too; one of both is ours.

    Once settled: of two that record one address at the same moment, the slower one takes its record back.
    """
    for network in all_networks:
        for text in allocations(network):
            address, says = ipaddress.ip_address(text), f"I1 network {full_name(network)} has a record of {text}, and"
            for other in all_networks:
                if other is network or not (network in networks or other in networks) or contains(network, address):
                    continue
                if contains(other, address):
                    yield f"{says} it is of network {full_name(other)} ({cidr_of(other)})"
                elif text in allocations(other) and full_name(network) < full_name(other):
                    yield f"{says} so has {full_name(other)}"


def contains(network: Json, address: Address) -> bool:
    """Whether an address is in a network's CIDR."""
    cidr = cidr_of(network)
    return cidr is not None and address in cidr


def is_of(one: CarriedAddress, network: Json) -> bool:
    """Whether a network must have a record of an address that is carried: it is in its CIDR, or carried as its own."""
    return contains(network, one.address) or one.network == uid(network)


def held_twice(entries: list[Entry], carried: list[CarriedAddress]) -> Iterator[str]:
    """Addresses with two records, and addresses that two VMs carry."""
    records: dict[tuple[str, Address], list[Entry]] = {}
    for entry in entries:
        records.setdefault((uid(entry.network), entry.address), []).append(entry)
    for (_, address), same in records.items():
        if len(same) > 1:
            yield f"I1 {address} has {len(same)} records: " + ", ".join(entry.where for entry in same)
    carriers: dict[Address, set[str]] = {}
    for one in carried:
        carriers.setdefault(one.address, set()).add(full_name(one.vm))
    for address, names in carriers.items():
        if len(names) > 1:
            yield f"I1 {address} is carried by {' and '.join(sorted(names))}"


def not_recorded(networks: list[Json], entries: list[Entry], carried: list[CarriedAddress]) -> Iterator[str]:
    """Addresses that a VM carries and that no record gives to it."""
    records = {(uid(entry.network), entry.address): entry.record for entry in entries}
    for one in carried:
        for network in networks:
            record = records.get((uid(network), one.address))
            if record is None and not is_of(one, network):
                continue
            says = f"I2 {full_name(one.vm)} carries {one.address} ({one.where}), but"
            if record is None:
                yield f"{says} {full_name(network)} has no record of it"
                continue
            wanted = {
                "kind": "VirtualMachine",
                "namespace": one.vm["metadata"]["namespace"],
                "name": one.vm["metadata"]["name"],
                "uid": uid(one.vm),
            }
            if {key: record.get(key) for key in wanted} != wanted:
                yield f"{says} {full_name(network)} has it for {record}"


def outside_not_recorded(all_networks: list[Json], carried: list[CarriedAddress]) -> Iterator[str]:
    """Public addresses of no network's CIDR that a VM has and that no network has recorded for it."""
    for one in carried:
        if not one.where.startswith("service/") or any(
            cidr is not None and one.address in cidr for cidr in map(cidr_of, all_networks)
        ):
            continue
        uids = {allocations(network).get(str(one.address), {}).get("uid") for network in all_networks}
        if uid(one.vm) not in uids:
            yield f"I2 {full_name(one.vm)} carries {one.address} ({one.where}), but no network has it for the VM"


def outside(entries: list[Entry], vms: list[Json], all_networks: list[Json]) -> Iterator[str]:
    """Addresses outside their network's CIDR that are another network's too, or of which the VM does not speak."""
    by_uid = {uid(vm): vm for vm in vms}
    for entry in entries:
        cidr = cidr_of(entry.network)
        if cidr is not None and entry.address in cidr:
            continue
        for other in all_networks:
            its = cidr_of(other)
            has = (its is not None and entry.address in its) or str(entry.address) in allocations(other)
            if uid(other) != uid(entry.network) and has:
                yield f"I1 {entry.where} holds {entry.address}, which is {full_name(other)}'s too"
        vm = by_uid.get(entry.record.get("uid", ""))
        asked = ((vm or {}).get("metadata", {}).get("annotations") or {}).get("plumber.k8s.pf9.io/publicIP", "")
        if vm is not None and str(entry.address) not in asked.split(","):
            yield f"I4 {entry.where} holds {entry.address} for {full_name(vm)}, which does not name it"


def several_of_one_vm(networks: list[Json], entries: list[Entry], carried: list[CarriedAddress]) -> Iterator[str]:
    """VMs with more than one address of a network."""
    held: dict[tuple[str, str], set[str]] = {}
    names: dict[str, str] = {}
    for entry in entries:
        if entry.record.get("kind") == "VirtualMachine" and entry.record.get("uid"):
            held.setdefault((entry.record["uid"], full_name(entry.network)), set()).add(str(entry.address))
            names[entry.record["uid"]] = f"{entry.record['namespace']}/{entry.record['name']}"
    for (vm_uid, network), addresses in held.items():
        if len(addresses) > 1:
            yield f"I3 {names[vm_uid]} ({vm_uid}) has {len(addresses)} records on {network}: {sorted(addresses)}"
    recorded = {(uid(entry.network), entry.address) for entry in entries}
    for network in networks:
        on: dict[str, set[str]] = {}
        for one in carried:
            if is_of(one, network) or (uid(network), one.address) in recorded:
                on.setdefault(full_name(one.vm), set()).add(str(one.address))
        for name, addresses in on.items():
            if len(addresses) > 1:
                yield f"I3 {name} carries {len(addresses)} addresses of {full_name(network)}: {sorted(addresses)}"


def _forbidden(entries: list[Entry]) -> Iterator[tuple[Entry, str]]:
    for entry in entries:
        if why := never_given(entry.network, entry.address):
            yield entry, why


def never_given(network: Json, address: Address) -> str:
    """Why an address must never be assigned; "" if it may."""
    spec, cidr = network["spec"], cidr_of(network)
    if cidr is None:
        return ""
    if address not in cidr:
        by_name = spec["plugin"] == "public" and address.version == cidr.version
        return "" if by_name else f"it is outside {cidr}"
    if cidr.num_addresses > 2 and address == cidr.network_address:
        return "it is the network address"
    if cidr.num_addresses > 2 and cidr.version == 4 and address == cidr.broadcast_address:
        return "it is the broadcast address"
    if spec.get("gateway") and address == ipaddress.ip_address(spec["gateway"]):
        return "it is the gateway"
    first, last = spec.get("range_start"), spec.get("range_end")
    if first and int(address) < int(ipaddress.ip_address(first)):
        return f"the range begins at {first}"
    if last and int(address) > int(ipaddress.ip_address(last)):
        return f"the range ends at {last}"
    for item in spec.get("exclude") or []:
        if "/" in item:
            inside = address in ipaddress.ip_network(item, strict=False)
        else:
            start, _, end = item.partition("-")
            inside = int(ipaddress.ip_address(start)) <= int(address) <= int(ipaddress.ip_address(end or start))
        if inside:
            return f"{item} is excluded"
    return ""


def runs_unrecorded(
    networks: list[Json], entries: list[Entry], raw_state: RawState, namespaces: Collection[str]
) -> Iterator[str]:
    """Addresses that something runs with though nobody, or another client, has them."""
    records = {(uid(entry.network), entry.address): entry.record for entry in entries}
    for namespace, name, address, where in running(raw_state, namespaces):
        for network in networks:
            cidr = cidr_of(network)
            if cidr is not None and address in cidr:
                record = records.get((uid(network), address)) or {}
                if (record.get("namespace"), record.get("name")) != (namespace, name):
                    yield f"I5 {where} runs with {address}, but {full_name(network)} has it for {record or 'nobody'}"


def left_over(
    entries: list[Entry], vms: list[Json], carried: list[CarriedAddress], raw_state: RawState
) -> Iterator[str]:
    """Records for VMs that do not exist, or neither carry the address nor run with it."""
    by_uid = {uid(vm): vm for vm in vms}
    carry = {(uid(one.vm), one.address) for one in carried}
    runs = {
        (namespace, name, address)
        for namespace, name, address, _ in running(raw_state, {full_name(vm).split("/")[0] for vm in vms})
    }
    for entry in entries:
        record = entry.record
        if record.get("kind") != "VirtualMachine":
            continue
        name = f"{record.get('namespace')}/{record.get('name')}"
        if (record.get("namespace"), record.get("name"), entry.address) in runs:
            continue
        if record.get("uid") not in by_uid:
            yield f"I5 {entry.where}: {entry.address} is held for {name}, a VM that does not exist: {record.get('uid')}"
        elif (record["uid"], entry.address) not in carry:
            yield f"I5 {entry.where}: {entry.address} is held for {name}, which does not carry it"


def unknown_to_dhcp(
    networks: list[Json], entries: list[Entry], carried: list[CarriedAddress], raw_state: RawState, settled: bool
) -> Iterator[str]:
    """Addresses that a VM carries and the DHCP server gives to another client; settled, needless files too."""
    files = {full_name(obj): obj.get("binaryData") or {} for obj in raw_state.others.get(CONFIGMAPS, ())}
    for network in networks:
        ovs, cidr = network["spec"].get("ovs") or {}, cidr_of(network)
        if network["spec"]["plugin"] != "ovs" or (ovs.get("dhcp") or {}).get("enabled") is False or cidr is None:
            continue
        name, kept = full_name(network), files.get(full_name(network), {})
        for one in carried:
            if one.where.startswith(IP_OF) and one.address in cidr:
                nic = one.where.removeprefix(IP_OF)
                mac = next(found.get("macAddress") for found in interfaces_of(one.vm) if found["name"] == nic)
                line = base64.b64decode(kept.get(f"{one.address}.conf", "")).decode()
                if line.splitlines()[-1:] != [f"dhcp-host={mac},{one.address}"]:
                    carries = f"I2 {full_name(one.vm)} carries {one.address} for {mac}"
                    yield f"{carries}, but {name} serves {line or 'nothing'}"
        held = {f"{entry.address}.conf" for entry in entries if entry.network is network}
        if settled:
            yield from (f"I8 {name} keeps {key} for nobody" for key in kept if key[0].isdigit() and key not in held)


def is_of_handles(sentence: str) -> bool:
    """Whether a violation is one that a run may leave which was killed or is under way: between block and handle."""
    return sentence.startswith("I10 ")


def miscounted_handles(raw_state: RawState, namespaces: Collection[str]) -> Iterator[str]:
    """Handles that count for a block what it does not contain, and blocks with addresses of no handle.

    Of those whose name has one of the namespaces: k8s-pod-network.vmi.NAMESPACE.NAME, k8s-pod-network.NAMESPACE-….
    """

    def is_ours(handle: str) -> bool:
        return any(f".{namespace}{end}" in handle for namespace in namespaces for end in ".-")

    counted: dict[tuple[str, str], int] = {}
    for handle in raw_state.ipam_handles:
        spec = handle["spec"]
        for cidr, count in ({} if spec.get("deleted") else spec.get("block") or {}).items():
            counted[(spec["handleID"], cidr)] = count
        if is_ours(spec["handleID"]) and not spec.get("block"):
            yield f"{spec['handleID']} counts nothing and is there"
    contained: dict[tuple[str, str], int] = {}
    for block in raw_state.ipam_blocks:
        spec = block["spec"]
        for index in [] if spec.get("deleted") else spec["allocations"]:
            name = None if index is None else spec["attributes"][index].get("handle_id")
            if name:
                contained[(name, spec["cidr"])] = contained.get((name, spec["cidr"]), 0) + 1
    for name, cidr in sorted({*counted, *contained}):
        counts, contains = counted.get((name, cidr), 0), contained.get((name, cidr), 0)
        if is_ours(name) and counts != contains:
            yield f"{name} counts {counts} addresses of block {cidr}, which contains {contains} of it"


def miscounted(networks: list[Json], blocks: list[Json]) -> Iterator[str]:
    """Objects whose status.used is not the number of their records (no invariant, but shown to people)."""
    for obj in [*networks, *blocks]:
        used, held = (obj.get("status") or {}).get("used"), len(allocations(obj))
        cidr = cidr_of(obj)
        large = cidr is not None and cidr.num_addresses > BLOCK_SIZE
        if used is not None and used != held and not large:
            yield f"{full_name(obj)} says that {used} addresses are used, and holds {held}"
