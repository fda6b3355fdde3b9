"""kubectl yoshi install"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.commands.options import (
    OBJECT_FORMATS,
    as_options,
    command,
    dry_run_option,
    output_option,
    timeout_option,
)
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.kube.client import Api
    from kubectl_yoshi.model.objects import Json, ObjectRef
    from kubectl_yoshi.model.plan import Plan

ESTABLISHED_SECONDS = 60.0


@dataclass(frozen=True)
class InstallOptions:
    """What `install` was asked for."""

    dry_run: str
    output: OutputFormat
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
@output_option(*OBJECT_FORMATS)
@click.option("--wait/--no-wait", default=True, help="Wait until the API server serves the CRDs; that is the default.")
@timeout_option("1m")
@as_options(InstallOptions)
def install(session: Session, options: InstallOptions) -> None:
    """Make the CRDs and roles that yoshi needs, or bring them up to date.

    It may be run as often as you like. What the original yoshi left in a cluster is taken over, with its networks and
    allocations. The roles are yoshi-viewer, yoshi-user and yoshi-admin, and two parts of these,
    yoshi-aggregate-to-admin and yoshi-calico-reader.
    """
    from kubectl_yoshi.commands.installation import load_manifests, plan_install
    from kubectl_yoshi.output.plan_printer import show_objects, show_plan

    desired = load_manifests()
    if options.dry_run == "client" and not options.output.is_human_readable:
        show_objects(desired, session.out, options.output, options.dry_run)
        return
    from kubectl_yoshi.commands.takeover import convert_legacy_objects

    plan = plan_install(desired, find_installed(session.api, desired))
    if options.dry_run == "client":
        show_plan(plan, session.out, options.output, options.dry_run)
    else:
        if options.dry_run == "none":
            check_permissions(session.api, plan)
        apply_and_print(session, plan, options)
    if options.dry_run == "none" and options.wait:
        wait_until_established(session.api, plan, options.timeout or ESTABLISHED_SECONDS)
    convert_legacy_objects(session, options.dry_run)


def find_installed(api: Api, desired: list[Json]) -> dict[ObjectRef, Json]:
    """Those of the manifests' objects that exist."""
    from kubectl_yoshi.commands.installation import manifest_ref
    from kubectl_yoshi.kube.errors import NotFoundError

    found = {}
    for ref in map(manifest_ref, desired):
        try:
            found[ref] = api.get(ref)
        except NotFoundError:
            continue
    return found


def check_permissions(api: Api, plan: Plan) -> None:
    """Find out, before anything is written, whether all of it may be.

    Roles are sent as a dry run: nobody may make one that allows more than he may himself, whatever a review says.

    Raises:
        ForbiddenError: something may not be written.
    """
    from kubectl_yoshi.commands.installation import CRD
    from kubectl_yoshi.engine.apply import apply_plan
    from kubectl_yoshi.engine.permissions import Permissions
    from kubectl_yoshi.kube.errors import ForbiddenError
    from kubectl_yoshi.model.plan import Plan

    for error in Permissions(api).all_errors(plan).values():
        raise error
    roles = tuple(change for change in plan if change.ref.resource != CRD)
    for _, dry_run_error in apply_plan(Plan((roles,)), api, dry_run=True).failed:
        if isinstance(dry_run_error, ForbiddenError):
            raise dry_run_error


def apply_and_print(session: Session, plan: Plan, options: InstallOptions) -> None:
    """Applies, and says of each object what became of it, also where another one failed."""
    from kubectl_yoshi.engine.apply import apply_plan
    from kubectl_yoshi.output.plan_printer import format_outcomes, show_objects

    outcome = apply_plan(plan, session.api, dry_run=options.dry_run == "server")
    if options.output.is_human_readable:
        for line in format_outcomes(outcome.executed, options.dry_run):
            print(line, file=session.out)
    else:
        results = (answer for _, answer in outcome.executed if answer is not None)
        show_objects(results, session.out, options.output, options.dry_run)
    if outcome.interrupted:
        raise KeyboardInterrupt
    outcome.raise_first()


def wait_until_established(api: Api, plan: Plan, limit_seconds: float) -> None:
    """Waits until the API server serves every CRD of a plan.

    Raises:
        PreconditionFailed: it never will, because another CRD has the names.
        TimedOutError: it does not within the limit.
    """
    from kubectl_yoshi.commands.installation import CRD, is_established, names_conflict_reason
    from kubectl_yoshi.kube.errors import TimedOutError

    deadline = api.clock.now() + limit_seconds
    for change in plan:
        if change.ref.resource != CRD:
            continue
        while not is_established(crd := api.get(change.ref)):
            if reason := names_conflict_reason(crd):
                raise PreconditionFailed(
                    f"{change.ref} is not served: {reason}", "Remove the CRD that has these names."
                )
            if api.clock.now() > deadline:
                raise TimedOutError(
                    f"{change.ref} is not served after {limit_seconds:.0f} s.",
                    f"Look at it with: kubectl describe crd {change.ref.name}",
                )
            api.clock.sleep(0.2)
