"""`kubectl yoshi status`: what is installed, how full networks are, and whether anything is wrong, on one screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    output_option,
    timeout_option,
    wait_option,
)
from kubectl_yoshi.cli.result_objects import STATUS
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.diagnosis.facts import Scope
    from kubectl_yoshi.diagnosis.status import ClusterStatus

WAIT_SECONDS = 300.0
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class StatusOptions:
    """The flags of `status`."""

    all_namespaces: bool
    wait: bool
    timeout: float | None
    output: OutputFormat


@command(
    "status",
    examples="""
    # The state of this namespace on one screen
    kubectl yoshi status

    # Of all namespaces, as soon as networks are ready and there are no errors
    kubectl yoshi status -A --wait --timeout 2m
    """,
)
@all_namespaces_option
@wait_option("the CRDs are served, all networks are ready, and there are no errors")
@timeout_option("5m")
@output_option(STATUS)
@as_options(StatusOptions)
def status(session: Session, options: StatusOptions) -> None:
    """Show versions, networks, VMs, and the number of findings.

    What cannot be read is shown as "?" with the reason, and changes the exit code only with --wait, if networks cannot
    be read. `kubectl yoshi doctor` shows the findings.
    """
    from kubectl_yoshi.cli.cluster_status import print_status, read_status, status_object
    from kubectl_yoshi.diagnosis.facts import Scope
    from kubectl_yoshi.kube.errors import TimedOutError
    from kubectl_yoshi.output.formats import print_objects

    scope = Scope(None if options.all_namespaces else session.namespace)
    limit_seconds = WAIT_SECONDS if options.timeout is None else options.timeout
    found = _wait_until_ready(session, scope, limit_seconds) if options.wait else read_status(session, scope)
    if options.output.is_human_readable:
        print_status(found, session.out)
    else:
        print_objects([status_object(found)], session.out, options.output, single=True)
    if options.wait and found.pending:
        session.out.flush()
        raise TimedOutError(
            f"not ready after {limit_seconds:.0f} s: {found.pending}", "See `kubectl yoshi doctor` for all findings."
        )


def _wait_until_ready(session: Session, scope: Scope, limit_seconds: float) -> ClusterStatus:
    """Return the status as soon as nothing is pending, or the last one at the end of the limit.

    Raises:
        YoshiError: nothing can be read at the end of the limit.
    """
    from kubectl_yoshi.cli.cluster_status import read_status
    from kubectl_yoshi.kube.errors import TRANSIENT_ERRORS, NotServedError
    from kubectl_yoshi.output.progress import progress

    clock = session.api.clock
    deadline = clock.now() + limit_seconds
    with progress("waiting", 0, session.err) as line:
        while True:
            try:
                found = read_status(session, scope)
                pending = found.pending
                if not pending or clock.now() >= deadline:
                    return found
            except (NotServedError, *TRANSIENT_ERRORS) as error:
                if clock.now() >= deadline:
                    raise
                pending = error.in_one_line
            line.step(0, pending)
            clock.sleep(POLL_SECONDS)
            session.api.invalidate_discovery()
