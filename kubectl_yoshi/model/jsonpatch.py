"""Build, merge and preview JSON Patches (RFC 6902) that test what was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.model.objects import Json


def merge_json_patches(patches: Iterable[Sequence[Json]]) -> list[Json]:
    """Merge patches that were all built for the same version of an object into one.

    All tests come first, then removals, then writes; duplicate operations are merged. If several patches create the
    same missing map or list, the result contains the entries of all of them.
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
    # List items are removed from the end, since a removal shifts the indices of the items after it.
    removals = sorted((op for op in ops if op["op"] == "remove"), key=lambda op: _list_index(op["path"]), reverse=True)
    return tests + removals + writes


def _union(one: Any, other: Any) -> Any:
    """Merge two maps or lists; of two other values, return the second."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **other, **{key: _union(one[key], other[key]) for key in one.keys() & other.keys()}}
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *(item for item in other if not any(same_json(item, existing) for existing in one))]
    return other


def _list_index(path: str) -> int:
    last = path.rsplit("/", 1)[1]
    return int(last) if last.isdecimal() else -1


@dataclass
class PatchBuilder:
    """A builder of JSON Patches in which a `test` of what was read guards each write.

    A path is a tuple of keys, which the builder escapes (RFC 6901). A `test` with value None passes if the key is
    missing, as in the API server's library (evanphx/json-patch), so it means "still absent".
    """

    ops: list[Json] = field(default_factory=list)

    @classmethod
    def for_uid(cls, uid: str) -> PatchBuilder:
        """Start a patch that the API server rejects if the object was recreated.

        Args:
            uid: the object's uid, as it was read.
        """
        return cls().test(("metadata", "uid"), uid)

    def test(self, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """Require that the value at path is still this one (None: absent)."""
        self.ops.append({"op": "test", "path": json_pointer(path), "value": value})
        return self

    def add(self, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """Set the value at path, whether it exists or not."""
        self.ops.append({"op": "add", "path": json_pointer(path), "value": value})
        return self

    def remove(self, path: tuple[str, ...]) -> PatchBuilder:
        """Remove the value at path, which must exist."""
        self.ops.append({"op": "remove", "path": json_pointer(path)})
        return self

    def set_in(self, obj: Any, path: tuple[str, ...], value: Any) -> PatchBuilder:
        """Set a nested value of an object as it was read, creating missing parents, with a test for each step.

        If the value is already set, only its test is added.
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
        """Set single keys of a map (None: remove the key), each with a test of that key only.

        Other clients may change the other keys meanwhile.
        """
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
        """Return whether the patch contains anything but tests."""
        return any(op["op"] != "test" for op in self.ops)

    def unset_in(self, obj: Any, path: tuple[str, ...]) -> PatchBuilder:
        """Remove a nested value of an object as it was read, if it exists."""
        current = obj
        for key in path:
            if not isinstance(current, dict) or current.get(key) is None:
                return self
            current = current[key]
        return self.test(path, current).remove(path)


def same_json(one: Any, other: Any) -> bool:
    """Return whether two values are equal in JSON, where true is not 1 and 0 is not false, unlike in Python."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def json_pointer(path: tuple[str, ...]) -> str:
    """Return the JSON Pointer (RFC 6901) for these keys."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def apply_json_patch(ops: list[Json], obj: Json | None) -> Json:
    """Return the object after a JSON Patch as PatchBuilder builds it: add and remove on maps and list ends.

    Tests are assumed to pass. This is a preview; the API server decides.
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
