"""Create, find and repair the objects of one Layer 2 network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubectl_yoshi.backends.ensure import FieldPath
from kubectl_yoshi.backends.ownership import is_created_for, is_created_for_predecessor, ownership_annotations
from kubectl_yoshi.model.backend import NetworkConflict
from kubectl_yoshi.model.matching import without_absent
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import (
    ANNOTATIONS,
    Json,
    Resource,
    metadata,
    name_of,
    namespace_of,
    new_object,
    owner_reference,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot


def object_query(resource: Resource, network: Network) -> Query:
    """Return the query for the network's object of a resource; all have the network's name and namespace."""
    return Query(resource, network.namespace, network.name)


def find_object(resource: Resource, network: Network, snapshot: Snapshot) -> Json | None:
    """Return the object with the network's name, created by yoshi or not; None if it cannot be found or read."""
    found = snapshot.lookup(object_query(resource, network))
    return found[0] if found else None


def is_created_for_network(obj: Json, network: Network) -> bool:
    """Return whether an object was created for a network, according to its annotations or its owner.

    An object of an earlier network of that name counts, too.
    """
    return is_created_for(obj, network) or network.uid in _owner_uids(obj) or is_created_for_predecessor(obj, network)


def adoption_fields(obj: Json, network: Network) -> dict[FieldPath, Any]:
    """Return the fields that assign an object of an earlier network of that name to this one; {} for other objects.

    See backends.ensure.
    """
    if not is_created_for_predecessor(obj, network) or not network.uid:
        return {}
    fields: dict[FieldPath, Any] = {("metadata", "ownerReferences"): [owner_reference(network.raw)]}
    return fields | {(*ANNOTATIONS, key): text for key, text in ownership_annotations(network).items()}


def _owner_uids(obj: Json) -> set[str]:
    return {str(owner.get("uid", "")) for owner in metadata(obj).get("ownerReferences") or ()} - {""}


def is_owned_by(obj: Json, owner: Json | None) -> bool:
    """Return whether Kubernetes deletes an object with another one."""
    return owner is not None and uid_of(owner) in _owner_uids(obj)


def find_name_conflicts(resource: Resource, network: Network, snapshot: Snapshot) -> list[NetworkConflict]:
    """Return why the network's object of a resource cannot be created, or whether it exists is unknown: one at most."""
    query = object_query(resource, network)
    found = snapshot.lookup(query)
    ref = resource.ref(network.name, network.namespace)
    if reason := snapshot.unreadable_reason(query):
        return [NetworkConflict(f"cannot check whether {ref} already exists: {reason}", is_unreadable=True)]
    return [
        NetworkConflict(f"{ref} exists and was not created for this network")
        for obj in found
        if not is_created_for_network(obj, network)
    ]


def creation(
    resource: Resource, network: Network, content: Json, annotations: Mapping[str, str] | None = None
) -> Change:
    """Return the change that creates the network's object of a resource; Kubernetes deletes it with the network.

    Args:
        resource: the resource.
        network: the network.
        content: the object without metadata: {"spec": …}, {"data": …}.
        annotations: annotations in addition to those of ownership.
    """
    ref = resource.ref(network.name, network.namespace)
    body = new_object(
        ref,
        without_absent(content),
        annotations={**ownership_annotations(network), **(annotations or {})},
        **({"ownerReferences": [owner_reference(network.raw)]} if network.uid else {}),
    )
    return Change(Verb.CREATE, ref, f"create {ref}", body=body)


def deletion(resource: Resource, obj: Json) -> Change:
    """Return the change that deletes an object."""
    ref = resource.ref(name_of(obj), namespace_of(obj))
    return Change(Verb.DELETE, ref, f"delete {ref}", before=obj, uid=uid_of(obj), ignore_not_found=True)
