"""Marks: for which network an object was made or written into, so that just that is taken back with the network.

An object of one network bears its name and uid (marks_of). One that several may share (a router's peering, a bridge,
Calico's BGPConfiguration) bears MADE and a mark for each network that needs it, and goes with the last of them.
An object that somebody else made is used as it is and bears no marks of ours, but for what was written into it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from kubectl_yoshi.model.change import Change, PatchBuilder, Verb
from kubectl_yoshi.model.network import GROUP, Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, ObjectRef, annotations_of, dig, resource_version_of, uid_of

MARK_NETWORK = f"{GROUP}/network"
MARK_UID = f"{GROUP}/networkUID"
MADE = f"{GROUP}/madeBy"
MAKER = "kubectl-yoshi"
NEEDED_BY = f"network.{GROUP}/"
"""Prefix of the annotation, named after a network's uid, that says that the network needs the object."""

_INNER = "projectcalico.org/metadata"
"""Where Calico's API server keeps the metadata of an object that it serves as projectcalico.org/v3."""


def marked(obj: Json) -> dict[str, str]:
    """An object's annotations, those included that Calico's API server keeps in an annotation of its own."""
    annotations = dict(annotations_of(obj))
    try:
        inner = json.loads(annotations.get(_INNER, "{}"))
    except ValueError:
        inner = {}
    return {**(dig(inner, "annotations", default={})), **annotations}


def marks_of(network: Network) -> dict[str, str]:
    """The annotations by which an object outside the network's namespace is known to be made for it."""
    return {MARK_NETWORK: network.full_name, MARK_UID: network.uid}


def users_of(obj: Json) -> dict[str, str]:
    """The network for which an object was made: uid -> "namespace/name"; {} for an object of others."""
    marks = marked(obj)
    return {marks[MARK_UID]: marks.get(MARK_NETWORK, "")} if marks.get(MARK_UID) else {}


def is_marked_for(obj: Json, network: Network) -> bool:
    """Whether an object was made for this very network."""
    marks = marked(obj)
    return marks.get(MARK_NETWORK) == network.full_name and marks.get(MARK_UID) == network.uid


def is_of_earlier(obj: Json, network: Network) -> bool:
    """Whether an object was made for a network of this name that is no more, since this one has its name: a restore
    makes a network anew, under a new uid, while what was made for it serves on, or is restored with the old marks."""
    marks = marked(obj)
    return marks.get(MARK_NETWORK) == network.full_name and marks.get(MARK_UID) != network.uid


def first_marks(network: Network) -> dict[str, str]:
    """The annotations of an object that is made for a network and may serve others later."""
    return {MADE: MAKER, **needed_by(network)}


def needed_by(network: Network) -> dict[str, str]:
    """The annotation that says that a network needs an object. Only previews have a network without a uid."""
    return {f"{NEEDED_BY}{network.uid or 'not-made-yet'}": network.full_name}


def is_made_here(obj: Json) -> bool:
    """Whether this program made an object."""
    return marked(obj).get(MADE) == MAKER


def needing(obj: Json) -> dict[str, str]:
    """The networks that need an object: uid -> "namespace/name"."""
    return {key.removeprefix(NEEDED_BY): name for key, name in marked(obj).items() if key.startswith(NEEDED_BY)}


def gone_of(users: Mapping[str, str], live: Iterable[Network], namespace: str | None) -> set[str]:
    """The uids of those users that are no networks any more.

    Args:
        users: uid -> "namespace/name" of networks for which something was made; "" where only the uid is known.
        live: the networks that there are.
        namespace: only of networks that were in this namespace; None for all.
    """
    known = {network.uid for network in live}
    gone = {uid: name for uid, name in users.items() if uid not in known}
    return {uid for uid, name in gone.items() if namespace is None or name.startswith(f"{namespace}/")}


def earlier_selves(users: Mapping[str, str], live: Iterable[Network]) -> set[str]:
    """The uids of those users that are networks of today before a restore made them anew, under new uids; see gone_of.

    What was made for them serves on: it is theirs again when they are brought up.
    """
    uids = {network.full_name: network.uid for network in live}
    return {uid for uid, name in users.items() if uids.get(name, uid) != uid}


def set_marks(patch: PatchBuilder, obj: Json, marks: dict[str, str]) -> None:
    """Adds annotations to an object as it was read, so that patches of several hands can be joined."""
    patch.set_keys(obj, ANNOTATIONS, marks)


def drop_marks(patch: PatchBuilder, obj: Json, keys: Collection[str]) -> None:
    """Removes annotations, those too that Calico's API server keeps in an annotation of its own."""
    there = annotations_of(obj)
    for key in keys:
        if key in there:
            patch.test((*ANNOTATIONS, key), there[key]).remove((*ANNOTATIONS, key))
    try:
        inner = json.loads(there.get(_INNER, "{}"))
    except ValueError:
        return
    kept = {key: value for key, value in (inner.get("annotations") or {}).items() if key not in keys}
    if kept != (inner.get("annotations") or {}):
        patch.test((*ANNOTATIONS, _INNER), there[_INNER])
        patch.add((*ANNOTATIONS, _INNER), json.dumps({**inner, "annotations": kept}, separators=(",", ":")))


def join(ref: ObjectRef, obj: Json, network: Network) -> Change | None:
    """Notes on an object of this program that a network needs it; None where that stands, or it is another's."""
    if not is_made_here(obj) or network.uid in needing(obj):
        return None
    patch = PatchBuilder.of_uid(uid_of(obj))
    set_marks(patch, obj, needed_by(network))
    return Change(Verb.PATCH, ref, f"note that network {network.full_name} needs {ref}", patch.ops, before=obj)


def leave(ref: ObjectRef, obj: Json, gone: Collection[str]) -> Change | None:
    """Takes away an object that only these networks (by uid) needed, or their marks; None where it is not ours."""
    needed = needing(obj).keys()
    if not is_made_here(obj) or not needed & set(gone):
        return None
    if needed <= set(gone):
        return Change(
            Verb.DELETE, ref, f"delete {ref}", before=obj, uid=uid_of(obj),
            resource_version=resource_version_of(obj), tolerate_missing=True,
        )  # fmt: skip
    patch = PatchBuilder.of_uid(uid_of(obj))
    drop_marks(patch, obj, [f"{NEEDED_BY}{uid}" for uid in sorted(needed & set(gone))])
    return Change(Verb.PATCH, ref, f"note that one network less needs {ref}", patch.ops, before=obj)
