"""Whether what a change was to bring about is so: how the fate of a write is known whose answer never came."""

from __future__ import annotations

from typing import Any

from kubectl_yoshi.model.errors import OutdatedError
from kubectl_yoshi.model.jsonpatch import same_json
from kubectl_yoshi.model.matching import matches
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, name_of, namespace_of, uid_of
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Snapshot, Unreadable
from kubectl_yoshi.plan.records import COUNTER_PATHS


class ObservedObjects:
    """What was read, by object: asked for many changes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._found: dict[ObjectRef, Json | None] = {}
        self._listed: set[tuple[Resource, str | None]] = set()
        for query, answer in sorted(snapshot.results.items(), key=lambda item: item[0].read_number):
            if isinstance(answer, Unreadable) or query.verb:
                continue
            if query.name:
                self._found[query.resource.ref(query.name, query.namespace)] = None
            elif not query.label_selector:
                self._listed.add((query.resource, query.namespace))
            for obj in answer:
                self._found[query.resource.ref(name_of(obj), namespace_of(obj) or None)] = obj

    def is_in_effect(self, change: Change) -> bool | None:
        """Whether the object is as a change makes it (by this change or another); None where that cannot be told."""
        ref = change.ref
        listed = {(ref.resource, ref.namespace), (ref.resource, None)} & self._listed
        if ref not in self._found and not listed:
            return None
        obj = self._found.get(ref)
        if change.verb is Verb.CREATE:
            return obj is not None
        if change.verb is Verb.DELETE:
            return obj is None or bool(change.uid and uid_of(obj) != change.uid)
        if change.verb is Verb.PATCH and isinstance(change.body, list):
            if obj is None:
                return False
            applied = [_is_applied(op, obj) for op in change.body if op["path"] not in COUNTER_PATHS]
            return False if False in applied else None if None in applied else True
        if change.edit is not None and obj is not None:
            try:
                return change.edit(obj) is obj
            except OutdatedError:
                return False
        return None


def _is_applied(op: Json, obj: Json) -> bool | None:
    """Whether an operation of a JSON Patch has nothing left to change; None where that cannot be told, as of what is
    removed from a list: by its place, and another may be there now."""
    if op["op"] == "test":
        return True
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
    node: Any = obj
    for key in parents:
        if isinstance(node, list):
            return None
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, list):
        return op["value"] in node if op["op"] == "add" else None
    actual = node.get(last) if isinstance(node, dict) else None
    if op["op"] == "remove":
        return actual is None
    if op["path"].startswith("/spec"):  # as it may be shown; elsewhere, an empty map of records is not the same as none
        return matches(op["value"], actual, name=last)
    return _contains(actual, op["value"])


def _contains(actual: Any, value: Any) -> bool:
    """Whether a value is there; of a map, all that was written, whatever else has come into it."""
    if isinstance(actual, dict) and isinstance(value, dict):
        return all(key in actual and _contains(actual[key], item) for key, item in value.items())
    return same_json(actual, value)
