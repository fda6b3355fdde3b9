"""What each VM needs once its address is settled: the record, the VM, what is given back, a restart.

What the back-end holds for the VM is released before the VM changes: if that is refused, or the run is killed, the VM
still has the address that it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kubectl_yoshi.model.addresses import Address, Intervals, parse_address
from kubectl_yoshi.model.backend import How, Use
from kubectl_yoshi.model.change import Plan, side_by_side
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.facts import together
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Record, is_large, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan import restarts
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import known_networks, open_shelves, write_records
from kubectl_yoshi.plan.desk import Desk
from kubectl_yoshi.plan.releases import Release, only_as_read, release_of


def plan_errands(
    desk: Desk,
    vms: list[Vm],
    chosen: Mapping[str, int],
    refusals: dict[str, YoshiError],
    counted: bool = False,
    look_again: bool = False,
) -> Plan:
    """Records, then VMs, then what must be given back, then restarts. Adds to `refusals` who cannot be served.

    With `counted` the records are among those that a quota counts: on one shelf they are written only if it is as it
    was counted; on several, alone, and counted once more before anything else (plan/quotas.py). With `look_again` too
    they are written alone: other networks are to be looked at once more before any VM has the address.
    """
    records: dict[int, Record] = {}
    subjects: dict[int, str] = {}
    plans: list[Plan] = []
    answers: dict[str, str] = {}
    errands = together(partial(_errand_or_refusal, desk, vm, chosen[vm.subject]) for vm in vms)
    immobile: dict[str, tuple[str, ...]] = {}
    macs: dict[str, Vm] = {}
    for vm, errand in zip(vms, errands, strict=True):
        number = chosen[vm.subject]
        if isinstance(errand, YoshiError):
            refusals[vm.subject] = errand
            continue
        if errand.record is not None and desk.backend.has_interface:
            first = macs.setdefault(errand.record.mac.lower(), vm)
            if first is not vm:
                refusals[vm.subject] = _one_mac(desk, vm, errand.record.mac, first.subject)
                continue
        if errand.record is not None:
            records[number] = errand.record
            subjects[number] = vm.subject
        plans.append(replace(errand.after, notes=(*errand.after.notes, *errand.notes)))
        answers[vm.subject] = str(desk.ledger.address(number))
        if errand.immobile and (not errand.is_settled or desk.attempt.done_for(vm.subject)):
            immobile[vm.subject] = errand.immobile
    plans.append(Plan(notes=cannot_be_migrated(immobile, desk.network)))
    several = is_large(desk.network)
    plan = Plan()
    if records:
        plan = write_records(desk.ledger, records, subjects, counted and not several, desk.hint)
    if plan and (look_again or (counted and several)) and not desk.attempt.preview:
        return replace(plan, again=True, answers=answers, refusals=dict(refusals))
    return replace(plan + side_by_side(plans), answers=answers, refusals=dict(refusals))


def cannot_be_migrated(reasons: Mapping[str, Sequence[str]], network: Network) -> tuple[str, ...]:
    """One line about all VMs of a network that are to be live-migrated and cannot be; () where there are none.

    Args:
        reasons: by the VM's subject.
    """
    if not reasons:
        return ()
    counted = Counter(reason for some in reasons.values() for reason in some)
    whys = (why if number == len(reasons) else f"{why} ({number} of them)" for why, number in counted.items())
    who = f"VM {next(iter(reasons))}" if len(reasons) == 1 else f"{len(reasons)} VMs of network {network.full_name}"
    return (f"{who} cannot be live-migrated: {'; '.join(whys)}",)


def _errand_or_refusal(desk: Desk, vm: Vm, number: int) -> _Errand | YoshiError:
    try:
        errand = _errand(desk, vm, number)
        if desk.request.only_news and errand.is_settled:
            return replace(errand, notes=errand.needs)
        concerns = desk.backend.concerns(vm, desk.network, number, desk.facts, desk.request.nic)
        immobile = desk.backend.immobile(vm, desk.network, desk.facts)
        return replace(errand, notes=(*errand.notes, *concerns), immobile=immobile)
    except YoshiError as error:
        return error


@dataclass(frozen=True)
class _Errand:
    """What one VM needs.

    Attributes:
        record: its record; None where it stands.
        after: what comes after the record.
        notes: for people.
        needs: those of them that somebody is still to do.
        immobile: see Backend.immobile.
    """

    record: Record | None
    after: Plan
    notes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    immobile: tuple[str, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to do."""
        return self.record is None and not self.after


def _errand(desk: Desk, vm: Vm, number: int) -> _Errand:
    request, backend, network, facts = desk.request, desk.backend, desk.network, desk.facts
    record = desk.records.get(number)
    mac = _mac(desk, vm, record) if backend.on_template else ""
    fastened = backend.fasten(vm, network, number, mac, facts, request.ports, request.nic)
    fastened = only_as_read(vm, fastened)
    established = backend.establish(vm, network, number, request.ports, facts)
    note = desk.note(vm, record)
    wanted = Record(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac, desk.attempt.moment, note)
    stands = record is not None and record.uid == vm.uid and not fastened and isinstance(record.as_written, Mapping)
    stands = stands and number not in desk.ledger.unmoved
    kept = replace(record, mac=mac) if record is not None and stands else wanted
    provided = backend.provide(network, {number: kept}, facts)
    prepared = backend.prepare(vm, network, number, facts)
    restart = restarts.Restart()
    if backend.on_template:
        mine = desk.uses.of(vm.namespace, vm.name, vm.uid)
        restart = restarts.plan_restart(vm, number, mine, facts, desk.attempt, bool(prepared.obstacle))
    if prepared.obstacle and not request.restart:
        raise Refused(prepared.obstacle, "Pass --restart to stop it, release that address and start it again.")
    on_vm = Plan((tuple(fastened),) if fastened else ())
    plan = provided if prepared.obstacle else provided + prepared.plan + on_vm
    plan = plan + established
    if request.wait and (awaited := backend.awaited(vm, network, number, facts)):
        plan = plan + Plan((awaited,))
    parted = any(change.ref == vm.ref for change in plan)
    released = _release_others(desk, vm, number, settled=bool(prepared.plan), parted=parted)
    plan = plan + released.plan
    needs: tuple[str, ...] = ()
    if restart and (request.restart or restart.resumes):
        plan = plan + restart.plan
    elif restart:
        why = f"{vm.ref} runs without {desk.ledger.address(number)}"
        plugged = backend.hot_plug(vm, facts) if request.nic.live else None
        needs = (restarts.restart_needed(why, plugged),)
    notes = (*released.notes, *needs)
    if prepared.obstacle:
        plan = replace(plan + on_vm if desk.attempt.preview else plan, again=True)
        notes = (*notes, f"{vm.ref} must stop for a moment: what is held for it is released while it does not run")
    return _Errand(None if stands else wanted, plan, notes, needs)


def _mac(desk: Desk, vm: Vm, record: Record | None) -> str:
    """The MAC address: the interface's own, the one asked for, recorded or written before, else a random local one.

    Raises:
        Refused: somebody has chosen it, it is another VM's, and the network knows its VMs by it.
    """
    own, written = desk.backend.macs_of(vm, desk.network)
    mine = record if record is not None and record.uid == vm.uid and isinstance(record.as_written, Mapping) else None
    chosen = own or desk.asked_mac(vm)
    if chosen is not None:
        others = desk.others_with_mac(vm, chosen) if desk.backend.has_interface and chosen else []
        if others and not (mine and mine.mac.lower() == chosen.lower()):
            raise _one_mac(desk, vm, chosen, "/".join(others[0]))
        return chosen
    if mine is not None:
        return mine.mac
    if written and not desk.others_with_mac(vm, written):  # a VM that was copied has that of the other one
        return written
    return random_mac(desk.attempt)


def _one_mac(desk: Desk, vm: Vm, mac: str, other: str) -> Refused:
    return Refused(
        f"VM {vm.subject} has MAC address {mac.lower()} on network {desk.network.full_name}, which VM {other} has",
        f"Give one of them another macAddress. If {other} is gone, `kubectl yoshi ips gc` gives its address back.",
    )


def random_mac(attempt: Attempt) -> str:
    """A random locally administered unicast MAC address (IEEE 802: the second bit of the first octet is set)."""
    octets = [0x02, *(attempt.chance.randrange(256) for _ in range(5))]
    return ":".join(f"{octet:02x}" for octet in octets)


def _release_others(desk: Desk, vm: Vm, number: int, settled: bool, parted: bool) -> Release:
    """Gives back the VM's other addresses: what it had before, or lost to a faster run.

    Args:
        desk, vm: whose.
        number: the one that it keeps.
        settled: the plan already makes the back-end forget what it held for the VM.
        parted: the plan already changes the VM, so that no other attachment of it can go on.
    """
    result = Release()
    for other in desk.own(vm):
        if other != number:
            record = desk.records[other]
            uses = _without_wish_of(vm, desk.uses.at(other))
            result = result + release_of(
                desk.ledger, other, record, uses, desk.backend, desk.facts, desk.attempt.moment, settled, parted
            )
    for address in _left(desk, vm):
        result = result + _release_elsewhere(desk, vm, address, settled, parted)
    return result


def _left(desk: Desk, vm: Vm) -> Iterable[Address]:
    """The addresses of other networks that the VM leaves: that it has, or had when this run has written to it."""
    before = [Vm(change.before) for change in desk.attempt.sent if change.ref == vm.ref and change.before]
    told = [desk.backend.elsewhere(one, desk.network, desk.facts) for one in (vm, *before)]
    return dict.fromkeys(parse_address(text.split()[0]) for text in told if text)


def _without_wish_of(vm: Vm, uses: Iterable[Use]) -> list[Use]:
    return [use for use in uses if not (use.how is How.WANTED and use.is_of(vm.namespace, vm.name, vm.uid))]


def _release_elsewhere(desk: Desk, vm: Vm, address: Address, settled: bool, parted: bool) -> Release:
    """Gives back the address that the VM had on the network that it leaves."""
    for network in known_networks(vm.namespace, desk.facts):
        if address in network and network.uid != desk.network.uid:
            ledger = open_shelves(network, [shelf_of(network, int(address))], desk.facts)
            record = ledger.records().get(int(address))
            if record is None or record.uid != vm.uid:
                return Release()
            backend = desk.backend
            uses = _without_wish_of(vm, backend.uses(network, [vm], Intervals(), desk.facts))
            until = desk.attempt.moment
            return release_of(ledger, int(address), record, uses, backend, desk.facts, until, settled, parted)
    return Release()
