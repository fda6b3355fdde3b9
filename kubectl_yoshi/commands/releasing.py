"""How `ips release` tells what became of each address: given back, free already, or kept and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.commands.errors import show
from kubectl_yoshi.commands.session import Session

if TYPE_CHECKING:
    from kubectl_yoshi.cluster.running import Done


def tell_released(session: Session, done: Done, addresses: Sequence[str], dry_run: str = "none") -> None:
    """A line for each address on stdout, its error on stderr where it had to stay, and exit code 1 if any had.

    Args:
        session: where to write.
        done: what was done; its `answers` have who held each address.
        addresses: those that were to be released.
        dry_run: where nothing was done, only the errors are told.

    Raises:
        YoshiError: that of the single address, or one that keeps all of them.
        Exit: with code 1.
    """
    held = {**done.plan.answers, **done.answers}
    of_one = {error.message for subject, error in done.refusals.items() if subject in addresses}
    of_all = next((error for error in done.refusals.values() if error.message not in of_one), None)
    stay = [address for address in addresses if of_all is not None or address in done.refusals]
    for address in addresses if dry_run == "none" else ():
        if address not in stay:
            word = f"released (was {held[address]})" if address in held else "is free already"
            print(f"{address} {word}", file=session.out)
    if of_all is not None:
        raise of_all
    errors = [done.refusals[address] for address in stay]
    if not errors:
        return
    if len(addresses) == 1:
        raise errors[0]
    for text in dict.fromkeys(map(str, errors)):
        show(text, session.err)
    show(f"{len(stay)} of {len(addresses)} addresses could not be released", session.err)
    click.get_current_context().exit(1)
