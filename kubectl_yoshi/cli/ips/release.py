"""`kubectl yoshi ips release`: release reservations, and addresses that their VMs do not use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import ExecuteOptions, execute
from kubectl_yoshi.cli.errors import print_error
from kubectl_yoshi.cli.options import as_options, command, dry_run_option, output_option
from kubectl_yoshi.cli.param_types import HELD_ADDRESS, NETWORK_NAME
from kubectl_yoshi.cli.result_objects import ADDRESS, address_object, printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.errors import YoshiError
    from kubectl_yoshi.model.objects import Json, NamespacedName


@dataclass(frozen=True)
class ReleaseOptions:
    """The flags of `ips release`."""

    network: str
    addresses: tuple[str, ...]
    dry_run: str
    output: OutputFormat


@command("release", examples="kubectl yoshi ips release blue 10.133.0.50")
@click.argument("network", type=NETWORK_NAME)
@click.argument("addresses", nargs=-1, type=HELD_ADDRESS, required=True, metavar="IP…")
@dry_run_option
@output_option(ADDRESS)
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
    execute_options = ExecuteOptions(options.dry_run, options.output, tolerate_errors=True)
    with printed_objects(session, options.output, single=len(addresses) == 1) as objects:
        done = execute(session, partial(plan_release, request), execute_options)
        if done is not None:
            released = _Released(done, tuple(map(str, addresses)))
            objects += [_address_object(network, address, released) for address in released.addresses]
            show_lines = options.dry_run == "none" and options.output.is_human_readable
            _print_released(session, released, show_lines)


@dataclass(frozen=True)
class _Released:
    """The result of a run that releases addresses.

    Attributes:
        result: its `results` have the previous holder of each address.
        addresses: the addresses to release.
    """

    result: RunResult
    addresses: tuple[str, ...]

    @cached_property
    def holders(self) -> Mapping[str, str]:
        """The holder that each address had."""
        return {**self.result.plan.results, **self.result.results}

    @cached_property
    def common_error(self) -> YoshiError | None:
        """The error that concerns all addresses, if there is one."""
        single_messages = {error.message for owner, error in self.result.errors.items() if owner in self.addresses}
        return next((error for error in self.result.errors.values() if error.message not in single_messages), None)

    @cached_property
    def errors(self) -> Mapping[str, YoshiError]:
        """The error of each address that was not released."""
        if self.common_error is not None:
            return dict.fromkeys(self.addresses, self.common_error)
        return {address: self.result.errors[address] for address in self.addresses if address in self.result.errors}


def _address_object(network: NamespacedName, address: str, released: _Released) -> Json:
    from kubectl_yoshi.model.address_state import AddressState

    holder = released.holders.get(address, "")
    if error := released.errors.get(address):
        status = {"state": AddressState.UNKNOWN.value, "holder": holder, "changed": False, "error": error.in_one_line}
    else:
        status = {"state": AddressState.RELEASED.value, "previousHolder": holder, "changed": bool(holder)}
    return address_object(network, address, status)


def _print_released(session: Session, released: _Released, show_lines: bool) -> None:
    """Print a line for each released address, and the errors of the others on stderr.

    Args:
        session: where to print.
        released: the result.
        show_lines: otherwise only errors are printed.

    Raises:
        YoshiError: the error of the only address, or one that concerns all addresses.
        Exit: one of several addresses was not released; the exit code is 1.
    """
    for address in released.addresses if show_lines else ():
        if address not in released.errors:
            holder = released.holders.get(address)
            print(f"{address} {f'released (was {holder})' if holder else 'is free already'}", file=session.out)
    if released.common_error is not None:
        raise released.common_error
    errors = [*released.errors.values()]
    if not errors:
        return
    if len(released.addresses) == 1:
        raise errors[0]
    for text in dict.fromkeys(map(str, errors)):
        print_error(text, session.err)
    print_error(f"{len(errors)} of {len(released.addresses)} addresses could not be released", session.err)
    click.get_current_context().exit(ExitCode.FAILURE)
