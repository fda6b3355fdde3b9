"""Objects that are made for one layer 2 network: found by name, marked as its own, mended field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubectl_yoshi.backends.marks import is_marked_for, is_of_earlier, marks_of
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, PatchBuilder, Verb
from kubectl_yoshi.model.facts import Facts, Read
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
    owner_reference,
    uid_of,
)

_FIELDS = Fields(whole=frozenset({"nodeSelector"}))


def own_read(resource: Resource, network: Network) -> Read:
    """The read that brings the network's object of a kind; all of them bear the network's name, in its namespace."""
    return Read(resource, network.namespace, network.name)


def own_object(resource: Resource, network: Network, facts: Facts) -> Json | None:
    """The network's object of a kind, whoever made it; None where there is none, or it may not be read."""
    found = facts.ask(own_read(resource, network))
    return found[0] if found else None


def is_own(obj: Json, network: Network) -> bool:
    """Whether an object was made for a network: marked as such, or owned by it, or of its earlier self."""
    return is_marked_for(obj, network) or network.uid in _owners(obj) or is_of_earlier(obj, network)


def own_again(obj: Json, network: Network) -> dict[tuple[str, ...], Any]:
    """The fields by which an object of a network's earlier self is its own again; {} of any other. See mending."""
    if not is_of_earlier(obj, network) or not network.uid:
        return {}
    fields: dict[tuple[str, ...], Any] = {("metadata", "ownerReferences"): [owner_reference(network.raw)]}
    return fields | {(*ANNOTATIONS, key): text for key, text in marks_of(network).items()}


def _owners(obj: Json) -> set[str]:
    return {str(owner.get("uid", "")) for owner in metadata(obj).get("ownerReferences") or ()} - {""}


def is_owned_by(obj: Json, owner: Json | None) -> bool:
    """Whether an object goes away with another one."""
    return owner is not None and uid_of(owner) in _owners(obj)


def in_the_way(resource: Resource, network: Network, facts: Facts) -> list[Obstacle]:
    """Why the network's object of a kind cannot be made, or be told to be there: one at most."""
    read = own_read(resource, network)
    found = facts.ask(read)
    ref = resource.ref(network.name, network.namespace)
    if why := facts.why_unknown(read):
        return [Obstacle(f"whether there is a {ref} already cannot be told: {why}", unseen=True)]
    return [Obstacle(f"{ref} exists and was not made for this network") for obj in found if not is_own(obj, network)]


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
    body = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "annotations": {**marks_of(network), **(annotations or {})},
            **({"ownerReferences": [owner_reference(network.raw)]} if network.uid else {}),
        },
        **without_absent(content),
    }
    return Change(Verb.CREATE, ref, f"make {ref}", body=body)


def mending(resource: Resource, obj: Json, fields: Mapping[tuple[str, ...], Any]) -> list[Change]:
    """Sets fields of an object that say something else; [] where all are right. None, also inside a map, stands for
    what should not be there."""
    ref = resource.ref(name_of(obj), namespace_of(obj))
    wrong = {
        path: without_absent(value)
        for path, value in fields.items()
        if not matches(value, dig(obj, *path), _FIELDS, path[-1])
    }
    if not wrong:
        return []
    patch = PatchBuilder.of_uid(uid_of(obj))
    made: set[tuple[str, ...]] = set()
    for path, value in wrong.items():
        if value is None:
            patch.unset_in(obj, path)
        elif path[:-1] in made:
            patch.add(path, value)
        else:
            if dig(obj, *path[:-1]) is None:  # one parent for several fields is made once
                made.add(path[:-1])
            patch.set_in(obj, path, value)
    return [Change(Verb.PATCH, ref, f"mend {ref}", patch.ops, before=obj)]


def deletion(resource: Resource, obj: Json) -> Change:
    """Takes an object away."""
    ref = resource.ref(name_of(obj), namespace_of(obj))
    return Change(Verb.DELETE, ref, f"delete {ref}", before=obj, uid=uid_of(obj), tolerate_missing=True)
