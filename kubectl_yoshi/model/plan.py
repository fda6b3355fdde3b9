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
        summary: a sentence for people, in the imperative: "record 10.133.0.10 for virtualmachine/web-1".
        body: what is sent, see Verb.
        subresource: "status", "restart", …; "" for the object itself.
        before: the object as it was read; None where it does not exist yet. What `diff` shows as the old side.
        uid: for a delete, the uid that the object must still have.
        resource_version: for a delete, the resourceVersion that the object must still have.
        owner: whom the change is for ("prod/web-1"), so that many VMs' outcomes can be told apart; "" is for all.
        ignore_not_found: a 404 means that it is done already.
        ignore_already_exists: a 409 AlreadyExists on create means that it is done already.
        wait_for: for WAIT, a word that cluster.waiting knows: "stopped", "deleted", "served".
        shared: a patch of an object that changes for many subjects of a plan: those that come side by side are sent as
            one, or each would make the others' tests fail.
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
    shared: bool = False
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
    """

    stages: tuple[tuple[Change, ...], ...] = ()
    notes: tuple[str, ...] = ()
    requeue: bool = False
    results: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, YoshiError] = field(default_factory=dict)
    rolled_back: Mapping[str, YoshiError] = field(default_factory=dict)
    future_changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return any(self.stages)

    def __iter__(self) -> Iterator[Change]:
        for stage in self.stages:
            yield from stage

    def __add__(self, other: Plan) -> Plan:
        """This plan, then the other."""
        return _combine((self, other), self.stages + other.stages)

    def parallel(self, other: Plan) -> Plan:
        """This plan and the other at the same time, stage by stage; shared patches of one object become one."""
        return parallel_plans((self, other))


def parallel_plans(plans: Sequence[Plan]) -> Plan:
    """All these plans at the same time, stage by stage; shared patches of one object become one."""
    stages = zip_longest(*(plan.stages for plan in plans), fillvalue=())
    return _combine(plans, (_merge_shared_patches(tuple(chain.from_iterable(simultaneous))) for simultaneous in stages))


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


def _merge_shared_patches(stage: tuple[Change, ...]) -> tuple[Change, ...]:
    """A stage in which the shared patches of one object are one patch: all tests first, then what they write."""
    result: list[Change] = []
    positions: dict[tuple[ObjectRef, str], int] = {}
    for change in stage:
        key = (change.ref, change.subresource)
        if not change.shared or change.verb is not Verb.PATCH:
            result.append(change)
        elif key in positions:
            result[positions[key]] = _merge_changes(result[positions[key]], change)
        else:
            positions[key] = len(result)
            result.append(change)
    return tuple(result)


def _merge_changes(one: Change, other: Change) -> Change:
    owner = one.owner if one.owner == other.owner else ""
    summary = one.summary if one.summary == other.summary else f"{one.summary}; {other.summary}"
    return replace(one, body=merge_json_patches((one.body, other.body)), summary=summary, owner=owner)


def merge_json_patches(patches: Iterable[Sequence[Json]]) -> list[Json]:
    """One JSON Patch that does what all of these do, each of which was made for the object as it was read.

    All tests come first, then what is removed, then what is written; what several say alike is said once. A map or list
    that was not there, and that several of them make, gets what all of them put into it.
    """
    ops: list[Json] = []
    by_target: dict[tuple[str, str], list[Json]] = {}
    added: dict[str, Json] = {}
    for patch in patches:
        absent = {op["path"] for op in patch if op["op"] == "test" and op["value"] is None}
        for op in patch:
            creates = op["op"] == "add" and op["path"] in absent and isinstance(op["value"], (dict, list))
            equal_ops = by_target.setdefault((op["op"], op["path"]), [])
            if creates and op["path"] in added:
                added[op["path"]]["value"] = _union(added[op["path"]]["value"], op["value"])
            elif not any(same_json(one.get("value"), op.get("value")) for one in equal_ops):
                ops.append(dict(op))
                equal_ops.append(ops[-1])
                if creates:
                    added[op["path"]] = ops[-1]
    tests = [op for op in ops if op["op"] == "test"]
    writes = [op for op in ops if op["op"] not in ("test", "remove")]
    # What is removed from a list must go from its end on, or the places of the rest shift.
    removals = sorted((op for op in ops if op["op"] == "remove"), key=lambda op: _list_index(op["path"]), reverse=True)
    return tests + removals + writes


def _union(one: Any, other: Any) -> Any:
    """What both put into a map or list; of two other values the second."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **other, **{key: _union(one[key], other[key]) for key in one.keys() & other.keys()}}
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *(item for item in other if not any(same_json(item, existing) for existing in one))]
    return other


def _list_index(path: str) -> int:
    last = path.rsplit("/", 1)[1]
    return int(last) if last.isdecimal() else -1


def sequential(*changes: Change, notes: tuple[str, ...] = ()) -> Plan:
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
    def for_uid(cls, uid: str) -> PatchBuilder:
        """Starts a patch that is refused if the object was made anew meanwhile.

        Args:
            uid: the object's, as it was read.
        """
        return cls().test(("metadata", "uid"), uid)

    def test(self, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """The value at path must still be this (None: must be absent)."""
        self.ops.append({"op": "test", "path": json_pointer(path), "value": value})
        return self

    def add(self, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """Set the value at path, whether it is there or not."""
        self.ops.append({"op": "add", "path": json_pointer(path), "value": value})
        return self

    def remove(self, path: tuple[str, ...]) -> PatchBuilder:
        """Remove the value at path, which must be there."""
        self.ops.append({"op": "remove", "path": json_pointer(path)})
        return self

    def set_in(self, obj: Any, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """Set a nested value of an object as it was read, making missing parents, each step tested.

        Where the value is already so, only the test of it remains.
        """
        current = obj
        for depth, key in enumerate(path):
            child = current.get(key) if isinstance(current, dict) else None
            last = depth == len(path) - 1
            if child is None or last:
                self.test(path[: depth + 1], child)
                for missing_key in reversed(path[depth + 1 :]):
                    value = {missing_key: value}
                if not same_json(child, value):
                    self.add(path[: depth + 1], value)
                return self
            current = child
        return self

    def set_keys(self, obj: Any, path: tuple[str, ...], values: Mapping[str, str | None]) -> PatchBuilder:
        """Set single keys of a map (None: remove it), each tested, so that keys of others may change meanwhile."""
        present: Any = obj
        for key in path:
            present = present.get(key) if isinstance(present, dict) else None
        if present is None:
            new_map = {key: value for key, value in values.items() if value is not None}
            return self.set_in(obj, path, new_map) if new_map else self
        for key, value in values.items():
            if value is None:
                self.unset_in(obj, (*path, key))
            elif present.get(key) != value:
                self.set_in(obj, (*path, key), value)
        return self

    @property
    def has_writes(self) -> bool:
        """Whether anything is changed, besides what is tested."""
        return any(op["op"] != "test" for op in self.ops)

    def unset_in(self, obj: Any, path: tuple[str, ...]) -> PatchBuilder:
        """Remove a nested value of an object as it was read, if it is there."""
        current = obj
        for key in path:
            if not isinstance(current, dict) or current.get(key) is None:
                return self
            current = current[key]
        return self.test(path, current).remove(path)


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON, where true is not 1 and 0 is not false, unlike in Python."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def json_pointer(path: tuple[str, ...]) -> str:
    """A JSON Pointer (RFC 6901) from keys."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def apply_json_patch(ops: list[Json], obj: Json | None) -> Json:
    """The object after a JSON Patch of the kind PatchBuilder makes (add and remove on maps and list ends; tests pass).

    Used to show what a patch would do; the API server is what decides.
    """
    result: Json = _copy(obj or {})
    for op in ops:
        if op["op"] == "test":
            continue
        keys = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
        parent: Any = result
        for key in keys[:-1]:
            parent = parent[int(key)] if isinstance(parent, list) else parent.setdefault(key, {})
        last = keys[-1]
        if isinstance(parent, list):
            index = len(parent) if last == "-" else int(last)
            if op["op"] == "remove":
                del parent[index]
            elif op["op"] == "replace":
                parent[index] = _copy(op["value"])
            else:
                parent.insert(index, _copy(op["value"]))
        elif op["op"] == "remove":
            parent.pop(last, None)
        else:
            parent[last] = _copy(op["value"])
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
