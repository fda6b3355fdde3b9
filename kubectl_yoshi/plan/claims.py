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

from kubectl_yoshi.model.backend import How, Use
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Record
from kubectl_yoshi.model.objects import Name, metadata
from kubectl_yoshi.model.vm import Vm

NOW = (How.RUNNING, How.SERVED)


@dataclass(frozen=True)
class Claim:
    """A VM's claim to an address.

    Attributes:
        vm: whose.
        uses: what shows it.
        record: what the ledger says of the address, whoever it names.
    """

    vm: Vm
    uses: tuple[Use, ...]
    record: Record | None

    def shown_by(self, *how: How) -> Use | None:
        """The first thing that shows it in one of these ways."""
        return next((use for use in self.uses if use.how in how), None)

    @property
    def is_recorded(self) -> bool:
        """Whether the ledger gives the address to this very VM."""
        return self.record is not None and bool(self.record.uid) and self.record.uid == self.vm.uid

    @property
    def is_named(self) -> bool:
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
        if use := self.shown_by(*NOW):
            return f"{use.ref} runs with it" if use.how is How.RUNNING else f"{use.ref} is announced"
        use = self.shown_by(How.WANTED)
        if use is not None:
            return f"{use.ref} carries it" if use.ref != self.vm.ref else "it is written on the VM"
        return f"{self.uses[0].ref} holds it for the VM, which asks for the network"

    def reasons(self) -> tuple[tuple[object, str], ...]:
        """How it ranks by each rule, the lower the stronger, and the rule's words where it decides."""
        held = self.shown_by(How.HELD)
        born = str(metadata(self.vm.raw).get("creationTimestamp") or "9999")
        return (
            (self.shown_by(*NOW) is None, self.evidence),
            (not self.is_recorded, "the ledger has it for this VM, by its uid"),
            (held is None, f"{held.ref} holds it for this VM" if held else ""),
            (not self.is_named, "the ledger has it for a VM of this name"),
            (born, f"this VM is older (made {born})"),
            (self.vm.uid, "its uid comes first"),
        )


def claims_to(
    uses: Iterable[Use], record: Record | None, vms: Mapping[Name, Vm], asking: Collection[Name]
) -> tuple[list[Claim], list[Use]]:
    """The claims to an address, the strongest first, and the uses of it that are no living VM's.

    Args:
        uses: all that was seen of the address.
        record: what the ledger says of it.
        vms: every VM that exists.
        asking: the VMs that ask for the network by their annotations.
    """
    of_vms: dict[Name, list[Use]] = {}
    strangers: list[Use] = []
    for use in uses:
        vm = vms.get((use.namespace, use.name))
        if vm is not None and use.is_of(vm.namespace, vm.name, vm.uid):
            of_vms.setdefault((vm.namespace, vm.name), []).append(use)
        else:
            strangers.append(use)
    claims = [
        Claim(vms[name], tuple(mine), record)
        for name, mine in of_vms.items()
        if name in asking or any(use.how is not How.HELD for use in mine)
    ]
    return sorted(claims, key=lambda claim: [rank for rank, _ in claim.reasons()]), strangers


def why_first(claims: Sequence[Claim]) -> str:
    """Why the first of these claims is the strongest, in words that follow "since"."""
    first, *others = claims
    if others:
        for (mine, words), (theirs, _) in zip(first.reasons(), others[0].reasons(), strict=True):
            if mine != theirs:
                return words
    return first.evidence
