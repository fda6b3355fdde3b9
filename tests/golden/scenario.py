"""Scenarios: a cluster in some state, and command lines that are run on it one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.golden.cluster import Cluster
from tests.golden.transport import Fault
from tests.golden.watches import Watches


@dataclass(frozen=True)
class Watch:
    """What happens while a command watches the cluster.

    Attributes:
        count: how many watches it has.
        actions: texts that it prints, and what is done after each.
    """

    count: int
    actions: Sequence[tuple[str, Callable[[Cluster, Watches], object]]]


@dataclass(frozen=True)
class Run:
    """A command line.

    Attributes:
        line: the words after "kubectl yoshi", as a shell takes them.
        faults: recreated for each recording, since a fault counts the requests that it has met.
        note: tells it from the same line in other circumstances.
        stdin: what is read from stdin.
        terminal: whether stdin is a terminal.
        environment: variables.
        recorded: whether it is part of the transcript; False for what only prepares.
        watch: what happens meanwhile, for a command that goes on.
    """

    line: str
    faults: Callable[[], Sequence[Fault]] = tuple
    note: str = ""
    stdin: str = ""
    terminal: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = True
    watch: Watch | None = None


Step = Run | str | Callable[[Cluster], object]
"""A command line, or what else happens to the cluster."""


@dataclass(frozen=True)
class Scenario:
    """See the module.

    Attributes:
        name: unique within its subject.
        steps: what happens, in order.
        cluster: how the cluster is made, see Cluster.
        real_waits: waits take real time, for commands with threads of their own.
    """

    name: str
    steps: Sequence[Step]
    cluster: Mapping[str, Any] = field(default_factory=dict)
    real_waits: bool = False


def fails(line: str, note: str, *faults: tuple[Any, ...], **more: Any) -> Run:
    """Return a command line under faults, each given as the arguments of Fault."""
    return Run(line, lambda: [Fault(*fault) for fault in faults], note, **more)


def prepare(*lines: str) -> list[Run]:
    """Return command lines that are not recorded."""
    return [Run(line, recorded=False) for line in lines]
