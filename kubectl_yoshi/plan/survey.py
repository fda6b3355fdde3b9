"""What the ledger says joined with what is true: a row for every address that somebody holds, wants or uses."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.backend import Backend, How, Trouble, Use
from kubectl_yoshi.model.facts import Facts, Read, both
from kubectl_yoshi.model.ledger import NETWORK, RESERVATION, VIRTUALMACHINE, Ledger, Record
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Name, Resource
from kubectl_yoshi.model.vm import VM, VMI, Vm, instance_of
from kubectl_yoshi.plan.attempt import age_in_seconds
from kubectl_yoshi.plan.books import open_whole

YOUNG_SECONDS = 120.0
"""A record younger than this may belong to an attachment that is under way."""


class State(enum.Enum):
    """What an address is."""

    BOUND = "bound"  # recorded, on the VM's template, and the VM runs with it or does not run
    PENDING = "pending"  # recorded a moment ago and not on the VM's template yet; or nothing announces it yet
    CONFLICT = "conflict"  # the back-end would give the VM another address, or keeps it from starting
    RESTART_NEEDED = "restart needed"  # the running VM does not have what its template says, or has what it does not
    ORPHANED = "orphaned"  # recorded for a VM that is gone, or that does not want it
    RESERVED = "reserved"  # recorded by a person
    LENT = "lent"  # a machine that has no address of its own has it for a time
    COOLING = "cooling down"  # nobody has it, and the back-end does not give it out again yet
    UNRECORDED = "unrecorded"  # used, but the ledger does not say so
    UNKNOWN = "unknown"  # what would tell may not be read


@dataclass(frozen=True)
class Row:
    """An address and what is known of it.

    Attributes:
        network: whose address.
        address: as text.
        number: for sorting.
        state: see State.
        record: what the ledger says; None where it says nothing.
        uses: what the cluster shows.
        vm: the VM that the record names, as it is now; None where there is none (of that uid).
        running: a VMI or pod runs with the address; for one that is beside the VM, the VM runs.
        troubles: what the back-end's own bookkeeping keeps from the VM.
    """

    network: Network
    address: str
    number: int
    state: State
    record: Record | None
    uses: tuple[Use, ...]
    vm: Vm | None
    running: bool
    troubles: tuple[Trouble, ...] = ()

    @property
    def holder(self) -> str:
        """Who has it, for people."""
        if self.record is not None:
            return self.record.holder
        named = [f"{use.namespace}/{use.name}" for use in self.uses if use.name]
        return named[0] if named else str(self.uses[0].ref) if self.uses else ""


def survey(
    network: Network, backend: Backend, facts: Facts, now: datetime, everywhere: bool, exact: bool = False
) -> tuple[Row, ...]:
    """Every address of a network that is recorded or used, in order.

    Args:
        network: which.
        backend: its back-end.
        facts: what was read.
        now: to tell a young record.
        everywhere: look at the VMs of all namespaces; otherwise of those that the ledger names, and the network's.
        exact: look at all namespaces for uses that the ledger does not know.

    Raises:
        NeedMore: more must be read first.
    """
    namespaces: tuple[str, ...] | None = None if everywhere or exact else (network.namespace,)
    ledger, (found, troubles) = both(
        lambda: open_whole(network, facts, everywhere),
        lambda: both(
            lambda: backend.survey(network, namespaces, facts), lambda: backend.troubles(network, namespaces, facts)
        ),
    )
    if namespaces is not None:
        named = {r.namespace for r in ledger.records().values() if r.kind == VIRTUALMACHINE}
        if named - {*namespaces}:
            namespaces = tuple(sorted({network.namespace, *named}))
            found = backend.survey(network, namespaces, facts)
            troubles = backend.troubles(network, namespaces, facts)
    records = ledger.records()
    uses: dict[int, list[Use]] = {}
    for use in found:
        uses.setdefault(use.number, []).append(use)
    seen = _Sight(facts, now, _unseen(VM, namespaces, facts), _unseen(VMI, namespaces, facts), _by_vm(troubles))
    return tuple(
        _row(network, backend.on_template, ledger, number, records.get(number), tuple(uses.get(number, ())), seen)
        for number in sorted({*records, *uses})
    )


def troubles_besides(network: Network, backend: Backend, rows: Iterable[Row], facts: Facts) -> list[Trouble]:
    """What the back-end's own bookkeeping keeps from VMs that no row of a network's survey tells of.

    Args:
        network, backend: which.
        rows: the survey, in which all namespaces were looked at.
        facts: what was read.

    Raises:
        NeedMore: more must be read first.
    """
    told = {trouble for row in rows for trouble in row.troubles}
    return [trouble for trouble in backend.troubles(network, None, facts) if trouble not in told]


def _by_vm(troubles: Iterable[Trouble]) -> dict[Name, tuple[Trouble, ...]]:
    found: dict[Name, tuple[Trouble, ...]] = {}
    for trouble in troubles:
        vm = (trouble.namespace, trouble.name)
        found[vm] = (*found.get(vm, ()), trouble)
    return found


@dataclass(frozen=True)
class _Sight:
    """What can be seen.

    Attributes:
        facts: what was read.
        now: when.
        hidden_vms, hidden_instances: the namespaces in which they may not be read; None for all.
        troubles: by the VM's namespace and name.
    """

    facts: Facts
    now: datetime
    hidden_vms: frozenset[str] | None
    hidden_instances: frozenset[str] | None
    troubles: Mapping[Name, tuple[Trouble, ...]]

    def hides_vms_of(self, namespace: str) -> bool:
        """Whether the VMs of a namespace may not be read."""
        return self.hidden_vms is None or namespace in self.hidden_vms

    def hides_instances_of(self, namespace: str) -> bool:
        """Whether the instances of a namespace may not be read."""
        return self.hidden_instances is None or namespace in self.hidden_instances


def _unseen(kind: Resource, namespaces: tuple[str, ...] | None, facts: Facts) -> frozenset[str] | None:
    """The namespaces whose objects of a kind may not be read; None for all of them."""
    if namespaces is None:
        return None if facts.why_unknown(Read(kind)) else frozenset()
    return frozenset(namespace for namespace in namespaces if facts.why_unknown(Read(kind), Read(kind, namespace)))


def _row(
    network: Network,
    on_template: bool,
    ledger: Ledger,
    number: int,
    record: Record | None,
    uses: tuple[Use, ...],
    seen: _Sight,
) -> Row:
    found = seen.facts.one(VM, record.name, record.namespace) if record else None
    vm = Vm(found) if found else None
    if vm is not None and record is not None and record.uid and vm.uid != record.uid:
        vm = None
    state = _state(on_template, record, uses, vm, seen)
    running = any(use.how is How.RUNNING for use in uses)
    if not on_template and vm is not None:
        running = instance_of(vm, seen.facts) is not None
    troubles = seen.troubles.get((record.namespace, record.name), ()) if record and vm else ()
    if troubles and state is State.BOUND:
        state = State.CONFLICT
    return Row(network, str(ledger.address(number)), number, state, record, uses, vm, running, troubles)


def _state(on_template: bool, record: Record | None, uses: tuple[Use, ...], vm: Vm | None, seen: _Sight) -> State:
    if record is None and all(use.cools_down for use in uses):
        return State.COOLING
    if record is None:
        return State.LENT if all(use.how is How.LENT for use in uses) else State.UNRECORDED
    if record.kind in (RESERVATION, NETWORK):
        return State.RESERVED
    mine = [use for use in uses if use.is_of(record.namespace, record.name, record.uid)]
    wanted = any(use.how is How.WANTED for use in mine)
    runs = any(use.how is How.RUNNING for use in mine)
    if seen.hides_vms_of(record.namespace):
        return State.UNKNOWN
    if vm is not None and wanted and not on_template:
        return State.BOUND if any(use.how is How.SERVED for use in mine) else State.PENDING
    if vm is not None and wanted:
        if not runs and seen.hides_instances_of(record.namespace):
            return State.UNKNOWN
        running_at_all = instance_of(vm, seen.facts) is not None
        return State.RESTART_NEEDED if running_at_all and not runs else State.BOUND
    if runs:
        return State.RESTART_NEEDED
    if seen.hides_instances_of(record.namespace):
        return State.UNKNOWN
    if vm is not None and age_in_seconds(record.since, seen.now) < YOUNG_SECONDS:
        return State.PENDING
    return State.ORPHANED


def disagreements(rows: Iterable[Row]) -> list[tuple[Row, str]]:
    """Everything in a survey that is not as it should be, a sentence each (`ips check`)."""
    found: list[tuple[Row, str]] = []
    for row in rows:
        found += [(row, sentence) for sentence in _wrong_with(row)]
    return found


def _all_use_it(uses: Iterable[Use]) -> str:
    """That these use an address, each object once: "a uses it", "a, b and c use it"."""
    *others, last = dict.fromkeys(str(use.ref) for use in uses)
    return f"{', '.join(others)} and {last} use it" if others else f"{last} uses it"


def _wrong_with(row: Row) -> list[str]:
    says = f"{row.address} on {row.network.full_name}"
    if row.state is State.UNRECORDED:
        return [f"{says}: {_all_use_it(row.uses)}, but the ledger does not say so"]
    if row.record is None or row.state is State.UNKNOWN:
        return []
    others = (use for use in row.uses if not use.is_of(row.record.namespace, row.record.name, row.record.uid))
    shared = [f"{says}: recorded for {row.holder}, but {use.cools_down or f'{use.ref} uses it too'}" for use in others]
    wrong = [f"{says}: {trouble}" for trouble in row.troubles]
    if row.state is State.PENDING:
        return wrong + shared
    if row.state is State.ORPHANED:
        why = "the VM is gone" if row.vm is None else f"{row.vm.ref} does not want it"
        wrong.append(f"{says}: recorded for {row.holder}, but {why}")
    if row.state is State.RESTART_NEEDED and not row.troubles:
        wrong.append(f"{says}: {row.holder} does not run as its template says; it needs a restart")
    if row.record.kind == VIRTUALMACHINE and not isinstance(row.record.as_written, Mapping):
        wrong.append(f"{says}: recorded in the original's form, without the VM's uid; attach {row.holder} again")
    if why_not := row.network.why_not_usable(parse_address(row.address)):
        wrong.append(f"{says}: recorded for {row.holder}, but {why_not}")
    return wrong + shared
