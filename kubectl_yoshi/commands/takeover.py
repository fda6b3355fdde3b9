"""The last part of `kubectl yoshi install`: taking over what the original yoshi left in the cluster."""

from __future__ import annotations

from functools import partial

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.errors import Invalid, NotServed
from kubectl_yoshi.cluster.observing import Planner
from kubectl_yoshi.cluster.running import Done, run
from kubectl_yoshi.commands.changing import fail_if_refused
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.output.plans import outcome_lines
from kubectl_yoshi.plan.takeovers import TakeoverRequest, plan_takeover

SETTLE_SECONDS = 15.0
"""How long an API server may still check objects against the CRD as it was before."""


def take_over(session: Session, dry_run: str) -> None:
    """Rewrites the original's records and takes its finalizers away; says so on stderr, since stdout has the CRDs.

    Args:
        session: where to.
        dry_run: "none"; under "client" and "server" it is only shown, since the API server may not know the new CRD.

    Raises:
        YoshiError: something could not be taken over; everything else was.
    """
    session.api.rediscover()  # install has changed what there is
    if NETWORKWIZARD not in session.api.served:
        return
    planner = partial(plan_takeover, TakeoverRequest(finalizers=True), BACKENDS)
    if dry_run != "none":
        done = run(planner, session.api, dry_run="client")
        for line in outcome_lines(((change, None) for change in done.plan), dry_run):
            session.note(line)
    else:
        done = _carried_out(session, planner)
        for network, count in done.plan.answers.items():
            what = "1 record" if count == "1" else f"{count} records"
            session.note(f"network {network}: {what} of the original yoshi taken over")
    for note in done.lines:
        session.note(f"note: {note}")
    fail_if_refused(session, done)


def _carried_out(session: Session, planner: Planner) -> Done:
    clock = session.api.clock
    end = clock.now() + SETTLE_SECONDS
    while True:
        try:
            done = run(planner, session.api)
            late = any(isinstance(error, Invalid | NotServed) for error in done.refusals.values())
            if not late or clock.now() > end:
                return done
        except NotServed:
            if clock.now() > end:
                raise
        clock.sleep(0.5)
        session.api.rediscover()
