"""VMs on networks that are no more: deleted with kubectl, while their VMs still carry what they were given.

Their records went with the network. What is left on the VM keeps it from starting once its pool is gone too, so it is
told by `ips check`, and taken off by `vm detach` as if the network were there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Change, Plan, side_by_side
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, UsageMistake, YoshiError
from kubectl_yoshi.model.facts import Facts, Read, both, together
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Record, outside_records
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network, parse_network_name
from kubectl_yoshi.model.objects import Json, Name
from kubectl_yoshi.model.vm import VM, Vm, instance_of, instance_reads
from kubectl_yoshi.plan import restarts
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import known_networks, network_read


@dataclass(frozen=True)
class Forsaken:
    """A VM that asks for a network that does not exist.

    Attributes:
        vm: who.
        network: namespace and name of what it asks for.
        addresses: what it still carries, or asks for, of no network that there is.
    """

    vm: Vm
    network: Name
    addresses: tuple[Address, ...]

    @property
    def says(self) -> str:
        """One sentence, with the way out."""
        name = "/".join(self.network)
        carries = f", and still carries {', '.join(map(str, self.addresses))}" if self.addresses else ""
        way_out = f"kubectl yoshi vm detach {self.vm.name} -n {self.vm.namespace} --network {name}"
        return f"VM {self.vm.subject} asks for network {name}, which does not exist{carries} (`{way_out}`)"


def forsaken(vms: Iterable[Vm], backends: Mapping[str, Backend], facts: Facts) -> list[Forsaken]:
    """Those of these VMs that ask for networks that do not exist; a network that may not be read is no such one.

    Raises:
        NeedMore: more must be read first.
    """
    asked = [(vm, name) for vm in vms for name in _asked_for(vm, backends)]
    facts.ask(*dict.fromkeys(network_read(*name) for _, name in asked))
    lost = [(vm, name) for vm, name in asked if is_gone(name, facts)]
    left = together(partial(_left_on, vm, name, backends, facts) for vm, name in lost)
    return [Forsaken(vm, name, one.addresses if one else ()) for (vm, name), one in zip(lost, left, strict=True)]


def is_gone(network: Name, facts: Facts) -> bool:
    """Whether there is no network of that name, for all that can be seen."""
    read = network_read(*network)
    return not facts.ask(read) and not facts.why_unknown(read)


def plan_farewell(
    network: Name, vms: Iterable[Name], backends: Mapping[str, Backend], facts: Facts, attempt: Attempt, error: Refused
) -> Plan:
    """The changes that take VMs off a network that is no more.

    Args:
        network: its namespace and name.
        vms: namespace and name of each.
        backends, facts, attempt: as every planner gets them.
        error: that there is no such network, for those that do not ask for it.

    Raises:
        NeedMore: more must be read first.
        Refused: none of the VMs asks for the network.
    """
    refusals: dict[str, YoshiError] = dict(attempt.failed)
    present: list[Vm] = []
    for read in [Read(VM, *name) for name in vms]:
        subject = f"{read.namespace}/{read.name}"
        found = facts.ask(read)
        if subject in refusals or attempt.done_for(subject):
            continue
        if why := facts.why_unknown(read):
            refusals[subject] = Refused(f'VM "{read.name}" cannot be read: {why}', ASK_FOR_IT)
        elif found:
            present.append(Vm(found[0]))
        else:
            refusals[subject] = error
    lefts, _ = both(
        lambda: together(partial(_left_on, vm, network, backends, facts) for vm in present),
        lambda: facts.ask(*instance_reads(present)),
    )
    answers: dict[str, str] = {}
    plans: list[Plan] = []
    for vm, left in zip(present, lefts, strict=True):
        if left is None:
            refusals[vm.subject] = error
            continue
        answers[vm.subject] = ", ".join(map(str, left.addresses))
        notes = _still_runs(vm, answers[vm.subject], facts) if left.backend.on_template else ()
        plans.append(Plan((_loosened(vm, network, left, facts),), notes))
    if not plans and error in refusals.values() and not attempt.sent:
        raise error
    return replace(side_by_side(plans), answers=answers, refusals=refusals)


def _still_runs(vm: Vm, addresses: str, facts: Facts) -> tuple[str, ...]:
    if not addresses or instance_of(vm, facts) is None:
        return ()
    return (restarts.restart_needed(f"{vm.ref} still runs with {addresses}"),)


def _asked_for(vm: Vm, backends: Mapping[str, Backend]) -> list[Name]:
    found: dict[Name, None] = {}
    for backend in backends.values():
        try:
            wishes = backend.wishes(vm)
            names = [parse_network_name(text, vm.namespace) for text in (wishes.networks if wishes else ())]
        except UsageMistake:
            continue  # `sync` tells what is wrong with it
        found.update(dict.fromkeys(names))
    return [*found]


@dataclass(frozen=True)
class _Left:
    """What a network has left on a VM, by the back-end that is to take it off."""

    backend: Backend
    addresses: tuple[Address, ...]


def _left_on(vm: Vm, network: Name, backends: Mapping[str, Backend], facts: Facts) -> _Left | None:
    """What a network that is no more has left on a VM; None where the VM is not on it.

    Which back-end made the network is not known any more, and two may read the annotation that names it: so it is the
    one whose addresses the VM carries, else one that gives interfaces.
    """
    asked = [one for one in backends.values() if one.loosen(vm, _as_it_was(network, one), facts)]
    found = [_Left(one, _carried(vm, network, one, facts)) for one in asked]
    return max(found, key=lambda left: (bool(left.addresses), left.backend.has_interface), default=None)


def _carried(vm: Vm, network: Name, backend: Backend, facts: Facts) -> tuple[Address, ...]:
    """The addresses that the VM has or asks for and that are of no network that there is."""
    others = [other for other in known_networks(vm.namespace, facts) if other.plugin == backend.plugin]
    told = backend.told_by(vm, "/".join(network)) if backend.on_template else _asked_with(vm, network, backend, others)
    return tuple(a for a in told if not any(a in other or a in outside_records(other) for other in others))


def _asked_with(vm: Vm, network: Name, backend: Backend, others: Iterable[Network]) -> tuple[Address, ...]:
    """The addresses that the VM asks for; () where some may be of another network that it names, for all that can be
    seen: that is gone too, or has no CIDR."""
    try:
        wishes = backend.wishes(vm)
        named = {parse_network_name(text, vm.namespace) for text in wishes.networks} - {network}
    except UsageMistake:
        return ()
    known = {(other.namespace, other.name) for other in others if other.cidr is not None}
    return wishes.addresses if named <= known else ()


def _loosened(vm: Vm, network: Name, left: _Left, facts: Facts) -> tuple[Change, ...]:
    """What takes the VM off the network."""
    one = left.backend.on_template or len(left.addresses) == 1
    cidr = str(ip_network(left.addresses[0])) if left.addresses and one else ""
    record = Record(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid).to_json()
    held = {} if one else {str(address): record for address in left.addresses}
    return left.backend.loosen(vm, _as_it_was(network, left.backend, cidr, held), facts)


def _as_it_was(network: Name, backend: Backend, cidr: str = "", held: Mapping[str, Json] | None = None) -> Network:
    """The network that is no more, as far as what it has left tells: with a CIDR, or the records of one without."""
    namespace, name = network
    obj = {
        "kind": NETWORKWIZARD.kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"plugin": backend.plugin, **({"cidr": cidr} if cidr else {})},
        "status": {"allocations": dict(held or {})},
    }
    return parse_network(obj)
