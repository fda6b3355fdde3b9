"""The last part of `kubectl yoshi install`: taking over what the original yoshi left in the cluster."""

from __future__ import annotations

from functools import partial

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.changing import raise_errors
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.engine.loop import RunResult, run
from kubectl_yoshi.engine.read import Planner
from kubectl_yoshi.kube.errors import InvalidError, NotServedError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.output.plan_printer import format_outcomes
from kubectl_yoshi.plan.legacy import LegacyConversionRequest, plan_legacy_conversion

SETTLE_SECONDS = 15.0
"""How long an API server may still check objects against the CRD as it was before."""


def convert_legacy_objects(session: Session, dry_run: str) -> None:
    """Rewrites the original's records and takes its finalizers away; says so on stderr, since stdout has the CRDs.

    Args:
        session: where to.
        dry_run: "none"; under "client" and "server" it is only shown, since the API server may not know the new CRD.

    Raises:
        YoshiError: something could not be taken over; everything else was.
    """
    session.api.invalidate_discovery()  # install has changed what there is
    if NETWORKWIZARD not in session.api.served:
        return
    planner = partial(plan_legacy_conversion, LegacyConversionRequest(finalizers=True), BACKENDS)
    if dry_run != "none":
        done = run(planner, session.api, dry_run="client")
        for line in format_outcomes(((change, None) for change in done.plan), dry_run):
            session.note(line)
    else:
        done = _run_until_settled(session, planner)
        for network, count in done.plan.results.items():
            what = "1 record" if count == "1" else f"{count} records"
            session.note(f"network {network}: {what} of the original yoshi taken over")
    for note in done.lines:
        session.note(f"note: {note}")
    raise_errors(session, done)


def _run_until_settled(session: Session, planner: Planner) -> RunResult:
    clock = session.api.clock
    deadline = clock.now() + SETTLE_SECONDS
    while True:
        try:
            done = run(planner, session.api)
            is_unsettled = any(isinstance(error, InvalidError | NotServedError) for error in done.errors.values())
            if not is_unsettled or clock.now() > deadline:
                return done
        except NotServedError:
            if clock.now() > deadline:
                raise
        clock.sleep(0.5)
        session.api.invalidate_discovery()
