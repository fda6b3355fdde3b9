"""`kubectl yoshi install`: CRDs, roles and policies, and the conversion of objects of Platform9 yoshi."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import raise_errors
from kubectl_yoshi.cli.options import as_options, command, dry_run_option, output_option, timeout_option
from kubectl_yoshi.cli.policy_bindings import bind_policies
from kubectl_yoshi.cli.result_objects import printed_objects
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.engine.read import Planner
    from kubectl_yoshi.kube.client import Api
    from kubectl_yoshi.kube.errors import ForbiddenError
    from kubectl_yoshi.model.objects import Json, ObjectRef
    from kubectl_yoshi.model.plan import Change, Plan
    from kubectl_yoshi.model.policy_mode import PolicyMode


ESTABLISHED_SECONDS = 60.0
SETTLE_SECONDS = 15.0
"""How long an API server may still validate objects against the previous version of a CRD."""


@dataclass(frozen=True)
class InstallOptions:
    """The flags of `install`."""

    policy: str | None
    dry_run: str
    output: OutputFormat
    wait: bool
    timeout: float | None


@command(
    "install",
    examples="""
    # Create the CRDs, roles and admission policies, or update them
    kubectl yoshi install

    # Only warn of requests that violate a policy, and record them in the audit log
    kubectl yoshi install --policy audit

    # Only print them
    kubectl yoshi install --dry-run=client -o yaml
    """,
)
@click.option(
    "--policy",
    type=click.Choice(("enforce", "audit", "off")),
    default=None,
    metavar="enforce|audit|off",
    help="enforce: refuse requests that violate the admission policies. audit: warn of them. off: install no policies. "
    "Default: as installed; enforce for a new installation.",
)
@dry_run_option
@output_option(
    "CustomResourceDefinition", "ClusterRole", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
)
@click.option(
    "--wait/--no-wait",
    default=True,
    help="Wait until the API server serves the CRDs and applies the policies (default).",
)
@timeout_option("1m")
@as_options(InstallOptions)
def install(session: Session, options: InstallOptions) -> None:
    """Create or update the CRDs, roles and admission policies that yoshi needs.

    You can run it repeatedly. Networks and allocations of Platform9 yoshi are converted. The roles are yoshi-viewer,
    yoshi-user and yoshi-admin, and two parts of these, yoshi-aggregate-to-admin and yoshi-calico-reader. The policies
    protect the allocations of each namespace from the users of others; `policy status` lists them.
    """
    from kubectl_yoshi.cli.installation import find_installed, load_manifests, order_stages, plan_install
    from kubectl_yoshi.cli.policies import load_policies
    from kubectl_yoshi.model.policy_mode import PolicyMode
    from kubectl_yoshi.output.plan_printer import show_plan

    desired = load_manifests()
    requested = PolicyMode(options.policy) if options.policy else None
    if options.dry_run == "client" and not options.output.is_human_readable:
        with printed_objects(session, options.output) as objects:
            objects += [*load_policies(requested or PolicyMode.ENFORCE), *desired]
        return
    found = find_installed(session.api, desired)
    policies, mode = _plan_policies(session, requested, found)
    plan = order_stages(policies + plan_install(desired, found))
    if options.dry_run == "client":
        show_plan(plan, session.out, options.dry_run)
    else:
        if options.dry_run == "none":
            _check_permissions(session.api, plan)
        deadline = session.api.clock.now() + (options.timeout or ESTABLISHED_SECONDS)
        _apply_and_print(session, plan, options, deadline)
        if policies and mode is not PolicyMode.OFF and options.dry_run == "none" and options.wait:
            _wait_until_active(session.api, deadline)
    if options.dry_run == "none":
        for note in bind_policies(session.api, None):
            session.note(f"note: {note}")
    _convert_legacy_objects(session, options.dry_run)
    if options.dry_run == "none" and options.output.is_human_readable:
        session.note("See the result with `kubectl yoshi status`.")


def _plan_policies(
    session: Session, requested: PolicyMode | None, found: Mapping[ObjectRef, Json]
) -> tuple[Plan, PolicyMode]:
    """Return the changes of the admission policies, and the mode that they are installed in.

    Policies that nobody asked for are left as they are where they may not be read or written, and where the API server
    does not know them; a note says so.

    Args:
        session: the session.
        requested: the mode that the user asked for; None for that of the existing installation, or of a new one.
        found: the CRDs and roles that exist.

    Raises:
        ForbiddenError: the policies may not be read or written, and were requested or belong to a new installation.
    """
    from kubectl_yoshi.cli.installation import CLUSTER_ROLE, is_managed_by_label, plan_install, plan_removal
    from kubectl_yoshi.cli.policies import choose_mode, find_policies, load_policies
    from kubectl_yoshi.cli.policy_loading import plan_unbinding
    from kubectl_yoshi.engine.permissions import Permissions
    from kubectl_yoshi.kube.errors import ForbiddenError
    from kubectl_yoshi.model.objects import POLICY
    from kubectl_yoshi.model.plan import Plan
    from kubectl_yoshi.model.policy_mode import PolicyMode

    if POLICY not in session.api.served:
        if requested is not PolicyMode.OFF:
            session.note(
                f"note: this Kubernetes does not serve {POLICY.kind} ({POLICY.api_version}), which 1.30 and newer do: "
                "allocations are not protected from users of other namespaces"
            )
        return Plan(), PolicyMode.OFF
    is_installed = any(ref.resource == CLUSTER_ROLE and is_managed_by_label(obj) for ref, obj in found.items())
    is_required = requested not in (None, PolicyMode.OFF) or not is_installed
    try:
        existing = find_policies(session.api)
        mode = choose_mode(requested, existing, is_installed)
        if mode is PolicyMode.OFF:
            plan = plan_removal(existing.values())
        else:
            unbound = plan_unbinding(session.api, plan_install(load_policies(mode), existing))
            removed = {change.ref for change in unbound}
            remaining = {ref: obj for ref, obj in existing.items() if ref not in removed}
            plan = unbound + plan_install(load_policies(mode), remaining)
        for error in Permissions(session.api).all_errors(plan).values():
            raise error
    except ForbiddenError as error:
        if is_required:
            raise _policies_forbidden_error(error) from error
        session.note(f"note: the admission policies are left as they are: {error.missing_permission}")
        return Plan(), PolicyMode.OFF
    return plan, mode


def _policies_forbidden_error(error: ForbiddenError) -> ForbiddenError:
    from kubectl_yoshi.kube.errors import ForbiddenError

    return ForbiddenError(
        f"cannot install the admission policies: {error.missing_permission}",
        "Ask an administrator of the cluster to run this command; or add --policy off, without which users of other "
        "namespaces can change allocations.",
        missing_permission=error.missing_permission,
        status=error.status,
    )


def _check_permissions(api: Api, plan: Plan) -> None:
    """Check the permissions for all writes before the first one.

    Roles are sent as a server-side dry run: RBAC refuses a role with more permissions than the user has, which an
    access review does not show.

    Raises:
        ForbiddenError: a permission is missing.
    """
    from kubectl_yoshi.cli.installation import CLUSTER_ROLE
    from kubectl_yoshi.engine.apply import apply_plan
    from kubectl_yoshi.engine.permissions import Permissions
    from kubectl_yoshi.kube.errors import ForbiddenError
    from kubectl_yoshi.model.plan import Plan

    for error in Permissions(api).all_errors(plan).values():
        raise error
    roles = tuple(change for change in plan if change.ref.resource == CLUSTER_ROLE)
    for _, dry_run_error in apply_plan(Plan((roles,)), api, dry_run=True).failed:
        if isinstance(dry_run_error, ForbiddenError):
            raise dry_run_error


def _apply_and_print(session: Session, plan: Plan, options: InstallOptions, deadline: float) -> None:
    """Apply the plan stage by stage, wait where the next one needs it, and print the result of each object.

    The results are printed also if a later object fails. With --no-wait the CRDs are awaited only if policies follow.
    Before bindings are created, the policies are loaded; where that is a risk, current policies are not written: see
    kubectl_yoshi.cli.policy_loading.
    """
    from contextlib import nullcontext

    from kubectl_yoshi.cli.policy_loading import (
        REFRESH_SECONDS,
        are_current,
        has_compile_race,
        preloaded,
        wait_until_type_checked,
    )
    from kubectl_yoshi.engine.apply import apply_plan
    from kubectl_yoshi.model.objects import CRD, POLICY, POLICY_BINDING
    from kubectl_yoshi.model.plan import Plan, Verb
    from kubectl_yoshi.output.plan_printer import format_outcomes

    has_policies = any(change.ref.resource == POLICY and change.verb is Verb.APPLY for change in plan)
    policies: list[Json] = []
    with printed_objects(session, options.output) as objects:
        for stage in plan.stages:
            resource, verb = stage[0].ref.resource, stage[0].verb
            is_written = options.dry_run == "none"
            is_policy = resource == POLICY and verb is Verb.APPLY
            is_kept = is_written and is_policy and has_compile_race(session.api) and are_current(session.api, stage)
            is_bound = resource == POLICY_BINDING and any(change.before is None for change in stage)
            with preloaded(session.api, policies) if is_written and is_bound else nullcontext():
                outcome = apply_plan(Plan((stage,)), session.api, dry_run=is_kept or options.dry_run == "server")
            if options.output.is_human_readable:
                for line in format_outcomes(outcome.executed, options.dry_run):
                    print(line, file=session.out)
            objects += [answer for _, answer in outcome.executed if answer is not None]
            if outcome.interrupted:
                break
            outcome.raise_first()
            if not is_written:
                continue
            session.out.flush()
            if resource == CRD and (options.wait or has_policies):
                _wait_until_established(session.api, stage, deadline)
            elif is_policy:
                policies = [answer for _, answer in outcome.executed if answer]
                wait_until_type_checked(session.api, policies)
            elif resource == POLICY_BINDING and verb is Verb.DELETE and has_policies:
                session.api.clock.sleep(REFRESH_SECONDS)
    if outcome.interrupted:
        raise KeyboardInterrupt


def _wait_until_established(api: Api, changes: Iterable[Change], deadline: float) -> None:
    """Wait until the API server serves every CRD of these changes.

    Raises:
        PreconditionFailed: another CRD has the same names, so it will never be served.
        TimedOutError: a CRD is not served at the deadline.
    """
    from kubectl_yoshi.cli.installation import is_established, names_conflict_reason
    from kubectl_yoshi.kube.errors import TimedOutError

    start = api.clock.now()
    for change in changes:
        while not is_established(crd := api.get(change.ref)):
            if reason := names_conflict_reason(crd):
                raise PreconditionFailed(
                    f"{change.ref} is not served: {reason}", "Remove the CRD that has these names."
                )
            if api.clock.now() > deadline:
                raise TimedOutError(
                    f"{change.ref} is not served after {deadline - start:.0f} s",
                    f"Look at it with: kubectl describe crd {change.ref.name}",
                )
            api.clock.sleep(0.2)


def _wait_until_active(api: Api, deadline: float) -> None:
    """Wait until the API server that answers applies the policies, as far as the user may find that out.

    Raises:
        TimedOutError: it does not at the deadline.
    """
    from kubectl_yoshi.cli.policies import are_policies_active
    from kubectl_yoshi.kube.errors import TimedOutError

    start = api.clock.now()
    while are_policies_active(api) is False:
        if api.clock.now() > deadline:
            raise TimedOutError(
                f"the admission policies are not in effect after {deadline - start:.0f} s",
                "Look at them with: kubectl yoshi policy status",
            )
        api.clock.sleep(0.2)


def _convert_legacy_objects(session: Session, dry_run: str) -> None:
    """Convert the allocations of Platform9 yoshi and remove its finalizers; report on stderr, as stdout has the CRDs.

    Args:
        session: where to print.
        dry_run: "client" and "server" only print the changes, since the API server may not have the new CRD yet.

    Raises:
        YoshiError: an object could not be converted; all others are.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import RunOptions, run
    from kubectl_yoshi.model.network import NETWORKWIZARD
    from kubectl_yoshi.output.plan_printer import format_outcomes
    from kubectl_yoshi.plan.legacy import LegacyConversionRequest, plan_legacy_conversion

    session.api.invalidate_discovery()  # the CRDs are new
    if NETWORKWIZARD not in session.api.served:
        return
    planner = partial(plan_legacy_conversion, LegacyConversionRequest(finalizers=True))
    if dry_run != "none":
        done = run(planner, session.api, BACKENDS, RunOptions("client"))
        for line in format_outcomes(((change, None) for change in done.plan), dry_run):
            session.note(line)
    else:
        done = _run_until_settled(session, planner)
        for network, count in done.plan.results.items():
            what = "1 record" if count == "1" else f"{count} records"
            session.note(f"network {network}: {what} of Platform9 yoshi taken over")
    for note in done.lines:
        session.note(f"note: {note}")
    raise_errors(session, done)


def _run_until_settled(session: Session, planner: Planner) -> RunResult:
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import run
    from kubectl_yoshi.kube.errors import InvalidError, NotServedError

    clock = session.api.clock
    deadline = clock.now() + SETTLE_SECONDS
    while True:
        try:
            done = run(planner, session.api, BACKENDS)
            is_unsettled = any(isinstance(error, InvalidError | NotServedError) for error in done.errors.values())
            if not is_unsettled or clock.now() > deadline:
                return done
        except NotServedError:
            if clock.now() > deadline:
                raise
        clock.sleep(0.5)
        session.api.invalidate_discovery()
