"""Objects that are made for one layer 2 network: found by name, marked as its own, mended field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubectl_yoshi.backends.ownership import is_created_for, is_created_for_predecessor, ownership_annotations
from kubectl_yoshi.model.backend import NetworkConflict
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.matching import Fields, matches, without_absent
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import (
    ANNOTATIONS,
    Json,
    Resource,
    dig,
    metadata,
    name_of,
    namespace_of,
    new_object,
    owner_reference,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot

_FIELDS = Fields(whole=frozenset({"nodeSelector"}))


def object_query(resource: Resource, network: Network) -> Query:
    """The read that brings the network's object of a kind; all of them bear the network's name, in its namespace."""
    return Query(resource, network.namespace, network.name)


def find_object(resource: Resource, network: Network, snapshot: Snapshot) -> Json | None:
    """The network's object of a kind, whoever made it; None where there is none, or it may not be read."""
    found = snapshot.lookup(object_query(resource, network))
    return found[0] if found else None


def is_created_for_network(obj: Json, network: Network) -> bool:
    """Whether an object was made for a network: marked as such, or owned by it, or of its earlier self."""
    return is_created_for(obj, network) or network.uid in _owner_uids(obj) or is_created_for_predecessor(obj, network)


def adoption_fields(obj: Json, network: Network) -> dict[tuple[str, ...], Any]:
    """The fields by which an object of a network's earlier self is its own again; {} of any other. See patch_fields."""
    if not is_created_for_predecessor(obj, network) or not network.uid:
        return {}
    fields: dict[tuple[str, ...], Any] = {("metadata", "ownerReferences"): [owner_reference(network.raw)]}
    return fields | {(*ANNOTATIONS, key): text for key, text in ownership_annotations(network).items()}


def _owner_uids(obj: Json) -> set[str]:
    return {str(owner.get("uid", "")) for owner in metadata(obj).get("ownerReferences") or ()} - {""}


def is_owned_by(obj: Json, owner: Json | None) -> bool:
    """Whether an object goes away with another one."""
    return owner is not None and uid_of(owner) in _owner_uids(obj)


def find_name_conflicts(resource: Resource, network: Network, snapshot: Snapshot) -> list[NetworkConflict]:
    """Why the network's object of a kind cannot be made, or be told to be there: one at most."""
    query = object_query(resource, network)
    found = snapshot.lookup(query)
    ref = resource.ref(network.name, network.namespace)
    if reason := snapshot.unreadable_reason(query):
        return [NetworkConflict(f"whether there is a {ref} already cannot be told: {reason}", is_unreadable=True)]
    return [
        NetworkConflict(f"{ref} exists and was not made for this network")
        for obj in found
        if not is_created_for_network(obj, network)
    ]


def creation(
    resource: Resource, network: Network, content: Json, annotations: Mapping[str, str] | None = None
) -> Change:
    """Makes the network's object of a kind; Kubernetes deletes it with the network.

    Args:
        resource, network: which.
        content: what it has besides metadata: {"spec": …}, {"data": …}.
        annotations: besides the marks.
    """
    ref = resource.ref(network.name, network.namespace)
    body = new_object(
        ref,
        without_absent(content),
        annotations={**ownership_annotations(network), **(annotations or {})},
        **({"ownerReferences": [owner_reference(network.raw)]} if network.uid else {}),
    )
    return Change(Verb.CREATE, ref, f"make {ref}", body=body)


def patch_fields(resource: Resource, obj: Json, fields: Mapping[tuple[str, ...], Any]) -> list[Change]:
    """Sets fields of an object that say something else; [] where all are right. None, also inside a map, stands for
    what should not be there."""
    ref = resource.ref(name_of(obj), namespace_of(obj))
    outdated = {
        path: without_absent(value)
        for path, value in fields.items()
        if not matches(value, dig(obj, *path), _FIELDS, path[-1])
    }
    if not outdated:
        return []
    patch = PatchBuilder.for_uid(uid_of(obj))
    created_parents: set[tuple[str, ...]] = set()
    for path, value in outdated.items():
        if value is None:
            patch.unset_in(obj, path)
        elif path[:-1] in created_parents:
            patch.add(path, value)
        else:
            if dig(obj, *path[:-1]) is None:  # one parent for several fields is made once
                created_parents.add(path[:-1])
            patch.set_in(obj, path, value)
    return [Change(Verb.PATCH, ref, f"mend {ref}", patch.ops, before=obj)]


def deletion(resource: Resource, obj: Json) -> Change:
    """Takes an object away."""
    ref = resource.ref(name_of(obj), namespace_of(obj))
    return Change(Verb.DELETE, ref, f"delete {ref}", before=obj, uid=uid_of(obj), ignore_not_found=True)
