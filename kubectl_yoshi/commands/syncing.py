"""How `sync` shows what it does: at once, as a dry run, as differences, or line by line while it keeps on."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from types import FrameType
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.keeping import Keeper, Voice
from kubectl_yoshi.cluster.syncing import Report, sync
from kubectl_yoshi.cluster.waiting import LIMIT_SECONDS, waiters
from kubectl_yoshi.commands.changing import lines_by_cause
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.change import Change, Verb
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Name
from kubectl_yoshi.model.printable import on_one_line
from kubectl_yoshi.output.asked import Output
from kubectl_yoshi.output.plans import DRY_RUN_SUFFIXES, change_line, fates, outcome_lines, show_plan
from kubectl_yoshi.output.progress import progress
from kubectl_yoshi.plan.attempt import stamp_of
from kubectl_yoshi.plan.syncing import Scope

if TYPE_CHECKING:
    from kubectl_yoshi.commands.sync import SyncOptions


def scope_of(session: Session, options: SyncOptions) -> Scope:
    """What is to be looked at."""
    return Scope(None if options.all_namespaces else session.namespace, restart=options.restart)


def sync_once(session: Session, options: SyncOptions) -> None:
    """One pass, carried out or only shown; exit code 1 if anything failed."""
    with progress("looking", 0, session.err) as line:

        def step(change: Change, state: str) -> None:
            if state == "done" and changes_something(change) and options.dry_run == "none":
                line.clear()
                print(change_line(change), file=session.out)
            line.step(1, change.says)

        waiting = waiters(limit_seconds=LIMIT_SECONDS if options.timeout is None else options.timeout)
        report = sync(
            scope_of(session, options), BACKENDS, session.api, dry_run=options.dry_run, progress=step, waiters=waiting
        )
    if options.dry_run == "client":
        show_plan(report.plan, session.out, Output(), options.dry_run)
    elif options.dry_run == "server":
        for text in outcome_lines(report.done, options.dry_run):
            print(text, file=session.out)
        for change in report.skipped:
            session.note(f"not checked, since it needs an earlier change to be kept: {change.says}")
    if not report.done and not any(report.plan) and not report.failed:
        print(f"unchanged: {_as_asked(report)}{DRY_RUN_SUFFIXES[options.dry_run]}", file=session.out)
    tell(session, report)


def changes_something(change: Change) -> bool:
    """Whether it is worth a line: not waiting, and not a patch that only tests."""
    return change.verb is not Verb.WAIT and not change.only_tests


def _as_asked(report: Report) -> str:
    networks, vms = report.agenda.networks, report.agenda.vms
    return f"{networks} network{'' if networks == 1 else 's'} and {vms} VM{'' if vms == 1 else 's'} are as asked for"


def show_differences(session: Session, options: SyncOptions) -> None:
    """`kubectl yoshi diff sync`"""
    from kubectl_yoshi.output.differences import write_differences

    report = sync(scope_of(session, options), BACKENDS, session.api, dry_run="client")
    if write_differences(fates(report.plan), session.out) or any(report.plan):
        session.differs = True
    tell(session, report)


def tell(session: Session, report: Report) -> None:
    """Notes and errors on stderr; exit code 1 if there are errors."""
    for note in report.lines:
        session.note(f"note: {note}")
    for text in lines_of(report):
        print(f"error: {text}", file=session.err)
    if report.failed == 1 and (way_out := _errors(report)[0].way_out):
        print(way_out, file=session.err)
    if report.failed:
        click.get_current_context().exit(1)


def _errors(report: Report) -> list[YoshiError]:
    return [*report.networks.values(), *report.vms.values(), *report.others]


def lines_of(report: Report) -> list[str]:
    """What is not as it should be, a line each; one line for all VMs that failed for the same cause."""
    failed = Counter(error.message for error in report.vms.values())
    alike = {name: error for name, error in report.vms.items() if failed[error.message] > 1}
    alone = [text for (kind, name), text in errors_of(report).items() if kind != "VM" or name not in alike]
    return [*alone, *lines_by_cause({"/".join(name): error for name, error in alike.items()})]


def errors_of(report: Report) -> dict[tuple[str, Name], str]:
    """What is not as it should be -> a line on it."""
    lines: dict[tuple[str, Name], str] = {}
    for kind, errors in (("network", report.networks), ("VM", report.vms)):
        for name, error in errors.items():
            what = f"{kind} {'/'.join(name)}"
            lines[(kind, name)] = error.in_one_line if what in error.message else f"{what}: {error.in_one_line}"
    return lines | {("", ("", str(number))): error.in_one_line for number, error in enumerate(report.others)}


def keep_on(session: Session, options: SyncOptions) -> None:
    """`sync --watch`: every change made is a line with its time on stdout, every trouble one on stderr."""
    diary = Diary(session)

    def step(change: Change, state: str) -> None:
        if state == "done" and changes_something(change):
            diary.say(change_line(change))

    waiting = waiters(limit_seconds=LIMIT_SECONDS if options.timeout is None else options.timeout)
    keeper: Keeper

    def make_pass(scope: Scope) -> Report:
        def stopping() -> bool:
            return keeper.is_ending

        return sync(scope, BACKENDS, session.api, progress=step, waiters=waiting, stopping=stopping)

    voice = Voice(diary.say, diary.complain, diary.report)
    keeper = Keeper(session.api, scope_of(session, options), BACKENDS, make_pass, voice)
    with ending_on_signals(keeper.end):
        keeper.run()


class Diary:
    """Writes down what happens, each line with its time; what is told already is not told again while it lasts."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._trouble: dict[tuple[str, Name], str] = {}
        self._noted: set[str] = set()

    def say(self, text: str) -> None:
        """What goes well."""
        print(f"{_now()} {text}", file=self._session.out, flush=True)

    def complain(self, text: str) -> None:
        """What does not."""
        print(f"{_now()} error: {text}", file=self._session.err, flush=True)

    def report(self, report: Report) -> None:
        """What a pass came to."""
        for note in report.lines:
            if note not in self._noted:
                self._noted.add(note)
                print(f"{_now()} note: {on_one_line(note)}", file=self._session.err, flush=True)
        errors = errors_of(report)
        for what, text in errors.items():
            if self._trouble.get(what) != text:
                self.complain(text)
        unseen = {what: text for what, text in self._trouble.items() if not _looked_at(what, report.scope)}
        self._trouble = {**unseen, **errors}


def _looked_at(what: tuple[str, Name], scope: Scope) -> bool:
    kind, name = what
    only = scope.networks if kind == "network" else scope.vms if kind == "VM" else None
    return only is None or name in only


def _now() -> str:
    return stamp_of(datetime.now(timezone.utc))


SAME_SECONDS = 0.5
"""What follows a signal so soon is the same one: `timeout`, for one, sends it to a process and to its whole group."""


@contextmanager
def ending_on_signals(end: Callable[[], None]) -> Iterator[None]:
    """Calls `end` on SIGTERM and Ctrl-C; a second Ctrl-C interrupts as usual.

    Once the block has ended by one of them, both are ignored: the program ends, and what the same Ctrl-C still sends
    must not make a failure of it.
    """
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not first:
            first = time.monotonic()
            end()
        elif number == signal.SIGINT and time.monotonic() - first > SAME_SECONDS:
            signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_IGN if first else former)
