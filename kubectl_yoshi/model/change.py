"""A plan as a value: the changes that would make the cluster what is wanted, in the order they must happen.

The same plan is printed by --dry-run=client, sent with dryRun=All by --dry-run=server, shown by `diff`, and carried
out otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    WAIT = "wait"  # nothing is sent: wait until `until` holds


@dataclass(frozen=True)
class Change:
    """One request to the API server.

    Attributes:
        verb: see Verb.
        ref: the object.
        says: a sentence for people, in the imperative: "record 10.133.0.10 for virtualmachine/web-1".
        body: what is sent, see Verb.
        subresource: "status", "restart", …; "" for the object itself.
        before: the object as it was read; None where it does not exist yet. What `diff` shows as the old side.
        uid: for a delete, the uid that the object must still have.
        resource_version: for a delete, the resourceVersion that the object must still have.
        subject: whom the change is for ("prod/web-1"), so that many VMs' outcomes can be told apart; "" is for all.
        tolerate_missing: a 404 means that it is done already.
        tolerate_existing: a 409 AlreadyExists on create means that it is done already.
        wait_for: for WAIT, a word that cluster.waiting knows: "stopped", "deleted", "served".
        shared: a patch of an object that changes for many subjects of a plan: those that come side by side are sent as
            one, or each would make the others' tests fail.
        strict: for CREATE, of what a person wrote: a field that the API server does not know is refused, not dropped.
        if_refused: the way out where the cluster's own rules (an admission plugin, a webhook) refuse it.
        edit: for REPLACE, how `body` follows from the object: pure; returns the same object where nothing is left to
            change, raises Outdated where the change may not be made any more. So several changes of one object go in
            one request, and on a conflict they are applied to the object as it is then.
        then: a patch to send when this one is done, on which nothing depends: it makes later runs quicker. It is no
            part of the plan that people see, and whether it fails is ignored.
    """

    verb: Verb
    ref: ObjectRef
    says: str
    body: Any = None
    subresource: str = ""
    before: Json | None = None
    uid: str = ""
    resource_version: str = ""
    subject: str = ""
    tolerate_missing: bool = False
    tolerate_existing: bool = False
    wait_for: str = ""
    shared: bool = False
    strict: bool = False
    if_refused: str = ""
    edit: Callable[[Json], Json] | None = field(default=None, compare=False)
    then: Change | None = None

    @property
    def only_tests(self) -> bool:
        """Whether it is a patch that changes nothing, whatever becomes of it."""
        patch = self.verb is Verb.PATCH and isinstance(self.body, list)
        return patch and all(op["op"] == "test" for op in self.body)


@dataclass(frozen=True)
class Plan:
    """Changes in stages: a stage's changes do not depend on each other and may be sent side by side.

    Attributes:
        stages: carried out one after the other.
        notes: one line each, for people, on stderr: what will not work, what to do next.
        again: carrying out ends what can be planned now; observe and plan once more.
        answers: subject -> what it has when the plan is carried out (an attachment's address).
        refusals: subject -> why nothing is planned for it.
        given_up: subject -> why the plan takes back what the run did for it, which is not tried again.
        foreseen: changes of later rounds, which are not sent now but need to be allowed before anything is.
    """

    stages: tuple[tuple[Change, ...], ...] = ()
    notes: tuple[str, ...] = ()
    again: bool = False
    answers: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, YoshiError] = field(default_factory=dict)
    given_up: Mapping[str, YoshiError] = field(default_factory=dict)
    foreseen: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return any(self.stages)

    def __iter__(self) -> Iterator[Change]:
        for stage in self.stages:
            yield from stage

    def __add__(self, other: Plan) -> Plan:
        """This plan, then the other."""
        return _joined((self, other), self.stages + other.stages)

    def beside(self, other: Plan) -> Plan:
        """This plan and the other at the same time, stage by stage; shared patches of one object become one."""
        return side_by_side((self, other))


def side_by_side(plans: Sequence[Plan]) -> Plan:
    """All these plans at the same time, stage by stage; shared patches of one object become one."""
    stages = zip_longest(*(plan.stages for plan in plans), fillvalue=())
    return _joined(plans, (_with_joint_patches(tuple(chain.from_iterable(parts))) for parts in stages))


def _joined(plans: Sequence[Plan], stages: Iterable[tuple[Change, ...]]) -> Plan:
    return Plan(
        tuple(stage for stage in stages if stage),
        tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        any(plan.again for plan in plans),
        {subject: answer for plan in plans for subject, answer in plan.answers.items()},
        {subject: error for plan in plans for subject, error in plan.refusals.items()},
        {subject: error for plan in plans for subject, error in plan.given_up.items()},
        tuple(change for plan in plans for change in plan.foreseen),
    )


def _with_joint_patches(stage: tuple[Change, ...]) -> tuple[Change, ...]:
    """A stage in which the shared patches of one object are one patch: all tests first, then what they write."""
    kept: list[Change] = []
    places: dict[tuple[ObjectRef, str], int] = {}
    for change in stage:
        key = (change.ref, change.subresource)
        if not change.shared or change.verb is not Verb.PATCH:
            kept.append(change)
        elif key in places:
            kept[places[key]] = _joint_patch(kept[places[key]], change)
        else:
            places[key] = len(kept)
            kept.append(change)
    return tuple(kept)


def _joint_patch(one: Change, other: Change) -> Change:
    subject = one.subject if one.subject == other.subject else ""
    says = one.says if one.says == other.says else f"{one.says}; {other.says}"
    return replace(one, body=joint_operations((one.body, other.body)), says=says, subject=subject)


def joint_operations(patches: Iterable[Sequence[Json]]) -> list[Json]:
    """One JSON Patch that does what all of these do, each of which was made for the object as it was read.

    All tests come first, then what is removed, then what is written; what several say alike is said once. A map or list
    that was not there, and that several of them make, gets what all of them put into it.
    """
    ops: list[Json] = []
    alike: dict[tuple[str, str], list[Json]] = {}
    made: dict[str, Json] = {}
    for patch in patches:
        absent = {op["path"] for op in patch if op["op"] == "test" and op["value"] is None}
        for op in patch:
            makes = op["op"] == "add" and op["path"] in absent and isinstance(op["value"], (dict, list))
            same = alike.setdefault((op["op"], op["path"]), [])
            if makes and op["path"] in made:
                made[op["path"]]["value"] = _union(made[op["path"]]["value"], op["value"])
            elif not any(same_json(one.get("value"), op.get("value")) for one in same):
                ops.append(dict(op))
                same.append(ops[-1])
                if makes:
                    made[op["path"]] = ops[-1]
    tests = [op for op in ops if op["op"] == "test"]
    writes = [op for op in ops if op["op"] not in ("test", "remove")]
    # What is removed from a list must go from its end on, or the places of the rest shift.
    removals = sorted((op for op in ops if op["op"] == "remove"), key=lambda op: _place(op["path"]), reverse=True)
    return tests + removals + writes


def _union(one: Any, other: Any) -> Any:
    """What both put into a map or list; of two other values the second."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **other, **{key: _union(one[key], other[key]) for key in one.keys() & other.keys()}}
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *(item for item in other if not any(same_json(item, there) for there in one))]
    return other


def _place(path: str) -> int:
    last = path.rsplit("/", 1)[1]
    return int(last) if last.isdecimal() else -1


def in_order(*changes: Change, notes: tuple[str, ...] = ()) -> Plan:
    """A plan whose changes come strictly one after the other."""
    return Plan(tuple((change,) for change in changes), notes)


@dataclass
class PatchBuilder:
    """Builds a JSON Patch whose every write is guarded by a `test` of what was read.

    A path is a tuple of keys; escaping (RFC 6901) is done here. `test` with value None passes where the key is missing,
    as the API server's library has it (evanphx/json-patch), so it says "still absent".
    """

    ops: list[Json] = field(default_factory=list)

    @classmethod
    def of_uid(cls, uid: str) -> PatchBuilder:
        """Starts a patch that is refused if the object was made anew meanwhile.

        Args:
            uid: the object's, as it was read.
        """
        return cls().test(("metadata", "uid"), uid)

    def test(self, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """The value at path must still be this (None: must be absent)."""
        self.ops.append({"op": "test", "path": pointer(path), "value": value})
        return self

    def add(self, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """Set the value at path, whether it is there or not."""
        self.ops.append({"op": "add", "path": pointer(path), "value": value})
        return self

    def remove(self, path: tuple[str, ...]) -> PatchBuilder:
        """Remove the value at path, which must be there."""
        self.ops.append({"op": "remove", "path": pointer(path)})
        return self

    def set_in(self, obj: Any, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """Set a nested value of an object as it was read, making missing parents, each step tested.

        Where the value is already so, only the test of it remains.
        """
        here = obj
        for depth, key in enumerate(path):
            there = here.get(key) if isinstance(here, dict) else None
            last = depth == len(path) - 1
            if there is None or last:
                self.test(path[: depth + 1], there)
                for missing in reversed(path[depth + 1 :]):
                    value = {missing: value}
                if not same_json(there, value):
                    self.add(path[: depth + 1], value)
                return self
            here = there
        return self

    def set_keys(self, obj: Any, path: tuple[str, ...], wanted: Mapping[str, str | None]) -> PatchBuilder:
        """Set single keys of a map (None: remove it), each tested, so that keys of others may change meanwhile."""
        present: Any = obj
        for key in path:
            present = present.get(key) if isinstance(present, dict) else None
        if present is None:
            values = {key: value for key, value in wanted.items() if value is not None}
            return self.set_in(obj, path, values) if values else self
        for key, value in wanted.items():
            if value is None:
                self.unset_in(obj, (*path, key))
            elif present.get(key) != value:
                self.set_in(obj, (*path, key), value)
        return self

    @property
    def writes(self) -> bool:
        """Whether anything is changed, besides what is tested."""
        return any(op["op"] != "test" for op in self.ops)

    def unset_in(self, obj: Any, path: tuple[str, ...]) -> PatchBuilder:
        """Remove a nested value of an object as it was read, if it is there."""
        here = obj
        for key in path:
            if not isinstance(here, dict) or here.get(key) is None:
                return self
            here = here[key]
        return self.test(path, here).remove(path)


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON, where true is not 1 and 0 is not false, unlike in Python."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def pointer(path: tuple[str, ...]) -> str:
    """A JSON Pointer (RFC 6901) from keys."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def applied(ops: list[Json], obj: Json | None) -> Json:
    """The object after a JSON Patch of the kind PatchBuilder makes (add and remove on maps and list ends; tests pass).

    Used to show what a patch would do; the API server is what decides.
    """
    result: Json = _copy(obj or {})
    for op in ops:
        if op["op"] == "test":
            continue
        keys = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
        here: Any = result
        for key in keys[:-1]:
            here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
        last = keys[-1]
        if isinstance(here, list):
            index = len(here) if last == "-" else int(last)
            if op["op"] == "remove":
                del here[index]
            elif op["op"] == "replace":
                here[index] = _copy(op["value"])
            else:
                here.insert(index, _copy(op["value"]))
        elif op["op"] == "remove":
            here.pop(last, None)
        else:
            here[last] = _copy(op["value"])
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
