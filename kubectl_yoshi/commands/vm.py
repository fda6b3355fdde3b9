"""kubectl yoshi vm attach|detach|list"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click

from kubectl_yoshi.commands.changing import carry, report
from kubectl_yoshi.commands.errors import usage_mistake
from kubectl_yoshi.commands.options import (
    LISTS,
    OBJECTS,
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    filename_option,
    no_headers_option,
    output_option,
    selector_option,
    timeout_option,
    wait_option,
    watch_option,
)
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.output.asked import Output


@dataclass(frozen=True)
class AttachOptions:
    """What `vm attach` was asked for."""

    names: tuple[str, ...]
    selector: str
    filenames: tuple[str, ...]
    all_namespaces: bool
    network: str
    ip: str | None
    mac: str
    replace: bool
    restart: bool
    wait: bool
    timeout: float | None
    dry_run: str
    output: Output


@command(
    "attach",
    examples="""
    # Any free address
    kubectl yoshi vm attach web-1 --network blue

    # This one, and let the running VM have it now
    kubectl yoshi vm attach web-1 --network blue --ip 10.133.0.10 --restart

    # Many VMs at once
    kubectl yoshi vm attach -l app=db --network blue
    """,
)
@click.argument("names", nargs=-1, metavar="[VM]…")
@selector_option
@filename_option
@all_namespaces_option
@click.option("--network", required=True, metavar="NAME", help="The network: NAME, or NAMESPACE/NAME.")
@click.option("--ip", metavar="IP", help="The address; any free one unless given.")
@click.option("--mac", default="auto", metavar="auto|none|MAC", help="MAC address that goes with it.")
@click.option("--replace", is_flag=True, help="Change the address or network that the VM already has.")
@click.option("--restart", is_flag=True, help="Restart a running VM, so that it has the address now.")
@wait_option
@timeout_option
@dry_run_option
@output_option(*OBJECTS)
@as_options(AttachOptions)
def attach(session: Session, options: AttachOptions) -> None:
    """Give VMs an address of a network that stays theirs."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.cluster.running import run
    from kubectl_yoshi.commands.vms import mac_of_flag, named_vms, wait_for_addresses
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.attachments import AttachRequest, plan_attachments

    address = parse_address(options.ip, "--ip") if options.ip else None
    mac = mac_of_flag(options.mac)
    vms = named_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    if address is not None and len(vms) > 1:
        raise usage_mistake("--ip is for one VM", f"{len(vms)} VMs cannot share one address.")
    network = parse_network_name(options.network, session.namespace)
    request = AttachRequest(network, vms, address, mac, options.replace, options.restart)
    planner = partial(plan_attachments, request, BACKENDS)
    done = carry(session, planner, options.dry_run, options.output, total=len(vms), timeout=options.timeout)
    if done is None:
        return
    where = "/".join(network) if network[0] != session.namespace else network[1]
    if options.wait:
        wait_for_addresses(session, done, options.timeout)
        run(planner, session.api)  # gives back what the VMs' old instances still used
    report(session, options.output, done, vms, f"attached to {where}: {{answer}}")


@dataclass(frozen=True)
class DetachOptions:
    """What `vm detach` was asked for."""

    names: tuple[str, ...]
    selector: str
    filenames: tuple[str, ...]
    all_namespaces: bool
    network: str
    restart: bool
    timeout: float | None
    dry_run: str
    output: Output


@command("detach", examples="kubectl yoshi vm detach web-1 --network blue")
@click.argument("names", nargs=-1, metavar="[VM]…")
@selector_option
@filename_option
@all_namespaces_option
@click.option("--network", required=True, metavar="NAME", help="The network: NAME, or NAMESPACE/NAME.")
@click.option("--restart", is_flag=True, help="Restart a VM that runs with the address, so that it is free now.")
@timeout_option
@dry_run_option
@output_option(*OBJECTS)
@as_options(DetachOptions)
def detach(session: Session, options: DetachOptions) -> None:
    """Take a network and its address away from VMs."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.commands.vms import named_vms
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.detachments import DetachRequest, plan_detachments

    vms = named_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    network = parse_network_name(options.network, session.namespace)
    planner = partial(plan_detachments, DetachRequest(network, vms, options.restart), BACKENDS)
    done = carry(session, planner, options.dry_run, options.output, total=len(vms), timeout=options.timeout)
    if done is not None:
        where = "/".join(network) if network[0] != session.namespace else network[1]
        report(session, options.output, done, vms, f"detached from {where}")


@dataclass(frozen=True)
class ListOptions:
    """What `vm list` was asked for."""

    names: tuple[str, ...]
    network: str | None
    all_namespaces: bool
    selector: str
    watch: bool
    no_headers: bool
    output: Output


@command("list", examples="kubectl yoshi vm list -A")
@click.argument("names", nargs=-1, metavar="[VM]…")
@click.option("--network", metavar="NAME", help="Only VMs of this network.")
@all_namespaces_option
@selector_option
@watch_option
@no_headers_option
@output_option(*LISTS)
@as_options(ListOptions)
def list_vms(session: Session, options: ListOptions) -> None:
    """Show VMs with their networks, addresses and what is missing."""
    from kubectl_yoshi.commands.listing import list_vms as show

    show(session, options)
