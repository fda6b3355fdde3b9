"""Detaching VMs from a network: the template first, then the record, and that only when nothing uses the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.backend import Backend, How, Use
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Ledger, Record, is_large, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.vm import VM, Vm, instance_of
from kubectl_yoshi.plan import restarts
from kubectl_yoshi.plan.attachments import backend_of, unmoved_of
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import ASK_FOR_IT, network_read, open_network, open_shelves, open_whole
from kubectl_yoshi.plan.releases import Release, release_of


@dataclass(frozen=True)
class DetachRequest:
    """What is wanted.

    Attributes:
        network: its namespace and name.
        vms: namespace and name of each VM; a VM that is gone already is detached all the same.
        restart: restart a VM that still runs with the address, so that it can be given back.
    """

    network: tuple[str, str]
    vms: tuple[tuple[str, str], ...]
    restart: bool = False


def plan_detachments(request: DetachRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that take the VMs off the network, as far as they can be planned now.

    The plan's `answers` has the address that each VM gives up.

    Raises:
        NeedMore: more must be read first.
        Refused: there is no such network.
    """
    reads = tuple(Read(VM, namespace, name) for namespace, name in request.vms)
    facts.ask(network_read(*request.network), *reads)
    network = open_network(*request.network, facts)
    backend = backend_of(network, backends)
    refusals: dict[str, YoshiError] = dict(attempt.failed)
    present: list[Vm] = []
    for read in reads:
        if why := facts.why_unknown(read):
            refusals[f"{read.namespace}/{read.name}"] = Refused(f'VM "{read.name}" cannot be read: {why}', ASK_FOR_IT)
        elif found := facts.ask(read):
            present.append(Vm(found[0]))
    uses = backend.uses(network, present, Intervals(), facts)
    absent = {(r.namespace, r.name) for r in reads} - {(vm.namespace, vm.name) for vm in present}
    ledger = _ledger(network, present, uses, facts, whole=bool(absent))
    plan = Plan()
    for vm in present:
        if vm.subject not in refusals:
            plan = plan.beside(_one(request, network, backend, vm, ledger, uses, facts, attempt))
    for namespace, name in sorted((str(ns), n) for ns, n in absent):
        if f"{namespace}/{name}" not in refusals:
            plan = plan.beside(_gone(namespace, name, backend, ledger, facts, attempt, refusals))
    return replace(plan, refusals=refusals)


def _ledger(network: Network, vms: list[Vm], uses: tuple[Use, ...], facts: Facts, whole: bool) -> Ledger:
    """The shelves of the addresses that these VMs carry; the whole ledger where that does not tell enough."""
    numbers = {u.number for vm in vms for u in uses if u.is_of(vm.namespace, vm.name)}
    known = {(u.namespace, u.name) for u in uses}
    if whole or not is_large(network) or any((vm.namespace, vm.name) not in known for vm in vms):
        return open_whole(network, facts)
    numbers |= unmoved_of(network, known)
    return open_shelves(network, {shelf_of(network, number) for number in numbers}, facts)


def _one(
    request: DetachRequest,
    network: Network,
    backend: Backend,
    vm: Vm,
    ledger: Ledger,
    uses: tuple[Use, ...],
    facts: Facts,
    attempt: Attempt,
) -> Plan:
    loosened = backend.loosen(vm, network, facts)
    plan = Plan((tuple(loosened),) if loosened else ())
    mine = {
        number: record
        for number, record in ledger.records().items()
        if record.kind == VIRTUALMACHINE and (record.namespace, record.name) == (vm.namespace, vm.name)
    }
    left = tuple(u for u in uses if not (u.how is How.WANTED and u.is_of(vm.namespace, vm.name, vm.uid)))
    runs = [u for u in left if u.how is How.RUNNING and u.is_of(vm.namespace, vm.name, vm.uid)]
    running = instance_of(vm, facts) is not None
    release = _release(mine, ledger, left, backend, facts, parted=any(c.ref == vm.ref for c in loosened))
    given_up = [str(ledger.address(number)) for number in sorted(mine)]
    answers = {vm.subject: ", ".join(given_up)} if given_up or plan else {}
    if running and runs and request.restart:
        stopped = plan + restarts.plan_restart(vm, None, left, facts, attempt, must_stop=True).plan
        return replace(stopped, again=True, answers=answers)
    plan = plan + release.plan
    if not backend.on_template:
        return replace(plan, notes=(*plan.notes, *release.notes), answers=answers)
    resumed = restarts.plan_restart(vm, None, left, facts, attempt, must_stop=False)
    if resumed.resumes:
        plan = plan + resumed.plan
    notes = release.notes
    if running and runs:
        notes = (*notes, f"restart needed: {vm.ref} still runs with {ledger.address(runs[0].number)} (`--restart`)")
    return replace(plan, notes=(*plan.notes, *notes), answers=answers)


def _release(
    mine: Mapping[int, Record],
    ledger: Ledger,
    uses: tuple[Use, ...],
    backend: Backend,
    facts: Facts,
    parted: bool = False,
) -> Release:
    release = Release()
    for number, record in mine.items():
        release = release + release_of(ledger, number, record, uses, backend, facts, parted=parted)
    return release


def _gone(
    namespace: str,
    name: str,
    backend: Backend,
    ledger: Ledger,
    facts: Facts,
    attempt: Attempt,
    refusals: dict[str, YoshiError],
) -> Plan:
    """A VM that exists no more: only its records are left."""
    mine = {
        number: record
        for number, record in ledger.records().items()
        if record.kind == VIRTUALMACHINE and (record.namespace, record.name) == (namespace, name)
    }
    subject = f"{namespace}/{name}"
    if not mine and any(change.subject == subject for change in attempt.done):
        return Plan()  # this very run has given it back
    if not mine:
        refusals[subject] = Refused(
            f'VM "{name}" not found in namespace "{namespace}", and it holds no address of {ledger.network.full_name}',
            "See `kubectl get virtualmachines -A`; choose the namespace with -n.",
        )
        return Plan()
    uses = backend.survey(ledger.network, (namespace,), facts)
    release = _release(mine, ledger, uses, backend, facts)
    answers = {subject: ", ".join(str(ledger.address(number)) for number in sorted(mine))}
    return replace(release.plan, notes=release.notes, answers=answers)
