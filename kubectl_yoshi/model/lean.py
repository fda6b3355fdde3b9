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

FieldMask = Mapping[str, Any]
"""Key -> True for all of its value, or what of it is kept."""

FIELD_MASKS: Mapping[Resource, FieldMask] = {
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


def get_trimmer(resource: Resource) -> Callable[[Json], Json] | None:
    """What cuts an object of a kind down; None where objects of that kind are kept whole."""
    mask = FIELD_MASKS.get(resource)
    if mask is None:
        return None
    full_mask: FieldMask = {"apiVersion": True, "kind": True, "metadata": dict.fromkeys(_METADATA, True), **mask}
    return lambda obj: _apply_mask(obj, full_mask)


def _apply_mask(obj: Any, mask: FieldMask) -> Any:
    if not isinstance(obj, dict):
        return obj
    return {
        key: obj[key] if submask is True else _apply_mask(obj[key], submask)
        for key, submask in mask.items()
        if key in obj
    }
