"""Determine the permissions that a change requires, in the terms of RBAC and SelfSubjectAccessReview."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_yoshi.model.objects import EVENT, Resource
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.vm import POD, VMI

_VERBS: dict[Verb, tuple[str, ...]] = {
    Verb.CREATE: ("create",),
    Verb.PATCH: ("patch",),
    Verb.REPLACE: ("update",),
    Verb.APPLY: ("patch",),
    Verb.DELETE: ("delete",),
    Verb.CALL: ("update",),
}


@dataclass(frozen=True)
class Access:
    """The attributes of a request that an authorizer checks.

    Attributes:
        verb: the verb of the Kubernetes API: create, patch, update, delete, get, list.
        resource, subresource: what the request is for.
        namespace: its namespace; None for cluster-scoped resources.
        name: the object; "" for any, and for create, because an authorizer does not see the name then.
    """

    verb: str
    resource: Resource
    namespace: str | None = None
    name: str = ""
    subresource: str = ""


def required_accesses(change: Change) -> tuple[Access, ...]:
    """Return the permissions that a change requires: to write, or to read what it waits for (engine.wait).

    A server-side apply of an object that does not exist requires the permissions to patch and to create.
    """
    ref = change.ref
    if change.verb is Verb.WAIT:
        if change.wait_for == "stopped":
            return Access("get", VMI, ref.namespace, ref.name), Access("list", POD, ref.namespace)
        get_access = Access("get", ref.resource, ref.namespace, ref.name)
        return (get_access, Access("list", EVENT, ref.namespace)) if change.condition else (get_access,)
    verbs = _VERBS[change.verb]
    if change.verb is Verb.APPLY and change.before is None:
        verbs = ("patch", "create")
    return tuple(
        Access(verb, ref.resource, ref.namespace, "" if verb == "create" else ref.name, change.subresource)
        for verb in verbs
    )
