"""Collecting what nobody uses any more: records, addresses that the back-end keeps, objects of networks that are gone.

Only what invariant I5 allows is given back: not while a VM wants it, not while anything runs with it, not while that
cannot be told; and no record younger than a grace period, since its attachment may be under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kubectl_yoshi.model.backend import Backend, How, Uses
from kubectl_yoshi.model.change import Plan, side_by_side
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.facts import Facts, Read, together
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Record
from kubectl_yoshi.model.network import NETWORKWIZARD, Network
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt, age_in_seconds
from kubectl_yoshi.plan.books import open_network, open_whole, open_whole_anew, sound_networks, why_not_understood
from kubectl_yoshi.plan.cooling import duration
from kubectl_yoshi.plan.releases import lift_barriers, release_of
from kubectl_yoshi.plan.tidying import empty_block


@dataclass(frozen=True)
class CollectRequest:
    """What is to be collected.

    Attributes:
        networks: namespace and name of each network; None for all that may be seen, and leftovers of deleted ones.
        namespace: with networks None, only those of this namespace; None for all.
        grace_seconds: records younger than this stay.
    """

    networks: tuple[tuple[str, str], ...] | None = None
    namespace: str | None = None
    grace_seconds: float = 300.0


def plan_collection(request: CollectRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that give back what is unused.

    Raises:
        NeedMore: more must be read first.
        Refused: no such network, or networks may not be listed.
    """
    plan = Plan()
    if "" in attempt.failed:
        return Plan(refusals=_named(attempt.failed))
    for network in _networks(request, facts):
        backend = backends.get(network.plugin)
        if backend is None:
            plan = plan + Plan(notes=(f"network {network.full_name} is left alone: plugin {network.plugin!r}",))
            continue
        if why := why_not_understood(network):
            plan = plan + Plan(notes=(f"{why}: it is left alone",))
            continue
        part = _unused(request, network, backend, facts, attempt).beside(_old_blocks(network, facts, attempt))
        if not part and not attempt.failed:  # what is still recorded for a VM that is gone stays in the back-end too
            part = part + backend.strays(network, partial(_records_now, network, facts), facts)
        if not part:
            part = part + backend.repairs(network, None, facts)
        plan = plan.beside(part)
    plan = plan + lift_barriers(map(Vm, facts.all(VM)), plan)
    if request.networks is None:
        plan = plan + leftovers(request.namespace, backends, facts)
    return replace(plan, again=bool(plan), refusals=_named(attempt.failed))


def plan_leftovers(namespace: str | None, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that take away what networks of a namespace (None: of all) left behind that somebody deleted with
    plain kubectl.

    Raises:
        NeedMore: more must be read first.
    """
    if attempt.failed:
        return Plan(refusals=_named(attempt.failed))
    return leftovers(namespace, backends, facts)


def _named(failed: Mapping[str, YoshiError]) -> dict[str, YoshiError]:
    """Errors by whom they are for; those for nobody in particular must not get lost."""
    return {subject or "objects in other places": error for subject, error in failed.items()}


def _networks(request: CollectRequest, facts: Facts) -> list[Network]:
    if request.networks is not None:
        return [open_network(namespace, name, facts) for namespace, name in request.networks]
    read = Read(NETWORKWIZARD, request.namespace)
    found = facts.ask(read)
    if why := facts.why_unknown(read):
        raise Refused(f"networks cannot be listed: {why}", "Choose one namespace with -n instead of -A.")
    return sound_networks(found)


def _unused(request: CollectRequest, network: Network, backend: Backend, facts: Facts, attempt: Attempt) -> Plan:
    ledger = open_whole(network, facts)
    suspects = {
        number: record
        for number, record in ledger.records().items()
        if record.kind == VIRTUALMACHINE and record.subject not in attempt.failed
    }
    if not suspects:
        return Plan()
    namespaces = where_to_look(suspects.values(), facts)
    uses = Uses(backend.survey(network, namespaces, facts))
    wanted = {use.number for use in uses.all if use.how is How.WANTED}

    def given_back(number: int, record: Record) -> Plan:
        if why := facts.why_unknown(Read(VM, record.namespace if namespaces else None)):
            return Plan(notes=(f"{ledger.address(number)} stays recorded for {record.holder}: {why}",))
        left = [use for use in uses.at(number) if use.how is not How.WANTED]
        release = release_of(ledger, number, record, left, backend, facts, attempt.moment)
        return replace(release.plan, notes=release.notes)

    left = sorted(number for number in suspects if number not in wanted)
    ages = {number: age_in_seconds(suspects[number].since, attempt.now) for number in left}
    old = [number for number in left if ages[number] >= request.grace_seconds]
    young = len(left) - len(old)
    plan = side_by_side(together(partial(given_back, number, suspects[number]) for number in old)) if old else Plan()
    return plan + _young(network, young, request.grace_seconds) if young else plan


def _young(network: Network, count: int, grace_seconds: float) -> Plan:
    """Says that records stay for their age alone, on which `ips check` has an eye already."""
    records = f"{count} record{'s' if count > 1 else ''} of network {network.full_name}"
    why = f"{'are' if count > 1 else 'is'} younger than --grace {duration(grace_seconds)}"
    return Plan(notes=(f"{records} that no VM carries {why}: left alone for now",))


def _old_blocks(network: Network, facts: Facts, attempt: Attempt) -> Plan:
    """Closes blocks that hold nothing, once who had their addresses is long ago."""
    blocks = [obj for shelf, obj in open_whole(network, facts).objects.items() if shelf.is_block and obj is not None]
    closed = tuple(change for change in (empty_block(block, attempt.now) for block in blocks) if change)
    return Plan((closed,) if closed else ())


def _records_now(network: Network, facts: Facts) -> Mapping[int, Record]:
    return open_whole_anew(network, facts).records()


def where_to_look(records: Iterable[Record], facts: Facts) -> tuple[str, ...] | None:
    """All namespaces, since a VM of any may carry the address; those of the records where not all may be seen."""
    facts.ask(Read(VM))
    if facts.why_unknown(Read(VM)):
        return tuple(sorted({record.namespace for record in records}))
    return None


def leftovers(namespace: str | None, backends: Mapping[str, Backend], facts: Facts) -> Plan:
    """Takes away objects of networks that somebody deleted with plain kubectl, of those that were in the namespace.

    Needs to see every network there is: one may have been made anew elsewhere, and is not known by its name alone.
    """
    everywhere = Read(NETWORKWIZARD)
    live = facts.ask(everywhere)
    if why := facts.why_unknown(everywhere):
        return Plan(notes=(f"objects of deleted networks are not looked for: {why}",))
    networks = sound_networks(live)
    if len(networks) != len(live):
        return Plan(notes=("objects of deleted networks are not looked for while a network's spec is broken",))
    plan = Plan()
    for backend in backends.values():
        if not backend.missing(facts.served):
            try:
                plan = plan + _left_of(backend, networks, namespace, facts)
            except Refused as refused:
                plan = plan + Plan(notes=(refused.message,))
    return plan


def _left_of(backend: Backend, live: Sequence[Network], namespace: str | None, facts: Facts) -> Plan:
    """What takes away what one back-end made for networks that are no more.

    A network may have come after all were read, and its objects before these were: so they are read once more.
    """
    plan = backend.leftovers(live, namespace, facts)
    if not plan:
        return plan
    newest = sound_networks(facts.ask(Read(NETWORKWIZARD, look=1)))
    return backend.leftovers([*live, *newest], namespace, facts)
