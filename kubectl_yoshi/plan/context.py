"""What a planner gets besides its request: the snapshot, the backends, and what its run has done already."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Snapshot


@dataclass(frozen=True)
class RunContext:
    """One try of a run that observes, plans and carries out until nothing is left to do.

    Attributes:
        number: 0 for the first try. A later one means that somebody was faster: choose at random.
        now: the time, in UTC.
        rng: the source of random choices.
        done: the changes that this run has carried out.
        unclear: those whose answer never came, or was a failure of the server's: done or not.
        unanswered: those of them that were not seen to be done; they may even be done later.
        failed: subject -> the error that ended its changes; what this run did for it is to be taken back.
        rolled_back: see Plan.rolled_back.
        previous_snapshot: what the round before had read: a hint where to look first, never what a change may rest on.
        preview: the plan is only to be shown, so it must hold all that can be foreseen.
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
        """Every change of this run that was done or may have been."""
        return self.done + self.unclear

    @property
    def timestamp(self) -> str:
        """The time as Kubernetes writes it (RFC 3339, whole seconds, UTC)."""
        return format_timestamp(self.now)

    @property
    def micro_time(self) -> str:
        """The time to the microsecond, so that no two writes of a record are alike: whoever takes one back tests it."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def object_before(self, ref: ObjectRef) -> Json | None:
        """An object as it was when this run first wrote to it; None where it did not, or has made it."""
        return next((change.before for change in self.sent if change.ref == ref and change.before), None)

    @cached_property
    def seed(self) -> int:
        """A random number, the same while this attempt is planned: a part of a plan may be made several times
        (`Snapshot.parallel`), and what it chooses must not differ."""
        return self.rng.getrandbits(64)

    def done_for(self, owner: str) -> tuple[Change, ...]:
        """What this run has carried out for somebody, in order."""
        return self._done_by_owner.get(owner, ())

    @cached_property
    def created(self) -> frozenset[ObjectRef]:
        """What this run has made, or may have made."""
        return frozenset(change.ref for change in self.sent if change.verb is Verb.CREATE)

    @cached_property
    def _done_by_owner(self) -> Mapping[str, tuple[Change, ...]]:
        changes: dict[str, list[Change]] = {}
        for change in self.done:
            changes.setdefault(change.owner, []).append(change)
        return {owner: tuple(some) for owner, some in changes.items()}


@dataclass(frozen=True)
class PlanContext:
    """What every planner works with.

    Attributes:
        snapshot: what the cluster holds; whatever is needed is read from it.
        backends: by plugin.
        run: what the run has done so far, the time, and the source of random choices.
    """

    snapshot: Snapshot
    backends: Mapping[str, Backend]
    run: RunContext


def format_timestamp(now: datetime) -> str:
    """A time in UTC as Kubernetes writes it (RFC 3339, whole seconds)."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def age_in_seconds(since: str, now: datetime) -> float:
    """How long ago an RFC 3339 time was; infinite where there is none, so that a record without one is old.

    What is still to come, by the clock of another client that is ahead of this one, was just now.
    """
    return max(seconds_between(since, now), 0.0)


def seconds_between(since: str, now: datetime) -> float:
    """From an RFC 3339 time to `now`: negative where it is still to come, infinite where there is none."""
    try:
        then = datetime.fromisoformat(since.replace("Z", "+00:00"))
    except ValueError:
        return float("inf")
    if then.tzinfo is None:
        then = then.replace(tzinfo=timezone.utc)
    return (now - then).total_seconds()
