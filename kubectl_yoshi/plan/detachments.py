"""Detaching VMs from a network: the template first, then the record, and that only when nothing uses the address.

What the back-end holds for the VM is released before the template changes if the VM would get it all the same
(Backend.keeps_addresses).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.backend import Backend, How, Use, Uses
from kubectl_yoshi.model.change import Plan, side_by_side
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, YoshiError
from kubectl_yoshi.model.facts import Facts, Read, together
from kubectl_yoshi.model.ledger import Ledger, Record, is_large, own_shelf, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.vm import VM, Vm, instance_of
from kubectl_yoshi.plan import restarts
from kubectl_yoshi.plan.attachments import unmoved_of
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import SEE_VMS, network_read, open_network, open_shelves, open_whole, remove_records
from kubectl_yoshi.plan.forsaken import is_gone, plan_farewell
from kubectl_yoshi.plan.releases import Release, lift_barriers, only_as_read, release_of
from kubectl_yoshi.plan.serving import backend_of


@dataclass(frozen=True)
class DetachRequest:
    """What is wanted.

    Attributes:
        network: its namespace and name.
        vms: namespace and name of each VM; a VM that is gone already is detached all the same.
        restart: restart a VM that still runs with the address, so that it can be given back.
        live: take its interface out of the running VM where that can be done.
    """

    network: tuple[str, str]
    vms: tuple[tuple[str, str], ...]
    restart: bool = False
    live: bool = False


def plan_detachments(request: DetachRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that take the VMs off the network, as far as they can be planned now.

    The plan's `answers` has the address that each VM gives up.

    Raises:
        NeedMore: more must be read first.
        Refused: there is no such network, and no VM that asks for it.
    """
    reads = tuple(Read(VM, namespace, name) for namespace, name in request.vms)
    facts.ask(network_read(*request.network), *reads)
    try:
        network = open_network(*request.network, facts)
    except Refused as error:
        if not is_gone(request.network, facts):
            raise
        return plan_farewell(request.network, request.vms, backends, facts, attempt, error)
    backend = backend_of(network, backends)
    refusals: dict[str, YoshiError] = dict(attempt.failed)
    present: list[Vm] = []
    for read in reads:
        if why := facts.why_unknown(read):
            refusals[f"{read.namespace}/{read.name}"] = Refused(f'VM "{read.name}" cannot be read: {why}', ASK_FOR_IT)
        elif found := facts.ask(read):
            present.append(Vm(found[0]))
    uses = Uses(backend.uses(network, present, Intervals(), facts))
    absent = {(r.namespace, r.name) for r in reads} - {(vm.namespace, vm.name) for vm in present}
    ledger = _ledger(network, present, uses, facts, whole=bool(absent))
    there = [vm for vm in present if vm.subject not in refusals]
    gone = sorted((str(ns), n) for ns, n in absent if f"{ns}/{n}" not in refusals)
    parts = [partial(_one, request, network, backend, vm, ledger, uses, facts, attempt) for vm in there]
    parts += [partial(_gone, *name, backend, ledger, facts, attempt, refusals) for name in gone]
    refused = [vm for vm in present if vm.subject in refusals]
    plan = side_by_side(together(parts)) + restarts.resumed(refused, facts, attempt)
    return replace(plan + lift_barriers(there, plan), refusals={**plan.refusals, **refusals})


def _stopped_in_vain(
    vm: Vm, numbers: Iterable[int], network: Network, backend: Backend, facts: Facts
) -> Refused | None:
    """Return why a VM must not be stopped to release its addresses: the back-end would give it them again."""
    for number in numbers:
        if why := backend.let_go(network, number, vm.namespace, vm.name, facts).forbidden:
            return Refused(
                f"{vm.ref} would run with {network.address(number)} again, which cannot be released: {why}",
                "Leave out --restart to detach it all the same, or ask an administrator to run this command.",
            )
    return None


def _ledger(network: Network, vms: list[Vm], uses: Uses, facts: Facts, whole: bool) -> Ledger:
    """The shelves of the addresses that these VMs carry; the whole ledger where that does not tell enough."""
    numbers = {use.number for vm in vms for use in uses.of(vm.namespace, vm.name)}
    known = {(use.namespace, use.name) for use in uses.all}
    if whole or not is_large(network) or any((vm.namespace, vm.name) not in known for vm in vms):
        return open_whole(network, facts)
    numbers |= unmoved_of(network, known)
    own = [own_shelf(network)] if network.takes_outside else []
    return open_shelves(network, {*own, *(shelf_of(network, number) for number in numbers)}, facts)


def _one(
    request: DetachRequest,
    network: Network,
    backend: Backend,
    vm: Vm,
    ledger: Ledger,
    uses: Uses,
    facts: Facts,
    attempt: Attempt,
) -> Plan:
    running = instance_of(vm, facts) is not None
    plugged = backend.hot_plug(vm, facts) if request.live and running else None
    loosened = backend.loosen(vm, network, facts, live=plugged is not None and not plugged.obstacle)
    loosened = only_as_read(vm, loosened)
    plan = Plan((loosened,) if loosened else ())
    mine = ledger.held_by(vm.namespace, vm.name)
    seen = [*uses.of(vm.namespace, vm.name), *(use for number in mine for use in uses.at(number))]
    left = [use for use in seen if not (use.how is How.WANTED and use.is_of(vm.namespace, vm.name, vm.uid))]
    runs = [use for use in left if use.how is How.RUNNING and use.is_of(vm.namespace, vm.name, vm.uid)]
    parted = any(change.ref == vm.ref for change in loosened)
    release = _release(mine, ledger, left, backend, facts, attempt, parted)
    given_up = [str(ledger.address(number)) for number in sorted(mine)]
    answers = {vm.subject: ", ".join(given_up)} if given_up or plan else {}
    if running and runs and request.restart:
        if refusal := _stopped_in_vain(vm, mine, network, backend, facts):
            return Plan(refusals={vm.subject: refusal})
        stopped = restarts.plan_restart(vm, None, left, facts, attempt, must_stop=True).plan
        first, last = (stopped, plan if attempt.preview else Plan()) if backend.keeps_addresses else (plan, stopped)
        removal = remove_records(ledger, mine, dict.fromkeys(mine, vm.subject))
        return replace(first + last, again=True, answers=answers, foreseen=(*stopped.foreseen, *removal))
    plan = release.before + plan + release.removal if backend.keeps_addresses else plan + release.plan
    if not backend.on_template:
        return replace(plan, notes=(*plan.notes, *release.notes), answers=answers)
    resumed = restarts.plan_restart(vm, None, left, facts, attempt, must_stop=False)
    if resumed.resumes:
        plan = plan + resumed.plan
    notes = release.notes
    if running and runs:
        address = ledger.address(runs[0].number)
        notes = (*notes, restarts.restart_needed(f"{vm.ref} still runs with {address}", plugged))
        if plugged is not None and not plugged.obstacle:
            notes = (*notes, f"then run the same again to give {address} back, or `kubectl yoshi ips gc`")
    return replace(plan, notes=(*plan.notes, *notes), answers=answers)


def _release(
    mine: Mapping[int, Record],
    ledger: Ledger,
    uses: Iterable[Use],
    backend: Backend,
    facts: Facts,
    attempt: Attempt,
    parted: bool = False,
) -> Release:
    release = Release()
    for number, record in mine.items():
        release = release + release_of(ledger, number, record, uses, backend, facts, attempt.moment, parted=parted)
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
    mine = ledger.held_by(namespace, name)
    subject = f"{namespace}/{name}"
    if not mine and (attempt.done_for(subject) or any(change.subject == subject for change in attempt.unclear)):
        return Plan()  # this very run has given it back
    if not mine:
        refusals[subject] = Refused(
            f'VM "{name}" not found in namespace "{namespace}", and it holds no address of {ledger.network.full_name}',
            SEE_VMS,
        )
        return Plan()
    uses = backend.survey(ledger.network, (namespace,), facts)
    release = _release(mine, ledger, uses, backend, facts, attempt)
    answers = {subject: ", ".join(str(ledger.address(number)) for number in sorted(mine))}
    return replace(release.plan, notes=release.notes, answers=answers)
