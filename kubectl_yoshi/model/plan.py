"""Represent a plan: the changes that reconcile the cluster, in the order in which they must happen.

--dry-run=client prints the plan, --dry-run=server sends it with dryRun=All, `diff` shows it, and the real run applies
it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import Json, ObjectRef


class Verb(enum.Enum):
    """How a change acts on its object."""

    CREATE = "create"  # body: the object
    PATCH = "patch"  # body: a JSON Patch (RFC 6902), a list of operations
    REPLACE = "replace"  # body: the object with its resourceVersion
    APPLY = "apply"  # body: the object, sent as server-side apply with the program's field manager
    DELETE = "delete"  # body: None; uid and resource_version become preconditions
    CALL = "call"  # PUT on a subresource such as virtualmachines/restart; body: its options
    WAIT = "wait"  # sends nothing; waits for `wait_for`


@dataclass(frozen=True)
class WaitStatus:
    """The progress of a change that waits.

    Attributes:
        remaining: what is still missing, as printed; "" if nothing is.
        failure: why the condition will not be met unless something changes soon; "" if no failure is known.
    """

    remaining: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Change:
    """One request to the API server.

    Attributes:
        verb: the request's kind.
        ref: the object.
        summary: an imperative phrase, as printed: "record 10.133.0.10 for virtualmachine/web-1".
        body: what is sent, see Verb.
        subresource: "status", "restart", …; "" for the object itself.
        before: the object as it was read; None if it does not exist. `diff` shows it as the old side.
        uid: for a delete, the uid that the object must still have.
        resource_version: for a delete, the resourceVersion that the object must still have.
        owner: the VM that the change is for ("prod/web-1"), which groups the results of many VMs; "" for all.
        ignore_not_found: a 404 counts as success.
        ignore_already_exists: a 409 AlreadyExists on create counts as success.
        wait_for: for WAIT, what to wait for: "stopped", "deleted" or "condition" (see engine.wait).
        condition: for WAIT of a condition, a pure function that returns the progress from the object and its Events.
        strict: for CREATE of an object from a user's manifest: the API server rejects unknown fields instead of
            dropping them (fieldValidation=Strict).
        rejection_hint: the hint to print if an admission plugin or webhook rejects the request.
        edit: for REPLACE, a pure function that returns `body` for the object. It returns the same object if nothing is
            left to change, and raises OutdatedError if the change no longer applies. Several changes of one object are
            thus sent in one request, and applied again to the current object after a conflict.
        vm_namespace: for a patch of allocations, the namespace of their VMs, or for which they are reserved. Patches of
            several namespaces are sent in one request only by users who can patch VMs in all namespaces, since an
            admission policy refuses it to others (manifests/policies/allocations.yaml).
        follow_up: a patch to send after this change that only makes later runs faster. It is not printed as part of the
            plan, and its failure is ignored.
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
    vm_namespace: str = ""
    follow_up: Change | None = None

    @property
    def is_test_only(self) -> bool:
        """Return whether the change is a patch that consists of tests only and therefore writes nothing."""
        patch = self.verb is Verb.PATCH and isinstance(self.body, list)
        return patch and all(op["op"] == "test" for op in self.body)


@dataclass(frozen=True)
class AttachmentResult:
    """What a VM has, or no longer has, on a network when a plan is applied.

    Attributes:
        network: "namespace/name".
        address: the VM's address; several, separated by commas, if a detached VM had more.
        mac: the MAC address that belongs to it; "" for none.
        state: of the address once the plan is applied.
    """

    network: str
    address: str
    mac: str = ""
    state: AddressState = AddressState.BOUND


@dataclass(frozen=True)
class Plan:
    """Changes in stages: the changes of a stage do not depend on each other and may be sent in parallel.

    Attributes:
        stages: applied one after the other.
        notes: lines printed on stderr: what will not work, what to do next.
        requeue: whether to read and plan again after these changes, since no more can be planned now.
        results: owner -> what it has when the plan is applied (an attachment's address).
        errors: owner -> why nothing is planned for it.
        rolled_back: owner -> why the plan rolls back the run's changes for it, which are not retried.
        future_changes: changes of later rounds, which are not sent now; the permissions for them are checked before
            anything is sent.
        answers_suffice: nothing is read again after the changes: any concurrent change that matters makes one of them
            fail, so the answers show whether anything is left to do. A plan combined from others does not inherit it.
        attachments: VM ("prod/web-1") -> what it has on the network when the plan is applied.
    """

    stages: tuple[tuple[Change, ...], ...] = ()
    notes: tuple[str, ...] = ()
    requeue: bool = False
    results: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, YoshiError] = field(default_factory=dict)
    rolled_back: Mapping[str, YoshiError] = field(default_factory=dict)
    future_changes: tuple[Change, ...] = ()
    answers_suffice: bool = False
    attachments: Mapping[str, AttachmentResult] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.stages)

    def __iter__(self) -> Iterator[Change]:
        for stage in self.stages:
            yield from stage

    def __add__(self, other: Plan) -> Plan:
        """Return a plan that applies this plan, then the other."""
        return _combine((self, other), self.stages + other.stages)

    def parallel(self, other: Plan) -> Plan:
        """Return a plan that applies this plan and the other in parallel, stage by stage."""
        return parallel_plans((self, other))


def parallel_plans(plans: Sequence[Plan]) -> Plan:
    """Return a plan that applies all these plans in parallel, stage by stage."""
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
        attachments={owner: attachment for plan in plans for owner, attachment in plan.attachments.items()},
    )


def sequential(*changes: Change, notes: tuple[str, ...] = ()) -> Plan:
    """Return a plan that applies the changes strictly one after the other."""
    return Plan(tuple((change,) for change in changes), notes)
