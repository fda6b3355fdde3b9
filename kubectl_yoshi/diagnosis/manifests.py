"""VirtualMachines in files, checked as if they had been applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.objects import Json, dig, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Answer, Query, Snapshot, Unreadable
from kubectl_yoshi.model.vm import VM

_TEMPLATE = ("spec", "template", "spec")
_OBJECTS = (
    ("metadata",), ("spec",), ("spec", "template"), ("spec", "template", "metadata"), _TEMPLATE,
    (*_TEMPLATE, "domain"), (*_TEMPLATE, "domain", "devices"),
)  # fmt: skip
_TEXTS = (("metadata", "annotations"), ("spec", "template", "metadata", "annotations"))
_LISTS = ((*_TEMPLATE, "networks"), (*_TEMPLATE, "domain", "devices", "interfaces"))


def check_manifest(vm: Json) -> None:
    """Check that the fields that rules read have the right types; no API server has validated the manifest.

    Raises:
        UsageError: one has not.
    """
    checks: list[tuple[tuple[str, ...], str, Callable[[Any], bool]]] = [
        *((path, "an object", _is_object) for path in _OBJECTS),
        *((path, "a map of strings", _is_text_map) for path in _TEXTS),
        *((path, "a list of objects", _is_object_list) for path in _LISTS),
    ]
    for path, expected, is_valid in checks:
        value = dig(vm, *path)
        if value is not None and not is_valid(value):
            raise UsageError(
                f"{VM.kind} {name_of(vm)!r} in the file: {'.'.join(path)} is not {expected}",
                f"See `kubectl explain virtualmachine.{'.'.join(path)}`.",
            )


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_text_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())


def _is_object_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def with_manifests(snapshot: Snapshot, vms: Sequence[Json]) -> Snapshot:
    """Return a snapshot in which these VMs have been applied: fields that a manifest does not have stay as they are.

    Where VMs cannot be listed, they stay unreadable.

    Args:
        snapshot: the state of the cluster.
        vms: the manifests, each with a namespace.
    """
    snapshot.lookup(Query(VM))
    queries = [Query(VM)]
    if snapshot.unreadable_reason(Query(VM)):
        queries = [Query(VM, namespace) for namespace in dict.fromkeys(map(namespace_of, vms))]
        snapshot.lookup(*queries)
    answers = {query: _apply(snapshot.results[query], vms, query.namespace) for query in queries}
    return snapshot.with_results(answers)


def _apply(answer: Answer, vms: Iterable[Json], namespace: str | None) -> Answer:
    if isinstance(answer, Unreadable):
        return answer
    objects = {(namespace_of(obj), name_of(obj)): obj for obj in answer}
    for vm in vms:
        name = namespace_of(vm), name_of(vm)
        if namespace in (None, name[0]):
            objects[name] = _merge(objects[name], vm) if name in objects else vm
    return tuple(objects.values())


def _merge(before: Any, applied: Any) -> Any:
    if not isinstance(before, Mapping) or not isinstance(applied, Mapping):
        return applied
    merged = {key: _merge(before[key], value) if key in before else value for key, value in applied.items()}
    return {**before, **merged}
