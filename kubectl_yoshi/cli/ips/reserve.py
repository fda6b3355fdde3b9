"""`kubectl yoshi ips reserve`: reserve addresses, so that they are not assigned to VMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute, raise_errors
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import as_options, command, dry_run_option, output_option, reserve_for_option
from kubectl_yoshi.cli.param_types import FREE_ADDRESS, NETWORK_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS, address_object, printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.addresses import Address

MAX_ADDRESSES = 4096
MAX_NOTE_LENGTH = 256
"""In characters. The note is in the allocation of each address, and an object has up to 256 allocations."""


@dataclass(frozen=True)
class ReserveOptions:
    """The flags of `ips reserve`."""

    network: str
    addresses: tuple[str, ...]
    count: int | None
    reserve_for: str
    note: str
    dry_run: str
    output: OutputFormat

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

    # Reserve an address for a VM, which `vm attach` then assigns to it
    kubectl yoshi ips reserve blue 10.133.0.50 --for vm/web-1

    # Reserve a range for the VMs of a namespace
    kubectl yoshi ips reserve blue 10.133.0.60-10.133.0.69 --for namespace/shop
    """,
)
@click.argument("network", type=NETWORK_NAME)
@click.argument("addresses", nargs=-1, type=FREE_ADDRESS, metavar="[IP|FIRST-LAST]…")
@click.option("--count", type=int, metavar="N", help="The number of free addresses to reserve (default 1).")
@reserve_for_option("--for")
@click.option("--note", default="", metavar="TEXT", help=f"The purpose, in at most {MAX_NOTE_LENGTH} characters.")
@dry_run_option
@output_option(ADDRESS)
@as_options(ReserveOptions)
def reserve(session: Session, options: ReserveOptions) -> None:
    """Reserve addresses, so that they are not assigned to any VM, or only to those that they are for.

    `vm attach` without --ip assigns a VM the address that is reserved for it. An address that is reserved for a
    namespace is assigned to a VM of it with --ip.
    """
    from kubectl_yoshi.cli.vm_args import parse_reserve_for
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.allocations import RESERVATION, Allocation
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.records import written_records
    from kubectl_yoshi.plan.reserve import ReserveRequest, plan_reserve

    addresses = _parse_addresses(options.addresses)
    reserve_for = parse_reserve_for(options.reserve_for, session.namespace) if options.reserve_for else ""
    network = parse_network_name(options.network, session.namespace)
    request = ReserveRequest(network, addresses, options.count or 1, options.note, reserve_for)
    with printed_objects(session, options.output, single=(len(addresses) or request.count) == 1) as objects:
        done = execute(session, partial(plan_reserve, request), ExecuteOptions(options.dry_run, options.output))
        if done is None:
            return
        raise_errors(session, done)
        written = {address for change in done.changes for address in written_records(change)}
        for address, note in done.results.items():
            holder = Allocation(RESERVATION, network[0], "", note=note, reserved_for=reserve_for).holder
            status = {"state": AddressState.RESERVED.value, "holder": holder, "changed": address in written}
            objects.append(address_object(network, address, status))
    if options.output.is_human_readable:
        suffix = "" if done.has_changed() else " (unchanged)"
        for address in done.results:
            print(f"{address} reserved on {network[1]}{suffix}", file=session.out)


def _parse_addresses(texts: Sequence[str]) -> tuple[Address, ...]:
    """Parse addresses and ranges (FIRST-LAST, or a CIDR) into single addresses, each once.

    Raises:
        UsageError: a text is neither, or there are more than MAX_ADDRESSES.
    """
    from kubectl_yoshi.model.addresses import address_of, parse_span

    spans = [parse_span(text, "address") for text in texts]
    if (count := sum(last - first + 1 for (first, last), _ in spans)) > MAX_ADDRESSES:
        raise usage_error(f"one command can reserve {MAX_ADDRESSES} addresses, not {count}", "Name a smaller range.")
    return tuple(
        dict.fromkeys(
            address_of(number, version) for (first, last), version in spans for number in range(first, last + 1)
        )
    )
