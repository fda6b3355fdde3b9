"""A fake API server in memory with what `engine.loop.run` needs of an Api.

It applies JSON patches to the newest object and refuses them whole, honours preconditions and resourceVersions, keeps
status and the rest apart, assigns uids, deletes what the deleted owned, and answers errors with the very words of a
real one, so that they are mapped by `kube.errors`. Anything may happen `before` a request: another writer, a fault.
"""

from __future__ import annotations

import copy
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from kubectl_yoshi.kube.errors import RequestInfo, error_from_response
from kubectl_yoshi.kube.retry import Clock
from kubectl_yoshi.model.access import Access
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, labels_of, name_of, namespace_of
from kubectl_yoshi.model.snapshot import ServedApis
from tests.unit.jsonpatch import DoesNotFit, apply_patch, only_subresource

REJECTED = "the server rejected our request due to an error in our request"
BIRTH = datetime(2026, 1, 1, tzinfo=timezone.utc)


class FakeClock(Clock):
    """A clock on which time passes only by sleeping."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.time = 0.0
        self._meanwhile = meanwhile

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self._meanwhile()


def served(resources: Iterable[Resource], broken: dict[str, str] | None = None) -> ServedApis:
    """Return the discovery of a server with these resources."""
    resources = list(resources)
    versions = {resource.group: (resource.version,) for resource in resources}
    return ServedApis({resource.full_name: resource for resource in resources}, versions, broken or {})


Key = tuple[str, str, str]


class FakeApi:
    """See the module.

    Attributes:
        served: what discovery says.
        before: called with verb and object before a request is answered; may change the objects, or raise.
        writes: "verb kind/name" of every write that was done, in order.
        uid: gives the uid of the n-th object that is made.
        unknown_fields: fields of a spec that a strict creation is refused for.
        shows: gives what clients are shown of an object, from it and its kind's plural; JSON patches go by that.
        version: that of the API server.
        reviews: whether access reviews name forbidden requests; False as without an authorizer.
        tried: how often each (verb, plural) was asked for, whatever became of it.
    """

    is_discovered = True

    def __init__(self, resources: Iterable[Resource], meanwhile: Callable[[], None] | None = None) -> None:
        self.served = served(resources)
        self.clock = FakeClock(meanwhile or (lambda: None))
        self.before: list[Callable[[str, ObjectRef], None]] = []
        self.writes: list[str] = []
        self.tried: Counter[tuple[str, str]] = Counter()
        self.uid: Callable[[int], str] = "uid-{}".format
        self.version = "v1.36.0"
        self.reviews = True
        self.unknown_fields: tuple[str, ...] = ()
        self.shows: Callable[[Json, str], Json] = lambda obj, plural: obj
        self._objects: dict[Key, Json] = {}
        self._refused: dict[tuple[str, str], tuple[int, str]] = {}
        self._versions = itertools.count(1)
        self._lock = threading.RLock()

    # -- for tests -----------------------------------------------------------------------------------------------

    def put(self, resource: Resource, obj: Json) -> Json:
        """Create or overwrite an object directly; return it as stored."""
        with self._lock:
            obj = copy.deepcopy(obj)
            obj.setdefault("apiVersion", resource.api_version)
            obj.setdefault("kind", resource.kind)
            there = self._objects.get(_key(resource, namespace_of(obj), name_of(obj)))
            return self._store(resource, obj, there)

    def look(self, ref: ObjectRef) -> Json | None:
        """Return an object as it is now; None if it does not exist."""
        return copy.deepcopy(self._objects.get(_key(ref.resource, ref.namespace or "", ref.name)))

    def every(self, resource: Resource) -> list[Json]:
        """Return all objects of a kind."""
        return [copy.deepcopy(obj) for key, obj in sorted(self._objects.items()) if key[0] == resource.full_name]

    def change(self, ref: ObjectRef, change: Callable[[Json], None]) -> None:
        """Change an object directly."""
        obj = self.look(ref)
        assert obj is not None, ref
        change(obj)
        self.put(ref.resource, obj)

    def drop(self, ref: ObjectRef) -> None:
        """Delete an object directly, with what it owned."""
        with self._lock:
            obj = self._objects.pop(_key(ref.resource, ref.namespace or "", ref.name))
            self._collect(str(obj["metadata"]["uid"]))

    def refuse(self, verb: str, resource: Resource, status: int = 403, message: str = "") -> None:
        """Answer this verb on this kind with an error from now on."""
        forbidden = (
            f'{resource.plural}.{resource.group} is forbidden: User "web" cannot {verb} resource "{resource.plural}"'
        )
        self._refused[(verb, resource.full_name)] = (status, message or forbidden)

    def allow_everything(self) -> None:
        """Undo all calls of `refuse`."""
        self._refused.clear()

    def second_client(self) -> FakeApi:
        """Return the same server for another client: only `before` is its own."""
        other = copy.copy(self)
        other.before = []
        return other

    # -- an Api --------------------------------------------------------------------------------------------------

    def get(self, ref: ObjectRef, *, subresource: str = "") -> Json:
        self._happen("get", ref)
        with self._lock:
            self._begin("get", ref)
            return self._shown(ref.resource, self._there("get", ref))

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Json], Json] | None = None,
    ) -> tuple[Json, ...]:
        self._happen("list", resource.ref("", namespace))
        with self._lock:
            self._begin("list", resource.ref("", namespace))
            wanted = [one.partition("=") for one in label_selector.split(",") if one]
            return tuple(
                transform(obj) if transform else obj
                for obj in (self._shown(resource, obj) for obj in self.every(resource))
                if namespace in (None, namespace_of(obj))
                and all(
                    labels_of(obj).get(key) == value if says else key in labels_of(obj) for key, says, value in wanted
                )
            )

    def raw(self, path: str) -> Json:
        assert path == "/version"
        return {"gitVersion": self.version}

    def invalidate_discovery(self) -> None:
        """Read what is served again: nothing changes."""

    def count(self, resource: Resource, namespace: str | None = None) -> int:
        return len(self.list(resource, namespace))

    def table(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> tuple[Json, ...]:
        found = self.list(resource, namespace, label_selector=label_selector)
        return tuple(
            {"Name": name_of(obj), "Network": obj["spec"]["network"], "Used": obj.get("status", {}).get("used")}
            for obj in found
        )

    def create(
        self, ref: ObjectRef, body: Json, *, subresource: str = "", strict: bool = False, dry_run: bool = False
    ) -> Json:
        self._happen("create", ref)
        with self._lock:
            self._begin("create", ref)
            if unknown := [key for key in self.unknown_fields if strict and key in body.get("spec", {})]:
                message = f'cannot be handled: strict decoding error: unknown field "spec.{unknown[0]}"'
                raise _error(400, "BadRequest", message, "create", ref, {})
            if self._objects.get(_key(ref.resource, ref.namespace or "", ref.name)) is not None:
                message = f'{ref.resource.plural} "{ref.name}" already exists'
                raise _error(409, "AlreadyExists", message, "create", ref)
            obj = copy.deepcopy(body)
            assert (name_of(obj), namespace_of(obj)) == (ref.name, ref.namespace or "")
            assert not obj["metadata"].get("uid")
            obj.pop("status", None)
            return self._done("create", ref, obj, None, dry_run)

    def patch(self, ref: ObjectRef, body: Any, *, subresource: str = "", dry_run: bool = False) -> Json:
        self._happen("patch", ref)
        with self._lock:
            self._begin("patch", ref)
            there = self._there("patch", ref)
            try:
                patched = apply_patch(body, self._shown(ref.resource, there))
            except DoesNotFit as error:
                raise _error(422, "Invalid", REJECTED, "patch", ref) from error
            assert patched["metadata"]["uid"] == there["metadata"]["uid"]
            return self._done("patch", ref, only_subresource(subresource, patched, there), there, dry_run, subresource)

    def replace(self, ref: ObjectRef, body: Json, *, subresource: str = "", dry_run: bool = False) -> Json:
        self._happen("update", ref)
        with self._lock:
            self._begin("update", ref)
            there = self._there("update", ref)
            if body["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"]:
                message = (
                    f'Operation cannot be fulfilled on {ref.resource.plural} "{ref.name}": the object has been '
                    "modified; please apply your changes to the latest version and try again"
                )
                raise _error(409, "Conflict", message, "update", ref)
            return self._done("replace", ref, only_subresource(subresource, copy.deepcopy(body), there), there, dry_run)

    def delete(self, ref: ObjectRef, *, uid: str = "", resource_version: str = "", dry_run: bool = False) -> Json:
        self._happen("delete", ref)
        with self._lock:
            self._begin("delete", ref)
            there = self._there("delete", ref)
            for what, must, key in (("UID", uid, "uid"), ("ResourceVersion", resource_version, "resourceVersion")):
                if must and must != there["metadata"][key]:
                    message = (
                        f'Operation cannot be fulfilled on {ref.resource.plural} "{ref.name}": the {what} in the '
                        f"precondition ({must}) does not match the {what} in record ({there['metadata'][key]})"
                    )
                    raise _error(409, "Conflict", message, "delete", ref)
            if not dry_run:
                self.writes.append(f"delete {ref.resource.kind.lower()}/{ref.name}")
                self.drop(ref)
            return {"kind": "Status", "status": "Success"}

    def call(self, ref: ObjectRef, subresource: str, body: Json | None = None, *, dry_run: bool = False) -> Json:
        self._happen("update", ref)
        with self._lock:
            self._begin("update", ref)
            if not dry_run:
                self.called(ref, subresource)
                self.writes.append(f"{subresource} {ref.resource.kind.lower()}/{ref.name}")
            return {}

    def called(self, ref: ObjectRef, subresource: str) -> None:
        """Handle a call of a subresource; for subclasses."""
        raise _error(404, "NotFound", "the server could not find the requested resource", "update", ref)

    def is_allowed(self, access: Access) -> bool:
        refused = self._refused.get((access.verb, access.resource.full_name))
        return refused is None or refused[0] != 403 or not self.reviews

    # -- inside --------------------------------------------------------------------------------------------------

    def _happen(self, verb: str, ref: ObjectRef) -> None:
        """Call `before`; without the lock, since it may be whole runs of others."""
        for happens in [*self.before]:
            happens(verb, ref)

    def _begin(self, verb: str, ref: ObjectRef) -> None:
        self.tried[(verb, ref.resource.plural)] += 1
        if ref.resource.full_name not in self.served.resources:
            raise _error(404, "NotFound", "the server could not find the requested resource", verb, ref, {})
        if refused := self._refused.get((verb, ref.resource.full_name)):
            raise _error(refused[0], "Forbidden" if refused[0] == 403 else "", refused[1], verb, ref, {})

    def _shown(self, resource: Resource, obj: Json) -> Json:
        return copy.deepcopy(self.shows(obj, resource.plural))

    def _there(self, verb: str, ref: ObjectRef) -> Json:
        there = self._objects.get(_key(ref.resource, ref.namespace or "", ref.name))
        if there is None:
            raise _error(404, "NotFound", f'{ref.resource.plural} "{ref.name}" not found', verb, ref)
        return there

    def _done(
        self, verb: str, ref: ObjectRef, obj: Json, there: Json | None, dry_run: bool, subresource: str = ""
    ) -> Json:
        if dry_run:
            return obj
        stored = self._shown(ref.resource, self._store(ref.resource, obj, there))
        suffix = f" {subresource}" if subresource else ""
        self.writes.append(f"{verb} {ref.resource.kind.lower()}/{ref.name}{suffix}")
        return stored

    def _store(self, resource: Resource, obj: Json, there: Json | None) -> Json:
        known = (there or {}).get("metadata") or {}
        meta = obj["metadata"]
        if there is not None and obj == there:
            return copy.deepcopy(there)
        version = next(self._versions)
        meta["uid"] = known.get("uid") or meta.get("uid") or self.uid(version)
        meta["resourceVersion"] = str(version)
        changed = there is None or there.get("spec") != obj.get("spec")
        meta["generation"] = int(known.get("generation") or 0) + (1 if changed else 0)
        born = (BIRTH + timedelta(seconds=self.clock.time)).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta["creationTimestamp"] = known.get("creationTimestamp") or meta.get("creationTimestamp") or born
        self._objects[_key(resource, namespace_of(obj), name_of(obj))] = copy.deepcopy(obj)
        return copy.deepcopy(obj)

    def _collect(self, uid: str) -> None:
        owned = [
            key
            for key, obj in self._objects.items()
            if any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences") or [])
        ]
        for key in owned:
            if key in self._objects:
                self._collect(str(self._objects.pop(key)["metadata"]["uid"]))


def _key(resource: Resource, namespace: str, name: str) -> Key:
    return resource.full_name, namespace if resource.namespaced else "", name


def _error(status: int, reason: str, message: str, verb: str, ref: ObjectRef, details: Json | None = None) -> Exception:
    if details is None:
        details = {} if message == REJECTED else {"name": ref.name, "kind": ref.resource.plural}
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "details": details}
    return error_from_response(
        status, json.dumps(body).encode(), RequestInfo(verb, ref.resource, ref.name, ref.namespace)
    )
