"""What of other people's objects a command that only looks keeps: their names, marks, addresses and interfaces.

A VM of KubeVirt is some kilobytes of disks, devices and managedFields, and there may be tens of thousands. A page of a
list is cut down before the next one is read. What is to be written is never cut: a patch rests on the whole object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubectl_yoshi.model.objects import Json, Resource
from kubectl_yoshi.model.vm import POD, VM, VMI

_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)
_DOMAIN = {"devices": {"interfaces": True, "autoattachPodInterface": True}}
_INSTANCE = {"networks": True, "hostname": True, "domain": _DOMAIN}

Kept = Mapping[str, Any]
"""Key -> True for all of its value, or what of it is kept."""

KEPT: Mapping[Resource, Kept] = {
    VM: {
        "spec": {
            "runStrategy": True,
            "running": True,
            "template": {"metadata": {"labels": True, "annotations": True}, "spec": _INSTANCE},
        },
        "status": {"printableStatus": True},
    },
    VMI: {
        "spec": _INSTANCE,
        "status": {"phase": True, "nodeName": True, "interfaces": True, "conditions": True},
    },
    POD: {
        "spec": {"nodeName": True},
        "status": {"phase": True, "podIP": True, "podIPs": True},
    },
}


def lean_of(resource: Resource) -> Callable[[Json], Json] | None:
    """What cuts an object of a kind down; None where objects of that kind are kept whole."""
    kept = KEPT.get(resource)
    if kept is None:
        return None
    whole: Kept = {"apiVersion": True, "kind": True, "metadata": dict.fromkeys(_METADATA, True), **kept}
    return lambda obj: _cut(obj, whole)


def _cut(obj: Any, kept: Kept) -> Any:
    if not isinstance(obj, dict):
        return obj
    return {key: obj[key] if what is True else _cut(obj[key], what) for key, what in kept.items() if key in obj}
