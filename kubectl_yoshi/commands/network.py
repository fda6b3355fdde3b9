"""kubectl yoshi network create|list|describe|delete"""

from __future__ import annotations

from dataclasses import dataclass

import click

from kubectl_yoshi.commands.errors import usage_error
from kubectl_yoshi.commands.names import NETWORK
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
    watch_option,
    yes_option,
)
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

PEER_SYNTAX = "IP[,reachableBy=IP][,multihop][,passwordSecret=NAME]"
"""How --peer is written; what each word means: spec.bgpConfig.peers of the CRD."""

ANNOUNCE_HELP = (
    "Public: metallb-l2, metallb-bgp or calico-bgp. Unless given: metallb-l2 without --peer, else calico-bgp where "
    "Calico is installed, else metallb-bgp."
)


@dataclass(frozen=True)
class CreateOptions:
    """What `network create` was asked for."""

    name: str | None
    filenames: tuple[str, ...]
    plugin: str | None
    cidr: str | None
    range_: str | None
    exclude: tuple[str, ...]
    gateway: str | None
    encapsulation: str | None
    nat_outgoing: bool | None
    block_size: int | None
    live_migration: bool
    peer: tuple[str, ...]
    my_asn: str | None
    remote_asn: str | None
    announce: str | None
    via: str | None
    interface: tuple[str, ...]
    node_selector: tuple[str, ...]
    bridge: str | None
    nic: str | None
    vlan: int | None
    mtu: int | None
    bond_mode: str | None
    lacp: str | None
    host_config: bool | None
    dhcp: bool | None
    dhcp_range: str | None
    lease: str | None
    dns: tuple[str, ...]
    max_addresses_per_namespace: int | None
    cool_down: str | None
    dry_run: str
    output: OutputFormat

    def __post_init__(self) -> None:
        if bool(self.name) == bool(self.filenames):
            raise usage_error("give either the NAME of a network with --cidr, or -f FILE")
        if self.filenames and any(value not in (None, (), False) for value in self._of_one_network()):
            raise usage_error("-f takes the whole network from the file; leave out the other flags")

    def _of_one_network(self) -> tuple[object, ...]:
        return (
            self.plugin, self.cidr, self.range_, self.exclude, self.gateway, self.encapsulation, self.nat_outgoing,
            self.block_size, self.live_migration, self.peer, self.my_asn, self.remote_asn, self.announce, self.via,
            self.interface, self.node_selector, self.bridge, self.nic, self.vlan, self.mtu, self.bond_mode, self.lacp,
            self.host_config, self.dhcp, self.dhcp_range, self.lease, self.dns, self.max_addresses_per_namespace,
            self.cool_down,
        )  # fmt: skip


@command(
    "create",
    examples="""
    # A private network; VMs keep their addresses for life
    kubectl yoshi network create blue --cidr 10.133.0.0/16

    # Only a part of it is handed out
    kubectl yoshi network create blue --cidr 10.133.0.0/16 --range 10.133.0.10-10.133.0.250

    # Public addresses, announced on the nodes' LAN by MetalLB
    kubectl yoshi network create internet --plugin public --cidr 203.0.113.0/28

    # Public addresses, announced by BGP to a router
    kubectl yoshi network create internet --plugin public --cidr 203.0.113.0/28 \\
      --peer 10.240.0.5 --my-asn 64514 --remote-asn 64512

    # A layer 2 network on VLAN 20 of the nodes' eth1, whose VMs get their addresses by DHCP
    kubectl yoshi network create lab --plugin ovs --cidr 10.20.0.0/24 --bridge br-ext --nic eth1 --vlan 20

    # From a manifest
    kubectl yoshi network create -f network.yaml
    """,
)
@click.argument("name", required=False)
@filename_option
@click.option("--plugin", metavar="PLUGIN", help="calico (the default where Calico is installed), public or ovs.")
@click.option("--cidr", metavar="CIDR", help="The network's addresses, such as 10.133.0.0/16.")
@click.option("--range", "range_", metavar="A-B", help="First and last address to hand out.")
@click.option("--exclude", multiple=True, metavar="ADDRESSES", help="A CIDR, A-B or address never to hand out.")
@click.option("--gateway", metavar="IP", help="The gateway's address, never handed out.")
@click.option(
    "--max-addresses-per-namespace",
    type=click.IntRange(1, 2**31 - 1),
    metavar="N",
    help="How many addresses the VMs of one namespace may hold.",
)
@click.option(
    "--cool-down",
    metavar="TIME",
    help="For how long an address that was given back is not handed out to others, such as 10m.",
)
@click.option("--encapsulation", metavar="MODE", help="Calico: VXLAN (default), VXLANCrossSubnet, IPIP, …, None.")
@click.option("--nat-outgoing/--no-nat-outgoing", default=None, help="Calico: hide the VMs behind their node.")
@click.option("--block-size", type=int, metavar="LENGTH", help="Calico: prefix length of its IPAM blocks.")
@click.option("--live-migration", is_flag=True, help="Calico: what live migration needs (no overlay, no NAT).")
@click.option("--peer", multiple=True, metavar="IP[,…]", help=f"Public: a router, {PEER_SYNTAX}.")
@click.option("--announce", metavar="HOW", help=ANNOUNCE_HELP)
@click.option("--via", metavar="HOW", help="Public by Calico: service (default), or external-ips as the original did.")
@click.option("--interface", multiple=True, metavar="NAME", help="Public on the LAN: only on this interface of nodes.")
@click.option(
    "--node-selector",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="Public: only these nodes announce. OVS: only these have it.",
)
@click.option("--my-asn", metavar="N", help="Public: this cluster's ASN; 64512 unless given.")
@click.option("--remote-asn", metavar="N", help="Public: the routers' ASN; 64514 unless given.")
@click.option("--bridge", metavar="NAME", help="OVS: the Open vSwitch bridge on the nodes, such as br-ext.")
@click.option("--nic", metavar="NAME[,NAME]", help="OVS: the nodes' interface that it is plugged into; two are bonded.")
@click.option(
    "--vlan", type=click.IntRange(0, 4094), metavar="N", help="OVS: the VLAN on that bridge; untagged unless given."
)
@click.option("--mtu", type=click.IntRange(576, 65535), metavar="BYTES", help="OVS: the largest packet.")
@click.option("--bond-mode", metavar="MODE", help="OVS: how two interfaces are bonded, such as balance-slb.")
@click.option("--lacp", metavar="MODE", help="OVS: active, passive or off, for two interfaces.")
@click.option(
    "--host-config/--no-host-config", default=None, help="OVS: make the bridge on the nodes (default), or not."
)
@click.option("--dhcp/--no-dhcp", default=None, help="OVS: serve the addresses by DHCP (default), or not.")
@click.option("--dhcp-range", metavar="A-B", help="OVS: what DHCP hands to machines that have no address of their own.")
@click.option(
    "--lease", metavar="TIME", help="OVS: how long a machine has an address without asking again; 1h unless given."
)
@click.option("--dns", multiple=True, metavar="IP", help="OVS: a DNS server that machines are told.")
@dry_run_option
@output_option(*OBJECT_FORMATS)
@as_options(CreateOptions)
def create(session: Session, options: CreateOptions) -> None:
    """Make a network from a CIDR, or from files."""
    from kubectl_yoshi.commands.making import create_networks

    create_networks(session, options)


@dataclass(frozen=True)
class ListOptions:
    """What `network list` was asked for."""

    names: tuple[str, ...]
    all_namespaces: bool
    selector: str
    watch: bool
    no_headers: bool
    output: OutputFormat


@command("list", examples="kubectl yoshi network list -A")
@click.argument("names", nargs=-1, type=NETWORK, metavar="[NAME]…")
@all_namespaces_option
@selector_option
@watch_option
@no_headers_option
@output_option(*LIST_FORMATS)
@as_options(ListOptions)
def list_networks(session: Session, options: ListOptions) -> None:
    """Show the networks of a namespace, or of all."""
    from kubectl_yoshi.commands.listing import list_networks as show

    show(session, options)


@dataclass(frozen=True)
class DescribeOptions:
    """What `network describe` was asked for."""

    name: str
    output: OutputFormat


@command("describe", examples="kubectl yoshi network describe blue")
@click.argument("name", type=NETWORK)
@output_option("json", "yaml")
@as_options(DescribeOptions)
def describe(session: Session, options: DescribeOptions) -> None:
    """Show everything about one network."""
    from kubectl_yoshi.commands.describing import describe_network

    describe_network(session, options.name, options.output)


@dataclass(frozen=True)
class DeleteOptions:
    """What `network delete` was asked for."""

    names: tuple[str, ...]
    force: bool
    restart: bool
    yes: bool
    dry_run: str


@command("delete", examples="kubectl yoshi network delete blue")
@click.argument("names", nargs=-1, type=NETWORK, required=True, metavar="NAME…")
@click.option("--force", is_flag=True, help="Detach its VMs and drop its reservations first.")
@click.option("--restart", is_flag=True, help="With --force: restart VMs that run with its addresses.")
@yes_option
@dry_run_option
@as_options(DeleteOptions)
def delete(session: Session, options: DeleteOptions) -> None:
    """Delete networks that nobody holds an address of."""
    from kubectl_yoshi.commands.making import delete_networks

    delete_networks(session, options)
