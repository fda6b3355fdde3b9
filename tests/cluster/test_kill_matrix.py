"""Every command that changes something, for every kind of network, killed by SIGKILL before each of its writes.

The write is held in a proxy before the API server, the process is killed, and the write is dropped: which writes were
done then does not depend on how fast anything is.

at that moment       I1, I2, I4; a VM carries one address of a network at most (I3)
the same once more   is done, and what there is then is what there is where nothing was killed (I6, I8)
and once more        sends no write (I7)

`install` on a bare cluster, and `uninstall`: test_faults_installing.py. Writes to Calico's IPAM, and what else people
do after a kill than the same once more: test_calico_kill_matrix.py.

YOSHI_KILLS        before how many writes of each case it is killed: see killing.py
YOSHI_KILLS_ONLY   only this case, "attach one", or before one of its writes, "attach one, 2"
"""

from __future__ import annotations

import json
import os
import re
import shlex
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

import pytest

from kubectl_yoshi.model.network import NETWORKWIZARD
from lab.testing import Cluster
from tests.cluster.assertions import assert_state, check_success, raise_first
from tests.cluster.command_fixture import CommandFixture, open_fixtures_with_foreign_bgp, side_by_side
from tests.cluster.fault_scenarios import (
    ATTACHED_BGP,
    ATTACHED_BIG,
    ATTACHED_ELASTIC,
    ATTACHED_LAN,
    ATTACHED_PUB,
    BGP,
    BIG,
    BLUE,
    ELASTIC_BGP,
    LAN,
    PUB,
    SCENARIOS,
    Scenario,
    delete_allocations,
    delete_vm,
    start_vms,
    turns_of,
)
from tests.cluster.harness import CommandResult, Yoshi, fork_server
from tests.cluster.killing import KILLS, run_killed
from tests.cluster.seeded_fault_proxy import FaultSchedule, Kill, spread, spread_by_turns

pytestmark = [
    pytest.mark.I1,
    pytest.mark.I2,
    pytest.mark.I3,
    pytest.mark.I4,
    pytest.mark.I6,
    pytest.mark.I7,
    pytest.mark.I8,
]

FIXTURE_NUMBERS = range(40, 44)
ONLY = os.environ.get("YOSHI_KILLS_ONLY", "")
ALONE = threading.Lock()
"""Of cases that write to what all fixtures have together: how many writes that takes depends on the others."""
APPLIED = re.compile(
    r"/(customresourcedefinitions|clusterroles|validatingadmissionpolicies|validatingadmissionpolicybindings)/"
    r"|/namespaces/default/addressblocks$"  # a dry run, which the policies refuse
)
"""What `install` applies each time: the API server compares, and changes nothing that is so already."""

GC = "ips gc --grace 0s --yes"
ELASTIC_IP = "{ip}.10.5"
MORE = {
    "create without a CIDR, announced by Calico": Scenario(ELASTIC_BGP),
    "delete without a CIDR, announced by Calico": Scenario("network delete elastic --yes", (ELASTIC_BGP,)),
    "attach to a large one": Scenario("vm attach web-1 --network big --ip {ip}.17.5", (BIG,), ("{ip}.17.5",)),
    "attach public elsewhere": Scenario(
        "vm attach web-1 --public-network pub --public-ip {ip}.9.7 --replace", ATTACHED_PUB, ("{ip}.9.7",)
    ),
    "attach Layer 2 elsewhere": Scenario("vm attach web-1 --network lan --ip {ip}.20.77 --replace", ATTACHED_LAN,
                                     ("{ip}.20.77",)),
    "reserve on a public one": Scenario("ips reserve pub {ip}.9.7", (PUB,)),
    "reserve on one announced by Calico": Scenario("ips reserve bgp {ip}.8.7", (BGP,)),
    "reserve on Layer 2": Scenario("ips reserve lan {ip}.20.7", (LAN,)),
    "release of a large one": Scenario("ips release big {ip}.17.7", (BIG, "ips reserve big {ip}.17.7")),
    "release of a public one": Scenario("ips release pub {ip}.9.7", (PUB, "ips reserve pub {ip}.9.7")),
    "release of one announced by Calico": Scenario("ips release bgp {ip}.8.7", (BGP, "ips reserve bgp {ip}.8.7")),
    "release of Layer 2": Scenario("ips release lan {ip}.20.7", (LAN, "ips reserve lan {ip}.20.7")),
    "move without a CIDR": Scenario(f"ips move {ELASTIC_IP} --to web-2", ATTACHED_ELASTIC, (ELASTIC_IP,)),
    "attach reserved public": Scenario(
        "vm attach web-1 --public-network pub", (PUB, "ips reserve pub {ip}.9.7 --for vm/web-1"), ("{ip}.9.7",)
    ),
    "attach reserved Layer 2": Scenario(
        "vm attach web-1 --network lan", (LAN, "ips reserve lan {ip}.20.77 --for vm/web-1"), ("{ip}.20.77",)
    ),
    "detach and keep, running": Scenario(
        "vm detach web-1 --network blue --keep --restart",
        (BLUE, "vm attach web-1 --network blue --ip {ip}.0.5", start_vms), ("{ip}.0.5",),
    ),
    "detach and keep, public": Scenario(
        "vm detach web-1 --public-network pub --keep",
        (PUB, "vm attach web-1 --public-network pub --public-ip {ip}.9.5"), ("{ip}.9.5",),
    ),
    "detach and keep, Layer 2": Scenario(
        "vm detach web-1 --network lan --keep", (LAN, "vm attach web-1 --network lan --ip {ip}.20.77"), ("{ip}.20.77",)
    ),
    "reserve for a VM in a large one": Scenario("ips reserve big {ip}.17.7 --for vm/web-1", (BIG,)),
    "release of a VM's reservation": Scenario(
        "ips release big {ip}.17.7", (BIG, "ips reserve big {ip}.17.7 --for vm/web-1")
    ),
    "move from a reservation": Scenario(
        "ips move {ip}.9.7 --to web-1", (PUB, "ips reserve pub {ip}.9.7 --for namespace/{ns}"), ("{ip}.9.7",)
    ),
    "reserve for another": Scenario(
        "ips move {ip}.9.7 --reserve-for vm/web-2", (PUB, "ips reserve pub {ip}.9.7 --for vm/web-1"), ("{ip}.9.7",)
    ),
    "gc of a killed one's reservation": Scenario(
        GC, (BIG, "ips reserve big {ip}.17.7 --for vm/web-1", "vm attach web-1 --network big", delete_vm)
    ),
    "gc of a large one": Scenario(GC, (*ATTACHED_BIG, delete_vm)),
    "gc of a public one": Scenario(GC, (*ATTACHED_PUB, delete_vm)),
    "gc of one announced by Calico": Scenario(GC, (*ATTACHED_BGP, delete_vm)),
    "gc without a CIDR": Scenario(GC, (*ATTACHED_ELASTIC, delete_vm)),
    "gc of Layer 2": Scenario(GC, (*ATTACHED_LAN, delete_vm)),
    "rebuild of a public one": Scenario("ips rebuild --yes", (*ATTACHED_PUB, delete_allocations)),
    "rebuild of one announced by Calico": Scenario("ips rebuild --yes", (*ATTACHED_BGP, delete_allocations)),
    "rebuild without a CIDR": Scenario("ips rebuild --yes", (*ATTACHED_ELASTIC, delete_allocations)),
    "rebuild of Layer 2": Scenario("ips rebuild --yes", (*ATTACHED_LAN, delete_allocations)),
}  # fmt: skip
"""Commands for kinds of networks with which CASES has them not."""
MATRIX = {name: scenario for name, scenario in {**SCENARIOS, **MORE}.items() if not scenario.looks}
MOST_REPEATED = 2
"""In how many cases the API server may refuse a write of the undisturbed run for a moment, so that it is sent twice and
the last kill comes before a write that is not sent."""
LEFT_TO_GC = {"attach elsewhere": (5,), "attach a running one elsewhere": (5, 6, 7, 8)}
"""The writes of these that come when the VM's template is changed already. The last one releases the address on
network blue: killed before it, the same command finds the VM attached as asked for, and `ips gc` releases that
address, as of any VM that no longer carries one."""
TURN_OF = turns_of(MATRIX)


@dataclass(frozen=True)
class Cell:
    """A kill.

    Attributes:
        name: the case's.
        write: before which of its writes.
    """

    name: str
    write: int

    def __str__(self) -> str:
        return f"{self.name}, {self.write}"


@pytest.fixture(scope="module")
def fixtures(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CommandFixture]]:
    with open_fixtures_with_foreign_bgp(installed, FIXTURE_NUMBERS, tmp_path_factory.mktemp("fixtures")) as found:
        yield found


@pytest.fixture(scope="module")
def programs(fixtures: list[CommandFixture]) -> Iterator[dict[int, Yoshi]]:
    """The program as processes of each fixture's own, by the fixture's proxy."""
    with ExitStack() as stack:
        parents = {fixture.number: stack.enter_context(fork_server()) for fixture in fixtures}
        yield {
            fixture.number: Yoshi(fixture.by_proxy, "it", parents[fixture.number], fixture.namespace)
            for fixture in fixtures
        }


@pytest.mark.timeout(1800)
def test_every_command_killed_before_each_of_its_writes(
    fixtures: list[CommandFixture], programs: dict[int, Yoshi]
) -> None:
    wrong: list[BaseException] = []
    kills: Counter[str] = Counter()
    repeated: dict[str, str] = {}

    def kill_all(name: str, fixture: CommandFixture) -> None:
        scenario = MATRIX[name]
        with ALONE if is_shared(scenario) else nullcontext():
            kill_case(Killing(name, scenario, fixture, programs[fixture.number]), kills, repeated, wrong)

    names = [name for name in MATRIX if ONLY.partition(", ")[0] in ("", name)]
    wrong += side_by_side(fixtures, [partial(kill_all, name) for name in names])
    print(f"\n{kills.total()} kills of {len(kills)} commands, {len(wrong)} went wrong")
    raise_first(wrong)
    assert {*kills, *repeated} == set(names)
    assert len(repeated) <= MOST_REPEATED, "\n".join(repeated.values())


def is_shared(scenario: Scenario) -> bool:
    """Whether it writes to what all fixtures have together."""
    return scenario.alone or any(step in (BGP, ELASTIC_BGP) for step in (scenario.command, *scenario.before))


def writes_to_kill_at(name: str, written: int) -> list[int]:
    """Before which of so many writes a case is killed, from 0 on."""
    if ONLY:
        return [*range(written)]
    return spread(written, KILLS) if KILLS else spread_by_turns(written, *TURN_OF[name])


@dataclass
class Killing:
    """A case at a fixture."""

    name: str
    scenario: Scenario
    fixture: CommandFixture
    program: Yoshi

    def run(self, write: int = 0) -> tuple[CommandResult, Kill]:
        """The command in a process of its own, killed before that write (0: never)."""
        return run_killed(
            self.program, self.fixture.proxy, shlex.split(self.fixture.words(self.scenario.command)), write
        )


def kill_case(killing: Killing, kills: Counter[str], repeated: dict[str, str], wrong: list[BaseException]) -> None:
    """Runs a case undisturbed, then kills it before its writes."""
    killing.scenario.prepare(killing.fixture)
    ran, schedule = killing.run()
    assert ran.code == killing.scenario.code, str(ran)
    expected = killing.fixture.state()
    for write in (number + 1 for number in writes_to_kill_at(killing.name, schedule.written)):
        cell = Cell(killing.name, write)
        if ONLY not in ("", killing.name, str(cell)):
            continue
        log = [f"{cell} of {schedule.written} (YOSHI_KILLS_ONLY): {dict(schedule.asked)}"]
        try:
            if check_kill(killing, write, expected, log):
                kills[killing.name] += 1
            else:
                repeated[killing.name] = "\n".join(log)
        except AssertionError as error:
            wrong.append(AssertionError("\n".join([*log, str(error)])))


def check_kill(killing: Killing, write: int, expected: dict[str, str], log: list[str]) -> bool:
    """Kills, and judges what there is then, after the same command, and after it once more.

    Returns:
        False where it is done before that write.
    """
    fixture, command = killing.fixture, killing.scenario.command
    killing.scenario.prepare(fixture)
    known = fixture.violations()
    ran, schedule = killing.run(write)
    log += [*(f"    {line}" for line in schedule.log), str(ran)]
    if not ran.killed:
        assert (ran.code, schedule.written) == (killing.scenario.code, write - 1), "it was not killed"
        assert_state(fixture.state(), expected, "it is not what there is where nothing was killed")
        return False
    fixture.check(known)

    again = fixture.run(command)
    log.append(f"again: {again}")
    check_success(again)
    if write in LEFT_TO_GC.get(killing.name, ()):
        check_old_address_is_left(fixture, expected)
        check_success(fixture.run(GC))
    objects = fixture.objects()
    assert_state(fixture.state(objects), expected, "it is not what there is where nothing was killed")
    fixture.check(settled=True, objects=objects)

    versions, nothing = fixture.versions(objects), FaultSchedule()
    once_more = fixture.run(command, nothing)
    log.append(f"once more: {once_more}")
    check_success(once_more)
    assert_state(fixture.versions(), versions, "once more has changed something")
    written = [request for request in nothing.writes if not APPLIED.search(request)]
    assert not written, f"once more has written: {written}"
    return True


def check_old_address_is_left(fixture: CommandFixture, expected: dict[str, str]) -> None:
    """All is as where nothing was killed, but that web-1 has its address on network blue still, besides the new one."""
    now, blue = fixture.state(), f"{NETWORKWIZARD.kind} blue"
    assert_state({**now, blue: ""}, {**expected, blue: ""}, "more than the old address is left")
    records = [record["name"] for record in json.loads(now[blue])["status"]["allocations"].values()]
    kept = [record["name"] for record in json.loads(expected[blue])["status"]["allocations"].values()]
    assert sorted(records) == sorted([*kept, "web-1"])
