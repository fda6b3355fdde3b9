"""How `ips release` tells what became of each address: given back, free already, or kept and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import print_error
from kubectl_yoshi.cli.session import Session

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult


def print_released(session: Session, result: RunResult, addresses: Sequence[str], dry_run: str = "none") -> None:
    """A line for each address on stdout, its error on stderr where it had to stay, and exit code 1 if any had.

    Args:
        session: where to write.
        done: what was done; its `results` have who held each address.
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
