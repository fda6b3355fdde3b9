"""`kubectl yoshi uninstall`: remove the CRDs, roles and admission policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.options import as_options, command, dry_run_option, output_option, yes_option
from kubectl_yoshi.cli.result_objects import REFERENCE, printed_objects, reference_object
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.cli.installation import LostNetwork
    from kubectl_yoshi.kube.client import Api
    from kubectl_yoshi.model.objects import Json, Resource


@dataclass(frozen=True)
class UninstallOptions:
    """The flags of `uninstall`."""

    force: bool
    yes: bool
    dry_run: str
    output: OutputFormat


@command(
    "uninstall",
    examples="""
    # Remove the CRDs, roles and policies; refused while networks exist
    kubectl yoshi uninstall

    # Show what would be lost
    kubectl yoshi uninstall --force --dry-run=client
    """,
)
@click.option(
    "--force", is_flag=True, help="Remove them even if networks exist, which are lost with their allocations."
)
@yes_option
@dry_run_option
@output_option(REFERENCE)
@as_options(UninstallOptions)
def uninstall(session: Session, options: UninstallOptions) -> None:
    """Remove the CRDs, roles and admission policies that `install` created.

    It is refused while networks exist. Objects that were created for networks, such as IP pools, are not removed:
    delete the networks first.
    """
    from kubectl_yoshi.cli.installation import find_installed, load_manifests, plan_uninstall
    from kubectl_yoshi.cli.policies import load_policies
    from kubectl_yoshi.engine.apply import apply_plan
    from kubectl_yoshi.engine.permissions import Permissions
    from kubectl_yoshi.model.objects import POLICY
    from kubectl_yoshi.model.plan import Verb
    from kubectl_yoshi.output.plan_printer import format_outcomes, show_plan

    policies = load_policies() if POLICY in session.api.served else []
    found = find_installed(session.api, [*load_manifests(), *policies])
    plan = plan_uninstall(found.values())
    for note in plan.notes:
        session.note(note)
    with printed_objects(session, options.output) as objects:
        if not plan:
            session.note("Nothing to uninstall.")
            return
        refuse_or_warn(session, options, list_lost_networks(session.api))
        if options.dry_run == "client":
            objects += [reference_object(change.ref) for change in plan if change.verb is Verb.DELETE]
            if options.output.is_human_readable:
                show_plan(plan, session.out, options.dry_run)
            return
        if options.dry_run == "none":
            for error in Permissions(session.api).all_errors(plan).values():
                raise error
        outcome = apply_plan(plan, session.api, dry_run=options.dry_run == "server")
        objects += [reference_object(change.ref) for change, _ in outcome.executed if change.verb is Verb.DELETE]
        if options.output.is_human_readable:
            for line in format_outcomes(outcome.executed, options.dry_run):
                print(line, file=session.out)
        if not outcome.interrupted:
            outcome.raise_first()
    if outcome.interrupted:
        raise KeyboardInterrupt


def refuse_or_warn(session: Session, options: UninstallOptions, lost: list[LostNetwork]) -> None:
    """Warn about the networks that would be lost, and ask for confirmation.

    Raises:
        PreconditionFailed: networks exist and --force is not set, or the answer is no.
    """
    from kubectl_yoshi.cli.installation import format_lost_networks

    if not lost:
        return
    count = f"{len(lost)} network{'s' if len(lost) > 1 else ''}"
    if not options.force:
        raise PreconditionFailed(
            f"{count} would be lost: {format_lost_networks(lost)}",
            f"Delete them with {session.program} network delete; or add --force to lose them and who holds which"
            " address. Nothing was changed.",
        )
    session.warn(f"{count} will be lost: {format_lost_networks(lost)}")
    session.warn("objects that they created, such as IP pools, are kept; network delete would have removed them")
    if options.dry_run == "none":
        session.confirm("Remove all of this?", options.yes)


def list_lost_networks(api: Api) -> list[LostNetwork]:
    """Return every network, in all namespaces."""
    from kubectl_yoshi.cli.installation import find_lost_networks
    from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD

    networks = list_or_empty(api, NETWORKWIZARD)
    return find_lost_networks(networks, list_or_empty(api, ADDRESSBLOCK) if networks else ())


def list_or_empty(api: Api, resource: Resource) -> tuple[Json, ...]:
    """Return all objects of a resource, or none if it is not served."""
    from kubectl_yoshi.kube.errors import NotFoundError, NotServedError

    try:
        return api.list(resource)
    except (NotServedError, NotFoundError):
        return ()
