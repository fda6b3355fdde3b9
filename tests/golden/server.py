"""A fake API server: requests and answers as a real one has them, objects in memory.

It serves aggregated discovery, lists with selectors and pages, Tables, JSON Patch, merge patch, server-side apply (of
one field manager), preconditions, dry runs, finalizers, garbage collection by owner references, custom resources as
soon as their CRD is there, and SelfSubjectAccessReviews. Uids and resource versions depend on nothing but an object's
name and how often it was written, so that they do not depend on the order of requests that are sent in parallel.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.golden.kinds import Json, Kind, discovery
from tests.golden.selectors import BadSelector, labels_match
from tests.unit.jsonpatch import DoesNotFit, apply_patch, only_subresource

REJECTED = "the server rejected our request due to an error in our request"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?"
)

Key = tuple[str, str, str]
"""A kind's full name, a namespace and a name."""


@dataclass(frozen=True)
class Request:
    """A request as the server gets it.

    Attributes:
        method, path: the path with its query.
        headers: by their names in lower case.
        body: the content as text, "" for none.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: str

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query."""
        return dict(parse_qsl(self.path.partition("?")[2]))


@dataclass(frozen=True)
class Answer:
    """An answer of the server.

    Attributes:
        status: the HTTP status.
        body: the content, or what it is read from.
        headers: by their names.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Failure(Exception):
    """A request is answered with a metav1.Status."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None, **headers: str) -> None:
        super().__init__(message)
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        content = {**status, "message": message, "reason": reason, "details": details or {}, "code": code}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(code, json.dumps(content).encode(), named)


@dataclass(frozen=True)
class Target:
    """What a request is about.

    Attributes:
        kind: the kind of object.
        namespace, name, subresource: "" where the path has none.
    """

    kind: Kind
    namespace: str
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """Where the object is stored."""
        return self.kind.full_name, self.namespace if self.kind.namespaced else "", self.name

    @property
    def details(self) -> Json:
        """The details of a metav1.Status."""
        return {"name": self.name, "group": self.kind.group, "kind": self.kind.plural}


class FakeApiServer:
    """See the module.

    Attributes:
        kinds: what is served besides the kinds of CRDs that are stored.
        unavailable: groups whose aggregated API server does not answer.
        denied: (verb, full name of a kind) of what the user lacks the permission for.
        reviews: whether a SelfSubjectAccessReview knows of `denied`.
        now: gives the time, for creation timestamps.
        calls: what subresources do that act, by "kind's full name/subresource".
        events: what happened to objects, as a watch shows it.
    """

    def __init__(self, kinds: list[Kind], now: Callable[[], str]) -> None:
        self.kinds = list(kinds)
        self.unavailable: set[str] = set()
        self.denied: set[tuple[str, str]] = set()
        self.reviews = True
        self.now = now
        self.calls: dict[str, Callable[[FakeApiServer, Target, Json], None]] = {}
        self.events: list[tuple[str, Kind, Json]] = []
        self.lock = threading.RLock()
        self._objects: dict[Key, Json] = {}
        self._created: Counter[Key] = Counter()
        self._written: Counter[Key] = Counter()

    # -- direct access -------------------------------------------------------------------------------------------

    def served(self) -> list[Kind]:
        """Return every kind that is served now."""
        return self.kinds + [kind for kind in map(_kind_of, self.each(CRDS)) if kind not in self.kinds]

    def kind(self, name: str) -> Kind:
        """Return a kind by its full name."""
        return next(kind for kind in self.served() if kind.full_name == name)

    def put(self, kind: str, obj: Json) -> Json:
        """Create or overwrite an object, its status included, as another client does it."""
        found = self.kind(kind)
        content = {"apiVersion": found.api_version, "kind": found.kind, **copy.deepcopy(obj)}
        target = Target(found, content["metadata"].get("namespace", ""), content["metadata"]["name"])
        return self._store(target, content, self._objects.get(target.key))

    def find(self, kind: str, namespace: str, name: str) -> Json | None:
        """Return a copy of an object, None where there is none."""
        return copy.deepcopy(self._objects.get((kind, namespace, name)))

    def each(self, kind: str) -> list[Json]:
        """Return all objects of a kind, by namespace and name, which must not be changed."""
        return [obj for key, obj in sorted(self._objects.items()) if key[0] == kind]

    def all(self, kind: str) -> list[Json]:
        """Return copies of all objects of a kind, by namespace and name."""
        return copy.deepcopy(self.each(kind))

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[Json], object]) -> None:
        """Change an object as another client does it."""
        obj = copy.deepcopy(self._objects[(kind, namespace, name)])
        change(obj)
        self.put(kind, obj)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, and what it owns, as another client does it."""
        self._delete((kind, namespace, name))

    # -- requests ------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Answer:
        """Answer one request."""
        try:
            with self.lock:
                content = self._content(request)
        except Failure as allocation_failure:
            return allocation_failure.answer
        text = json.dumps(content, separators=(",", ":")) if content is not None else ""
        status = 201 if request.method == "POST" else 200
        return Answer(status, text.encode(), {"Content-Type": "application/json"})

    def watched(self, request: Request) -> tuple[str, str]:
        """Return the full name of the kind and the namespace that a request lists or watches, "" for all."""
        target = self._target(request.path.partition("?")[0])
        return target.kind.full_name, target.namespace

    def _content(self, request: Request) -> Json | None:
        path = request.path.partition("?")[0]
        if path in ("/api", "/apis"):
            return discovery(self.served(), self.unavailable)[path == "/apis"]
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"}
        target = self._target(path)
        if target.kind.plural == "selfsubjectaccessreviews":
            return self._review(json.loads(request.body))
        if target.kind.group in self.unavailable:
            raise Failure(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        self._authorize(request, target)
        body = json.loads(request.body) if request.body else {}
        dry_run = request.query.get("dryRun") == "All" or (isinstance(body, dict) and body.get("dryRun") == ["All"])
        if request.method == "GET":
            return self._get(target) if target.name else self._list(target, request)
        if request.method == "POST":
            return self._create(target, body, request.query, dry_run)
        if request.method == "DELETE":
            return self._delete_requested(target, body, dry_run)
        if request.method == "PUT" and (call := self.calls.get(f"{target.kind.full_name}/{target.subresource}")):
            if not dry_run:
                call(self, target, body)
            return None
        return self._update(target, body, request.headers.get("content-type", ""), dry_run)

    def _target(self, path: str) -> Target:
        match = PATH.fullmatch(path)
        for kind in self.served() if match else ():
            if match and (match["group"] or "", match["version"], match["plural"]) == (
                kind.group,
                kind.version,
                kind.plural,
            ):
                return Target(kind, match["namespace"] or "", unquote(match["name"] or ""), match["subresource"] or "")
        raise Failure(404, "NotFound", "the server could not find the requested resource")

    def _authorize(self, request: Request, target: Target) -> None:
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        verb = verbs.get(request.method) or ("get" if target.name else "watch" if _watches(request) else "list")
        if self._is_denied(verb, target.kind.full_name, target.subresource):
            scope = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
            message = (
                f'{target.kind.full_name}{f" {target.name!r}" if target.name else ""} is forbidden: User "mary" cannot '
                f'{verb} resource "{target.kind.plural}" in API group "{target.kind.group}"{scope}'
            )
            raise Failure(403, "Forbidden", message.replace("'", '"'), target.details)

    def _is_denied(self, verb: str, kind: str, subresource: str) -> bool:
        names = {kind, f"{kind}/{subresource}"} if subresource else {kind}
        return any((verb, name) in self.denied or ("*", name) in self.denied for name in names)

    def _review(self, body: Json) -> Json:
        asked = body["spec"]["resourceAttributes"]
        kind = f"{asked['resource']}.{asked['group']}" if asked.get("group") else asked["resource"]
        denied = self.reviews and self._is_denied(asked["verb"], kind, asked.get("subresource", ""))
        return {**body, "status": {"allowed": not denied}}

    def _get(self, target: Target) -> Json:
        return copy.deepcopy(self._present(target))

    def _present(self, target: Target) -> Json:
        found = self._objects.get(target.key)
        if found is None:
            message = f'{target.kind.full_name} "{target.name}" not found'
            raise Failure(404, "NotFound", message, target.details)
        return found

    def _list(self, target: Target, request: Request) -> Json:
        query = request.query
        try:
            items = [
                obj
                for key, obj in sorted(self._objects.items())
                if key[0] == target.kind.full_name
                and target.namespace in ("", key[1])
                and labels_match(query.get("labelSelector", ""), obj["metadata"].get("labels") or {})
                and _fields_match(query.get("fieldSelector", ""), obj)
            ]
        except BadSelector as error:
            raise Failure(400, "BadRequest", f"unable to parse requirement: {error}") from error
        limit, start = int(query.get("limit") or 0), int(query.get("continue") or 0)
        page = items[start : start + limit] if limit else items
        left = len(items) - start - len(page)
        meta: Json = {"resourceVersion": str(1000 + len(self.events))}
        if left:
            meta |= {"continue": str(start + len(page)), "remainingItemCount": left}
        if "as=Table" in request.headers.get("accept", ""):
            return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, **self._table(target.kind, page)}
        return {
            "kind": f"{target.kind.kind}List",
            "apiVersion": target.kind.api_version,
            "metadata": meta,
            "items": page,
        }

    def _table(self, kind: Kind, items: list[Json]) -> Json:
        crd = self._objects.get((CRDS, "", kind.full_name), {})
        versions = crd.get("spec", {}).get("versions", [{}])
        columns = {"Name": ".metadata.name"}
        columns |= {column["name"]: column["jsonPath"] for column in versions[0].get("additionalPrinterColumns", [])}
        rows = [{"cells": [_dotted(obj, path) for path in columns.values()]} for obj in items]
        return {"columnDefinitions": [{"name": name} for name in columns], "rows": rows}

    def _create(self, target: Target, body: Json, query: Mapping[str, str], dry_run: bool) -> Json:
        obj = copy.deepcopy(body)
        name = obj["metadata"].get("name") or obj["metadata"].get("generateName", "") + "00000"
        obj["metadata"]["name"] = name
        target = Target(target.kind, target.namespace, name)
        if target.namespace and ("namespaces", "", target.namespace) not in self._objects:
            details = {"name": target.namespace, "kind": "namespaces"}
            raise Failure(404, "NotFound", f'namespaces "{target.namespace}" not found', details)
        if query.get("fieldValidation") == "Strict":
            self._must_know_fields(target.kind, obj)
        if target.key in self._objects:
            message = f'{target.kind.full_name} "{name}" already exists'
            raise Failure(409, "AlreadyExists", message, target.details)
        if name == "policy-probe" and any(key[0].startswith("validatingadmissionpolicyb") for key in self._objects):
            message = (
                f"{target.kind.full_name} \"{name}\" is forbidden: ValidatingAdmissionPolicy 'yoshi-allocations' with "
                f"binding 'yoshi-allocations' denied request: addressblock {name}: its name must end with its first "
                "address"
            )
            raise Failure(422, "Invalid", message, target.details)
        obj.pop("status", None)
        if target.namespace:
            obj["metadata"]["namespace"] = target.namespace
        return self._keep(target, obj, None, dry_run)

    def _must_know_fields(self, kind: Kind, obj: Json) -> None:
        crd = self._objects.get((CRDS, "", kind.full_name))
        if crd is None:
            return
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        for name in obj.get("spec") or {}:
            if name not in schema:
                message = (
                    f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                    f'strict decoding error: unknown field "spec.{name}"'
                )
                raise Failure(400, "BadRequest", message)

    def _update(self, target: Target, body: Any, content_type: str, dry_run: bool) -> Json:
        if content_type == "application/apply-patch+yaml":
            before = self._objects.get(target.key)
            return self._keep(target, _merged(before or {}, body), before, dry_run)
        before = self._present(target)
        if content_type == "application/json-patch+json":
            try:
                after = apply_patch(body, before)
            except DoesNotFit as error:
                raise Failure(422, "Invalid", REJECTED) from error
        elif content_type == "application/merge-patch+json":
            after = _merged(before, body, remove_null=True)
        else:
            after = copy.deepcopy(body)
            if after["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
                raise Failure(409, "Conflict", _modified(target), target.details)
        result = only_subresource(target.subresource, after, before)
        if (meta := result["metadata"]).get("deletionTimestamp") and not meta.get("finalizers"):
            if not dry_run:
                self._delete(target.key)
            return result
        return self._keep(target, result, before, dry_run)

    def _delete_requested(self, target: Target, body: Json, dry_run: bool) -> Json:
        obj = self._present(target)
        for title, key in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
            wanted = (body.get("preconditions") or {}).get(key)
            if wanted and wanted != obj["metadata"][key]:
                message = (
                    f'Operation cannot be fulfilled on {target.kind.full_name} "{target.name}": the {title} in the '
                    f"precondition ({wanted}) does not match the {title} in record ({obj['metadata'][key]})"
                )
                raise Failure(409, "Conflict", message, target.details)
        if obj["metadata"].get("finalizers"):
            after = copy.deepcopy(obj)
            after["metadata"].setdefault("deletionTimestamp", self.now())
            return self._keep(target, after, obj, dry_run)
        if not dry_run:
            self._delete(target.key)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": target.details}

    # -- storage -------------------------------------------------------------------------------------------------

    def _keep(self, target: Target, obj: Json, before: Json | None, dry_run: bool) -> Json:
        if not dry_run:
            return self._store(target, obj, before)
        result = copy.deepcopy(obj)
        if before is None:
            result["metadata"] |= {"uid": self._uid(target.key), "creationTimestamp": self.now(), "generation": 1}
        return result

    def _uid(self, key: Key) -> str:
        digest = hashlib.sha256(f"{key} {self._created[key]}".encode()).hexdigest()
        return "-".join((digest[:8], digest[8:12], f"4{digest[13:16]}", f"8{digest[17:20]}", digest[20:32]))

    def _store(self, target: Target, obj: Json, before: Json | None) -> Json:
        if before is not None and obj == before:
            return copy.deepcopy(before)
        obj = copy.deepcopy(obj)
        known = (before or {}).get("metadata") or {}
        meta = obj["metadata"]
        self._written[target.key] += 1
        meta["uid"] = known.get("uid") or meta.get("uid") or self._uid(target.key)
        meta["resourceVersion"] = str(self._written[target.key])
        is_other = before is None or before.get("spec") != obj.get("spec")
        meta["generation"] = int(known.get("generation") or 0) + is_other
        meta["creationTimestamp"] = known.get("creationTimestamp") or meta.get("creationTimestamp") or self.now()
        if target.kind.kind == "ValidatingAdmissionPolicy":  # type checking
            obj["status"] = {**obj.get("status", {}), "observedGeneration": meta["generation"]}
        if before is None:
            self._created[target.key] += 1
            _set_defaults(target.kind, obj)
        self._objects[target.key] = obj
        self.events.append(("ADDED" if before is None else "MODIFIED", target.kind, copy.deepcopy(obj)))
        return copy.deepcopy(obj)

    def _delete(self, key: Key) -> None:
        obj = self._objects.pop(key, None)
        if obj is None:
            return
        if key[0] == CRDS:
            for other in [other for other in self._objects if other[0] == key[2]]:
                del self._objects[other]
            return
        self.events.append(("DELETED", self.kind(key[0]), obj))
        uid = obj["metadata"]["uid"]
        for other, owned in sorted(self._objects.items()):
            owners = owned["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == uid for owner in owners) and not owned["metadata"].get("finalizers"):
                self._delete(other)


def _kind_of(crd: Json) -> Kind:
    spec = crd["spec"]
    names, version = spec["names"], spec["versions"][0]["name"]
    return Kind(spec["group"], version, names["plural"], names["kind"], spec["scope"] == "Namespaced")


def _set_defaults(kind: Kind, obj: Json) -> None:
    """Add what Kubernetes adds to a new object."""
    if kind.full_name == CRDS:
        obj["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    elif kind.full_name == "services":
        number = int(hashlib.sha256(obj["metadata"]["name"].encode()).hexdigest()[:2], 16)
        obj["spec"].setdefault("clusterIP", f"10.96.1.{number}")
        obj.setdefault("status", {"loadBalancer": {}})


def _watches(request: Request) -> bool:
    return request.query.get("watch") == "true"


def _modified(target: Target) -> str:
    return (
        f'Operation cannot be fulfilled on {target.kind.full_name} "{target.name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def _merged(before: Json, patch: Json, remove_null: bool = False) -> Json:
    result = copy.deepcopy(before)
    for key, value in patch.items():
        if value is None and remove_null:
            result.pop(key, None)
        elif isinstance(value, dict):
            there = result.get(key)
            result[key] = _merged(there if isinstance(there, dict) else {}, value, remove_null)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _fields_match(selector: str, obj: Json) -> bool:
    pairs = [term.partition("=") for term in selector.split(",") if term]
    return all(str(_dotted(obj, f".{path}")) == value for path, _, value in pairs)


def _dotted(obj: Any, path: str) -> Any:
    """Return what a simple JSONPath finds; None for one with a filter, or where there is nothing."""
    for key in path.split(".")[1:]:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj if not isinstance(obj, dict | list) else None
