"""Making networks and taking them away: the NetworkWizard, what its back-end needs, a status that tells the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kubectl_yoshi.model.backend import Backend, Obstacle
from kubectl_yoshi.model.change import Change, Plan, Verb, in_order, pointer
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused, Unseen, UsageMistake, YoshiError, first_few
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import (
    NETWORK,
    ONLY_A_NEWER_ONE,
    RESERVATION,
    USE_A_NEWER_ONE,
    VIRTUALMACHINE,
    is_large,
)
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, bare_network, parse_network
from kubectl_yoshi.model.objects import Json, dig, name_of, namespace_of, resource_version_of
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.agreement import must_agree, must_be_as_made
from kubectl_yoshi.plan.attempt import Attempt, age_in_seconds
from kubectl_yoshi.plan.books import (
    STATUS_DELETING,
    must_be_understood,
    network_read,
    open_complete,
    open_network,
    remove_records,
)
from kubectl_yoshi.plan.building import built
from kubectl_yoshi.plan.detachments import DetachRequest, plan_detachments
from kubectl_yoshi.plan.network_status import status_plan
from kubectl_yoshi.plan.opening import must_be_open, plan_opening
from kubectl_yoshi.plan.overlaps import must_give_way_to_none, overlaps, overlaps_beside
from kubectl_yoshi.plan.releases import barriers_left
from kubectl_yoshi.plan.serving import backend_of, must_be_served
from kubectl_yoshi.plan.undoing import recorded_by_this_run

ABANDONED_SECONDS = 600.0
"""A deletion that was begun longer ago than this was given up: `sync` brings the network up again."""
NOT_BACKENDS = (NETWORKWIZARD, ADDRESSBLOCK, VM)
"""Where a run that makes a network writes besides what its back-end has it make, or write into what is there."""
MARKS = 3
"""How often a deletion marks a network anew that others bring up again meanwhile. Then a small one is deleted unmarked,
if nobody writes to it meanwhile; of a large one, whose records are in other objects, that would not tell enough."""


@dataclass(frozen=True)
class NetworkRequest:
    """What is wanted: the NetworkWizard of that name made to work.

    Attributes:
        namespace, name: which.
        wanted: the object to make where it does not exist; None to work on what is there (sync).
        beside: networks that the same command makes first: a preview counts them as there.
    """

    namespace: str
    name: str
    wanted: Json | None = None
    beside: tuple[Json, ...] = ()


@dataclass(frozen=True)
class NetworkRemoval:
    """What is wanted: the network gone, and all that was made for it.

    Attributes:
        namespace, name: which.
        force: detach its VMs and drop its reservations first.
        restart: with force, restart VMs that run with its addresses.
    """

    namespace: str
    name: str
    force: bool = False
    restart: bool = False


def default_plugin(backends: Mapping[str, Backend], facts: Facts) -> str:
    """The plugin of a network for which none was named: the first one whose back-end is there.

    Raises:
        Refused: none is; the message names what was looked for.
    """
    looked_for = []
    for plugin, backend in backends.items():
        if not backend.by_default:
            continue
        missing = backend.missing(facts.served)
        if not missing:
            return plugin
        looked_for.append(f"{plugin}: {missing}")
    raise Refused(
        "this cluster has nothing that networks can be made with; looked for " + "; ".join(looked_for),
        "Install one of these first.",
    )


def plan_network(request: NetworkRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that make the network and bring its status up to date.

    A network that another one overlaps is refused before it is made; where two are made at the same time, the
    younger one gives way. When anything fails, what this run made is taken away again.

    Raises:
        NeedMore: more must be read first.
        Refused, UsageMistake: it cannot be made.
    """
    read = network_read(request.namespace, request.name)
    found = facts.ask(read)
    if why := facts.why_unknown(read):
        raise Refused(f'network "{request.name}" cannot be read: {why}', ASK_FOR_IT)
    subject = f"{request.namespace}/{request.name}"
    if attempt.failed:
        return _undo(found, attempt, subject, backends, facts)
    if not found:
        if subject in attempt.given_up:  # or it would be made, and taken back, without end
            raise attempt.given_up[subject]
        if request.wanted is None:
            open_network(request.namespace, request.name, facts)
        return _first(request, backends, facts, attempt, subject)
    if request.wanted is not None and _creates(bare_network(found[0]), attempt.done):
        try:
            must_be_as_made(found[0], request.wanted)
        except Refused as error:
            return _take_back(bare_network(found[0]), error, backends, facts, attempt, subject)
    elif request.wanted is not None:
        must_agree(found[0], request.wanted)
    try:
        network = parse_network(found[0])
    except UsageMistake as mistake:
        return replace(
            status_plan(bare_network(found[0]), False, mistake.message, attempt, subject), refusals={subject: mistake}
        )
    must_be_understood(network)
    age = age_in_seconds(network.deleting_since, attempt.now)
    if request.wanted is None and network.deleting_since and age < ABANDONED_SECONDS:
        return Plan(notes=(f"network {network.full_name} is left alone: it is being deleted",))
    return _bring_up(network, backends, facts, attempt, subject)


def _first(
    request: NetworkRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt, subject: str
) -> Plan:
    """Makes the NetworkWizard, once all is known to be well."""
    assert request.wanted is not None
    network = parse_network(request.wanted)
    backend = backend_of(network, backends)
    must_be_served(network, backend, facts)
    beside = [parse_network(obj) for obj in request.beside] if attempt.preview else []
    for other in beside:
        if other.ref == network.ref:
            must_agree(other.raw, request.wanted)
            return Plan()
    in_the_way = [*map(Obstacle, overlaps(network, facts, beside)), *backend.obstacles(network, facts)]
    if in_the_way:
        raise Refused(f"network {network.full_name} cannot be made: {in_the_way[0].says}", _way_out(in_the_way))
    notes = []
    if network.host_bits:
        notes.append(f"{dig(network.raw, 'spec', 'cidr')} has host bits; the network is {network.cidr}")
    if unasked := backend.taken_unasked(network, facts):
        notes.append(f"chosen for network {network.full_name}, which does not say: {', '.join(unasked)}")
    says = f"make network {network.full_name}" + (f" with {network.cidr}" if network.cidr else "")
    change = Change(Verb.CREATE, network.ref, says, body=request.wanted, subject=subject, strict=True)
    plan = in_order(change, notes=tuple(notes))
    if attempt.preview:
        return plan + built(network, backend, facts, attempt)
    return replace(plan, again=True)


def _bring_up(network: Network, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt, subject: str) -> Plan:
    if dig(network.raw, "metadata", "deletionTimestamp"):
        raise Refused(f"network {network.full_name} is being deleted", "Wait until it is gone, then try again.")
    backend = backend_of(network, backends)
    made_now = _creates(network, attempt.done)
    try:
        must_be_served(network, backend, facts)
        must_give_way_to_none(network, facts, just_made=made_now)
        overlapping = [] if network.is_made else overlaps_beside(network, facts)
        in_the_way = [*map(Obstacle, overlapping), *backend.obstacles(network, facts)]
        if in_the_way:
            raise Refused(in_the_way[0].says, _way_out(in_the_way))
        if network.deleting_since and (backend.own_use(network) or not network.is_open):  # the mark refuses all records
            unmarked = status_plan(network, network.is_made, "it is made anew", attempt, subject)
            return replace(unmarked, again=True)
        opening = plan_opening(network, backend, facts, attempt, is_new=_creates(network, attempt.sent))
        plan = opening or built(network, backend, facts, attempt)
    except YoshiError as error:
        if made_now:
            return _take_back(network, error, backends, facts, attempt, subject)
        if facts.unknowns():  # who may not see everything must not note down that it does not work
            return Plan(refusals={subject: error})
        return replace(status_plan(network, False, error.message, attempt, subject), refusals={subject: error})
    if plan:
        return replace(plan, again=True)
    problem = backend.problem(network, facts)
    return replace(status_plan(network, True, problem, attempt, subject), notes=(*opening.notes, *plan.notes))


def _creates(network: Network, changes: Iterable[Change]) -> bool:
    """Whether the network is made by one of these changes."""
    return any(change.verb is Verb.CREATE and change.ref == network.ref for change in changes)


def _way_out(in_the_way: Sequence[Obstacle]) -> str:
    """What else is in the way, a little of it, and what to do."""
    if in_the_way[0].unseen:
        return "Ask an administrator for this right, or to make the network."
    more = [obstacle.says for obstacle in in_the_way[1:3]]
    return "\n".join([*more, "Choose another CIDR or name, or remove what is in the way."])


def _unmake(network: Network, subject: str) -> Plan:
    return in_order(
        Change(
            Verb.DELETE, network.ref, f"take network {network.full_name} back", before=network.raw, uid=network.uid,
            resource_version=resource_version_of(network.raw), subject=subject, tolerate_missing=True,
        )
    )  # fmt: skip


def _undo(found: list[Json], attempt: Attempt, subject: str, backends: Mapping[str, Backend], facts: Facts) -> Plan:
    """Takes away what this run made before it failed."""
    error = next(iter(attempt.failed.values()))
    made = {change.ref for change in attempt.done if change.verb is Verb.CREATE}
    plan = Plan(refusals={subject: error})
    if not found:
        return plan
    if NETWORKWIZARD.ref(name_of(found[0]), namespace_of(found[0])) not in made:
        if subject in attempt.failed:  # the status itself could not be written
            return plan
        there = bare_network(found[0])
        return replace(status_plan(there, there.is_made, error.message, attempt, subject), refusals=plan.refusals)
    return _take_back(parse_network(found[0]), error, backends, facts, attempt, subject)


def _take_back(
    network: Network,
    error: YoshiError,
    backends: Mapping[str, Backend],
    facts: Facts,
    attempt: Attempt,
    subject: str,
) -> Plan:
    """Takes away a network that this run made and that cannot be made to work, with what it made for it.

    It stays where others have been given addresses of it meanwhile: it was open to them as soon as those VMs were
    recorded that had some before. A large one is marked before its records are looked at, as in every deletion.
    """
    plan = Plan(refusals={subject: error})
    if why := _why_to_stay(network, facts, attempt):
        note = f"network {network.full_name} stays, though it does not work: {why}"
        if subject not in attempt.failed:  # else the status itself could not be written
            plan = plan + status_plan(network, False, error.message, attempt, subject)
        return replace(plan, notes=(note,))
    if is_large(network) and network.is_open and not network.is_going:
        mark = status_plan(network, False, "it is taken back", attempt, subject, deleting=attempt.stamp)
        return replace(plan + mark, again=True)
    if any(c.ref.resource not in NOT_BACKENDS for c in attempt.sent):
        try:
            plan = plan + backend_of(network, backends).demolish(network, facts)
        except Refused as refused:
            plan = replace(plan, notes=(refused.message,))
    return replace(plan + _unmake(network, subject), given_up={subject: error})


def _why_to_stay(network: Network, facts: Facts, attempt: Attempt) -> str:
    """Who else has been given an address of a network that this run made, or why that cannot be told; "" for nobody."""
    if not network.is_open:
        return ""
    mine = recorded_by_this_run(network, attempt)
    try:
        ledger = open_complete(network, facts)
    except Refused as refused:
        return refused.message
    for number, record in sorted(ledger.records().items()):
        if record.kind != NETWORK and record.as_written not in mine.get(number, ()):
            return f"{record.holder} has {ledger.address(number)} meanwhile"
    return ""


def plan_network_removal(
    request: NetworkRemoval, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt
) -> Plan:
    """The changes that take the network away, with all that was made for it.

    It is marked first, so that no address of it is given out any more, and looked at again; where it must stay after
    all, it is brought up again.

    Raises:
        NeedMore: more must be read first.
        Refused: VMs hold its addresses (the message lists them) and `force` was not given, or they still run.
    """
    read = network_read(request.namespace, request.name)
    found = facts.ask(read)
    if not found and any(c.verb is Verb.DELETE and c.ref.name == request.name for c in attempt.sent):
        return Plan()
    network = _open_even_broken(request, facts)
    subject = network.full_name
    if attempt.failed:
        gives_up = bool(network.deleting_since) and "" not in attempt.failed
        plan = _kept(network, backends, facts, attempt) if gives_up else Plan()
        return replace(plan, refusals={subject: next(iter(attempt.failed.values()))})
    try:
        plan = _removal(request, network, backends, facts, attempt)
    except Refused as refused:
        if not network.deleting_since or attempt.preview:
            raise
        return replace(_kept(network, backends, facts, attempt), again=True, refusals={subject: refused})
    marks = sum(1 for c in attempt.done if c.ref == network.ref and _marks(c))
    if attempt.preview or network.is_going:
        return plan
    if marks >= MARKS:
        if is_large(network):
            raise Refused(
                f"network {network.full_name} cannot be deleted: it is brought up again as often as it is marked",
                "End what brings it up, such as a `kubectl yoshi sync --watch` on a machine whose clock is ahead. If "
                "nothing does, the CRDs are older than this program: `kubectl yoshi install` renews them.",
            )
        return plan
    mark = status_plan(network, network.is_made, "it is being deleted", attempt, subject, deleting=attempt.stamp)
    return replace(mark, again=True, foreseen=plan.foreseen)


def _marks(change: Change) -> bool:
    """Whether a change marks a network as being deleted."""
    ops = change.body if isinstance(change.body, list) else ()
    return any(op["path"] == pointer(STATUS_DELETING) and op["op"] == "add" for op in ops)


def _kept(network: Network, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """Brings up again a network whose deletion was begun and cannot be completed."""
    plan, created, problem = Plan(), True, ""
    try:
        backend = backend_of(network, backends)
        must_be_open(network)
        plan = built(network, backend, facts, attempt)
        problem = "" if plan else backend.problem(network, facts)
    except YoshiError as error:
        created, problem = network.is_made, error.message
    return plan + status_plan(network, created, problem, attempt, "")


def _removal(
    request: NetworkRemoval, network: Network, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt
) -> Plan:
    ledger = open_complete(network, facts)
    records = ledger.records()
    records = {number: record for number, record in records.items() if record.kind != NETWORK}
    for number, record in sorted(records.items()):
        if not record.is_known:
            holder = f"{ledger.address(number)} {record.holder}"
            raise Refused(f"network {network.full_name} is in use: {holder}; {ONLY_A_NEWER_ONE}", USE_A_NEWER_ONE)
    vms = sorted({(r.namespace, r.name) for r in records.values() if r.kind == VIRTUALMACHINE})
    reserved = {n: r for n, r in records.items() if r.kind == RESERVATION}
    if records and not request.force:
        holders = [f"{ledger.address(n)} {r.holder}" for n, r in sorted(records.items())]
        raise Refused(
            f"network {network.full_name} is in use: {first_few(holders, 10)}",
            "Detach them first, or pass --force to detach them and drop reservations.",
        )
    plan = remove_records(ledger, reserved, until=attempt.moment) if reserved else Plan()
    if vms:
        detach = DetachRequest((network.namespace, network.name), tuple(vms), request.restart)
        part = plan_detachments(detach, backends, facts, attempt)
        stuck = part.notes or tuple(error.message for error in part.refusals.values())
        if not any(part) and stuck:
            raise Refused(
                f"network {network.full_name} cannot be deleted yet: {stuck[0]}",
                "Stop these VMs first, or pass --force --restart.",
            )
        plan = plan + part
    plan = plan + barriers_left(attempt, facts, plan)
    gone = Change(
        Verb.DELETE, network.ref, f"delete network {network.full_name}", before=network.raw, uid=network.uid,
        resource_version=resource_version_of(network.raw), subject=network.full_name,
    )  # fmt: skip
    if plan and (not attempt.preview or plan.notes):
        last = (*_demolished_later(network, backends, facts), gone)
        return replace(plan, again=True, foreseen=(*plan.foreseen, *last))
    backend = backends.get(network.plugin)
    if backend is not None and not backend.missing(facts.served):
        plan = plan + backend.repairs(network, None, facts)
        try:
            plan = plan + backend.demolish(network, facts)
        except Refused as refused:
            if not plan:
                raise
            return plan + Plan(notes=(f"for now: {refused.message}",))
    if dig(network.raw, "metadata", "deletionTimestamp"):
        return replace(plan, notes=(*plan.notes, _waits(network)))
    return plan + in_order(gone)


def _demolished_later(network: Network, backends: Mapping[str, Backend], facts: Facts) -> Plan:
    """The back-end's part of a deletion, as far as it is known while somebody still has an address.

    Raises:
        NeedMore: more must be read first.
        Unseen: something that the deletion depends on may not be read: no VM is to be detached in vain.
    """
    backend = backends.get(network.plugin)
    plan = Plan()
    if backend is not None and not backend.missing(facts.served):
        try:
            plan = backend.demolish(network, facts, later=True)
        except Refused as refused:
            raise Unseen(f"network {network.full_name} cannot be deleted: {refused.message}", refused.way_out) from None
    if unseen := facts.unknowns():
        raise Unseen(
            f"network {network.full_name} cannot be deleted: {unseen[0]}",
            "Ask an administrator for this right, or to delete the network.",
        )
    return plan


def _waits(network: Network) -> str:
    keepers = ", ".join(dig(network.raw, "metadata", "finalizers", default=[]))
    return f"network {network.full_name} is being deleted" + (f"; its finalizers keep it: {keepers}" if keepers else "")


def holders_of(namespace: str, name: str, facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `force` takes a network's addresses from: VMs ("prod/web-1"), and the reserved addresses.

    Raises:
        NeedMore: more must be read first.
        Refused: there is no such network.
    """
    ledger = open_complete(_open_even_broken(NetworkRemoval(namespace, name), facts), facts)
    records = sorted(ledger.records().items())
    vms = dict.fromkeys(record.holder for _, record in records if record.kind == VIRTUALMACHINE)
    return tuple(vms), tuple(str(ledger.address(number)) for number, record in records if record.kind == RESERVATION)


def _open_even_broken(request: NetworkRemoval, facts: Facts) -> Network:
    """The network to delete: one whose spec cannot be read rightly can still be deleted."""
    try:
        return open_network(request.namespace, request.name, facts)
    except UsageMistake:
        network = bare_network(facts.ask(network_read(request.namespace, request.name))[0])
        must_be_understood(network)
        return network
