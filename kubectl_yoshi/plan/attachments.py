"""Attaching VMs to a network: the record first, then the VM, and nothing left behind when it fails.

The protocol and its invariants are in docs/design.md. One plan serves one VM and many: their records go in one patch
per shelf, then the VMs are patched side by side. Every round observes anew, so a run that was killed, was slower than
another, or must wait for a VM to stop, is finished by the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.backend import Backend, Uses
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, UsageMistake, YoshiError
from kubectl_yoshi.model.facts import Facts, Read, both
from kubectl_yoshi.model.ledger import Ledger, own_shelf, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.nic import ANY_NIC
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan import restarts
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import SEE_VMS, network_read, open_network
from kubectl_yoshi.plan.desk import AttachRequest, Desk
from kubectl_yoshi.plan.errands import plan_errands
from kubectl_yoshi.plan.opening import being_deleted, must_be_open, not_made
from kubectl_yoshi.plan.overlaps import Neighbours
from kubectl_yoshi.plan.quotas import keep_quota
from kubectl_yoshi.plan.releases import lift_barriers
from kubectl_yoshi.plan.serving import backend_of, must_be_served
from kubectl_yoshi.plan.settling import choose_for, settled
from kubectl_yoshi.plan.undoing import recorded_by_this_run, undo_records

__all__ = ["AttachRequest", "plan_attachments", "unmoved_of"]


def plan_attachments(request: AttachRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that give the VMs addresses of the network, as far as they can be planned now.

    The plan's `answers` has each VM's address, its `refusals` why a VM gets none.

    Raises:
        NeedMore: more must be read first.
        Refused, UsageMistake: no VM can be attached (no such network, the network cannot be used).
    """
    facts.ask(network_read(*request.network), *request.reads)
    network = open_network(*request.network, facts)
    backend = backend_of(network, backends)
    _must_be_made_with(request.plugin, network)
    if request.nic != ANY_NIC and not backend.has_interface:
        raise Refused(
            f"network {network.full_name} gives its VMs no interface of their own",
            "--nic-name, --model, --cloud-init and --live are for layer 2 networks.",
        )
    must_be_served(network, backend, facts)
    if not (request.foreseen and attempt.preview):
        must_be_open(network)
    refusals: dict[str, YoshiError] = {}
    vms: list[Vm] = []
    for read in request.reads:
        subject = f"{read.namespace}/{read.name}"
        found = facts.ask(read)
        if found and not Vm(found[0]).is_going:
            vms.append(Vm(found[0]))
        else:
            refusals[subject] = _no_vm(read, bool(found), facts)
    desk = Desk(request, network, backend, facts, attempt, vms)
    asked_for = [address for vm in vms if (address := desk.asked_address(vm)) is not None]
    asked = {int(address) for address in asked_for if network.may_hold(address)}
    if request.address is not None:
        _check_asked(network, request.address)
    uses, _ = both(
        lambda: backend.uses(network, vms, Intervals.of_numbers(asked), facts),
        lambda: facts.ask(*backend.settings(facts)),
    )
    desk.uses = Uses(uses)
    recorded_now = recorded_by_this_run(network, attempt)
    at_hand = asked | set(recorded_now) | {number for vm in vms for number in desk.carried(vm)}
    at_hand |= unmoved_of(network, request.vms)
    # What a VM of that name has used, though it may have been another VM: its record, or who had it, is there.
    used = {use.number for vm in vms for use in desk.uses.of(vm.namespace, vm.name)}
    at_hand |= {number for number in used if number in network.everything}
    shelves = {shelf_of(network, number) for number in at_hand}
    if network.takes_outside:  # all that it holds outside its CIDR is on one shelf, which was read already
        shelves.add(own_shelf(network))
    desk.open(shelves)
    if unsure := {number for vm in vms for number in desk.unproven(vm)} - asked:
        desk.uses = Uses(backend.uses(network, vms, Intervals.of_numbers(asked | unsure), facts))
    if network.is_going:
        late = (vm.subject for vm in vms if not desk.has_all(vm))
        attempt = replace(attempt, failed={**dict.fromkeys(late, being_deleted(network)), **attempt.failed})
    elif why := not_made(network):
        newcomers = (vm.subject for vm in vms if not desk.own(vm))
        attempt = replace(attempt, failed={**dict.fromkeys(newcomers, why), **attempt.failed})
    going = [vm for vm in vms if vm.subject not in attempt.failed]
    chosen: dict[str, int] = {}
    choosers: list[Vm] = []
    neighbours = Neighbours(network, facts)
    for vm in going:
        try:
            for given in desk.given(vm):
                _check_asked(network, given)
            if (address := desk.asked_address(vm)) is not None:
                neighbours.must_not_have(address)
            number = settled(desk, vm)
            if number is not None:
                neighbours.must_not_have(network.address(number))
        except (Refused, UsageMistake) as error:
            refusals[vm.subject] = error
            continue
        if number is None:
            choosers.append(vm)
        else:
            chosen[vm.subject] = number
    if choosers:
        choose_for(desk, choosers, chosen, refusals)
    counted = keep_quota(desk, [vm for vm in going if vm.subject in chosen], refusals)
    beyond = chosen.keys() & refusals.keys()
    served = [vm for vm in going if vm.subject in chosen and vm.subject not in refusals]
    outside = {chosen[vm.subject] for vm in served if chosen[vm.subject] not in network.everything}
    look_again = not recorded_now.keys() >= outside
    plan = plan_errands(desk, served, chosen, refusals, counted, look_again)
    if request.given:  # the record of an address that a VM runs with stays: all of it must be allowed before
        plan = replace(plan, foreseen=(*plan.foreseen, *plan))
    refusals |= {vm.subject: attempt.failed[vm.subject] for vm in vms if vm.subject in attempt.failed}
    refused = [vm for vm in vms if vm.subject in refusals]
    undo = undo_records(desk, refused, recorded_now, set(chosen.values()), beyond)
    undo = undo + restarts.resumed(refused, facts, attempt)
    plan = replace(plan + undo, refusals={**plan.refusals, **refusals})
    return plan + lift_barriers(vms, plan)


def unmoved_of(network: Network, vms: Iterable[tuple[str, str]]) -> set[int]:
    """The addresses that the original yoshi recorded for these VMs in the status of a large network."""
    wanted = set(vms)
    unmoved = Ledger(network, {}).unmoved
    return {n for n, entry in unmoved.items() if (entry.record.namespace, entry.record.name) in wanted}


def _no_vm(read: Read, going: bool, facts: Facts) -> Refused:
    if going:
        return Refused(f'VM "{read.name}" in namespace "{read.namespace}" is being deleted', "Wait until it is gone.")
    if why := facts.why_unknown(read):
        return Refused(f'VM "{read.name}" in namespace "{read.namespace}" cannot be read: {why}', ASK_FOR_IT)
    return Refused(
        f'VM "{read.name}" not found in namespace "{read.namespace}"',
        SEE_VMS,
    )


def _must_be_made_with(plugin: str, network: Network) -> None:
    if plugin and plugin != network.plugin:
        raise Refused(
            f'network {network.full_name} is made with plugin "{network.plugin}", not "{plugin}"',
            "See `kubectl yoshi network list`.",
        )


def _check_asked(network: Network, address: Address) -> None:
    if why := network.why_not_usable(address):
        raise Refused(
            f"{address} cannot be given out by network {network.full_name}: {why}",
            "Leave out --ip for any free address, or see `kubectl yoshi ips list --free`.",
        )
