"""`kubectl yoshi ips move`: move a public address to another VM, or between VMs and reservations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import (
    as_options,
    command,
    dry_run_option,
    output_option,
    reserve_for_option,
    take_reservation_option,
    timeout_option,
    wait_option,
)
from kubectl_yoshi.cli.param_types import HELD_ADDRESS, NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS, ATTACHMENT, address_object, attachment_result, printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.output.format_option import OutputFormat


@dataclass(frozen=True)
class MoveOptions:
    """The flags of `ips move`."""

    address: str
    to: str | None
    reserve_for: str
    network: str | None
    port: tuple[str, ...]
    take_reservation: bool
    wait: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat

    def __post_init__(self) -> None:
        if bool(self.to) == bool(self.reserve_for):
            raise usage_error("name the VM with --to, or whom the address is for with --reserve-for", "One of the two.")
        if self.reserve_for and (self.port or self.wait):
            raise usage_error("--port and --wait are for a VM", "Name it with --to.")


@command(
    "move",
    examples="""
    kubectl yoshi ips move 203.0.113.5 --to web-2

    # Take the address from its VM, and keep it reserved for another one
    kubectl yoshi ips move 203.0.113.5 --reserve-for vm/web-2
    """,
)
@click.argument("address", type=HELD_ADDRESS, metavar="IP")
@click.option("--to", type=VM_NAME, metavar="VM", help="The VM to move it to: NAME, or NAMESPACE/NAME.")
@reserve_for_option("--reserve-for")
@click.option(
    "--network", type=NETWORK_NAME, metavar="NAME", help="The network of the address (default the one that holds it)."
)
@click.option("--port", multiple=True, metavar="PORTS", help="Ports of the address (default 22,80,443/tcp).")
@take_reservation_option
@wait_option("the address is reachable")
@timeout_option()
@dry_run_option
@output_option(ATTACHMENT, ADDRESS)
@as_options(MoveOptions)
def move(session: Session, options: MoveOptions) -> None:
    """Move a public address to another VM, or between VMs and reservations."""
    if options.to is None:
        _move_to_reservation(session, options)
    else:
        _move_to_vm(session, options, options.to)


def _move_to_vm(session: Session, options: MoveOptions, to: str) -> None:
    from kubectl_yoshi.cli.vm_args import resolve_vms
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.model.plan import Plan
    from kubectl_yoshi.model.ports import parse_ports
    from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move

    address = parse_address(options.address)
    ports = parse_ports(options.port) if options.port else ()
    network = parse_network_name(options.network, session.namespace) if options.network else None
    (target,) = resolve_vms(session, (to,), "", (), False)
    request = MoveRequest(address, target, network, ports, options.wait, options.take_reservation)
    execute_options = ExecuteOptions(options.dry_run, options.output, options.timeout)
    with printed_objects(session, options.output, single=True) as objects:
        try:
            done = execute(session, partial(plan_move, request), execute_options)
        except YoshiError as error:
            done = RunResult(Plan(), errors={"/".join(target): error})
        if done is None:
            return
        objects.append(attachment_result(done, target, "/".join(network or ()), AddressState.BOUND))
        raise_errors(session, done)
    if options.output.is_human_readable:
        suffix = "" if done.has_changed() else " (unchanged)"
        print(f"{address} moved to virtualmachine.kubevirt.io/{to}{suffix}", file=session.out)


def _move_to_reservation(session: Session, options: MoveOptions) -> None:
    from kubectl_yoshi.cli.vm_args import parse_reserve_for
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.allocations import RESERVATION, Allocation
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.move.planner import MoveToReservationRequest, plan_move_to_reservation

    address = parse_address(options.address)
    network = parse_network_name(options.network, session.namespace) if options.network else None
    reserve_for = parse_reserve_for(options.reserve_for, session.namespace)
    request = MoveToReservationRequest(address, reserve_for, session.namespace, network, options.take_reservation)
    with printed_objects(session, options.output, single=True) as objects:
        execute_options = ExecuteOptions(options.dry_run, options.output, options.timeout)
        done = execute(session, partial(plan_move_to_reservation, request), execute_options)
        if done is None:
            return
        raise_errors(session, done)
        namespace, _, name = done.results[str(address)].partition("/")
        holder = Allocation(RESERVATION, namespace, "", reserved_for=reserve_for).holder
        status = {"state": AddressState.RESERVED.value, "holder": holder, "changed": done.has_changed()}
        objects.append(address_object((namespace, name), str(address), status))
    if options.output.is_human_readable:
        suffix = "" if done.has_changed() else " (unchanged)"
        print(f"{address} {holder}{suffix}", file=session.out)
