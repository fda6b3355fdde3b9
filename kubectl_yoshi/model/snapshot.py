"""What was read from the cluster before planning, with the difference between "absent" and "could not be read".

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
    """What to read: one object (name given) or a list.

    Attributes:
        resource: what kind.
        namespace: where; None for every namespace, and for cluster-scoped resources.
        name: which; "" for all.
        label_selector: narrows a list.
        as_table: only a list's printer columns (the CRD's additionalPrinterColumns): a dictionary for each object, by
            the columns' names.
        read_number: reads of one thing with different numbers are different reads: to see whether it has changed
            meanwhile.
        verb: "" to read; otherwise only whether the user may do that with it, see `Snapshot.forbidden_reason`.
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
    """Could not be read. `reason` is one line for people: which right is missing, or what did not answer."""

    reason: str


@dataclass(frozen=True)
class ServedApis:
    """What the API server serves besides the core group, from discovery.

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
"""The objects that a query finds, () for none; or that it could not be answered."""


class Reader(Protocol):
    """Where a snapshot gets what it does not have yet."""

    @property
    def served(self) -> ServedApis:
        """What the API server serves."""

    def read(self, queries: Sequence[Query]) -> Mapping[Query, Answer]:
        """Return the answers to these queries, read at the same time.

        Raises:
            YoshiError: nothing can be read.
        """


class MissingQueriesError(Exception):
    """Queries that a snapshot without a reader has no answers to."""

    def __init__(self, queries: Iterable[Query]) -> None:
        self.queries = tuple(dict.fromkeys(queries))
        super().__init__(f"not read: {', '.join(map(str, self.queries))}")


class Snapshot:
    """What one round of planning knows of the cluster: a query is read when it is first asked for, and only once.

    What a planner looks up again and again, for one VM after the other, is found in indexes, which are made when they
    are first asked for: a plan for many VMs costs what they cost, not what each of them times all of them would.

    Args:
        served: what is served, for a snapshot without a reader.
        results: answers that are there already.
        reader: where the others come from; None for nowhere.
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
        """What the API server serves."""
        return self._reader.served if self._reader else self._served

    def with_results(self, results: Mapping[Query, Answer]) -> Snapshot:
        """Return this snapshot with more answers."""
        return Snapshot(self._served, {**self.results, **results}, self._reader)

    def with_written(self, objects: Mapping[ObjectRef, Json]) -> Snapshot | None:
        """Return what was read, with objects as the API server answered writes of them; it reads nothing more.

        Args:
            objects: what was created or changed, as it is now.

        Returns:
            None where it cannot be told whether an object belongs to a list that was read.
        """
        results = dict(self.results)
        for ref, obj in objects.items():
            for query in self.results:
                if query.resource != ref.resource or query.verb or query.name not in ("", ref.name):
                    continue
                if query.namespace is not None and query.namespace != ref.namespace:
                    continue
                answer = results[query]
                if query.as_table or query.label_selector or isinstance(answer, Unreadable):
                    return None
                by_name = {(namespace_of(one), name_of(one)): one for one in answer}
                results[query] = tuple({**by_name, (namespace_of(obj), name_of(obj)): obj}.values())
        return Snapshot(self.served, results)

    def prefetch(self, *queries: Query) -> None:
        """Read what of these was not read yet, at the same time.

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

    def parallel(self, parts: Iterable[Callable[[], Value]]) -> list[Value]:
        """Return what each part returns; what several of them want to read next is read at the same time.

        For parts of which nobody can tell beforehand what they read, such as what a backend does for each of many VMs.
        A part is called again after each round of reads that it takes part in, so it must do nothing but read.

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
        """As `parallel`, of two parts that return different things."""
        parts: tuple[Callable[[], Any], ...] = (one, other)
        first, second = self.parallel(parts)
        return first, second

    def derived(self, function: Callable[[Snapshot], Value]) -> Value:
        """What a named function of this snapshot gives, worked out once."""
        if function not in self._derived:
            self._derived[function] = function(self)
        return self._derived[function]  # type: ignore[no-any-return]

    def list_objects(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """Every object of a resource that was read (of that namespace), each once."""
        found = self._by_name(resource).values()
        return [obj for obj in found if namespace is None or namespace_of(obj) == namespace]

    def get_object(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """The object of that name if it was read and is there, else None (see also `unreadable_reason`).

        If it was read more than once, it is as it was read first: whatever was decided since by what it says, a write
        that tests its resourceVersion is refused if it has changed since then.

        Args:
            namespace: its own; "" for what is cluster-scoped.
        """
        return self._by_name(resource).get((namespace, name))

    def group_by(self, resource: Resource, key: Callable[[Json], Key]) -> Mapping[Key, list[Json]]:
        """Every object of a resource that was read, by what a named function says of it."""
        groups = self._derived.get((resource, key))
        if groups is None:
            groups = self._derived[(resource, key)] = _grouped(self._by_name(resource).values(), key)
        return groups

    def _by_name(self, resource: Resource) -> dict[tuple[str, str], Json]:
        return self.derived(_objects_by_name).get(resource, {})

    def lookup(self, *queries: Query) -> list[Json]:
        """The objects that answer these reads, those that could not be read left out.

        Raises:
            MissingQueriesError: there is no reader.
            YoshiError: nothing can be read.
        """
        self.prefetch(*queries)
        results = (self.results[query] for query in queries)
        return [obj for answer in results if not isinstance(answer, Unreadable) for obj in answer]

    def forbidden_reason(self, *queries: Query) -> str:
        """Return which of these (see Query.verb) the user may not do: "may not update ipamblocks"; "" for none of them.

        Raises:
            MissingQueriesError: there is no reader.
            YoshiError: nothing can be read.
        """
        return next((str(answer["forbidden"]) for answer in self.lookup(*queries)), "")

    def unreadable_reason(self, *queries: Query) -> str:
        """Why one of these reads could not be answered; "" if all were."""
        for query in queries:
            answer = self.results.get(query)
            if isinstance(answer, Unreadable):
                return answer.reason
        return ""

    def describe_absence(self, *queries: Query) -> str:
        """What to say of an object that these reads did not bring."""
        return "may not be read" if self.unreadable_reason(*queries) else "missing"

    def unreadable_queries(self) -> Mapping[Query, str]:
        """The reads that could not be answered, and why."""
        return self.derived(_unanswered)

    def unreadable_reasons(self) -> list[str]:
        """Every reason why something could not be read, each once."""
        return list(dict.fromkeys(self.unreadable_queries().values()))


def unreadable_note(reasons_given: Iterable[str]) -> tuple[str, ...]:
    """The line that tells people what could not be read, so that unknown is never taken for absent; () for nothing."""
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
