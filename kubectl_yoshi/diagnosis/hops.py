"""The hops of an address: what must be right between the allocation and those who use the address, in order.

A hop states what it sees; the findings of its rules are added by `diagnosis.trace`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs import dhcp
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, NAD, parse_layer2_spec
from kubectl_yoshi.backends.public.services import get_service_ports
from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError
from kubectl_yoshi.diagnosis.public import (
    PLUGIN,
    BgpSession,
    PublicAddress,
    announcing_nodes,
    can_serve,
    has_endpoint,
    iter_sessions,
    list_endpoints,
    list_public_addresses,
    running_node,
)
from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.backend import AddressUse, UsageKind
from kubectl_yoshi.model.errors import UsageError, first_few
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.objects import Resource, dig, name_of
from kubectl_yoshi.model.ports import format_ports
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm
from kubectl_yoshi.plan.inventory import InventoryRow

MAX_NAMES = 5
"""Maximum number of names in a line."""


class HopState(enum.Enum):
    """Whether an address passes a hop, as printed with -o json."""

    OK = "OK"
    WARNING = "Warning"  # it does, but will not after a restart, a migration or more allocations
    BROKEN = "Broken"
    UNKNOWN = "Unknown"  # it cannot be read, or no API shows it


@dataclass(frozen=True)
class Hop:
    """A hop of an address.

    Attributes:
        name: one word.
        message: what is seen, in a line.
        state: whether the address passes it.
        codes: the numbers of the rules about it; the address passes only what all of them can check.
        extra_codes: the numbers of rules whose findings are shown, but without which the hop is certain.
        commands: what repairs it, or shows more, where no rule does.
        is_external: it is outside the cluster, so no API can show it.
    """

    name: str
    message: str
    state: HopState = HopState.OK
    codes: tuple[str, ...] = ()
    extra_codes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    is_external: bool = False


@dataclass(frozen=True)
class TracedAddress:
    """An address of a VM, with the facts about it.

    Attributes:
        facts: facts about its network.
        vm: the VM.
        row: the address, with its allocation and its uses.
    """

    facts: Facts
    vm: Vm
    row: InventoryRow

    @property
    def network(self) -> Network:
        """Return the network."""
        return self.row.network

    @property
    def address(self) -> Address:
        """Return the address."""
        return parse_address(self.row.address)

    def uses(self, kind: UsageKind, resource: Resource | None = None) -> list[AddressUse]:
        """Return the VM's uses of the address of a kind, shown by an object of a resource."""
        found = (use for use in self.row.address_uses if use.is_for_vm(self.vm.namespace, self.vm.name, self.vm.uid))
        return [use for use in found if use.kind is kind and resource in (None, use.ref.resource)]


HopFunction = Callable[[TracedAddress], Hop]


def list_hops(traced: TracedAddress) -> list[Hop]:
    """Return the hops of an address, in order, without the findings of rules."""
    if traced.network.plugin == PLUGIN:
        return [*_run([_annotation, _allocation], traced), *_public_hops(traced)]
    functions: list[HopFunction] = [_annotation, _allocation, _template, _instance, _pod]
    if traced.network.plugin == "ovs":
        has_dhcp = parse_layer2_spec(traced.network).dhcp is not None
        functions += [_attachment, *([_dhcp, _lease] if has_dhcp else [])]
    else:
        functions += [_calico]
    return _run(functions, traced)


def _run(functions: Iterable[HopFunction], traced: TracedAddress) -> list[Hop]:
    return [_run_one(function, traced) for function in functions]


def _run_one(function: Callable[[TracedAddress], Hop], traced: TracedAddress) -> Hop:
    try:
        return function(traced)
    except CannotCheckError as error:
        return Hop(_name(function), error.reason, HopState.UNKNOWN)


def _name(function: Callable[..., Hop]) -> str:
    return function.__name__.strip("_")


# -- any network -----------------------------------------------------------------------------------------------------


def _annotation(traced: TracedAddress) -> Hop:
    vm, network, backend = traced.vm, traced.network, traced.facts.backend(traced.network)
    try:
        names = [parse_network_name(name, vm.namespace) for name in backend.requested_networks(vm).networks]
    except UsageError as error:
        edit = f"kubectl edit vm {vm.name} -n {vm.namespace}"
        return Hop("annotation", error.message, HopState.BROKEN, commands=(edit,))
    if (network.namespace, network.name) in names:
        return Hop("annotation", f"{vm.ref} requests network {network.full_name}")
    message = f"{vm.ref} does not request network {network.full_name} ({backend.annotation_key})"
    return Hop("annotation", message, HopState.WARNING, commands=(_attach(traced),))


def _allocation(traced: TracedAddress) -> Hop:
    ref = NETWORKWIZARD.ref(traced.network.name, traced.network.namespace)
    is_public = traced.network.plugin == PLUGIN  # another Service with the address is a break where it is assigned
    hop = Hop("allocation", "", extra_codes=("0001", "0002", "0006", "0007", *(() if is_public else ("0003",))))
    record = traced.row.record
    if record is None:
        message = f"{ref} has no allocation of {traced.address}, which {traced.vm.ref} uses"
        return replace(hop, message=message, state=HopState.BROKEN, commands=(_attach(traced),))
    since = f" since {record.since}" if record.since else ""
    return replace(hop, message=f"{ref}: held by {record.holder}{since}")


def _attach(traced: TracedAddress) -> str:
    """Return the command that attaches the VM again with the address."""
    flag = "--public-network" if traced.network.plugin == PLUGIN else "--network"
    vm = (traced.vm.namespace, traced.vm.name)
    return remedies.attach(vm, f"{flag} {traced.network.full_name} --ip {traced.address}")


# -- private addresses -----------------------------------------------------------------------------------------------


def _template(traced: TracedAddress) -> Hop:
    if traced.uses(UsageKind.REQUESTED, VM):
        return Hop("template", f"the template of {traced.vm.ref} has {traced.address}")
    message = f"the template of {traced.vm.ref} lacks {traced.address}"
    return Hop("template", message, HopState.BROKEN, commands=(_attach(traced),))


def _instance(traced: TracedAddress) -> Hop:
    vm, codes = traced.vm, ("1101", "1102", "1103")
    instance = traced.facts.instance(vm)
    if instance is None:
        return Hop(
            "instance",
            f"{vm.ref} does not run",
            HopState.BROKEN,
            codes,
            commands=(remedies.start((vm.namespace, vm.name)),),
        )
    node, phase = dig(instance, "status", "nodeName", default=""), dig(instance, "status", "phase", default="Pending")
    where = f" on node {node}" if node else ""
    if traced.uses(UsageKind.RUNNING, VMI):
        return Hop("instance", f"the VMI is {phase}{where} with {traced.address}", codes=codes)
    message = f"the VMI is {phase}{where} without {traced.address}"
    restart = remedies.restart((vm.namespace, vm.name))
    return Hop("instance", message, HopState.BROKEN, codes, commands=(restart,))


def _pod(traced: TracedAddress) -> Hop:
    vm = traced.vm
    pods = traced.facts.pods(vm)
    if not pods:
        return Hop("pod", f"{vm.ref} has no launcher pod", HopState.UNKNOWN)
    if uses := traced.uses(UsageKind.RUNNING, POD):
        names = ", ".join(dict.fromkeys(use.ref.name for use in uses))
        return Hop("pod", f"{names} has {traced.address}")
    name = name_of(pods[0])
    message = f"{name} does not have {traced.address}"
    return Hop("pod", message, HopState.BROKEN, commands=(f"kubectl describe pod {name} -n {vm.namespace}",))


def _calico(traced: TracedAddress) -> Hop:
    codes = ("0005",)
    uses = traced.uses(UsageKind.HELD_BY_BACKEND)
    if uses:
        return Hop("calico", f"{uses[0].ref} assigns {traced.address} to the VM", codes=codes)
    others = [use for use in traced.row.address_uses if use.kind is UsageKind.HELD_BY_BACKEND]
    if others:
        show = remedies.show_address(traced.address)
        return Hop("calico", f"{others[0].summary}, and not the VM", HopState.BROKEN, codes, commands=(show,))
    if traced.facts.instance(traced.vm) is None:
        return Hop("calico", f"Calico assigns {traced.address} when the VM starts", codes=codes)
    message = f"no readable IPAMBlock assigns {traced.address} to the VM"
    return Hop("calico", message, HopState.UNKNOWN, codes)


def _attachment(traced: TracedAddress) -> Hop:
    layer = parse_layer2_spec(traced.network)
    vlan = f", VLAN {layer.vlan}" if layer.vlan else ""
    ref = NAD.ref(traced.network.name, traced.network.namespace)
    return Hop("attachment", f"{ref}: bridge {layer.bridge}{vlan}", codes=("4401", "4402", "4405"))


def _dhcp(traced: TracedAddress) -> Hop:
    network = traced.network
    ref = CONFIGMAP.ref(network.name, network.namespace)
    message = f"{ref}: {dhcp.host_file_name(network, traced.row.number)} reserves {traced.address}"
    return Hop("dhcp", message, codes=("4403", "4404"))


def _lease(traced: TracedAddress) -> Hop:
    if uses := traced.uses(UsageKind.LEASED):
        return Hop("lease", f"the guest has a lease of {traced.address} ({uses[0].ref})")
    others = [use for use in traced.row.address_uses if use.kind is UsageKind.LEASED]
    if others:
        message = f"another client has a lease of {traced.address} ({others[0].ref})"
        return Hop("lease", message, HopState.BROKEN, commands=(remedies.show_address(traced.address),))
    message = "no lease is recorded: the guest has not asked for one, or has a static configuration"
    return Hop("lease", message, HopState.WARNING)


# -- public addresses ------------------------------------------------------------------------------------------------


def _public_hops(traced: TracedAddress) -> list[Hop]:
    try:
        found = [public for public in list_public_addresses(traced.facts) if public.row.number == traced.row.number]
    except CannotCheckError as error:
        return [Hop("service", error.reason, HopState.UNKNOWN)]
    if not found:
        message = f"{traced.vm.ref} does not request {traced.address}, so it has no Service for it"
        return [Hop("service", message, HopState.BROKEN, ("2109",), commands=(_attach(traced),))]
    public, facts = found[0], traced.facts
    functions: list[Callable[[PublicAddress, Facts], Hop]] = [_service]
    functions += [_pool, _assigned] if public.metallb else [_assigned]
    functions += [_vm, _endpoint, _advertisement, _node]
    if public.network.bgp is not None:
        functions += [_session, _route]
    else:
        functions += [_lan]
    hops = []
    for function in functions:
        try:
            hops.append(function(public, facts))
        except CannotCheckError as error:
            hops.append(replace(_HOPS_OF_PUBLIC.get(_name(function), Hop(_name(function), "")), message=error.reason))
    return hops


_HOPS_OF_PUBLIC = {
    name: Hop(name, "", HopState.UNKNOWN, codes)
    for name, codes in (
        ("service", ("2109", "2401")),
        ("pool", ("2101", "2102")),
        ("assigned", ("2105", "2106", "2111")),
        ("vm", ()),
        ("endpoint", ("2104",)),
        ("advertisement", ("2103",)),
        ("node", ("2108", "2110")),
        ("session", ("2201", "2202", "2203", "2204")),
    )
}
"""The rules of each hop of a public address; also the hop if it cannot be read."""


def _hop(name: str, message: str, state: HopState = HopState.OK, *commands: str) -> Hop:
    return replace(_HOPS_OF_PUBLIC[name], message=message, state=state, commands=commands)


def _service(public: PublicAddress, facts: Facts) -> Hop:
    service = public.service
    if service is None:
        return _hop("service", f"{public.service_ref} is missing", HopState.BROKEN)
    kind, policy = dig(service, "spec", "type", default="ClusterIP"), dig(service, "spec", "externalTrafficPolicy")
    ports = format_ports(get_service_ports(service))
    return _hop("service", f"{public.service_ref}: {kind}, externalTrafficPolicy {policy}, ports {ports}")


def _pool(public: PublicAddress, facts: Facts) -> Hop:
    pools = [name_of(pool) for pool in facts.product_objects(metallb.POOL) if metallb.covers(pool, public.address)]
    if not pools:
        return _hop("pool", f"{public.address} is in no IPAddressPool", HopState.BROKEN)
    return _hop("pool", f"ipaddresspool/{', '.join(pools)} has {public.address}")


def _assigned(public: PublicAddress, facts: Facts) -> Hop:
    if not public.is_assigned:
        return _hop("assigned", f"{public.service_ref} is pending", HopState.BROKEN)
    return _hop("assigned", f"{public.service_ref} has {public.address}")


def _vm(public: PublicAddress, facts: Facts) -> Hop:
    node = running_node(public.vm, facts)
    if not node:
        return _hop(
            "vm",
            f"{public.vm.ref} does not run",
            HopState.BROKEN,
            remedies.start((public.vm.namespace, public.vm.name)),
        )
    return _hop("vm", f"{public.vm.ref} runs on node {node}")


def _endpoint(public: PublicAddress, facts: Facts) -> Hop:
    if public.service is None:
        return _hop("endpoint", "there is no Service", HopState.UNKNOWN)
    endpoints = list_endpoints(public.service, facts)
    ready = sum(1 for endpoint in endpoints if can_serve(endpoint))
    state = HopState.OK if has_endpoint(public, facts) else HopState.BROKEN
    return _hop("endpoint", f"{ready} of {len(endpoints)} endpoints ready", state)


def _advertisement(public: PublicAddress, facts: Facts) -> Hop:
    if public.metallb is None:
        return _hop("advertisement", f"{public.announcer.name}: bgpconfiguration/default lists {public.address}")
    kind = public.metallb.advertisement
    pools = [pool for pool in facts.product_objects(metallb.POOL) if metallb.covers(pool, public.address)]
    found = [obj for pool in pools for obj in metallb.list_advertisements(pool, facts.product_objects(kind))]
    names = first_few([name_of(obj) for obj in found], MAX_NAMES)
    if not found:
        return _hop("advertisement", f"no {kind.kind} announces {public.address}", HopState.UNKNOWN)
    return _hop("advertisement", f"{kind.kind.lower()}/{names} announces the pool")


def _node(public: PublicAddress, facts: Facts) -> Hop:
    nodes = announcing_nodes(public, facts)
    node = running_node(public.vm, facts)
    if nodes is None:
        message = f"{public.announcer.name} announces it from node {node}" if node else "the VM runs on no node"
        return _hop("node", message, HopState.OK if node else HopState.UNKNOWN)
    if not nodes:
        return _hop("node", "no node reports that it announces the address", HopState.BROKEN)
    return _hop("node", f"announced from {', '.join(sorted(nodes))}")


def sessions_of(public: PublicAddress, facts: Facts) -> list[BgpSession]:
    """Return the reported sessions of the nodes that announce an address, or should.

    Raises:
        CannotCheckError: not all sessions are reported.
    """
    node = running_node(public.vm, facts)
    nodes = {node} if public.is_local and node else set(announcing_nodes(public, facts) or ()) or {node}
    return [session for session in iter_sessions(public.network, facts) if session.node in nodes]


def _session(public: PublicAddress, facts: Facts) -> Hop:
    sessions = sessions_of(public, facts)
    if not sessions:
        return _hop("session", "no session of the VM's node is reported", HopState.UNKNOWN)
    named = first_few([f"{one.node} with {one.peer}: {one.state or 'unknown'}" for one in sessions], MAX_NAMES)
    return _hop("session", named)


def _route(public: PublicAddress, facts: Facts) -> Hop:
    prefix = f"{public.address}/{public.address.max_prefixlen}"
    family = f"ipv{public.address.version}"
    commands = (
        f"gobgp global rib {prefix} -a {family}",
        f"birdc show route {prefix}",
        f"vtysh -c 'show bgp {family} unicast {prefix}'",
    )
    message = f"the router's table is not visible here; run one of these there: {'; '.join(commands)}"
    return Hop("route", message, HopState.UNKNOWN, commands=commands, is_external=True)


def _lan(public: PublicAddress, facts: Facts) -> Hop:
    command = f"arping -c 3 {public.address}" if public.address.version == 4 else f"ndisc6 {public.address} eth0"
    message = f"the neighbours of the LAN are not visible here; run on a host there: {command}"
    return Hop("route", message, HopState.UNKNOWN, commands=(command,), is_external=True)
