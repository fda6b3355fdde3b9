"""Settling which address a VM is to have: the one that it has, had or asks for, else one that is chosen."""

from __future__ import annotations

from collections.abc import Set

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.backend import Uses
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.ledger import RESERVATION, SearchHint
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.choosing import Chooser, Counts
from kubectl_yoshi.plan.cooling import cooling_down, must_have_cooled
from kubectl_yoshi.plan.desk import Desk


def settled(desk: Desk, vm: Vm) -> int | None:
    """The address that the VM is to have where nothing needs to be chosen; None where it does.

    Raises:
        Refused: it cannot have one.
    """
    request, network = desk.request, desk.network
    asked = desk.asked(vm)
    carried = desk.carried(vm)
    other = desk.backend.elsewhere(vm, network, desk.facts)
    if carried and (asked is None or asked in carried):
        if other and not request.replace:
            raise Refused(
                f"VM {vm.subject} has {desk.ledger.address(carried[0])} and {other}",
                "A VM can have one such address; pass --replace to keep the one of this network only.",
            )
        number = asked if asked is not None else carried[0]
        _may_have(desk, vm, number, ", which is written on the VM,")
        return number
    if carried and desk.given(vm) and asked is not None:
        raise _has_another(desk, vm, desk.network.address(asked), desk.network.address(carried[0]))
    if carried and not request.replace:
        raise Refused(
            f"VM {vm.subject} already has {desk.ledger.address(carried[0])} on network {network.full_name}",
            "Pass --replace to change its address, or detach it first.",
        )
    if other and not request.replace:
        raise Refused(
            f"VM {vm.subject} already has {other}",
            "A VM can be on one such network; pass --replace to move it, or detach it first.",
        )
    if asked is not None:
        _may_have(desk, vm, asked)
        must_have_cooled(desk.ledger, asked, vm.namespace, vm.name, desk.attempt.now)
        return asked
    for number in desk.own(vm):
        if number not in carried and not network.why_not_usable(network.address(number)):
            return number
    for number in desk.former(vm):
        if not desk.strangers(number, vm) and not network.why_not_usable(network.address(number)):
            return number
    if network.cidr is None:
        raise Refused(
            f"network {network.full_name} has no cidr to choose an address from", "Name the address with --ip."
        )
    return None


def _has_another(desk: Desk, vm: Vm, given: Address, carried: Address) -> Refused:
    """Why a VM that has an address outside the ledger is not given it: another one is written on it."""
    has = "runs with" if int(given) in desk.running(vm) else "is said to have"
    network = desk.network.called_from(vm.namespace)
    attach = f"kubectl yoshi vm attach {vm.name} -n {vm.namespace} --network {network} --ip {given} --replace"
    return Refused(f"VM {vm.subject} {has} {given}, but {carried} is written on it (`{attach}` changes that)")


def _may_have(desk: Desk, vm: Vm, number: int, why: str = "") -> None:
    address = desk.ledger.address(number)
    record = desk.records.get(number)
    if record is not None and record.uid != vm.uid and number not in desk.former(vm):
        holds = f"it is {record.holder}" if record.kind == RESERVATION else f"{record.holder} holds it"
        raise Refused(
            f"{address}{why} is not free: {holds} on network {desk.network.full_name}",
            f"Choose another address, or give it back first; see `kubectl yoshi ips who {address}`.",
        )
    if record is None or record.uid != vm.uid:
        if reason := desk.network.why_not_usable(address):
            raise Refused(
                f"VM {vm.subject} carries {address}, which network {desk.network.full_name} never gives out: {reason}",
                "Detach it, or change the network.",
            )
        strangers = desk.strangers(number, vm)
        if strangers:
            raise Refused(
                f"{address} is not free: {strangers[0].says}",
                "Choose another address, or wait until it is gone.",
            )


def choose_for(desk: Desk, vms: list[Vm], chosen: dict[str, int], refusals: dict[str, YoshiError]) -> None:
    """Chooses an address for each VM; adds to `chosen` or `refusals`."""
    taken = Intervals.of_numbers(chosen.values())
    while True:
        picks, full, hint = _picked(desk, vms, taken)
        fresh = {subject: number for subject, number in picks.items() if number not in desk.records}
        numbers = Intervals.of_numbers(fresh.values())
        desk.uses = Uses(desk.backend.uses(desk.network, desk.vms, numbers, desk.facts))
        if not any(desk.strangers(fresh[vm.subject], vm) for vm in vms if vm.subject in fresh):
            chosen.update(picks)
            refusals.update(full)
            desk.hint = hint
            return
        taken |= Intervals.of_numbers(use.number for use in desk.uses.all)


def _picked(desk: Desk, vms: list[Vm], taken: Intervals) -> tuple[dict[str, int], dict[str, YoshiError], SearchHint]:
    """An address for each VM that the ledger does not give to anybody else, why there is none for some, and the
    hint for whoever chooses next."""
    chooser = Chooser(
        desk.network,
        lambda shelf: desk.open([shelf]),
        taken,
        desk.attempt,
        wanted=len(vms),
        counts=Counts(desk.network, desk.facts, desk.attempt.earlier),
        resting=lambda ledger: cooling_down(ledger, desk.attempt.now),
    )
    picks: dict[str, int] = {}
    full: dict[str, YoshiError] = {}
    given: set[int] = set()
    for vm in vms:  # before anybody else is given what they had
        number = _resumed(desk, vm, given)
        number = _returned(desk, vm, given, taken) if number is None else number
        if number is not None:
            picks[vm.subject] = number
            given.add(number)
    chooser.exclude(given)
    for vm in vms:
        if vm.subject in picks:
            continue
        number = _resumed(desk, vm, given)
        if number is None:
            try:
                number = chooser.next()
            except Refused as refused:
                full[vm.subject] = refused
                continue
            number = _resumed(desk, vm, given) or number
        picks[vm.subject] = number
        given.add(number)
    return picks, full, chooser.hint


def _returned(desk: Desk, vm: Vm, given: Set[int], taken: Intervals) -> int | None:
    """The address that a VM of this name had last, if it is free: it gets it again, whether it cools down or not."""
    for number in desk.had(vm):
        free = number not in desk.records and number not in given and number not in taken
        if free and number in desk.network.usable:  # one outside the CIDR is never chosen
            return number
    return None


def _resumed(desk: Desk, vm: Vm, given: Set[int]) -> int | None:
    """An address that the shelves read so far already give to the VM, or gave to an earlier one of its name."""
    for number in desk.own(vm) + [n for n in desk.former(vm) if not desk.strangers(n, vm)]:
        if number not in given and not desk.network.why_not_usable(desk.ledger.address(number)):
            return number
    return None
