"""Carrying a plan out: its stages in order, a stage's changes side by side, each outcome recorded.

Patches of one stage that go to the same object are sent as one.

An error in a change that is for somebody (Change.subject) stops that one's later changes and nobody else's; an error
in a change that is for all stops everything after its stage. Nothing is undone: running the command again observes,
plans and goes on from there (invariant I7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from operator import itemgetter

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound, NotServed, TestFailed
from kubectl_yoshi.cluster.waiting import Waiter
from kubectl_yoshi.cluster.waiting import waiters as all_waiters
from kubectl_yoshi.model.budget import must_fit
from kubectl_yoshi.model.change import Change, Plan, Verb, joint_operations
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, ObjectRef

PARALLEL = 16

Progress = Callable[[Change, str], None]
"""Told of a change, in the calling thread, and what became of it: "done", "failed", "skipped"."""


@dataclass(frozen=True)
class Outcome:
    """What became of a plan's changes, each list in the plan's order.

    Attributes:
        done: with what the server answered; None where there was nothing to send, or it was so already.
        failed: with the error.
        skipped: not sent.
        interrupted: the user pressed Ctrl-C; what had not been sent then is in `skipped`.
    """

    done: tuple[tuple[Change, Json | None], ...] = ()
    failed: tuple[tuple[Change, YoshiError], ...] = ()
    skipped: tuple[Change, ...] = ()
    interrupted: bool = False

    def raise_first(self) -> None:
        """Raises the first failure, if there is one."""
        for _, error in self.failed:
            raise error


def carry_out(
    plan: Plan,
    api: Api,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    parallel: int = PARALLEL,
    waiters: Mapping[str, Waiter] | None = None,
) -> Outcome:
    """Sends a plan's changes.

    On Ctrl-C no further change is sent, those under way are waited for, so that it is known what became of them, and
    the outcome is returned with `interrupted` set; nothing is raised.

    Args:
        dry_run: with dryRun=All. What an earlier change of the plan would have made is not there then: changes that
            need it are skipped. Nothing is waited for.
        progress: see Progress.
        parallel: how many requests at once.
        waiters: what the plan may wait for; waiting.waiters() unless given.
    """
    run = _Run(api, dry_run, progress or (lambda change, state: None), all_waiters() if waiters is None else waiters)
    with ThreadPoolExecutor(parallel) as pool:
        for stage in plan.stages:
            run.stage(stage, pool)
    return run.outcome()


_Sent = Future[Json | None]
_Placed = tuple[int, Change]
"""A change and its place in the plan."""

MOST_OPERATIONS = 5000
"""Of one JSON Patch; the API server takes 10,000."""


@dataclass
class _Run:
    """One carrying out: what has become of the changes so far."""

    api: Api
    dry_run: bool
    progress: Progress
    waiters: Mapping[str, Waiter]
    done: list[tuple[int, Change, Json | None]] = field(default_factory=list)
    failed: list[tuple[int, Change, YoshiError]] = field(default_factory=list)
    skipped: list[_Placed] = field(default_factory=list)
    failed_subjects: set[str] = field(default_factory=set)
    touched: set[ObjectRef] = field(default_factory=set)
    recorded: set[int] = field(default_factory=set)
    begun: int = 0
    interrupted: bool = False

    def outcome(self) -> Outcome:
        in_order = itemgetter(0)
        return Outcome(
            done=tuple((change, answer) for _, change, answer in sorted(self.done, key=in_order)),
            failed=tuple((change, error) for _, change, error in sorted(self.failed, key=in_order)),
            skipped=tuple(change for _, change in sorted(self.skipped, key=in_order)),
            interrupted=self.interrupted,
        )

    def stage(self, changes: tuple[Change, ...], pool: ThreadPoolExecutor) -> None:
        stopped = [self.is_stopped(change) for change in changes]  # before any of them fails
        going: list[_Placed] = []
        waiting: dict[_Sent, list[_Placed]] = {}
        try:
            for place, (change, stops) in enumerate(zip(changes, stopped, strict=True), self.begun):
                if stops:
                    self.skip(place, change)
                else:
                    going.append((place, change))
            for together in in_one_request(going):
                request = joined([change for _, change in together])
                sent = pool.submit(send, request, self.api, dry_run=self.dry_run, waiters=self.waiters)
                waiting[sent] = together
            for sent in as_completed(list(waiting)):
                self.record_all(sent, waiting[sent])
        except KeyboardInterrupt:
            self.interrupt(waiting)
        self.begun += len(changes)
        if self.dry_run:
            self.touched |= {change.ref for change in changes if change.verb is not Verb.WAIT}

    def interrupt(self, waiting: dict[_Sent, list[_Placed]]) -> None:
        """Cancels what has not begun, hurries what waits, and waits for what is on its way."""
        self.interrupted = True
        for sent in waiting:
            sent.cancel()
        self.api.clock.stop()
        try:
            for sent, together in waiting.items():
                self.record_all(sent, together)
        finally:
            self.api.clock.stop(False)

    def record_all(self, sent: _Sent, together: list[_Placed]) -> None:
        for place, change in together:
            self.record(sent, place, change)

    def record(self, sent: _Sent, place: int, change: Change) -> None:
        if place in self.recorded:  # Ctrl-C came right after it was
            return
        self.recorded.add(place)
        error = None if sent.cancelled() else sent.exception()
        if sent.cancelled():
            self.skip(place, change)
        elif error is None:
            self.done.append((place, change, sent.result()))
            self.progress(change, "done")
        elif not isinstance(error, YoshiError):
            raise error
        elif self.dry_run and self.needs_earlier(change, error):
            self.skip(place, change)
        else:
            self.failed.append((place, change, error))
            self.failed_subjects.add(change.subject)
            self.progress(change, "failed")

    def skip(self, place: int, change: Change) -> None:
        self.skipped.append((place, change))
        self.progress(change, "skipped")

    def is_stopped(self, change: Change) -> bool:
        """Whether a change of the next stage must not be sent."""
        return self.interrupted or bool(self.failed_subjects & {"", change.subject})

    def needs_earlier(self, change: Change, error: YoshiError) -> bool:
        """Whether a dry run failed only because an earlier change was not kept."""
        if isinstance(error, NotServed):
            return any(ref.resource.plural == "customresourcedefinitions" for ref in self.touched)
        if not isinstance(error, NotFound | TestFailed | Conflict | AlreadyExists):
            return False
        return any(
            ref == change.ref or (ref.resource.plural == "namespaces" and ref.name == change.ref.namespace)
            for ref in self.touched
        )


def in_one_request(placed: list[_Placed]) -> list[list[_Placed]]:
    """Groups the JSON Patches of a stage by object: what goes to one object side by side goes in one request.

    So an object with many records is written once, not once per VM; when one of the tests fails, none is done, and
    whoever planned looks again.
    """
    groups: list[list[_Placed]] = []
    open_group: dict[tuple[ObjectRef, str], list[_Placed]] = {}
    sizes: dict[tuple[ObjectRef, str], int] = {}
    for place, change in placed:
        if change.verb is not Verb.PATCH:
            groups.append([(place, change)])
            continue
        key = (change.ref, change.subresource)
        if key not in open_group or sizes[key] + len(change.body) > MOST_OPERATIONS:
            open_group[key], sizes[key] = [], 0
            groups.append(open_group[key])
        open_group[key].append((place, change))
        sizes[key] += len(change.body)
    return groups


def must_all_fit(plan: Plan) -> None:
    """For a plan that is only shown: raises Refused where an object would become too large (see model.budget)."""
    for stage in plan.stages:
        for together in in_one_request(list(enumerate(stage))):
            must_fit(joined([change for _, change in together]))


def joined(changes: list[Change]) -> Change:
    """One change that is all of these patches of one object."""
    if len(changes) == 1:
        return changes[0]
    return replace(changes[0], body=joint_operations(change.body for change in changes))


def send(change: Change, api: Api, *, dry_run: bool, waiters: Mapping[str, Waiter]) -> Json | None:
    """Sends one change.

    Returns:
        What the server answered; None where nothing was sent, or what was wanted is so already.

    Raises:
        Refused: its object would become too large.
        ClusterError: it was refused, or nothing answered.
    """
    must_fit(change)
    try:
        return _request(change, api, dry_run, waiters)
    except ApiError as error:
        if _already_so(change, error):
            return None
        if isinstance(error, Invalid) and not error.way_out:
            error.way_out = change.if_refused
        raise


def _request(change: Change, api: Api, dry_run: bool, waiters: Mapping[str, Waiter]) -> Json | None:
    ref, body, sub = change.ref, change.body, change.subresource
    if change.verb is Verb.CREATE:
        return api.create(ref, body, subresource=sub, strict=change.strict, dry_run=dry_run)
    if change.verb is Verb.PATCH:
        return api.patch(ref, body, subresource=sub, dry_run=dry_run)
    if change.verb is Verb.REPLACE:
        return api.replace(ref, body, subresource=sub, dry_run=dry_run)
    if change.verb is Verb.APPLY:
        return api.apply(ref, body, subresource=sub, dry_run=dry_run)
    if change.verb is Verb.DELETE:
        return api.delete(ref, uid=change.uid, resource_version=change.resource_version, dry_run=dry_run)
    if change.verb is Verb.CALL:
        return api.call(ref, sub, body, dry_run=dry_run)
    if not dry_run:
        waiters[change.wait_for](api, change)
    return None


def _already_so(change: Change, error: ApiError) -> bool:
    if change.tolerate_missing and isinstance(error, NotFound | NotServed):
        return True
    if change.tolerate_missing and change.uid and isinstance(error, Conflict):
        return "UID in the precondition" in error.detail  # the one that was meant is gone; another has its name
    return change.tolerate_existing and isinstance(error, AlreadyExists)
