"""`kubectl yoshi trace`: follow one address from its allocation to the router, and explain the first break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from kubectl_yoshi.cli.errors import reserve_failure_for_findings, usage_error
from kubectl_yoshi.cli.options import as_options, command, output_option
from kubectl_yoshi.cli.param_types import TRACED
from kubectl_yoshi.cli.result_objects import API_VERSION, TRACE
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode, PreconditionFailed
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.diagnosis.hops import HopState
    from kubectl_yoshi.diagnosis.trace import Trace, TracedHop
    from kubectl_yoshi.model.addresses import Address
    from kubectl_yoshi.model.network import Network
    from kubectl_yoshi.model.objects import Json, NamespacedName
    from kubectl_yoshi.model.vm import Vm
    from kubectl_yoshi.plan.context import PlanContext

SERVICE_KINDS = ("svc", "service", "services")
MARKS = {"OK": ("✓", "green"), "Warning": ("!", "yellow"), "Broken": ("✗", "red"), "Unknown": ("?", "yellow")}
NAME_WIDTH = 14


@dataclass(frozen=True)
class TraceOptions:
    """The flags of `trace`."""

    target: str
    output: OutputFormat


@command(
    "trace",
    examples="""
    # Why a VM is not reachable: all of its addresses, hop by hop
    kubectl yoshi trace vm/web-1

    # One address, and the VM that holds it
    kubectl yoshi trace 10.133.0.10
    """,
)
@click.argument("target", type=TRACED, metavar="vm/NAME|IP|svc/NAME")
@output_option(TRACE)
@as_options(TraceOptions)
def trace(session: Session, options: TraceOptions) -> None:
    """Follow an address hop by hop, and explain the first break.

    A private address: annotation, allocation, template, instance, pod, and Calico's IPAM or the attachment and DHCP of
    a Layer 2 network. A public one: allocation, Service, pool, assignment, VM, endpoint, advertisement, node, BGP
    session and route.

    Each line has a tick (passed), ! (passed, with a warning), a cross (a break) or ? (not visible). What no API shows,
    such as the router's table, names the command to run there. The exit code is 1 if there is a break, and 3 if there
    is none, but something in the cluster could not be checked.
    """
    from kubectl_yoshi.cli.findings import CONFIRMATION_SECONDS
    from kubectl_yoshi.diagnosis.trace import trace_twice
    from kubectl_yoshi.output.formats import print_objects

    ctx = click.get_current_context()
    reserve_failure_for_findings(ctx)
    traces = trace_twice(
        lambda: _read_traces(session, options.target), lambda: session.api.clock.sleep(CONFIRMATION_SECONDS)
    )
    if not options.output.is_human_readable:
        single = len(traces) == 1
        print_objects([_trace_object(one) for one in traces], session.out, options.output, single=single)
    else:
        for number, one in enumerate(traces):
            if number:
                print(file=session.out)
            _print_trace(one, session.out)
    if any(one.first_break for one in traces):
        ctx.exit(ExitCode.FAILURE)
    if any(one.is_uncertain for one in traces):
        ctx.exit(ExitCode.UNCHECKED)


# -- what to trace ---------------------------------------------------------------------------------------------------


def _read_traces(session: Session, target: str) -> list[Trace]:
    """Read the cluster, and return the traces of what the command line names.

    Raises:
        UsageError: the target is neither a VM nor an address nor a Service.
        PreconditionFailed: there is no such object, or it has no address.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.cli.vm_args import VM_KINDS, parse_vm_name
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.plan.context import PlanContext, RunContext

    ctx = PlanContext(new_snapshot(session.api), BACKENDS, RunContext())
    kind, slash, name = target.partition("/")
    if slash and kind.lower() in VM_KINDS:
        return _trace_vm(parse_vm_name(name, session), ctx)
    if slash and kind.lower() in SERVICE_KINDS:
        return _trace_service(parse_vm_name(name, session), session, ctx)
    if slash:
        raise usage_error(f'"{target}" is neither a VM, an address nor a Service', "Write vm/NAME, IP or svc/NAME.")
    return _trace_ip(parse_address(target), session, ctx)


def _trace_vm(name: NamespacedName, ctx: PlanContext) -> list[Trace]:
    from kubectl_yoshi.diagnosis.trace import (
        list_held_addresses,
        list_missing_networks,
        trace_address,
        trace_missing_network,
    )

    vm = _load_vm(name, ctx)
    traces = [trace_missing_network(network, vm) for network in list_missing_networks(vm, ctx)]
    traces += [trace_address(network, number, vm, ctx) for network, number in list_held_addresses(vm, ctx)]
    if not traces:
        raise PreconditionFailed(
            f"VM {vm.full_name} has no address of a network",
            f"Attach it: kubectl yoshi vm attach {vm.name} -n {vm.namespace} --network NETWORK",
        )
    return traces


def _load_vm(name: NamespacedName, ctx: PlanContext) -> Vm:
    from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, UnreadableError, vm_not_found_error
    from kubectl_yoshi.model.snapshot import Query
    from kubectl_yoshi.model.vm import VM, Vm

    query = Query(VM, *name)
    found = ctx.snapshot.lookup(query)
    if reason := ctx.snapshot.unreadable_reason(query):
        raise UnreadableError(f"VM {'/'.join(name)} cannot be read: {reason}", ASK_ADMIN_HINT)
    if not found:
        raise vm_not_found_error(*name)
    return Vm(found[0])


def _trace_ip(address: Address, session: Session, ctx: PlanContext) -> list[Trace]:
    from kubectl_yoshi.plan.network_lookup import LIST_NETWORKS_HINT, list_requested_networks

    networks = list_requested_networks(None, None, ctx.snapshot, session.namespace)[0]
    networks = [n for n in networks if address in n] or [n for n in networks if n.can_hold(address)]
    traces = [trace for network in networks if (trace := _trace_on(network, address, ctx))]
    if not traces:
        raise PreconditionFailed(f"{address} is in no network that you can access", f"{LIST_NETWORKS_HINT}.")
    return traces


def _trace_on(network: Network, address: Address, ctx: PlanContext) -> Trace | None:
    """Return the trace of an address on a network; None if it may be on another network only."""
    from kubectl_yoshi.diagnosis.trace import find_record, find_user, trace_address, trace_without_vm
    from kubectl_yoshi.model.allocations import VIRTUALMACHINE
    from kubectl_yoshi.model.snapshot import Query
    from kubectl_yoshi.model.vm import VM, Vm

    record = find_record(network, int(address), ctx)
    if record is None and address not in network:
        return None
    if record is None and (user := find_user(network, int(address), ctx)):
        return trace_address(network, int(address), user, ctx)
    if record is not None and record.kind == VIRTUALMACHINE:
        query = Query(VM, record.namespace, record.name)
        found = [vm for vm in map(Vm, ctx.snapshot.lookup(query)) if record.uid in ("", vm.uid)]
        if found:
            return trace_address(network, int(address), found[0], ctx)
        return trace_without_vm(network, address, record, ctx.snapshot.unreadable_reason(query))
    return trace_without_vm(network, address, record)


def _trace_service(name: NamespacedName, session: Session, ctx: PlanContext) -> list[Trace]:
    from kubectl_yoshi.backends.public.services import SERVICE, list_service_addresses
    from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, UnreadableError
    from kubectl_yoshi.model.snapshot import Query

    query = Query(SERVICE, *name)
    found = ctx.snapshot.lookup(query)
    if reason := ctx.snapshot.unreadable_reason(query):
        raise UnreadableError(f"Service {'/'.join(name)} cannot be read: {reason}", ASK_ADMIN_HINT)
    if not found:
        raise PreconditionFailed(
            f'Service "{name[1]}" not found in namespace "{name[0]}"', f"See `kubectl get services -n {name[0]}`."
        )
    addresses = sorted(list_service_addresses(found[0]), key=str)
    if not addresses:
        raise PreconditionFailed(
            f"Service {'/'.join(name)} has and requests no address", "Only Services with a public address are traced."
        )
    return [trace for address in addresses for trace in _trace_ip(address, session, ctx)]


# -- printing --------------------------------------------------------------------------------------------------------


def _print_trace(trace: Trace, out: TextIO) -> None:
    """Print a line for each hop, then the explanation of the first break."""
    network = "/".join(trace.network)
    holder = f" of VM {'/'.join(trace.vm)}" if trace.vm else ""
    print(f"{trace.address or 'no address'} on network {network}{holder}", file=out)
    for one in trace.hops:
        codes = "".join(f" [{finding.rule.code}]" for finding in one.findings)
        unchecked = f" (not checked: {'; '.join(one.reasons)})" if one.reasons else ""
        mark = _mark(one.hop.state, out)
        print(f" {mark} {one.hop.name:<{NAME_WIDTH}} {one.hop.message}{codes}{unchecked}", file=out)
    print(f"result: {_result(trace)}", file=out)
    if trace.first_break is not None:
        _explain(trace.first_break, out)


def _mark(state: HopState, out: TextIO) -> str:
    from kubectl_yoshi.output.tables import painter

    return painter(out)(*MARKS[state.value])


def _result(trace: Trace) -> str:
    from kubectl_yoshi.diagnosis.hops import HopState

    if trace.first_break is not None:
        return f"first break at {trace.first_break.hop.name}"
    unknown = [one.hop.name for one in trace.hops if one.hop.state is HopState.UNKNOWN]
    return f"no break; not visible: {', '.join(unknown)}" if unknown else "no break"


def _explain(broken: TracedHop, out: TextIO) -> None:
    """Print why the address does not pass a hop, and what repairs that."""
    from kubectl_yoshi.cli.findings import print_remedy

    for finding in broken.findings:
        print(f"  why:     {finding.observation.message}", file=out)
        print_remedy(finding, out, with_evidence=True)
    if not broken.findings:
        print(f"  why:     {broken.hop.message}", file=out)
        for remedy in broken.hop.commands:
            print(f"  remedy:  {remedy}", file=out)


def _trace_object(trace: Trace) -> Json:
    """Return the object of a trace that -o json prints."""
    from kubectl_yoshi.cli.findings import finding_object

    return {
        "apiVersion": API_VERSION,
        "kind": TRACE,
        "metadata": {"name": trace.address or trace.network[1], "namespace": (trace.vm or trace.network)[0]},
        "spec": {"address": trace.address, "network": "/".join(trace.network), "vm": "/".join(trace.vm or ())},
        "status": {
            "firstBreak": trace.first_break.hop.name if trace.first_break else "",
            "uncertain": trace.is_uncertain,
            "hops": [
                {
                    "name": one.hop.name,
                    "state": one.hop.state.value,
                    "message": one.hop.message,
                    "external": one.hop.is_external,
                    "commands": [*one.hop.commands],
                    "findings": [finding_object(finding) for finding in one.findings],
                    "unchecked": [*one.reasons],
                }
                for one in trace.hops
            ],
        },
    }
