"""Apply a plan: its stages in order, the changes of a stage in parallel, each outcome recorded.

Patches of one stage to the same object are sent as one request, and so are replacements that are made by edits.

An error in a change that has an owner (Change.owner) stops the later changes of this owner only; an error in a change
without an owner stops everything after its stage. Nothing is undone: running the command again reads the cluster, plans
and continues from there (invariant I7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from itertools import count
from operator import itemgetter

from kubectl_yoshi.engine.permissions import is_allowed
from kubectl_yoshi.engine.wait import Waiter
from kubectl_yoshi.engine.wait import waiters as all_waiters
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    InvalidError,
    NotFoundError,
    NotServedError,
    PatchTestFailedError,
    PolicyDeniedError,
)
from kubectl_yoshi.model.access import Access
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.jsonpatch import merge_json_patches
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.vm import VM

MAX_PARALLEL = 16
"""Maximum number of requests at the same time."""

ProgressCallback = Callable[[Change, str], None]
"""Called in the calling thread with a change and its outcome: "done", "failed", "skipped"."""


@dataclass(frozen=True)
class ApplyResult:
    """The outcome of a plan's changes, each list in the plan's order.

    Attributes:
        executed: applied changes with the server's response; None if there was nothing to send, or it was in effect.
        failed: with the error.
        skipped: not sent.
        interrupted: the user pressed Ctrl-C; changes not sent by then are in `skipped`.
    """

    executed: tuple[tuple[Change, Json | None], ...] = ()
    failed: tuple[tuple[Change, YoshiError], ...] = ()
    skipped: tuple[Change, ...] = ()
    interrupted: bool = False

    def raise_first(self) -> None:
        """Raise the first failure, if there is one."""
        for _, error in self.failed:
            raise error


def apply_plan(
    plan: Plan,
    api: Api,
    *,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    waiters: Mapping[str, Waiter] | None = None,
) -> ApplyResult:
    """Send the changes of a plan.

    On Ctrl-C no further change is sent, those in flight are awaited, so that their outcome is known, and the result is
    returned with `interrupted` set; nothing is raised.

    Args:
        dry_run: send them with dryRun=All. Results of earlier changes do not exist then: changes that need them are
            skipped. Nothing is waited for.
        progress: see ProgressCallback.
        waiters: by the value of Change.wait_for; None for those of wait.waiters().
    """
    applier = _PlanApplier(
        api, dry_run, progress or (lambda change, state: None), all_waiters() if waiters is None else waiters
    )
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        for stage in plan.stages:
            applier.stage(stage, pool)
    return applier.result()


_ChangeResult = Json | YoshiError | None
_RequestFuture = Future[list[_ChangeResult]]
"""The outcome of each change of one request: the server's response, None (see ApplyResult), or an error."""
_IndexedChange = tuple[int, Change]
"""A change and its position in the plan."""

MAX_OPERATIONS = 5000
"""Maximum number of operations in one JSON Patch; the API server accepts 10,000."""
CONFLICT_SECONDS = 20.0
"""How long, in seconds, the edit of an object is repeated while other clients keep changing the object."""
MAX_PAUSE = 0.05
"""Maximum pause between two such attempts, in seconds."""
POLICY_SECONDS = 5.0
"""How long, in seconds, a change is repeated that a policy refuses because of allocations it may not have read yet.

A write of an allocation reaches the policies of the same API server within some milliseconds, those of others later.
"""
MAX_POLICY_PAUSE = 0.5
"""Maximum pause between two such attempts, in seconds."""


@dataclass
class _PlanApplier:
    """The application of one plan, with the outcomes so far."""

    api: Api
    dry_run: bool
    progress: ProgressCallback
    waiters: Mapping[str, Waiter]
    done: list[tuple[int, Change, Json | None]] = field(default_factory=list)
    failed: list[tuple[int, Change, YoshiError]] = field(default_factory=list)
    skipped: list[_IndexedChange] = field(default_factory=list)
    failed_owners: set[str] = field(default_factory=set)
    touched: set[ObjectRef] = field(default_factory=set)
    recorded: set[int] = field(default_factory=set)
    next_index: int = 0
    interrupted: bool = False

    def result(self) -> ApplyResult:
        by_index = itemgetter(0)
        return ApplyResult(
            executed=tuple((change, answer) for _, change, answer in sorted(self.done, key=by_index)),
            failed=tuple((change, error) for _, change, error in sorted(self.failed, key=by_index)),
            skipped=tuple(change for _, change in sorted(self.skipped, key=by_index)),
            interrupted=self.interrupted,
        )

    def stage(self, changes: tuple[Change, ...], pool: ThreadPoolExecutor) -> None:
        blocked = [self.is_stopped(change) for change in changes]  # before any of them fails
        to_send: list[_IndexedChange] = []
        futures: dict[_RequestFuture, list[_IndexedChange]] = {}
        try:
            for index, (change, is_blocked) in enumerate(zip(changes, blocked, strict=True), self.next_index):
                if is_blocked:
                    self.skip(index, change)
                else:
                    to_send.append((index, change))
            for group in group_by_request(to_send, self.must_separate(to_send)):
                request = [change for _, change in group]
                future = pool.submit(send_merged, request, self.api, dry_run=self.dry_run, waiters=self.waiters)
                futures[future] = group
            for future in as_completed(list(futures)):
                self.record_all(future, futures[future])
        except KeyboardInterrupt:
            self.interrupt(futures)
        self.next_index += len(changes)
        if self.dry_run:
            self.touched |= {change.ref for change in changes if change.verb is not Verb.WAIT}

    def interrupt(self, futures: dict[_RequestFuture, list[_IndexedChange]]) -> None:
        """Cancel requests that have not started, end waits, and await requests in flight."""
        self.interrupted = True
        for future in futures:
            future.cancel()
        self.api.clock.stop()
        try:
            for future, group in futures.items():
                self.record_all(future, group)
        finally:
            self.api.clock.stop(False)

    def record_all(self, future: _RequestFuture, group: list[_IndexedChange]) -> None:
        error = None if future.cancelled() else future.exception()
        for number, (index, change) in enumerate(group):
            if index in self.recorded:  # Ctrl-C came right after it was recorded
                continue
            self.recorded.add(index)
            if future.cancelled():
                self.skip(index, change)
            elif error is not None and not isinstance(error, YoshiError):
                raise error
            else:
                self.record(index, change, error or future.result()[number])

    def record(self, index: int, change: Change, result: _ChangeResult) -> None:
        if not isinstance(result, YoshiError):
            self.done.append((index, change, result))
            self.progress(change, "done")
        elif self.dry_run and self.needs_earlier(change, result):
            self.skip(index, change)
        else:
            self.failed.append((index, change, result))
            self.failed_owners.add(change.owner)
            self.progress(change, "failed")

    def skip(self, index: int, change: Change) -> None:
        self.skipped.append((index, change))
        self.progress(change, "skipped")

    def is_stopped(self, change: Change) -> bool:
        """Return whether a change of the next stage must not be sent."""
        return self.interrupted or bool(self.failed_owners & {"", change.owner})

    def must_separate(self, changes: list[_IndexedChange]) -> bool:
        """Return whether patches of several namespaces go in separate requests (see Change.vm_namespace).

        The permission is checked only where there are several namespaces.
        """
        namespaces = {change.vm_namespace for _, change in changes if change.vm_namespace}
        return len(namespaces) > 1 and not is_allowed(self.api, Access("patch", VM))

    def needs_earlier(self, change: Change, error: YoshiError) -> bool:
        """Return whether a dry run failed only because an earlier change is not persisted."""
        if isinstance(error, PolicyDeniedError):
            is_allocated = any(ref.resource in (NETWORKWIZARD, ADDRESSBLOCK) for ref in self.touched)
            return error.compares_with_allocations and is_allocated
        if isinstance(error, NotServedError):
            return any(ref.resource.plural == "customresourcedefinitions" for ref in self.touched)
        if not isinstance(error, NotFoundError | PatchTestFailedError | ConflictError | AlreadyExistsError):
            return False
        return any(
            ref == change.ref or (ref.resource.plural == "namespaces" and ref.name == change.ref.namespace)
            for ref in self.touched
        )


def group_by_request(changes: list[_IndexedChange], separate_namespaces: bool = False) -> list[list[_IndexedChange]]:
    """Group the JSON Patches and edits of a stage by object, so that each object is written with one request.

    An object with many records is then written once, not once per VM. If one test of the merged patch fails, nothing is
    applied, and the planner runs again.

    Args:
        changes: those of a stage.
        separate_namespaces: one request for each Change.vm_namespace.
    """
    groups: list[list[_IndexedChange]] = []
    open_group: dict[tuple[ObjectRef, str, Verb, str], list[_IndexedChange]] = {}
    sizes: dict[tuple[ObjectRef, str, Verb, str], int] = {}
    for index, change in changes:
        if change.verb is not Verb.PATCH and change.edit is None:
            groups.append([(index, change)])
            continue
        namespace = change.vm_namespace if separate_namespaces else ""
        key = (change.ref, change.subresource, change.verb, namespace)
        size = len(change.body) if change.verb is Verb.PATCH else 0
        if key not in open_group or sizes[key] + size > MAX_OPERATIONS:
            open_group[key], sizes[key] = [], 0
            groups.append(open_group[key])
        open_group[key].append((index, change))
        sizes[key] += size
    return groups


def merge_changes(changes: list[Change]) -> Change:
    """Merge patches, or edits, of one object into one change."""
    if len(changes) == 1:
        return changes[0]
    if changes[0].edit is not None:
        return replace(changes[0], body=_apply_edits(changes[0].before or {}, changes)[0])
    return replace(changes[0], body=merge_json_patches(change.body for change in changes))


def send_merged(
    changes: list[Change], api: Api, *, dry_run: bool, waiters: Mapping[str, Waiter]
) -> list[_ChangeResult]:
    """Send changes that belong to one request.

    Returns:
        The outcome of each: the server's response, None as for `send_change`, or why it alone was refused.

    Raises:
        PreconditionFailed, ClusterError: see `send_change`; none of them was applied.
    """
    if changes[0].edit is None:
        return [send_change(merge_changes(changes), api, dry_run=dry_run, waiters=waiters)] * len(changes)
    return _replace_with_edits(changes, api, dry_run=dry_run)


def _replace_with_edits(changes: list[Change], api: Api, *, dry_run: bool) -> list[_ChangeResult]:
    """Replace an object by the result of all edits; after a conflict, edit the current object again.

    Raises:
        PreconditionFailed: other clients keep changing the object.
    """
    ref, subresource, before = changes[0].ref, changes[0].subresource, changes[0].before or {}
    deadline = api.clock.now() + CONFLICT_SECONDS
    for number in count():
        after, results = _apply_edits(before, changes)
        if after is before:
            return results
        try:
            answer = api.replace(ref, after, subresource=subresource, dry_run=dry_run)
            return [answer if result is after else result for result in results]
        except ConflictError:
            if api.clock.now() >= deadline:
                break
        api.clock.sleep(api.clock.jitter() * min(0.002 * 2 ** min(number, 9), MAX_PAUSE))
        before = api.get(ref)
    raise PreconditionFailed(
        f"{ref} was changed by other clients repeatedly for {CONFLICT_SECONDS:.0f} s",
        "Run the same command again later.",
    )


def _apply_edits(before: Json, changes: list[Change]) -> tuple[Json, list[_ChangeResult]]:
    """Apply edits one after another to an object.

    Returns:
        The object after all edits, and the outcome of each: the object, None if nothing was left to change, or the
        error.
    """
    after = before
    changed: list[bool | YoshiError] = []
    for change in changes:
        assert change.edit is not None
        try:
            edited = change.edit(after)
        except YoshiError as error:
            changed.append(error)
        else:
            changed.append(edited is not after)
            after = edited
    return after, [result if isinstance(result, YoshiError) else after if result else None for result in changed]


def send_change(change: Change, api: Api, *, dry_run: bool, waiters: Mapping[str, Waiter]) -> Json | None:
    """Send one change.

    Returns:
        The server's response; None if nothing was sent, or the change was already in effect.

    Raises:
        ClusterError: it was refused, or nothing answered.
    """
    try:
        return _send_until_admitted(change, api, dry_run, waiters)
    except ApiError as error:
        if _is_already_applied(change, error):
            return None
        if isinstance(error, InvalidError) and not error.hint:
            error.hint = change.rejection_hint
        raise


def _send_until_admitted(change: Change, api: Api, dry_run: bool, waiters: Mapping[str, Waiter]) -> Json | None:
    """Send a change, again while a policy refuses it that may not have read a new allocation yet (POLICY_SECONDS)."""
    deadline, pause = api.clock.now() + POLICY_SECONDS, 0.02
    while True:
        try:
            return _send_request(change, api, dry_run, waiters)
        except PolicyDeniedError as error:
            if dry_run or not error.compares_with_allocations or api.clock.now() >= deadline:
                raise
        api.clock.sleep(pause * (0.5 + 0.5 * api.clock.jitter()))
        pause = min(2 * pause, MAX_POLICY_PAUSE)


def _send_request(change: Change, api: Api, dry_run: bool, waiters: Mapping[str, Waiter]) -> Json | None:
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


def _is_already_applied(change: Change, error: ApiError) -> bool:
    if change.ignore_not_found and isinstance(error, NotFoundError | NotServedError):
        return True
    if change.ignore_not_found and change.uid and isinstance(error, ConflictError):
        # the intended object no longer exists; another one has its name
        return "UID in the precondition" in error.detail
    return change.ignore_already_exists and isinstance(error, AlreadyExistsError)
