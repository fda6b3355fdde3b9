"""Giving back what two reports call leaked, and nothing that changed since.

leaked in both, unchanged                          given back, once
in one only, renewed, handed on, its VM changed    left alone, with the reason
used after all                                     refused (I5)
the same report, too old, too close, of the future refused before anything is read
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.read import read_and_compute
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.inventory import build_inventory, find_discrepancies
from kubectl_yoshi.plan.network_lookup import load_network
from kubectl_yoshi.plan.reports import (
    LeakRequest,
    Report,
    build_report,
    confirmed_leaks,
    parse_report,
    plan_leak_release,
)
from tests.unit.plan.world import BACKENDS, World

pytestmark = pytest.mark.I5

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
APART_SECONDS = 300.0
OLDEST_SECONDS = 24 * 3600.0
BLUE = NETWORKWIZARD.ref("blue", "prod")


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def look(world: World, seconds_ago: float = 600.0, identity: str = "one") -> Report:
    """A report of prod/blue, through its file."""
    now = datetime.now(timezone.utc) + timedelta(hours=1)  # no record is young

    def ask(snapshot: Any) -> Json:
        rows = build_inventory(
            load_network("prod", "blue", snapshot), BACKENDS["calico"], snapshot, now, all_namespaces=True
        )
        return build_report(rows, find_discrepancies(rows), ago(seconds_ago), identity)

    found, _ = read_and_compute(ask, world.api)  # type: ignore[arg-type]
    return parse_report(json.loads(json.dumps(found)), f"{identity}.json")


def release(world: World, one: Report, two: Report) -> RunResult:
    leaks = confirmed_leaks(one, two, NOW, APART_SECONDS, OLDEST_SECONDS)
    return world.run(plan_leak_release, LeakRequest(tuple(leaks)))


def leaking(cidr: str = "10.133.0.0/24") -> World:
    """web-1 is gone and its address is still recorded; web-2 has one and uses it; one is reserved."""
    world = World(keeps=False)
    world.network(cidr=cidr)
    world.vm("web-1")
    world.vm("web-2")
    world.attach("web-1", ip="10.133.0.1")
    world.attach("web-2", ip="10.133.0.2")
    world.reserve("10.133.0.3")
    world.drop_vm("web-1")
    return world


@pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"])
def test_what_both_reports_call_leaked_is_given_back(cidr: str) -> None:
    world = leaking(cidr)
    one, two = look(world), look(world, 5, "two")
    assert [address for _, address in one.leaked] == ["10.133.0.1"]
    done = release(world, one, two)
    assert done.plan.results == {"10.133.0.1": "prod/web-1"}
    assert not done.errors
    assert set(world.holders()) == {"10.133.0.2", "10.133.0.3"}
    again = release(world, two, one)
    assert not again.executed
    assert "10.133.0.1 on network prod/blue is left alone: its record is not what the reports say" in again.notes
    world.check()


def test_what_one_report_only_calls_leaked_stays() -> None:
    world = leaking()
    one = look(world)
    world.drop_vm("web-2")
    two = look(world, 5, "two")
    assert len(two.leaked) == 2
    release(world, one, two)
    assert set(world.holders()) == {"10.133.0.2", "10.133.0.3"}


def renewed(world: World) -> None:
    world.api.change(BLUE, lambda obj: obj["status"]["allocations"]["10.133.0.1"].update(since="2026-11-25T11:59:00Z"))


def handed_on(world: World) -> None:
    world.vm("web-1")
    world.attach("web-1")


def network_made_anew(world: World) -> None:
    obj = world.api.get(BLUE)
    world.api.drop(BLUE)
    del obj["metadata"]["uid"]
    world.api.put(NETWORKWIZARD, obj)


CHANGES: dict[str, Callable[[World], None]] = {
    "renewed": renewed,
    "handed on": handed_on,
    "network made anew": network_made_anew,
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_since_stays(what: str) -> None:
    world = leaking()
    one, two = look(world), look(world, 5, "two")
    CHANGES[what](world)
    there = world.holders()
    done = release(world, one, two)
    assert world.holders() == there
    assert any("10.133.0.1 on network prod/blue is left alone" in note for note in done.notes)


def test_between_the_reports_too() -> None:
    world = leaking()
    one = look(world)
    renewed(world)
    two = look(world, 5, "two")
    assert one.leaked
    assert two.leaked
    assert confirmed_leaks(one, two, NOW, APART_SECONDS, OLDEST_SECONDS) == []


def unwanting() -> World:
    """web-1 is there, and does not want the address that is recorded for it."""
    world = World(keeps=False)
    world.network()
    world.vm("web-1")
    world.attach("web-1")
    vm = VM.ref("web-1", "prod")
    world.api.change(vm, lambda obj: obj["spec"]["template"]["metadata"]["annotations"].clear())
    return world


def test_a_vm_that_does_not_want_it_loses_it_unless_it_was_written_to_since() -> None:
    world = unwanting()
    one, two = look(world), look(world, 5, "two")
    assert len(one.leaked) == 1
    world.api.change(VM.ref("web-1", "prod"), lambda obj: obj["metadata"].update(labels={"team": "red"}))
    done = release(world, one, two)
    assert done.notes == ("10.133.0.1 on network prod/blue is left alone: VM prod/web-1 has changed since",)
    assert world.holders()

    one, two = look(world), look(world, 5, "two")
    assert release(world, one, two).plan.results
    assert not world.holders()
    world.check()


def test_a_network_that_is_gone_took_its_records_with_it() -> None:
    world = leaking()
    one, two = look(world), look(world, 5, "two")
    world.api.drop(BLUE)
    assert release(world, one, two).notes == ("network prod/blue is gone, and its records with it",)


def test_one_report_is_not_two() -> None:
    one = Report("a.json", "same", ago(600), {})
    with pytest.raises(UsageError, match=r"a\.json and b\.json are the same report"):
        confirmed_leaks(one, Report("b.json", "same", ago(5), {}), NOW, APART_SECONDS, OLDEST_SECONDS)


@given(st.integers(-7200, 200_000), st.integers(-7200, 200_000))
def test_reports_are_compared_only_if_young_and_far_enough_apart(first: int, second: int) -> None:
    one, two = Report("a.json", "a", ago(first), {}), Report("b.json", "b", ago(second), {})
    sound = all(-60 <= age <= OLDEST_SECONDS for age in (first, second)) and abs(first - second) >= APART_SECONDS
    if sound:
        assert confirmed_leaks(one, two, NOW, APART_SECONDS, OLDEST_SECONDS) == []
    else:
        with pytest.raises(PreconditionFailed, match=r"too old|apart|future"):
            confirmed_leaks(one, two, NOW, APART_SECONDS, OLDEST_SECONDS)


def test_a_time_that_is_none_is_too_old() -> None:
    one, two = Report("a.json", "a", "yesterday", {}), Report("b.json", "b", ago(5), {})
    with pytest.raises(PreconditionFailed, match=r"a\.json is too old"):
        confirmed_leaks(one, two, NOW, APART_SECONDS, OLDEST_SECONDS)


GOOD = {"kind": "AddressReport", "id": "x", "time": "2026-11-25T12:00:00Z", "leaked": []}
ENTRY = {"network": "prod/blue", "networkUID": "u", "address": "10.0.0.1", "record": {}, "vm": None}
ENTRIES: list[Any] = [3, {}, {**ENTRY, "network": "blue"}, {**ENTRY, "address": "x"}, {**ENTRY, "record": "web-1"}]


@pytest.mark.parametrize(
    "value",
    [None, [], "x", {}, {**GOOD, "kind": "Pod"}, {**GOOD, "id": 3}, {**GOOD, "time": None}, {**GOOD, "leaked": {}}]
    + [{**GOOD, "leaked": [entry]} for entry in ENTRIES],
)
def test_what_is_no_report_is_a_mistake(value: Any) -> None:
    assert parse_report({**GOOD, "leaked": [ENTRY]}, "a.json").leaked
    with pytest.raises(UsageError, match=r"a\.json is no report"):
        parse_report(value, "a.json")
