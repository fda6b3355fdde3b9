"""kubectl yoshi install"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.commands.options import (
    OBJECTS,
    as_options,
    command,
    dry_run_option,
    output_option,
    timeout_option,
)
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.output.asked import Output

if TYPE_CHECKING:
    from kubectl_yoshi.cluster.api import Api
    from kubectl_yoshi.model.change import Plan
    from kubectl_yoshi.model.objects import Json, ObjectRef

ESTABLISHED_SECONDS = 60.0


@dataclass(frozen=True)
class InstallOptions:
    """What `install` was asked for."""

    dry_run: str
    output: Output
    wait: bool
    timeout: float | None


@command(
    "install",
    examples="""
    # Make the CRDs and roles, or bring them up to date
    kubectl yoshi install

    # Only print them
    kubectl yoshi install --dry-run=client -o yaml
    """,
)
@dry_run_option
@output_option(*OBJECTS)
@click.option("--wait/--no-wait", default=True, help="Wait until the API server serves the CRDs; that is the default.")
@timeout_option("1m")
@as_options(InstallOptions)
def install(session: Session, options: InstallOptions) -> None:
    """Make the CRDs and roles that yoshi needs, or bring them up to date.

    It may be run as often as you like. What the original yoshi left in a cluster is taken over, with its networks and
    allocations. The roles are yoshi-viewer, yoshi-user and yoshi-admin, and two parts of these,
    yoshi-aggregate-to-admin and yoshi-calico-reader.
    """
    from kubectl_yoshi.commands.installation import manifests, plan_install
    from kubectl_yoshi.output.plans import show_objects, show_plan

    wanted = manifests()
    if options.dry_run == "client" and not options.output.for_people:
        show_objects(wanted, session.out, options.output, options.dry_run)
        return
    from kubectl_yoshi.commands.takeover import take_over

    plan = plan_install(wanted, find(session.api, wanted))
    if options.dry_run == "client":
        show_plan(plan, session.out, options.output, options.dry_run)
    else:
        if options.dry_run == "none":
            must_be_allowed(session.api, plan)
        carry_out_and_show(session, plan, options)
    if options.dry_run == "none" and options.wait:
        wait_until_established(session.api, plan, options.timeout or ESTABLISHED_SECONDS)
    take_over(session, options.dry_run)


def find(api: Api, wanted: list[Json]) -> dict[ObjectRef, Json]:
    """Those of the manifests' objects that exist."""
    from kubectl_yoshi.cluster.errors import NotFound
    from kubectl_yoshi.commands.installation import ref_of

    found = {}
    for ref in map(ref_of, wanted):
        try:
            found[ref] = api.get(ref)
        except NotFound:
            continue
    return found


def must_be_allowed(api: Api, plan: Plan) -> None:
    """Find out, before anything is written, whether all of it may be.

    Roles are sent as a dry run: nobody may make one that allows more than he may himself, whatever a review says.

    Raises:
        Forbidden: something may not be written.
    """
    from kubectl_yoshi.cluster.carrying_out import carry_out
    from kubectl_yoshi.cluster.errors import Forbidden
    from kubectl_yoshi.cluster.permissions import Permissions
    from kubectl_yoshi.commands.installation import CRD
    from kubectl_yoshi.model.change import Plan

    for error in Permissions(api).all_refusals(plan).values():
        raise error
    roles = tuple(change for change in plan if change.ref.resource != CRD)
    for _, tried in carry_out(Plan((roles,)), api, dry_run=True).failed:
        if isinstance(tried, Forbidden):
            raise tried


def carry_out_and_show(session: Session, plan: Plan, options: InstallOptions) -> None:
    """Applies, and says of each object what became of it, also where another one failed."""
    from kubectl_yoshi.cluster.carrying_out import carry_out
    from kubectl_yoshi.output.plans import outcome_lines, show_objects

    outcome = carry_out(plan, session.api, dry_run=options.dry_run == "server")
    if options.output.for_people:
        for line in outcome_lines(outcome.done, options.dry_run):
            print(line, file=session.out)
    else:
        answers = (answer for _, answer in outcome.done if answer is not None)
        show_objects(answers, session.out, options.output, options.dry_run)
    if outcome.interrupted:
        raise KeyboardInterrupt
    outcome.raise_first()


def wait_until_established(api: Api, plan: Plan, limit_seconds: float) -> None:
    """Waits until the API server serves every CRD of a plan.

    Raises:
        Refused: it never will, because another CRD has the names.
        TimedOut: it does not within the limit.
    """
    from kubectl_yoshi.cluster.errors import TimedOut
    from kubectl_yoshi.commands.installation import CRD, is_established, names_not_accepted

    end = api.clock.now() + limit_seconds
    for change in plan:
        if change.ref.resource != CRD:
            continue
        while not is_established(crd := api.get(change.ref)):
            if why := names_not_accepted(crd):
                raise Refused(f"{change.ref} is not served: {why}", "Remove the CRD that has these names.")
            if api.clock.now() > end:
                raise TimedOut(
                    f"{change.ref} is not served after {limit_seconds:.0f} s.",
                    f"Look at it with: kubectl describe crd {change.ref.name}",
                )
            api.clock.sleep(0.2)
