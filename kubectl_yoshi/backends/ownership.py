"""Ownership annotations: for which network an object was created or written into, so that just that is removed with it.

An object of one network has the network's name and uid (ownership_annotations). One that several may share (a router's
peering, a bridge, Calico's BGPConfiguration) has CREATED_BY_ANNOTATION and an annotation
`network.plumber.k8s.pf9.io/<uid>` for each network that needs it, and goes with the last of them, if this program
created it: a network that leaves it to another one tests that one's annotation, so of two that go at the same moment
one removes it. An object not managed by this program is used as it is where it says the same, refused where it does
not, and never removed; it gets no ownership annotations, except for what was written into it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, ObjectRef, annotations_of, dig, resource_version_of, uid_of
from kubectl_yoshi.model.plan import Change, Verb

NETWORK_ANNOTATION = f"{GROUP}/network"
NETWORK_UID_ANNOTATION = f"{GROUP}/networkUID"
CREATED_BY_ANNOTATION = f"{GROUP}/madeBy"
CREATED_BY_YOSHI = "kubectl-yoshi"
NEEDED_BY_PREFIX = f"network.{GROUP}/"
"""Prefix of the annotation, named after a network's uid, that records that the network needs the object."""

_CALICO_METADATA_ANNOTATION = "projectcalico.org/metadata"
"""The annotation in which Calico's API server stores the metadata of an object served as projectcalico.org/v3."""


def get_annotations(obj: Json) -> dict[str, str]:
    """Return an object's annotations, including those that Calico's API server stores in an annotation."""
    annotations = dict(annotations_of(obj))
    try:
        inner = json.loads(annotations.get(_CALICO_METADATA_ANNOTATION, "{}"))
    except ValueError:
        inner = {}
    return {**(dig(inner, "annotations", default={})), **annotations}


def ownership_annotations(network: Network) -> dict[str, str]:
    """Return the annotations that identify an object as created for a network."""
    return {NETWORK_ANNOTATION: network.full_name, NETWORK_UID_ANNOTATION: network.uid}


def get_owner_networks(obj: Json) -> dict[str, str]:
    """Return the network that an object was created for: uid -> "namespace/name"; {} if yoshi did not create it."""
    annotations = get_annotations(obj)
    return (
        {annotations[NETWORK_UID_ANNOTATION]: annotations.get(NETWORK_ANNOTATION, "")}
        if annotations.get(NETWORK_UID_ANNOTATION)
        else {}
    )


def is_created_for(obj: Json, network: Network) -> bool:
    """Return whether an object was created for exactly this network."""
    annotations = get_annotations(obj)
    return (
        annotations.get(NETWORK_ANNOTATION) == network.full_name
        and annotations.get(NETWORK_UID_ANNOTATION) == network.uid
    )


def is_created_for_predecessor(obj: Json, network: Network) -> bool:
    """Return whether an object was created for an earlier network of this name, which no longer exists.

    A restore recreates a network with a new uid, while the objects created for it remain, or are restored with the old
    annotations.
    """
    annotations = get_annotations(obj)
    return (
        annotations.get(NETWORK_ANNOTATION) == network.full_name
        and annotations.get(NETWORK_UID_ANNOTATION) != network.uid
    )


def shared_object_annotations(network: Network) -> dict[str, str]:
    """Return the annotations of an object that is created for a network and that others may share later."""
    return {CREATED_BY_ANNOTATION: CREATED_BY_YOSHI, **needed_by_annotation(network)}


def needed_by_annotation(network: Network) -> dict[str, str]:
    """Return the annotation that records that a network needs an object; the network has no uid in previews only."""
    return {f"{NEEDED_BY_PREFIX}{network.uid or 'not-made-yet'}": network.full_name}


def is_created_by_yoshi(obj: Json) -> bool:
    """Return whether yoshi created an object."""
    return get_annotations(obj).get(CREATED_BY_ANNOTATION) == CREATED_BY_YOSHI


def get_needing_networks(obj: Json) -> dict[str, str]:
    """Return the networks that need an object: uid -> "namespace/name"."""
    return {
        key.removeprefix(NEEDED_BY_PREFIX): name
        for key, name in get_annotations(obj).items()
        if key.startswith(NEEDED_BY_PREFIX)
    }


def find_deleted_networks(
    owner_networks: Mapping[str, str], live: Iterable[Network], namespace: str | None
) -> set[str]:
    """Return the uids of those networks that no longer exist.

    Args:
        owner_networks: uid -> "namespace/name" of networks for which an object was created; "" if only the uid is
            known.
        live: the networks that exist.
        namespace: the former namespace of the networks; None for all.
    """
    known = {network.uid for network in live}
    deleted_uids = {uid: name for uid, name in owner_networks.items() if uid not in known}
    return {uid for uid, name in deleted_uids.items() if namespace is None or name.startswith(f"{namespace}/")}


def find_recreated_networks(owner_networks: Mapping[str, str], live: Iterable[Network]) -> set[str]:
    """Return the uids of networks before a restore recreated them with new uids; see find_deleted_networks.

    Objects created for them remain in use: `ensure` assigns them to the recreated networks.
    """
    uids = {network.full_name: network.uid for network in live}
    return {uid for uid, name in owner_networks.items() if uids.get(name, uid) != uid}


def add_annotations(patch: PatchBuilder, obj: Json, annotations: dict[str, str]) -> None:
    """Add annotations to an object as it was read, with a test of each key, so that patches can be merged."""
    patch.set_keys(obj, ANNOTATIONS, annotations)


def remove_annotations(patch: PatchBuilder, obj: Json, keys: Collection[str]) -> None:
    """Remove annotations, including those that Calico's API server stores in an annotation."""
    annotations = annotations_of(obj)
    for key in keys:
        if key in annotations:
            patch.test((*ANNOTATIONS, key), annotations[key]).remove((*ANNOTATIONS, key))
    try:
        inner = json.loads(annotations.get(_CALICO_METADATA_ANNOTATION, "{}"))
    except ValueError:
        return
    remaining = {key: value for key, value in (inner.get("annotations") or {}).items() if key not in keys}
    if remaining != (inner.get("annotations") or {}):
        patch.test((*ANNOTATIONS, _CALICO_METADATA_ANNOTATION), annotations[_CALICO_METADATA_ANNOTATION])
        patch.add(
            (*ANNOTATIONS, _CALICO_METADATA_ANNOTATION),
            json.dumps({**inner, "annotations": remaining}, separators=(",", ":")),
        )


def require_annotation(patch: PatchBuilder, obj: Json, key: str) -> None:
    """Make the patch fail if an annotation of the object differs from what was read.

    A network that is removed from a shared object requires the annotation of another network that needs it: if two
    networks are deleted at the same moment, each has read the other's annotation, and one must detect that it is the
    last (invariant I8).
    """
    annotations = annotations_of(obj)
    key = key if key in annotations else _CALICO_METADATA_ANNOTATION
    patch.test((*ANNOTATIONS, key), annotations[key])


def add_needing_network(ref: ObjectRef, obj: Json, network: Network) -> Change | None:
    """Return the change that records on an object that a network needs it.

    Returns:
        None if that is recorded, or if yoshi did not create the object.
    """
    if not is_created_by_yoshi(obj) or network.uid in get_needing_networks(obj):
        return None
    patch = PatchBuilder.for_uid(uid_of(obj))
    add_annotations(patch, obj, needed_by_annotation(network))
    return Change(Verb.PATCH, ref, f"record that network {network.full_name} needs {ref}", patch.ops, before=obj)


def remove_needing_networks(ref: ObjectRef, obj: Json, deleted_uids: Collection[str]) -> Change | None:
    """Return the change that deletes an object needed by these networks (by uid) only, or removes their annotations.

    Returns:
        None if none of them needs it, or if yoshi did not create the object.
    """
    needed = get_needing_networks(obj).keys()
    if not is_created_by_yoshi(obj) or not needed & set(deleted_uids):
        return None
    if needed <= set(deleted_uids):
        return Change(
            Verb.DELETE, ref, f"delete {ref}", before=obj, uid=uid_of(obj),
            resource_version=resource_version_of(obj), ignore_not_found=True,
        )  # fmt: skip
    patch = PatchBuilder.for_uid(uid_of(obj))
    require_annotation(patch, obj, f"{NEEDED_BY_PREFIX}{min(needed - set(deleted_uids))}")
    remove_annotations(patch, obj, [f"{NEEDED_BY_PREFIX}{uid}" for uid in sorted(needed & set(deleted_uids))])
    return Change(Verb.PATCH, ref, f"remove a network from those that need {ref}", patch.ops, before=obj)
