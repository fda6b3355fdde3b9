"""Read what a planner needs, in parallel, and distinguish objects that do not exist from those that cannot be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from kubectl_yoshi.engine.permissions import describe_missing_permission, is_allowed
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import (
    ApiServiceUnavailableError,
    ClusterError,
    ForbiddenError,
    NotFoundError,
    NotServedError,
)
from kubectl_yoshi.model.access import Access
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Resource, name_of
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import Answer, Query, ServedApis, Snapshot, Unreadable
from kubectl_yoshi.model.vm import VM, get_trimmer
from kubectl_yoshi.plan.context import PlanContext

MAX_PARALLEL = 8
LIST_THRESHOLD = 50
"""From this number of objects of one resource and namespace on, one list is cheaper than a request for each…"""
MAX_OBJECTS_PER_QUERY = 20
"""… unless the list has more than this number of objects for each of them."""

OWN_RESOURCES = (NETWORKWIZARD, ADDRESSBLOCK)
"""If these are not served, `kubectl yoshi install` was not run; that must not look like an empty result."""

REQUIRED_GROUPS = (NETWORKWIZARD.group, VM.group)
"""API groups without which a run fails: their CRDs are served by the API server itself, so failures are transient."""


def run_queries(api: Api, queries: Iterable[Query], trim_objects: bool = False) -> dict[Query, Answer]:
    """Return the result of each query.

    Args:
        trim_objects: nothing will be written: keep only the used fields of listed objects (see model.vm).

    Returns:
        The objects: () if there are none, or the resource is not served; Unreadable with the reason in one line if the
        permission to read it is missing or the aggregated API that serves it does not answer.

    Raises:
        NotServedError: the program's own CRDs are not installed.
        ApiServiceUnavailableError: these, or KubeVirt's, cannot be read at the moment.
        ClusterError: any other error.
    """
    unique = list(dict.fromkeys(queries))
    batches = {key: batch for key, batch in _list_batches(unique).items() if _is_list_cheaper(api, *key, len(batch))}
    batched = {query for batch in batches.values() for query in batch}
    results: dict[Query, Answer] = {}

    lists = [Query(resource, namespace) for resource, namespace in batches]
    single = [query for query in unique if query not in batched and query not in lists]
    results.update(_run_parallel(api, lists + single, trim_objects))

    unlistable: list[Query] = []
    for (resource, namespace), batch in batches.items():
        listed = results[Query(resource, namespace)]
        if isinstance(listed, Unreadable):  # a client without permission to list may still get
            unlistable += batch
        else:
            by_name = {name_of(obj): obj for obj in listed}
            results.update({query: (by_name[query.name],) if query.name in by_name else () for query in batch})
    results.update(_run_parallel(api, unlistable, trim_objects))
    return {query: results[query] for query in unique}


def _list_batches(queries: list[Query]) -> dict[tuple[Resource, str | None], list[Query]]:
    """Return the queries by name, where there are LIST_THRESHOLD or more of one resource and namespace."""
    by_place: dict[tuple[Resource, str | None], list[Query]] = defaultdict(list)
    for query in queries:
        if query.name and not query.verb and (query.namespace or not query.resource.namespaced):
            by_place[(query.resource, query.namespace)].append(query)
    return {key: batch for key, batch in by_place.items() if len(batch) >= LIST_THRESHOLD}


def _is_list_cheaper(api: Api, resource: Resource, namespace: str | None, count: int) -> bool:
    try:
        return api.count(resource, namespace) <= MAX_OBJECTS_PER_QUERY * count
    except ClusterError:  # the list will report what is wrong
        return True


def _run_parallel(api: Api, queries: list[Query], trim_objects: bool) -> dict[Query, Answer]:
    if len(queries) <= 1:
        return {query: _run_query(api, query, trim_objects) for query in queries}
    with ThreadPoolExecutor(min(MAX_PARALLEL, len(queries))) as pool:
        return dict(zip(queries, pool.map(lambda query: _run_query(api, query, trim_objects), queries), strict=True))


def _run_query(api: Api, query: Query, trim_objects: bool) -> Answer:
    if query.verb:
        access = Access(query.verb, query.resource, query.namespace, query.name)
        return () if is_allowed(api, access) else ({"forbidden": describe_missing_permission(access)},)
    try:
        if query.name:
            return (api.get(query.resource.ref(query.name, query.namespace)),)
        if query.as_table:
            return api.table(query.resource, query.namespace, label_selector=query.label_selector)
        transform = get_trimmer(query.resource) if trim_objects else None
        return api.list(query.resource, query.namespace, label_selector=query.label_selector, transform=transform)
    except NotFoundError:
        return ()
    except NotServedError:
        if query.resource in OWN_RESOURCES:
            raise
        return ()
    except ForbiddenError as error:
        return Unreadable(error.missing_permission)
    except ApiServiceUnavailableError as error:
        if query.resource.group in REQUIRED_GROUPS:
            raise
        return Unreadable(error.message)


Planner = Callable[[PlanContext], Plan]
"""Plans the next writes; returns an empty plan if nothing is left to do."""


def new_snapshot(api: Api, *, trim_objects: bool = False, discover: bool = True) -> Snapshot:
    """Return a snapshot of the cluster, in which nothing has been read yet.

    Args:
        trim_objects: no write will be based on it: keep only the used fields of listed objects (see model.vm).
        discover: run API discovery while the first queries are answered, not only on demand.
    """
    return Snapshot(reader=_ClusterReader(api, trim_objects, discover))


class _ClusterReader:
    """Reads from the API server."""

    def __init__(self, api: Api, trim_objects: bool, discover: bool) -> None:
        self._api = api
        self._trim_objects = trim_objects
        self._discover = discover

    @property
    def served(self) -> ServedApis:
        """Return the served APIs; see Reader."""
        return self._api.served

    def read(self, queries: Sequence[Query]) -> Mapping[Query, Answer]:
        """Return the result of each query; raises what `run_queries` does."""
        if self._api.is_discovered or not self._discover:
            return run_queries(self._api, queries, self._trim_objects)
        with ThreadPoolExecutor(1) as pool:
            results = pool.submit(run_queries, self._api, queries, self._trim_objects)
            _ = self._api.served  # errors of the server as a whole are reported first
        return results.result()
