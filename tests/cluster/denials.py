"""A user who lacks one permission, played by the proxy before the API server: requests that need it are answered 403,
and a SelfSubjectAccessReview says that it is missing. tests/cluster/test_as_roles.py has real roles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs

from kubectl_yoshi.kube.client import ACCESS_REVIEW
from tests.cluster.fake_kubevirt import Answer
from tests.cluster.seeded_fault_proxy import Proxy

PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?$"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, order=True)
class Permission:
    """What RBAC grants: a verb on a resource, such as patch on networkwizards/status of plumber.k8s.pf9.io."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        plural, slash, subresource = self.resource.partition("/")
        return f"{self.verb} {plural}{slash}{subresource}{'.' if self.group else ''}{self.group}"

    @property
    def reads(self) -> bool:
        return self.verb in ("get", "list", "watch")


def permission_for(method: str, path: str) -> Permission | None:
    """Return the permission that a request needs; None for discovery."""
    path, _, query = path.partition("?")
    match = PATH.match(path)
    if match is None:
        return None
    verb = VERBS.get(method, "get" if match["name"] else "watch" if "watch" in parse_qs(query) else "list")
    resource = match["plural"] + (f"/{match['subresource']}" if match["subresource"] else "")
    return Permission(verb, match["group"] or "", resource)


class Denial:
    """Answers as an authorizer that lacks one permission.

    Args:
        denied: which; None for none.

    Attributes:
        needed: the permissions that requests needed.
        met: whether a request or a review asked for the one that is denied.
    """

    def __init__(self, denied: Permission | None = None) -> None:
        self.denied = denied
        self.needed: set[Permission] = set()
        self.met = False

    def __call__(self, method: str, path: str, body: bytes) -> Answer | None:
        """Return the answer to a request, or None where it is to be handed on."""
        permission = permission_for(method, path)
        if permission is None:
            return None
        if permission.resource == ACCESS_REVIEW.plural:
            return self._review(json.loads(body))
        self.needed.add(permission)
        if permission != self.denied:
            return None
        self.met = True
        message = (
            f'{permission.resource}.{permission.group} is forbidden: User "tenant" cannot {permission.verb} resource '
            f'"{permission.resource}" in API group "{permission.group}"'
        )
        status = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": message}
        return Answer(403, json.dumps(status).encode(), {"Content-Type": "application/json"})

    def _review(self, review: dict[str, dict[str, dict[str, str]]]) -> Answer | None:
        asked = review["spec"]["resourceAttributes"]
        resource = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        if Permission(asked["verb"], asked.get("group", ""), resource) != self.denied:
            return None
        self.met = True
        answer = {**review, "status": {"allowed": False}}
        return Answer(201, json.dumps(answer).encode(), {"Content-Type": "application/json"})


@contextmanager
def denying(proxy: Proxy, permission: Permission | None) -> Iterator[Denial]:
    """The user who comes through this proxy lacks a permission."""
    proxy.authorizer = denial = Denial(permission)
    try:
        yield denial
    finally:
        proxy.authorizer = None
