"""`kubectl yoshi ips move`: move a public address to another VM, or between VMs and reservations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import (
    as_options,
    command,
    dry_run_option,
    reserve_for_option,
    take_reservation_option,
    timeout_option,
    wait_option,
)
from kubectl_yoshi.cli.param_types import HELD_ADDRESS, NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.session import Session

if TYPE_CHECKING:
    from kubectl_yoshi.engine.read import Planner


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
@as_options(MoveOptions)
def move(session: Session, options: MoveOptions) -> None:
    """Move a public address to another VM, or between VMs and reservations."""
    planner, outcome = _planner(session, options)
    execute_options = ExecuteOptions(options.dry_run, timeout=options.timeout)
    done = execute(session, planner, execute_options)
    if done is not None:
        raise_errors(session, done)
        suffix = "" if done.has_changed() else " (unchanged)"
        print(f"{outcome}{suffix}", file=session.out)


def _planner(session: Session, options: MoveOptions) -> tuple[Planner, str]:
    """Return the planner, and the line that is printed once it is done."""
    from kubectl_yoshi.cli.vm_args import parse_reserve_for, resolve_vms
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.model.ports import parse_ports
    from kubectl_yoshi.plan.move.planner import (
        MoveRequest,
        MoveToReservationRequest,
        plan_move,
        plan_move_to_reservation,
    )

    address = parse_address(options.address)
    network = parse_network_name(options.network, session.namespace) if options.network else None
    if options.to is None:
        reserve_for = parse_reserve_for(options.reserve_for, session.namespace)
        request = MoveToReservationRequest(address, reserve_for, session.namespace, network, options.take_reservation)
        return partial(plan_move_to_reservation, request), f"{address} reserved for {reserve_for}"
    ports = parse_ports(options.port) if options.port else ()
    (target,) = resolve_vms(session, (options.to,), "", (), False)
    move_request = MoveRequest(address, target, network, ports, options.wait, options.take_reservation)
    return partial(plan_move, move_request), f"{address} moved to virtualmachine.kubevirt.io/{options.to}"
