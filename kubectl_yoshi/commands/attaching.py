"""`vm attach` and `vm detach`: a private and a public network by one command, each a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.observing import Planner, observe_value
from kubectl_yoshi.cluster.running import Done, refusals_of, run
from kubectl_yoshi.commands.changing import called, carry, fail_if_refused, report
from kubectl_yoshi.commands.errors import usage_mistake
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.vms import mac_of_flag, named_vms, wait_for_addresses
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import parse_network_name
from kubectl_yoshi.model.nic import Nic
from kubectl_yoshi.model.objects import Name
from kubectl_yoshi.model.ports import parse_ports
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attachments import AttachRequest, plan_attachments
from kubectl_yoshi.plan.detachments import DetachRequest, plan_detachments
from kubectl_yoshi.plan.finding import network_having
from kubectl_yoshi.plan.releases import is_about_staying

if TYPE_CHECKING:
    from kubectl_yoshi.commands.vm import AttachOptions, DetachOptions

Planners = Callable[[tuple[Name, ...]], Planner]
"""What plans a part of a command for some VMs."""
PUBLIC = "public"
FLAGS = {True: "--network", False: "--public-network"}
"""By Backend.on_template, whose back-ends share an annotation."""


def attach_vms(session: Session, options: AttachOptions) -> None:
    """`vm attach`"""
    vms = named_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    named = [flag for flag, text in (("--ip", options.ip), ("--public-ip", options.public_ip)) if text]
    if named and len(vms) > 1:
        raise usage_mistake(f"{named[0]} is for one VM", f"{len(vms)} VMs cannot share one address.")
    requests = _requests(session, options, vms)
    parts: list[tuple[Planners, str]] = []
    for request in requests:
        sentence = f"attached to {_shown(request.network, session)}: {{answer}}"
        parts.append((partial(_attachment, request), sentence))
    dones = _carry_parts(session, options, vms, parts, "attaching", waits=options.wait)
    if options.wait:
        for request, done in zip(requests, dones, strict=False):  # there are none of what was only shown
            _wait(session, options, request, done)


def _requests(session: Session, options: AttachOptions, vms: tuple[Name, ...]) -> list[AttachRequest]:
    ports = parse_ports(options.port) if options.port else ()
    mac = mac_of_flag(options.mac)
    ip = parse_address(options.ip, "--ip") if options.ip else None
    requests = []
    if options.network is not None:
        private = parse_network_name(options.network, session.namespace)
        its_ports = () if options.is_public else ports
        requests.append(
            AttachRequest(
                private, vms, ip, mac, options.replace, options.restart, ports=its_ports, wait=options.wait,
                nic=Nic(options.nic_name, options.model, options.cloud_init, options.live),
            )
        )  # fmt: skip
    if options.is_public:
        given = parse_address(options.public_ip, "--public-ip") if options.public_ip else None
        address = given or (ip if options.network is None else None)
        if options.public_network is not None:
            public = parse_network_name(options.public_network, session.namespace)
        else:
            assert given is not None
            network = observe_value(partial(network_having, given, vms[0][0], plugin=PUBLIC), session.api)[0]
            public = (network.namespace, network.name)
        requests.append(
            AttachRequest(
                public, vms, address, replace=options.replace, plugin=PUBLIC, ports=ports, wait=options.wait
            )
        )  # fmt: skip
    return requests


def _attachment(request: AttachRequest, vms: tuple[Name, ...]) -> Planner:
    return partial(plan_attachments, replace(request, vms=vms), BACKENDS)


def _wait(session: Session, options: AttachOptions, request: AttachRequest, done: Done) -> None:
    """Waits until the VMs run with what they were given, and gives back what only their old instances still used."""
    wait_for_addresses(session, request.network, done, options.timeout)
    later = run(partial(plan_attachments, request, BACKENDS), session.api)
    for note in later.lines:
        if note not in done.lines:
            session.note(f"note: {note}")
    fail_if_refused(session, later)


def detach_vms(session: Session, options: DetachOptions) -> None:
    """`vm detach`"""
    vms = named_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    if options.network is None and options.public_network is None:
        raise usage_mistake("name the network with --network or --public-network", _networks_of(session, vms))
    parts: list[tuple[Planners, str]] = []
    for text in (options.network, options.public_network):
        if text is not None:
            network = parse_network_name(text, session.namespace)
            parts.append((partial(_detachment, options, network), f"detached from {_shown(network, session)}"))
    _carry_parts(session, options, vms, parts, "detaching")


def _detachment(options: DetachOptions, network: Name, vms: tuple[Name, ...]) -> Planner:
    return partial(plan_detachments, DetachRequest(network, vms, options.restart, options.live), BACKENDS)


def _networks_of(session: Session, vms: tuple[Name, ...]) -> str:
    """What a single VM could be detached from, in flags; "" where there are many VMs, or it cannot be told."""
    if len(vms) != 1:
        return ""
    try:
        vm = Vm(session.api.get(VM.ref(vms[0][1], vms[0][0])))
        wishes = {backend.on_template: backend.wishes(vm) for backend in BACKENDS.values()}
    except YoshiError:
        return ""
    flags = [f"{flag} {name}" for its, flag in FLAGS.items() if its in wishes for name in wishes[its].networks]
    if flags:
        return f"What VM {vm.subject} has: {', '.join(flags)}."
    return "" if any(wishes.values()) else f"VM {vm.subject} asks for no network."


def _unchanged(vms: tuple[Name, ...]) -> dict[str, str]:
    """See `carry`."""
    return {subject: f"{name} unchanged" for subject, name in called(vms).items()}


def _shown(network: Name, session: Session) -> str:
    return "/".join(network) if network[0] != session.namespace else network[1]


def _carry_parts(
    session: Session,
    options: AttachOptions | DetachOptions,
    vms: tuple[Name, ...],
    parts: Sequence[tuple[Planners, str]],
    doing: str,
    waits: bool = False,
) -> list[Done]:
    """Carries out one part after the other, each for the VMs that no part before has refused, and reports on each.

    A VM that a later part would refuse, for want of a permission or whatever else is known before, no part changes.

    Returns:
        What was done, part by part; nothing where it was only to be shown.

    Raises:
        Exit: with code 1 where a VM was refused.
    """
    failed: click.exceptions.Exit | None = None
    dones: list[Done] = []
    later = parts[1:] if options.dry_run == "none" and not session.diffing else ()
    foreseen: dict[str, YoshiError] = {}
    for planners, _ in later:
        foreseen |= refusals_of(planners(vms), session.api)
    foreseen.pop("", None)  # which is for all, and there for each of them too
    for planners, sentence in parts:
        going = tuple(vm for vm in vms if "/".join(vm) not in foreseen)
        done = Done(Plan())
        if going:
            carried = carry(
                session, planners(going), options.dry_run, options.output, total=len(going), timeout=options.timeout,
                doing=doing, unchanged=_unchanged(going),
            )  # fmt: skip
            if carried is None:
                continue
            done = carried
        if waits:  # what old instances still use is released, or reported, after the wait
            done = replace(done, notes=tuple(note for note in done.notes if not is_about_staying(note)))
        done = replace(done, refusals={**foreseen, **done.refusals})
        dones.append(done)
        try:
            report(session, options.output, done, vms, sentence)
        except click.exceptions.Exit as refused:
            failed = refused
        vms = tuple((namespace, name) for namespace, name in vms if f"{namespace}/{name}" not in done.refusals)
        if not vms:
            break
    if failed is not None:
        raise failed
    return dones
