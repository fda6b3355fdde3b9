"""Set the fields of an object that differ from what a network requires, by one patch that tests each of them.

What counts as a difference is in model/matching.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import DEFAULT_FIELDS, Fields, matches, without_absent
from kubectl_yoshi.model.objects import Json, Resource, dig, name_of, namespace_of, uid_of
from kubectl_yoshi.model.plan import Change, Verb

FieldPath = tuple[str, ...]
"""The keys that lead to a field: ("spec", "nodeSelector")."""


def spec_fields(spec: Mapping[str, Any]) -> dict[FieldPath, Any]:
    """Return the paths and values of the fields of a spec."""
    return {("spec", key): value for key, value in spec.items()}


def ensure_fields(
    resource: Resource, obj: Json, wanted: Mapping[FieldPath, Any], fields: Fields = DEFAULT_FIELDS
) -> list[Change]:
    """Return the change that sets the differing fields of an object; [] if none differ.

    See set_fields.
    """
    patch = PatchBuilder.for_uid(uid_of(obj))
    if not set_fields(patch, obj, wanted, fields):
        return []
    ref = resource.ref(name_of(obj), namespace_of(obj))
    return [Change(Verb.PATCH, ref, f"fix {ref}", patch.ops, before=obj)]


def set_fields(
    patch: PatchBuilder, obj: Json, wanted: Mapping[FieldPath, Any], fields: Fields = DEFAULT_FIELDS
) -> list[FieldPath]:
    """Add the differing fields of an object to a patch, and return their paths.

    Args:
        patch: the patch, which changes no other field below the same missing parent.
        obj: the object as read.
        wanted: the values by path; None, also inside a map, for a field that must be absent.
        fields: the meaning of the fields.
    """
    differing = [path for path, value in wanted.items() if not matches(value, dig(obj, *path), fields, path[-1])]
    created_parents: set[FieldPath] = set()
    for path in differing:
        value = without_absent(wanted[path])
        if value is None:
            patch.unset_in(obj, path)
        elif path[:-1] in created_parents:
            patch.add(path, value)
        else:
            if dig(obj, *path[:-1]) is None:  # one parent of several fields is created once
                created_parents.add(path[:-1])
            patch.set_in(obj, path, value)
    return differing
