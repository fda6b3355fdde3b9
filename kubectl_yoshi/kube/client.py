"""The verbs of the Kubernetes API on plain JSON objects.

Every write has the field manager `kubectl-yoshi`. This module does not interpret objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from kubectl_yoshi.kube.connection import Connection
from kubectl_yoshi.kube.errors import (
    ClusterError,
    ExpiredError,
    InvalidError,
    RequestInfo,
    error_from_response,
    invalid_json_error,
)
from kubectl_yoshi.kube.list_stream import ListItemParser
from kubectl_yoshi.kube.retry import Clock, Sender
from kubectl_yoshi.model.access import Access
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, resource_version_of
from kubectl_yoshi.model.snapshot import ServedApis

FIELD_MANAGER = "kubectl-yoshi"
ACCESS_REVIEW = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
PAGE_SIZE = 500
MIN_REMAINING_FOR_CACHE = 1500
"""A list with this number of objects or more after the first page is not read in pages."""
AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
WATCH_GRACE_SECONDS = 30.0
"""How long, in seconds, a watch may be silent beyond its timeout before the connection counts as lost."""


@dataclass(frozen=True)
class Listing:
    """A consistent list.

    Attributes:
        items: the objects, each with its apiVersion and kind.
        resource_version: where to start a watch.
    """

    items: tuple[Json, ...]
    resource_version: str


class Api:
    """The verbs of an API server. Thread-safe.

    All methods raise kube.errors. `dry_run` sends the request with dryRun=All: the server checks it and persists
    nothing.

    Args:
        connection: the server and the credentials.
        on_warning: called once for each distinct warning of the API server.
        clock: replaced in tests.
    """

    def __init__(
        self, connection: Connection, on_warning: Callable[[str], None] | None = None, clock: Clock | None = None
    ) -> None:
        self.connection = connection
        self._sender = Sender(connection, on_warning, clock)

    def with_warnings_to(self, on_warning: Callable[[str], None]) -> Api:
        """Return a client of the same server that passes the API server's warnings to another function."""
        return Api(self.connection, on_warning, self.clock)

    @property
    def clock(self) -> Clock:
        """Return the clock of all waits."""
        return self._sender.clock

    @cached_property
    def served(self) -> ServedApis:
        """Return what the server serves; discovered once."""
        from kubectl_yoshi.kube.discovery import discover

        return discover(self)

    @property
    def is_discovered(self) -> bool:
        """Return whether `served` needs no more requests."""
        return "served" in self.__dict__

    def invalidate_discovery(self) -> None:
        """Forget what the server serves; it is discovered again on demand."""
        self.__dict__.pop("served", None)

    def raw(self, path: str, accept: str = "application/json") -> Json:
        """Return the response to a GET of a path, such as /version."""
        return self._sender.send(RequestInfo("get", path=path.partition("?")[0]), path, accept=accept)

    def get(self, ref: ObjectRef, *, subresource: str = "") -> Json:
        """Return one object."""
        return self._send(_object_request("get", ref, subresource))

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Json], Json] | None = None,
    ) -> tuple[Json, ...]:
        """Return all objects of a resource in a namespace (None: in all), each as returned by `transform`."""
        listing = self.listing(
            resource, namespace, label_selector=label_selector, field_selector=field_selector, transform=transform
        )
        return listing.items

    def listing(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Json], Json] | None = None,
    ) -> Listing:
        """Return what `list` returns, with the resourceVersion at which a watch starts.

        The list is read in pages of one snapshot; if the snapshot expires between two pages, the list is read again, as
        a whole. A long list is read from the server's cache instead (`_list_from_cache`).
        """
        items: list[Json] = []
        kinds = {"apiVersion": resource.api_version, "kind": resource.kind}
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}

        def to_item(item: Json) -> Json:
            full_item = {**kinds, **item}
            return transform(full_item) if transform else full_item

        for page in self._pages(resource, namespace, query):
            if page is None:
                items = []
                continue
            version = resource_version_of(page)
            if not items and (page["metadata"].get("remainingItemCount") or 0) >= MIN_REMAINING_FOR_CACHE:
                try:
                    return self._list_from_cache(resource, namespace, query, version, to_item)
                except ClusterError:  # whatever the reason, continue with pages
                    pass
            items += map(to_item, page.get("items") or ())
        return Listing(tuple(items), version)

    def _list_from_cache(
        self,
        resource: Resource,
        namespace: str | None,
        query: dict[str, str],
        version: str,
        to_item: Callable[[Json], Json],
    ) -> Listing:
        """Return a list from one response, at that resourceVersion or later, parsed while it arrives.

        Every API server takes it from its watch cache, while pages cost it several times more, as it reads and decodes
        them from etcd (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions; figures are in
        docs/scale.md).
        """
        request_info = RequestInfo("list", resource, namespace=namespace)
        version_query = {"resourceVersion": version, "resourceVersionMatch": "NotOlderThan"}
        parser = ListItemParser()
        items: list[Json] = []
        try:
            for chunk in self._sender.stream_chunks(
                request_info, _with_query(_path(resource, namespace), {**query, **version_query})
            ):
                items += map(to_item, parser.feed(chunk))
            return Listing(tuple(items), resource_version_of(parser.list_without_items()))
        except ValueError as error:
            raise invalid_json_error(request_info, b"", self.connection.server) from error

    def count(self, resource: Resource, namespace: str | None = None) -> int:
        """Return the number of objects of a resource, without reading them."""
        request_info = RequestInfo("list", resource, namespace=namespace)
        answer = self._sender.send(request_info, _with_query(_path(resource, namespace), {"limit": "1"}))
        return len(answer.get("items") or ()) + int(dig(answer, "metadata", "remainingItemCount", default=0))

    def table(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> tuple[Json, ...]:
        """Return the columns that `kubectl get` shows for each object of a list, as dictionaries by column name."""
        rows: list[Json] = []
        query = {"labelSelector": label_selector, "includeObject": "None"}
        for page in self._pages(resource, namespace, query, accept=AS_TABLE):
            if page is None:
                rows = []
                continue
            names = [str(column["name"]) for column in page.get("columnDefinitions") or ()]
            rows += (dict(zip(names, row["cells"], strict=True)) for row in page.get("rows") or ())
        return tuple(rows)

    def _pages(
        self, resource: Resource, namespace: str | None, query: dict[str, str], accept: str = "application/json"
    ) -> Iterator[Json | None]:
        """Yield the responses that form one consistent list; None when it starts again, as its snapshot has expired."""
        request_info = RequestInfo("list", resource, namespace=namespace)
        path = _path(resource, namespace)
        page: dict[str, str] = {"limit": str(PAGE_SIZE)}
        while True:
            try:
                answer = self._sender.send(request_info, _with_query(path, {**query, **page}), accept=accept)
            except InvalidError as error:
                if query["labelSelector"] and error.status == 400:
                    hint = "Use the syntax of kubectl: -l key1=value1,key2!=value2"
                    text = query["labelSelector"]
                    raise UsageError(f'"{text}" is not a label selector: {error.detail}', hint) from error
                raise
            except ExpiredError:
                if not page:
                    raise
                page = {}
                yield None
                continue
            if not isinstance(answer.get("items") or answer.get("rows"), list) and not _is_list(answer):
                raise invalid_json_error(request_info, json.dumps(answer).encode(), self.connection.server)
            yield answer
            continue_token = (answer.get("metadata") or {}).get("continue")
            if not continue_token:
                return
            page = {"limit": str(PAGE_SIZE), "continue": continue_token}

    def create(
        self, ref: ObjectRef, body: Json, *, subresource: str = "", strict: bool = False, dry_run: bool = False
    ) -> Json:
        """Create an object; a ref without a name is for a body with generateName.

        Args:
            strict: refuse unknown fields, as `kubectl create` does, instead of dropping them with a warning
                (https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation).

        Raises:
            InvalidError: the API server does not accept the body.
        """
        query = {**_write_query(dry_run), **({"fieldValidation": "Strict"} if strict else {})}
        if subresource:
            return self._send(_object_request("create", ref, subresource), query, body)
        request_info = RequestInfo("create", ref.resource, ref.name, ref.namespace)
        path = _with_query(_path(ref.resource, ref.namespace), query)
        return self._sender.send(request_info, path, body=body)

    def patch(
        self, ref: ObjectRef, body: Json | Sequence[Json], *, subresource: str = "", dry_run: bool = False
    ) -> Json:
        """Patch an object: a list is a JSON Patch (RFC 6902), a dict a merge patch (RFC 7386).

        Raises:
            PatchTestFailedError: a JSON Patch does not fit the current object.
        """
        kind = "application/merge-patch+json" if isinstance(body, dict) else "application/json-patch+json"
        request_info = _object_request("patch", ref, subresource)
        return self._send(request_info, _write_query(dry_run), body, content_type=kind)

    def replace(self, ref: ObjectRef, body: Json, *, subresource: str = "", dry_run: bool = False) -> Json:
        """Replace an object; the body's resourceVersion must be the latest.

        Raises:
            ConflictError: it is not.
        """
        return self._send(_object_request("update", ref, subresource), _write_query(dry_run), body)

    def apply(
        self, ref: ObjectRef, body: Json, *, force: bool = True, subresource: str = "", dry_run: bool = False
    ) -> Json:
        """Send a server-side apply (https://kubernetes.io/docs/reference/using-api/server-side-apply/).

        Args:
            force: take over fields that another manager owns.

        Raises:
            ConflictError: another manager owns a field and `force` is not set.
        """
        query = {**_write_query(dry_run), "force": "true" if force else ""}
        kind = "application/apply-patch+yaml"
        return self._send(_object_request("patch", ref, subresource), query, body, content_type=kind)

    def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> Json:
        """Delete an object.

        Args:
            uid: the uid that it must still have.
            resource_version: the resourceVersion that it must still have.

        Raises:
            ConflictError: it has another uid or resourceVersion.
        """
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if any(preconditions.values()):
            body["preconditions"] = {key: value for key, value in preconditions.items() if value}
        if dry_run:
            # With a body, the API server ignores the query and would really delete the object.
            body["dryRun"] = ["All"]
        return self._send(_object_request("delete", ref), body=body)

    def call(self, ref: ObjectRef, subresource: str, body: Json | None = None, *, dry_run: bool = False) -> Json:
        """PUT to a subresource that performs an action, such as a VirtualMachine's restart.

        A dry run is requested in the body as well, which is where KubeVirt looks for it. KubeVirt answers 406 to
        clients that accept only JSON, and sends an empty response on success.
        """
        content = dict(body or {})
        if dry_run:
            content["dryRun"] = ["All"]
        query = {"dryRun": "All"} if dry_run else {}
        return self._send(_object_request("update", ref, subresource), query, content, accept="*/*")

    def is_allowed(self, access: Access) -> bool:
        """Return whether the API server's authorizers grant an access to the user (SelfSubjectAccessReview)."""
        resource = access.resource
        attributes = {
            "verb": access.verb,
            "group": resource.group,
            "version": resource.version,
            "resource": resource.plural,
            "subresource": access.subresource,
            "namespace": access.namespace or "",
            "name": access.name,
        }
        body = {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.kind,
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = self._sender.send(RequestInfo("create", ACCESS_REVIEW), ACCESS_REVIEW.path(), body=body)
        return bool(dig(answer, "status", "allowed"))

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        timeout_seconds: int = 300,
    ) -> Iterator[tuple[str, Json]]:
        """Yield changes as they happen, until the timeout: ("ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK", object).

        Raises:
            ExpiredError: the resourceVersion is too old: list again.
        """
        request_info = RequestInfo("watch", resource, namespace=namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        path = _with_query(_path(resource, namespace), query)
        for line in self._sender.stream_lines(request_info, path, timeout_seconds + WATCH_GRACE_SECONDS):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
                kind, obj = str(event["type"]), event["object"]
            except (ValueError, TypeError, KeyError) as error:
                raise invalid_json_error(request_info, line, self.connection.server) from error
            if kind == "ERROR":
                raise error_from_response(
                    int(obj.get("code") or 500), json.dumps(obj).encode(), request_info, self.connection.server
                )
            yield kind, obj

    def _send(
        self,
        request_info: RequestInfo,
        query: Mapping[str, str] = MappingProxyType({}),
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        assert request_info.resource is not None
        path = _path(request_info.resource, request_info.namespace, request_info.name, request_info.subresource)
        path = _with_query(path, query)
        return self._sender.send(request_info, path, body=body, content_type=content_type, accept=accept)


def _object_request(verb: str, ref: ObjectRef, subresource: str = "") -> RequestInfo:
    """Return the purpose of a request about one object."""
    if not ref.name:
        raise UsageError(f"cannot {verb} a {ref.resource.kind} without a name")
    return RequestInfo(verb, ref.resource, ref.name, ref.namespace, subresource)


def _is_list(answer: Json) -> bool:
    kind = str(answer.get("kind", ""))
    return kind.endswith("List") or kind == "Table"


def _write_query(dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER, "dryRun": "All" if dry_run else ""}


def _path(resource: Resource, namespace: str | None, name: str = "", subresource: str = "") -> str:
    """Return the URL path; names that would lead to another path are refused.

    The rule is client-go's (k8s.io/apimachinery/pkg/api/validation/path).
    """
    for word in (namespace or "", name):
        if word in (".", "..") or "/" in word or "%" in word:
            raise UsageError(f'"{word}" is not a valid name of an object', 'A name contains no "/" and no "%".')
    return quote(resource.path(namespace, name, subresource), safe="/:")


def _with_query(path: str, query: Mapping[str, str]) -> str:
    non_empty = {key: value for key, value in query.items() if value}
    return f"{path}?{urlencode(non_empty)}" if non_empty else path
