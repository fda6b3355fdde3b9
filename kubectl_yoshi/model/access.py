"""What a user must be allowed to do for a change to be sent, as RBAC and SelfSubjectAccessReviews name it."""

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
    """A request as an authorizer sees it.

    Attributes:
        verb: Kubernetes' word: create, patch, update, delete.
        resource, subresource: of what.
        namespace: where; None for cluster-scoped resources.
        name: which object; "" for any, and for create, whose name an authorizer does not see.
    """

    verb: str
    resource: Resource
    namespace: str | None = None
    name: str = ""
    subresource: str = ""


def required_accesses(change: Change) -> tuple[Access, ...]:
    """Return what one must be allowed to do for a change: to write, or to see what is waited for (engine.wait).

    A server-side apply of an object that does not exist is authorized as patch and as create.
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
