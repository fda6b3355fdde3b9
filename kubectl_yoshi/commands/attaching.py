"""`vm attach` and `vm detach`: a private and a public network by one command, each a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.changing import display_names, execute, print_results, raise_errors
from kubectl_yoshi.commands.errors import usage_error
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.vms import parse_mac, resolve_vms, wait_for_addresses
from kubectl_yoshi.engine.loop import RunResult, preview_errors, run
from kubectl_yoshi.engine.read import Planner, read_and_compute
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import parse_network_name
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.ports import parse_ports
from kubectl_yoshi.model.vm import VM, Nic, Vm
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.network_lookup import find_network_of
from kubectl_yoshi.plan.release import explains_retention

if TYPE_CHECKING:
    from kubectl_yoshi.commands.vm import AttachOptions, DetachOptions

PlannerFactory = Callable[[tuple[NamespacedName, ...]], Planner]
"""What plans a part of a command for some VMs."""
PUBLIC = "public"
NETWORK_FLAGS = {True: "--network", False: "--public-network"}
"""By Backend.pins_vm_template, whose back-ends share an annotation."""


def attach_vms(session: Session, options: AttachOptions) -> None:
    """`vm attach`"""
    vms = resolve_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    named_flags = [flag for flag, text in (("--ip", options.ip), ("--public-ip", options.public_ip)) if text]
    if named_flags and len(vms) > 1:
        raise usage_error(f"{named_flags[0]} is for one VM", f"{len(vms)} VMs cannot share one address.")
    requests = _requests(session, options, vms)
    parts: list[tuple[PlannerFactory, str]] = []
    for request in requests:
        template = f"attached to {_display_name(request.network, session)}: {{answer}}"
        parts.append((partial(_attach_planner, request), template))
    run_results = _execute_parts(session, options, vms, parts, "attaching", wait=options.wait)
    if options.wait:
        for request, done in zip(requests, run_results, strict=False):  # there are none of what was only shown
            _wait_and_release(session, options, request, done)


def _requests(session: Session, options: AttachOptions, vms: tuple[NamespacedName, ...]) -> list[AttachRequest]:
    ports = parse_ports(options.port) if options.port else ()
    mac = parse_mac(options.mac)
    ip = parse_address(options.ip, "--ip") if options.ip else None
    requests = []
    if options.network is not None:
        private = parse_network_name(options.network, session.namespace)
        private_ports = () if options.is_public else ports
        requests.append(
            AttachRequest(
                private, vms, ip, mac, options.replace, options.restart, ports=private_ports, wait=options.wait,
                nic=Nic(options.nic_name, options.model, options.cloud_init, options.live),
            )
        )  # fmt: skip
    if options.is_public:
        public_address = parse_address(options.public_ip, "--public-ip") if options.public_ip else None
        address = public_address or (ip if options.network is None else None)
        if options.public_network is not None:
            public = parse_network_name(options.public_network, session.namespace)
        else:
            assert public_address is not None
            network = read_and_compute(partial(find_network_of, public_address, vms[0][0], plugin=PUBLIC), session.api)[
                0
            ]
            public = (network.namespace, network.name)
        requests.append(
            AttachRequest(
                public, vms, address, replace=options.replace, plugin=PUBLIC, ports=ports, wait=options.wait
            )
        )  # fmt: skip
    return requests


def _attach_planner(request: AttachRequest, vms: tuple[NamespacedName, ...]) -> Planner:
    return partial(plan_attach, replace(request, vms=vms), BACKENDS)


def _wait_and_release(session: Session, options: AttachOptions, request: AttachRequest, result: RunResult) -> None:
    """Waits until the VMs run with what they were given, and gives back what only their old instances still used."""
    wait_for_addresses(session, request.network, result, options.timeout)
    later = run(partial(plan_attach, request, BACKENDS), session.api)
    for note in later.lines:
        if note not in result.lines:
            session.note(f"note: {note}")
    raise_errors(session, later)


def detach_vms(session: Session, options: DetachOptions) -> None:
    """`vm detach`"""
    vms = resolve_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    if options.network is None and options.public_network is None:
        raise usage_error("name the network with --network or --public-network", _attached_networks_hint(session, vms))
    parts: list[tuple[PlannerFactory, str]] = []
    for text in (options.network, options.public_network):
        if text is not None:
            network = parse_network_name(text, session.namespace)
            parts.append(
                (partial(_detach_planner, options, network), f"detached from {_display_name(network, session)}")
            )
    _execute_parts(session, options, vms, parts, "detaching")


def _detach_planner(options: DetachOptions, network: NamespacedName, vms: tuple[NamespacedName, ...]) -> Planner:
    return partial(plan_detach, DetachRequest(network, vms, options.restart, options.live), BACKENDS)


def _attached_networks_hint(session: Session, vms: tuple[NamespacedName, ...]) -> str:
    """What a single VM could be detached from, in flags; "" where there are many VMs, or it cannot be told."""
    if len(vms) != 1:
        return ""
    try:
        vm = Vm(session.api.get(VM.ref(vms[0][1], vms[0][0])))
        requested_networks = {backend.pins_vm_template: backend.requested_networks(vm) for backend in BACKENDS.values()}
    except YoshiError:
        return ""
    flags = [
        f"{flag} {name}"
        for pins_template, flag in NETWORK_FLAGS.items()
        if pins_template in requested_networks
        for name in requested_networks[pins_template].networks
    ]
    if flags:
        return f"What VM {vm.full_name} has: {', '.join(flags)}."
    return "" if any(requested_networks.values()) else f"VM {vm.full_name} asks for no network."


def _unchanged_messages(vms: tuple[NamespacedName, ...]) -> dict[str, str]:
    """See `execute`."""
    return {owner: f"{name} unchanged" for owner, name in display_names(vms).items()}


def _display_name(network: NamespacedName, session: Session) -> str:
    return "/".join(network) if network[0] != session.namespace else network[1]


def _execute_parts(
    session: Session,
    options: AttachOptions | DetachOptions,
    vms: tuple[NamespacedName, ...],
    parts: Sequence[tuple[PlannerFactory, str]],
    activity: str,
    wait: bool = False,
) -> list[RunResult]:
    """Carries out one part after the other, each for the VMs that no part before has refused, and reports on each.

    A VM that a later part would refuse, for want of a permission or whatever else is known before, no part changes.

    Returns:
        What was done, part by part; nothing where it was only to be shown.

    Raises:
        Exit: with code 1 where a VM was refused.
    """
    exit_exception: click.exceptions.Exit | None = None
    run_results: list[RunResult] = []
    later = parts[1:] if options.dry_run == "none" and not session.is_diff else ()
    predicted_errors: dict[str, YoshiError] = {}
    for create_planner, _ in later:
        predicted_errors |= preview_errors(create_planner(vms), session.api)
    predicted_errors.pop("", None)  # which is for all, and there for each of them too
    for create_planner, template in parts:
        accepted = tuple(vm for vm in vms if "/".join(vm) not in predicted_errors)
        done = RunResult(Plan())
        if accepted:
            executed = execute(
                session, create_planner(accepted), options.dry_run, options.output, total=len(accepted),
                timeout=options.timeout, activity=activity, unchanged=_unchanged_messages(accepted),
            )  # fmt: skip
            if executed is None:
                continue
            done = executed
        if wait:  # what old instances still use is released, or reported, after the wait
            done = replace(done, notes=tuple(note for note in done.notes if not explains_retention(note)))
        done = replace(done, errors={**predicted_errors, **done.errors})
        run_results.append(done)
        try:
            print_results(session, options.output, done, vms, template)
        except click.exceptions.Exit as raised:
            exit_exception = raised
        vms = tuple((namespace, name) for namespace, name in vms if f"{namespace}/{name}" not in done.errors)
        if not vms:
            break
    if exit_exception is not None:
        raise exit_exception
    return run_results
