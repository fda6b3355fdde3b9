"""What a planner gets besides its request: the snapshot, the backends, and what its run has done so far."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property

from kubectl_yoshi.model.allocations import Allocations
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Snapshot


@dataclass(frozen=True)
class RunContext:
    """The state of a run, which reads, plans and applies until nothing is left to do.

    Attributes:
        attempt_number: 0 for the first attempt; in later ones, after a conflict, addresses are chosen at random.
        now: the time, in UTC.
        rng: the source of random choices.
        done: the changes that this run has applied.
        unclear: changes without an answer, or with a server error as the answer: they may be applied or not.
        unanswered: those of them that were not observed as applied; they may still be applied later.
        failed: owner -> the error that ended its changes; what this run did for it is to be rolled back.
        rolled_back: see Plan.rolled_back.
        previous_snapshot: the snapshot of the previous round: a hint where to look first; no change may depend on it,
            but a refusal may (`network update` does not overwrite what another client wrote meanwhile).
        preview: the plan is only printed, so it must contain all changes that can be foreseen.
    """

    attempt_number: int = 0
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    rng: random.Random = field(default_factory=random.Random)
    done: tuple[Change, ...] = ()
    unclear: tuple[Change, ...] = ()
    unanswered: tuple[Change, ...] = ()
    failed: Mapping[str, YoshiError] = field(default_factory=dict)
    rolled_back: Mapping[str, YoshiError] = field(default_factory=dict)
    previous_snapshot: Snapshot | None = None
    preview: bool = False

    @property
    def sent(self) -> tuple[Change, ...]:
        """Return every change of this run that is or may be applied."""
        return self.done + self.unclear

    @property
    def timestamp(self) -> str:
        """Return the time as Kubernetes writes it (RFC 3339, whole seconds, UTC)."""
        return format_timestamp(self.now)

    @property
    def micro_time(self) -> str:
        """Return the time with microseconds, so that no two writes of a record are equal: a rollback tests its own."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def object_before(self, ref: ObjectRef) -> Json | None:
        """Return an object as it was before this run first wrote to it; None if the run did not, or has created it."""
        return next((change.before for change in self.sent_to(ref) if change.before), None)

    @cached_property
    def seed(self) -> int:
        """Return a random number that stays the same within an attempt.

        Parts of a plan may be computed several times (`Snapshot.parallel`), and must choose the same each time.
        """
        return self.rng.getrandbits(64)

    def done_for(self, owner: str) -> tuple[Change, ...]:
        """Return the changes that this run has applied for an owner, in order."""
        return self._done_by_owner.get(owner, ())

    def sent_to(self, ref: ObjectRef) -> tuple[Change, ...]:
        """Return the changes of an object in `sent`, in order."""
        return self._sent_by_ref.get(ref, ())

    @cached_property
    def created(self) -> frozenset[ObjectRef]:
        """Return the objects that this run has created, or may have created."""
        return frozenset(change.ref for change in self.sent if change.verb is Verb.CREATE)

    @cached_property
    def _sent_by_ref(self) -> Mapping[ObjectRef, tuple[Change, ...]]:
        changes: dict[ObjectRef, list[Change]] = {}
        for change in self.sent:
            changes.setdefault(change.ref, []).append(change)
        return {ref: tuple(some) for ref, some in changes.items()}

    @cached_property
    def _done_by_owner(self) -> Mapping[str, tuple[Change, ...]]:
        changes: dict[str, list[Change]] = {}
        for change in self.done:
            changes.setdefault(change.owner, []).append(change)
        return {owner: tuple(some) for owner, some in changes.items()}


@dataclass(frozen=True)
class PlanContext:
    """The context that every planner gets.

    Attributes:
        snapshot: the state of the cluster; planners read from it what they need.
        backends: by plugin.
        run: what the run has done so far, the time, and the source of random choices.
    """

    snapshot: Snapshot
    backends: Mapping[str, Backend]
    run: RunContext


@dataclass(frozen=True)
class PlanState:
    """What the steps of a planner work with once the network is loaded.

    Attributes:
        network, backend, ctx: what the plan is made from.
        allocations: those of the shards that were loaded.
    """

    network: Network
    backend: Backend
    ctx: PlanContext
    allocations: Allocations

    @property
    def snapshot(self) -> Snapshot:
        """Return the snapshot of the PlanContext."""
        return self.ctx.snapshot

    @property
    def run(self) -> RunContext:
        """Return the run of the PlanContext."""
        return self.ctx.run


def format_timestamp(now: datetime) -> str:
    """Format a time in UTC as Kubernetes writes it (RFC 3339, whole seconds)."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def age_in_seconds(since: str, now: datetime) -> float:
    """Return the seconds since an RFC 3339 time; infinite for "", so that a record without a time counts as old.

    A time in the future, from a client whose clock is ahead, counts as now.
    """
    return max(seconds_between(since, now), 0.0)


def seconds_between(since: str, now: datetime) -> float:
    """Return the seconds from an RFC 3339 time to `now`: negative for the future, infinite if there is no time."""
    try:
        then = datetime.fromisoformat(since.replace("Z", "+00:00"))
    except ValueError:
        return float("inf")
    if then.tzinfo is None:
        then = then.replace(tzinfo=timezone.utc)
    return (now - then).total_seconds()
