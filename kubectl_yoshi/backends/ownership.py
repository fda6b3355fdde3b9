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
"""Prefix of the annotation, named after a network's uid, that says that the network needs the object."""

_CALICO_METADATA_ANNOTATION = "projectcalico.org/metadata"
"""Where Calico's API server keeps the metadata of an object that it serves as projectcalico.org/v3."""


def get_annotations(obj: Json) -> dict[str, str]:
    """An object's annotations, those included that Calico's API server keeps in an annotation of its own."""
    annotations = dict(annotations_of(obj))
    try:
        inner = json.loads(annotations.get(_CALICO_METADATA_ANNOTATION, "{}"))
    except ValueError:
        inner = {}
    return {**(dig(inner, "annotations", default={})), **annotations}


def ownership_annotations(network: Network) -> dict[str, str]:
    """The annotations by which an object outside the network's namespace is known to be made for it."""
    return {NETWORK_ANNOTATION: network.full_name, NETWORK_UID_ANNOTATION: network.uid}


def get_owner_networks(obj: Json) -> dict[str, str]:
    """The network for which an object was made: uid -> "namespace/name"; {} for an object of others."""
    annotations = get_annotations(obj)
    return (
        {annotations[NETWORK_UID_ANNOTATION]: annotations.get(NETWORK_ANNOTATION, "")}
        if annotations.get(NETWORK_UID_ANNOTATION)
        else {}
    )


def is_created_for(obj: Json, network: Network) -> bool:
    """Whether an object was made for this very network."""
    annotations = get_annotations(obj)
    return (
        annotations.get(NETWORK_ANNOTATION) == network.full_name
        and annotations.get(NETWORK_UID_ANNOTATION) == network.uid
    )


def is_created_for_predecessor(obj: Json, network: Network) -> bool:
    """Whether an object was made for a network of this name that is no more, since this one has its name: a restore
    makes a network anew, under a new uid, while what was made for it serves on, or is restored with the old marks."""
    annotations = get_annotations(obj)
    return (
        annotations.get(NETWORK_ANNOTATION) == network.full_name
        and annotations.get(NETWORK_UID_ANNOTATION) != network.uid
    )


def shared_object_annotations(network: Network) -> dict[str, str]:
    """The annotations of an object that is made for a network and may serve others later."""
    return {CREATED_BY_ANNOTATION: CREATED_BY_YOSHI, **needed_by_annotation(network)}


def needed_by_annotation(network: Network) -> dict[str, str]:
    """The annotation that says that a network needs an object. Only previews have a network without a uid."""
    return {f"{NEEDED_BY_PREFIX}{network.uid or 'not-made-yet'}": network.full_name}


def is_created_by_yoshi(obj: Json) -> bool:
    """Whether this program made an object."""
    return get_annotations(obj).get(CREATED_BY_ANNOTATION) == CREATED_BY_YOSHI


def get_needing_networks(obj: Json) -> dict[str, str]:
    """The networks that need an object: uid -> "namespace/name"."""
    return {
        key.removeprefix(NEEDED_BY_PREFIX): name
        for key, name in get_annotations(obj).items()
        if key.startswith(NEEDED_BY_PREFIX)
    }


def find_deleted_networks(
    owner_networks: Mapping[str, str], live: Iterable[Network], namespace: str | None
) -> set[str]:
    """The uids of those users that are no networks any more.

    Args:
        owner_networks: uid -> "namespace/name" of networks for which something was made; "" where only the uid is
            known.
        live: the networks that there are.
        namespace: only of networks that were in this namespace; None for all.
    """
    known = {network.uid for network in live}
    deleted_uids = {uid: name for uid, name in owner_networks.items() if uid not in known}
    return {uid for uid, name in deleted_uids.items() if namespace is None or name.startswith(f"{namespace}/")}


def find_recreated_networks(owner_networks: Mapping[str, str], live: Iterable[Network]) -> set[str]:
    """The uids of those users that are networks of today before a restore made them anew, under new uids; see
    find_deleted_networks.

    What was made for them serves on: it is theirs again when they are brought up.
    """
    uids = {network.full_name: network.uid for network in live}
    return {uid for uid, name in owner_networks.items() if uids.get(name, uid) != uid}


def add_annotations(patch: PatchBuilder, obj: Json, annotations: dict[str, str]) -> None:
    """Adds annotations to an object as it was read, so that patches of several hands can be joined."""
    patch.set_keys(obj, ANNOTATIONS, annotations)


def remove_annotations(patch: PatchBuilder, obj: Json, keys: Collection[str]) -> None:
    """Removes annotations, those too that Calico's API server keeps in an annotation of its own."""
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
    """Have a patch refused if an annotation of the object is not as it was read.

    Who leaves a shared object because another network needs it requires that network's annotation: of two networks that
    are deleted at the same moment, each has read the other one's, and one must see that it is the last (invariant I8).
    """
    annotations = annotations_of(obj)
    key = key if key in annotations else _CALICO_METADATA_ANNOTATION
    patch.test((*ANNOTATIONS, key), annotations[key])


def add_needing_network(ref: ObjectRef, obj: Json, network: Network) -> Change | None:
    """Notes on an object of this program that a network needs it; None where that stands, or it is another's."""
    if not is_created_by_yoshi(obj) or network.uid in get_needing_networks(obj):
        return None
    patch = PatchBuilder.for_uid(uid_of(obj))
    add_annotations(patch, obj, needed_by_annotation(network))
    return Change(Verb.PATCH, ref, f"note that network {network.full_name} needs {ref}", patch.ops, before=obj)


def remove_needing_networks(ref: ObjectRef, obj: Json, deleted_uids: Collection[str]) -> Change | None:
    """Takes away an object that only these networks (by uid) needed, or their marks; None where it is not ours."""
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
    return Change(Verb.PATCH, ref, f"note that one network less needs {ref}", patch.ops, before=obj)
