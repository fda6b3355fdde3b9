"""What `sync --watch` looks at next."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kubectl_yoshi.backends.calico import Calico
from kubectl_yoshi.cluster.attention import (
    EVERYTHING_SECONDS,
    FIRST_RETRY,
    LAST_RETRY,
    LATER_SECONDS,
    LONGEST_DELAY,
    QUIET_SECONDS,
    Attention,
)
from kubectl_yoshi.cluster.following import Happened, Listed
from kubectl_yoshi.cluster.syncing import Report
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Name
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.restarts import START_AGAIN
from kubectl_yoshi.plan.syncing import Agenda, Scope

WHOLE = Scope(None, restart=True)
WEB, DB, BLUE, GREEN = ("prod", "web"), ("prod", "db"), ("prod", "blue"), ("prod", "green")
BACKEND = Calico()


@pytest.fixture
def attention() -> Attention:
    return Attention(WHOLE, {"calico": BACKEND}, 0.0)


def vm(name: Name, network: str = "", **more: Any) -> Json:
    annotations = {**({BACKEND.wish: network} if network else {}), **more.pop("annotations", {})}
    return {"metadata": _meta(name, annotations=annotations, **more), "status": {"printableStatus": "Stopped"}}


def network(name: Name, *held: str, **more: Any) -> Json:
    return {"metadata": _meta(name, **more), "status": {"allocations": {key: {} for key in held}}}


def _meta(name: Name, **more: Any) -> Json:
    return {"namespace": name[0], "name": name[1], "uid": f"uid-{name[1]}", "generation": 1, **more}


def hear(attention: Attention, obj: Json, now: float = 0.0, deleted: bool = False) -> None:
    resource = NETWORKWIZARD if "allocations" in obj["status"] else VM
    attention.hear(Happened(resource, obj, deleted), now)


def soon(attention: Attention, now: float = 0.0) -> Scope:
    """What is looked at once all is quiet."""
    scope = attention.due(now + QUIET_SECONDS)
    assert scope is not None
    return scope


def failing(attention: Attention, now: float = 0.0, **failed: tuple[Name, ...]) -> None:
    """A pass over everything in which these failed."""
    report = Report(WHOLE)
    report.vms = {name: Refused("no") for name in failed.get("vms", ())}
    report.networks = {name: Refused("no") for name in failed.get("networks", ())}
    attention.settle(WHOLE, report, now)


def test_a_new_vm_that_asks_for_a_network_is_looked_at(attention: Attention) -> None:
    assert attention.due(0.0) is None
    hear(attention, vm(WEB, "blue"))
    assert soon(attention) == Scope(None, frozenset(), frozenset({WEB}), leftovers=False, restart=True)
    assert attention.due(1.0) is None, "once"


def test_a_vm_that_asks_for_nothing_is_not(attention: Attention) -> None:
    hear(attention, vm(WEB))
    assert attention.due(1.0) is None


def test_what_a_vm_says_of_its_state_is_no_news(attention: Attention) -> None:
    attention.know([vm(WEB, "blue")], VM.kind)
    changed = vm(WEB, "blue")
    changed["status"]["printableStatus"] = "Running"
    hear(attention, changed)
    assert attention.due(1.0) is None
    hear(attention, vm(WEB, "blue", generation=2))
    assert soon(attention).vms == {WEB}


def test_a_marked_vm_is_looked_at_when_it_has_stopped(attention: Attention) -> None:
    marked = vm(WEB, annotations={START_AGAIN: "Always"})
    marked["status"]["printableStatus"] = "Stopping"
    attention.know([marked], VM.kind)
    stopped = copy.deepcopy(marked)
    stopped["status"]["printableStatus"] = "Stopped"
    hear(attention, stopped)
    assert soon(attention).vms == {WEB}


def test_news_that_come_together_are_looked_at_together_but_not_for_ever(attention: Attention) -> None:
    now = 0.0
    while now < LONGEST_DELAY - QUIET_SECONDS / 2:
        hear(attention, vm(("prod", f"web-{now}"), "blue"), now)
        assert attention.due(now) is None
        now += QUIET_SECONDS / 2
    scope = attention.due(LONGEST_DELAY)
    assert scope is not None
    assert scope.vms is not None
    assert len(scope.vms) > 5


def test_a_changed_network_is_looked_at_but_not_one_whose_addresses_changed(attention: Attention) -> None:
    attention.know([network(BLUE)], NETWORKWIZARD.kind)
    hear(attention, network(BLUE, "10.0.0.1"))
    assert attention.due(1.0) is None
    hear(attention, network(BLUE, "10.0.0.1", generation=2), 1.0)
    assert soon(attention, 1.0).networks == {BLUE}


def test_a_deleted_network_leaves_something_and_its_vms_are_told(attention: Attention) -> None:
    attention.know([network(BLUE), network(GREEN)], NETWORKWIZARD.kind)
    attention.know([vm(WEB, "blue"), vm(DB, "green")], VM.kind)
    hear(attention, network(BLUE), deleted=True)
    assert soon(attention) == Scope(None, frozenset(), frozenset({WEB}), leftovers=True, restart=True)


def test_what_a_new_list_lacks_was_deleted_meanwhile(attention: Attention) -> None:
    attention.know([network(BLUE), network(GREEN)], NETWORKWIZARD.kind)
    attention.hear(Listed(NETWORKWIZARD, (network(GREEN),)), 0.0)
    assert soon(attention).leftovers
    attention.hear(Listed(NETWORKWIZARD, (network(GREEN), network(BLUE))), 1.0)
    assert soon(attention, 1.0).networks == {BLUE}


def test_who_failed_is_tried_again_later_each_time(attention: Attention) -> None:
    attention.know([vm(WEB, "blue")], VM.kind)
    now, waited = 0.0, []
    for _ in range(8):
        failing(attention, now, vms=(WEB,))
        left = attention.seconds_left(now)
        waited.append(left)
        now += left
        if now < EVERYTHING_SECONDS:
            assert attention.due(now) == Scope(None, frozenset(), frozenset({WEB}), leftovers=False, restart=True)
        else:
            attention.due(now)
    assert waited[:3] == pytest.approx([FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY])
    assert max(waited) <= LAST_RETRY


def test_who_was_helped_is_not_tried_again(attention: Attention) -> None:
    attention.know([vm(WEB, "blue")], VM.kind)
    failing(attention, vms=(WEB,))
    failing(attention)
    assert attention.seconds_left(0.0) > LAST_RETRY


@pytest.mark.parametrize("what", ["made", "freed", "changed"])
def test_who_failed_is_tried_at_once_when_its_network_changes(attention: Attention, what: str) -> None:
    attention.know([] if what == "made" else [network(BLUE, "10.0.0.1")], NETWORKWIZARD.kind)
    attention.know([vm(WEB, "blue"), vm(DB, "green")], VM.kind)
    failing(attention, vms=(WEB, DB))
    hear(attention, network(BLUE, generation=2 if what == "changed" else 1))
    assert soon(attention).vms == {WEB}


def test_who_failed_is_tried_when_its_network_works_again(attention: Attention) -> None:
    attention.know([vm(WEB, "blue")], VM.kind)
    failing(attention, vms=(WEB,), networks=(BLUE,))
    failing(attention, vms=(WEB,))
    assert soon(attention).vms == {WEB}


def test_a_network_in_the_way_of_another_that_goes_lets_that_be_tried(attention: Attention) -> None:
    attention.know([network(BLUE), network(GREEN)], NETWORKWIZARD.kind)
    failing(attention, networks=(GREEN,))
    hear(attention, network(BLUE), deleted=True)
    assert soon(attention).networks == {GREEN}


def test_a_vm_that_another_run_restarts_is_looked_at_a_little_later(attention: Attention) -> None:
    report = Report(WHOLE, Agenda(later=frozenset({WEB})))
    attention.settle(WHOLE, report, 0.0)
    assert attention.due(LATER_SECONDS - 0.1) is None
    scope = attention.due(LATER_SECONDS)
    assert scope is not None
    assert scope.vms == {WEB}


def test_a_vm_that_is_gone_is_tried_no_more(attention: Attention) -> None:
    attention.know([vm(WEB, "blue")], VM.kind)
    failing(attention, vms=(WEB,))
    hear(attention, vm(WEB, "blue"), deleted=True)
    assert attention.seconds_left(0.0) > LAST_RETRY


def test_everything_is_looked_at_now_and_then(attention: Attention) -> None:
    assert attention.due(EVERYTHING_SECONDS - 1) is None
    assert attention.due(EVERYTHING_SECONDS) == WHOLE
    assert attention.due(EVERYTHING_SECONDS + 1) is None


@pytest.mark.parametrize("whole", [True, False])
def test_a_pass_that_could_not_be_made_is_made_up_for(attention: Attention, whole: bool) -> None:
    hear(attention, vm(WEB, "blue"))
    scope = WHOLE if whole else soon(attention)
    attention.put_back(scope, 1.0, 7.0)
    hear(attention, vm(DB, "blue"), 2.0)
    assert attention.due(7.9) is None
    due = attention.due(8.1)
    assert due is not None
    assert due.vms is None if whole else due.vms == {WEB, DB}
