"""Hold what was read from the cluster before planning, and distinguish "absent" from "unreadable".

A planner reads from a `Snapshot` by `Query`s; what it does not have yet, it reads when asked. `prefetch` reads several
queries at the same time. `parallel` is for parts whose reads depend on what they find: it calls again those that lacked
an answer, after one round of reads for all. `Unreadable` is a value: what may not be read is never taken for absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, name_of, namespace_of

Key = TypeVar("Key")
Value = TypeVar("Value")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Query:
    """What to read: one object (if a name is given) or a list.

    Attributes:
        resource: the resource to read.
        namespace: its namespace; None for all namespaces, and for cluster-scoped resources.
        name: the object's name; "" for a list.
        label_selector: a label selector that restricts a list.
        as_table: read only the printer columns of a list (the CRD's additionalPrinterColumns). Each object is then a
            dictionary keyed by column name.
        read_number: queries that differ in this number are separate reads of the same objects, to detect a change
            between them.
        verb: "" to read; otherwise check whether the user has permission for that verb, see
            `Snapshot.forbidden_reason`.
    """

    resource: Resource
    namespace: str | None = None
    name: str = ""
    label_selector: str = ""
    as_table: bool = False
    read_number: int = 0
    verb: str = ""


@dataclass(frozen=True)
class Unreadable:
    """A failed read.

    Attributes:
        reason: one line, as printed: the missing permission, or what did not answer.
    """

    reason: str


@dataclass(frozen=True)
class ServedApis:
    """The APIs that the API server serves besides the core group, from discovery.

    Attributes:
        resources: full name ("ippools.crd.projectcalico.org") -> the resource in its preferred served version.
        versions: group -> all its served versions.
        unavailable: group -> why its aggregated API is unavailable (APIService Available=False).
    """

    resources: Mapping[str, Resource] = field(default_factory=dict)
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, resource: Resource) -> bool:
        return resource.full_name in self.resources and resource.version in self.versions.get(resource.group, ())


Answer = tuple[Json, ...] | Unreadable
"""The objects that a query finds, () for none; or why they could not be read."""


class Reader(Protocol):
    """The source of answers that a snapshot does not have yet."""

    @property
    def served(self) -> ServedApis:
        """Return the APIs that the API server serves."""

    def read(self, queries: Sequence[Query]) -> Mapping[Query, Answer]:
        """Return the answers to these queries, read in parallel.

        Raises:
            YoshiError: nothing can be read.
        """


class MissingQueriesError(Exception):
    """A snapshot without a reader has no answers to these queries."""

    def __init__(self, queries: Iterable[Query]) -> None:
        self.queries = tuple(dict.fromkeys(queries))
        super().__init__(f"not read: {', '.join(map(str, self.queries))}")


class Snapshot:
    """What one round of planning reads from the cluster: each query once, when it is first needed.

    Repeated look-ups, such as one for each VM, use indexes, which are built on first use: the cost of a plan for many
    VMs is linear, not quadratic, in their number.

    Args:
        served: the served APIs, for a snapshot without a reader.
        results: the answers that are known already.
        reader: reads the other answers; None if nothing more can be read.
    """

    def __init__(
        self,
        served: ServedApis | None = None,
        results: Mapping[Query, Answer] | None = None,
        reader: Reader | None = None,
    ) -> None:
        self.results: Mapping[Query, Answer] = dict(results or {})
        self._served = served or ServedApis()
        self._reader = reader
        self._in_parallel = False
        self._derived: dict[object, Any] = {}

    @property
    def served(self) -> ServedApis:
        """Return the APIs that the API server serves."""
        return self._reader.served if self._reader else self._served

    def with_results(self, results: Mapping[Query, Answer]) -> Snapshot:
        """Return this snapshot with more answers."""
        return Snapshot(self._served, {**self.results, **results}, self._reader)

    def with_written(self, objects: Mapping[ObjectRef, Json]) -> Snapshot | None:
        """Return this snapshot updated with the objects that the API server returned for writes; it reads nothing more.

        Args:
            objects: the created or changed objects in their current state.

        Returns:
            None if it is unknown whether an object belongs to a list that was read.
        """
        written: dict[Resource, dict[tuple[str, str], Json]] = {}
        for ref, obj in objects.items():
            written.setdefault(ref.resource, {})[namespace_of(obj), name_of(obj)] = obj
        results = dict(self.results)
        for query, answer in self.results.items():
            of_resource = {} if query.verb else written.get(query.resource, {})
            if query.name:
                key = (query.namespace or "", query.name)
                found = {key: of_resource[key]} if key in of_resource else {}
            else:
                found = {key: obj for key, obj in of_resource.items() if query.namespace in (None, key[0])}
            if not found:
                continue
            if query.as_table or query.label_selector or isinstance(answer, Unreadable):
                return None
            by_name = {(namespace_of(obj), name_of(obj)): obj for obj in answer}
            results[query] = tuple({**by_name, **found}.values())
        return Snapshot(self.served, results)

    def prefetch(self, *queries: Query) -> None:
        """Read those of the queries that were not read yet, in parallel.

        Raises:
            MissingQueriesError: there is no reader.
            YoshiError: nothing can be read.
        """
        missing = [query for query in queries if query not in self.results]
        if not missing:
            return
        if self._reader is None or self._in_parallel:
            raise MissingQueriesError(missing)
        self.results = {**self.results, **self._reader.read(missing)}
        self._derived.clear()

    def answer_from_lists(self, queries: Iterable[Query]) -> None:
        """Answer queries for single objects from lists that were read, without a request for each object.

        A query stays unanswered if no list that was read would contain its object.
        """
        found: dict[Query, Answer] = {}
        for query in queries:
            lists = (Query(query.resource), Query(query.resource, query.namespace))
            if query not in self.results and any(isinstance(self.results.get(one), tuple) for one in lists):
                obj = self.get_object(query.resource, query.name, query.namespace or "")
                found[query] = (obj,) if obj is not None else ()
        self.results = {**self.results, **found}

    def parallel(self, parts: Iterable[Callable[[], Value]]) -> list[Value]:
        """Return the result of each part; what several parts want to read next is read in parallel.

        Use this for parts whose reads are not known beforehand, such as a backend's work for each of many VMs. A part
        is called again after each round of reads that it takes part in, so it must do nothing but read.

        Raises:
            MissingQueriesError: there is no reader.
            YoshiError: raised by a part, or nothing can be read.
        """
        pending = dict(enumerate(parts))
        values: dict[int, Value] = {}
        outer, self._in_parallel = self._in_parallel, True
        try:
            while pending:
                missing: list[Query] = []
                for number, part in list(pending.items()):
                    try:
                        values[number] = part()
                        del pending[number]
                    except MissingQueriesError as error:
                        missing += error.queries
                self._in_parallel = outer
                self.prefetch(*missing)
                self._in_parallel = True
        finally:
            self._in_parallel = outer
        return [values[number] for number in sorted(values)]

    def parallel_pair(self, one: Callable[[], Value], other: Callable[[], Other]) -> tuple[Value, Other]:
        """Run two parts that return different types like `parallel`."""
        parts: tuple[Callable[[], Any], ...] = (one, other)
        first, second = self.parallel(parts)
        return first, second

    def derived(self, function: Callable[[Snapshot], Value]) -> Value:
        """Return the result of a function of this snapshot, computed once.

        The function is the cache key, so it must be a named one.
        """
        if function not in self._derived:
            self._derived[function] = function(self)
        return self._derived[function]  # type: ignore[no-any-return]

    def list_objects(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """Return every object of a resource that was read (in that namespace), each once."""
        found = self._by_name(resource).values()
        return [obj for obj in found if namespace is None or namespace_of(obj) == namespace]

    def get_object(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """Return the object if it was read and exists, else None (see also `unreadable_reason`).

        If it was read more than once, this is the first version. Decisions made since then depend on that version; a
        write that tests its resourceVersion is rejected if the object has changed.

        Args:
            resource: the object's resource.
            name: its name.
            namespace: its namespace; "" for a cluster-scoped object.
        """
        return self._by_name(resource).get((namespace, name))

    def group_by(self, resource: Resource, key: Callable[[Json], Key]) -> Mapping[Key, list[Json]]:
        """Return every object of a resource that was read, grouped by a named function, which is the cache key."""
        groups = self._derived.get((resource, key))
        if groups is None:
            groups = self._derived[(resource, key)] = _grouped(self._by_name(resource).values(), key)
        return groups

    def _by_name(self, resource: Resource) -> dict[tuple[str, str], Json]:
        return self.derived(_objects_by_name).get(resource, {})

    def lookup(self, *queries: Query) -> list[Json]:
        """Return the objects that these queries find, without those that could not be read.

        Raises:
            MissingQueriesError: there is no reader.
            YoshiError: nothing can be read.
        """
        self.prefetch(*queries)
        results = (self.results[query] for query in queries)
        return [obj for answer in results if not isinstance(answer, Unreadable) for obj in answer]

    def forbidden_reason(self, *queries: Query) -> str:
        """Return the first of these actions (see Query.verb) that is forbidden, as "may not update ipamblocks", or "".

        Raises:
            MissingQueriesError: there is no reader.
            YoshiError: nothing can be read.
        """
        return next((str(answer["forbidden"]) for answer in self.lookup(*queries)), "")

    def unreadable_reason(self, *queries: Query) -> str:
        """Return why one of these queries could not be answered; "" if all were."""
        for query in queries:
            answer = self.results.get(query)
            if isinstance(answer, Unreadable):
                return answer.reason
        return ""

    def describe_absence(self, *queries: Query) -> str:
        """Return the printed reason why these queries did not return an object."""
        return "cannot be read" if self.unreadable_reason(*queries) else "missing"

    def unreadable_queries(self) -> Mapping[Query, str]:
        """Return each query that could not be answered, and why."""
        return self.derived(_unanswered)

    def unreadable_reasons(self) -> list[str]:
        """Return every reason why something could not be read, each once."""
        return list(dict.fromkeys(self.unreadable_queries().values()))


def unreadable_note(reasons_given: Iterable[str]) -> tuple[str, ...]:
    """Return the line that reports what could not be read; () for nothing.

    It keeps readers from mistaking unreadable for absent.
    """
    reasons = "; ".join(reasons_given)
    return (f"not seen: {reasons}",) if reasons else ()


def _objects_by_name(snapshot: Snapshot) -> dict[Resource, dict[tuple[str, str], Json]]:
    found: dict[Resource, dict[tuple[str, str], Json]] = {}
    for query, answer in snapshot.results.items():
        if not (query.as_table or query.verb or isinstance(answer, Unreadable)):
            objects = found.setdefault(query.resource, {})
            for obj in answer:
                objects.setdefault((namespace_of(obj), name_of(obj)), obj)
    return found


def _grouped(objects: Iterable[Json], key: Callable[[Json], Key]) -> dict[Key, list[Json]]:
    groups: dict[Key, list[Json]] = {}
    for obj in objects:
        groups.setdefault(key(obj), []).append(obj)
    return groups


def _unanswered(snapshot: Snapshot) -> dict[Query, str]:
    return {query: answer.reason for query, answer in snapshot.results.items() if isinstance(answer, Unreadable)}
