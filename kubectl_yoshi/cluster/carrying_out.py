"""Carrying a plan out: its stages in order, a stage's changes side by side, each outcome recorded.

Patches of one stage that go to the same object are sent as one, and so are replacements that are made by edits.

An error in a change that is for somebody (Change.subject) stops that one's later changes and nobody else's; an error
in a change that is for all stops everything after its stage. Nothing is undone: running the command again observes,
plans and goes on from there (invariant I7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from itertools import count
from operator import itemgetter

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound, NotServed, TestFailed
from kubectl_yoshi.cluster.waiting import Waiter
from kubectl_yoshi.cluster.waiting import waiters as all_waiters
from kubectl_yoshi.model.budget import must_fit
from kubectl_yoshi.model.change import Change, Plan, Verb, joint_operations
from kubectl_yoshi.model.errors import Refused, YoshiError
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


_Result = Json | YoshiError | None
_Sent = Future[list[_Result]]
"""What became of each of the changes that went in one request: the server's answer, None (see Outcome), or an error."""
_Placed = tuple[int, Change]
"""A change and its place in the plan."""

MOST_OPERATIONS = 5000
"""Of one JSON Patch; the API server takes 10,000."""
CONFLICT_SECONDS = 20.0
"""How long an object that others change again and again is read again and edited again."""
LONGEST_PAUSE = 0.05
"""Seconds between two such tries, at most."""


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
                request = [change for _, change in together]
                sent = pool.submit(send_together, request, self.api, dry_run=self.dry_run, waiters=self.waiters)
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
        error = None if sent.cancelled() else sent.exception()
        for number, (place, change) in enumerate(together):
            if place in self.recorded:  # Ctrl-C came right after it was
                continue
            self.recorded.add(place)
            if sent.cancelled():
                self.skip(place, change)
            elif error is not None and not isinstance(error, YoshiError):
                raise error
            else:
                self.record(place, change, error or sent.result()[number])

    def record(self, place: int, change: Change, result: _Result) -> None:
        if not isinstance(result, YoshiError):
            self.done.append((place, change, result))
            self.progress(change, "done")
        elif self.dry_run and self.needs_earlier(change, result):
            self.skip(place, change)
        else:
            self.failed.append((place, change, result))
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
    """Groups the JSON Patches and the edits of a stage by object: what goes to one object goes in one request.

    So an object with many records is written once, not once per VM; when one of a patch's tests fails, none is done,
    and whoever planned looks again.
    """
    groups: list[list[_Placed]] = []
    open_group: dict[tuple[ObjectRef, str, Verb], list[_Placed]] = {}
    sizes: dict[tuple[ObjectRef, str, Verb], int] = {}
    for place, change in placed:
        if change.verb is not Verb.PATCH and change.edit is None:
            groups.append([(place, change)])
            continue
        key = (change.ref, change.subresource, change.verb)
        size = len(change.body) if change.verb is Verb.PATCH else 0
        if key not in open_group or sizes[key] + size > MOST_OPERATIONS:
            open_group[key], sizes[key] = [], 0
            groups.append(open_group[key])
        open_group[key].append((place, change))
        sizes[key] += size
    return groups


def must_all_fit(plan: Plan) -> None:
    """For a plan that is only shown: raises Refused where an object would become too large (see model.budget)."""
    for stage in plan.stages:
        for together in in_one_request(list(enumerate(stage))):
            must_fit(joined([change for _, change in together]))


def joined(changes: list[Change]) -> Change:
    """One change that is all of these patches, or edits, of one object."""
    if len(changes) == 1:
        return changes[0]
    if changes[0].edit is not None:
        return replace(changes[0], body=_edited(changes[0].before or {}, changes)[0])
    return replace(changes[0], body=joint_operations(change.body for change in changes))


def send_together(changes: list[Change], api: Api, *, dry_run: bool, waiters: Mapping[str, Waiter]) -> list[_Result]:
    """Sends changes that go in one request.

    Returns:
        What became of each: what the server answered, None as for `send`, or why it was refused alone.

    Raises:
        Refused, ClusterError: see `send`; none of them was done.
    """
    if changes[0].edit is None:
        return [send(joined(changes), api, dry_run=dry_run, waiters=waiters)] * len(changes)
    return _replace_edited(changes, api, dry_run=dry_run)


def _replace_edited(changes: list[Change], api: Api, *, dry_run: bool) -> list[_Result]:
    """Replaces an object by what all edits make of it; on a conflict, edits it again as it is then.

    Raises:
        Refused: others have changed it again and again.
    """
    ref, subresource, before = changes[0].ref, changes[0].subresource, changes[0].before or {}
    until = api.clock.now() + CONFLICT_SECONDS
    for number in count():
        after, results = _edited(before, changes)
        if after is before:
            return results
        must_fit(replace(changes[0], body=after, before=before))
        try:
            answer = api.replace(ref, after, subresource=subresource, dry_run=dry_run)
            return [answer if result is after else result for result in results]
        except Conflict:
            if api.clock.now() >= until:
                break
        api.clock.sleep(api.clock.jitter() * min(0.002 * 2 ** min(number, 9), LONGEST_PAUSE))
        before = api.get(ref)
    raise Refused(
        f"{ref} was changed by others again and again for {CONFLICT_SECONDS:.0f} s", "Run the same command again later."
    )


def _edited(before: Json, changes: list[Change]) -> tuple[Json, list[_Result]]:
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
    return after, [one if isinstance(one, YoshiError) else after if one else None for one in changed]


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
