"""`kubectl yoshi sync`: once, as a dry run, as differences, or continuously with --watch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from types import FrameType
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.apply import format_errors_by_cause
from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    dry_run_option,
    output_option,
    timeout_option,
)
from kubectl_yoshi.cli.policy_bindings import bind_policies
from kubectl_yoshi.cli.result_objects import (
    ATTACHMENT,
    REFERENCE,
    attachment_result,
    printed_objects,
    reference_object,
)
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode, YoshiError
from kubectl_yoshi.model.printable import to_single_line
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.engine.controller import Controller
    from kubectl_yoshi.engine.sync import SyncReport
    from kubectl_yoshi.model.objects import Json, NamespacedName, ObjectRef
    from kubectl_yoshi.model.plan import Change
    from kubectl_yoshi.plan.sync.planner import SyncScope


REPEATED_SIGNAL_SECONDS = 0.5
"""A signal within this time after the first one is a repetition: `timeout` sends it to a process and to its group."""


@dataclass(frozen=True)
class SyncOptions:
    """The flags of `sync`."""

    all_namespaces: bool
    watch: bool
    restart: bool
    timeout: float | None
    dry_run: str
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.watch and self.dry_run != "none":
            raise usage_error("--watch and --dry-run exclude each other")
        if self.watch and not self.output.is_human_readable:
            raise usage_error("--watch prints a log, so it cannot be combined with -o")


@command(
    "sync",
    examples="""
    # Reconcile the networks and VMs of this namespace
    kubectl yoshi sync

    # Show the changes
    kubectl yoshi sync --dry-run

    # Reconcile the whole cluster continuously
    kubectl yoshi sync -A --watch
    """,
)
@all_namespaces_option
@click.option("-w", "--watch", is_flag=True, help="Watch networks and VMs, and reconcile after each change.")
@click.option("--restart", is_flag=True, help="Restart VMs that run without their address.")
@timeout_option()
@dry_run_option
@output_option(ATTACHMENT, REFERENCE)
@as_options(SyncOptions)
def sync(session: Session, options: SyncOptions) -> None:
    """Reconcile networks, and VMs with their network annotations.

    The objects of every NetworkWizard are created, and every VM with the annotation plumber.k8s.pf9.io/networkName is
    assigned a permanent address of that network. Objects of networks that were deleted with kubectl are removed. A VM
    whose annotation is removed keeps its address: use `kubectl yoshi vm detach`.

    A failure of one VM does not stop the others; it is reported as an Event of that VM. The exit code is 1 after any
    failure. With --watch the command runs until SIGTERM or Ctrl-C, and exits with 0.
    """
    if options.watch and session.is_diff:
        raise usage_error("--watch cannot be combined with diff")
    if options.watch:
        _run_controller(session, options)
    elif session.is_diff:
        _show_diff(session, options)
    else:
        _sync_once(session, options)


def _build_scope(session: Session, options: SyncOptions) -> SyncScope:
    """Return the namespaces to reconcile, and whether to restart VMs."""
    from kubectl_yoshi.plan.sync.planner import SyncScope

    return SyncScope(None if options.all_namespaces else session.namespace, restart=options.restart)


def _sync_once(session: Session, options: SyncOptions) -> None:
    """Reconcile once, or print the changes (dry run); exit with code 1 after a failure."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import RunOptions
    from kubectl_yoshi.engine.sync import sync as run_sync
    from kubectl_yoshi.engine.wait import waiters
    from kubectl_yoshi.output.plan_printer import format_change
    from kubectl_yoshi.output.progress import progress

    shows_changes = options.dry_run == "none" and options.output.is_human_readable

    with progress("looking", 0, session.err) as line:

        def step(change: Change, state: str) -> None:
            if state == "done" and _is_visible_change(change) and shows_changes:
                line.clear()
                print(format_change(change), file=session.out)
            line.step(1, change.summary)

        wait_functions = waiters(limit_seconds=options.timeout)
        run_options = RunOptions(options.dry_run, step, wait_functions)
        report = run_sync(_build_scope(session, options), BACKENDS, session.api, run_options)
    if options.dry_run == "none":
        for note in bind_policies(session.api, report.scope.namespace):
            session.note(f"note: {note}")
    with printed_objects(session, options.output) as objects:
        if options.output.is_human_readable:
            _show_dry_run(session, report, options.dry_run)
        else:
            objects += _result_objects(report)
        _print_report(session, report)


def _show_dry_run(session: Session, report: SyncReport, dry_run: str) -> None:
    """Print what a dry run would change; also without a dry run, that nothing was to be changed."""
    from kubectl_yoshi.output.plan_printer import DRY_RUN_SUFFIXES, format_outcomes, show_plan

    if dry_run == "client":
        show_plan(report.plan, session.out, dry_run)
    elif dry_run == "server":
        for text in format_outcomes(report.executed, dry_run):
            print(text, file=session.out)
        for change in report.skipped:
            session.note(f"not checked, since it depends on an earlier change: {change.summary}")
    if not report.executed and not any(report.plan) and not report.failure_count:
        print(f"unchanged: {_unchanged_summary(report)}{DRY_RUN_SUFFIXES[dry_run]}", file=session.out)


def _result_objects(report: SyncReport) -> list[Json]:
    """Return an Attachment for each requested network of each VM, and references to all other objects that changed."""
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.plan import Plan
    from kubectl_yoshi.model.vm import VM
    from kubectl_yoshi.plan.sync.tasks import AttachTask

    invalid = {"/".join(vm): error for vm, error in report.sync_plan.errors.items()}
    attachments = [
        attachment_result(RunResult(Plan(), errors=invalid), vm, "", AddressState.UNKNOWN)
        for vm in report.sync_plan.errors
    ]
    changed: dict[ObjectRef, None] = {}
    for task, result in report.results:
        if isinstance(task, AttachTask):
            network = "/".join(task.request.network)
            attachments += [attachment_result(result, vm, network, AddressState.BOUND) for vm in task.vms]
        else:
            visible = (change.ref for change in result.changes if _is_visible_change(change))
            changed |= dict.fromkeys(ref for ref in visible if ref.resource != VM)
    return [*map(reference_object, changed), *attachments]


def _is_visible_change(change: Change) -> bool:
    """Return whether a change is printed: no wait, and no patch that only tests."""
    from kubectl_yoshi.model.plan import Verb

    return change.verb is not Verb.WAIT and not change.is_test_only


def _unchanged_summary(report: SyncReport) -> str:
    networks, vms = report.sync_plan.networks, report.sync_plan.vms
    return f"{networks} network{'' if networks == 1 else 's'} and {vms} VM{'' if vms == 1 else 's'} are as requested"


def _show_diff(session: Session, options: SyncOptions) -> None:
    """Print the differences of `kubectl yoshi diff sync`."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import RunOptions
    from kubectl_yoshi.engine.sync import sync as run_sync
    from kubectl_yoshi.output.plan_printer import object_changes, write_diff

    report = run_sync(_build_scope(session, options), BACKENDS, session.api, RunOptions("client"))
    if write_diff(object_changes(report.plan), session.out) or any(report.plan):
        session.has_differences = True
    _print_report(session, report)


def _print_report(session: Session, report: SyncReport) -> None:
    """Print notes and errors on stderr; exit with code 1 if there are errors."""
    for note in report.lines:
        session.note(f"note: {note}")
    for text in format_errors(report):
        print(f"error: {text}", file=session.err)
    if report.failure_count == 1 and (hint := _list_errors(report)[0].hint):
        print(hint, file=session.err)
    if report.failure_count:
        click.get_current_context().exit(ExitCode.FAILURE)


def _list_errors(report: SyncReport) -> list[YoshiError]:
    return [*report.network_errors.values(), *report.vm_errors.values(), *report.other_errors]


def format_errors(report: SyncReport) -> list[str]:
    """Return a line for each error; VMs that failed for the same cause share one."""
    failed = Counter(error.message for error in report.vm_errors.values())
    shared = {name: error for name, error in report.vm_errors.items() if failed[error.message] > 1}
    single = [text for (kind, name), text in error_lines(report).items() if kind != "VM" or name not in shared]
    return [*single, *format_errors_by_cause({"/".join(name): error for name, error in shared.items()})]


def error_lines(report: SyncReport) -> dict[tuple[str, NamespacedName], str]:
    """Return a line for each error, by kind and name of the object that failed."""
    lines: dict[tuple[str, NamespacedName], str] = {}
    for kind, errors in (("network", report.network_errors), ("VM", report.vm_errors)):
        for name, error in errors.items():
            what = f"{kind} {'/'.join(name)}"
            lines[(kind, name)] = error.in_one_line if what in error.message else f"{what}: {error.in_one_line}"
    return lines | {("", ("", str(number))): error.in_one_line for number, error in enumerate(report.other_errors)}


def _run_controller(session: Session, options: SyncOptions) -> None:
    """Run `sync --watch`, which prints each change on stdout and each error on stderr, with the time."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.controller import Controller, ControllerOutput
    from kubectl_yoshi.engine.loop import RunOptions
    from kubectl_yoshi.engine.sync import sync as run_sync
    from kubectl_yoshi.engine.wait import waiters
    from kubectl_yoshi.output.plan_printer import format_change

    log = SyncLog(session)

    def step(change: Change, state: str) -> None:
        if state == "done" and _is_visible_change(change):
            log.info(format_change(change))

    wait_functions = waiters(limit_seconds=options.timeout)
    run_options = RunOptions(progress=step, waiters=wait_functions)
    controller: Controller

    bound_namespaces: set[str] = set()

    def sync_scope(scope: SyncScope) -> SyncReport:
        def should_stop() -> bool:
            return controller.is_stopping

        report = run_sync(scope, BACKENDS, session.api, run_options, should_stop=should_stop)
        namespaces = {namespace for namespace, _ in scope.networks or ()}
        if scope.is_whole or namespaces - bound_namespaces:
            bound_namespaces.update(namespaces)
            log.notes(bind_policies(session.api, scope.namespace))
        return report

    output = ControllerOutput(log.info, log.error, log.report)
    controller = Controller(session.api, _build_scope(session, options), BACKENDS, sync_scope, output)
    with stop_on_signals(controller.stop):
        controller.run()


class SyncLog:
    """The log of `sync --watch`: lines with the time; an error that persists is printed once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last_errors: dict[tuple[str, NamespacedName], str] = {}
        self._printed_notes: set[str] = set()

    def info(self, text: str) -> None:
        """Print a change."""
        print(f"{_timestamp()} {text}", file=self._session.out, flush=True)

    def error(self, text: str) -> None:
        """Print an error."""
        print(f"{_timestamp()} error: {text}", file=self._session.err, flush=True)

    def notes(self, notes: Iterable[str]) -> None:
        """Print the new notes."""
        for note in notes:
            if note not in self._printed_notes:
                self._printed_notes.add(note)
                print(f"{_timestamp()} note: {to_single_line(note)}", file=self._session.err, flush=True)

    def report(self, report: SyncReport) -> None:
        """Print the new notes and errors of one reconciliation."""
        self.notes(report.lines)
        errors = error_lines(report)
        for key, text in errors.items():
            if self._last_errors.get(key) != text:
                self.error(text)
        not_covered = {key: text for key, text in self._last_errors.items() if not _is_covered(key, report.scope)}
        self._last_errors = {**not_covered, **errors}


def _is_covered(key: tuple[str, NamespacedName], scope: SyncScope) -> bool:
    kind, name = key
    only = scope.networks if kind == "network" else scope.vms if kind == "VM" else None
    return only is None or name in only


def _timestamp() -> str:
    from kubectl_yoshi.plan.context import format_timestamp

    return format_timestamp(datetime.now(timezone.utc))


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and Ctrl-C; a second Ctrl-C interrupts as usual.

    After a block that a signal stopped, both signals are ignored: a repetition of the same signal must not change the
    exit code while the program ends.
    """
    import signal

    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not first:
            first = time.monotonic()
            stop()
        elif number == signal.SIGINT and time.monotonic() - first > REPEATED_SIGNAL_SECONDS:
            signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, previous_handler in before.items():
            signal.signal(number, signal.SIG_IGN if first else previous_handler)
