"""Settling which address a VM is to have: the one that it has, had or asks for, else one that is chosen."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.addresses import Intervals
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.ledger import RESERVATION, Ledger
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.books import open_shelves
from kubectl_yoshi.plan.choosing import Chooser
from kubectl_yoshi.plan.desk import Desk


def settled(desk: Desk, vm: Vm) -> int | None:
    """The address that the VM is to have where nothing needs to be chosen; None where it does.

    Raises:
        Refused: it cannot have one.
    """
    request, network = desk.request, desk.network
    asked = int(request.address) if request.address is not None else None
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
                f"{address} is not free: {strangers[0].ref} uses it",
                "Choose another address, or wait until it is gone.",
            )


def choose_for(desk: Desk, vms: list[Vm], chosen: dict[str, int], refusals: dict[str, YoshiError]) -> None:
    """Chooses an address for each VM; adds to `chosen` or `refusals`."""
    taken = Intervals()
    while True:

        def open_shelf(shelf: object) -> Ledger:
            ledger = open_shelves(desk.network, [shelf], desk.facts)  # type: ignore[list-item]
            desk.ledger = desk.ledger.with_objects(ledger.objects)
            return ledger

        chooser = Chooser(
            desk.network,
            vms[0].uid,
            open_shelf,
            taken,
            desk.attempt.chance if desk.attempt.number else None,
        )
        chooser.exclude(chosen.values())
        picks: dict[str, int] = {}
        for vm in vms:
            number = _resumed(desk, vm, picks)
            if number is None:
                try:
                    number = chooser.next()
                except Refused as full:
                    refusals[vm.subject] = full
                    continue
                number = _resumed(desk, vm, picks) or number
            picks[vm.subject] = number
        desk.records = desk.ledger.records()
        resumed = {s: n for s, n in picks.items() if n in desk.records}
        fresh = Intervals.of_numbers(n for s, n in picks.items() if s not in resumed)
        desk.uses = desk.backend.uses(desk.network, desk.vms, fresh, desk.facts)
        names = {vm.subject: vm for vm in vms}
        used = {n for s, n in picks.items() if s not in resumed and desk.strangers(n, names[s])}
        if not used:
            chosen.update(picks)
            return
        taken |= Intervals.of_numbers(u.number for u in desk.uses)
        for vm in vms:
            refusals.pop(vm.subject, None)


def _resumed(desk: Desk, vm: Vm, picks: Mapping[str, int]) -> int | None:
    """An address that the shelves read so far already give to the VM, or gave to an earlier one of its name."""
    desk.records = desk.ledger.records()
    for number in desk.own(vm) + [n for n in desk.former(vm) if not desk.strangers(n, vm)]:
        if number not in picks.values() and not desk.network.why_not_usable(desk.ledger.address(number)):
            return number
    return None
