"""kubectl yoshi ips release: addresses by name, or those that two reports found left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import execute
from kubectl_yoshi.cli.errors import print_error, usage_error
from kubectl_yoshi.cli.kubectl_flags import Seconds
from kubectl_yoshi.cli.options import as_options, command, dry_run_option
from kubectl_yoshi.cli.param_types import FILE, HELD_ADDRESS, NETWORK_NAME
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.plan.reports import Report


MIN_REPORT_INTERVAL = "5m"
"""How long the second look at leaks comes after the first, at least; as long as `ips gc` leaves a record alone."""
MAX_REPORT_AGE = "24h"
"""A report older than this says nothing about today."""


@dataclass(frozen=True)
class ReleaseOptions:
    """What `ips release` was asked for."""

    network: str | None
    addresses: tuple[str, ...]
    from_report: tuple[str, ...]
    apart: float
    max_age: float
    dry_run: str

    def __post_init__(self) -> None:
        if self.from_report and self.network:
            raise usage_error("--from-report says which addresses: leave NETWORK and IP out")
        if self.from_report and len(self.from_report) != 2:
            raise usage_error("--from-report takes two reports, taken apart in time: give it twice")
        if not self.from_report and not self.addresses:
            raise usage_error("give a NETWORK and addresses of it, or --from-report twice")


@command(
    "release",
    examples="""
    kubectl yoshi ips release blue 10.133.0.50

    # What two looks, some time apart, both found left behind
    kubectl yoshi ips check -A -o monday.json; sleep 1h; kubectl yoshi ips check -A -o later.json
    kubectl yoshi ips release --from-report monday.json --from-report later.json
    """,
)
@click.argument("network", type=NETWORK_NAME, required=False)
@click.argument("addresses", nargs=-1, type=HELD_ADDRESS, metavar="[IP]…")
@click.option("--from-report", multiple=True, type=FILE, metavar="FILE", help="A report of `ips check`; give two.")
@click.option(
    "--apart",
    type=Seconds(),
    default=MIN_REPORT_INTERVAL,
    metavar="DURATION",
    help=f"How long the reports must be apart, at least; {MIN_REPORT_INTERVAL} unless given.",
)
@click.option(
    "--max-age",
    type=Seconds(),
    default=MAX_REPORT_AGE,
    metavar="DURATION",
    help=f"How old the reports may be; {MAX_REPORT_AGE} unless given.",
)
@dry_run_option
@as_options(ReleaseOptions)
def release(session: Session, options: ReleaseOptions) -> None:
    """Give reserved addresses back, and addresses whose VM does not use them."""
    if options.from_report:
        _release_leaked(session, options)
        return
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.plan.reserve import ReleaseRequest, plan_release

    addresses = tuple(dict.fromkeys(parse_address(text) for text in options.addresses))
    network = parse_network_name(options.network or "", session.namespace)
    request = ReleaseRequest(network, addresses)
    done = execute(
        session, partial(plan_release, request, BACKENDS), options.dry_run, OutputFormat(), tolerate_errors=True
    )
    if done is not None:
        _print_released(session, done, [str(address) for address in addresses], options.dry_run)


def _release_leaked(session: Session, options: ReleaseOptions) -> None:
    """`ips release --from-report A --from-report B`

    Raises:
        UsageError, PreconditionFailed: a file is no report, or the two do not tell enough.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.output.plan_printer import DRY_RUN_SUFFIXES
    from kubectl_yoshi.plan.reports import LeakRequest, confirmed_leaks, plan_leak_release

    one, two = (_read_report(name) for name in options.from_report)
    leaks = confirmed_leaks(one, two, datetime.now(timezone.utc), options.apart, options.max_age)
    planner = partial(plan_leak_release, LeakRequest(tuple(leaks)), BACKENDS)
    done = execute(session, planner, options.dry_run, OutputFormat(), activity="releasing", tolerate_errors=True)
    if done is None:
        return
    suffix = DRY_RUN_SUFFIXES[options.dry_run]
    addresses = {str(leak["address"]) for leak in leaks}
    reported = [address for address in {**done.plan.results, **done.errors} if address in addresses]
    if not reported and not done.errors:
        nothing = "nothing to release: the reports agree on no address that is still as they say"
        print(f"{nothing}{suffix}", file=session.out)
    _print_released(session, done, reported, options.dry_run)


def _read_report(name: str) -> Report:
    import json

    from kubectl_yoshi.plan.reports import NEW_REPORT_HINT, parse_report

    try:
        return parse_report(json.loads(Path(name).read_text(encoding="utf-8")), name)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}", NEW_REPORT_HINT) from error
    except ValueError as error:
        raise UsageError(f"{name} is no report of `ips check`: it is no JSON", NEW_REPORT_HINT) from error


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
