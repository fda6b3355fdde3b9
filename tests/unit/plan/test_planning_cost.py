"""What plans for many VMs cost: steps and reads are counted, not seconds (invariant I9, issue of quadratic loops)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.unit.plan.fake_cluster import World

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


def crowd(count: int, cidr: str = "10.133.0.0/20") -> tuple[World, list[str]]:
    """A world with VMs that wait to be attached; requests are answered in the thread that makes them."""
    world = World()
    world.network(cidr=cidr)
    names = [f"web-{number:04}" for number in range(count)]
    for name in names:
        world.vm(name)
    return world, names


VERBS: dict[str, Callable[[World, list[str]], Any]] = {
    "attach": lambda world, names: world.attach(*names, dry_run="client"),
    "attach again": lambda world, names: (world.attach(*names), world.attach(*names, dry_run="client")),
    "detach": lambda world, names: (world.attach(*names), world.detach(*names)),
    "collect": lambda world, names: (world.attach(*names), [world.drop_vm(name) for name in names], world.collect()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_for_four_times_as_many_vms_takes_four_times_as_many_steps(verb: str) -> None:
    counted = []
    for count in (FEW, MANY):
        world, names = crowd(count)
        counted.append(steps(lambda: VERBS[verb](world, names)))  # noqa: B023
    assert counted[1] <= counted[0] * MANY / FEW * SLACK
