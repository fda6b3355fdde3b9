"""Every command that changes something, for every kind of network, killed by SIGKILL before each of its writes.

The write is held in a proxy before the API server, the process is killed, and the write is dropped: which writes were
done then does not depend on how fast anything is.

at that moment       I1, I2, I4; a VM carries one address of a network at most (I3)
the same once more   is done, and what there is then is what there is where nothing was killed (I6, I8)
and once more        sends no write (I7)

`install` on a bare cluster, and `uninstall`: test_faults_installing.py. Writes to Calico's IPAM, and what else people
do after a kill than the same once more: test_calico_kill_matrix.py.

YOSHI_KILLS        before how many writes of each case it is killed (3): see killing.py
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
from tests.cluster.assertions import check_success, must_be, raise_first
from tests.cluster.command_fixture import Seat, seats_beside_others, side_by_side
from tests.cluster.fault_scenarios import (
    ATTACHED_BGP,
    ATTACHED_BIG,
    ATTACHED_ELASTIC,
    ATTACHED_LAN,
    ATTACHED_PUB,
    BGP,
    BIG,
    CASES,
    ELASTIC_BGP,
    LAN,
    PUB,
    Case,
    delete_vm,
    lose_ledgers,
)
from tests.cluster.harness import Ran, Yoshi, fork_server
from tests.cluster.killing import KILLS, run_killed
from tests.cluster.seeded_fault_proxy import Fate, Kill, spread

pytestmark = [
    pytest.mark.I1,
    pytest.mark.I2,
    pytest.mark.I3,
    pytest.mark.I4,
    pytest.mark.I6,
    pytest.mark.I7,
    pytest.mark.I8,
]

SEATS = range(40, 44)
ONLY = os.environ.get("YOSHI_KILLS_ONLY", "")
ALONE = threading.Lock()
"""Of cases that write to what all seats have together: how many writes that takes depends on the others."""
APPLIED = re.compile(r"/(customresourcedefinitions|clusterroles)/")
"""What `install` applies each time: the API server compares, and changes nothing that is so already."""

GC = "ips gc --grace 0s --yes"
ELASTIC_IP = "{ip}.10.5"
MORE = {
    "create without a CIDR, announced by Calico": Case(ELASTIC_BGP),
    "delete without a CIDR, announced by Calico": Case("network delete elastic --yes", (ELASTIC_BGP,)),
    "attach to a large one": Case("vm attach web-1 --network big --ip {ip}.17.5", (BIG,), ("{ip}.17.5",)),
    "attach public elsewhere": Case(
        "vm attach web-1 --public-network pub --public-ip {ip}.9.7 --replace", ATTACHED_PUB, ("{ip}.9.7",)
    ),
    "attach layer 2 elsewhere": Case("vm attach web-1 --network lan --ip {ip}.20.77 --replace", ATTACHED_LAN,
                                     ("{ip}.20.77",)),
    "reserve on a public one": Case("ips reserve pub {ip}.9.7", (PUB,)),
    "reserve on one announced by Calico": Case("ips reserve bgp {ip}.8.7", (BGP,)),
    "reserve on layer 2": Case("ips reserve lan {ip}.20.7", (LAN,)),
    "release of a large one": Case("ips release big {ip}.17.7", (BIG, "ips reserve big {ip}.17.7")),
    "release of a public one": Case("ips release pub {ip}.9.7", (PUB, "ips reserve pub {ip}.9.7")),
    "release of one announced by Calico": Case("ips release bgp {ip}.8.7", (BGP, "ips reserve bgp {ip}.8.7")),
    "release of layer 2": Case("ips release lan {ip}.20.7", (LAN, "ips reserve lan {ip}.20.7")),
    "move without a CIDR": Case(f"ips move {ELASTIC_IP} --to web-2", ATTACHED_ELASTIC, (ELASTIC_IP,)),
    "gc of a large one": Case(GC, (*ATTACHED_BIG, delete_vm)),
    "gc of a public one": Case(GC, (*ATTACHED_PUB, delete_vm)),
    "gc of one announced by Calico": Case(GC, (*ATTACHED_BGP, delete_vm)),
    "gc without a CIDR": Case(GC, (*ATTACHED_ELASTIC, delete_vm)),
    "gc of layer 2": Case(GC, (*ATTACHED_LAN, delete_vm)),
    "rebuild of a public one": Case("ips rebuild --yes", (*ATTACHED_PUB, lose_ledgers)),
    "rebuild of one announced by Calico": Case("ips rebuild --yes", (*ATTACHED_BGP, lose_ledgers)),
    "rebuild without a CIDR": Case("ips rebuild --yes", (*ATTACHED_ELASTIC, lose_ledgers)),
    "rebuild of layer 2": Case("ips rebuild --yes", (*ATTACHED_LAN, lose_ledgers)),
}  # fmt: skip
"""Commands for kinds of networks with which CASES has them not."""
MATRIX = {name: case for name, case in {**CASES, **MORE}.items() if not case.looks}
LEFT_TO_GC = {"attach elsewhere": (5,), "attach a running one elsewhere": (5, 6, 7, 8)}
"""The writes of these that come when the VM's template is changed already. The last one gives back the address on
network blue: killed before it, the same command finds the VM attached as asked for, and `ips gc` gives that address
back, as of any VM that no longer carries one."""


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
def places(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Seat]]:
    with seats_beside_others(installed, SEATS, tmp_path_factory.mktemp("seats")) as found:
        yield found


@pytest.fixture(scope="module")
def programs(places: list[Seat]) -> Iterator[dict[int, Yoshi]]:
    """The program as processes of each seat's own, by the seat's proxy."""
    with ExitStack() as stack:
        parents = {seat.number: stack.enter_context(fork_server()) for seat in places}
        yield {seat.number: Yoshi(seat.by_proxy, "it", parents[seat.number], seat.namespace) for seat in places}


@pytest.mark.timeout(1800)
def test_every_command_killed_before_each_of_its_writes(places: list[Seat], programs: dict[int, Yoshi]) -> None:
    wrong: list[BaseException] = []
    kills: Counter[str] = Counter()

    def kill_all(name: str, seat: Seat) -> None:
        case = MATRIX[name]
        with ALONE if is_shared(case) else nullcontext():
            kill_case(Killing(name, case, seat, programs[seat.number]), kills, wrong)

    names = [name for name in MATRIX if ONLY.partition(", ")[0] in ("", name)]
    wrong += side_by_side(places, [partial(kill_all, name) for name in names])
    print(f"\n{kills.total()} kills of {len(kills)} commands, {len(wrong)} went wrong")
    raise_first(wrong)
    assert set(kills) == set(names)


def is_shared(case: Case) -> bool:
    """Whether it writes to what all seats have together."""
    return case.alone or any(step in (BGP, ELASTIC_BGP) for step in (case.command, *case.before))


@dataclass
class Killing:
    """A case at a seat."""

    name: str
    case: Case
    seat: Seat
    program: Yoshi

    def run(self, write: int = 0) -> tuple[Ran, Kill]:
        """The command in a process of its own, killed before that write (0: never)."""
        return run_killed(self.program, self.seat.proxy, shlex.split(self.seat.words(self.case.command)), write)


def kill_case(killing: Killing, kills: Counter[str], wrong: list[BaseException]) -> None:
    """Runs a case undisturbed, then kills it before its writes."""
    killing.case.prepare(killing.seat)
    ran, fate = killing.run()
    assert ran.code == killing.case.code, str(ran)
    usual = killing.seat.state()
    for write in (number + 1 for number in spread(fate.written, KILLS if not ONLY else 10**6)):
        cell = Cell(killing.name, write)
        if ONLY not in ("", killing.name, str(cell)):
            continue
        told = [f"{cell} of {fate.written} (YOSHI_KILLS_ONLY)"]
        try:
            judge(killing, write, usual, told)
            kills[killing.name] += 1
        except AssertionError as error:
            wrong.append(AssertionError("\n".join([*told, str(error)])))


def judge(killing: Killing, write: int, usual: dict[str, str], told: list[str]) -> None:
    """Kills, and judges what there is then, after the same command, and after it once more."""
    seat, command = killing.seat, killing.case.command
    killing.case.prepare(seat)
    known = seat.violations()
    ran, fate = killing.run(write)
    told += [*(f"    {line}" for line in fate.told), str(ran)]
    assert ran.killed, "it was not killed"
    seat.check(known)

    again = seat.run(command)
    told.append(f"again: {again}")
    check_success(again)
    if write in LEFT_TO_GC.get(killing.name, ()):
        must_have_left_one(seat, usual)
        check_success(seat.run(GC))
    objects = seat.objects()
    must_be(seat.state(objects), usual, "it is not what there is where nothing was killed")
    seat.check(settled=True, objects=objects)

    versions, nothing = seat.versions(objects), Fate()
    once_more = seat.run(command, nothing)
    told.append(f"once more: {once_more}")
    check_success(once_more)
    must_be(seat.versions(), versions, "once more has changed something")
    written = [request for request in nothing.writes if not APPLIED.search(request)]
    assert not written, f"once more has written: {written}"


def must_have_left_one(seat: Seat, usual: dict[str, str]) -> None:
    """All is as where nothing was killed, but that web-1 has its address on network blue still, besides the new one."""
    now, blue = seat.state(), f"{NETWORKWIZARD.kind} blue"
    must_be({**now, blue: ""}, {**usual, blue: ""}, "more than the old address is left")
    records = [record["name"] for record in json.loads(now[blue])["status"]["allocations"].values()]
    kept = [record["name"] for record in json.loads(usual[blue])["status"]["allocations"].values()]
    assert sorted(records) == sorted([*kept, "web-1"])
