"""`network create` and `network delete`: one network after the other, each a run of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.changing import execute, print_result, raise_errors, run_each
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.wizards import build_network, read_networks
from kubectl_yoshi.engine.read import read_and_compute
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE
from kubectl_yoshi.model.errors import PreconditionFailed, first_few
from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network_name
from kubectl_yoshi.model.objects import name_of, namespace_of
from kubectl_yoshi.model.plan import Verb
from kubectl_yoshi.output.format_option import OutputFormat
from kubectl_yoshi.plan.network.planner import (
    NetworkDeleteRequest,
    NetworkRequest,
    list_holders,
    plan_network,
    plan_network_deletion,
)
from kubectl_yoshi.plan.release import find_released_records

if TYPE_CHECKING:
    from kubectl_yoshi.commands.network import CreateOptions, DeleteOptions
    from kubectl_yoshi.engine.loop import RunResult

MAX_NAMED = 5
"""VMs that a question names; the rest is counted."""


def create_networks(session: Session, options: CreateOptions) -> None:
    """`network create`"""
    manifests = read_networks(session, options.filenames) if options.filenames else [build_network(session, options)]
    requests = []
    for number, obj in enumerate(manifests):
        request = NetworkRequest(namespace_of(obj), name_of(obj), obj, tuple(manifests[:number]))
        requests.append((f"{request.namespace}/{request.name}", request))
    run_each(session, "networks", requests, partial(_create, session, options))


def _create(session: Session, options: CreateOptions, request: NetworkRequest) -> None:
    shown = f"networkwizard.plumber.k8s.pf9.io/{request.name}"
    planner, unchanged = partial(plan_network, request, BACKENDS), {"": f"{shown} unchanged"}
    done = execute(session, planner, options.dry_run, options.output, unchanged=unchanged)
    if done is None:
        return
    raise_errors(session, done)
    ref = NETWORKWIZARD.ref(request.name, request.namespace)
    results = [answer for change, answer in done.executed if change.ref == ref and answer]
    created = any(change.ref == ref and change.verb is Verb.CREATE for change, _ in done.executed)
    word = "created" if created else "configured" if done.has_changed() else "unchanged"
    current = results[-1] if results else request.manifest if options.output.is_human_readable else session.api.get(ref)
    print_result(session, options.output, f"{shown} {word}", current or {})


def delete_networks(session: Session, options: DeleteOptions) -> None:
    """`network delete`"""
    requests = {}
    for text in options.names:
        namespace, name = parse_network_name(text, session.namespace)
        requests[f"{namespace}/{name}"] = NetworkDeleteRequest(namespace, name, options.force, options.restart)
    if options.force and not options.yes and options.dry_run == "none" and not session.is_diff:
        for question in [_confirmation_question(session, request) for request in requests.values()]:
            if question:
                session.confirm(question, options.yes)
    run_each(session, "networks", tuple(requests.items()), partial(_delete, session, options))


def _delete(session: Session, options: DeleteOptions, request: NetworkDeleteRequest) -> None:
    done = execute(session, partial(plan_network_deletion, request, BACKENDS), options.dry_run, OutputFormat())
    if done is None:
        return
    _print_released(session, request, done)
    raise_errors(session, done)
    if done.has_changed():
        print(f"networkwizard.plumber.k8s.pf9.io/{request.name} deleted", file=session.out)


def _confirmation_question(session: Session, request: NetworkDeleteRequest) -> str:
    """What --force would take from whom; "" where that is told when the network has its turn."""
    try:
        (vms, reserved), _ = read_and_compute(partial(list_holders, request.namespace, request.name), session.api)
    except PreconditionFailed:
        return ""
    network = f"network {request.namespace}/{request.name}"
    steps = []
    if vms:
        steps.append(f"detach {_pluralize(len(vms), 'VM')} ({first_few(vms, MAX_NAMED)}) from it")
    if reserved:
        steps.append(f"drop {_pluralize(len(reserved), 'reservation')}")
    if not steps:
        return f"Nobody holds an address of {network}. Delete it?"
    return f"Delete {network}, {' and '.join(steps)}?"


def _pluralize(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_released(session: Session, request: NetworkDeleteRequest, result: RunResult) -> None:
    """A line for each VM that was detached and each reservation that was dropped, also where the network stays."""
    for address, record in find_released_records((change for change, _ in result.executed), request.namespace).items():
        if record.kind == VIRTUALMACHINE:
            vm = record.name if record.namespace == session.namespace else record.holder
            print(f"virtualmachine.kubevirt.io/{vm} detached from {request.name} (was {address})", file=session.out)
        elif record.kind == RESERVATION:
            print(f"{address} released (was {record.holder})", file=session.out)
