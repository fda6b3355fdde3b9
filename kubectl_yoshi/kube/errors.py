"""The errors of requests to the cluster.

The tree::

    YoshiError
    └── ClusterError                        any error between this program and the cluster
        ├── KubeconfigError                 there is no usable configuration: nothing was sent
        ├── UnreachableError                nothing answered
        │   └── AmbiguousWriteError         a write was sent and its response never came: it may have been applied
        ├── TimedOutError                   a response, or a condition that was waited for, did not come in time
        ├── WriteLostError                  a write was answered, and the object does not have what was written
        ├── NotConvergedError               a command still had something to write after many rounds
        └── ApiError                        the API server answered with an error
            ├── NotFoundError, NotServedError (the resource itself is missing), AlreadyExistsError, ExpiredError (410)
            ├── ConflictError (409), PatchTestFailedError (a JSON Patch that no longer fits), InvalidError
        │   └── PolicyDeniedError           an admission policy of this program refuses the request
            ├── UnauthorizedError, ForbiddenError
            └── TooManyRequestsError (429), ServerError (5xx, and responses that are not Kubernetes')
                └── ApiServiceUnavailableError (503 from an aggregated API)

HTTP responses are converted into errors in one place, `error_from_response`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import GROUP
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, name_of

MAX_TEXT_LENGTH = 300
"""Maximum number of characters of a server's text that are shown; webhooks and proxies may send pages."""

_ADMIN_GROUPS = ("apiextensions.k8s.io", "rbac.authorization.k8s.io")
_GENERIC_REJECTION = "the server rejected our request due to an error in our request"
_CHECK_URL = "Check the server's URL in the kubeconfig, and any proxy or VPN between."
_TOO_LARGE = re.compile(
    r"etcdserver: request is too large|trying to send message larger than max|request entity too large", re.IGNORECASE
)
"""How the API server refuses a large object.

With HTTP 500 from 1.5 MiB on, as etcd does; with 500 from 2 MiB on, which its etcd client does not send; with 413 if a
request has more than 3 MiB.
"""
_HTML = re.compile(rb"<\s*(html|!doctype|head|body)\b", re.IGNORECASE)
_POLICY_DENIAL = re.compile(
    r"ValidatingAdmissionPolicy '(?P<policy>yoshi-[^']*)'(?: with binding '[^']*')? denied request: (?P<reason>.*)"
)
_ADDRESS = re.compile(r"\baddress (?P<address>[0-9][0-9.]*[0-9]|[0-9a-f:]*:[0-9a-f:]+)")
_RBAC = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"')
WRITE_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
"""The HTTP method of each verb of the Kubernetes API that writes; all others are GET."""
BINDABLE_ROLES = ("yoshi-user", "yoshi-admin")
"""Roles of manifests/roles.yaml that an administrator binds for a user who lacks a permission, the lesser one first."""


class ClusterError(YoshiError):
    """Any error between this program and the cluster."""


class KubeconfigError(ClusterError):
    """The kubeconfig, or a flag that overrides it, cannot be used. Nothing was sent."""


class UnreachableError(ClusterError):
    """Nothing answered at the API server's address."""


class AmbiguousWriteError(UnreachableError):
    """A write was sent and the connection ended before its response came."""


class TimedOutError(ClusterError):
    """A response, or a condition that was waited for, did not come in time."""


class WriteLostError(ClusterError):
    """A write was answered, and the object does not have what was written."""


class NotConvergedError(ClusterError):
    """There was still something to write after the maximum number of rounds."""


class ApiError(ClusterError):
    """The API server answered with an error.

    Attributes:
        status: HTTP status code.
        detail: the server's message, on one line and shortened.
    """

    def __init__(self, message: str, hint: str = "", *, status: int = 0, detail: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.detail = detail


class NotFoundError(ApiError):
    """The object (or its namespace) does not exist."""


class NotServedError(ApiError):
    """The API server does not serve this resource: its CRD or aggregated API is not installed."""


class AlreadyExistsError(ApiError):
    """An object of that name exists already."""


class ExpiredError(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class ConflictError(ApiError):
    """409: the object is not in the state that the request requires (resourceVersion, uid, field ownership, state)."""


class PatchTestFailedError(ApiError):
    """A JSON Patch does not fit the current object: a `test` failed, or a path is missing.

    The API server (1.31 to 1.37) answers 422 Invalid with a generic text and empty details, whichever operation failed,
    so the operations cannot be distinguished; refusals by schema, CEL and webhooks name the object.
    """

    __test__ = False  # prevents pytest from collecting it because of its name


class InvalidError(ApiError):
    """The API server, a CEL rule or an admission webhook refuses what was sent."""


class PolicyDeniedError(InvalidError):
    """An admission policy of this program (manifests/policies) refuses the request."""

    @property
    def compares_with_allocations(self) -> bool:
        """Return whether the policy compares the object with allocations, of which the API server may lag behind.

        It reads them through a watch, as each API server of a cluster does.
        """
        return "ValidatingAdmissionPolicy 'yoshi-address-use" in self.detail


class UnauthorizedError(ApiError):
    """401: the API server does not accept the credentials."""


class ForbiddenError(ApiError):
    """403: the user lacks the permission.

    `missing_permission` is one line: "may not list ippools.crd.projectcalico.org".
    """

    def __init__(self, message: str, hint: str = "", *, missing_permission: str = "", **rest: Any) -> None:
        super().__init__(message, hint, **rest)
        self.missing_permission = missing_permission or message


class TooManyRequestsError(ApiError):
    """429, even after retries with the delays that the server requested."""


class ServerError(ApiError):
    """5xx, or a response that is not Kubernetes' (a proxy's HTML, a redirect, broken JSON)."""


class ApiServiceUnavailableError(ServerError):
    """503: the API server cannot reach the aggregated API that serves this resource."""


@dataclass(frozen=True)
class RequestInfo:
    """The purpose of a request, for messages.

    Attributes:
        verb: the Kubernetes verb: get, list, watch, create, update, patch, delete.
        resource: None for a path that is no resource, such as /version.
        path: the URL path.
    """

    verb: str
    resource: Resource | None = None
    name: str = ""
    namespace: str | None = None
    subresource: str = ""
    path: str = ""

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return WRITE_METHODS.get(self.verb, "GET")

    @property
    def ref(self) -> ObjectRef | None:
        """Return the object of the request; None for a list or a path."""
        return self.resource.ref(self.name, self.namespace) if self.resource and self.name else None

    @property
    def object_name(self) -> str:
        """Return the object as a message names it."""
        if self.resource is None:
            return self.path
        if self.ref is not None:
            return str(self.ref)
        return self.resource.full_name + self._namespace_suffix

    @property
    def permission(self) -> str:
        """Return the required permission: "list ippools.crd.projectcalico.org in namespace prod"."""
        if self.resource is None:
            return f"{self.verb} {self.path}"
        sub = f"/{self.subresource}" if self.subresource else ""
        plural, dot, group = self.resource.full_name.partition(".")
        return f"{self.verb} {plural}{sub}{dot}{group}{self._namespace_suffix}"

    @property
    def _namespace_suffix(self) -> str:
        if self.resource is None or not self.resource.namespaced:
            return ""
        return f" in namespace {self.namespace}" if self.namespace else " in all namespaces"

    def __str__(self) -> str:
        sub = f" ({self.subresource})" if self.subresource else ""
        return f"{self.verb} {self.object_name}{sub}"


TRANSIENT_ERRORS = (UnreachableError, TimedOutError, TooManyRequestsError, ServerError)
"""Errors that may disappear on a retry."""


def error_from_response(status: int, body: bytes, request_info: RequestInfo, server: str = "") -> ApiError:
    """Return the error for an HTTP response that is not 2xx.

    Args:
        status: HTTP status code.
        body: the response body: a metav1.Status, or anything else.
        request_info: the purpose of the request.
        server: the API server's URL, for messages.
    """
    answer = parse_status(body)
    reason = str(answer.get("reason") or "")
    details: Json = answer.get("details") or {}
    detail = one_line(str(answer.get("message") or "") or (extract_text(body) if not answer else ""))
    attributes: dict[str, Any] = {"status": status, "detail": detail}
    location = f" (at {server})" if server else ""

    if not answer and _HTML.search(body[:20_000]):
        return _unexpected_response_error(request_info, status, detail, server, attributes)
    if status == 401:
        return UnauthorizedError(
            f"cannot {request_info}: the API server does not accept these credentials{location}",
            "Log in again, or check the user of this kubeconfig context (kubectl config view --minify).",
            **attributes,
        )
    if denial := _POLICY_DENIAL.search(" ".join(str(answer.get("message") or "").split())):
        return _policy_denied_error(request_info, denial, attributes)
    if "admission webhook" in detail and status < 500:
        return InvalidError(f"cannot {request_info}: {detail}", **attributes)
    if status == 413 or (status >= 400 and _TOO_LARGE.search(detail)):
        return InvalidError(
            f"cannot {request_info}: the object would be too large ({detail or f'HTTP {status}'})",
            "etcd holds at most 1.5 MiB in one object: use another network for more addresses.",
            **attributes,
        )
    if status == 403:
        return _forbidden_error(request_info, detail, attributes)
    if status == 404:
        return _not_found_error(request_info, answer, details, attributes)
    if status == 410:
        return ExpiredError(
            f"cannot {request_info}: {detail or 'the list is too old'}", "Run the same command again.", **attributes
        )
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExistsError(f"cannot {request_info}: {detail or 'it already exists'}", **attributes)
    if status == 409:
        return ConflictError(
            f"cannot {request_info}: {detail or 'it has changed meanwhile'}",
            "Run the same command again.",
            **attributes,
        )
    if status == 422 and not details.get("kind") and detail.startswith(_GENERIC_REJECTION):
        return PatchTestFailedError(
            f"cannot {request_info}: it has changed since it was read, and the patch no longer applies",
            "Run the same command again.",
            **attributes,
        )
    if status in (400, 405, 406, 415, 422) and "HTTP request to an HTTPS server" not in detail:
        return InvalidError(
            f"cannot {request_info}: {detail or f'HTTP {status}'}",
            _unknown_field_hint(request_info, detail),
            **attributes,
        )
    if status == 429:
        return TooManyRequestsError(
            f"cannot {request_info}: the API server{location} is overloaded and kept asking to retry later",
            "Run the same command again later.",
            **attributes,
        )
    if status == 503 and request_info.resource is not None and "." in request_info.resource.group:
        group_version = f"{request_info.resource.version}.{request_info.resource.group}"
        return ApiServiceUnavailableError(
            f"cannot {request_info}: the API {request_info.resource.api_version} is not available "
            f"({detail or 'HTTP 503'})",
            f"Look at it with: kubectl get apiservice {group_version}",
            **attributes,
        )
    if status == 504 or reason == "Timeout":
        hint = "The API server did not finish in time; run the same command again."
        return ServerError(f"cannot {request_info}: {detail or 'HTTP 504'}", hint, **attributes)
    if status < 500 or not answer:
        return _unexpected_response_error(request_info, status, detail, server, attributes)
    return ServerError(
        f"cannot {request_info}: the API server answered HTTP {status}: {detail or 'no reason given'}",
        "Run the same command again later; the API server's log tells more.",
        **attributes,
    )


def _policy_denied_error(
    request_info: RequestInfo, denial: re.Match[str], attributes: dict[str, Any]
) -> PolicyDeniedError:
    """Return the error for the denial of a policy, whose message names the address and its holder."""
    address = _ADDRESS.search(denial["reason"])
    command = f"kubectl yoshi ips show {address['address']}" if address else "kubectl yoshi policy status"
    return PolicyDeniedError(
        f"cannot {request_info}: {one_line(denial['reason'])} (policy {denial['policy']})",
        f"Look at it with: {command}",
        **attributes,
    )


def _unknown_field_hint(request_info: RequestInfo, detail: str) -> str:
    """Return the hint for an unknown field (fieldValidation=Strict); "" for other errors."""
    if request_info.resource is None or "strict decoding error" not in detail:
        return ""
    return f"Correct the field's name; `kubectl explain {request_info.resource.plural}.spec --recursive` lists them."


def invalid_json_error(request_info: RequestInfo, body: bytes, server: str = "") -> ServerError:
    """Return the error for a 2xx response whose body is not a JSON object."""
    detail = one_line(extract_text(body))
    return _unexpected_response_error(request_info, 200, detail, server, {"status": 200, "detail": detail})


def _unexpected_response_error(
    request_info: RequestInfo, status: int, detail: str, server: str, attributes: dict[str, Any]
) -> ServerError:
    return ServerError(
        f"cannot {request_info}: {server or 'the server'} answered HTTP {status}, which is not a response of a "
        f"Kubernetes API server{': ' + detail if detail else ''}",
        _CHECK_URL,
        **attributes,
    )


def parse_status(body: bytes) -> Json:
    """Return the metav1.Status of a response body; {} if there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}


def extract_text(body: bytes) -> str:
    """Return the text of a body without a metav1.Status: an HTML page's title, or readable text; never markup."""
    text = body[:20_000].decode("utf-8", "replace")
    if _HTML.search(body[:20_000]):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return title.group(1) if title else "an HTML page"
    return text if text.isprintable() or text.strip().replace("\n", " ").isprintable() else "no readable text"


def one_line(text: str) -> str:
    """Return the text on one line, with at most MAX_TEXT_LENGTH characters."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"


def _forbidden_error(request_info: RequestInfo, detail: str, attributes: dict[str, Any]) -> ApiError:
    rbac = _RBAC.search(detail)
    if not rbac and request_info.resource is not None and "forbidden" in detail and "cannot" not in detail:
        # An admission plugin (quota, pod security, a terminating namespace) refuses the object, not the user.
        return InvalidError(f"cannot {request_info}: {detail}", **attributes)
    user = f'User "{rbac["user"]}"' if rbac else "this user"
    missing_permission = f"may not {request_info.permission}"
    return ForbiddenError(
        f"{user} {missing_permission}",
        permission_hint(request_info),
        missing_permission=missing_permission,
        **attributes,
    )


def permission_hint(request_info: RequestInfo) -> str:
    """Return what to do about a missing permission."""
    if request_info.resource is not None and request_info.resource.group in _ADMIN_GROUPS:
        return "Ask an administrator of the cluster to run this command."
    roles = (
        find_roles(request_info.verb, request_info.resource, request_info.subresource)
        if request_info.resource is not None
        else ()
    )
    hint = f"Ask an administrator for permission to {request_info.permission}"
    if not roles:
        return f"{hint}."
    return f"{hint}; the ClusterRole {roles[0]}{f' (or {roles[1]})' if roles[1:] else ''} grants it."


def _not_found_error(request_info: RequestInfo, answer: Json, details: Json, attributes: dict[str, Any]) -> ApiError:
    if request_info.resource is None:
        return NotServedError(f"the API server does not serve {request_info.path}", _CHECK_URL, **attributes)
    if details.get("name") and details.get("kind") == "namespaces" and request_info.resource.plural != "namespaces":
        namespace = details["name"]
        return NotFoundError(
            f"cannot {request_info}: there is no namespace {namespace}",
            "Check -n, or create the namespace.",
            **attributes,
        )
    if details.get("name") or "not found" in str(answer.get("message") or ""):
        where = f" -n {request_info.namespace}" if request_info.namespace else ""
        hint = f"List existing objects: kubectl get {request_info.resource.full_name}{where}"
        return NotFoundError(f"{request_info.object_name} not found", hint, **attributes)
    kind = f"{request_info.resource.full_name} ({request_info.resource.version})"
    if request_info.resource.group == GROUP:
        hint = "Install the custom resources first: kubectl yoshi install"
    else:
        hint = f"Install what provides {request_info.resource.api_version}, or check kubectl api-resources."
    return NotServedError(f"cannot {request_info}: this cluster does not serve {kind}", hint, **attributes)


def find_roles(verb: str, resource: Resource, subresource: str = "") -> tuple[str, ...]:
    """Return the roles of BINDABLE_ROLES that include a permission; () if none does.

    Args:
        verb: the Kubernetes verb.
        resource, subresource: what the permission is for.
    """
    kind = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return tuple(
        role
        for role in BINDABLE_ROLES
        if any(
            verb in rule["verbs"] and kind in rule["resources"] and resource.group in rule["apiGroups"]
            for rule in _load_rules()[role]
        )
    )


@cache
def _load_rules() -> Mapping[str, list[Json]]:
    """Return the rules of each role, by name."""
    from importlib.resources import files

    import yaml  # imported late, since few runs get a refusal

    text = files("kubectl_yoshi.manifests").joinpath("roles.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {name_of(role): role["rules"] for role in yaml.load_all(text, Loader=loader)}
