"""Every way in which the cluster says no, or says nothing.

The tree::

    YoshiError
    └── ClusterError        anything that went wrong between this program and the cluster
        ├── BadKubeconfig   there is no usable configuration: nothing was sent
        ├── Unreachable     nothing answered
        │   └── Ambiguous   a write was sent and its answer never came: it may or may not have been done
        ├── TimedOut        an answer, or what was waited for, did not come in time
        ├── NotKept         a write was answered, and the object does not say what was written
        ├── Endless         the same command had still something to write after many rounds
        └── ApiError        the API server answered, and the answer is no
            ├── NotFound, NotServed (the kind itself is missing), AlreadyExists, Expired (410)
            ├── Conflict (409), TestFailed (a JSON Patch that no longer fits), Invalid
            ├── Unauthorized, Forbidden
            └── Busy (429), ServerError (5xx, and answers that are none)
                └── NotAnswering (503 from an aggregated API)

HTTP answers are turned into errors in one place, `error_of`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from kubectl_yoshi.cluster.roles import roles_with
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import GROUP
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource

LONGEST = 300
"""Characters of a server's text that are shown; webhooks and proxies can send pages of it."""

_OF_ADMINISTRATORS = ("apiextensions.k8s.io", "rbac.authorization.k8s.io")
_GENERIC_REJECTION = "the server rejected our request due to an error in our request"
_CHECK_URL = "Check the server's URL in the kubeconfig, and any proxy or VPN between."
_HTML = re.compile(rb"<\s*(html|!doctype|head|body)\b", re.IGNORECASE)
_RBAC = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"')


class ClusterError(YoshiError):
    """Anything that went wrong between this program and the cluster."""


class BadKubeconfig(ClusterError):
    """The kubeconfig, or a flag that overrides it, cannot be used. Nothing was sent."""


class Unreachable(ClusterError):
    """Nothing answered at the API server's address."""


class Ambiguous(Unreachable):
    """A write was sent and the connection ended before its answer came."""


class TimedOut(ClusterError):
    """An answer, or what was waited for, did not come in time."""


class NotKept(ClusterError):
    """A write was answered, and what it wrote is not there."""


class Endless(ClusterError):
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
        way_out: str = "",
        *,
        status: int = 0,
        reason: str = "",
        detail: str = "",
        ref: ObjectRef | None = None,
    ) -> None:
        super().__init__(message, way_out)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.ref = ref


class NotFound(ApiError):
    """The object (or its namespace) does not exist."""


class NotServed(ApiError):
    """The API server does not know this kind of object: its CRD or aggregated API is not installed."""


class AlreadyExists(ApiError):
    """An object of that name is there already."""


class Expired(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class Conflict(ApiError):
    """409: the object is not as the request said it must be (resourceVersion, uid, field ownership, state)."""


class TestFailed(ApiError):
    """A JSON Patch does not fit the object as it is now: a `test` did not hold, or a path is missing.

    The API server (1.31 to 1.37) answers 422 Invalid with a generic text and empty details, whatever operation it was
    that did not fit, so the operations cannot be told apart; refusals by schema, CEL and webhooks name the object.
    """

    __test__ = False  # its name must not make pytest collect it


class Invalid(ApiError):
    """The API server, a CEL rule or an admission webhook refuses what was sent."""


class Unauthorized(ApiError):
    """401: the API server does not know who is asking."""


class Forbidden(ApiError):
    """403: who is asking lacks the right. `missing` is one line: "may not list ippools.crd.projectcalico.org"."""

    def __init__(self, message: str, way_out: str = "", *, missing: str = "", **rest: Any) -> None:
        super().__init__(message, way_out, **rest)
        self.missing = missing or message


class Busy(ApiError):
    """429, still after waiting as long as the server asked and trying again."""


class ServerError(ApiError):
    """5xx, or an answer that is not Kubernetes' (a proxy's HTML, a redirect, broken JSON)."""


class NotAnswering(ServerError):
    """503: the API server cannot reach the aggregated API that serves this kind of object."""


@dataclass(frozen=True)
class Asked:
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
    def object(self) -> str:
        """The object as a message names it."""
        if self.resource is None:
            return self.path
        if self.ref is not None:
            return str(self.ref)
        return self.resource.full_name + self._where

    @property
    def right(self) -> str:
        """The right that is needed: "list ippools.crd.projectcalico.org in namespace prod"."""
        if self.resource is None:
            return f"{self.verb} {self.path}"
        sub = f"/{self.subresource}" if self.subresource else ""
        plural, dot, group = self.resource.full_name.partition(".")
        return f"{self.verb} {plural}{sub}{dot}{group}{self._where}"

    @property
    def _where(self) -> str:
        if self.resource is None or not self.resource.namespaced:
            return ""
        return f" in namespace {self.namespace}" if self.namespace else " in all namespaces"

    def __str__(self) -> str:
        sub = f" ({self.subresource})" if self.subresource else ""
        return f"{self.verb} {self.object}{sub}"


def error_of(status: int, body: bytes, asked: Asked, server: str = "") -> ApiError:
    """The error for an HTTP answer that is not 2xx.

    Args:
        status: HTTP status code.
        body: the answer's body: a metav1.Status, or anything at all.
        asked: what was wanted.
        server: the API server's URL, for messages.
    """
    answer = status_object(body)
    reason = str(answer.get("reason") or "")
    details: Json = answer.get("details") or {}
    detail = one_line(str(answer.get("message") or "") or (plain_text(body) if not answer else ""))
    about: dict[str, Any] = {"status": status, "reason": reason, "detail": detail, "ref": asked.ref}
    at = f" (at {server})" if server else ""

    if not answer and _HTML.search(body[:20_000]):
        return _no_api_server(asked, status, detail, server, about)
    if status == 401:
        return Unauthorized(
            f"Cannot {asked}: the API server does not accept these credentials{at}.",
            "Log in again, or check the user of this kubeconfig context (kubectl config view --minify).",
            **about,
        )
    if "admission webhook" in detail and status < 500:
        return Invalid(f"Cannot {asked}: {detail}", **about)
    if status == 403:
        return _forbidden(asked, detail, about)
    if status == 404:
        return _not_found(asked, answer, details, about)
    if status == 410:
        return Expired(f"Cannot {asked}: {detail or 'the list is too old'}", "Run the same command again.", **about)
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExists(f"Cannot {asked}: {detail or 'it already exists'}.", **about)
    if status == 409:
        return Conflict(
            f"Cannot {asked}: {detail or 'it has changed meanwhile'}", "Run the same command again.", **about
        )
    if status == 422 and not details.get("kind") and detail.startswith(_GENERIC_REJECTION):
        return TestFailed(
            f"Cannot {asked}: it has changed since it was read, and the patch no longer fits.",
            "Run the same command again.",
            **about,
        )
    if status in (400, 405, 406, 413, 415, 422) and "HTTP request to an HTTPS server" not in detail:
        return Invalid(f"Cannot {asked}: {detail or f'HTTP {status}'}", _known_fields(asked, detail), **about)
    if status == 429:
        return Busy(
            f"Cannot {asked}: the API server has too much to do{at} and kept asking to wait.",
            "Run the same command again later.",
            **about,
        )
    if status == 503 and asked.resource is not None and "." in asked.resource.group:
        group_version = f"{asked.resource.version}.{asked.resource.group}"
        return NotAnswering(
            f"Cannot {asked}: what serves {asked.resource.api_version} does not answer ({detail or 'HTTP 503'}).",
            f"Look at it with: kubectl get apiservice {group_version}",
            **about,
        )
    if status == 504 or reason == "Timeout":
        hint = "The API server did not finish in time; run the same command again."
        return ServerError(f"Cannot {asked}: {detail or 'HTTP 504'}", hint, **about)
    if status < 500 or not answer:
        return _no_api_server(asked, status, detail, server, about)
    return ServerError(
        f"Cannot {asked}: the API server answered HTTP {status}: {detail or 'no reason given'}",
        "Run the same command again later; the API server's log tells more.",
        **about,
    )


def _known_fields(asked: Asked, detail: str) -> str:
    """The way out where a field is unknown (fieldValidation=Strict); "" where it is something else."""
    if asked.resource is None or "strict decoding error" not in detail:
        return ""
    return f"Correct the field's name; `kubectl explain {asked.resource.plural}.spec --recursive` lists them."


def no_json(asked: Asked, body: bytes, server: str = "") -> ServerError:
    """The error for a 2xx answer whose body is not a JSON object."""
    detail = one_line(plain_text(body))
    return _no_api_server(asked, 200, detail, server, {"status": 200, "detail": detail, "ref": asked.ref})


def _no_api_server(asked: Asked, status: int, detail: str, server: str, about: dict[str, Any]) -> ServerError:
    return ServerError(
        f"Cannot {asked}: {server or 'the server'} answered HTTP {status}, but not as a Kubernetes API server does"
        f"{': ' + detail if detail else '.'}",
        _CHECK_URL,
        **about,
    )


def status_object(body: bytes) -> Json:
    """The metav1.Status in an answer's body, {} where there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}


def plain_text(body: bytes) -> str:
    """What a body that is no metav1.Status says: an HTML page's title, or its text; never markup or binary."""
    text = body[:20_000].decode("utf-8", "replace")
    if _HTML.search(body[:20_000]):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return title.group(1) if title else "an HTML page"
    return text if text.isprintable() or text.strip().replace("\n", " ").isprintable() else "no readable text"


def one_line(text: str) -> str:
    """The text on one line, not longer than LONGEST characters."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _forbidden(asked: Asked, detail: str, about: dict[str, Any]) -> ApiError:
    rbac = _RBAC.search(detail)
    if not rbac and asked.resource is not None and "forbidden" in detail and "cannot" not in detail:
        # An admission plugin (quota, pod security, a namespace that is ending) refuses the object, not the person.
        return Invalid(f"Cannot {asked}: {detail}", **about)
    user = f'User "{rbac["user"]}"' if rbac else "This user"
    missing = f"may not {asked.right}"
    return Forbidden(f"{user} {missing}.", who_may(asked), missing=missing, **about)


def who_may(asked: Asked) -> str:
    """Return what to do about a right that is missing."""
    if asked.resource is not None and asked.resource.group in _OF_ADMINISTRATORS:
        return "This is for an administrator of the cluster."
    roles = roles_with(asked.verb, asked.resource, asked.subresource) if asked.resource is not None else ()
    hint = f"Ask an administrator for the right to {asked.right}"
    if not roles:
        return f"{hint}."
    return f"{hint}; the ClusterRole {roles[0]}{f' (or {roles[1]})' if roles[1:] else ''} holds it."


def _not_found(asked: Asked, answer: Json, details: Json, about: dict[str, Any]) -> ApiError:
    if asked.resource is None:
        return NotServed(f"The API server does not serve {asked.path}.", _CHECK_URL, **about)
    if details.get("name") and details.get("kind") == "namespaces" and asked.resource.plural != "namespaces":
        namespace = details["name"]
        return NotFound(
            f"Cannot {asked}: there is no namespace {namespace}.", "Check -n, or create the namespace.", **about
        )
    if details.get("name") or "not found" in str(answer.get("message") or ""):
        where = f" -n {asked.namespace}" if asked.namespace else ""
        hint = f"See what there is: kubectl get {asked.resource.full_name}{where}"
        return NotFound(f"There is no {asked.object}.", hint, **about)
    kind = f"{asked.resource.full_name} ({asked.resource.version})"
    if asked.resource.group == GROUP:
        hint = "Install the custom resources first: kubectl yoshi install"
    else:
        hint = f"Install what provides {asked.resource.api_version}, or check kubectl api-resources."
    return NotServed(f"Cannot {asked}: this cluster does not know {kind}.", hint, **about)
