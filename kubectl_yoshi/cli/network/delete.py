"""`kubectl yoshi network delete`: delete networks, each in a run of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors, run_each
from kubectl_yoshi.cli.options import as_options, command, dry_run_option, output_option, yes_option
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import (
    ADDRESS,
    ATTACHMENT,
    REFERENCE,
    address_object,
    attachment_object,
    printed_objects,
    reference_object,
)
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed, first_few
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.plan.network.deletion import NetworkDeleteRequest


MAX_NAMED = 5
"""Maximum number of VMs that the question names; the others are counted."""


@dataclass(frozen=True)
class DeleteOptions:
    """The flags of `network delete`."""

    names: tuple[str, ...]
    force: bool
    restart: bool
    yes: bool
    dry_run: str
    output: OutputFormat


@command("delete", examples="kubectl yoshi network delete blue")
@click.argument("names", nargs=-1, type=NETWORK_NAME, required=True, metavar="NAME…")
@click.option("--force", is_flag=True, help="Detach the network's VMs and release its reservations first.")
@click.option("--restart", is_flag=True, help="With --force: restart VMs that run with addresses of it.")
@yes_option
@dry_run_option
@output_option(REFERENCE, ATTACHMENT, ADDRESS)
@as_options(DeleteOptions)
def delete(session: Session, options: DeleteOptions) -> None:
    """Delete networks that have no allocations."""
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.network.deletion import NetworkDeleteRequest

    requests = {}
    for text in options.names:
        namespace, name = parse_network_name(text, session.namespace)
        requests[f"{namespace}/{name}"] = NetworkDeleteRequest(namespace, name, options.force, options.restart)
    if options.force and not options.yes and options.dry_run == "none" and not session.is_diff:
        for question in [_confirmation_question(session, request) for request in requests.values()]:
            if question:
                session.confirm(question, options.yes)
    with printed_objects(session, options.output, single=len(requests) == 1 and not options.force) as objects:
        run_each(session, "networks", tuple(requests.items()), partial(_delete, session, options, objects))


def _delete(session: Session, options: DeleteOptions, objects: list[Json], request: NetworkDeleteRequest) -> None:
    """Delete a network and print the result; in a machine-readable format append the objects to `objects` instead."""
    from kubectl_yoshi.model.network import NETWORKWIZARD
    from kubectl_yoshi.model.plan import Verb
    from kubectl_yoshi.plan.network.deletion import plan_network_deletion

    done = execute(session, partial(plan_network_deletion, request), ExecuteOptions(options.dry_run, options.output))
    if done is None:
        return
    ref = NETWORKWIZARD.ref(request.name, request.namespace)
    if options.output.is_human_readable:
        _print_released(session, request, done)
    else:
        objects += _released_objects(request, done)
        if any(change.ref == ref and change.verb is Verb.DELETE for change in done.changes):
            objects.append(reference_object(ref))
    raise_errors(session, done)
    if done.has_changed() and options.output.is_human_readable:
        print(f"networkwizard.plumber.k8s.pf9.io/{request.name} deleted", file=session.out)


def _confirmation_question(session: Session, request: NetworkDeleteRequest) -> str:
    """Return the question that states what --force releases; "" where the deletion itself reports the error."""
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.plan.network.deletion import list_holders

    try:
        vms, reserved = list_holders(request.namespace, request.name, new_snapshot(session.api))
    except PreconditionFailed:
        return ""
    network = f"network {request.namespace}/{request.name}"
    steps = []
    if vms:
        steps.append(f"detach {_pluralize(len(vms), 'VM')} ({first_few(vms, MAX_NAMED)}) from it")
    if reserved:
        steps.append(f"release {_pluralize(len(reserved), 'reservation')}")
    if not steps:
        return f"No address of {network} is in use. Delete it?"
    return f"Delete {network}, {' and '.join(steps)}?"


def _pluralize(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_released(session: Session, request: NetworkDeleteRequest, result: RunResult) -> None:
    """Print a line for each detached VM and each released reservation, also if the network is not deleted."""
    from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE
    from kubectl_yoshi.plan.release import find_released_records

    for address, record in find_released_records(result.changes, request.namespace).items():
        if record.kind == VIRTUALMACHINE:
            vm = record.name if record.namespace == session.namespace else record.holder
            print(f"virtualmachine.kubevirt.io/{vm} detached from {request.name} (was {address})", file=session.out)
        elif record.kind == RESERVATION:
            print(f"{address} released (was {record.holder})", file=session.out)


def _released_objects(request: NetworkDeleteRequest, result: RunResult) -> list[Json]:
    """Return an Attachment for each detached VM, and an Address for each released reservation."""
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.allocations import VIRTUALMACHINE
    from kubectl_yoshi.plan.release import find_released_records

    network = (request.namespace, request.name)
    objects: list[Json] = []
    for address, record in find_released_records(result.changes, request.namespace).items():
        status = {"state": AddressState.RELEASED.value, "changed": True}
        if record.kind == VIRTUALMACHINE:
            status |= {"address": address, "mac": record.mac}
            objects.append(attachment_object((record.namespace, record.name), "/".join(network), status))
        else:
            objects.append(address_object(network, address, {**status, "previousHolder": record.holder}))
    return objects
