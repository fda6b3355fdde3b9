"""What every command that changes something does with its plan: carry it out, show it, or show its differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from kubectl_yoshi.commands.errors import show
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.change import Change
from kubectl_yoshi.model.errors import Refused, UsageMistake, YoshiError, first_few
from kubectl_yoshi.output.asked import Output
from kubectl_yoshi.output.progress import progress

if TYPE_CHECKING:  # the cluster's rooms are imported when a command runs: its --help and completion do without
    from kubectl_yoshi.cluster.observing import Planner
    from kubectl_yoshi.cluster.running import Done
    from kubectl_yoshi.model.objects import Json

UNCHANGED = {"": "unchanged"}
NAMED = 3
"""How many VMs a line names that failed for the same cause."""
Item = TypeVar("Item")


def carry(
    session: Session,
    planner: Planner,
    dry_run: str,
    output: Output,
    *,
    total: int = 0,
    timeout: float | None = None,
    doing: str = "working",
    lenient: bool = False,
    unchanged: Mapping[str, str] = UNCHANGED,
) -> Done | None:
    """Makes a planner's wish true, or only shows it.

    Args:
        unchanged: subject ("": all of it) -> what a dry run says where nothing would change for it.
        lenient: what is refused does not end a dry run, which is given back too; the caller tells what became of it,
            alone where the output is not for people.

    Returns:
        What was done; None under `diff` and --dry-run, where all there is to show has been shown.

    Raises:
        YoshiError: nothing could be planned.
    """
    from kubectl_yoshi.cluster.running import run
    from kubectl_yoshi.cluster.waiting import LIMIT_SECONDS, waiters

    if session.diffing:
        _show_differences(session, planner)
        return None
    with progress(doing, total, session.err) as line:
        vms: set[str] = set()

        def step(change: Change, state: str) -> None:
            new = change.ref.resource.kind == "VirtualMachine" and state != "skipped" and change.subject not in vms
            if new:
                vms.add(change.subject)
            line.step(int(new and bool(total)), f"{change.says}: {state}")

        waiting = waiters(
            limit_seconds=LIMIT_SECONDS if timeout is None else timeout,
            progress=lambda _change, there: line.step(0, f"waiting: {there}"),
        )
        done = run(planner, session.api, dry_run=dry_run, progress=step, waiters=waiting)
    for note in done.lines:
        session.note(f"note: {note}")
    if dry_run == "none":
        return done
    if output.for_people or not lenient:
        _show_dry_run(session, done, dry_run, output, unchanged)
    if lenient:
        return done
    fail_if_refused(session, done)
    return None


def _show_dry_run(session: Session, done: Done, dry_run: str, output: Output, unchanged: Mapping[str, str]) -> None:
    from kubectl_yoshi.model.change import Verb
    from kubectl_yoshi.output.plans import DRY_RUN_SUFFIXES, outcome_lines, show_objects, show_plan

    changed = {change.subject for change in done.plan if change.verb is not Verb.WAIT}
    busy = changed | done.refusals.keys()
    for subject, words in unchanged.items() if output.for_people else ():
        if subject not in busy and (subject or not busy):
            print(f"{words}{DRY_RUN_SUFFIXES[dry_run]}", file=session.out)
    if dry_run == "client":
        show_plan(done.plan, session.out, output, dry_run)
    elif output.for_people:
        for line in outcome_lines(done.done, dry_run):
            print(line, file=session.out)
        for change in done.skipped:
            session.note(f"not checked, since it needs an earlier change to be kept: {change.says}")
    else:
        show_objects((answer for _, answer in done.done if answer), session.out, output, dry_run)


def _show_differences(session: Session, planner: Planner) -> None:
    """Writes the differences that a plan would make; remembers for the exit code that there were some."""
    from kubectl_yoshi.cluster.running import run
    from kubectl_yoshi.output.differences import write_differences
    from kubectl_yoshi.output.plans import fates

    done = run(planner, session.api, dry_run="client")
    for note in done.lines:
        session.note(f"note: {note}")
    fail_if_refused(session, done)
    if write_differences(fates(done.plan), session.out) or any(done.plan):
        session.differs = True


def one_by_one(session: Session, what: str, items: Sequence[tuple[str, Item]], do: Callable[[Item], None]) -> None:
    """Does something for one after the other; of several, one that is refused is told on a line and the rest goes on.

    Args:
        session: where to write.
        what: what they are, as people call several of them.
        items: each with its name.
        do: what is done; raises why it cannot be.

    Raises:
        Exit: with code 1 where one of several was refused.
        YoshiError: the only one was refused, or the cluster takes nothing from anybody.
    """
    from kubectl_yoshi.cluster.errors import ApiError, Unauthorized

    failed = 0
    for name, item in items:
        try:
            do(item)
        except (Refused, UsageMistake, ApiError) as error:
            if len(items) == 1 or isinstance(error, Unauthorized):
                raise
            failed += 1
            session.out.flush()
            print(f"error: {name}: {error.in_one_line}", file=session.err)
    _exit_if_any(session, failed, len(items), what)


def _exit_if_any(session: Session, failed: int, total: int, what: str) -> None:
    """Ends with exit code 1 where any of several failed, after the line that counts them."""
    if failed:
        print(f"error: {failed} of {total} {what} failed", file=session.err)
        click.get_current_context().exit(1)


def fail_if_refused(session: Session, done: Done) -> None:
    """Raises the last refusal; those before it are told on stderr, each once."""
    errors = [*{str(error): error for error in done.refusals.values()}.values()]
    for error in errors[:-1]:
        show(error.in_one_line, session.err)
    for error in errors[-1:]:
        raise error


def told(session: Session, output: Output, sentence: str, obj: Json) -> None:
    """A result: a sentence for people, the object for others."""
    if output.for_people:
        print(sentence, file=session.out)
        return
    from kubectl_yoshi.output.plans import show_objects

    show_objects([obj], session.out, output)


def called(vms: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What VMs are called in a result, by "namespace/name": with the namespace where they are of several."""
    vms = tuple(vms)
    several = len({namespace for namespace, _ in vms}) > 1
    return {"/".join(vm): f"virtualmachine.kubevirt.io/{'/'.join(vm) if several else vm[1]}" for vm in vms}


def report(session: Session, output: Output, done: Done, subjects: Iterable[tuple[str, str]], sentence: str) -> None:
    """A line for every VM, in the order in which they were named, and exit code 1 if any failed; one line for all that
    failed for the same cause.

    Args:
        session: where to write.
        output: for -o, the VMs as they are now.
        done: what became of them.
        subjects: namespace and name of each.
        sentence: what was done, with {answer} for what it has now.
    """
    if not output.for_people:
        _report_objects(session, output, done)
    shown = called(subjects)
    failed = {subject: done.refusals[subject] for subject in shown if subject in done.refusals}
    if len(shown) == 1:
        for error in failed.values():
            raise error
    for line in lines_by_cause(failed):
        show(line, session.err)
    for subject, name in shown.items() if output.for_people else ():
        if subject not in failed:
            words = sentence.format(answer=done.answers.get(subject, ""))
            suffix = "" if done.changed(subject) else " (unchanged)"
            print(f"{name} {words}{suffix}", file=session.out)
    _exit_if_any(session, len(failed), len(shown), "VMs")


def lines_by_cause(errors: Mapping[str, YoshiError]) -> list[str]:
    """A line for each cause, with the VMs that failed for it, by their subjects."""
    causes: dict[str, list[str]] = {}
    for subject, error in errors.items():
        causes.setdefault(error.message, []).append(subject)
    lines = []
    for message, subjects in causes.items():
        first = errors[subjects[0]]
        if len(subjects) == 1:
            lines.append(f"{subjects[0]}: {first.in_one_line}")
        else:
            told = next((f". {one}: {errors[one].so_far}" for one in subjects if errors[one].so_far), "")
            lines.append(f"{len(subjects)} VMs: {message.rstrip('.')} ({first_few(subjects, NAMED)}){told}")
    return lines


def _report_objects(session: Session, output: Output, done: Done) -> None:
    from kubectl_yoshi.model.vm import VM
    from kubectl_yoshi.output.plans import show_objects

    latest = {change.ref: answer for change, answer in done.done if answer and change.ref.resource == VM}
    show_objects(latest.values(), session.out, output)
