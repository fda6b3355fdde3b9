"""`kubectl yoshi network update`: change fields of a network's spec, and reconcile the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors, resulting_objects
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.help_format import option_group
from kubectl_yoshi.cli.network.fields import (
    PEER_SYNTAX,
    parse_dns_servers,
    parse_lease_time,
    parse_node_selector,
    parse_peer,
)
from kubectl_yoshi.cli.network.wait import ROLLED_OUT, wait_for_rollout
from kubectl_yoshi.cli.options import (
    as_options,
    command,
    dry_run_option,
    output_option,
    timeout_option,
    wait_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import NETWORK, printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.network import Network

NONE = "none"
"""The value of a flag that removes the field."""
MAX_QUOTA = 2**31 - 1
BGP_FLAGS = ("--peer", "--my-asn", "--remote-asn")
DHCP_FLAGS = ("--dhcp-range", "--dhcp-lease-time", "--dns-server")
FLAGS_OF_PLUGIN = {
    "calico": ("--encapsulation", "--nat-outgoing"),
    "public": (*BGP_FLAGS, "--announce-interface", "--node-selector"),
    "ovs": ("--mtu", *DHCP_FLAGS, "--node-selector"),
}
"""The flags that are for some plugins only."""

address_option = option_group("Addresses")
calico_option = option_group("Calico")
public_option = option_group("Public")
layer2_option = option_group("Layer 2")

Fields = dict[tuple[str, ...], Any]
"""Path below spec -> the new value; None removes the field."""


@dataclass(frozen=True)
class UpdateOptions:
    """The flags of `network update`."""

    name: str
    range_: str | None
    exclude: tuple[str, ...]
    max_addresses_per_namespace: str | None
    cooldown: str | None
    encapsulation: str | None
    nat_outgoing: bool | None
    peer: tuple[str, ...]
    my_asn: str | None
    remote_asn: str | None
    announce_interface: tuple[str, ...]
    node_selector: tuple[str, ...]
    mtu: int | None
    dhcp_range: str | None
    dhcp_lease_time: str | None
    dns_server: tuple[str, ...]
    wait: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat


@command(
    "update",
    examples="""
    # Assign only these addresses from now on; none is taken away
    kubectl yoshi network update blue --range 10.133.0.100-10.133.0.200

    # Show what another quota and cool-down would change
    kubectl yoshi network update blue --max-addresses-per-namespace 10 --cooldown 10m --dry-run

    # Remove the range and the exclusions, and wait until VMs can use the network
    kubectl yoshi network update blue --range none --exclude none --wait

    # Send other DNS servers to DHCP clients
    kubectl yoshi network update lab --dns-server 10.20.0.2 --dns-server 9.9.9.9
    """,
)
@click.argument("name", type=NETWORK_NAME)
@address_option("--range", "range_", metavar="A-B|none", help="The first and last address to assign.")
@address_option(
    "--exclude", multiple=True, metavar="ADDRESSES|none", help="A CIDR, A-B or address that is never assigned."
)
@address_option(
    "--max-addresses-per-namespace",
    metavar="N|none",
    help="The quota: the highest number of addresses for the VMs of one namespace.",
)
@address_option("--cooldown", metavar="DURATION", help="How long a released address is not assigned to another VM.")
@calico_option("--encapsulation", metavar="MODE", help="VXLAN, VXLANCrossSubnet, IPIP, …, None.")
@calico_option("--nat-outgoing/--no-nat-outgoing", default=None, help="NAT for outgoing traffic, or not.")
@public_option("--peer", multiple=True, metavar="IP[,…]", help=f"A BGP peer, {PEER_SYNTAX}.")
@public_option("--my-asn", metavar="N", help="The ASN of this cluster.")
@public_option("--remote-asn", metavar="N", help="The ASN of the peers.")
@public_option(
    "--announce-interface", multiple=True, metavar="NAME|none", help="With metallb-l2: announce only on this interface."
)
@click.option(
    "--node-selector",
    multiple=True,
    metavar="KEY=VALUE,…|none",
    help="Public: the nodes that announce. Layer 2: the nodes with the bridge.",
)
@layer2_option("--mtu", type=click.IntRange(576, 65535), metavar="BYTES", help="The MTU.")
@layer2_option("--dhcp-range", metavar="A-B|none", help="The range for DHCP clients without an allocation.")
@layer2_option("--dhcp-lease-time", metavar="DURATION", help="The DHCP lease time.")
@layer2_option("--dns-server", multiple=True, metavar="IP|none", help="A DNS server for DHCP clients.")
@wait_option(ROLLED_OUT)
@timeout_option()
@dry_run_option
@output_option(NETWORK)
@as_options(UpdateOptions)
def update(session: Session, options: UpdateOptions) -> None:
    """Change the settings of a network.

    A flag replaces the value of its field, a repeated one the whole list; "none" removes the field. Fields without a
    flag stay as they are. The network's objects in Calico, MetalLB or luigi are changed with it. Allocated addresses
    stay allocated, also outside a new range. CIDR, plugin and VLAN never change.
    """
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network_name
    from kubectl_yoshi.plan.network.update import NetworkUpdateRequest, plan_network_update
    from kubectl_yoshi.plan.network_lookup import load_network

    namespace, name = parse_network_name(options.name, session.namespace)
    fields = _fields(options, load_network(namespace, name, new_snapshot(session.api)))
    request = NetworkUpdateRequest(namespace, name, fields)
    shown = f"networkwizard.plumber.k8s.pf9.io/{name}"
    execute_options = ExecuteOptions(options.dry_run, options.output, unchanged={"": f"{shown} unchanged"})
    with printed_objects(session, options.output, single=True) as objects:
        done = execute(session, partial(plan_network_update, request), execute_options)
        if done is None:
            return
        raise_errors(session, done)
        if options.output.is_human_readable:
            print(f"{shown} {'updated' if done.has_changed() else 'unchanged'}", file=session.out)
        else:
            objects += resulting_objects(session, done, NETWORKWIZARD.ref(name, namespace))
        if options.wait and not done.is_dry_run:
            wait_for_rollout(session, (namespace, name), options.timeout)


def _fields(options: UpdateOptions, network: Network) -> Fields:
    """Return the fields of the spec that the flags set.

    Raises:
        UsageError: a flag is not for the network, a value is invalid, or there is no flag.
    """
    from kubectl_yoshi.model.network import parse_cool_down

    _check_flags(options, network)
    fields: Fields = {}
    if options.range_ is not None:
        fields[("range_start",)], fields[("range_end",)] = _parse_range(options.range_, "--range")
    if options.exclude:
        fields[("exclude",)] = _parse_list(options.exclude)
    if options.max_addresses_per_namespace is not None:
        fields[("maxAddressesPerNamespace",)] = _parse_quota(options.max_addresses_per_namespace)
    if options.cooldown is not None:
        parse_cool_down(options.cooldown, "--cooldown")
        fields[("coolDown",)] = options.cooldown
    if options.encapsulation is not None:
        fields[("calico", "encapsulation")] = options.encapsulation
    if options.nat_outgoing is not None:
        fields[("calico", "natOutgoing")] = options.nat_outgoing
    if options.node_selector:
        selector = None if options.node_selector == (NONE,) else parse_node_selector(options.node_selector)
        fields[(network.plugin, "nodeSelector")] = selector
    fields |= _public_fields(options) | _layer2_fields(options)
    if not fields:
        raise usage_error("nothing to change", "Give a flag, such as --range 10.133.0.100-10.133.0.200.")
    return fields


def _check_flags(options: UpdateOptions, network: Network) -> None:
    """Check that the flags are for the network.

    Raises:
        UsageError: one is for another plugin, or for a part that the network does not have.
    """
    given = {
        "--encapsulation": options.encapsulation,
        "--nat-outgoing": options.nat_outgoing,
        "--peer": options.peer,
        "--my-asn": options.my_asn,
        "--remote-asn": options.remote_asn,
        "--announce-interface": options.announce_interface,
        "--node-selector": options.node_selector,
        "--mtu": options.mtu,
        "--dhcp-range": options.dhcp_range,
        "--dhcp-lease-time": options.dhcp_lease_time,
        "--dns-server": options.dns_server,
    }
    for flag, value in given.items():
        if value in (None, ()):
            continue
        if flag not in FLAGS_OF_PLUGIN.get(network.plugin, ()):
            raise usage_error(f"{flag} is not for network {network.full_name}, whose plugin is {network.plugin}")
        if flag in BGP_FLAGS and network.bgp is None:
            raise usage_error(
                f"{flag} is not for network {network.full_name}, which has no BGP peers",
                "How addresses are announced does not change; create another network.",
            )
        if flag in DHCP_FLAGS and (network.options.get("dhcp") or {}).get("enabled") is False:
            raise usage_error(f"{flag} is not for network {network.full_name}, which has no DHCP server")


def _public_fields(options: UpdateOptions) -> Fields:
    from kubectl_yoshi.model.network import parse_asn

    fields: Fields = {}
    if options.peer:
        fields[("bgpConfig", "peers")] = [parse_peer(text) for text in options.peer]
    if options.my_asn is not None:
        fields[("bgpConfig", "myASN")] = parse_asn(options.my_asn, "--my-asn")
    if options.remote_asn is not None:
        fields[("bgpConfig", "remoteASN")] = parse_asn(options.remote_asn, "--remote-asn")
    if options.announce_interface:
        fields[("public", "interfaces")] = _parse_list(options.announce_interface)
    return fields


def _layer2_fields(options: UpdateOptions) -> Fields:
    fields: Fields = {}
    if options.mtu is not None:
        fields[("ovs", "mtu")] = options.mtu
    if options.dhcp_range is not None:
        first, last = _parse_range(options.dhcp_range, "--dhcp-range")
        fields |= {("ovs", "dhcp", "rangeStart"): first, ("ovs", "dhcp", "rangeEnd"): last}
    if options.dhcp_lease_time is not None:
        fields[("ovs", "dhcp", "lease")] = parse_lease_time(options.dhcp_lease_time)
    if options.dns_server:
        fields[("ovs", "dhcp", "dns")] = (
            None if options.dns_server == (NONE,) else parse_dns_servers(options.dns_server)
        )
    return fields


def _parse_range(text: str, flag: str) -> tuple[str | None, str | None]:
    """Return the ends of a range; None for both to remove them."""
    from kubectl_yoshi.model.addresses import parse_range

    if text == NONE:
        return None, None
    first, last = parse_range(text, flag)
    return str(first), str(last)


def _parse_list(words: tuple[str, ...]) -> list[str] | None:
    return None if words == (NONE,) else list(words)


def _parse_quota(text: str) -> int | None:
    if text == NONE:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MAX_QUOTA:
        raise usage_error(
            f'--max-addresses-per-namespace "{text}" is not a number of addresses',
            f"Give a number from 1 to {MAX_QUOTA}, or {NONE} for no limit.",
        )
    return int(text)
