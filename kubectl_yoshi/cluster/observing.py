"""Asking a pure function what it makes of the cluster, and reading what it wants to know until it is content."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.reading import read
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.facts import Facts, NeedMore, Read
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.attempt import Attempt

Planner = Callable[[Facts, Attempt], Plan]
Value = TypeVar("Value")


def begin(ask: Callable[[Facts], object], api: Api, lean: bool = False) -> Facts:
    """What is served and the networks and VMs that are asked for: what questions begin with, read at the same time.

    Which ones these are does not depend on what is served, so the question itself tells it.
    """
    wanted: list[Read] = []
    try:
        ask(Facts())
    except NeedMore as more:
        wanted = [one for one in more.wanted if one.resource in (NETWORKWIZARD, VM)]
    except YoshiError:
        pass  # it will say so again, if it still holds, once it is known what is served
    if not wanted:
        return Facts(api.served)
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(read, api, wanted, lean)
        served = api.served  # what is wrong with the server as a whole is told first
    return Facts(served, answers.result())


def observe(planner: Planner, api: Api, facts: Facts | None, attempt: Attempt) -> tuple[Plan, Facts]:
    """A plan, and the facts that it was made from: asks the planner and reads what it wants until it is content."""
    return observe_value(lambda known: planner(known, attempt), api, facts)


def observe_value(
    ask: Callable[[Facts], Value], api: Api, facts: Facts | None = None, *, lean: bool = False
) -> tuple[Value, Facts]:
    """What a pure function makes of the cluster, and the facts behind it: `observe` for commands that only look.

    With `lean` the objects of lists are cut down to what is looked at: for what writes nothing that rests on them.
    """
    facts = facts or begin(ask, api, lean)
    while True:
        try:
            return ask(facts), facts
        except NeedMore as more:
            facts = facts.with_answers(read(api, more.wanted, lean))
