"""Moving an address that is beside its VM to another VM: never on two at once, never without a record, never stolen.

The VM that is to have it says so first, with the ports that it was open on; the one that has it lets go; the record
changes hands in one patch, which fails if anybody else was faster; then the other one gets it. A run that was killed in
between is finished by the same command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.backend import Backend, How, Use
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, YoshiError
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import (
    ONLY_A_NEWER_ONE,
    RESERVATION,
    USE_A_NEWER_ONE,
    VIRTUALMACHINE,
    Ledger,
    Record,
    shelf_of,
)
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attachments import AttachRequest, plan_attachments
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import open_network, open_shelves, open_whole, write_records
from kubectl_yoshi.plan.finding import network_having
from kubectl_yoshi.plan.opening import must_be_open
from kubectl_yoshi.plan.places import give_back_place, needs_place, plan_place
from kubectl_yoshi.plan.quotas import must_have_room
from kubectl_yoshi.plan.releases import barrier, barriers_left
from kubectl_yoshi.plan.returns import loosened, take_back_move
from kubectl_yoshi.plan.serving import backend_of


@dataclass(frozen=True)
class MoveRequest:
    """What is wanted.

    Attributes:
        address: which.
        to: namespace and name of the VM that is to have it.
        network: its namespace and name; None for the one that has the address.
        ports: what it is to be open on; () for what the VM asks for, else what it was open on.
        wait: wait until it can be reached.
    """

    address: Address
    to: tuple[str, str]
    network: tuple[str, str] | None = None
    ports: tuple[Port, ...] = ()
    wait: bool = False


def plan_move(request: MoveRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that move the address, as far as they can be planned now.

    The plan's `answers` has the address for the VM that gets it.

    Raises:
        NeedMore: more must be read first.
        Refused: the address is nobody's, is reserved, or may not be moved; or the VM has another one.
    """
    network = _network(request, facts)
    backend = backend_of(network, backends)
    number = int(request.address)
    ledger = open_shelves(network, [shelf_of(network, number)], facts)
    target = _vm(request.to, facts)
    if attempt.failed:
        plan = _undo(network, backend, ledger, target, number, attempt, facts, attempt.failed)
    else:
        must_be_open(network)
        try:
            plan = _plan(request, network, backend, ledger, target, backends, facts, attempt)
        except Refused as refused:
            plan = _undo(network, backend, ledger, target, number, attempt, facts, {target.subject: refused})
            if not plan:
                raise
    return plan + barriers_left(attempt, facts, plan)


def _plan(
    request: MoveRequest,
    network: Network,
    backend: Backend,
    ledger: Ledger,
    target: Vm,
    backends: Mapping[str, Backend],
    facts: Facts,
    attempt: Attempt,
) -> Plan:
    number = int(request.address)
    record = ledger.records().get(number)
    attach = AttachRequest(
        (network.namespace, network.name), (request.to,), request.address, ports=request.ports, wait=request.wait
    )
    _may_move(request, network, backend, record, target)
    assert record is not None
    if record.uid == target.uid and record.namespace == target.namespace:
        return plan_attachments(attach, backends, facts, attempt)
    _must_be_movable(network, backend, record, number, target, facts)
    placed = needs_place(network, record, target) and not attempt.preview
    begun = _must_have_no_other(network, backend, target, number, facts, placed)
    if not placed:
        must_have_room(network, open_whole(network, facts).records(), target, record)
    elif place := plan_place(network, backend, target, number, facts, attempt, begun):
        return replace(place, answers={target.subject: str(request.address)})
    plan = _let_go(request, network, backend, record, target, attempt, facts)
    if plan is None:
        taken = Record(VIRTUALMACHINE, target.namespace, target.name, target.uid, since=attempt.moment)
        handed = write_records(ledger, {number: taken}, {number: target.subject}, only_as_read=placed)
        handed = barrier(record, facts, target.subject) + handed
        return replace(handed, answers={target.subject: str(request.address)})
    later = _later(network, backend, ledger, target, request, attempt, facts)
    plan = plan + later if attempt.preview else replace(plan, foreseen=(*plan.foreseen, *later))
    return replace(plan, answers={target.subject: str(request.address)})


def _network(request: MoveRequest, facts: Facts) -> Network:
    if request.network is not None:
        return open_network(*request.network, facts)
    return network_having(request.address, request.to[0], facts)


def _vm(name: tuple[str, str], facts: Facts) -> Vm:
    read = Read(VM, *name)
    found = facts.ask(read)
    if not found or Vm(found[0]).is_going:
        why = facts.why_unknown(read) or ("it is being deleted" if found else "there is none")
        raise Refused(f'VM "{name[1]}" in namespace "{name[0]}" cannot get an address: {why}', "Name another VM.")
    return Vm(found[0])


def _may_move(request: MoveRequest, network: Network, backend: Backend, record: Record | None, target: Vm) -> None:
    address = request.address
    attach = f"kubectl yoshi vm attach {target.name} -n {target.namespace}"
    called = network.called_from(target.namespace)
    if backend.on_template:
        raise Refused(
            f"{address} is of network {network.full_name}, whose addresses are part of their VM: only public ones move",
            f"{_detach(network, record)}`{attach} --network {called} --ip {address}`.",
        )
    if record is None:
        raise Refused(
            f"{address} is nobody's on network {network.full_name}: there is nothing to move",
            f"Give it with `{attach} --public-network {called} --public-ip {address}`.",
        )
    if not record.is_known:
        raise Refused(
            f"{address} is {record.holder}'s on network {network.full_name}: {ONLY_A_NEWER_ONE}", USE_A_NEWER_ONE
        )
    if record.kind == RESERVATION:
        raise Refused(
            f"{address} is {record.holder} on network {network.full_name}",
            f"Release it first with `kubectl yoshi ips release {network.full_name} {address}`.",
        )


def _detach(network: Network, record: Record | None) -> str:
    """What comes before an attachment to an address of a VM's, in words."""
    if record is None or record.kind != VIRTUALMACHINE:
        return ""
    called = network.called_from(record.namespace)
    return f"`kubectl yoshi vm detach {record.name} -n {record.namespace} --network {called}`, then "


def _must_have_no_other(
    network: Network, backend: Backend, target: Vm, number: int, facts: Facts, placed: bool
) -> bool:
    """Raises Refused where the VM has another address of the network; gives whether it asks for this one already.

    With `placed` it may have a record of another one, for the time of the move (plan/places.py).
    """
    uses = [use for use in backend.uses(network, [target], Intervals(), facts) if use.how is How.WANTED]
    carried = {use.number for use in uses if use.is_of(target.namespace, target.name, target.uid)}
    recorded = [n for n, r in open_whole(network, facts).records().items() if r.uid == target.uid]
    for other in sorted(carried.union(() if placed else recorded) - {number}):
        raise Refused(
            f"VM {target.subject} already has {network.address(other)} on network {network.full_name}",
            f"Detach it first: `kubectl yoshi vm detach {target.name} -n {target.namespace} "
            f"--network {network.full_name}`.",
        )
    return number in carried


def _must_be_movable(network: Network, backend: Backend, record: Record, number: int, target: Vm, facts: Facts) -> None:
    """An address that somebody else's object keeps for the VM that has it goes where that object says, not here."""
    for use in backend.survey(network, (record.namespace,), facts):
        if use.number == number and use.how is How.HELD and not use.is_of(target.namespace, target.name, target.uid):
            raise Refused(
                f"{use.ref} has {network.address(number)} for VM {record.holder}, and somebody else has made it",
                f"Make it select VM {target.subject}, then move the address.",
            )


def _undo(
    network: Network,
    backend: Backend,
    ledger: Ledger,
    target: Vm,
    number: int,
    attempt: Attempt,
    facts: Facts,
    refusals: Mapping[str, YoshiError],
) -> Plan:
    """Takes back what this run did for a VM that does not get the address in the end, and the VM's place."""
    place = give_back_place(network, target, number, facts, attempt)
    taken_back = take_back_move(network, backend, ledger, target, number, facts, attempt)
    return replace(taken_back + place, refusals=refusals)


def _let_go(
    request: MoveRequest,
    network: Network,
    backend: Backend,
    record: Record,
    target: Vm,
    attempt: Attempt,
    facts: Facts,
) -> Plan | None:
    """What makes the VM that has the address let go of it; None where it does not have it any more.

    Raises:
        Refused: something of a VM that is gone still has it.
    """
    number = int(request.address)
    read = Read(VM, record.namespace, record.name)
    found = facts.ask(read)
    subject = record.subject
    if why := facts.why_unknown(read):
        raise Refused(f"whether VM {subject} still has {network.address(number)} cannot be told: {why}", ASK_FOR_IT)
    holder = Vm(found[0]) if found else None
    if holder is not None and (not record.uid or holder.uid == record.uid):
        taken = [replace(change, subject=target.subject) for change in backend.loosen(holder, network, facts)]
        if not taken:
            return None
        ports = request.ports or backend.open_on(target, network, facts) or backend.open_on(holder, network, facts)
        wished = backend.fasten(target, network, number, "", facts, ports)
        plan = Plan((wished,) if wished else ())
        if not attempt.preview:
            plan = plan + _may_be_made(backend.establish(target, network, number, ports, facts), taken)
        return plan + loosened(taken)
    left = [use for use in _uses_of_the_gone(network, backend, record, facts) if use.number == number]
    if left:
        raise Refused(
            f"{left[0].ref} of VM {subject}, which is gone, still has {network.address(number)}",
            "Kubernetes is deleting it; try again in a moment.",
        )
    return None


def _may_be_made(made: Plan, taken: Iterable[Change]) -> Plan:
    """Finds out whether what is made for the VM may be made, before anything is taken from the other one: patches that
    only test, of what that one has, where patches of the like are needed (a Service's status)."""
    ends = [change for change in taken if change.verb is Verb.DELETE]
    likes = {(change.ref.resource, change.subresource) for change in made if change.verb is Verb.PATCH}
    tests = tuple(
        Change(
            Verb.PATCH, end.ref, f"see whether the {subresource} of {end.ref} may be written",
            PatchBuilder.of_uid(end.uid).ops, subresource, before=end.before, subject=end.subject,
        )
        for end in ends
        for resource, subresource in likes
        if subresource and resource == end.ref.resource
    )  # fmt: skip
    return Plan((tests,) if tests else ())


def _uses_of_the_gone(network: Network, backend: Backend, record: Record, facts: Facts) -> tuple[Use, ...]:
    uses = backend.survey(network, (record.namespace,), facts)
    return tuple(use for use in uses if use.is_of(record.namespace, record.name, record.uid))


def _later(
    network: Network,
    backend: Backend,
    ledger: Ledger,
    target: Vm,
    request: MoveRequest,
    attempt: Attempt,
    facts: Facts,
) -> Plan:
    """What comes once the VM that has the address has let go."""
    number = int(request.address)
    taken = Record(VIRTUALMACHINE, target.namespace, target.name, target.uid, since=attempt.moment)
    plan = write_records(ledger, {number: taken})
    return plan + backend.establish(target, network, number, request.ports, facts)
