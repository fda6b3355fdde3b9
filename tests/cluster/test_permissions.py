"""Every command that changes something, by a user who lacks one permission, whichever it is: it is done, or nothing was
changed.

First each case is run by a user with all permissions, to see which permissions it needs; then without one of them
(tests/cluster/denials.py): each command without each permission that its cases need, at one of these for what it reads
and at two for what it writes. A command is done, too, where an address stays recorded and a note says so.

YOSHI_PERMISSIONS=all     each case without each permission
YOSHI_PERMISSIONS_ONLY    only cases whose name has this in it
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.model.objects import name_of
from kubectl_yoshi.model.vm import VMI
from lab.testing import Cluster
from tests.cluster.assertions import assert_state, check_message, differences, raise_first
from tests.cluster.command_fixture import (
    CommandFixture,
    HastyClock,
    open_fixtures_with_foreign_bgp,
    run_in_process,
    side_by_side,
)
from tests.cluster.denials import Permission, denying
from tests.cluster.fault_scenarios import (
    SCENARIOS,
    WIDE,
    Scenario,
    commands,
    delete_vm,
    hold_in_calico,
    start_vms,
)
from tests.cluster.harness import CommandResult
from tests.cluster.seeded_fault_proxy import FaultSchedule

FIXTURE_NUMBERS = range(50, 54)
ALL = os.environ.get("YOSHI_PERMISSIONS", "") == "all"
OF_READS, OF_WRITES = 1, 2
"""At how many of the cases of a command that need a permission it is missing."""
ONLY = os.environ.get("YOSHI_PERMISSIONS_ONLY", "")
ONE_BY_ONE = {"sync", "ips rebuild"}
"""Commands for many networks: each network, and each VM of sync, is done or refused by itself, and says so."""
LEFT = ("stays recorded", "stays reserved", "not seen", " is kept: ", " is not released: ")
"""Words of the notes about what is not done since it may not be read or changed."""
ELSEWHERE = {"install", "uninstall"}
"""Commands that change the whole cluster: tests/cluster/test_faults_installing.py."""

KEPT = (WIDE, hold_in_calico, "vm attach web-1 --network wide --ip {ip}.24.40")
MORE = {
    "attach to another address than Calico keeps": Scenario(
        "vm attach web-1 --network wide --ip {ip}.24.5 --replace", KEPT, ("{ip}.24.5", "{ip}.24.40")
    ),
    "attach to another address than Calico keeps, running": Scenario(
        "vm attach web-1 --network wide --ip {ip}.24.5 --replace --restart",
        (*KEPT, start_vms), ("{ip}.24.5", "{ip}.24.40"),
    ),
    "detach what Calico keeps": Scenario("vm detach web-1 --network wide", KEPT, ("{ip}.24.40",)),
    "detach what Calico keeps, running": Scenario(
        "vm detach web-1 --network wide --restart", (*KEPT, start_vms), ("{ip}.24.40",)
    ),
    "release what Calico keeps": Scenario(
        "ips release wide {ip}.24.40", (*KEPT, delete_vm), ("{ip}.24.40",)
    ),
    "gc what Calico keeps": Scenario("ips gc --grace 0s --yes", (*KEPT, delete_vm), ("{ip}.24.40",)),
    "gc what only Calico keeps": Scenario("ips gc --grace 0s --yes", (WIDE, hold_in_calico, delete_vm)),
}  # fmt: skip
MATRIX = {
    name: scenario
    for name, scenario in {**SCENARIOS, **MORE}.items()
    if not scenario.looks and scenario.name not in ELSEWHERE
}


@pytest.fixture(scope="module")
def fixtures(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CommandFixture]]:
    with open_fixtures_with_foreign_bgp(installed, FIXTURE_NUMBERS, tmp_path_factory.mktemp("fixtures")) as found:
        yield found


def test_every_command_that_changes_something_is_in_the_matrix() -> None:
    changing = {scenario.name for scenario in SCENARIOS.values() if not scenario.looks}
    assert changing - ELSEWHERE == {scenario.name for scenario in MATRIX.values()}
    assert commands() >= ELSEWHERE
    assert {"ips move", "ips import", "ips rebuild", "ips gc", "sync", "network delete"} <= changing


@pytest.mark.timeout(1800)
def test_command_without_one_permission_succeeds_or_changes_nothing(fixtures: list[CommandFixture]) -> None:
    names = [name for name in MATRIX if ONLY in name]
    expected: dict[str, Usual] = {}
    raise_first(side_by_side(fixtures, [partial(run_with_all, name, expected) for name in names]))
    denials = denials_of({name: expected[name].needed for name in names})
    log: list[Cell] = []
    wrong = side_by_side(fixtures, [partial(run_without, name, denials[name], expected[name], log) for name in names])
    wrong += [cell.error for cell in log if cell.error is not None]
    count = Counter(
        f"{'reads' if cell.permission.reads else 'writes'} {'refused' if cell.refused else 'done'}" for cell in log
    )
    print(f"\n{len(names)} cases, {len(log)} denials: {dict(count)}; {len(wrong)} went wrong")
    raise_first(wrong)
    assert {cell.permission for cell in log} == {permission for one in expected.values() for permission in one.needed}


@dataclass(frozen=True)
class Usual:
    """What a case comes to by a user with all permissions.

    Attributes:
        state: see CommandFixture.state.
        needed: the permissions that it needed.
    """

    state: dict[str, str]
    needed: frozenset[Permission]


@dataclass
class Cell:
    """A command by a user who lacks a permission, and what became of it."""

    permission: Permission
    refused: bool
    error: AssertionError | None = None


def run_with_all(name: str, expected: dict[str, Usual], fixture: CommandFixture) -> None:
    """A case by a user with all permissions."""
    scenario = MATRIX[name]
    scenario.prepare(fixture)
    with denying(fixture.proxy, None) as everything:
        ran = run(fixture, scenario.command)
    assert ran.code == scenario.code, str(ran)
    expected[name] = Usual(fixture.state(), frozenset(everything.needed))


def denials_of(needed: Mapping[str, Collection[Permission]]) -> dict[str, list[Permission]]:
    """Scenario -> the permissions without which it is run.

    Of the cases of a command that need the same permission, those are run without it that have the fewest until then.
    """
    denials: dict[str, list[Permission]] = {name: [] for name in needed}
    for command in sorted({MATRIX[name].name for name in needed}):
        scenarios = [name for name in needed if MATRIX[name].name == command]
        for permission in sorted({permission for name in scenarios for permission in needed[name]}):
            need = sorted(
                (name for name in scenarios if permission in needed[name]), key=lambda name: len(denials[name])
            )
            for name in need[: None if ALL else OF_READS if permission.reads else OF_WRITES]:
                denials[name].append(permission)
    return denials


def run_without(
    name: str, denials: Sequence[Permission], expected: Usual, log: list[Cell], fixture: CommandFixture
) -> None:
    """A case without each of these permissions."""
    scenario, is_fresh = MATRIX[name], False
    before: dict[str, str] = {}
    uids: dict[str, str] = {}
    known: list[str] = []
    for permission in denials:
        if not is_fresh:
            scenario.prepare(fixture)
            objects = fixture.objects()
            before, known = fixture.state(objects), fixture.violations(objects=objects)
            uids = uids_of(fixture)
        with denying(fixture.proxy, permission):
            ran = run(fixture, scenario.command)
        cell = Cell(permission, ran.code != scenario.code)
        log.append(cell)
        is_fresh = cell.refused and not fixture.proxy.schedule.writes
        try:
            check_message(ran, scenario.code)
            if not is_fresh:
                objects = fixture.objects()
                check_done_or_nothing(fixture.state(objects), ran, scenario, before, expected.state)
                if cell.refused and scenario.name not in ONE_BY_ONE:
                    assert_state(uids_of(fixture), uids, "it was refused, and has made something again")
                    is_fresh = True
                else:
                    fixture.check(known, objects=objects)
        except AssertionError as error:
            is_fresh = False
            cell.error = AssertionError(f"{name}, may not {permission}\n{ran}\n{error}")
            print(f"\n{cell.error}", flush=True)
    print(f"{name}: {len(denials)} of {len(expected.needed)} permissions", flush=True)


def check_done_or_nothing(
    after: dict[str, str], ran: CommandResult, scenario: Scenario, before: dict[str, str], done: dict[str, str]
) -> None:
    """It has done all that it says, or has changed nothing."""
    if ran.code == scenario.code:
        left = any(words in ran.err for words in LEFT)
        if after != done and not left:
            raise AssertionError(f"it says that it is done, and it is not:\n{differences(done, after)}")
    elif scenario.name not in ONE_BY_ONE:
        assert_state(after, before, "it was refused, and has changed something")


def uids_of(fixture: CommandFixture) -> dict[str, str]:
    """The uids of what runs: a VM that was stopped and started again has another instance, and is as it was."""
    return {name_of(vmi): vmi["metadata"]["uid"] for vmi in fixture.api.list(VMI, fixture.namespace)}


def run(fixture: CommandFixture, command: str) -> CommandResult:
    """A command by way of the proxy, for which what is served is known already."""
    api = Api(fixture.bad, clock=HastyClock())
    api.__dict__["served"] = fixture.api.served
    fixture.proxy.schedule = FaultSchedule()
    return run_in_process(shlex.split(fixture.words(command)), api, fixture.namespace)
