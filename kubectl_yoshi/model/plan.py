"""A plan as a value: the changes that would make the cluster what is wanted, in the order they must happen.

The same plan is printed by --dry-run=client, sent with dryRun=All by --dry-run=server, shown by `diff`, and carried
out otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, ObjectRef


class Verb(enum.Enum):
    """What a change does to its object."""

    CREATE = "create"  # body: the object
    PATCH = "patch"  # body: a JSON Patch (RFC 6902), a list of operations
    REPLACE = "replace"  # body: the object with its resourceVersion
    APPLY = "apply"  # body: the object, server-side apply with our field manager
    DELETE = "delete"  # body: None; preconditions uid and resource_version
    CALL = "call"  # PUT on a subresource such as virtualmachines/restart; body: its options
    WAIT = "wait"  # nothing is sent: wait for `wait_for`


@dataclass(frozen=True)
class WaitStatus:
    """What is still missing of what a change waits for.

    Attributes:
        remaining: in words, for people; "" where nothing is.
        failure: why it will not come, unless that soon changes; "" where nothing says so.
    """

    remaining: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Change:
    """One request to the API server.

    Attributes:
        verb: see Verb.
        ref: the object.
        summary: a sentence for people, in the imperative: "record 10.133.0.10 for virtualmachine/web-1".
        body: what is sent, see Verb.
        subresource: "status", "restart", …; "" for the object itself.
        before: the object as it was read; None where it does not exist yet. What `diff` shows as the old side.
        uid: for a delete, the uid that the object must still have.
        resource_version: for a delete, the resourceVersion that the object must still have.
        owner: whom the change is for ("prod/web-1"), so that many VMs' outcomes can be told apart; "" is for all.
        ignore_not_found: a 404 means that it is done already.
        ignore_already_exists: a 409 AlreadyExists on create means that it is done already.
        wait_for: for WAIT, a word that engine.wait knows: "stopped", "deleted", "condition".
        condition: for WAIT of a condition, what is missing, of the object and the Events about it: pure.
        strict: for CREATE, of what a person wrote: a field that the API server does not know is refused, not dropped.
        rejection_hint: the way out where the cluster's own rules (an admission plugin, a webhook) refuse it.
        edit: for REPLACE, how `body` follows from the object: pure; returns the same object where nothing is left to
            change, raises Outdated where the change may not be made any more. So several changes of one object go in
            one request, and on a conflict they are applied to the object as it is then.
        follow_up: a patch to send when this one is done, on which nothing depends: it makes later runs quicker. It is
            no part of the plan that people see, and whether it fails is ignored.
    """

    verb: Verb
    ref: ObjectRef
    summary: str
    body: Any = None
    subresource: str = ""
    before: Json | None = None
    uid: str = ""
    resource_version: str = ""
    owner: str = ""
    ignore_not_found: bool = False
    ignore_already_exists: bool = False
    wait_for: str = ""
    condition: Callable[[Json, Sequence[Json]], WaitStatus] | None = field(default=None, compare=False)
    strict: bool = False
    rejection_hint: str = ""
    edit: Callable[[Json], Json] | None = field(default=None, compare=False)
    follow_up: Change | None = None

    @property
    def is_test_only(self) -> bool:
        """Whether it is a patch that changes nothing, whatever becomes of it."""
        patch = self.verb is Verb.PATCH and isinstance(self.body, list)
        return patch and all(op["op"] == "test" for op in self.body)


@dataclass(frozen=True)
class Plan:
    """Changes in stages: a stage's changes do not depend on each other and may be sent side by side.

    Attributes:
        stages: carried out one after the other.
        notes: one line each, for people, on stderr: what will not work, what to do next.
        requeue: carrying out ends what can be planned now; observe and plan once more.
        results: subject -> what it has when the plan is carried out (an attachment's address).
        errors: subject -> why nothing is planned for it.
        rolled_back: subject -> why the plan takes back what the run did for it, which is not tried again.
        future_changes: changes of later rounds, which are not sent now but need to be allowed before anything is.
        answers_suffice: when every change has been answered, nothing is read again: what others may do meanwhile makes
            one of the changes fail, so the answers show whether anything is left to do. A plan that is made of others
            does not inherit it.
    """

    stages: tuple[tuple[Change, ...], ...] = ()
    notes: tuple[str, ...] = ()
    requeue: bool = False
    results: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, YoshiError] = field(default_factory=dict)
    rolled_back: Mapping[str, YoshiError] = field(default_factory=dict)
    future_changes: tuple[Change, ...] = ()
    answers_suffice: bool = False

    def __bool__(self) -> bool:
        return any(self.stages)

    def __iter__(self) -> Iterator[Change]:
        for stage in self.stages:
            yield from stage

    def __add__(self, other: Plan) -> Plan:
        """This plan, then the other."""
        return _combine((self, other), self.stages + other.stages)

    def parallel(self, other: Plan) -> Plan:
        """This plan and the other at the same time, stage by stage."""
        return parallel_plans((self, other))


def parallel_plans(plans: Sequence[Plan]) -> Plan:
    """All these plans at the same time, stage by stage."""
    stages = zip_longest(*(plan.stages for plan in plans), fillvalue=())
    return _combine(plans, (tuple(chain.from_iterable(simultaneous)) for simultaneous in stages))


def _combine(plans: Sequence[Plan], stages: Iterable[tuple[Change, ...]]) -> Plan:
    return Plan(
        tuple(stage for stage in stages if stage),
        tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        any(plan.requeue for plan in plans),
        {owner: answer for plan in plans for owner, answer in plan.results.items()},
        {owner: error for plan in plans for owner, error in plan.errors.items()},
        {owner: error for plan in plans for owner, error in plan.rolled_back.items()},
        tuple(change for plan in plans for change in plan.future_changes),
    )


def sequential(*changes: Change, notes: tuple[str, ...] = ()) -> Plan:
    """A plan whose changes come strictly one after the other."""
    return Plan(tuple((change,) for change in changes), notes)
