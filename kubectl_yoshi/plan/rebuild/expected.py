"""Which allocations a network should have, derived from everything that exists, and what contradicts itself.

The recorded allocations are only one source: after a restore they may be missing, or older than the VMs. What only they
say is kept: reservations, and allocations of addresses that nothing uses (`ips gc` releases those, with its own
checks).

Of several VMs with one address that one keeps it which runs with it, else the one that the allocation names by uid,
else the one for which the backend holds it, else the one that the allocation names by name, else the older one
(`Claim`).

A network recreated under a new uid takes over the IPPool of the earlier network of the same name and CIDR, since VMs
run with its addresses, and the attachment, DHCP server and bridge of a Layer 2 network; its AddressBlocks are
recreated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.allocations import (
    NETWORK,
    RESERVATION,
    UNKNOWN_KIND_REASON,
    VIRTUALMACHINE,
    Allocation,
    Allocations,
    Shard,
)
from kubectl_yoshi.model.backend import AddressUse, Backend, UsageKind
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import Network, parse_network_name
from kubectl_yoshi.model.objects import Json, NamespacedName, metadata
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.records import find_stale_blocks, load_allocations

ADMIN_REBUILD_HINT = (
    "Let an administrator run it: it needs to see the VMs of every namespace (ClusterRole yoshi-admin, bound by a "
    "ClusterRoleBinding)."
)
ACTIVE = (UsageKind.RUNNING, UsageKind.ANNOUNCED)


@dataclass(frozen=True)
class ExpectedAllocation:
    """What the ledger should say of an address.

    Attributes:
        number, address: which.
        record: what it says; None for nothing.
        expected: what it should say, without a time; None for nothing.
        reason: in words that follow "since"; "" where nothing is claimed.
        needs_update: it must be written.
        contradictions: what cannot all be true, a sentence each.
    """

    number: int
    address: str
    record: Allocation | None
    expected: Allocation | None
    reason: str = ""
    needs_update: bool = False
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class AllocationAudit:
    """What the ledger of a network should say.

    Attributes:
        network: which.
        allocations: as it is; the place of a stale block is empty.
        stale: blocks of an earlier network of this name, which are to be made anew.
        entries: of every address that is recorded or used, in order.
        contradictions: besides those of single addresses.
        unused: addresses recorded for VMs that do not use them.
    """

    network: Network
    allocations: Allocations
    stale: Mapping[Shard, Json] = field(default_factory=dict)
    entries: tuple[ExpectedAllocation, ...] = ()
    contradictions: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def updates(self) -> list[ExpectedAllocation]:
        """What must be written."""
        return [entry for entry in self.entries if entry.needs_update]

    def contradictions_except(self, numbers: Collection[int]) -> list[str]:
        """All of them but those of some addresses, each a sentence that begins with the address or the VM."""
        entries = [entry for entry in self.entries if entry.number not in numbers]
        return [*(text for entry in entries for text in entry.contradictions), *self.contradictions]


def audit_allocations(
    network: Network,
    backend: Backend,
    vms: Mapping[NamespacedName, Vm],
    snapshot: Snapshot,
    all_namespaces: bool = False,
    namespaces: tuple[str, ...] | None = None,
    partial: bool = False,
) -> AllocationAudit:
    """What the network's ledger should say.

    Args:
        network: which.
        backend: its back-end.
        vms: every VM that exists.
        snapshot: what was read.
        all_namespaces: blocks of all namespaces were or will be read by one list.
        namespaces: look at VMs of these namespaces only, as far as they may be seen; None for all of them.
        partial: what cannot be seen is left out.

    Raises:
        PreconditionFailed: something that may use an address cannot be seen: unknown is not absent; not where
            `partial`.
    """
    allocations, stale = _load_allocations(network, snapshot, all_namespaces)
    address_uses: dict[int, list[AddressUse]] = {}
    for use in backend.all_address_uses(network, namespaces, snapshot):
        address_uses.setdefault(use.number, []).append(use)
    if not partial and namespaces is None and (unreadable := snapshot.unreadable_reasons()):
        raise PreconditionFailed(
            f"who uses addresses of network {network.full_name} cannot be told: {unreadable[0]}", ADMIN_REBUILD_HINT
        )
    stale_records = Allocations(network, stale).records()
    records = {**stale_records, **allocations.records()}
    requesting = frozenset(name for name, vm in vms.items() if _requests_network(vm, network, backend))
    auditor = _Auditor(network, backend, allocations, stale_records, vms, requesting)
    entries: list[ExpectedAllocation] = []
    winners: dict[NamespacedName, list[tuple[ExpectedAllocation, Claim]]] = {}
    unused = []
    for number in sorted({*records, *address_uses}):
        record = records.get(number)
        claims, unclaimed_uses = rank_claims(address_uses.get(number, ()), record, vms, requesting)
        entry = auditor.audit_address(number, record, claims, unclaimed_uses)
        entries.append(entry)
        if claims and entry.expected is not None and entry.expected.uid == claims[0].vm.uid:
            winners.setdefault((claims[0].vm.namespace, claims[0].vm.name), []).append((entry, claims[0]))
        elif not claims and record is not None and record.kind == VIRTUALMACHINE:
            unused.append(entry.address)
    multiple = tuple(_multiple_addresses_text(name, won, network) for name, won in winners.items() if len(won) > 1)
    return AllocationAudit(network, allocations, stale, tuple(entries), multiple, tuple(unused))


def _load_allocations(
    network: Network, snapshot: Snapshot, all_namespaces: bool
) -> tuple[Allocations, dict[Shard, Json]]:
    """The ledger, and the blocks in its way that say they belong to an earlier network of this name.

    A restore gives the network a new uid. Kubernetes collects blocks whose owner is gone, unless the restore has
    dropped their ownerReferences; then they stay, and must be made anew since a block's spec never changes.
    """
    stale = find_stale_blocks(network, snapshot, all_namespaces)
    return load_allocations(network, snapshot, all_namespaces).with_objects(dict.fromkeys(stale)), stale


def _requests_network(vm: Vm, network: Network, backend: Backend) -> bool:
    try:
        names = [parse_network_name(text, vm.namespace) for text in backend.requested_networks(vm).networks]
    except UsageError:
        return False
    return (network.namespace, network.name) in names


@dataclass(frozen=True)
class _Auditor:
    """What is at hand while the addresses of one network are judged."""

    network: Network
    backend: Backend
    allocations: Allocations
    stale_records: Mapping[int, Allocation]
    vms: Mapping[NamespacedName, Vm]
    requesting: frozenset[NamespacedName]

    def audit_address(
        self, number: int, record: Allocation | None, claims: Sequence[Claim], unclaimed_uses: Sequence[AddressUse]
    ) -> ExpectedAllocation:
        network, address = self.network, self.allocations.address(number)
        place = f"{address} on network {network.full_name}"
        entry = ExpectedAllocation(number, str(address), record, record, needs_update=number in self.stale_records)
        infra_use = next((use for use in unclaimed_uses if use.is_infra_use_of(network)), None)
        if not claims and infra_use is not None and (record is None or record.kind == NETWORK):
            return self._infra_entry(entry, infra_use)
        if not claims:
            return entry
        vms_text = " and ".join(claim.vm.full_name for claim in claims)
        if why_not := network.unusable_reason(address):
            summary = f"{place} is {vms_text}'s, since {claims[0].evidence}, but it is never given out: {why_not}"
            outcome = "it is not recorded" if record is None else f"it stays recorded for {record.holder}"
            return replace(entry, contradictions=(f"{summary}; {outcome}",))
        if record is not None and record.kind == RESERVATION:
            summary = (
                f"{place} is {record.holder}, but {vms_text} has it, since {claims[0].evidence}; it stays reserved"
            )
            fix = f"`kubectl yoshi ips release {network.full_name} {address}` and rebuild again to change that"
            return replace(entry, reason="a person reserved it", contradictions=(f"{summary} ({fix})",))
        if record is not None and not record.is_known:
            evidence = f"{vms_text} has it, since {claims[0].evidence}"
            summary = f"{place} is {record.holder}'s, and {UNKNOWN_KIND_REASON}; {evidence}"
            return replace(entry, reason="a newer version recorded it", contradictions=(summary,))
        winner = claims[0]
        expected, reason = self._expected_record(winner, record), deciding_reason(claims)
        contradictions = [self._contradiction_text(place, claim, winner, reason) for claim in claims[1:]]
        contradictions += [f"{place} is {winner.vm.full_name}'s, but {use.ref} uses it too" for use in unclaimed_uses
                           if _contradicts_winner(use, winner)]  # fmt: skip
        needs_update = (
            number in self.stale_records
            or number in self.allocations.legacy_allocations
            or not _is_same(record, expected)
        )
        return replace(
            entry, expected=expected, reason=reason, needs_update=needs_update, contradictions=tuple(contradictions)
        )

    def _infra_entry(self, entry: ExpectedAllocation, use: AddressUse) -> ExpectedAllocation:
        """The verdict on an address that the network itself has."""
        record, network = entry.record, self.network
        since, note = (record.since, record.note) if record else ("", self.backend.infra_address_purpose(network) or "")
        expected = Allocation(NETWORK, network.namespace, network.name, network.uid, since=since, note=note)
        needs_update = entry.needs_update or not _is_same(record, expected)
        return replace(entry, expected=expected, reason=f"{use.ref} has it", needs_update=needs_update)

    def _expected_record(self, winner: Claim, record: Allocation | None) -> Allocation:
        """The record that the keeper should have; what it already says of this VM's MAC address and time stays."""
        vm = winner.vm
        interface_mac, template_mac = self.backend.macs_of(vm, self.network)
        mac, since, note = interface_mac or template_mac, "", ""
        if record is not None and (winner.is_recorded or winner.is_recorded_by_name):
            mac, since, note = mac or record.mac, record.since, record.note
        return Allocation(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac, since, note)

    def _contradiction_text(self, place: str, claim: Claim, winner: Claim, reason: str) -> str:
        name, network = claim.vm.name, self.network.relative_name(claim.vm.namespace)
        flag = "--network" if self.backend.pins_vm_template else "--public-network"
        fix = f"`kubectl yoshi vm detach {name} -n {claim.vm.namespace} {flag} {network}`, then attach it again"
        has = f"{winner.vm.full_name} keeps it, since {reason}; {claim.vm.full_name} has it too, since {claim.evidence}"
        return f"{place}: {has} ({fix})"


def _contradicts_winner(use: AddressUse, winner: Claim) -> bool:
    """Whether a use that is no living VM's contradicts the keeper's: what runs does, and what is held unless the keeper
    runs, whose own holding the back-end may not have put down to a VM."""
    return use.kind in ACTIVE or (use.kind is UsageKind.HELD_BY_BACKEND and winner.find_use(*ACTIVE) is None)


def _is_same(record: Allocation | None, expected: Allocation) -> bool:
    """Whether the ledger says already what it should; a MAC address only where the VM tells one."""
    if record is None or not isinstance(record.as_written, Mapping):
        return False
    return (record.kind, record.namespace, record.name, record.uid, record.mac) == (
        expected.kind, expected.namespace, expected.name, expected.uid, expected.mac,
    )  # fmt: skip


def _multiple_addresses_text(
    name: NamespacedName, won: Sequence[tuple[ExpectedAllocation, Claim]], network: Network
) -> str:
    """A VM that has several addresses of one network (invariant I3)."""
    listed = ", ".join(f"{entry.address} ({claim.evidence})" for entry, claim in won)
    return (
        f"VM {'/'.join(name)} has {len(won)} addresses of network {network.full_name}: {listed}; all are recorded "
        "until it does not run with the other any more (restart it)"
    )


@dataclass(frozen=True)
class Claim:
    """A VM's claim to an address: the VM exists and uses the address.

    That is, it runs with it, its template has it, or it asks for the network while the back-end keeps the address for
    it. The rules by which one of several claims wins are the same on every machine. That VM keeps the address

    1. which runs with it, or whose address is announced: what is so now counts more than what is only written;
    2. which the ledger gives it to, by its uid;
    3. for which the back-end's own bookkeeping keeps it;
    4. which the ledger gives it to by its name alone, as after a restore that made every uid anew;
    5. which is older, then whose uid comes first.

    Attributes:
        vm: whose.
        address_uses: what shows it.
        record: what the ledger says of the address, whoever it names.
    """

    vm: Vm
    address_uses: tuple[AddressUse, ...]
    record: Allocation | None

    def find_use(self, *how: UsageKind) -> AddressUse | None:
        """The first thing that shows it in one of these ways."""
        return next((use for use in self.address_uses if use.kind in how), None)

    @property
    def is_recorded(self) -> bool:
        """Whether the ledger gives the address to this very VM."""
        return self.record is not None and bool(self.record.uid) and self.record.uid == self.vm.uid

    @property
    def is_recorded_by_name(self) -> bool:
        """Whether the ledger gives it to a VM of this name."""
        record = self.record
        return (
            record is not None
            and record.kind == VIRTUALMACHINE
            and (record.namespace, record.name) == (self.vm.namespace, self.vm.name)
        )

    @property
    def evidence(self) -> str:
        """What shows it best, in words that follow "since"."""
        if use := self.find_use(*ACTIVE):
            return f"{use.ref} runs with it" if use.kind is UsageKind.RUNNING else f"{use.ref} is announced"
        use = self.find_use(UsageKind.REQUESTED)
        if use is not None:
            return f"{use.ref} carries it" if use.ref != self.vm.ref else "it is written on the VM"
        return f"{self.address_uses[0].ref} holds it for the VM, which asks for the network"

    def ranking(self) -> tuple[tuple[object, str], ...]:
        """How it ranks by each rule, the lower the stronger, and the rule's words where it decides."""
        held = self.find_use(UsageKind.HELD_BY_BACKEND)
        created_at = str(metadata(self.vm.raw).get("creationTimestamp") or "9999")
        return (
            (self.find_use(*ACTIVE) is None, self.evidence),
            (not self.is_recorded, "the ledger has it for this VM, by its uid"),
            (held is None, f"{held.ref} holds it for this VM" if held else ""),
            (not self.is_recorded_by_name, "the ledger has it for a VM of this name"),
            (created_at, f"this VM is older (made {created_at})"),
            (self.vm.uid, "its uid comes first"),
        )


def rank_claims(
    address_uses: Iterable[AddressUse],
    record: Allocation | None,
    vms: Mapping[NamespacedName, Vm],
    requesting: Collection[NamespacedName],
) -> tuple[list[Claim], list[AddressUse]]:
    """The claims to an address, the strongest first, and the uses of it that are no living VM's.

    Args:
        address_uses: all that was seen of the address.
        record: what the ledger says of it.
        vms: every VM that exists.
        requesting: the VMs that ask for the network by their annotations.
    """
    uses_by_vm: dict[NamespacedName, list[AddressUse]] = {}
    unclaimed_uses: list[AddressUse] = []
    for use in address_uses:
        vm = vms.get((use.namespace, use.name))
        if vm is not None and use.is_for_vm(vm.namespace, vm.name, vm.uid):
            uses_by_vm.setdefault((vm.namespace, vm.name), []).append(use)
        else:
            unclaimed_uses.append(use)
    claims = [
        Claim(vms[name], tuple(vm_uses), record)
        for name, vm_uses in uses_by_vm.items()
        if name in requesting or any(use.kind is not UsageKind.HELD_BY_BACKEND for use in vm_uses)
    ]
    return sorted(claims, key=lambda claim: [rank for rank, _ in claim.ranking()]), unclaimed_uses


def deciding_reason(claims: Sequence[Claim]) -> str:
    """Why the first of these claims is the strongest, in words that follow "since"."""
    first, *others = claims
    if others:
        for (own_rank, explanation), (other_rank, _) in zip(first.ranking(), others[0].ranking(), strict=True):
            if own_rank != other_rank:
                return explanation
    return first.evidence
