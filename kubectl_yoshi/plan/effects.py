"""Whether what a change was to bring about is so: how the fate of a write is known whose answer never came."""

from __future__ import annotations

from typing import Any

from kubectl_yoshi.model.change import Change, Verb, same_json
from kubectl_yoshi.model.errors import Outdated
from kubectl_yoshi.model.facts import Facts, Unknown
from kubectl_yoshi.model.matching import matches
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, name_of, namespace_of, uid_of
from kubectl_yoshi.plan.books import COUNTERS


class Look:
    """What was read, by object: asked for many changes."""

    def __init__(self, facts: Facts) -> None:
        self._found: dict[ObjectRef, Json | None] = {}
        self._listed: set[tuple[Resource, str | None]] = set()
        for read, answer in sorted(facts.answers.items(), key=lambda item: item[0].look):
            if isinstance(answer, Unknown) or read.verb:
                continue
            if read.name:
                self._found[read.resource.ref(read.name, read.namespace)] = None
            elif not read.label_selector:
                self._listed.add((read.resource, read.namespace))
            for obj in answer:
                self._found[read.resource.ref(name_of(obj), namespace_of(obj) or None)] = obj

    def in_effect(self, change: Change) -> bool | None:
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
            holds = [_holds(op, obj) for op in change.body if op["path"] not in COUNTERS]
            return False if False in holds else None if None in holds else True
        if change.edit is not None and obj is not None:
            try:
                return change.edit(obj) is obj
            except Outdated:
                return False
        return None


def _holds(op: Json, obj: Json) -> bool | None:
    """Whether an operation of a JSON Patch has nothing left to change; None where that cannot be told, as of what is
    removed from a list: by its place, and another may be there now."""
    if op["op"] == "test":
        return True
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]]
    here: Any = obj
    for key in parents:
        if isinstance(here, list):
            return None
        here = here.get(key) if isinstance(here, dict) else None
    if isinstance(here, list):
        return op["value"] in here if op["op"] == "add" else None
    there = here.get(last) if isinstance(here, dict) else None
    if op["op"] == "remove":
        return there is None
    if op["path"].startswith("/spec"):  # as it may be shown; elsewhere, an empty map of records is not the same as none
        return matches(op["value"], there, name=last)
    return _contains(there, op["value"])


def _contains(there: Any, value: Any) -> bool:
    """Whether a value is there; of a map, all that was written, whatever else has come into it."""
    if isinstance(there, dict) and isinstance(value, dict):
        return all(key in there and _contains(there[key], item) for key, item in value.items())
    return same_json(there, value)
