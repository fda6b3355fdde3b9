"""`kubectl yoshi network create`: create networks from flags or files, each in a run of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors, resulting_objects, run_each
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
    filename_option,
    output_option,
    timeout_option,
    wait_option,
)
from kubectl_yoshi.cli.policy_bindings import bind_policies
from kubectl_yoshi.cli.result_objects import NETWORK, printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.plan.network.planner import NetworkRequest


ANNOUNCE_HELP = (
    "metallb-l2, metallb-bgp or calico-bgp (default metallb-l2 without --peer, else calico-bgp where Calico is "
    "installed, else metallb-bgp)."
)

MAX_NAME_LENGTH = 180
"""An IPPool is named <namespace>.<name>; a namespace has at most 63 characters, an object's name at most 253."""

PLUGIN_OF_TYPE = {"private": "calico", "public": "public", "l2": "ovs"}

address_option = option_group("Addresses")
calico_option = option_group("Calico")
public_option = option_group("Public")
layer2_option = option_group("Layer 2")


@dataclass(frozen=True)
class CreateOptions:
    """The flags of `network create`."""

    name: str | None
    filenames: tuple[str, ...]
    type_: str | None
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
    announce_interface: tuple[str, ...]
    node_selector: tuple[str, ...]
    bridge: str | None
    uplink: str | None
    vlan: int | None
    mtu: int | None
    bond_mode: str | None
    lacp: str | None
    host_config: bool | None
    dhcp: bool | None
    dhcp_range: str | None
    dhcp_lease_time: str | None
    dns_server: tuple[str, ...]
    max_addresses_per_namespace: int | None
    cooldown: str | None
    wait: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat

    def __post_init__(self) -> None:
        if bool(self.name) == bool(self.filenames):
            raise usage_error("give either the NAME of a network with --cidr, or -f FILE")
        if self.type_ and self.plugin and self.plugin != PLUGIN_OF_TYPE[self.type_]:
            raise usage_error(
                f"--type {self.type_} and --plugin {self.plugin} contradict each other",
                f"The plugin of a {self.type_} network is {PLUGIN_OF_TYPE[self.type_]}.",
            )
        if self.filenames and any(value not in (None, (), False) for value in self._of_one_network()):
            raise usage_error("-f takes the whole network from the file; leave out the other flags")

    def _of_one_network(self) -> tuple[object, ...]:
        return (
            self.type_, self.plugin, self.cidr, self.range_, self.exclude, self.gateway, self.encapsulation,
            self.nat_outgoing, self.block_size, self.live_migration, self.peer, self.my_asn, self.remote_asn,
            self.announce, self.via, self.announce_interface, self.node_selector, self.bridge, self.uplink, self.vlan,
            self.mtu, self.bond_mode, self.lacp, self.host_config, self.dhcp, self.dhcp_range, self.dhcp_lease_time,
            self.dns_server, self.max_addresses_per_namespace, self.cooldown,
        )  # fmt: skip


@command(
    "create",
    examples="""
    # A private network
    kubectl yoshi network create blue --cidr 10.133.0.0/16

    # Assign only a part of its addresses
    kubectl yoshi network create blue --cidr 10.133.0.0/16 --range 10.133.0.10-10.133.0.250

    # Public addresses, announced on the nodes' LAN by MetalLB
    kubectl yoshi network create internet --type public --cidr 203.0.113.0/28

    # Public addresses, announced by BGP to a router
    kubectl yoshi network create internet --type public --cidr 203.0.113.0/28 \\
      --peer 10.240.0.5 --my-asn 64514 --remote-asn 64512

    # A Layer 2 network on VLAN 20 of the nodes' eth1, whose VMs get their addresses by DHCP
    kubectl yoshi network create lab --type l2 --cidr 10.20.0.0/24 --bridge br-ext --uplink eth1 --vlan 20

    # From a manifest, and wait until VMs can use the network
    kubectl yoshi network create -f network.yaml --wait
    """,
)
@click.argument("name", required=False)
@filename_option
@click.option(
    "--type", "type_", type=click.Choice(list(PLUGIN_OF_TYPE)), help="The type of the network (default private)."
)
@click.option("--plugin", metavar="PLUGIN", help="The same, as spec.plugin has it: calico, public or ovs.")
@address_option("--cidr", metavar="CIDR", help="The addresses of the network, such as 10.133.0.0/16.")
@address_option("--range", "range_", metavar="A-B", help="The first and last address to assign.")
@address_option("--exclude", multiple=True, metavar="ADDRESSES", help="A CIDR, A-B or address that is never assigned.")
@address_option("--gateway", metavar="IP", help="The gateway's address, which is never assigned.")
@address_option(
    "--max-addresses-per-namespace",
    type=click.IntRange(1, 2**31 - 1),
    metavar="N",
    help="The quota: the highest number of addresses for the VMs of one namespace.",
)
@address_option(
    "--cooldown", metavar="DURATION", help="How long a released address is not assigned to another VM, such as 10m."
)
@calico_option("--encapsulation", metavar="MODE", help="VXLAN (default), VXLANCrossSubnet, IPIP, …, None.")
@calico_option("--nat-outgoing/--no-nat-outgoing", default=None, help="NAT for outgoing traffic, or not.")
@calico_option("--block-size", type=int, metavar="LENGTH", help="The prefix length of IPAM blocks.")
@calico_option("--live-migration", is_flag=True, help="No overlay and no NAT, as live migration requires.")
@public_option("--peer", multiple=True, metavar="IP[,…]", help=f"A BGP peer, {PEER_SYNTAX}.")
@public_option("--announce", metavar="HOW", help=ANNOUNCE_HELP)
@public_option("--via", metavar="HOW", help="With calico-bgp: service (default) or external-ips.")
@public_option(
    "--announce-interface", multiple=True, metavar="NAME", help="With metallb-l2: announce only on this interface."
)
@click.option(
    "--node-selector",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="Public: the nodes that announce. OVS: the nodes with the bridge.",
)
@public_option("--my-asn", metavar="N", help="The ASN of this cluster (default 64512).")
@public_option("--remote-asn", metavar="N", help="The ASN of the peers (default 64514).")
@layer2_option("--bridge", metavar="NAME", help="The Open vSwitch bridge on the nodes, such as br-ext.")
@layer2_option("--uplink", metavar="NAME[,NAME]", help="The nodes' interface in the bridge; two are bonded.")
@layer2_option("--vlan", type=click.IntRange(0, 4094), metavar="N", help="The VLAN of the bridge (default untagged).")
@layer2_option("--mtu", type=click.IntRange(576, 65535), metavar="BYTES", help="The MTU.")
@layer2_option("--bond-mode", metavar="MODE", help="The mode of the bond, such as balance-slb.")
@layer2_option("--lacp", metavar="MODE", help="LACP of the bond: active, passive or off.")
@layer2_option("--host-config/--no-host-config", default=None, help="Create the bridge on the nodes (default), or not.")
@layer2_option("--dhcp/--no-dhcp", default=None, help="Run a DHCP server (default), or not.")
@layer2_option("--dhcp-range", metavar="A-B", help="The range for DHCP clients without an allocation.")
@layer2_option("--dhcp-lease-time", metavar="DURATION", help="The DHCP lease time (default 1h).")
@layer2_option("--dns-server", multiple=True, metavar="IP", help="A DNS server for DHCP clients.")
@wait_option(ROLLED_OUT)
@timeout_option()
@dry_run_option
@output_option(NETWORK)
@as_options(CreateOptions)
def create(session: Session, options: CreateOptions) -> None:
    """Create a network from a CIDR, or from files."""
    from kubectl_yoshi.model.objects import name_of, namespace_of
    from kubectl_yoshi.plan.network.planner import NetworkRequest

    manifests = read_networks(session, options.filenames) if options.filenames else [build_network(session, options)]
    requests = []
    for number, obj in enumerate(manifests):
        request = NetworkRequest(namespace_of(obj), name_of(obj), obj, tuple(manifests[:number]))
        requests.append((f"{request.namespace}/{request.name}", request))
    with printed_objects(session, options.output, single=len(requests) == 1) as objects:
        run_each(session, "networks", requests, partial(_create, session, options, objects))
    if options.dry_run == "none" and not session.is_diff:
        for namespace in dict.fromkeys(request.namespace for _, request in requests):
            for note in bind_policies(session.api, namespace):
                session.note(f"note: {note}")


def _create(session: Session, options: CreateOptions, objects: list[Json], request: NetworkRequest) -> None:
    """Create a network and print the result; in a machine-readable format append the objects to `objects` instead."""
    from kubectl_yoshi.model.network import NETWORKWIZARD
    from kubectl_yoshi.model.plan import Verb
    from kubectl_yoshi.plan.network.planner import plan_network

    shown = f"networkwizard.plumber.k8s.pf9.io/{request.name}"
    execute_options = ExecuteOptions(options.dry_run, options.output, unchanged={"": f"{shown} unchanged"})
    done = execute(session, partial(plan_network, request), execute_options)
    if done is None:
        return
    raise_errors(session, done)
    ref = NETWORKWIZARD.ref(request.name, request.namespace)
    if options.output.is_human_readable:
        created = any(change.ref == ref and change.verb is Verb.CREATE for change, _ in done.executed)
        word = "created" if created else "configured" if done.has_changed() else "unchanged"
        print(f"{shown} {word}", file=session.out)
    else:
        objects += resulting_objects(session, done, ref)
    if options.wait and not done.is_dry_run:
        wait_for_rollout(session, (request.namespace, request.name), options.timeout)


def build_network(session: Session, options: CreateOptions) -> Json:
    """Return the NetworkWizard that the flags of `network create NAME` describe."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.model.addresses import parse_cidr, parse_range
    from kubectl_yoshi.model.network import NETWORKWIZARD, parse_cool_down, parse_network
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.plan.network.planner import default_plugin

    _check_name(str(options.name))
    if options.plugin is not None:
        _check_plugin(options.plugin, "--plugin")
    plugin = options.plugin or PLUGIN_OF_TYPE.get(options.type_ or "")
    spec: Json = {"plugin": plugin or default_plugin(BACKENDS, Snapshot(session.api.served))}
    if options.cidr is not None:
        parse_cidr(options.cidr, "--cidr")
        spec["cidr"] = options.cidr
    if options.range_:
        first, last = parse_range(options.range_, "--range")
        spec["range_start"], spec["range_end"] = str(first), str(last)
    if options.exclude:
        spec["exclude"] = list(options.exclude)
    if options.gateway:
        spec["gateway"] = options.gateway
    if options.max_addresses_per_namespace is not None:
        spec["maxAddressesPerNamespace"] = options.max_addresses_per_namespace
    if options.cooldown is not None:
        parse_cool_down(options.cooldown, "--cooldown")
        spec["coolDown"] = options.cooldown
    calico = {
        "encapsulation": options.encapsulation,
        "natOutgoing": options.nat_outgoing,
        "blockSize": options.block_size,
        "liveMigration": options.live_migration or None,
    }
    calico = {key: value for key, value in calico.items() if value is not None}
    if calico:
        if spec["plugin"] != "calico":
            raise usage_error(f"--encapsulation, --nat-outgoing, … are for Calico, not for {spec['plugin']}")
        spec["calico"] = calico
    nodes = parse_node_selector(options.node_selector)
    layer2 = build_layer2_spec(options)
    if layer2 and spec["plugin"] != "ovs":
        raise usage_error(
            f"--bridge, --vlan, --dhcp, … are for Layer 2 networks, not for {spec['plugin']}", "Add --type l2."
        )
    if spec["plugin"] == "ovs":
        spec["ovs"] = {**layer2, **({"nodeSelector": nodes} if nodes else {})}
        nodes = {}
    public = _public(options, nodes)
    bgp = _bgp(options)
    if (public or bgp) and spec["plugin"] != "public":
        raise usage_error(
            f"--peer, --announce, … are for public networks, not for {spec['plugin']}", "Add --type public."
        )
    if public:
        spec["public"] = public
    if bgp:
        spec["bgpConfig"] = bgp
    obj = {
        "apiVersion": NETWORKWIZARD.api_version,
        "kind": NETWORKWIZARD.kind,
        "metadata": {"name": options.name, "namespace": session.namespace},
        "spec": spec,
    }
    parse_network(obj)
    return obj


def build_layer2_spec(options: CreateOptions) -> Json:
    """Return spec.ovs without its nodeSelector; {} where no flag is for Layer 2 networks.

    Raises:
        UsageError: a value is invalid, or flags contradict each other.
    """
    bond = _drop_none({"mode": options.bond_mode, "lacp": options.lacp})
    return _drop_none(
        {
            "bridge": options.bridge,
            "nic": options.uplink,
            "vlan": options.vlan,
            "mtu": options.mtu,
            "hostConfig": options.host_config,
            "bond": bond or None,
            "dhcp": _dhcp(options) or None,
        }
    )


def _dhcp(options: CreateOptions) -> Json:
    from kubectl_yoshi.model.addresses import parse_range

    if options.dhcp is False and (options.dhcp_range or options.dhcp_lease_time):
        raise usage_error("--dhcp-range and --dhcp-lease-time cannot be combined with --no-dhcp")
    lease = parse_lease_time(options.dhcp_lease_time) if options.dhcp_lease_time else None
    dhcp: Json = _drop_none({"enabled": options.dhcp, "lease": lease})
    if options.dns_server:
        dhcp["dns"] = parse_dns_servers(options.dns_server)
    if options.dhcp_range:
        first, last = parse_range(options.dhcp_range, "--dhcp-range")
        dhcp |= {"rangeStart": str(first), "rangeEnd": str(last)}
    return dhcp


def _drop_none(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def _public(options: CreateOptions, nodes: Mapping[str, str]) -> Json:
    wanted = {
        "announce": options.announce,
        "via": options.via,
        "interfaces": list(options.announce_interface),
        "nodeSelector": dict(nodes),
    }
    for key, known in (("announce", ("metallb-l2", "metallb-bgp", "calico-bgp")), ("via", ("service", "external-ips"))):
        if wanted[key] is not None and wanted[key] not in known:
            raise usage_error(f'--{key} "{wanted[key]}" is unknown', f"Choose one of {', '.join(known)}.")
    return {key: value for key, value in wanted.items() if value}


def _bgp(options: CreateOptions) -> Json:
    from kubectl_yoshi.model.network import parse_asn

    bgp: Json = {}
    if options.my_asn:
        bgp["myASN"] = parse_asn(options.my_asn, "--my-asn")
    if options.remote_asn:
        bgp["remoteASN"] = parse_asn(options.remote_asn, "--remote-asn")
    if options.peer:
        bgp["peers"] = [parse_peer(text) for text in options.peer]
    elif bgp:
        raise usage_error("--my-asn and --remote-asn need a --peer")
    return bgp


def read_networks(session: Session, filenames: Iterable[str]) -> list[Json]:
    """Return the NetworkWizards of files without their status; the default namespace is the session's.

    Raises:
        UsageError: an object is not a NetworkWizard, or is invalid.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.cli.manifests import read_objects
    from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network
    from kubectl_yoshi.model.objects import dig, name_of, namespace_of
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.plan.network.planner import default_plugin

    found = []
    for obj in read_objects(filenames):
        if obj.get("apiVersion") != NETWORKWIZARD.api_version or obj.get("kind") != NETWORKWIZARD.kind:
            raise usage_error(
                f"{obj.get('kind')} {name_of(obj)!r} is not a NetworkWizard",
                f"network create takes kind NetworkWizard of {NETWORKWIZARD.api_version}; kubectl apply takes others.",
            )
        _check_name(name_of(obj))
        metadata = {**obj["metadata"], "namespace": namespace_of(obj) or session.namespace}
        wanted = {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}
        if not dig(wanted, "spec", "plugin"):
            plugin = default_plugin(BACKENDS, Snapshot(session.api.served))
            wanted["spec"] = {**(wanted.get("spec") or {}), "plugin": plugin}
        parse_network(wanted)
        _check_plugin(wanted["spec"]["plugin"], f'network "{name_of(obj)}": plugin')
        found.append(wanted)
    if not found:
        raise usage_error("no NetworkWizard found in the files")
    return found


def _check_plugin(plugin: str, what: str) -> None:
    from kubectl_yoshi.backends.registry import BACKENDS

    if plugin not in BACKENDS:
        raise usage_error(f'{what} "{plugin}" is unknown', f"Choose one of {', '.join(sorted(BACKENDS))}.")


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_LENGTH:
        raise usage_error(
            f'"{name[:20]}…" is too long for the name of a network', f"Use {MAX_NAME_LENGTH} characters at most."
        )
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name):
        raise usage_error(
            f'"{name}" is not a valid network name',
            "Use lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit.",
        )
