"""Who claims an address, and who of several keeps it: rules that are the same on every machine and can be told.

A claim is a VM that exists and uses the address: it runs with it, is made to have it, or asks for the network while
the back-end keeps the address for it. Of several, that VM keeps the address

1. which runs with it, or whose address the world can reach: what is so now beats what is only written;
2. which the ledger gives it to, by its uid;
3. for which the back-end's own bookkeeping keeps it;
4. which the ledger gives it to by its name alone, as after a restore that made every uid anew;
5. which is older, then whose uid comes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.backend import AddressUse, UsageKind
from kubectl_yoshi.model.objects import NamespacedName, metadata
from kubectl_yoshi.model.vm import Vm

ACTIVE = (UsageKind.RUNNING, UsageKind.ANNOUNCED)


@dataclass(frozen=True)
class Claim:
    """A VM's claim to an address.

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
