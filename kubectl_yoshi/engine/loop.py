"""Observe, plan, apply, until nothing is left to do: the one loop behind every command that changes something.

A planner is called once a round, with a new snapshot of the cluster from which it reads what it needs. When a write is
refused because another writer was faster, or its outcome is unknown, everything is read and planned again; when it
fails for good, or has no effect (see repetition), the planner gets the error and rolls back what this run had done. A
network that a run has rolled back, since it cannot work, is not created again by that run (`Plan.rolled_back`).

`install` and `uninstall` plan from the manifests' objects, once, and apply that without this loop; they have
`--dry-run`, and no `diff`. Ctrl-C stops what has not been sent and waits for what has; the same command then goes on
from there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property

from kubectl_yoshi.engine.apply import ApplyResult, ProgressCallback, apply_plan, send_change
from kubectl_yoshi.engine.outcomes import AMBIGUOUS_ERRORS, WriteJournal, WriteOutcome
from kubectl_yoshi.engine.permissions import Permissions
from kubectl_yoshi.engine.read import Planner, new_snapshot
from kubectl_yoshi.engine.repetition import AppliedRound
from kubectl_yoshi.engine.wait import Waiter
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import (
    TRANSIENT_ERRORS,
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    NotConvergedError,
    NotFoundError,
    PatchTestFailedError,
)
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import OutdatedError, YoshiError
from kubectl_yoshi.model.objects import Json, ObjectRef, resource_version_of
from kubectl_yoshi.model.plan import AttachmentResult, Change, Plan, Verb
from kubectl_yoshi.model.snapshot import MissingQueriesError, Snapshot, unreadable_note
from kubectl_yoshi.plan.block_maintenance import delete_empty_block, fix_counters, list_follow_ups
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.counters import Count, count_blocks, count_change, counting_query, list_counts
from kubectl_yoshi.plan.records import written_records
from kubectl_yoshi.plan.release import drop_outdated_notes

MAX_ROUNDS_WITHOUT_PROGRESS = 15
"""Number of consecutive rounds with conflicts after which a run gives up."""
MAX_WRITE_ATTEMPTS = 4
"""How often the same write may end with a server error, or without a response, before the run gives it up."""
READ_RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0)
"""Pauses in seconds between reads while the API server does not answer a run that has already made changes."""
MAX_ROUNDS = 500

_PlanRound = Callable[[Snapshot, RunContext], Plan]


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        plan: the first plan (in a dry run: the only one).
        executed: every applied change with the server's response; None also if no response came and it was applied.
        results: owner -> its state after the run (see Plan.results).
        errors: owner -> why the run failed for it.
        notes: for the user, each once.
        skipped: with --dry-run=server, changes that require an earlier one to be persisted.
        unreadable: why something could not be read, each reason once.
        attachments: VM -> what it has on the network after the run, as far as any round planned it.
        is_dry_run: whether nothing was changed.
    """

    plan: Plan
    executed: tuple[tuple[Change, Json | None], ...] = ()
    results: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, YoshiError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: tuple[Change, ...] = ()
    unreadable: tuple[str, ...] = ()
    attachments: Mapping[str, AttachmentResult] = field(default_factory=dict)
    is_dry_run: bool = False

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Return the changes that the run made; those that it would make, if it was a dry run."""
        return tuple(self.plan) if self.is_dry_run else tuple(change for change, _ in self.executed)

    @cached_property
    def changed_owners(self) -> frozenset[str]:
        """Return the owners of all changes but waits and patches that only test; "" for changes for all VMs."""
        written = (change for change in self.changes if change.verb is not Verb.WAIT and not change.is_test_only)
        return frozenset(change.owner for change in written)

    @cached_property
    def shared_records(self) -> frozenset[str]:
        """Return the addresses, as written, whose records were written by patches for several VMs."""
        shared = (change for change in self.changes if not change.owner)
        return frozenset(address for change in shared for address in written_records(change))

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the notes, including one about what could not be read."""
        return (*self.notes, *unreadable_note(self.unreadable))

    def has_changed(self, owner: str = "") -> bool:
        """Return whether anything was changed for an owner ("": for any).

        Shared changes, such as a patch of a block's records, always come with changes of each owner.
        """
        return owner in self.changed_owners if owner else bool(self.changed_owners)


@dataclass(frozen=True)
class RunOptions:
    """How a run applies its plans.

    Attributes:
        dry_run: "none"; "client" only plans; "server" sends the plan with dryRun=All.
        progress: called for every change; for one without a response, again when it is observed as applied.
        waiters: see apply_plan.
        rng: the source of random choices; None for a new one.
        exact_counters: write the counters of large networks whenever they differ; for planners that read all blocks.
    """

    dry_run: str = "none"
    progress: ProgressCallback | None = None
    waiters: Mapping[str, Waiter] | None = None
    rng: random.Random | None = None
    exact_counters: bool = False


DEFAULT_OPTIONS = RunOptions()


def run(
    planner: Planner,
    api: Api,
    backends: Mapping[str, Backend],
    options: RunOptions = DEFAULT_OPTIONS,
    *,
    planned: tuple[Plan, Snapshot] | None = None,
) -> RunResult:
    """Run a planner until its plan is empty, and apply its plans.

    Args:
        planner: see Planner.
        api: the cluster.
        backends: by plugin.
        options: see RunOptions.
        planned: the first plan and its snapshot, if they exist already.

    Raises:
        YoshiError: nothing could be planned, or there were too many conflicts.
        KeyboardInterrupt: the user pressed Ctrl-C; running the same command again completes the run.
    """

    def plan_round(snapshot: Snapshot, context: RunContext) -> Plan:
        return planner(PlanContext(snapshot, backends, context))

    context = RunContext(rng=options.rng or random.Random())
    if options.dry_run != "none":
        snapshot = planned[1] if planned else new_snapshot(api)
        plan = planned[0] if planned else plan_round(snapshot, replace(context, preview=True))
        return _dry_run(plan, snapshot, api, options)
    first: Plan | None = None
    journal = WriteJournal()
    permissions = Permissions(api)
    notes: dict[str, None] = {}
    unreadable: dict[str, None] = {}
    attachments: dict[str, AttachmentResult] = {}
    rounds_without_progress = 0
    last_round = AppliedRound()
    unclear: Counter[tuple[ObjectRef, str]] = Counter()
    written: Snapshot | None = None
    for _ in range(MAX_ROUNDS):
        if written is not None and (done := _plan_without_reading(plan_round, written, context)) is not None:
            plan, snapshot = done, written
            notes.update(dict.fromkeys(plan.notes))
            attachments.update(plan.attachments)
            break
        try:
            plan, snapshot = planned or _plan_with_retries(plan_round, api, context, started=first is not None)
            planned = None
        except YoshiError as error:
            error.changes_so_far = journal.changes_so_far()
            raise
        first = first or plan
        for change in journal.resolve(plan, snapshot, context.failed):
            if options.progress:
                options.progress(change, "done")
        notes.update(dict.fromkeys(plan.notes))
        attachments.update(plan.attachments)
        unreadable.update(dict.fromkeys(snapshot.unreadable_reasons()))
        if not plan:
            break
        if lost_writes := last_round.lost_writes(plan):
            lost = _errors_by_owner(lost_writes, plan)
            if lost.keys() <= context.failed.keys():  # the planner has this error and plans the same again
                lost_writes[0][1].changes_so_far = journal.changes_so_far()
                raise lost_writes[0][1]
            context = replace(context, failed={**lost, **context.failed}, previous_snapshot=snapshot)
            last_round = AppliedRound()
            continue
        later = Plan() if journal.entries else _preview_later_rounds(plan_round, plan, snapshot, context)
        if denied := permissions.errors(plan, later, context.failed):
            context = replace(context, failed={**context.failed, **denied}, previous_snapshot=snapshot)
            continue
        result = apply_plan(plan, api, progress=options.progress, waiters=options.waiters)
        journal.add(result)
        last_round = last_round.next_round(plan, result)
        _clean_up(result, api)
        if result.interrupted:
            raise KeyboardInterrupt
        for change, _ in result.executed:
            unclear.pop(_target(change), None)
        unclear.update({_target(change) for change, error in result.failed if isinstance(error, AMBIGUOUS_ERRORS)})
        exhausted = {target for target, times in unclear.items() if times >= MAX_WRITE_ATTEMPTS}
        fatal, retryable = _classify_failures(
            result, plan, exhausted, can_retry=rounds_without_progress < MAX_ROUNDS_WITHOUT_PROGRESS
        )
        rounds_without_progress = (
            0 if any(answer is not None for _, answer in result.executed) else rounds_without_progress + 1
        )
        if rounds_without_progress > 2 * MAX_ROUNDS_WITHOUT_PROGRESS:
            notes["the incomplete changes could not be rolled back; `kubectl yoshi ips gc` does that"] = None
            break
        if retryable:
            # An attachment and a detachment of one VM may revert each other's first write repeatedly if both run at one
            # pace.
            exponent = max(rounds_without_progress, context.attempt_number // 4)
            api.clock.sleep(context.rng.random() * min(0.02 * 2**exponent, 1.0))
        context = replace(
            context,
            attempt_number=context.attempt_number
            + (1 if retryable and not isinstance(retryable, AMBIGUOUS_ERRORS) else 0),
            now=datetime.now(timezone.utc),
            done=journal.changes_with(WriteOutcome.DONE, WriteOutcome.NO_OP),
            unclear=journal.changes_with(WriteOutcome.FAILED, WriteOutcome.UNANSWERED, WriteOutcome.OBSERVED),
            unanswered=journal.changes_with(WriteOutcome.UNANSWERED),
            failed={**context.failed, **fatal},
            rolled_back={**context.rolled_back, **plan.rolled_back},
            previous_snapshot=snapshot,
        )
        written = _snapshot_after(plan, result, snapshot)
    else:
        endless = NotConvergedError(
            f"not complete after {MAX_ROUNDS} rounds", "Run the same command again to complete it."
        )
        endless.changes_so_far = journal.changes_so_far()
        raise endless
    answers = {change.ref: answer for change, answer in journal.done if answer is not None}
    _write_counters(list_counts(answers, snapshot, context.now, exact=options.exact_counters), api)
    errors = journal.explain_errors({**plan.errors, **context.failed}, snapshot, plan.results)
    errors.pop("", None)
    current_notes = drop_outdated_notes(notes, (change for change, _ in journal.done))
    return RunResult(
        first or Plan(), journal.done, plan.results, errors, current_notes,
        unreadable=tuple(unreadable), attachments=attachments,
    )  # fmt: skip


def preview_errors(planner: Planner, api: Api, backends: Mapping[str, Backend]) -> dict[str, YoshiError]:
    """Return the owners that a run would refuse, and why, as far as this is known in advance; nothing is written.

    Raises:
        YoshiError: nothing could be planned.
    """
    plan = planner(PlanContext(new_snapshot(api), backends, RunContext(preview=True)))
    return {**plan.errors, **Permissions(api).all_errors(plan)}


def _plan_with_retries(
    plan_round: _PlanRound, api: Api, context: RunContext, *, started: bool
) -> tuple[Plan, Snapshot]:
    """Return the next plan and its snapshot; a run that has made changes waits for an unresponsive API server."""
    for pause in READ_RETRY_DELAYS if started else ():
        snapshot = new_snapshot(api)
        try:
            return plan_round(snapshot, context), snapshot
        except TRANSIENT_ERRORS:
            api.clock.sleep(pause * (0.5 + 0.5 * context.rng.random()))
    snapshot = new_snapshot(api)
    return plan_round(snapshot, context), snapshot


def _snapshot_after(plan: Plan, result: ApplyResult, snapshot: Snapshot) -> Snapshot | None:
    """Return the snapshot with the responses to a round's writes; None if they do not suffice (see Plan)."""
    objects = {change.ref: answer for change, answer in result.executed if answer is not None}
    answered = len(result.executed) == len(list(plan)) and all(
        answer is not None and change.verb in (Verb.CREATE, Verb.PATCH, Verb.REPLACE)
        for change, answer in result.executed
    )
    return snapshot.with_written(objects) if answered and plan.answers_suffice and not plan.requeue else None


def _plan_without_reading(plan_round: _PlanRound, snapshot: Snapshot, context: RunContext) -> Plan | None:
    """Return an empty plan, with its notes, if nothing is left to do according to the snapshot; else None."""
    try:
        plan = plan_round(snapshot, context)
    except (MissingQueriesError, YoshiError):
        return None
    return None if plan or plan.errors else plan


def _preview_later_rounds(plan_round: _PlanRound, plan: Plan, snapshot: Snapshot, context: RunContext) -> Plan:
    """Return what a run will do after its first plan, as far as a preview shows it.

    Raises:
        YoshiError: it would be refused after its first write.
    """
    return plan_round(snapshot, replace(context, preview=True)) if plan.requeue else Plan()


def _dry_run(plan: Plan, snapshot: Snapshot, api: Api, options: RunOptions) -> RunResult:
    notes, unreadable = tuple(dict.fromkeys(plan.notes)), tuple(snapshot.unreadable_reasons())
    done = RunResult(
        plan, (), plan.results, plan.errors, notes,
        unreadable=unreadable, attachments=plan.attachments, is_dry_run=True,
    )  # fmt: skip
    if options.dry_run == "client":
        return done
    result = apply_plan(plan, api, dry_run=True, progress=options.progress)
    failed = {change.owner: error for change, error in result.failed}
    if "" in failed:
        raise failed[""]
    return replace(done, executed=result.executed, errors={**plan.errors, **failed}, skipped=result.skipped)


def _target(change: Change) -> tuple[ObjectRef, str]:
    return change.ref, change.subresource


def _classify_failures(
    result: ApplyResult, plan: Plan, exhausted: Collection[tuple[ObjectRef, str]], *, can_retry: bool
) -> tuple[dict[str, YoshiError], YoshiError | None]:
    """Return permanent failures by owner, and one failure that another round may resolve; None for no retry."""
    fatal: dict[str, YoshiError] = {}
    retryable: YoshiError | None = None
    for change, error in result.failed:
        if can_retry and _target(change) not in exhausted and _is_retryable(change, error):
            retryable = error
        else:
            fatal |= _errors_by_owner([(change, error)], plan)
    return fatal, retryable


def _errors_by_owner(failed: Iterable[tuple[Change, YoshiError]], plan: Plan) -> dict[str, YoshiError]:
    """Return errors by the owner of their changes; the error of a change without an owner applies to all owners."""
    fatal: dict[str, YoshiError] = {}
    for change, error in failed:
        fatal.update(dict.fromkeys([change.owner] if change.owner else ["", *plan.results], error))
    return fatal


def _is_retryable(change: Change, error: YoshiError) -> bool:
    if isinstance(error, PatchTestFailedError | ConflictError | OutdatedError | AMBIGUOUS_ERRORS):
        return True
    if isinstance(error, AlreadyExistsError):
        return change.verb is Verb.CREATE
    return isinstance(error, NotFoundError) and change.verb is not Verb.CREATE


def _write_counters(counts: Iterable[Count], api: Api) -> None:
    """Write the counters of large networks after a run; best effort, as they are for people only."""
    for count in counts:
        try:
            if count.in_blocks is None:
                query = counting_query(count.network)
                blocks = new_snapshot(api, discover=False)
                rows = blocks.lookup(query)
                if blocks.unreadable_reason(query):
                    continue
                count = Count(count.network, count_blocks(count.network, rows))
            if change := count_change(count, RunContext().now):
                send_change(change, api, dry_run=False, waiters={})
        except ClusterError:
            continue


def _version_number(obj: Json) -> int:
    """Return the resourceVersion as a number, by which the versions of one object are ordered; 0 if it is none.

    Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
    """
    version = resource_version_of(obj)
    return int(version) if version.isdecimal() else 0


def _clean_up(result: ApplyResult, api: Api) -> None:
    """Correct outdated counters, delete empty blocks, and send the follow-ups of the changes.

    This is best effort by design: the next writer does it again.
    """
    latest: dict[ObjectRef, Json] = {}
    for change, answer in result.executed:
        if answer is not None and change.verb is Verb.PATCH and change.subresource == "status":
            latest[change.ref] = max(latest.get(change.ref, answer), answer, key=_version_number)
    now = RunContext().now
    clean_ups = [delete_empty_block(answer, now) or fix_counters(answer) for answer in latest.values()]
    for change_or_none in (*clean_ups, *list_follow_ups(change for change, _ in result.executed)):
        if change_or_none is not None:
            try:
                send_change(change_or_none, api, dry_run=False, waiters={})
            except ClusterError:
                continue
