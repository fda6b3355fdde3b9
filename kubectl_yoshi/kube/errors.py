"""Every way in which the cluster says no, or says nothing.

The tree::

    YoshiError
    └── ClusterError                        anything that went wrong between this program and the cluster
        ├── KubeconfigError                 there is no usable configuration: nothing was sent
        ├── UnreachableError                nothing answered
        │   └── AmbiguousWriteError         a write was sent and its response never came: it may have been done
        ├── TimedOutError                   a response, or what was waited for, did not come in time
        ├── WriteLostError                  a write was answered, and the object does not say what was written
        ├── NotConvergedError               the same command had still something to write after many rounds
        └── ApiError                        the API server answered, and the answer is no
            ├── NotFoundError, NotServedError (the kind itself is missing), AlreadyExistsError, ExpiredError (410)
            ├── ConflictError (409), PatchTestFailedError (a JSON Patch that no longer fits), InvalidError
            ├── UnauthorizedError, ForbiddenError
            └── TooManyRequestsError (429), ServerError (5xx, and responses that are not Kubernetes')
                └── ApiServiceUnavailableError (503 from an aggregated API)

HTTP answers are turned into errors in one place, `error_from_response`.
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
"""Characters of a server's text that are shown; webhooks and proxies can send pages of it."""

_ADMIN_GROUPS = ("apiextensions.k8s.io", "rbac.authorization.k8s.io")
_GENERIC_REJECTION = "the server rejected our request due to an error in our request"
_CHECK_URL = "Check the server's URL in the kubeconfig, and any proxy or VPN between."
_TOO_LARGE = re.compile(
    r"etcdserver: request is too large|trying to send message larger than max|request entity too large", re.IGNORECASE
)
"""How the API server refuses a large object: with HTTP 500 from 1.5 MiB on, as etcd does; with 500 from 2 MiB on, which
its client of etcd does not send; with 413 if a request has more than 3 MiB."""
_HTML = re.compile(rb"<\s*(html|!doctype|head|body)\b", re.IGNORECASE)
_RBAC = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"')
BINDABLE_ROLES = ("yoshi-user", "yoshi-admin")
"""Roles of manifests/roles.yaml that an administrator binds for somebody who lacks a right, the lesser one first."""


class ClusterError(YoshiError):
    """Anything that went wrong between this program and the cluster."""


class KubeconfigError(ClusterError):
    """The kubeconfig, or a flag that overrides it, cannot be used. Nothing was sent."""


class UnreachableError(ClusterError):
    """Nothing answered at the API server's address."""


class AmbiguousWriteError(UnreachableError):
    """A write was sent and the connection ended before its answer came."""


class TimedOutError(ClusterError):
    """An answer, or what was waited for, did not come in time."""


class WriteLostError(ClusterError):
    """A write was answered, and what it wrote is not there."""


class NotConvergedError(ClusterError):
    """There was still something to write after so many rounds that there always will be."""


class ApiError(ClusterError):
    """The API server answered, and the answer is no.

    Attributes:
        status: HTTP status code.
        reason: metav1.Status reason, such as "NotFound"; "" where the answer had none.
        detail: the server's own words, on one line and shortened.
        ref: the object that was asked about, None where it was not about one.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int = 0,
        reason: str = "",
        detail: str = "",
        ref: ObjectRef | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.ref = ref


class NotFoundError(ApiError):
    """The object (or its namespace) does not exist."""


class NotServedError(ApiError):
    """The API server does not know this kind of object: its CRD or aggregated API is not installed."""


class AlreadyExistsError(ApiError):
    """An object of that name is there already."""


class ExpiredError(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class ConflictError(ApiError):
    """409: the object is not as the request said it must be (resourceVersion, uid, field ownership, state)."""


class PatchTestFailedError(ApiError):
    """A JSON Patch does not fit the object as it is now: a `test` did not hold, or a path is missing.

    The API server (1.31 to 1.37) answers 422 Invalid with a generic text and empty details, whatever operation it was
    that did not fit, so the operations cannot be told apart; refusals by schema, CEL and webhooks name the object.
    """

    __test__ = False  # its name must not make pytest collect it


class InvalidError(ApiError):
    """The API server, a CEL rule or an admission webhook refuses what was sent."""


class UnauthorizedError(ApiError):
    """401: the API server does not know who is asking."""


class ForbiddenError(ApiError):
    """403: who is asking lacks the right. `missing_permission` is one line: "may not list
    ippools.crd.projectcalico.org"."""

    def __init__(self, message: str, hint: str = "", *, missing_permission: str = "", **rest: Any) -> None:
        super().__init__(message, hint, **rest)
        self.missing_permission = missing_permission or message


class TooManyRequestsError(ApiError):
    """429, still after waiting as long as the server asked and trying again."""


class ServerError(ApiError):
    """5xx, or an answer that is not Kubernetes' (a proxy's HTML, a redirect, broken JSON)."""


class ApiServiceUnavailableError(ServerError):
    """503: the API server cannot reach the aggregated API that serves this kind of object."""


@dataclass(frozen=True)
class RequestInfo:
    """What a request wanted, for messages.

    Attributes:
        verb: Kubernetes' word: get, list, watch, create, patch, update, delete.
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
    def ref(self) -> ObjectRef | None:
        """The object asked about, None for a list or a path."""
        return self.resource.ref(self.name, self.namespace) if self.resource and self.name else None

    @property
    def object_name(self) -> str:
        """The object as a message names it."""
        if self.resource is None:
            return self.path
        if self.ref is not None:
            return str(self.ref)
        return self.resource.full_name + self._namespace_suffix

    @property
    def permission(self) -> str:
        """The right that is needed: "list ippools.crd.projectcalico.org in namespace prod"."""
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
"""What a moment later may be over."""


def error_from_response(status: int, body: bytes, request_info: RequestInfo, server: str = "") -> ApiError:
    """The error for an HTTP answer that is not 2xx.

    Args:
        status: HTTP status code.
        body: the answer's body: a metav1.Status, or anything at all.
        request_info: what was wanted.
        server: the API server's URL, for messages.
    """
    answer = parse_status(body)
    reason = str(answer.get("reason") or "")
    details: Json = answer.get("details") or {}
    detail = one_line(str(answer.get("message") or "") or (extract_text(body) if not answer else ""))
    attributes: dict[str, Any] = {"status": status, "reason": reason, "detail": detail, "ref": request_info.ref}
    location = f" (at {server})" if server else ""

    if not answer and _HTML.search(body[:20_000]):
        return _unexpected_response_error(request_info, status, detail, server, attributes)
    if status == 401:
        return UnauthorizedError(
            f"Cannot {request_info}: the API server does not accept these credentials{location}.",
            "Log in again, or check the user of this kubeconfig context (kubectl config view --minify).",
            **attributes,
        )
    if "admission webhook" in detail and status < 500:
        return InvalidError(f"Cannot {request_info}: {detail}", **attributes)
    if status == 413 or (status >= 400 and _TOO_LARGE.search(detail)):
        return InvalidError(
            f"Cannot {request_info}: the object would be too large ({detail or f'HTTP {status}'})",
            "etcd holds at most 1.5 MiB in one object: use another network for more addresses.",
            **attributes,
        )
    if status == 403:
        return _forbidden_error(request_info, detail, attributes)
    if status == 404:
        return _not_found_error(request_info, answer, details, attributes)
    if status == 410:
        return ExpiredError(
            f"Cannot {request_info}: {detail or 'the list is too old'}", "Run the same command again.", **attributes
        )
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExistsError(f"Cannot {request_info}: {detail or 'it already exists'}.", **attributes)
    if status == 409:
        return ConflictError(
            f"Cannot {request_info}: {detail or 'it has changed meanwhile'}",
            "Run the same command again.",
            **attributes,
        )
    if status == 422 and not details.get("kind") and detail.startswith(_GENERIC_REJECTION):
        return PatchTestFailedError(
            f"Cannot {request_info}: it has changed since it was read, and the patch no longer fits.",
            "Run the same command again.",
            **attributes,
        )
    if status in (400, 405, 406, 415, 422) and "HTTP request to an HTTPS server" not in detail:
        return InvalidError(
            f"Cannot {request_info}: {detail or f'HTTP {status}'}",
            _unknown_field_hint(request_info, detail),
            **attributes,
        )
    if status == 429:
        return TooManyRequestsError(
            f"Cannot {request_info}: the API server has too much to do{location} and kept asking to wait.",
            "Run the same command again later.",
            **attributes,
        )
    if status == 503 and request_info.resource is not None and "." in request_info.resource.group:
        group_version = f"{request_info.resource.version}.{request_info.resource.group}"
        return ApiServiceUnavailableError(
            f"Cannot {request_info}: what serves {request_info.resource.api_version} does not answer "
            f"({detail or 'HTTP 503'}).",
            f"Look at it with: kubectl get apiservice {group_version}",
            **attributes,
        )
    if status == 504 or reason == "Timeout":
        hint = "The API server did not finish in time; run the same command again."
        return ServerError(f"Cannot {request_info}: {detail or 'HTTP 504'}", hint, **attributes)
    if status < 500 or not answer:
        return _unexpected_response_error(request_info, status, detail, server, attributes)
    return ServerError(
        f"Cannot {request_info}: the API server answered HTTP {status}: {detail or 'no reason given'}",
        "Run the same command again later; the API server's log tells more.",
        **attributes,
    )


def _unknown_field_hint(request_info: RequestInfo, detail: str) -> str:
    """The way out where a field is unknown (fieldValidation=Strict); "" where it is something else."""
    if request_info.resource is None or "strict decoding error" not in detail:
        return ""
    return f"Correct the field's name; `kubectl explain {request_info.resource.plural}.spec --recursive` lists them."


def invalid_json_error(request_info: RequestInfo, body: bytes, server: str = "") -> ServerError:
    """The error for a 2xx answer whose body is not a JSON object."""
    detail = one_line(extract_text(body))
    return _unexpected_response_error(
        request_info, 200, detail, server, {"status": 200, "detail": detail, "ref": request_info.ref}
    )


def _unexpected_response_error(
    request_info: RequestInfo, status: int, detail: str, server: str, attributes: dict[str, Any]
) -> ServerError:
    return ServerError(
        f"Cannot {request_info}: {server or 'the server'} answered HTTP {status}, but not as a Kubernetes API server "
        "does"
        f"{': ' + detail if detail else '.'}",
        _CHECK_URL,
        **attributes,
    )


def parse_status(body: bytes) -> Json:
    """The metav1.Status in an answer's body, {} where there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}


def extract_text(body: bytes) -> str:
    """What a body that is no metav1.Status says: an HTML page's title, or its text; never markup or binary."""
    text = body[:20_000].decode("utf-8", "replace")
    if _HTML.search(body[:20_000]):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return title.group(1) if title else "an HTML page"
    return text if text.isprintable() or text.strip().replace("\n", " ").isprintable() else "no readable text"


def one_line(text: str) -> str:
    """The text on one line, not longer than LONGEST characters."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"


def _forbidden_error(request_info: RequestInfo, detail: str, attributes: dict[str, Any]) -> ApiError:
    rbac = _RBAC.search(detail)
    if not rbac and request_info.resource is not None and "forbidden" in detail and "cannot" not in detail:
        # An admission plugin (quota, pod security, a namespace that is ending) refuses the object, not the person.
        return InvalidError(f"Cannot {request_info}: {detail}", **attributes)
    user = f'User "{rbac["user"]}"' if rbac else "This user"
    missing_permission = f"may not {request_info.permission}"
    return ForbiddenError(
        f"{user} {missing_permission}.",
        permission_hint(request_info),
        missing_permission=missing_permission,
        **attributes,
    )


def permission_hint(request_info: RequestInfo) -> str:
    """Return what to do about a right that is missing."""
    if request_info.resource is not None and request_info.resource.group in _ADMIN_GROUPS:
        return "This is for an administrator of the cluster."
    roles = (
        find_roles(request_info.verb, request_info.resource, request_info.subresource)
        if request_info.resource is not None
        else ()
    )
    hint = f"Ask an administrator for the right to {request_info.permission}"
    if not roles:
        return f"{hint}."
    return f"{hint}; the ClusterRole {roles[0]}{f' (or {roles[1]})' if roles[1:] else ''} holds it."


def _not_found_error(request_info: RequestInfo, answer: Json, details: Json, attributes: dict[str, Any]) -> ApiError:
    if request_info.resource is None:
        return NotServedError(f"The API server does not serve {request_info.path}.", _CHECK_URL, **attributes)
    if details.get("name") and details.get("kind") == "namespaces" and request_info.resource.plural != "namespaces":
        namespace = details["name"]
        return NotFoundError(
            f"Cannot {request_info}: there is no namespace {namespace}.",
            "Check -n, or create the namespace.",
            **attributes,
        )
    if details.get("name") or "not found" in str(answer.get("message") or ""):
        where = f" -n {request_info.namespace}" if request_info.namespace else ""
        hint = f"See what there is: kubectl get {request_info.resource.full_name}{where}"
        return NotFoundError(f"There is no {request_info.object_name}.", hint, **attributes)
    kind = f"{request_info.resource.full_name} ({request_info.resource.version})"
    if request_info.resource.group == GROUP:
        hint = "Install the custom resources first: kubectl yoshi install"
    else:
        hint = f"Install what provides {request_info.resource.api_version}, or check kubectl api-resources."
    return NotServedError(f"Cannot {request_info}: this cluster does not know {kind}.", hint, **attributes)


def find_roles(verb: str, resource: Resource, subresource: str = "") -> tuple[str, ...]:
    """The roles of BINDABLE_ROLES that hold a right; () where none does.

    Args:
        verb: Kubernetes' word.
        resource, subresource: of what.
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
    """The rules of each role, by its name."""
    from importlib.resources import files

    import yaml  # late, since few runs meet a refusal

    text = files("kubectl_yoshi.manifests").joinpath("roles.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {name_of(role): role["rules"] for role in yaml.load_all(text, Loader=loader)}
