"""`kubectl yoshi ips move`: move a public address to another VM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors
from kubectl_yoshi.cli.options import as_options, command, dry_run_option, timeout_option, wait_option
from kubectl_yoshi.cli.param_types import HELD_ADDRESS, NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.session import Session


@dataclass(frozen=True)
class MoveOptions:
    """The flags of `ips move`."""

    address: str
    to: str
    network: str | None
    port: tuple[str, ...]
    wait: bool
    timeout: float | None
    dry_run: str


@command("move", examples="kubectl yoshi ips move 203.0.113.5 --to web-2")
@click.argument("address", type=HELD_ADDRESS, metavar="IP")
@click.option("--to", type=VM_NAME, required=True, metavar="VM", help="The VM to move it to: NAME, or NAMESPACE/NAME.")
@click.option(
    "--network", type=NETWORK_NAME, metavar="NAME", help="The network of the address (default the one that holds it)."
)
@click.option("--port", multiple=True, metavar="PORTS", help="Ports of the address (default 22,80,443/tcp).")
@wait_option("the address is reachable")
@timeout_option()
@dry_run_option
@as_options(MoveOptions)
def move(session: Session, options: MoveOptions) -> None:
    """Move a public address to another VM."""
    from kubectl_yoshi.cli.vm_args import resolve_vms
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.model.ports import parse_ports
    from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move

    address = parse_address(options.address)
    ports = parse_ports(options.port) if options.port else ()
    network = parse_network_name(options.network, session.namespace) if options.network else None
    (target,) = resolve_vms(session, (options.to,), "", (), False)
    request = MoveRequest(address, target, network, ports, options.wait)
    execute_options = ExecuteOptions(options.dry_run, timeout=options.timeout)
    done = execute(session, partial(plan_move, request), execute_options)
    if done is not None:
        raise_errors(session, done)
        suffix = "" if done.has_changed() else " (unchanged)"
        print(f"{address} moved to virtualmachine.kubevirt.io/{options.to}{suffix}", file=session.out)
