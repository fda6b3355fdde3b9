"""kubectl yoshi ips release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import execute
from kubectl_yoshi.cli.errors import print_error
from kubectl_yoshi.cli.options import as_options, command, dry_run_option
from kubectl_yoshi.cli.param_types import HELD_ADDRESS, NETWORK_NAME
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult


@dataclass(frozen=True)
class ReleaseOptions:
    """What `ips release` was asked for."""

    network: str
    addresses: tuple[str, ...]
    dry_run: str


@command("release", examples="kubectl yoshi ips release blue 10.133.0.50")
@click.argument("network", type=NETWORK_NAME)
@click.argument("addresses", nargs=-1, type=HELD_ADDRESS, required=True, metavar="IP…")
@dry_run_option
@as_options(ReleaseOptions)
def release(session: Session, options: ReleaseOptions) -> None:
    """Give reserved addresses back, and addresses whose VM does not use them.

    `ips gc` finds and gives back all addresses whose VM is gone or does not use them.
    """
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.reserve import ReleaseRequest, plan_release

    addresses = tuple(dict.fromkeys(parse_address(text) for text in options.addresses))
    network = parse_network_name(options.network, session.namespace)
    request = ReleaseRequest(network, addresses)
    done = execute(
        session,
        partial(
            plan_release,
            request,
        ),
        options.dry_run,
        OutputFormat(),
        tolerate_errors=True,
    )
    if done is not None:
        _print_released(session, done, [str(address) for address in addresses], options.dry_run)


def _print_released(session: Session, result: RunResult, addresses: Sequence[str], dry_run: str = "none") -> None:
    """A line for each address on stdout, its error on stderr where it had to stay, and exit code 1 if any had.

    Args:
        session: where to write.
        result: what was done; its `results` have who held each address.
        addresses: those that were to be released.
        dry_run: where nothing was done, only the errors are told.

    Raises:
        YoshiError: that of the single address, or one that keeps all of them.
        Exit: with code 1.
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
    click.get_current_context().exit(1)
