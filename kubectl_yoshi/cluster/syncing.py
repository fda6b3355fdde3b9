"""One pass of `sync`: every job looked at with what was read once, and those carried out that have something to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.carrying_out import Progress
from kubectl_yoshi.cluster.errors import BadKubeconfig, TimedOut, Unauthorized, Unreachable
from kubectl_yoshi.cluster.observing import observe, observe_value
from kubectl_yoshi.cluster.running import Done, run
from kubectl_yoshi.cluster.sending import Stopped
from kubectl_yoshi.cluster.waiting import Waiter
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Change, Plan
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.facts import Facts, not_seen
from kubectl_yoshi.model.objects import Json, Name
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.notices import plan_notices
from kubectl_yoshi.plan.sync_jobs import Job
from kubectl_yoshi.plan.syncing import Agenda, Scope, by_name, plan_agenda

POINTLESS = (Unreachable, TimedOut, Unauthorized, BadKubeconfig, Stopped)
"""What ends a pass: the next job would meet it as well."""


@dataclass
class Report:
    """What a pass came to.

    Attributes:
        scope: what was looked at.
        agenda: what there was to do.
        done: every change carried out, with what the server answered.
        plan: under a dry run, everything that would be done.
        skipped: under --dry-run=server, changes that need an earlier one to be kept.
        vms, networks: those that are not as they should be, and why.
        others: what else could not be done.
        notes: for people, each once.
        unseen: what could not be read, each reason once.
    """

    scope: Scope
    agenda: Agenda = field(default_factory=Agenda)
    done: list[tuple[Change, Json | None]] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    skipped: list[Change] = field(default_factory=list)
    vms: dict[Name, YoshiError] = field(default_factory=dict)
    networks: dict[Name, YoshiError] = field(default_factory=dict)
    others: list[YoshiError] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    unseen: dict[str, None] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many things are not as they should be."""
        return len(self.vms) + len(self.networks) + len(self.others)

    def note(self, texts: tuple[str, ...]) -> None:
        """Adds lines for people."""
        self.notes.update(dict.fromkeys(texts))

    @property
    def lines(self) -> list[str]:
        """The notes, and what could not be read as one of them."""
        return [*self.notes, *not_seen(self.unseen)]

    def refuse(self, job: Job, refusals: Mapping[str, YoshiError]) -> None:
        """Notes down why a job is not done for some; what a network is called, its job knows."""
        names = {"/".join(name): name for name in job.vms}
        for subject, error in refusals.items():
            if subject in names:
                self.vms.setdefault(names[subject], error)
            elif job.network is not None:
                self.networks[job.network] = error
            else:
                self.others.append(error)

    def fail(self, job: Job, error: YoshiError) -> None:
        """Notes down that a job could not be done at all."""
        self.refuse(job, dict.fromkeys(("/".join(name) for name in job.vms), error) or {"": error})


def sync(
    scope: Scope,
    backends: Mapping[str, Backend],
    api: Api,
    *,
    dry_run: str = "none",
    progress: Progress | None = None,
    waiters: Mapping[str, Waiter] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Report:
    """Makes true what networks and VM annotations ask for.

    Args:
        scope: what is to be looked at.
        backends: by plugin.
        api: the cluster.
        dry_run: "client" plans only, "server" sends each plan with dryRun=All.
        progress: told of every change.
        waiters: see carry_out.
        stopping: asked before each job; when true, the rest is left.

    Raises:
        YoshiError: nothing can be read, or the API server is gone; what was done is complete or will be by the next
            pass.
    """
    report = Report(scope)
    now = datetime.now(timezone.utc)
    report.agenda, facts = observe_value(lambda known: plan_agenda(scope, backends, known, now), api)
    report.vms |= report.agenda.refusals
    report.note(report.agenda.notes)
    report.unseen.update(dict.fromkeys(facts.unknowns()))
    facts = by_name(facts)
    for job in (job for stage in report.agenda.stages for job in stage):
        if stopping():
            return report
        planner = partial(job.plan, backends, report.networks)
        try:
            plan, facts = observe(planner, api, facts, Attempt(preview=dry_run != "none"))
            if not plan:
                _looked_at(report, job, plan)
                continue
            if dry_run == "client":
                report.plan = report.plan + replace(plan, refusals={})
                _looked_at(report, job, plan)
                continue
            done = run(planner, api, dry_run=dry_run, progress=progress, waiters=waiters)
        except POINTLESS:
            raise
        except YoshiError as error:
            report.fail(job, error)
            continue
        _carried_out(report, job, done)
        if dry_run == "none":
            facts = Facts(api.served)  # this run, or a faster one, has changed what the next job looks at
    if dry_run == "none":
        _tell_owners(report, api)
    return report


def _looked_at(report: Report, job: Job, plan: Plan) -> None:
    report.note(plan.notes)
    report.refuse(job, plan.refusals)


def _carried_out(report: Report, job: Job, done: Done) -> None:
    report.done += done.done
    report.skipped += done.skipped
    report.note(done.notes)
    report.unseen.update(dict.fromkeys(done.unseen))
    report.refuse(job, done.refusals)


def _tell_owners(report: Report, api: Api) -> None:
    """Writes what could not be done for a VM as an Event on it."""
    if not report.vms:
        return
    try:
        told = run(partial(plan_notices, report.vms), api)
    except POINTLESS:
        raise
    except YoshiError as error:
        report.note((f"VMs' owners were not told: {error.message}",))
        return
    if told.refusals:
        first = next(iter(told.refusals.values()))
        report.note((f"VMs' owners were not told: {first.message}",))
