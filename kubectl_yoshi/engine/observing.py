"""Asking a pure function what it makes of the cluster, and reading what it wants to know until it is content."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kubectl_yoshi.engine.read import run_queries
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.context import RunContext

Planner = Callable[[Snapshot, RunContext], Plan]
Value = TypeVar("Value")


def read_initial(compute: Callable[[Snapshot], object], api: Api, trim_objects: bool = False) -> Snapshot:
    """What is served and the networks and VMs that are asked for: what questions begin with, read at the same time.

    Which ones these are does not depend on what is served, so the question itself tells it.
    """
    queries: list[Query] = []
    try:
        compute(Snapshot())
    except MissingQueriesError as more:
        queries = [query for query in more.queries if query.resource in (NETWORKWIZARD, VM)]
    except YoshiError:
        pass  # it will say so again, if it still holds, once it is known what is served
    if not queries:
        return Snapshot(api.served)
    with ThreadPoolExecutor(1) as pool:
        results = pool.submit(run_queries, api, queries, trim_objects)
        served = api.served  # what is wrong with the server as a whole is told first
    return Snapshot(served, results.result())


def observe(planner: Planner, api: Api, snapshot: Snapshot | None, run: RunContext) -> tuple[Plan, Snapshot]:
    """A plan, and the snapshot that it was made from: asks the planner and reads what it wants until it is content."""
    return read_and_compute(lambda known: planner(known, run), api, snapshot)


def read_and_compute(
    compute: Callable[[Snapshot], Value], api: Api, snapshot: Snapshot | None = None, *, trim_objects: bool = False
) -> tuple[Value, Snapshot]:
    """What a pure function makes of the cluster, and the snapshot behind it: `observe` for commands that only look.

    With `trim_objects` the objects of lists are cut down to what is looked at: for what writes nothing that rests on
    them.
    """
    snapshot = snapshot or read_initial(compute, api, trim_objects)
    while True:
        try:
            return compute(snapshot), snapshot
        except MissingQueriesError as more:
            snapshot = snapshot.with_results(run_queries(api, more.queries, trim_objects))
