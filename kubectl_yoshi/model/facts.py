"""What was read from the cluster before planning, with the difference between "absent" and "could not be read"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubectl_yoshi.model.objects import Json, Resource, name_of, namespace_of


@dataclass(frozen=True)
class Read:
    """A wish to read: one object (name given) or a list.

    Attributes:
        resource: what kind.
        namespace: where; None for every namespace, and for cluster-scoped resources.
        name: which; "" for all.
        label_selector: narrows a list.
        look: reads of one thing with different numbers are different reads: to see whether it has changed meanwhile.
    """

    resource: Resource
    namespace: str | None = None
    name: str = ""
    label_selector: str = ""
    look: int = 0


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

    def has_group(self, group: str) -> bool:
        """Whether any resource of the group is served."""
        return group in self.versions


@dataclass(frozen=True)
class Facts:
    """The answers to Reads, and what is served."""

    served: Served = field(default_factory=Served)
    answers: Mapping[Read, tuple[Json, ...] | Unknown] = field(default_factory=dict)

    def with_answers(self, more: Mapping[Read, tuple[Json, ...] | Unknown]) -> Facts:
        """These facts and more of them."""
        return Facts(self.served, {**self.answers, **more})

    def all(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """Every object of a resource that was read (of that namespace), each once."""
        seen: dict[tuple[str, str], Json] = {}
        for read, answer in self.answers.items():
            if read.resource == resource and not isinstance(answer, Unknown):
                for obj in answer:
                    if namespace is None or namespace_of(obj) == namespace:
                        seen[(namespace_of(obj), name_of(obj))] = obj
        return list(seen.values())

    def one(self, resource: Resource, name: str, namespace: str | None = None) -> Json | None:
        """The object of that name if it was read and is there, else None (see also `unknown`)."""
        for obj in self.all(resource, namespace):
            if name_of(obj) == name:
                return obj
        return None

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

    def why_unknown(self, *wanted: Read) -> str:
        """Why one of these reads could not be answered; "" if all were."""
        for read in wanted:
            answer = self.answers.get(read)
            if isinstance(answer, Unknown):
                return answer.why
        return ""

    def unknown(self, resource: Resource) -> str:
        """Why a resource could not be read; "" if all that was asked of it was answered."""
        for read, answer in self.answers.items():
            if read.resource == resource and isinstance(answer, Unknown):
                return answer.why
        return ""

    def unknowns(self) -> list[str]:
        """Every reason why something could not be read, each once."""
        return list(dict.fromkeys(a.why for a in self.answers.values() if isinstance(a, Unknown)))
