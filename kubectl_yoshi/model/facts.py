"""What was read from the cluster before planning, with the difference between "absent" and "could not be read"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kubectl_yoshi.model.objects import Json, Resource, name_of, namespace_of

Key = TypeVar("Key")
Value = TypeVar("Value")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Read:
    """A wish to read: one object (name given) or a list.

    Attributes:
        resource: what kind.
        namespace: where; None for every namespace, and for cluster-scoped resources.
        name: which; "" for all.
        label_selector: narrows a list.
        as_table: only a list's printer columns (the CRD's additionalPrinterColumns): a dictionary for each object, by
            the columns' names.
        look: reads of one thing with different numbers are different reads: to see whether it has changed meanwhile.
        verb: "" to read; otherwise only whether the user may do that with it, see `Facts.forbids`.
    """

    resource: Resource
    namespace: str | None = None
    name: str = ""
    label_selector: str = ""
    as_table: bool = False
    look: int = 0
    verb: str = ""


class NeedMore(Exception):
    """A plan cannot be made before these are read."""

    def __init__(self, wanted: tuple[Read, ...]) -> None:
        super().__init__(f"{len(wanted)} reads")
        self.wanted = wanted


@dataclass(frozen=True)
class Unknown:
    """Could not be read. `why` is one line for people: which right is missing, or what did not answer."""

    why: str


@dataclass(frozen=True)
class Served:
    """What the API server serves, from discovery.

    Attributes:
        resources: full name ("ippools.crd.projectcalico.org") -> the resource in its preferred served version.
        versions: group -> all its served versions.
        broken: group -> why its aggregated API is unavailable (APIService Available=False).
    """

    resources: Mapping[str, Resource] = field(default_factory=dict)
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, resource: Resource) -> bool:
        return resource.full_name in self.resources and resource.version in self.versions.get(resource.group, ())


@dataclass(frozen=True)
class Facts:
    """The answers to Reads, and what is served.

    What a planner looks up again and again, for one VM after the other, is found in indexes, which are made when they
    are first asked for: a plan for many VMs costs what they cost, not what each of them times all of them would.
    """

    served: Served = field(default_factory=Served)
    answers: Mapping[Read, tuple[Json, ...] | Unknown] = field(default_factory=dict)
    _derived: dict[object, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def with_answers(self, more: Mapping[Read, tuple[Json, ...] | Unknown]) -> Facts:
        """These facts and more of them."""
        return Facts(self.served, {**self.answers, **more})

    def derived(self, make: Callable[[Facts], Value]) -> Value:
        """What a named function of these facts gives, worked out once."""
        if make not in self._derived:
            self._derived[make] = make(self)
        return self._derived[make]  # type: ignore[no-any-return]

    def all(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """Every object of a resource that was read (of that namespace), each once."""
        found = self._by_name(resource).values()
        return [obj for obj in found if namespace is None or namespace_of(obj) == namespace]

    def one(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """The object of that name if it was read and is there, else None (see also `why_unknown`).

        Args:
            namespace: its own; "" for what is cluster-scoped.
        """
        return self._by_name(resource).get((namespace, name))

    def grouped(self, resource: Resource, key: Callable[[Json], Key]) -> Mapping[Key, list[Json]]:
        """Every object of a resource that was read, by what a named function says of it."""
        kept = self._derived.get((resource, key))
        if kept is None:
            kept = self._derived[(resource, key)] = _grouped(self._by_name(resource).values(), key)
        return kept

    def _by_name(self, resource: Resource) -> dict[tuple[str, str], Json]:
        return self.derived(_objects_by_name).get(resource, {})

    def ask(self, *wanted: Read) -> list[Json]:
        """The objects that answer these reads, those that could not be read left out.

        Raises:
            NeedMore: some were not read yet; whoever plans catches it, reads, and plans again.
        """
        missing = tuple(read for read in wanted if read not in self.answers)
        if missing:
            raise NeedMore(missing)
        answers = (self.answers[read] for read in wanted)
        return [obj for answer in answers if not isinstance(answer, Unknown) for obj in answer]

    def forbids(self, *wanted: Read) -> str:
        """Return which of these (see Read.verb) the user may not do: "may not update ipamblocks"; "" for none of them.

        Raises:
            NeedMore: some were not asked for yet.
        """
        return next((str(answer["forbidden"]) for answer in self.ask(*wanted)), "")

    def why_unknown(self, *wanted: Read) -> str:
        """Why one of these reads could not be answered; "" if all were."""
        for read in wanted:
            answer = self.answers.get(read)
            if isinstance(answer, Unknown):
                return answer.why
        return ""

    def absence(self, *wanted: Read) -> str:
        """What to say of an object that these reads did not bring."""
        return "may not be read" if self.why_unknown(*wanted) else "missing"

    def unanswered(self) -> Mapping[Read, str]:
        """The reads that could not be answered, and why."""
        return self.derived(_unanswered)

    def unknowns(self) -> list[str]:
        """Every reason why something could not be read, each once."""
        return list(dict.fromkeys(self.unanswered().values()))


def not_seen(whys: Iterable[str]) -> tuple[str, ...]:
    """The line that tells people what could not be read, so that unknown is never taken for absent; () for nothing."""
    reasons = "; ".join(whys)
    return (f"not seen: {reasons}",) if reasons else ()


def together(parts: Iterable[Callable[[], Value]]) -> list[Value]:
    """What each part gives; what several of them still want to know is asked for at once.

    Raises:
        NeedMore: with the reads of all parts that lack some.
    """
    values: list[Value] = []
    wanted: dict[Read, None] = {}
    for part in parts:
        try:
            values.append(part())
        except NeedMore as more:
            wanted.update(dict.fromkeys(more.wanted))
    if wanted:
        raise NeedMore(tuple(wanted))
    return values


def both(one: Callable[[], Value], other: Callable[[], Other]) -> tuple[Value, Other]:
    """As `together`, of two that give different things."""
    wanted: list[Read] = []
    try:
        first = one()
    except NeedMore as more:
        wanted += more.wanted
    try:
        second = other()
    except NeedMore as more:
        wanted += more.wanted
    if wanted:
        raise NeedMore(tuple(dict.fromkeys(wanted)))
    return first, second


def _objects_by_name(facts: Facts) -> dict[Resource, dict[tuple[str, str], Json]]:
    found: dict[Resource, dict[tuple[str, str], Json]] = {}
    for read, answer in facts.answers.items():
        if not (read.as_table or read.verb or isinstance(answer, Unknown)):
            objects = found.setdefault(read.resource, {})
            for obj in answer:
                objects[(namespace_of(obj), name_of(obj))] = obj
    return found


def _grouped(objects: Iterable[Json], key: Callable[[Json], Key]) -> dict[Key, list[Json]]:
    groups: dict[Key, list[Json]] = {}
    for obj in objects:
        groups.setdefault(key(obj), []).append(obj)
    return groups


def _unanswered(facts: Facts) -> dict[Read, str]:
    return {read: answer.why for read, answer in facts.answers.items() if isinstance(answer, Unknown)}
