"""kubectl yoshi vm attach|detach|list"""

from __future__ import annotations

from dataclasses import dataclass

import click

from kubectl_yoshi.commands.errors import usage_error
from kubectl_yoshi.commands.names import FREE_ADDRESS, NETWORK, VM
from kubectl_yoshi.commands.options import (
    LIST_FORMATS,
    OBJECT_FORMATS,
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
from kubectl_yoshi.output.format_option import OutputFormat


@dataclass(frozen=True)
class AttachOptions:
    """What `vm attach` was asked for."""

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
    nic_name: str
    model: str
    cloud_init: bool
    live: bool
    replace: bool
    restart: bool
    wait: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.network is None and not self.is_public:
            raise usage_error("name the network with --network, --public-network or --public-ip")
        if self.network is None and (self.nic_name or self.model or self.cloud_init or self.live):
            raise usage_error("--nic-name, --model, … are for a layer 2 network: name it with --network")
        if self.live and self.restart:
            raise usage_error("--live and --restart are two ways for a running VM to have its address", "Choose one.")
        if self.ip and self.public_ip and self.network is None:
            raise usage_error("--ip and --public-ip both name the public address", "Give one of them.")

    @property
    def is_public(self) -> bool:
        """Whether a public address is wanted."""
        return self.public_network is not None or self.public_ip is not None


@command(
    "attach",
    examples="""
    # Any free address
    kubectl yoshi vm attach web-1 --network blue

    # This one, and let the running VM have it now
    kubectl yoshi vm attach web-1 --network blue --ip 10.133.0.10 --restart

    # Many VMs at once
    kubectl yoshi vm attach -l app=db --network blue

    # A private address and one that the world can reach, on two ports
    kubectl yoshi vm attach web-1 --network blue --public-network internet --port 22/tcp,443/tcp

    # An interface of its own on a layer 2 network, besides what it has
    kubectl yoshi vm attach web-1 --network lab --nic-name data --model virtio

    # The public address that the provider gave
    kubectl yoshi vm attach web-1 --public-ip 1.2.3.4
    """,
)
@click.argument("names", nargs=-1, type=VM, metavar="[VM]…")
@selector_option
@filename_option
@all_namespaces_option
@click.option("--network", type=NETWORK, metavar="NAME", help="The network: NAME, or NAMESPACE/NAME.")
@click.option("--ip", type=FREE_ADDRESS, metavar="IP", help="The address; any free one unless given.")
@click.option(
    "--public-network", type=NETWORK, metavar="NAME", help="The network of a public address, alone or with --network."
)
@click.option(
    "--public-ip", type=FREE_ADDRESS, metavar="IP", help="The public address; its network is found unless named."
)
@click.option("--port", multiple=True, metavar="PORTS", help="Ports of the public address; 22,80,443/tcp unless given.")
@click.option("--mac", default="auto", metavar="auto|none|MAC", help="MAC address that goes with it.")
@click.option(
    "--nic-name", default="", metavar="NAME", help="Layer 2: the interface's name; the network's unless given."
)
@click.option("--model", default="", metavar="MODEL", help="Layer 2: what the guest sees, such as virtio or e1000e.")
@click.option("--cloud-init", is_flag=True, help="Layer 2: write the address into the VM's cloud-init network data.")
@click.option("--live", is_flag=True, help="Layer 2: plug it into the running VM where KubeVirt can do that.")
@click.option("--replace", is_flag=True, help="Change the address or network that the VM already has.")
@click.option("--restart", is_flag=True, help="Restart a running VM, so that it has the address now.")
@wait_option("VMs that run, or are started, run with their addresses, and public ones can be reached")
@timeout_option()
@dry_run_option
@output_option(*OBJECT_FORMATS)
@as_options(AttachOptions)
def attach(session: Session, options: AttachOptions) -> None:
    """Give VMs an address of a network that stays theirs."""
    from kubectl_yoshi.commands.attaching import attach_vms

    attach_vms(session, options)


@dataclass(frozen=True)
class DetachOptions:
    """What `vm detach` was asked for."""

    names: tuple[str, ...]
    selector: str
    filenames: tuple[str, ...]
    all_namespaces: bool
    network: str | None
    public_network: str | None
    restart: bool
    live: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat


@command("detach", examples="kubectl yoshi vm detach web-1 --network blue")
@click.argument("names", nargs=-1, type=VM, metavar="[VM]…")
@selector_option
@filename_option
@all_namespaces_option
@click.option("--network", type=NETWORK, metavar="NAME", help="The network: NAME, or NAMESPACE/NAME.")
@click.option(
    "--public-network", type=NETWORK, metavar="NAME", help="The network of the public address, alone or with --network."
)
@click.option("--restart", is_flag=True, help="Restart a VM that runs with the address, so that it is free now.")
@click.option("--live", is_flag=True, help="Layer 2: take it out of the running VM where KubeVirt can do that.")
@timeout_option()
@dry_run_option
@output_option(*OBJECT_FORMATS)
@as_options(DetachOptions)
def detach(session: Session, options: DetachOptions) -> None:
    """Take a network and its address away from VMs."""
    from kubectl_yoshi.commands.attaching import detach_vms

    detach_vms(session, options)


@dataclass(frozen=True)
class ListOptions:
    """What `vm list` was asked for."""

    names: tuple[str, ...]
    network: str | None
    all_namespaces: bool
    selector: str
    watch: bool
    no_headers: bool
    output: OutputFormat


@command("list", examples="kubectl yoshi vm list -A")
@click.argument("names", nargs=-1, type=VM, metavar="[VM]…")
@click.option("--network", type=NETWORK, metavar="NAME", help="Only VMs of this network.")
@all_namespaces_option
@selector_option
@watch_option
@no_headers_option
@output_option(*LIST_FORMATS)
@as_options(ListOptions)
def list_vms(session: Session, options: ListOptions) -> None:
    """Show VMs with their networks, addresses and what is missing."""
    from kubectl_yoshi.commands.listing import list_vms as show

    show(session, options)
