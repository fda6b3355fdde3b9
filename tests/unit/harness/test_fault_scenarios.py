"""Every command of the program has a fault scenario, and the faults depend on their seeds only."""

from __future__ import annotations

import random
from collections import Counter

from tests.cluster.fault_scenarios import SCENARIOS, commands, turns_of
from tests.cluster.seeded_fault_proxy import (
    READ_CLASSES,
    READ_FAULTS,
    REVIEW,
    WRITE_CLASSES,
    WRITE_FAULTS,
    CutOff,
    FaultSchedule,
    Kill,
    OneFault,
    spread,
    spread_by_turns,
)

NO_CLUSTER = {
    "help",
    "completion install",
    "completion bash",
    "completion zsh",
    "completion fish",
    "options",
    "policy print",
}
"""Commands that have nothing to do with a cluster."""
ELSEWHERE = {"uninstall", "policy status"}
"""Commands about the whole cluster: test_faults_installing.py, and the golden traces of `installing`."""


def test_every_command_has_a_scenario() -> None:
    known = commands()
    assert known.issuperset({"install", "network create", "ips import", "sync"}), "the table is read wrongly"
    with_a_course = {scenario.name for scenario in SCENARIOS.values()}
    assert with_a_course <= known
    assert known - with_a_course - NO_CLUSTER - ELSEWHERE == set()
    assert (NO_CLUSTER | ELSEWHERE) & with_a_course == set()
    assert known >= NO_CLUSTER | ELSEWHERE


def test_faults_depend_on_the_seed_and_not_on_the_order() -> None:
    requests = [f"{verb} /{number}" for number in range(40) for verb in ("GET", "PATCH", "POST")] * 3
    schedules = [FaultSchedule("course 7", 0.3, 0.1) for _ in range(2)]
    choose = []
    for seed, schedule in enumerate(schedules):
        order = list(requests)
        random.Random(seed).shuffle(order)
        found: dict[str, list[str]] = {}
        for request in order:
            found.setdefault(request, []).append(schedule.of(request)[0])
        choose.append(found)
    assert choose[0] == choose[1]
    assert sorted(schedules[0].log) == sorted(schedules[1].log)
    assert {kind.partition(" ")[2] for kind in schedules[0].counts} == {*WRITE_FAULTS}
    assert (
        FaultSchedule("course 8", 0.3, 0.1).of(requests[0])[1].random()
        != FaultSchedule("course 9", 0.3, 0.1).of(requests[0])[1].random()
    )


def test_every_fault_is_of_one_class() -> None:
    for classes, faults in ((WRITE_CLASSES, WRITE_FAULTS), (READ_CLASSES, READ_FAULTS)):
        assert sorted(fault for of_one in classes for fault in of_one) == sorted(faults)


def test_one_fault_affects_the_first_times_of_one_request() -> None:
    schedule = OneFault("PATCH /a", "lost", 2)
    counts = Counter(schedule.of(request)[0] for request in ["PATCH /a", "PATCH /b", "PATCH /a", "PATCH /a", "GET /a"])
    assert counts == {"lost": 2, "": 3}
    assert schedule.counts == {"write lost": 2}
    assert set(READ_FAULTS).issubset(WRITE_FAULTS)


def test_cut_off_blocks_everything_after_the_writes() -> None:
    schedule = CutOff(1)
    requests = ("GET /a", "PATCH /a", "GET /a", "POST /b", "GET /a", "PATCH /a")
    assert [schedule.of(request)[0] for request in requests] == ["", "", "", "lost", "lost", "lost"]


def test_kill_happens_at_the_given_matching_write() -> None:
    killed: list[int] = []
    requests = ["GET /a/b", "PATCH /b", "PATCH /a/b", f"{REVIEW} patch a", "POST /a/c", "GET /a/b", "PATCH /b"]
    for done, fault in ((False, "lost"), (True, "done-cut")):
        schedule = Kill(2, lambda: killed.append(1), "/a/", done)
        assert [schedule.of(request)[0] for request in requests] == ["", "", "", "", fault, "lost", "lost"]
        assert schedule.written == 2
    assert len(killed) == 2
    never = Kill(0, lambda: killed.append(1))
    assert not any(never.of(request)[0] for request in requests)
    assert never.written == 4
    assert len(killed) == 2


def test_spread_includes_the_first_and_the_last() -> None:
    assert [spread(count, 3) for count in (0, 1, 2, 3, 8)] == [[], [0], [0, 1], [0, 1, 2], [0, 3, 7]]
    assert spread(4, 1000) == [0, 1, 2, 3]


def test_those_that_take_turns_have_one_point_each_and_together_every_one() -> None:
    assert [spread_by_turns(8, turn, 5) for turn in range(5)] == [[0], [3], [7], [0], [3]]
    assert [spread_by_turns(8, turn, 2) for turn in range(2)] == [[0, 7], [3]]
    assert spread_by_turns(8, 0, 1) == [0, 3, 7]
    assert [spread_by_turns(2, turn, 3) for turn in range(3)] == [[0], [1], [0]]
    assert spread_by_turns(0, 0, 1) == []
    turns = turns_of(SCENARIOS)
    assert {turns[name][0] for name in SCENARIOS if SCENARIOS[name].name == "vm detach"} == {
        *range(turns["detach one"][1])
    }


def test_permission_review_is_a_read() -> None:
    schedule = FaultSchedule("course 7", write=1.0)
    assert [schedule.of(request)[0] for request in (f"{REVIEW} patch virtualmachines", "GET /a")] == ["", ""]
    assert schedule.of("POST /a")[0]
    assert len(schedule.reads) == 2
    assert schedule.writes == ["POST /a"]
