"""`kubectl yoshi ips reserve`: reserve addresses, so that they are not assigned to VMs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import as_options, command, dry_run_option
from kubectl_yoshi.cli.param_types import FREE_ADDRESS, NETWORK_NAME
from kubectl_yoshi.cli.session import Session

MAX_NOTE_LENGTH = 256
"""In characters. The note is in the allocation of each address, and an object has up to 256 allocations."""


@dataclass(frozen=True)
class ReserveOptions:
    """The flags of `ips reserve`."""

    network: str
    addresses: tuple[str, ...]
    count: int | None
    note: str
    dry_run: str

    def __post_init__(self) -> None:
        if self.addresses and self.count is not None:
            raise usage_error("give addresses or --count, not both")
        if self.count is not None and not 1 <= self.count <= 256:
            raise usage_error("--count must be from 1 to 256")
        if len(self.note) > MAX_NOTE_LENGTH:
            raise usage_error(f"--note must have at most {MAX_NOTE_LENGTH} characters; it has {len(self.note)}")


@command(
    "reserve",
    examples="""
    # Reserve an address for a printer
    kubectl yoshi ips reserve blue 10.133.0.50 --note printer

    # Reserve three free addresses
    kubectl yoshi ips reserve blue --count 3
    """,
)
@click.argument("network", type=NETWORK_NAME)
@click.argument("addresses", nargs=-1, type=FREE_ADDRESS, metavar="[IP]…")
@click.option("--count", type=int, metavar="N", help="The number of free addresses to reserve (default 1).")
@click.option("--note", default="", metavar="TEXT", help=f"The purpose, in at most {MAX_NOTE_LENGTH} characters.")
@dry_run_option
@as_options(ReserveOptions)
def reserve(session: Session, options: ReserveOptions) -> None:
    """Reserve addresses, so that they are not assigned to VMs."""
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.reserve import ReserveRequest, plan_reserve

    addresses = tuple(dict.fromkeys(parse_address(text) for text in options.addresses))
    network = parse_network_name(options.network, session.namespace)
    request = ReserveRequest(network, addresses, options.count or 1, options.note)
    done = execute(session, partial(plan_reserve, request), ExecuteOptions(options.dry_run))
    if done is not None:
        raise_errors(session, done)
        suffix = "" if done.has_changed() else " (unchanged)"
        for address in done.results:
            print(f"{address} reserved on {network[1]}{suffix}", file=session.out)
