"""Run a planner: apply its plan, print it (dry run), or print the differences (`diff`); print the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import click

from kubectl_yoshi.cli.errors import print_error
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode, PreconditionFailed, UsageError, YoshiError, first_few
from kubectl_yoshi.output.format_option import HUMAN_READABLE, OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.engine.read import Planner
    from kubectl_yoshi.model.objects import Json, ObjectRef
    from kubectl_yoshi.model.plan import Change

MAX_NAMED = 3
"""Maximum number of VMs that an error names which has the same cause for several."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class ExecuteOptions:
    """How `execute` runs a planner, and what it prints.

    Attributes:
        dry_run: the value of --dry-run.
        output: the value of -o.
        timeout: the limit of each wait in seconds; None for the default.
        activity: what the progress line says.
        total: number of VMs, for the progress line; 0 where it is not counted by VM.
        unchanged: owner ("": the whole plan) -> the line of a dry run where nothing would change for it.
        tolerate_errors: whether a dry run returns its result, with errors, instead of raising them.
        exact_counters: see RunOptions.
    """

    dry_run: str
    output: OutputFormat = HUMAN_READABLE
    timeout: float | None = None
    activity: str = "working"
    total: int = 0
    unchanged: Mapping[str, str] = field(default_factory=lambda: {"": "unchanged"})
    tolerate_errors: bool = False
    exact_counters: bool = False


def execute(session: Session, planner: Planner, options: ExecuteOptions) -> RunResult | None:
    """Apply a planner's plan; with --dry-run or under `diff`, only print it.

    In a machine-readable format the plan of a dry run is not printed: the caller prints the objects of the result.

    Returns:
        The result; None if the output is complete: under `diff`, and in a human-readable dry run unless errors are
        tolerated.

    Raises:
        YoshiError: nothing can be planned.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import RunOptions, run
    from kubectl_yoshi.engine.wait import waiters
    from kubectl_yoshi.output.progress import progress

    if session.is_diff:
        _show_diff(session, planner)
        return None
    with progress(options.activity, options.total, session.err) as line:
        vms: set[str] = set()

        def step(change: Change, state: str) -> None:
            new = change.ref.resource.kind == "VirtualMachine" and state != "skipped" and change.owner not in vms
            if new:
                vms.add(change.owner)
            line.step(int(new and bool(options.total)), f"{change.summary}: {state}")

        waiting = waiters(
            limit_seconds=options.timeout,
            progress=lambda _change, message: line.step(0, f"waiting: {message}"),
        )
        run_options = RunOptions(options.dry_run, step, waiting, exact_counters=options.exact_counters)
        done = run(planner, session.api, BACKENDS, run_options)
    for note in done.lines:
        session.note(f"note: {note}")
    if options.dry_run == "none" or not options.output.is_human_readable:
        return done
    _show_dry_run(session, done, options)
    if options.tolerate_errors:
        return done
    raise_errors(session, done)
    return None


def _show_dry_run(session: Session, result: RunResult, options: ExecuteOptions) -> None:
    from kubectl_yoshi.model.plan import Verb
    from kubectl_yoshi.output.plan_printer import DRY_RUN_SUFFIXES, format_outcomes, show_plan

    dry_run = options.dry_run
    changed = {change.owner for change in result.plan if change.verb is not Verb.WAIT}
    affected = changed | result.errors.keys()
    for owner, message in options.unchanged.items():
        if owner not in affected and (owner or not affected):
            print(f"{message}{DRY_RUN_SUFFIXES[dry_run]}", file=session.out)
    if dry_run == "client":
        show_plan(result.plan, session.out, dry_run)
        return
    for line in format_outcomes(result.executed, dry_run):
        print(line, file=session.out)
    for change in result.skipped:
        session.note(f"not checked, since it depends on an earlier change: {change.summary}")


def _show_diff(session: Session, planner: Planner) -> None:
    """Print the differences that a plan would make; set `has_differences`, which decides the exit code."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import RunOptions, run
    from kubectl_yoshi.output.plan_printer import object_changes, write_diff

    done = run(planner, session.api, BACKENDS, RunOptions("client"))
    for note in done.lines:
        session.note(f"note: {note}")
    raise_errors(session, done)
    if write_diff(object_changes(done.plan), session.out) or any(done.plan):
        session.has_differences = True


def run_each(session: Session, noun: str, items: Sequence[tuple[str, Item]], action: Callable[[Item], None]) -> None:
    """Call a function for each item in order; if one of several fails, print its error and continue.

    Args:
        session: where to print.
        noun: what the items are, in the plural, for the last error.
        items: each with its name.
        action: the function; raises an error if it fails.

    Raises:
        Exit: one of several items failed; the exit code is 1.
        YoshiError: the only item failed, or the user is not authenticated.
    """
    from kubectl_yoshi.kube.errors import ApiError, UnauthorizedError

    failed = 0
    for name, item in items:
        try:
            action(item)
        except (PreconditionFailed, UsageError, ApiError) as error:
            if len(items) == 1 or isinstance(error, UnauthorizedError):
                raise
            failed += 1
            session.out.flush()
            print(f"error: {name}: {error.in_one_line}", file=session.err)
    _exit_if_failed(session, failed, len(items), noun)


def _exit_if_failed(session: Session, failed: int, total: int, noun: str) -> None:
    """Print the number of failed items and exit with code 1, if there are any."""
    if failed:
        print(f"error: {failed} of {total} {noun} failed", file=session.err)
        click.get_current_context().exit(ExitCode.FAILURE)


def raise_errors(session: Session, result: RunResult) -> None:
    """Raise the last error of a result, after printing the others on stderr, without duplicates."""
    errors = [*{str(error): error for error in result.errors.values()}.values()]
    for error in errors[:-1]:
        print_error(error.in_one_line, session.err)
    for error in errors[-1:]:
        raise error


def planned_objects(result: RunResult) -> list[Json]:
    """Return the objects that a dry run would create or change, as the API server returned them if it was asked."""
    from kubectl_yoshi.output.plan_printer import object_changes

    answers = {change.ref: answer for change, answer in result.executed if answer}
    changes = [change for change in object_changes(result.plan) if change.after is not None]
    return [answers.get(change.ref) or change.after or {} for change in changes]


def resulting_objects(session: Session, result: RunResult, ref: ObjectRef) -> list[Json]:
    """Return an object as a run left it, or the objects that a dry run would create or change."""
    if result.is_dry_run:
        return planned_objects(result) or [session.api.get(ref)]
    answers = [answer for change, answer in result.executed if change.ref == ref and answer]
    return [answers[-1] if answers else session.api.get(ref)]


def display_names(vms: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return "namespace/name" -> the name of each VM in output, with its namespace if they are in several."""
    vms = tuple(vms)
    several = len({namespace for namespace, _ in vms}) > 1
    return {"/".join(vm): f"virtualmachine.kubevirt.io/{'/'.join(vm) if several else vm[1]}" for vm in vms}


def print_results(
    session: Session, output: OutputFormat, result: RunResult, vms: Iterable[tuple[str, str]], template: str
) -> None:
    """Print a line for each VM, in the order of `vms`; VMs that failed for the same cause share a line.

    Args:
        session: where to print.
        output: -o; in a machine-readable format only errors are printed.
        result: of the run.
        vms: namespace and name of each.
        template: of the line, with {answer} for the VM's result.

    Raises:
        Exit: one of several VMs failed; the exit code is 1.
        YoshiError: the only VM failed.
    """
    names = display_names(vms)
    failed = {owner: result.errors[owner] for owner in names if owner in result.errors}
    if len(names) == 1:
        for error in failed.values():
            raise error
    for line in format_errors_by_cause(failed):
        print_error(line, session.err)
    for owner, name in names.items() if output.is_human_readable else ():
        if owner not in failed:
            message = template.format(answer=result.results.get(owner, ""))
            suffix = "" if result.has_changed(owner) else " (unchanged)"
            print(f"{name} {message}{suffix}", file=session.out)
    _exit_if_failed(session, len(failed), len(names), "VMs")


def format_errors_by_cause(errors: Mapping[str, YoshiError]) -> list[str]:
    """Return a line for each cause with the VMs that failed for it; `errors` has the error of each owner."""
    causes: dict[str, list[str]] = {}
    for owner, error in errors.items():
        causes.setdefault(error.message, []).append(owner)
    lines = []
    for message, subjects in causes.items():
        first = errors[subjects[0]]
        if len(subjects) == 1:
            lines.append(f"{subjects[0]}: {first.in_one_line}")
        else:
            progress = next(
                (f". {one}: {errors[one].changes_so_far}" for one in subjects if errors[one].changes_so_far), ""
            )
            lines.append(f"{len(subjects)} VMs: {message.rstrip('.')} ({first_few(subjects, MAX_NAMED)}){progress}")
    return lines
