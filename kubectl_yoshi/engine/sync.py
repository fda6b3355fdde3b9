"""One pass of `sync`: plan every task from one snapshot, and run those that have something to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from kubectl_yoshi.engine.loop import DEFAULT_OPTIONS, RunOptions, RunResult, run
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import KubeconfigError, TimedOutError, UnauthorizedError, UnreachableError
from kubectl_yoshi.kube.retry import WaitCancelledError
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, NamespacedName
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.snapshot import unreadable_note
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.events import plan_events
from kubectl_yoshi.plan.sync.planner import SyncPlan, SyncScope, plan_sync, with_single_objects
from kubectl_yoshi.plan.sync.tasks import SyncTask

FATAL_ERRORS = (UnreachableError, TimedOutError, UnauthorizedError, KubeconfigError, WaitCancelledError)
"""Errors that end a pass: the next task would fail with them too."""


@dataclass
class SyncReport:
    """The result of a pass.

    Attributes:
        scope: what was reconciled.
        sync_plan: the tasks.
        results: each task with its result.
        executed: every applied change, with the server's response.
        plan: in a dry run, all changes that would be made.
        skipped: with --dry-run=server, changes that require an earlier one to be persisted.
        vm_errors, network_errors: VMs and networks that could not be reconciled, and why.
        other_errors: all other errors.
        notes: for the user, each once.
        unreadable: why something could not be read, each reason once.
    """

    scope: SyncScope
    sync_plan: SyncPlan = field(default_factory=SyncPlan)
    results: list[tuple[SyncTask, RunResult]] = field(default_factory=list)
    executed: list[tuple[Change, Json | None]] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    skipped: list[Change] = field(default_factory=list)
    vm_errors: dict[NamespacedName, YoshiError] = field(default_factory=dict)
    network_errors: dict[NamespacedName, YoshiError] = field(default_factory=dict)
    other_errors: list[YoshiError] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    unreadable: dict[str, None] = field(default_factory=dict)

    @property
    def failure_count(self) -> int:
        """Return the number of errors."""
        return len(self.vm_errors) + len(self.network_errors) + len(self.other_errors)

    def add_notes(self, texts: tuple[str, ...]) -> None:
        """Add notes for the user."""
        self.notes.update(dict.fromkeys(texts))

    @property
    def lines(self) -> list[str]:
        """Return the notes, including one about what could not be read."""
        return [*self.notes, *unreadable_note(self.unreadable)]

    def add_errors(self, task: SyncTask, errors: Mapping[str, YoshiError]) -> None:
        """Record errors of a task by owner: as errors of its VMs, of its network, or as other errors."""
        names = {"/".join(name): name for name in task.vms}
        for owner, error in errors.items():
            if owner in names:
                self.vm_errors.setdefault(names[owner], error)
            elif task.network is not None:
                self.network_errors[task.network] = error
            else:
                self.other_errors.append(error)

    def add_failure(self, task: SyncTask, error: YoshiError) -> None:
        """Record that a task failed as a whole."""
        errors = dict.fromkeys(("/".join(name) for name in task.vms), error) or {"": error}
        self.results.append((task, RunResult(Plan(), errors=errors)))
        self.add_errors(task, errors)


def sync(
    scope: SyncScope,
    backends: Mapping[str, Backend],
    api: Api,
    options: RunOptions = DEFAULT_OPTIONS,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> SyncReport:
    """Reconcile networks and VM annotations.

    Args:
        scope: what to reconcile.
        backends: by plugin.
        api: the cluster.
        options: how the tasks' plans are applied.
        should_stop: called before each task; True skips the remaining tasks.

    Raises:
        YoshiError: nothing can be read, or the API server is unreachable; the next pass completes what was started.
    """
    report = SyncReport(scope)
    snapshot = new_snapshot(api)
    report.sync_plan = plan_sync(scope, PlanContext(snapshot, backends, RunContext()))
    report.vm_errors |= report.sync_plan.errors
    report.add_notes(report.sync_plan.notes)
    report.unreadable.update(dict.fromkeys(snapshot.unreadable_reasons()))
    snapshot = with_single_objects(snapshot)
    for task in (task for stage in report.sync_plan.stages for task in stage):
        if should_stop():
            return report
        planner = partial(task.plan, report.network_errors)
        try:
            plan = planner(PlanContext(snapshot, backends, RunContext(preview=options.dry_run != "none")))
            if not plan:
                _record_plan(report, task, plan)
                continue
            if options.dry_run == "client":
                report.plan = report.plan + replace(plan, errors={})
                _record_plan(report, task, plan)
                continue
            done = run(planner, api, backends, options, planned=(plan, snapshot))
        except FATAL_ERRORS:
            raise
        except YoshiError as error:
            report.add_failure(task, error)
            continue
        _record_result(report, task, done)
        if options.dry_run == "none":
            snapshot = new_snapshot(api)  # this run, or a faster one, has changed what the next task reads
    if options.dry_run == "none":
        _emit_events(report, api, backends)
    return report


def _record_plan(report: SyncReport, task: SyncTask, plan: Plan) -> None:
    """Record the plan of a task that changes nothing, or only would."""
    done = RunResult(plan, (), plan.results, plan.errors, attachments=plan.attachments, is_dry_run=True)
    report.results.append((task, done))
    report.add_notes(plan.notes)
    report.add_errors(task, plan.errors)


def _record_result(report: SyncReport, task: SyncTask, result: RunResult) -> None:
    report.results.append((task, result))
    report.executed += result.executed
    report.skipped += result.skipped
    report.add_notes(result.notes)
    report.unreadable.update(dict.fromkeys(result.unreadable))
    report.add_errors(task, result.errors)


def _emit_events(report: SyncReport, api: Api, backends: Mapping[str, Backend]) -> None:
    """Create Events on VMs for which something failed."""
    if not report.vm_errors:
        return
    try:
        result = run(partial(plan_events, report.vm_errors), api, backends)
    except FATAL_ERRORS:
        raise
    except YoshiError as error:
        report.add_notes((f"Events could not be written on VMs: {error.message}",))
        return
    if result.errors:
        first = next(iter(result.errors.values()))
        report.add_notes((f"Events could not be written on VMs: {first.message}",))
