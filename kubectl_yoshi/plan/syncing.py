"""What there is to do to make true what networks and VM annotations ask for.

What nobody asks for any more stays: a VM whose wish annotation was removed keeps its address, as it did with the
original. Taking it away would be a silent detach after a slip of the hand; a note says how to do it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import VIRTUALMACHINE
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Name, Resource, dig, metadata, name_of, namespace_of
from kubectl_yoshi.model.vm import VM, Vm, instance_of, instance_reads
from kubectl_yoshi.plan.attempt import age_in_seconds
from kubectl_yoshi.plan.books import open_whole, sound_networks
from kubectl_yoshi.plan.restarts import START_AGAIN, is_stopping
from kubectl_yoshi.plan.sync_jobs import AttachJob, Job, LeftoversJob, NetworkJob, RepairJob, ResumeJob, TakeoverJob
from kubectl_yoshi.plan.takeovers import TakeoverRequest
from kubectl_yoshi.plan.wishes import Wish, attach_requests, wishes_of

RESTART_SECONDS = 330.0
"""A VM that another run has marked for a restart is left to it for so long: as long as that may wait, and some more."""


@dataclass(frozen=True)
class Scope:
    """What is to be looked at.

    Attributes:
        namespace: networks and VMs of this namespace; None for all.
        networks: only these; None for all of the namespace.
        vms: only these; None for all of the namespace.
        leftovers: look for what deleted networks (of that namespace) left in other places.
        restart: restart VMs that run without their address.
    """

    namespace: str | None
    networks: frozenset[Name] | None = None
    vms: frozenset[Name] | None = None
    leftovers: bool = True
    restart: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is everything that there is in the namespace, or anywhere."""
        return self.networks is None and self.vms is None


@dataclass(frozen=True)
class Agenda:
    """What a pass has to do.

    Attributes:
        stages: one after the other; a stage's jobs do not need each other.
        refusals: VMs whose wish cannot be understood, and why.
        later: VMs that another run is restarting just now.
        notes: for people, a line each.
        networks, vms: how many networks there are, and VMs that ask for something.
    """

    stages: tuple[tuple[Job, ...], ...] = ()
    refusals: Mapping[Name, YoshiError] = field(default_factory=dict)
    later: frozenset[Name] = frozenset()
    notes: tuple[str, ...] = ()
    networks: int = 0
    vms: int = 0


def plan_agenda(scope: Scope, backends: Mapping[str, Backend], facts: Facts, now: datetime) -> Agenda:
    """The jobs that there are: leftovers first, since they may be in the way, then networks, then VMs.

    Raises:
        NeedMore: more must be read first.
        Refused: neither networks nor VMs may be seen, or the cluster does not know networks.
    """
    if NETWORKWIZARD not in facts.served:
        raise Refused(
            f"this cluster does not know {NETWORKWIZARD.full_name}", "Run `kubectl yoshi install` first, once."
        )
    network_reads = _reads(NETWORKWIZARD, scope.namespace, scope.networks)
    vm_reads = _reads(VM, scope.namespace, scope.vms)
    facts.ask(*network_reads, *vm_reads)
    networks = [obj for obj in facts.ask(*network_reads) if not metadata(obj).get("deletionTimestamp")]
    vms = [vm for vm in map(Vm, facts.ask(*vm_reads)) if not vm.is_going]
    unseen = [why for why in (facts.why_unknown(*network_reads), facts.why_unknown(*vm_reads)) if why]
    if len(unseen) == 2:
        raise Refused(f"neither networks nor VMs may be seen: {unseen[0]}", "Choose a namespace with -n.")
    marked = [vm for vm in vms if START_AGAIN in vm.annotations]
    facts.ask(*instance_reads(marked))
    later = {_name(vm): vm for vm in marked if _is_restarted_by_another(vm, facts, now)}
    notes = [f"{vm.ref} is being restarted by another run; it is left to that" for vm in later.values()]
    wishes, refusals = _understood((vm for vm in vms if _name(vm) not in later), backends, facts)
    asking = {wish.vm for wish in wishes} | refusals.keys()
    resumes = [ResumeJob(_name(vm)) for vm in marked if _name(vm) not in {*asking, *later}]
    if scope.is_whole:
        notes += _kept_unasked(networks, [vm for vm in vms if _name(vm) not in asking], scope, backends, facts)
    names = [(namespace_of(obj), name_of(obj)) for obj in networks]
    first: list[Job] = [LeftoversJob(scope.namespace)] if scope.leftovers else []
    first += [TakeoverJob(TakeoverRequest(scope.namespace, scope.networks))] if names else []
    first += [RepairJob(tuple(names), scope.namespace)] if names and scope.leftovers else []
    attachments = [AttachJob(request) for request in attach_requests(wishes, scope.restart)]
    stages: list[tuple[Job, ...]] = [tuple(first), tuple(map(NetworkJob, names)), (*attachments, *resumes)]
    stages = [stage for stage in stages if stage]
    return Agenda(tuple(stages), refusals, frozenset(later), tuple(notes), len(names), len(asking))


def _understood(
    vms: Iterable[Vm], backends: Mapping[str, Backend], facts: Facts
) -> tuple[list[Wish], dict[Name, YoshiError]]:
    """What the VMs ask for, and why that cannot be understood of some."""
    wishes: list[Wish] = []
    refusals: dict[Name, YoshiError] = {}
    for vm in vms:
        try:
            wishes += wishes_of(vm, backends, facts)
        except YoshiError as error:
            refusals[_name(vm)] = error
    return wishes, refusals


def by_name(facts: Facts) -> Facts:
    """These facts with an answer for each network and VM by its name, where a list has brought it."""
    singles = {
        replace(read, namespace=namespace_of(obj), name=name_of(obj)): (obj,)
        for read, answer in facts.answers.items()
        if read.resource in (NETWORKWIZARD, VM) and not read.name and not read.label_selector
        and isinstance(answer, tuple)
        for obj in answer
    }  # fmt: skip
    return facts.with_answers({**singles, **facts.answers})


def _name(vm: Vm) -> Name:
    return vm.namespace, vm.name


def _reads(resource: Resource, namespace: str | None, only: frozenset[Name] | None) -> tuple[Read, ...]:
    if only is None:
        return (Read(resource, namespace),)
    return tuple(Read(resource, namespace, name) for namespace, name in sorted(only))


def _is_restarted_by_another(vm: Vm, facts: Facts, now: datetime) -> bool:
    """Whether whoever marked the VM may still be at work: it has not stopped yet, and the mark is no old one.

    A VM that has stopped is started again by whoever sees it first.
    """
    running = instance_of(vm, facts)
    if running is None:
        return False
    return is_stopping(vm, running) or _age_of_mark(vm, now) < RESTART_SECONDS


def _age_of_mark(vm: Vm, now: datetime) -> float:
    """Seconds since the mark was written, as managedFields tell; infinite where they do not."""
    times = [
        str(entry.get("time", ""))
        for entry in metadata(vm.raw).get("managedFields") or ()
        if dig(entry, "fieldsV1", "f:metadata", "f:annotations", f"f:{START_AGAIN}") is not None
    ]
    return min((age_in_seconds(time, now) for time in times), default=float("inf"))


def _kept_unasked(
    networks: Iterable[Json], silent: Iterable[Vm], scope: Scope, backends: Mapping[str, Backend], facts: Facts
) -> list[str]:
    """VMs that ask for nothing and have an address all the same, a line each."""
    by_uid = {vm.uid: vm for vm in silent}
    notes: list[str] = []
    for network in sound_networks(networks) if by_uid else ():
        backend = backends.get(network.plugin)
        ledger = open_whole(network, facts, everywhere=scope.namespace is None)
        for number, record in ledger.records().items():
            vm = by_uid.get(record.uid) if record.kind == VIRTUALMACHINE and record.uid else None
            if vm is not None and backend is not None and backend.loosen(vm, network, facts):
                detach = f"kubectl yoshi vm detach {vm.name} -n {vm.namespace} --network {network.full_name}"
                notes.append(f"{vm.ref} keeps {ledger.address(number)} but asks for none any more (`{detach}`)")
    return notes
