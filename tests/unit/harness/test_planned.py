"""What the tests on a real API server leave to `make soak` is left by turns: nothing of it is left out everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.cluster import test_calico_kill_matrix, test_permissions
from tests.cluster.denials import Permission
from tests.cluster.fault_scenarios import SCENARIOS
from tests.cluster.seeded_fault_proxy import READ_CLASSES, READ_FAULTS, WRITE_CLASSES, WRITE_FAULTS
from tests.cluster.test_faults import CLASSED, EVERY, SENT_AGAIN, THOROUGH, PlannedFault
from tests.scheduling import place_of, unit_of

CHANGING = {case.name for case in SCENARIOS.values() if not case.looks}


def met(planned: Iterable[PlannedFault], command: str, writing: bool) -> set[str]:
    return {one.fault for one in planned if SCENARIOS[one.name].name == command and one.writing == writing}


def test_every_command_meets_a_fault_of_each_class_that_it_handles_itself() -> None:
    for command in CHANGING:
        classes = [one for one in WRITE_CLASSES if one not in SENT_AGAIN or command in THOROUGH]
        assert [one for one in classes if not met(CLASSED, command, True) & {*one}] == [], command
    for command in THOROUGH:
        assert [one for one in READ_CLASSES if not met(CLASSED, command, False) & {*one}] == [], command


def test_other_fault_classes_are_met_by_some_commands() -> None:
    looking = {case.name for case in SCENARIOS.values()} - CHANGING
    for commands, writing, classes in (
        (CHANGING - {*THOROUGH}, True, SENT_AGAIN),
        (CHANGING - {*THOROUGH}, False, READ_CLASSES),
        (looking, False, READ_CLASSES),
    ):
        found = set().union(*(met(CLASSED, command, writing) for command in commands))
        assert [one for one in classes if not found & {*one}] == []


def test_soak_has_every_fault_of_every_command() -> None:
    for command in {case.name for case in SCENARIOS.values()}:
        assert met([*CLASSED, *EVERY], command, False) == {*READ_FAULTS}
        assert met([*CLASSED, *EVERY], command, True) == ({*WRITE_FAULTS} if command in CHANGING else set())


def test_each_kill_is_followed_by_the_same_command_and_some_by_every_other() -> None:
    cells = test_calico_kill_matrix.MATRIX
    assert {(one.name, one.at) for one in cells if one.then == "same"} == {*test_calico_kill_matrix.KILLS}
    for name, case in test_calico_kill_matrix.CASES.items():
        then = {one.then for one in cells if one.name == name}
        assert then == {*test_calico_kill_matrix.THEN} or case.writes < 2, name


def test_permissions_to_write_are_missing_in_two_scenarios_and_to_read_in_one() -> None:
    get, list_, patch = (Permission(verb, "", "a") for verb in ("get", "list", "patch"))
    reserving = ("reserve", "reserve in a large one", "reserve without a CIDR")
    needed = {**{name: {get, list_, patch} for name in reserving}, "release": {get}}
    assert test_permissions.denials_of(needed) == {
        "reserve": [get, patch],
        "reserve in a large one": [list_],
        "reserve without a CIDR": [patch],
        "release": [get],
    }


def test_worker_takes_a_module_or_all_of_e2e() -> None:
    assert unit_of(Path("tests/e2e/test_ovs.py")) == unit_of(Path("tests/e2e/test_public.py")) == "e2e"
    assert unit_of(Path("tests/cluster/test_public.py")) == unit_of(Path("tests/cluster/test_public_addresses.py"))
    assert unit_of(Path("tests/cluster/test_sync.py")) != unit_of(Path("tests/cluster/test_lab.py"))


def test_random_order_keeps_what_a_worker_takes_together() -> None:
    modules = [Path(f"tests/{name}.py") for name in ("e2e/test_ovs", "e2e/test_public", "cluster/test_sync")]
    ovs, public, sync = (place_of(module, "1") for module in modules)
    assert ovs == public != sync
    assert [place_of(module, "2") for module in modules] != [ovs, public, sync]
