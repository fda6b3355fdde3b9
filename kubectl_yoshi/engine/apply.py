"""Carrying a plan out: its stages in order, a stage's changes side by side, each outcome recorded.

Patches of one stage that go to the same object are sent as one, and so are replacements that are made by edits.

An error in a change that is for somebody (Change.owner) stops that one's later changes and nobody else's; an error
in a change that is for all stops everything after its stage. Nothing is undone: running the command again observes,
plans and goes on from there (invariant I7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from itertools import count
from operator import itemgetter

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
)
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.jsonpatch import merge_json_patches
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan, Verb

MAX_PARALLEL = 16

ProgressCallback = Callable[[Change, str], None]
"""Told of a change, in the calling thread, and what became of it: "done", "failed", "skipped"."""


@dataclass(frozen=True)
class ApplyResult:
    """What became of a plan's changes, each list in the plan's order.

    Attributes:
        done: with what the server answered; None where there was nothing to send, or it was so already.
        failed: with the error.
        skipped: not sent.
        interrupted: the user pressed Ctrl-C; what had not been sent then is in `skipped`.
    """

    executed: tuple[tuple[Change, Json | None], ...] = ()
    failed: tuple[tuple[Change, YoshiError], ...] = ()
    skipped: tuple[Change, ...] = ()
    interrupted: bool = False

    def raise_first(self) -> None:
        """Raises the first failure, if there is one."""
        for _, error in self.failed:
            raise error


def apply_plan(
    plan: Plan,
    api: Api,
    *,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    parallel: int = MAX_PARALLEL,
    waiters: Mapping[str, Waiter] | None = None,
) -> ApplyResult:
    """Sends a plan's changes.

    On Ctrl-C no further change is sent, those under way are waited for, so that it is known what became of them, and
    the outcome is returned with `interrupted` set; nothing is raised.

    Args:
        dry_run: with dryRun=All. What an earlier change of the plan would have made is not there then: changes that
            need it are skipped. Nothing is waited for.
        progress: see ProgressCallback.
        parallel: how many requests at once.
        waiters: what the plan may wait for; waiting.waiters() unless given.
    """
    applier = _PlanApplier(
        api, dry_run, progress or (lambda change, state: None), all_waiters() if waiters is None else waiters
    )
    with ThreadPoolExecutor(parallel) as pool:
        for stage in plan.stages:
            applier.stage(stage, pool)
    return applier.result()


_ChangeResult = Json | YoshiError | None
_RequestFuture = Future[list[_ChangeResult]]
"""What became of each of the changes that went in one request: the server's answer, None (see ApplyResult), or an
error."""
_IndexedChange = tuple[int, Change]
"""A change and its place in the plan."""

MAX_OPERATIONS = 5000
"""Of one JSON Patch; the API server takes 10,000."""
CONFLICT_SECONDS = 20.0
"""How long an object that others change again and again is read again and edited again."""
MAX_PAUSE = 0.05
"""Seconds between two such tries, at most."""


@dataclass
class _PlanApplier:
    """One carrying out: what has become of the changes so far."""

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
            for group in group_by_request(to_send):
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
        """Cancels what has not begun, hurries what waits, and waits for what is on its way."""
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
            if index in self.recorded:  # Ctrl-C came right after it was
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
        """Whether a change of the next stage must not be sent."""
        return self.interrupted or bool(self.failed_owners & {"", change.owner})

    def needs_earlier(self, change: Change, error: YoshiError) -> bool:
        """Whether a dry run failed only because an earlier change was not kept."""
        if isinstance(error, NotServedError):
            return any(ref.resource.plural == "customresourcedefinitions" for ref in self.touched)
        if not isinstance(error, NotFoundError | PatchTestFailedError | ConflictError | AlreadyExistsError):
            return False
        return any(
            ref == change.ref or (ref.resource.plural == "namespaces" and ref.name == change.ref.namespace)
            for ref in self.touched
        )


def group_by_request(changes: list[_IndexedChange]) -> list[list[_IndexedChange]]:
    """Groups the JSON Patches and the edits of a stage by object: what goes to one object goes in one request.

    So an object with many records is written once, not once per VM; when one of a patch's tests fails, none is done,
    and whoever planned looks again.
    """
    groups: list[list[_IndexedChange]] = []
    open_group: dict[tuple[ObjectRef, str, Verb], list[_IndexedChange]] = {}
    sizes: dict[tuple[ObjectRef, str, Verb], int] = {}
    for index, change in changes:
        if change.verb is not Verb.PATCH and change.edit is None:
            groups.append([(index, change)])
            continue
        key = (change.ref, change.subresource, change.verb)
        size = len(change.body) if change.verb is Verb.PATCH else 0
        if key not in open_group or sizes[key] + size > MAX_OPERATIONS:
            open_group[key], sizes[key] = [], 0
            groups.append(open_group[key])
        open_group[key].append((index, change))
        sizes[key] += size
    return groups


def merge_changes(changes: list[Change]) -> Change:
    """One change that is all of these patches, or edits, of one object."""
    if len(changes) == 1:
        return changes[0]
    if changes[0].edit is not None:
        return replace(changes[0], body=_apply_edits(changes[0].before or {}, changes)[0])
    return replace(changes[0], body=merge_json_patches(change.body for change in changes))


def send_merged(
    changes: list[Change], api: Api, *, dry_run: bool, waiters: Mapping[str, Waiter]
) -> list[_ChangeResult]:
    """Sends changes that go in one request.

    Returns:
        What became of each: what the server answered, None as for `send_change`, or why it was refused alone.

    Raises:
        PreconditionFailed, ClusterError: see `send_change`; none of them was done.
    """
    if changes[0].edit is None:
        return [send_change(merge_changes(changes), api, dry_run=dry_run, waiters=waiters)] * len(changes)
    return _replace_with_edits(changes, api, dry_run=dry_run)


def _replace_with_edits(changes: list[Change], api: Api, *, dry_run: bool) -> list[_ChangeResult]:
    """Replaces an object by what all edits make of it; on a conflict, edits it again as it is then.

    Raises:
        PreconditionFailed: others have changed it again and again.
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
        f"{ref} was changed by others again and again for {CONFLICT_SECONDS:.0f} s", "Run the same command again later."
    )


def _apply_edits(before: Json, changes: list[Change]) -> tuple[Json, list[_ChangeResult]]:
    """An object after all edits, each made to what the one before has left, and what became of each: the object,
    None where nothing was left to change, or why it may not be made."""
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
    """Sends one change.

    Returns:
        What the server answered; None where nothing was sent, or what was wanted is so already.

    Raises:
        ClusterError: it was refused, or nothing answered.
    """
    try:
        return _send_request(change, api, dry_run, waiters)
    except ApiError as error:
        if _is_already_applied(change, error):
            return None
        if isinstance(error, InvalidError) and not error.hint:
            error.hint = change.rejection_hint
        raise


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
        return "UID in the precondition" in error.detail  # the one that was meant is gone; another has its name
    return change.ignore_already_exists and isinstance(error, AlreadyExistsError)
