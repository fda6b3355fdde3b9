"""What the ledger of a network should say, reckoned from everything that exists, and what contradicts itself in it.

The ledger itself is only one witness: after a restore it may be missing, or older than the VMs. What it alone knows is
kept: reservations, and records whose address nothing uses (`ips gc` gives those back, with its own care).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.backend import Backend, How, Use
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import NETWORK, ONLY_A_NEWER_ONE, RESERVATION, VIRTUALMACHINE, Ledger, Record, Shelf
from kubectl_yoshi.model.network import Network, parse_network_name
from kubectl_yoshi.model.objects import Json, Name
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.books import blocks_of_earlier, open_whole
from kubectl_yoshi.plan.claims import NOW, Claim, claims_to, why_first

ASK_FOR_REBUILD = (
    "Let an administrator run it: it needs to see the VMs of every namespace (ClusterRole yoshi-admin, bound by a "
    "ClusterRoleBinding)."
)


@dataclass(frozen=True)
class Verdict:
    """What the ledger should say of an address.

    Attributes:
        number, address: which.
        record: what it says; None for nothing.
        should: what it should say, without a time; None for nothing.
        why: in words that follow "since"; "" where nothing is claimed.
        differs: it must be written.
        contradictions: what cannot all be true, a sentence each.
    """

    number: int
    address: str
    record: Record | None
    should: Record | None
    why: str = ""
    differs: bool = False
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reckoning:
    """What the ledger of a network should say.

    Attributes:
        network: which.
        ledger: as it is; the place of a stale block is empty.
        stale: blocks of an earlier network of this name, which are to be made anew.
        verdicts: of every address that is recorded or used, in order.
        contradictions: besides those of single addresses.
        idle: addresses recorded for VMs that do not use them.
    """

    network: Network
    ledger: Ledger
    stale: Mapping[Shelf, Json] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    contradictions: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def different(self) -> list[Verdict]:
        """What must be written."""
        return [verdict for verdict in self.verdicts if verdict.differs]

    def contradictions_besides(self, numbers: Collection[int]) -> list[str]:
        """All of them but those of some addresses, each a sentence that begins with the address or the VM."""
        verdicts = [verdict for verdict in self.verdicts if verdict.number not in numbers]
        return [*(text for verdict in verdicts for text in verdict.contradictions), *self.contradictions]


def reckon(
    network: Network,
    backend: Backend,
    vms: Mapping[Name, Vm],
    facts: Facts,
    everywhere: bool = False,
    within: tuple[str, ...] | None = None,
    partial: bool = False,
) -> Reckoning:
    """What the network's ledger should say.

    Args:
        network: which.
        backend: its back-end.
        vms: every VM that exists.
        facts: what was read.
        everywhere: blocks of all namespaces were or will be read by one list.
        within: look at VMs of these namespaces only, as far as they may be seen; None for all of them.
        partial: what cannot be seen is left out.

    Raises:
        NeedMore: more must be read first.
        Refused: something that may use an address cannot be seen: unknown is not absent; not where `partial`.
    """
    ledger, stale = _ledger(network, facts, everywhere)
    uses: dict[int, list[Use]] = {}
    for use in backend.survey(network, within, facts):
        uses.setdefault(use.number, []).append(use)
    if not partial and within is None and (unseen := facts.unknowns()):
        raise Refused(f"who uses addresses of network {network.full_name} cannot be told: {unseen[0]}", ASK_FOR_REBUILD)
    lost = Ledger(network, stale).records()
    records = {**lost, **ledger.records()}
    asking = frozenset(name for name, vm in vms.items() if _asks_for(vm, network, backend))
    desk = _Desk(network, backend, ledger, lost, vms, asking)
    verdicts: list[Verdict] = []
    kept: dict[Name, list[tuple[Verdict, Claim]]] = {}
    idle = []
    for number in sorted({*records, *uses}):
        record = records.get(number)
        claims, strangers = claims_to(uses.get(number, ()), record, vms, asking)
        verdict = desk.verdict(number, record, claims, strangers)
        verdicts.append(verdict)
        if claims and verdict.should is not None and verdict.should.uid == claims[0].vm.uid:
            kept.setdefault((claims[0].vm.namespace, claims[0].vm.name), []).append((verdict, claims[0]))
        elif not claims and record is not None and record.kind == VIRTUALMACHINE:
            idle.append(verdict.address)
    several = tuple(_several(name, mine, network) for name, mine in kept.items() if len(mine) > 1)
    return Reckoning(network, ledger, stale, tuple(verdicts), several, tuple(idle))


def _ledger(network: Network, facts: Facts, everywhere: bool) -> tuple[Ledger, dict[Shelf, Json]]:
    """The ledger, and the blocks in its way that say they belong to an earlier network of this name.

    A restore gives the network a new uid. Kubernetes collects blocks whose owner is gone, unless the restore has
    dropped their ownerReferences; then they stay, and must be made anew since a block's spec never changes.
    """
    stale = blocks_of_earlier(network, facts, everywhere)
    return open_whole(network, facts, everywhere).with_objects(dict.fromkeys(stale)), stale


def _asks_for(vm: Vm, network: Network, backend: Backend) -> bool:
    try:
        names = [parse_network_name(text, vm.namespace) for text in backend.wishes(vm).networks]
    except UsageMistake:
        return False
    return (network.namespace, network.name) in names


@dataclass(frozen=True)
class _Desk:
    """What is at hand while the addresses of one network are judged."""

    network: Network
    backend: Backend
    ledger: Ledger
    lost: Mapping[int, Record]
    vms: Mapping[Name, Vm]
    asking: frozenset[Name]

    def verdict(self, number: int, record: Record | None, claims: Sequence[Claim], strangers: Sequence[Use]) -> Verdict:
        network, address = self.network, self.ledger.address(number)
        here = f"{address} on network {network.full_name}"
        verdict = Verdict(number, str(address), record, record, differs=number in self.lost)
        own = next((use for use in strangers if use.is_own_of(network)), None)
        if not claims and own is not None and (record is None or record.kind == NETWORK):
            return self._own(verdict, own)
        if not claims:
            return verdict
        who = " and ".join(claim.vm.subject for claim in claims)
        if why_not := network.why_not_usable(address):
            says = f"{here} is {who}'s, since {claims[0].evidence}, but it is never given out: {why_not}"
            kept = "it is not recorded" if record is None else f"it stays recorded for {record.holder}"
            return replace(verdict, contradictions=(f"{says}; {kept}",))
        if record is not None and record.kind == RESERVATION:
            says = f"{here} is {record.holder}, but {who} has it, since {claims[0].evidence}; it stays reserved"
            mend = f"`kubectl yoshi ips release {network.full_name} {address}` and rebuild again to change that"
            return replace(verdict, why="a person reserved it", contradictions=(f"{says} ({mend})",))
        if record is not None and not record.is_known:
            says = f"{here} is {record.holder}'s, and {ONLY_A_NEWER_ONE}; {who} has it, since {claims[0].evidence}"
            return replace(verdict, why="a newer version recorded it", contradictions=(says,))
        keeper = claims[0]
        should, why = self._record(keeper, record), why_first(claims)
        contradictions = [self._loses(here, claim, keeper, why) for claim in claims[1:]]
        contradictions += [f"{here} is {keeper.vm.subject}'s, but {use.ref} uses it too" for use in strangers
                           if _is_in_the_way(use, keeper)]  # fmt: skip
        differs = number in self.lost or number in self.ledger.unmoved or not _same(record, should)
        return replace(verdict, should=should, why=why, differs=differs, contradictions=tuple(contradictions))

    def _own(self, verdict: Verdict, use: Use) -> Verdict:
        """The verdict on an address that the network itself has."""
        record, network = verdict.record, self.network
        since, note = (record.since, record.note) if record else ("", self.backend.own_use(network) or "")
        should = Record(NETWORK, network.namespace, network.name, network.uid, since=since, note=note)
        differs = verdict.differs or not _same(record, should)
        return replace(verdict, should=should, why=f"{use.ref} has it", differs=differs)

    def _record(self, keeper: Claim, record: Record | None) -> Record:
        """The record that the keeper should have; what it already says of this VM's MAC address and time stays."""
        vm = keeper.vm
        own, written = self.backend.macs_of(vm, self.network)
        mac, since, note = own or written, "", ""
        if record is not None and (keeper.is_recorded or keeper.is_named):
            mac, since, note = mac or record.mac, record.since, record.note
        return Record(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac, since, note)

    def _loses(self, here: str, claim: Claim, keeper: Claim, why: str) -> str:
        name, network = claim.vm.name, self.network.called_from(claim.vm.namespace)
        flag = "--network" if self.backend.on_template else "--public-network"
        mend = f"`kubectl yoshi vm detach {name} -n {claim.vm.namespace} {flag} {network}`, then attach it again"
        has = f"{keeper.vm.subject} keeps it, since {why}; {claim.vm.subject} has it too, since {claim.evidence}"
        return f"{here}: {has} ({mend})"


def _is_in_the_way(use: Use, keeper: Claim) -> bool:
    """Whether a use that is no living VM's contradicts the keeper's: what runs does, and what is held unless the keeper
    runs, whose own holding the back-end may not have put down to a VM."""
    return use.how in NOW or (use.how is How.HELD and keeper.shown_by(*NOW) is None)


def _same(record: Record | None, should: Record) -> bool:
    """Whether the ledger says already what it should; a MAC address only where the VM tells one."""
    if record is None or not isinstance(record.as_written, Mapping):
        return False
    return (record.kind, record.namespace, record.name, record.uid, record.mac) == (
        should.kind, should.namespace, should.name, should.uid, should.mac,
    )  # fmt: skip


def _several(name: Name, mine: Sequence[tuple[Verdict, Claim]], network: Network) -> str:
    """A VM that has several addresses of one network (invariant I3)."""
    listed = ", ".join(f"{verdict.address} ({claim.evidence})" for verdict, claim in mine)
    return (
        f"VM {'/'.join(name)} has {len(mine)} addresses of network {network.full_name}: {listed}; all are recorded "
        "until it does not run with the other any more (restart it)"
    )
