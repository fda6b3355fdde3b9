"""`network create` and `network delete`: one network after the other, each a run of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.commands.changing import carry, fail_if_refused, one_by_one, told
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.wizards import network_of_flags, networks_of_files
from kubectl_yoshi.model.change import Verb
from kubectl_yoshi.model.errors import Refused, first_few
from kubectl_yoshi.model.ledger import RESERVATION, VIRTUALMACHINE
from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network_name
from kubectl_yoshi.model.objects import name_of, namespace_of
from kubectl_yoshi.output.asked import Output
from kubectl_yoshi.plan.networks import (
    NetworkRemoval,
    NetworkRequest,
    holders_of,
    plan_network,
    plan_network_removal,
)
from kubectl_yoshi.plan.releases import given_back_by

if TYPE_CHECKING:
    from kubectl_yoshi.cluster.running import Done
    from kubectl_yoshi.commands.network import CreateOptions, DeleteOptions

MOST_NAMED = 5
"""VMs that a question names; the rest is counted."""


def create_networks(session: Session, options: CreateOptions) -> None:
    """`network create`"""
    if options.filenames:
        wanted = networks_of_files(session, options.filenames)
    else:
        wanted = [network_of_flags(session, options)]
    requests = []
    for number, obj in enumerate(wanted):
        request = NetworkRequest(namespace_of(obj), name_of(obj), obj, tuple(wanted[:number]))
        requests.append((f"{request.namespace}/{request.name}", request))
    one_by_one(session, "networks", requests, partial(_create, session, options))


def _create(session: Session, options: CreateOptions, request: NetworkRequest) -> None:
    shown = f"networkwizard.plumber.k8s.pf9.io/{request.name}"
    planner, unchanged = partial(plan_network, request, BACKENDS), {"": f"{shown} unchanged"}
    done = carry(session, planner, options.dry_run, options.output, unchanged=unchanged)
    if done is None:
        return
    fail_if_refused(session, done)
    ref = NETWORKWIZARD.ref(request.name, request.namespace)
    answers = [answer for change, answer in done.done if change.ref == ref and answer]
    created = any(change.ref == ref and change.verb is Verb.CREATE for change, _ in done.done)
    word = "created" if created else "configured" if done.changed() else "unchanged"
    now = answers[-1] if answers else request.wanted if options.output.for_people else session.api.get(ref)
    told(session, options.output, f"{shown} {word}", now or {})


def delete_networks(session: Session, options: DeleteOptions) -> None:
    """`network delete`"""
    requests = {}
    for text in options.names:
        namespace, name = parse_network_name(text, session.namespace)
        requests[f"{namespace}/{name}"] = NetworkRemoval(namespace, name, options.force, options.restart)
    if options.force and not options.yes and options.dry_run == "none" and not session.diffing:
        for question in [_question(session, request) for request in requests.values()]:
            if question:
                session.confirm(question, options.yes)
    one_by_one(session, "networks", tuple(requests.items()), partial(_delete, session, options))


def _delete(session: Session, options: DeleteOptions, request: NetworkRemoval) -> None:
    done = carry(session, partial(plan_network_removal, request, BACKENDS), options.dry_run, Output())
    if done is None:
        return
    _tell_who_had_addresses(session, request, done)
    fail_if_refused(session, done)
    if done.changed():
        print(f"networkwizard.plumber.k8s.pf9.io/{request.name} deleted", file=session.out)


def _question(session: Session, request: NetworkRemoval) -> str:
    """What --force would take from whom; "" where that is told when the network has its turn."""
    try:
        (vms, reserved), _ = observe_value(partial(holders_of, request.namespace, request.name), session.api)
    except Refused:
        return ""
    network = f"network {request.namespace}/{request.name}"
    steps = []
    if vms:
        steps.append(f"detach {_counted(len(vms), 'VM')} ({first_few(vms, MOST_NAMED)}) from it")
    if reserved:
        steps.append(f"drop {_counted(len(reserved), 'reservation')}")
    if not steps:
        return f"Nobody holds an address of {network}. Delete it?"
    return f"Delete {network}, {' and '.join(steps)}?"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _tell_who_had_addresses(session: Session, request: NetworkRemoval, done: Done) -> None:
    """A line for each VM that was detached and each reservation that was dropped, also where the network stays."""
    for address, record in given_back_by((change for change, _ in done.done), request.namespace).items():
        if record.kind == VIRTUALMACHINE:
            vm = record.name if record.namespace == session.namespace else record.holder
            print(f"virtualmachine.kubevirt.io/{vm} detached from {request.name} (was {address})", file=session.out)
        elif record.kind == RESERVATION:
            print(f"{address} released (was {record.holder})", file=session.out)
