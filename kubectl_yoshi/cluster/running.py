"""Observe, plan, carry out, until nothing is left to do: the one loop behind every command that changes something.

A planner is a pure function of what was read; it raises NeedMore for what it wants to know, and is asked again with
the answers. When a write is refused because somebody was faster, or its fate is unknown, everything is read anew and
planned anew; when it fails for good, or does not stick (see repetition), the planner is told and takes back what this
run had done.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.carrying_out import Outcome, Progress, carry_out, must_all_fit, send
from kubectl_yoshi.cluster.course import UNCLEAR, Course, Fate
from kubectl_yoshi.cluster.errors import (
    AlreadyExists,
    Busy,
    ClusterError,
    Conflict,
    Endless,
    NotFound,
    ServerError,
    TestFailed,
    TimedOut,
    Unreachable,
)
from kubectl_yoshi.cluster.observing import Planner, observe
from kubectl_yoshi.cluster.permissions import Permissions
from kubectl_yoshi.cluster.repetition import Round
from kubectl_yoshi.cluster.waiting import Waiter
from kubectl_yoshi.model.change import Change, Plan, Verb
from kubectl_yoshi.model.errors import Outdated, YoshiError
from kubectl_yoshi.model.facts import Facts, not_seen
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.releases import without_outdated
from kubectl_yoshi.plan.tidying import empty_block, follow_ups, recount

PASSING = (Unreachable, TimedOut, Busy, ServerError)
"""What a moment later may be over."""

TRIES_WITHOUT_PROGRESS = 15
"""How often in a row somebody may be faster before this run gives up."""
TRIES_OF_A_WRITE = 4
"""How often the same write may end with an error of the server, or without an answer, before this run gives it up."""
PAUSES_OF_A_LOOK = (0.5, 1.0, 2.0, 4.0)
"""Seconds between looks while the API server gives no answer to a run that has begun to change things."""
ROUNDS = 500


@dataclass(frozen=True)
class Done:
    """What a run came to.

    Attributes:
        plan: what was planned first (under a dry run: all that there is).
        done: every change carried out, with what the server answered; None too where no answer came, and it was done.
        answers: subject -> what it has now (see Plan.answers).
        refusals: subject -> why not.
        notes: for people, each once.
        skipped: under --dry-run=server, changes that need an earlier one to be kept.
        unseen: what could not be read, each reason once.
    """

    plan: Plan
    done: tuple[tuple[Change, Json | None], ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, YoshiError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: tuple[Change, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The notes, and what could not be read as one of them."""
        return (*self.notes, *not_seen(self.unseen))

    def changed(self, subject: str = "") -> bool:
        """Whether anything was changed for a subject ("": at all).

        What several subjects share, such as a patch of a block's records, comes with changes of each one's own.
        """
        return any(not subject or change.subject == subject for change, _ in self.done)


def run(
    planner: Planner,
    api: Api,
    *,
    dry_run: str = "none",
    progress: Progress | None = None,
    waiters: Mapping[str, Waiter] | None = None,
    chance: random.Random | None = None,
) -> Done:
    """Makes true what a planner wants.

    Args:
        planner: see Planner.
        api: the cluster.
        dry_run: "client" plans only, "server" sends the plan with dryRun=All.
        progress: told of every change; of one that got no answer, again when it is seen to be done.
        waiters: see carry_out.
        chance: for random choices.

    Raises:
        YoshiError: nothing could be planned at all, or others were faster again and again.
        KeyboardInterrupt: the user pressed Ctrl-C; what was done is complete or will be by the same command.
    """
    attempt = Attempt(chance=chance or random.Random())
    if dry_run != "none":
        return _dry(planner, api, replace(attempt, preview=True), dry_run, progress)
    first: Plan | None = None
    course = Course()
    permissions = Permissions(api)
    notes: dict[str, None] = {}
    unread: dict[str, None] = {}
    stuck = 0
    last = Round()
    unclear: Counter[tuple[ObjectRef, str]] = Counter()
    for _ in range(ROUNDS):
        try:
            plan, facts = _look(planner, api, attempt, begun=first is not None)
        except YoshiError as error:
            error.so_far = course.so_far()
            raise
        first = first or plan
        for change in course.look(plan, facts, attempt.failed):
            if progress:
                progress(change, "done")
        notes.update(dict.fromkeys(plan.notes))
        unread.update(dict.fromkeys(facts.unknowns()))
        if not plan:
            break
        if not_kept := last.not_kept(plan):
            told = _by_subject(not_kept, plan)
            if told.keys() <= attempt.failed.keys():  # the planner knows it, and has nothing else to do
                not_kept[0][1].so_far = course.so_far()
                raise not_kept[0][1]
            attempt = replace(attempt, failed={**told, **attempt.failed}, earlier=facts)
            last = Round()
            continue
        later = Plan() if course.sent else _foreseen(planner, api, plan, facts, attempt)
        if forbidden := permissions.refusals(plan, later, attempt.failed):
            attempt = replace(attempt, failed={**attempt.failed, **forbidden}, earlier=facts)
            continue
        outcome = carry_out(plan, api, progress=progress, waiters=waiters)
        course.add(outcome)
        last = last.then(plan, outcome)
        _tidy(outcome, api)
        if outcome.interrupted:
            raise KeyboardInterrupt
        for change, _ in outcome.done:
            unclear.pop(_target(change), None)
        unclear.update({_target(change) for change, error in outcome.failed if isinstance(error, UNCLEAR)})
        hopeless = {target for target, times in unclear.items() if times >= TRIES_OF_A_WRITE}
        fatal, beaten = _sorted_failures(outcome, plan, hopeless, patient=stuck < TRIES_WITHOUT_PROGRESS)
        stuck = 0 if any(answer is not None for _, answer in outcome.done) else stuck + 1
        if stuck > 2 * TRIES_WITHOUT_PROGRESS:
            notes["what was begun could not be taken back; `kubectl yoshi ips gc` will"] = None
            break
        if beaten:
            # An attachment and a detachment of one VM may undo each other's first write, again and again, at one pace.
            often = max(stuck, attempt.number // 4)
            api.clock.sleep(attempt.chance.random() * min(0.02 * 2**often, 1.0))
        attempt = replace(
            attempt,
            number=attempt.number + (1 if beaten and not isinstance(beaten, UNCLEAR) else 0),
            now=datetime.now(timezone.utc),
            done=course.of(Fate.DONE, Fate.NOTHING),
            unclear=course.of(Fate.FAILED, Fate.UNANSWERED, Fate.SEEN),
            unanswered=course.of(Fate.UNANSWERED),
            failed={**attempt.failed, **fatal},
            given_up={**attempt.given_up, **plan.given_up},
            earlier=facts,
        )
    else:
        endless = Endless(f"This did not end in {ROUNDS} rounds.", "Run the same command again to complete it.")
        endless.so_far = course.so_far()
        raise endless
    refusals = course.explained({**plan.refusals, **attempt.failed}, facts, plan.answers)
    refusals.pop("", None)
    lasting = without_outdated(notes, (change for change, _ in course.done))
    return Done(first or Plan(), course.done, plan.answers, refusals, lasting, unseen=tuple(unread))


def refusals_of(planner: Planner, api: Api) -> dict[str, YoshiError]:
    """Return who would be refused by a run, and why, as far as that can be known before; nothing is written.

    Raises:
        YoshiError: nothing could be planned.
    """
    plan = observe(planner, api, None, Attempt(preview=True))[0]
    return {**plan.refusals, **Permissions(api).all_refusals(plan)}


def _look(planner: Planner, api: Api, attempt: Attempt, *, begun: bool) -> tuple[Plan, Facts]:
    """As observe; what was begun is worth some patience with an API server that gives no answer for a moment."""
    for pause in PAUSES_OF_A_LOOK if begun else ():
        try:
            return observe(planner, api, None, attempt)
        except PASSING:
            api.clock.sleep(pause * (0.5 + 0.5 * attempt.chance.random()))
    return observe(planner, api, None, attempt)


def _foreseen(planner: Planner, api: Api, plan: Plan, facts: Facts, attempt: Attempt) -> Plan:
    """What a run will do after its first plan, as far as a preview shows it.

    Raises:
        YoshiError: it would be refused after its first write.
    """
    return observe(planner, api, facts, replace(attempt, preview=True))[0] if plan.again else Plan()


def _dry(planner: Planner, api: Api, attempt: Attempt, dry_run: str, progress: Progress | None) -> Done:
    plan, facts = observe(planner, api, None, attempt)
    notes, unseen = tuple(dict.fromkeys(plan.notes)), tuple(facts.unknowns())
    if dry_run == "client":
        must_all_fit(plan)
        return Done(plan, (), plan.answers, plan.refusals, notes, unseen=unseen)
    outcome = carry_out(plan, api, dry_run=True, progress=progress)
    failed = {change.subject: error for change, error in outcome.failed}
    if "" in failed:
        raise failed[""]
    return Done(plan, outcome.done, plan.answers, {**plan.refusals, **failed}, notes, outcome.skipped, unseen)


def _target(change: Change) -> tuple[ObjectRef, str]:
    return change.ref, change.subresource


def _sorted_failures(
    outcome: Outcome, plan: Plan, hopeless: Collection[tuple[ObjectRef, str]], *, patient: bool
) -> tuple[dict[str, YoshiError], YoshiError | None]:
    """Failures for good, by subject, and one of those that a new look may mend (none when patience has ended)."""
    fatal: dict[str, YoshiError] = {}
    beaten: YoshiError | None = None
    for change, error in outcome.failed:
        if patient and _target(change) not in hopeless and _worth_a_new_look(change, error):
            beaten = error
        else:
            fatal |= _by_subject([(change, error)], plan)
    return fatal, beaten


def _by_subject(failed: Iterable[tuple[Change, YoshiError]], plan: Plan) -> dict[str, YoshiError]:
    """Errors by whom their changes are for; those of a change that is for all, for everybody."""
    fatal: dict[str, YoshiError] = {}
    for change, error in failed:
        fatal.update(dict.fromkeys([change.subject] if change.subject else ["", *plan.answers], error))
    return fatal


def _worth_a_new_look(change: Change, error: YoshiError) -> bool:
    if isinstance(error, TestFailed | Conflict | Outdated | UNCLEAR):
        return True
    if isinstance(error, AlreadyExists):
        return change.verb is Verb.CREATE
    return isinstance(error, NotFound) and change.verb is not Verb.CREATE


def _tidy(outcome: Outcome, api: Api) -> None:
    """Counts anew what other writers made stale, closes blocks that were left empty, and sends what the changes want
    sent after them; best effort by design: whoever writes next does it again."""
    latest: dict[ObjectRef, Json] = {}
    for change, answer in outcome.done:
        if answer is not None and change.verb is Verb.PATCH and change.subresource == "status":
            latest[change.ref] = answer
    now = Attempt().now
    tidied = [empty_block(answer, now) or recount(answer) for answer in latest.values()]
    for change_or_none in (*tidied, *follow_ups(change for change, _ in outcome.done)):
        if change_or_none is not None:
            try:
                send(change_or_none, api, dry_run=False, waiters={})
            except ClusterError:
                continue
