"""`kubectl yoshi vm detach`: detach VMs from the networks that the command names, each in a run of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.help_format import option_group
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    filename_option,
    output_option,
    selector_option,
    timeout_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.result_objects import ATTACHMENT
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.read import Planner
    from kubectl_yoshi.model.objects import NamespacedName


NETWORK_FLAGS = {True: "--network", False: "--public-network"}
"""The flag by Backend.pins_vm_template: the backends with the same value share an annotation."""

layer2_option = option_group("Layer 2")


@dataclass(frozen=True)
class DetachOptions:
    """The flags of `vm detach`."""

    names: tuple[str, ...]
    selector: str
    filenames: tuple[str, ...]
    all_namespaces: bool
    networks: tuple[str, ...]
    public_network: str | None
    keep: bool
    restart: bool
    hotplug: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat


@command(
    "detach",
    examples="""
    # Release the address of a network
    kubectl yoshi vm detach web-1 --network blue

    # Release the addresses of several networks
    kubectl yoshi vm detach web-1 --network lab --network internet

    # Keep the address reserved for the VM: `vm attach` assigns it again
    kubectl yoshi vm detach web-1 --network blue --keep
    """,
)
@click.argument("names", nargs=-1, type=VM_NAME, metavar="[VM]…")
@selector_option
@filename_option
@all_namespaces_option
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=NETWORK_NAME,
    metavar="NAME",
    help="A network of any kind: NAME, or NAMESPACE/NAME; repeatable.",
)
@click.option(
    "--public-network",
    type=NETWORK_NAME,
    metavar="NAME",
    help="The network of the public address, alone or together with --network.",
)
@click.option("--keep", is_flag=True, help="Keep the address reserved for the VM.")
@click.option("--restart", is_flag=True, help="Restart a VM that runs with the address, so that it is released.")
@layer2_option("--hotplug", is_flag=True, help="Unplug the interface from a running VM, if KubeVirt can.")
@timeout_option()
@dry_run_option
@output_option(ATTACHMENT)
@as_options(DetachOptions)
def detach(session: Session, options: DetachOptions) -> None:
    """Detach VMs from networks and release their addresses, or keep these reserved for them."""
    from kubectl_yoshi.cli.vm.execute import VmPart, execute_parts, network_label
    from kubectl_yoshi.cli.vm_args import resolve_vms
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.network import parse_network_name

    vms = resolve_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    if not options.networks and options.public_network is None:
        raise usage_error("name the network with --network or --public-network", _attached_networks_hint(session, vms))
    texts = (*options.networks, *([options.public_network] if options.public_network is not None else []))
    networks = dict.fromkeys(parse_network_name(text, session.namespace) for text in texts)
    state = AddressState.RESERVED if options.keep else AddressState.RELEASED
    parts = [
        VmPart(
            network,
            partial(_detach_planner, options, network),
            f"detached from {network_label(network, session)}",
            state,
        )
        for network in networks
    ]
    execute_parts(session, options, vms, parts, "detaching")


def _detach_planner(options: DetachOptions, network: NamespacedName, vms: tuple[NamespacedName, ...]) -> Planner:
    from kubectl_yoshi.plan.detach import DetachRequest, plan_detach

    return partial(plan_detach, DetachRequest(network, vms, options.restart, options.hotplug, options.keep))


def _attached_networks_hint(session: Session, vms: tuple[NamespacedName, ...]) -> str:
    """Return the flags for the networks of a single VM; "" for several VMs, or if the VM is unreadable."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.model.vm import VM, Vm

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
    return "" if any(requested_networks.values()) else f"VM {vm.full_name} requests no network."
