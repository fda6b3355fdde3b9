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
    "Ask an administrator to run this command: it must read the VMs of all namespaces (ClusterRole yoshi-admin, bound "
    "by a ClusterRoleBinding)."
)
ACTIVE = (UsageKind.RUNNING, UsageKind.ANNOUNCED)


@dataclass(frozen=True)
class ExpectedAllocation:
    """The expected allocation of an address.

    Attributes:
        record: the current allocation; None if there is none.
        expected: the allocation that it should have, without a time; None for none.
        reason: why, in words that follow "since"; "" if no VM claims the address.
        needs_update: it must be written.
        contradictions: a sentence for each.
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
    """The expected allocations of a network.

    Attributes:
        allocations: the current ones; the shard of a stale block has no object.
        stale: blocks of an earlier network of this name, which must be recreated.
        entries: one for each address that is recorded or used, in order.
        contradictions: those that do not belong to a single address.
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
        """Return the entries that must be written."""
        return [entry for entry in self.entries if entry.needs_update]

    def contradictions_except(self, numbers: Collection[int]) -> list[str]:
        """Return all contradictions but those of some addresses; each begins with the address or the VM."""
        entries = [entry for entry in self.entries if entry.number not in numbers]
        return [*(text for entry in entries for text in entry.contradictions), *self.contradictions]


@dataclass(frozen=True)
class AuditScope:
    """What an audit reads.

    Attributes:
        all_namespaces: read the blocks of all namespaces with one list.
        namespaces: consider only VMs of these namespaces, as far as they can be read; None for all namespaces.
        partial: omit what cannot be read.
    """

    all_namespaces: bool = False
    namespaces: tuple[str, ...] | None = None
    partial: bool = False


def audit_allocations(
    network: Network, backend: Backend, vms: Mapping[NamespacedName, Vm], snapshot: Snapshot, scope: AuditScope
) -> AllocationAudit:
    """Compute the expected allocations of a network.

    Args:
        network: the network.
        backend: its backend.
        vms: every VM that exists.
        snapshot: the state of the cluster.
        scope: what to read.

    Raises:
        PreconditionFailed: something that may use an address cannot be read, which does not mean that it does not
            exist; not raised if the scope is `partial`.
    """
    allocations, stale = _load_allocations(network, snapshot, scope.all_namespaces)
    address_uses: dict[int, list[AddressUse]] = {}
    for use in backend.all_address_uses(network, scope.namespaces, snapshot):
        address_uses.setdefault(use.number, []).append(use)
    if not scope.partial and scope.namespaces is None and (unreadable := snapshot.unreadable_reasons()):
        raise PreconditionFailed(
            f"cannot determine who uses addresses of network {network.full_name}: {unreadable[0]}", ADMIN_REBUILD_HINT
        )
    stale_records = Allocations(network, stale).records()
    records = {**stale_records, **allocations.records()}
    requesting = frozenset(name for name, vm in vms.items() if _requests_network(vm, network, backend))
    auditor = _Auditor(network, backend, allocations, stale_records)
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
    """Return the allocations, and the blocks of an earlier network of this name that occupy their names.

    A restored network has a new uid. Kubernetes garbage-collects blocks whose owner no longer exists, unless the
    restore dropped their ownerReferences. Such blocks stay, and must be recreated, since the spec of a block is
    immutable.
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
    """The state that is needed to audit the addresses of one network."""

    network: Network
    backend: Backend
    allocations: Allocations
    stale_records: Mapping[int, Allocation]

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
            summary = f"{place} belongs to {vms_text}, since {claims[0].evidence}, but it is never assigned: {why_not}"
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
            summary = f"{place} is recorded for {record.holder}: {UNKNOWN_KIND_REASON}; {evidence}"
            return replace(entry, reason="a newer version recorded it", contradictions=(summary,))
        winner = claims[0]
        expected, reason = self._expected_record(winner, record), deciding_reason(claims)
        contradictions = [self._contradiction_text(place, claim, winner, reason) for claim in claims[1:]]
        contradictions += [
            f"{place} belongs to {winner.vm.full_name}, but {use.ref} uses it too"
            for use in unclaimed_uses
            if _contradicts_winner(use, winner)
        ]
        needs_update = number in self.stale_records or not _is_same(record, expected)
        return replace(
            entry, expected=expected, reason=reason, needs_update=needs_update, contradictions=tuple(contradictions)
        )

    def _infra_entry(self, entry: ExpectedAllocation, use: AddressUse) -> ExpectedAllocation:
        """Return the entry of an address that the network itself has."""
        record, network = entry.record, self.network
        since, note = (record.since, record.note) if record else ("", self.backend.infra_address_purpose(network) or "")
        expected = Allocation(NETWORK, network.namespace, network.name, network.uid, since=since, note=note)
        needs_update = entry.needs_update or not _is_same(record, expected)
        return replace(entry, expected=expected, reason=f"{use.ref} has it", needs_update=needs_update)

    def _expected_record(self, winner: Claim, record: Allocation | None) -> Allocation:
        """Return the record that the winner should have; what its current one has besides the holder stays."""
        vm = winner.vm
        interface_mac, template_mac = self.backend.macs_of(vm, self.network)
        mac = interface_mac or template_mac
        expected = Allocation(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac)
        if record is None or not (winner.is_recorded or winner.is_recorded_by_name):
            return expected
        return replace(
            expected, mac=mac or record.mac, since=record.since, note=record.note, reserved_for=record.reserved_for
        )

    def _contradiction_text(self, place: str, claim: Claim, winner: Claim, reason: str) -> str:
        name, network = claim.vm.name, self.network.relative_name(claim.vm.namespace)
        flag = "--network" if self.backend.pins_vm_template else "--public-network"
        fix = f"`kubectl yoshi vm detach {name} -n {claim.vm.namespace} {flag} {network}`, then attach it again"
        has = f"{winner.vm.full_name} keeps it, since {reason}; {claim.vm.full_name} has it too, since {claim.evidence}"
        return f"{place}: {has} ({fix})"


def _contradicts_winner(use: AddressUse, winner: Claim) -> bool:
    """Return whether a use that belongs to no existing VM contradicts the winner.

    A running or announced use does. A hold of the backend does too, unless the winner runs or is
    announced: the backend may not attribute the winner's own hold to a VM.
    """
    return use.kind in ACTIVE or (use.kind is UsageKind.HELD_BY_BACKEND and winner.find_use(*ACTIVE) is None)


def _is_same(record: Allocation | None, expected: Allocation) -> bool:
    """Return whether the record is as expected, including its MAC address, and need not be converted."""
    if record is None or record.is_legacy:
        return False
    return (record.kind, record.namespace, record.name, record.uid, record.mac) == (
        expected.kind, expected.namespace, expected.name, expected.uid, expected.mac,
    )  # fmt: skip


def _multiple_addresses_text(
    name: NamespacedName, won: Sequence[tuple[ExpectedAllocation, Claim]], network: Network
) -> str:
    """Return the contradiction of a VM that has several addresses of one network (invariant I3)."""
    listed = ", ".join(f"{entry.address} ({claim.evidence})" for entry, claim in won)
    return (
        f"VM {'/'.join(name)} has {len(won)} addresses of network {network.full_name}: {listed}; all stay recorded "
        "until it runs with one only (restart it)"
    )


@dataclass(frozen=True)
class Claim:
    """A VM's claim to an address: the VM exists and uses the address.

    It runs with the address, its template has the address, or it requests the network while the backend holds the
    address for it. The rules that decide between several claims are the same on every machine. The VM that keeps the
    address is the one

    1. that runs with it, or whose address is announced: the current state takes precedence over the configured one;
    2. to which it is allocated, by uid;
    3. for which the backend holds it;
    4. to which it is allocated by name only, as after a restore that changed every uid;
    5. that is older, then the one whose uid sorts first.

    Attributes:
        vm: the claiming VM.
        address_uses: the uses that show the claim.
        record: the current allocation of the address, for any holder.
    """

    vm: Vm
    address_uses: tuple[AddressUse, ...]
    record: Allocation | None

    def find_use(self, *how: UsageKind) -> AddressUse | None:
        """Return the first use of one of these kinds; None if there is none."""
        return next((use for use in self.address_uses if use.kind in how), None)

    @property
    def is_recorded(self) -> bool:
        """Return whether the address is allocated to this VM, by uid."""
        return self.record is not None and bool(self.record.uid) and self.record.uid == self.vm.uid

    @property
    def is_recorded_by_name(self) -> bool:
        """Return whether the address is allocated to a VM of this name."""
        record = self.record
        return (
            record is not None
            and record.kind == VIRTUALMACHINE
            and (record.namespace, record.name) == (self.vm.namespace, self.vm.name)
        )

    @property
    def evidence(self) -> str:
        """Return the strongest evidence, in words that follow "since"."""
        if use := self.find_use(*ACTIVE):
            return f"{use.ref} runs with it" if use.kind is UsageKind.RUNNING else f"{use.ref} is announced"
        use = self.find_use(UsageKind.REQUESTED)
        if use is not None:
            return f"{use.ref} has it" if use.ref != self.vm.ref else "it is set on the VM"
        return f"{self.address_uses[0].ref} holds it for the VM, which requests the network"

    def ranking(self) -> tuple[tuple[object, str], ...]:
        """Return for each rule the claim's rank, where lower is stronger, and the words used if the rule decides."""
        held = self.find_use(UsageKind.HELD_BY_BACKEND)
        created_at = str(metadata(self.vm.raw).get("creationTimestamp") or "9999")
        return (
            (self.find_use(*ACTIVE) is None, self.evidence),
            (not self.is_recorded, "it is recorded for this VM, by its uid"),
            (held is None, f"{held.ref} holds it for this VM" if held else ""),
            (not self.is_recorded_by_name, "it is recorded for a VM of this name"),
            (created_at, f"this VM is older (created {created_at})"),
            (self.vm.uid, "its uid comes first"),
        )


def rank_claims(
    address_uses: Iterable[AddressUse],
    record: Allocation | None,
    vms: Mapping[NamespacedName, Vm],
    requesting: Collection[NamespacedName],
) -> tuple[list[Claim], list[AddressUse]]:
    """Return the claims to an address, the strongest first, and its uses that belong to no existing VM.

    Args:
        address_uses: all uses of the address.
        record: its current allocation.
        vms: every VM that exists.
        requesting: the VMs that request the network by their annotations.
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
    """Return why the first of these claims is the strongest, in words that follow "since"."""
    first, *others = claims
    if others:
        for (own_rank, explanation), (other_rank, _) in zip(first.ranking(), others[0].ranking(), strict=True):
            if own_rank != other_rank:
                return explanation
    return first.evidence
