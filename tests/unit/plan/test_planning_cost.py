"""The cost of plans for many VMs: steps and reads are counted, not seconds (invariant I9)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from kubectl_yoshi.cli.result_objects import attachment_result
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.address_state import AddressState
from tests.unit.plan.fake_cluster import FakeCluster

pytestmark = pytest.mark.I9

FEW, MANY = 100, 400
SLACK = 1.1
"""How much more than proportional the growth may be: a network has its allocations in one or two blocks."""


def steps(do: Callable[[], Any]) -> int:
    """How many lines of this package are run."""
    count = 0

    def line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(frame: FrameType, event: str, arg: Any) -> Any:
        return line if "kubectl_yoshi" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        do()
    finally:
        sys.settrace(before)
    return count


def crowd(count: int, cidr: str = "10.133.0.0/20") -> tuple[FakeCluster, list[str]]:
    """A world with VMs that wait to be attached; requests are answered in the thread that makes them."""
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    names = [f"web-{number:04}" for number in range(count)]
    for name in names:
        cluster.vm(name)
    return cluster, names


def report(result: RunResult, names: list[str]) -> None:
    for name in names:
        attachment_result(result, ("prod", name), "prod/blue", AddressState.BOUND)
        result.has_changed(f"prod/{name}")


VERBS: dict[str, Callable[[FakeCluster, list[str]], Any]] = {
    "attach": lambda cluster, names: cluster.attach(*names, dry_run="client"),
    "attach again": lambda cluster, names: (cluster.attach(*names), cluster.attach(*names, dry_run="client")),
    "report what was attached": lambda cluster, names: report(cluster.attach(*names), names),
    "detach": lambda cluster, names: (cluster.attach(*names), cluster.detach(*names)),
    "collect": lambda cluster, names: (
        cluster.attach(*names),
        [cluster.delete_vm(name) for name in names],
        cluster.collect(),
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_planning_steps_grow_linearly_with_the_vms(verb: str) -> None:
    counted = []
    for count in (FEW, MANY):
        cluster, names = crowd(count)
        counted.append(steps(lambda: VERBS[verb](cluster, names)))  # noqa: B023
    assert counted[1] <= counted[0] * MANY / FEW * SLACK
