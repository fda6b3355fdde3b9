"""`kubectl yoshi ips release`: release reservations, and addresses that their VMs do not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute
from kubectl_yoshi.cli.errors import print_error
from kubectl_yoshi.cli.options import as_options, command, dry_run_option
from kubectl_yoshi.cli.param_types import HELD_ADDRESS, NETWORK_NAME
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult


@dataclass(frozen=True)
class ReleaseOptions:
    """The flags of `ips release`."""

    network: str
    addresses: tuple[str, ...]
    dry_run: str


@command("release", examples="kubectl yoshi ips release blue 10.133.0.50")
@click.argument("network", type=NETWORK_NAME)
@click.argument("addresses", nargs=-1, type=HELD_ADDRESS, required=True, metavar="IP…")
@dry_run_option
@as_options(ReleaseOptions)
def release(session: Session, options: ReleaseOptions) -> None:
    """Release reserved addresses, and addresses that their VMs do not use.

    `ips gc` finds and releases all addresses whose VM no longer exists or does not use them.
    """
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.reserve import ReleaseRequest, plan_release

    addresses = tuple(dict.fromkeys(parse_address(text) for text in options.addresses))
    network = parse_network_name(options.network, session.namespace)
    request = ReleaseRequest(network, addresses)
    execute_options = ExecuteOptions(options.dry_run, tolerate_errors=True)
    done = execute(session, partial(plan_release, request), execute_options)
    if done is not None:
        _print_released(session, done, [str(address) for address in addresses], options.dry_run)


def _print_released(session: Session, result: RunResult, addresses: Sequence[str], dry_run: str = "none") -> None:
    """Print a line for each released address, and the errors of the others on stderr.

    Args:
        session: where to print.
        result: of the run; its `results` have the previous holder of each address.
        addresses: the addresses to release.
        dry_run: a dry run prints only the errors.

    Raises:
        YoshiError: the error of the only address, or one that concerns all addresses.
        Exit: one of several addresses was not released; the exit code is 1.
    """
    holders = {**result.plan.results, **result.results}
    single_messages = {error.message for owner, error in result.errors.items() if owner in addresses}
    common_error = next((error for error in result.errors.values() if error.message not in single_messages), None)
    not_released = [address for address in addresses if common_error is not None or address in result.errors]
    for address in addresses if dry_run == "none" else ():
        if address not in not_released:
            word = f"released (was {holders[address]})" if address in holders else "is free already"
            print(f"{address} {word}", file=session.out)
    if common_error is not None:
        raise common_error
    errors = [result.errors[address] for address in not_released]
    if not errors:
        return
    if len(addresses) == 1:
        raise errors[0]
    for text in dict.fromkeys(map(str, errors)):
        print_error(text, session.err)
    print_error(f"{len(not_released)} of {len(addresses)} addresses could not be released", session.err)
    click.get_current_context().exit(ExitCode.FAILURE)
