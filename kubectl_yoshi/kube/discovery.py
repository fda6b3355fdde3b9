"""Discover what the API server serves besides the core group, which every API server has: one request for all groups.

Aggregated discovery (Kubernetes 1.26 and later, https://kubernetes.io/docs/concepts/overview/kubernetes-api/) returns
all groups at once, and marks as Stale the groups whose aggregated API server does not answer. An older server returns
the list of groups to the same request; each group is then requested separately.

Nothing is cached on disk: the request runs in
parallel with a command's first reads, and a cached absence of an API would be a fact that nobody has checked.

`ReadApi` is a protocol since `kube.client`, which implements it, imports this module.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from kubectl_yoshi.kube.connection import Connection
from kubectl_yoshi.kube.errors import ApiError, RequestInfo, invalid_json_error, one_line
from kubectl_yoshi.model.objects import APISERVICE, Json, ObjectRef, Resource, dig
from kubectl_yoshi.model.snapshot import ServedApis

_ACCEPT = ",".join(
    [
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/json",
    ]
)


class ReadApi(Protocol):
    """The part of `client.Api` that discovery uses; that module imports this one."""

    connection: Connection

    def raw(self, path: str, accept: str = ...) -> Json:
        """Return the response to a GET of a path."""

    def get(self, ref: ObjectRef) -> Json:
        """Return one object."""


def discover(api: ReadApi) -> ServedApis:
    """Return every named group that is served, and which of them do not answer.

    Raises:
        ClusterError: the API server does not answer, or not like an API server.
    """
    answer = api.raw("/apis", _ACCEPT)
    if answer.get("kind") == "APIGroupDiscoveryList":
        groups = [(str(dig(item, "metadata", "name", default="")), item) for item in answer.get("items") or []]
    elif answer.get("kind") == "APIGroupList":
        groups = _discover_each_group(api, answer)
    else:
        raise invalid_json_error(RequestInfo("get", path="/apis"), json.dumps(answer).encode(), api.connection.server)
    resources: dict[str, Resource] = {}
    versions: dict[str, tuple[str, ...]] = {}
    unavailable: dict[str, str] = {}
    for group, item in groups:
        _add_group(group, item, resources, versions)
        stale = [str(v["version"]) for v in item.get("versions") or [] if v.get("freshness") == "Stale"]
        if stale:
            unavailable[group] = _unavailable_reason(api, group, stale[0])
    return ServedApis(resources, versions, unavailable)


def _add_group(group: str, item: Json, resources: dict[str, Resource], versions: dict[str, tuple[str, ...]]) -> None:
    """Add an APIGroupDiscovery; its versions are in the order of preference."""
    versions[group] = tuple(str(version["version"]) for version in item.get("versions") or [])
    for version in item.get("versions") or []:
        for found in version.get("resources") or []:
            kind = dig(found, "responseKind", "kind") or dig(
                found, "subresources", 0, "responseKind", "kind", default=""
            )
            resource = Resource(
                group, str(version["version"]), str(found["resource"]), str(kind), found.get("scope") != "Cluster"
            )
            resources.setdefault(resource.full_name, resource)


def _unavailable_reason(api: ReadApi, group: str, version: str) -> str:
    name = f"{version}.{group}"
    reason = f"the API {group}/{version} is not available"
    try:
        conditions = dig(api.get(APISERVICE.ref(name)), "status", "conditions", default=[])
    except ApiError:  # most users may not read APIServices
        return f"{reason} (APIService {name})"
    messages = [
        str(c.get("message") or "") for c in conditions if c.get("type") == "Available" and c.get("status") != "True"
    ]
    return f"{reason} (APIService {name}{': ' + one_line(messages[0]) if messages and messages[0] else ''})"


def _discover_each_group(api: ReadApi, answer: Json) -> list[tuple[str, Json]]:
    """Return the groups of a server without aggregated discovery, in its form: a request per group and version."""
    paths_by_group: dict[str, list[tuple[str, str]]] = {}
    for item in answer.get("groups") or []:
        preferred = dig(item, "preferredVersion", "version")
        names = [str(version["version"]) for version in item.get("versions") or []]
        names.sort(key=lambda name: name != preferred)  # stable: the rest stay in order
        paths_by_group[str(item["name"])] = [(name, f"/apis/{item['name']}/{name}") for name in names]

    def get_or_none(path: str) -> Json | None:
        try:
            return api.raw(path)
        except ApiError:
            return None

    with ThreadPoolExecutor(8) as pool:
        paths = [path for pairs in paths_by_group.values() for _, path in pairs]
        answers_by_path = dict(zip(paths, pool.map(get_or_none, paths), strict=True))
    return [
        (group, {"versions": [_to_aggregated_version(name, answers_by_path[path]) for name, path in pairs]})
        for group, pairs in paths_by_group.items()
    ]


def _to_aggregated_version(name: str, answer: Json | None) -> Json:
    """Convert an APIResourceList to the form of aggregated discovery; None stands for a group that did not answer."""
    if answer is None:
        return {"version": name, "freshness": "Stale"}
    resources: dict[str, Json] = {}
    for found in answer.get("resources") or []:
        plural, _, sub = str(found["name"]).partition("/")
        if plural not in resources or not sub:
            scope = "Namespaced" if found.get("namespaced") else "Cluster"
            kind = {"kind": found.get("kind", "")}
            resources[plural] = {"resource": plural, "scope": scope, "responseKind": kind}
    return {"version": name, "resources": list(resources.values())}
