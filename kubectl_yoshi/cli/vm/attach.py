"""`kubectl yoshi vm attach`: assign VMs addresses of a private network, of a public one, or of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import raise_errors
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.help_format import option_group
from kubectl_yoshi.cli.options import (
    OBJECT_FORMATS,
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    filename_option,
    output_option,
    selector_option,
    take_reservation_option,
    timeout_option,
    wait_option,
)
from kubectl_yoshi.cli.param_types import FREE_ADDRESS, NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.cli.vm.execute import PlannerFactory
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.engine.read import Planner
    from kubectl_yoshi.model.objects import NamespacedName
    from kubectl_yoshi.plan.attach.planner import AttachRequest


PUBLIC = "public"

address_option = option_group("Addresses")
layer2_option = option_group("Layer 2")


@dataclass(frozen=True)
class AttachOptions:
    """The flags of `vm attach`."""

    names: tuple[str, ...]
    selector: str
    filenames: tuple[str, ...]
    all_namespaces: bool
    network: str | None
    ip: str | None
    public_network: str | None
    public_ip: str | None
    port: tuple[str, ...]
    mac: str
    interface_name: str
    interface_model: str
    cloud_init: bool
    hotplug: bool
    replace: bool
    take_reservation: bool
    restart: bool
    wait: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.network is None and not self.is_public:
            raise usage_error("name the network with --network, --public-network or --public-ip")
        if self.network is None and (self.interface_name or self.interface_model or self.cloud_init or self.hotplug):
            raise usage_error(
                "--interface-name, --interface-model, … are for a Layer 2 network: name it with --network"
            )
        if self.hotplug and self.restart:
            raise usage_error("--hotplug and --restart exclude each other", "Choose one.")
        if self.take_reservation and not (self.ip or self.public_ip):
            raise usage_error("--take-reservation is for one address", "Name it with --ip or --public-ip.")
        if self.ip and self.public_ip and self.network is None:
            raise usage_error("--ip and --public-ip both name the public address", "Give one of them.")

    @property
    def is_public(self) -> bool:
        """Whether a public address is requested."""
        return self.public_network is not None or self.public_ip is not None


@command(
    "attach",
    examples="""
    # Assign a free address
    kubectl yoshi vm attach web-1 --network blue

    # Assign this address, and restart the VM if it runs, so that it uses the address
    kubectl yoshi vm attach web-1 --network blue --ip 10.133.0.10 --restart

    # Attach all VMs with a label
    kubectl yoshi vm attach -l app=db --network blue

    # Assign a private and a public address, the public one with two ports
    kubectl yoshi vm attach web-1 --network blue --public-network internet --port 22/tcp,443/tcp

    # Add an interface on a Layer 2 network
    kubectl yoshi vm attach web-1 --network lab --interface-name data --interface-model virtio

    # Assign a public address from the provider
    kubectl yoshi vm attach web-1 --public-ip 1.2.3.4
    """,
)
@click.argument("names", nargs=-1, type=VM_NAME, metavar="[VM]…")
@selector_option
@filename_option
@all_namespaces_option
@address_option("--network", type=NETWORK_NAME, metavar="NAME", help="The network: NAME, or NAMESPACE/NAME.")
@address_option(
    "--ip", type=FREE_ADDRESS, metavar="IP", help="The address (default the one reserved for the VM, or a free one)."
)
@address_option(
    "--public-network",
    type=NETWORK_NAME,
    metavar="NAME",
    help="The network of a public address, alone or together with --network.",
)
@address_option(
    "--public-ip", type=FREE_ADDRESS, metavar="IP", help="The public address; --public-network is optional then."
)
@address_option("--port", multiple=True, metavar="PORTS", help="Ports of the public address (default 22,80,443/tcp).")
@address_option(
    "--mac", default="auto", metavar="auto|none|MAC", help="The MAC address of the interface (default auto)."
)
@take_reservation_option
@layer2_option(
    "--interface-name", default="", metavar="NAME", help="The name of the interface (default the network's)."
)
@layer2_option(
    "--interface-model", default="", metavar="MODEL", help="The interface's model, such as virtio or e1000e."
)
@layer2_option("--cloud-init", is_flag=True, help="Write the address into the VM's cloud-init network data.")
@layer2_option("--hotplug", is_flag=True, help="Hot-plug the interface into a running VM, if KubeVirt can.")
@click.option("--replace", is_flag=True, help="Change the address or network that the VM already has.")
@click.option("--restart", is_flag=True, help="Restart a running VM, so that it uses the address.")
@wait_option("VMs that run, or are started, run with their addresses, and public addresses are reachable")
@timeout_option()
@dry_run_option
@output_option(*OBJECT_FORMATS)
@as_options(AttachOptions)
def attach(session: Session, options: AttachOptions) -> None:
    """Attach VMs to a network and assign each a permanent address."""
    from kubectl_yoshi.cli.vm.execute import execute_parts, network_label
    from kubectl_yoshi.cli.vm_args import resolve_vms

    vms = resolve_vms(session, options.names, options.selector, options.filenames, options.all_namespaces)
    named_flags = [flag for flag, text in (("--ip", options.ip), ("--public-ip", options.public_ip)) if text]
    if named_flags and len(vms) > 1:
        raise usage_error(f"{named_flags[0]} is for one VM", f"{len(vms)} VMs cannot share one address.")
    requests = _requests(session, options, vms)
    parts: list[tuple[PlannerFactory, str]] = []
    for request in requests:
        template = f"attached to {network_label(request.network, session)}: {{answer}}"
        parts.append((partial(_attach_planner, request), template))
    run_results = execute_parts(session, options, vms, parts, "attaching")
    if options.wait:
        for request, done in zip(requests, run_results, strict=False):  # no results of a dry run
            _wait_and_release(session, options, request, done)


def _requests(session: Session, options: AttachOptions, vms: tuple[NamespacedName, ...]) -> list[AttachRequest]:
    from kubectl_yoshi.cli.vm_args import parse_mac
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.model.ports import parse_ports
    from kubectl_yoshi.model.vm import Nic
    from kubectl_yoshi.plan.attach.planner import AttachRequest
    from kubectl_yoshi.plan.network_lookup import find_network_of

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
                nic=Nic(options.interface_name, options.interface_model, options.cloud_init, options.hotplug),
                take_reservation=options.take_reservation,
            )
        )  # fmt: skip
    if options.is_public:
        public_address = parse_address(options.public_ip, "--public-ip") if options.public_ip else None
        address = public_address or (ip if options.network is None else None)
        if options.public_network is not None:
            public = parse_network_name(options.public_network, session.namespace)
        else:
            assert public_address is not None
            network = find_network_of(public_address, vms[0][0], new_snapshot(session.api), plugin=PUBLIC)
            public = (network.namespace, network.name)
        requests.append(
            AttachRequest(
                public, vms, address, replace=options.replace, plugin=PUBLIC, ports=ports, wait=options.wait,
                take_reservation=options.take_reservation,
            )
        )  # fmt: skip
    return requests


def _attach_planner(request: AttachRequest, vms: tuple[NamespacedName, ...]) -> Planner:
    from kubectl_yoshi.plan.attach.planner import plan_attach

    return partial(plan_attach, replace(request, vms=vms))


def _wait_and_release(session: Session, options: AttachOptions, request: AttachRequest, result: RunResult) -> None:
    """Wait until the VMs run with their addresses, then release those that only their old instances used."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.cli.vm_args import wait_for_addresses
    from kubectl_yoshi.engine.loop import run
    from kubectl_yoshi.plan.attach.planner import plan_attach

    wait_for_addresses(session, request.network, result, options.timeout)
    later = run(partial(plan_attach, request), session.api, BACKENDS)
    for note in later.lines:
        if note not in result.lines:
            session.note(f"note: {note}")
    raise_errors(session, later)
