"""Follow one address of a VM, hop by hop, and find the first hop that it does not pass.

Only what concerns the VM is read: its own objects by name, and lists of its namespace. Rules see these as if there were
no other VMs (`_narrow`), so that they are the same as those of `doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kubectl_yoshi.backends.calico.api import get_read_api
from kubectl_yoshi.backends.calico.ipam import handle_name, restrict_to_handle
from kubectl_yoshi.backends.metallb import frr
from kubectl_yoshi.backends.ovs.dhcp import server_instance_queries
from kubectl_yoshi.backends.ovs.spec import PLUGIN as LAYER2
from kubectl_yoshi.backends.public.services import SERVICE, is_for_network
from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Facts, Scope
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Severity
from kubectl_yoshi.diagnosis.hops import Hop, HopState, TracedAddress, list_hops, sessions_of
from kubectl_yoshi.diagnosis.public import ENDPOINT_SLICE, PLUGIN, list_public_addresses, running_node
from kubectl_yoshi.diagnosis.rule import Diagnosis, Finding
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.diagnosis.run import diagnose
from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation, Allocations, is_large, shard_of
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network
from kubectl_yoshi.model.objects import NamespacedName, Resource, dig, namespace_of
from kubectl_yoshi.model.snapshot import Answer, Query, Snapshot, Unreadable
from kubectl_yoshi.model.vm import LAUNCHER_SELECTOR, POD, VM, VMI, Vm
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.network_lookup import (
    find_network_of,
    network_query,
    networks_requested_by,
    parse_networks,
)
from kubectl_yoshi.plan.records import load_allocations, load_shards


@dataclass(frozen=True)
class TracedHop:
    """A hop with what rules find about it.

    Attributes:
        hop: the hop; its state is the worst of what it states itself and of the findings.
        findings: what rules find about it, the most serious first.
        reasons: why some of its rules could not be checked.
    """

    hop: Hop
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """The way of an address.

    Attributes:
        address: the address as text; "" for a network of which the VM has none.
        network: the network.
        vm: namespace and name of the VM that holds it; None if no VM does.
        hops: the hops, in order.
    """

    address: str
    network: NamespacedName
    vm: NamespacedName | None
    hops: tuple[TracedHop, ...]

    @property
    def first_break(self) -> TracedHop | None:
        """Return the first hop that the address does not pass; None if there is none."""
        return next((one for one in self.hops if one.hop.state is HopState.BROKEN), None)

    @property
    def is_uncertain(self) -> bool:
        """Return whether a hop inside the cluster could not be checked."""
        return any(one.hop.state is HopState.UNKNOWN and not one.hop.is_external for one in self.hops)

    @property
    def is_volatile(self) -> bool:
        """Return whether a break may be over in a moment."""
        return any(finding.rule.is_volatile for one in self.hops for finding in one.findings)


# -- which addresses -------------------------------------------------------------------------------------------------


def list_held_addresses(vm: Vm, ctx: PlanContext) -> list[tuple[Network, int]]:
    """Return the addresses that a VM holds or uses, each with its network.

    Networks are found by the VM's annotations, and in its namespace.
    """
    return [
        (network, number)
        for network in _list_networks(vm, ctx)
        if network.plugin in ctx.backends
        for number in _list_numbers(vm, network, ctx)
    ]


def list_missing_networks(vm: Vm, ctx: PlanContext) -> list[NamespacedName]:
    """Return the networks that a VM requests, and that do not exist."""
    names = [name for backend in ctx.backends.values() for name in networks_requested_by(vm, backend)]
    queries = {name: network_query(*name) for name in names}
    ctx.snapshot.prefetch(*queries.values())
    return [
        name
        for name, query in queries.items()
        if not ctx.snapshot.lookup(query) and not ctx.snapshot.unreadable_reason(query)
    ]


def _list_networks(vm: Vm, ctx: PlanContext) -> list[Network]:
    names = [name for backend in ctx.backends.values() for name in networks_requested_by(vm, backend)]
    own = Query(NETWORKWIZARD, vm.namespace)
    found = ctx.snapshot.lookup(*(network_query(*name) for name in names), own)
    networks = {network.full_name: network for network in parse_networks(found)}
    public = ctx.backends.get(PLUGIN)
    if public is None or networks_requested_by(vm, public):
        return [*networks.values()]
    try:
        addresses = public.requested_networks(vm).addresses
    except UsageError:
        addresses = ()
    for address in addresses:
        if not any(address in network for network in networks.values()):
            network = find_network_of(address, vm.namespace, ctx.snapshot, PLUGIN)
            networks[network.full_name] = network
    return [*networks.values()]


def _list_numbers(vm: Vm, network: Network, ctx: PlanContext) -> list[int]:
    """Return the addresses of a network that a VM holds, or that its template or its instance has."""
    uses = ctx.backends[network.plugin].address_uses(network, [vm], Intervals(), ctx.snapshot)
    used = [use.number for use in uses if use.is_for_vm(vm.namespace, vm.name, vm.uid)]
    if not is_large(network):
        allocations = load_allocations(network, ctx.snapshot)
    elif used:
        allocations = load_shards(network, [shard_of(network, number) for number in used], ctx.snapshot)
    elif (network.namespace, network.name) in networks_requested_by(vm, ctx.backends[network.plugin]):
        allocations = load_allocations(network, ctx.snapshot)
    else:
        return []
    held = allocations.held_by(vm.namespace, vm.name)
    return sorted({number for number, record in held.items() if record.uid in ("", vm.uid)} | {*used})


def find_record(network: Network, number: int, ctx: PlanContext) -> Allocation | None:
    """Return the allocation of an address; None if there is none."""
    return _load_shard(network, number, ctx.snapshot).records().get(number)


def find_user(network: Network, number: int, ctx: PlanContext) -> Vm | None:
    """Return the VM that uses an address without an allocation, according to the backend's records; None if none."""
    if network.plugin not in ctx.backends:
        return None
    backend = ctx.backends[network.plugin]
    uses = backend.address_uses(network, (), Intervals.from_numbers([number]), ctx.snapshot)
    names = {(use.namespace, use.name) for use in uses if use.number == number and use.name}
    found = ctx.snapshot.lookup(*(Query(VM, *name) for name in names))
    return Vm(found[0]) if found else None


def _load_shard(network: Network, number: int, snapshot: Snapshot) -> Allocations:
    return (
        load_shards(network, [shard_of(network, number)], snapshot)
        if is_large(network)
        else load_allocations(network, snapshot)
    )


# -- one address -----------------------------------------------------------------------------------------------------


def trace_address(network: Network, number: int, vm: Vm, ctx: PlanContext) -> Trace:
    """Follow an address of a VM.

    Args:
        network: the network.
        number: the address.
        vm: the VM that holds or uses it.
        ctx: a snapshot in which nothing was trimmed, and the backends.
    """
    snapshot = _narrow(network, number, vm, ctx)
    scope = Scope(vm.namespace, (network.namespace, network.name))
    facts = Facts(PlanContext(snapshot, ctx.backends, ctx.run), scope)
    rows = facts.rows[(network.namespace, network.name)]
    row = next((row for row in rows if row.number == number), None)
    name, address = (vm.namespace, vm.name), str(network.address(number))
    if row is None:
        hop = Hop("allocation", f"{address} is neither allocated nor used", HopState.BROKEN)
        return Trace(address, (network.namespace, network.name), name, (TracedHop(hop),))
    traced = TracedAddress(facts, vm, row)
    hops = list_hops(traced)
    numbers = {number for hop in hops for number in (*hop.codes, *hop.extra_codes)}
    diagnosis = diagnose(facts, [rule for rule in RULES if rule.number in numbers])
    concerned = [finding for finding in diagnosis.findings if _concerns(finding, traced)]
    merged = tuple(_merge(hop, replace(diagnosis, findings=tuple(concerned))) for hop in hops)
    return Trace(address, (network.namespace, network.name), name, merged)


def trace_missing_network(network: NamespacedName, vm: Vm) -> Trace:
    """Return the trace of a VM that requests a network which does not exist."""
    name = "/".join(network)
    detach = remedies.detach((vm.namespace, vm.name), network)
    message = f"{vm.ref} requests network {name}, which does not exist"
    hop = Hop("annotation", message, HopState.BROKEN, commands=(detach,))
    return Trace("", network, (vm.namespace, vm.name), (TracedHop(hop),))


def trace_without_vm(
    network: Network, address: Address, record: Allocation | None, unreadable_reason: str = ""
) -> Trace:
    """Return the trace of an address that no VM holds, or of one whose VM cannot be found.

    Args:
        network: the network.
        address: the address.
        record: its allocation; None if there is none.
        unreadable_reason: why the VM cannot be read; "" if it does not exist, or if there is none.
    """
    ref = NETWORKWIZARD.ref(network.name, network.namespace)
    state = HopState.BROKEN
    if record is None:
        reason = network.unusable_reason(address)
        message = f"{ref}: no VM holds {address}: {reason or 'it has no allocation'}"
    elif record.kind != VIRTUALMACHINE:
        message = f"{ref}: no VM holds {address}: it is allocated to {record.holder}"
    elif unreadable_reason:
        message, state = f"{ref}: held by {record.holder}: {unreadable_reason}", HopState.UNKNOWN
    else:
        message = f"{ref}: held by {record.holder}, which does not exist"
    hop = Hop("allocation", message, state, commands=(remedies.show_address(address),))
    vm = (record.namespace, record.name) if record is not None and record.kind == VIRTUALMACHINE else None
    return Trace(str(address), (network.namespace, network.name), vm, (TracedHop(hop),))


def _concerns(finding: Finding, traced: TracedAddress) -> bool:
    """Return whether a finding about a network concerns the VM and the address."""
    seen, vm = finding.observation, (traced.vm.namespace, traced.vm.name)
    if seen.vm not in (None, vm) or seen.address not in ("", str(traced.address)):
        return False
    if finding.rule.number == "2201":
        return seen.ref in _own_sessions(traced)
    if seen.ref.resource == frr.NODE_STATE:
        return seen.ref.name == running_node(traced.vm, traced.facts)
    return True


def _own_sessions(traced: TracedAddress) -> list[object]:
    found = list_public_addresses(traced.facts)
    try:
        return [session.ref for public in found for session in sessions_of(public, traced.facts)]
    except CannotCheckError:
        return []


def _merge(hop: Hop, diagnosis: Diagnosis) -> TracedHop:
    """Return a hop with the findings of its rules, and the worst state."""
    codes = {*hop.codes, *hop.extra_codes}
    findings = tuple(finding for finding in diagnosis.findings if finding.rule.number in codes)
    reasons = tuple(dict.fromkeys(one.reason for one in diagnosis.unchecked if one.rule.number in hop.codes))
    severities = {finding.rule.severity for finding in findings}
    states = [hop.state]
    states += [HopState.BROKEN] if Severity.ERROR in severities else []
    states += [HopState.WARNING] if Severity.WARNING in severities else []
    states += [HopState.UNKNOWN] if reasons else []
    worst = next(state for state in _WORST_FIRST if state in states)
    return TracedHop(replace(hop, state=worst), findings, reasons)


_WORST_FIRST = (HopState.BROKEN, HopState.UNKNOWN, HopState.WARNING, HopState.OK)


# -- reading ---------------------------------------------------------------------------------------------------------


def _narrow(network: Network, number: int, vm: Vm, ctx: PlanContext) -> Snapshot:
    """Return a snapshot whose lists contain only what concerns a VM and an address, read by name or in its namespace.

    The Services of all namespaces are read only if the address is not assigned, to find another Service that has it.
    """
    snapshot, backend = ctx.snapshot, ctx.backends[network.plugin]
    snapshot.prefetch(Query(VM, vm.namespace, vm.name), network_query(network.namespace, network.name))
    backend.address_uses(network, [vm], Intervals.from_numbers([number]), snapshot)
    _load_shard(network, number, snapshot)
    snapshot.prefetch(
        Query(VM, vm.namespace, vm.name),
        Query(VMI, vm.namespace, vm.name),
        Query(POD, vm.namespace, label_selector=f"{LAUNCHER_SELECTOR},vm.kubevirt.io/name={vm.hostname}"),
    )
    if network.plugin == LAYER2:
        snapshot.prefetch(*server_instance_queries(network))
    results: dict[Query, Answer] = {}
    for resource in (VM, VMI, POD):
        results |= _as_lists(resource, _answer(resource, snapshot), (None, vm.namespace, network.namespace))
    results |= _as_lists(ADDRESSBLOCK, _answer(ADDRESSBLOCK, snapshot), (None, network.namespace))
    if network.plugin == "calico":
        results |= _narrow_ipam(vm, snapshot)
    if network.plugin == PLUGIN:
        results |= _narrow_services(network, vm, snapshot)
    return snapshot.with_results(results)


def _narrow_ipam(vm: Vm, snapshot: Snapshot) -> dict[Query, Answer]:
    """Return Calico's lists with the VM's handle, and blocks in which only that handle has addresses."""
    api = get_read_api(snapshot)
    handle, blocks = handle_name(vm.namespace, vm.name), _answer(api.block, snapshot)
    if not isinstance(blocks, Unreadable):
        blocks = tuple(restrict_to_handle(block, handle) for block in blocks)
    handles = _answer(api.handle, snapshot)
    return _as_lists(api.block, blocks, (None,)) | _as_lists(api.handle, handles, (None,))


def _narrow_services(network: Network, vm: Vm, snapshot: Snapshot) -> dict[Query, Answer]:
    services, slices = Query(SERVICE, vm.namespace), Query(ENDPOINT_SLICE, vm.namespace)
    snapshot.prefetch(services, slices)
    results = _as_lists(ENDPOINT_SLICE, snapshot.results[slices], (None,))
    own = [obj for obj in snapshot.lookup(services) if is_for_network(obj, network)]
    has_address = any(dig(obj, "status", "loadBalancer", "ingress", default=[]) for obj in own)
    return {**results, **(_as_lists(SERVICE, snapshot.results[services], (None,)) if has_address else {})}


def _answer(resource: Resource, snapshot: Snapshot) -> Answer:
    """Return the objects of a resource that were read, or why some of them could not be."""
    reasons = (reason for query, reason in snapshot.unreadable_queries().items() if query.resource == resource)
    reason = next(reasons, "")
    return Unreadable(reason) if reason else tuple(snapshot.list_objects(resource))


def _as_lists(resource: Resource, answer: Answer, namespaces: Iterable[str | None]) -> dict[Query, Answer]:
    """Return the answer as that to the lists of these namespaces."""
    selectors = ("", LAUNCHER_SELECTOR) if resource == POD else ("",)
    return {
        Query(resource, namespace, label_selector=selector): _in_namespace(answer, namespace)
        for namespace in namespaces
        for selector in selectors
    }


def _in_namespace(answer: Answer, namespace: str | None) -> Answer:
    if isinstance(answer, Unreadable) or namespace is None:
        return answer
    return tuple(obj for obj in answer if namespace_of(obj) == namespace)


def trace_twice(read: Callable[[], list[Trace]], pause: Callable[[], None]) -> list[Trace]:
    """Return traces; those with a break that may be over in a moment are read again after a pause."""
    first = read()
    if not any(trace.is_volatile and trace.first_break for trace in first):
        return first
    pause()
    return read()
