"""Every command that changes something, by a user who lacks one permission, whichever it is: it is done, or nothing was
changed.

First each case is run by a user who may do everything, to see which permissions it needs; then without one of them
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
from tests.cluster.courses import (
    CASES,
    WIDE,
    Case,
    commands,
    delete_vm,
    keep_in_calico,
    start_vms,
)
from tests.cluster.denials import Permission, denying
from tests.cluster.fates import Fate
from tests.cluster.harness import Ran
from tests.cluster.seats import HastyClock, Seat, run_here, seats_beside_others, side_by_side
from tests.cluster.verdicts import check_message, differences, must_be, raise_first

SEATS = range(50, 54)
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

KEPT = (WIDE, keep_in_calico, "vm attach web-1 --network wide --ip {ip}.24.40")
MORE = {
    "attach to another address than Calico keeps": Case(
        "vm attach web-1 --network wide --ip {ip}.24.5 --replace", KEPT, ("{ip}.24.5", "{ip}.24.40")
    ),
    "attach to another address than Calico keeps, running": Case(
        "vm attach web-1 --network wide --ip {ip}.24.5 --replace --restart",
        (*KEPT, start_vms), ("{ip}.24.5", "{ip}.24.40"),
    ),
    "detach what Calico keeps": Case("vm detach web-1 --network wide", KEPT, ("{ip}.24.40",)),
    "detach what Calico keeps, running": Case(
        "vm detach web-1 --network wide --restart", (*KEPT, start_vms), ("{ip}.24.40",)
    ),
    "release what Calico keeps": Case(
        "ips release wide {ip}.24.40", (*KEPT, delete_vm), ("{ip}.24.40",)
    ),
    "gc what Calico keeps": Case("ips gc --grace 0s --yes", (*KEPT, delete_vm), ("{ip}.24.40",)),
    "gc what only Calico keeps": Case("ips gc --grace 0s --yes", (WIDE, keep_in_calico, delete_vm)),
}  # fmt: skip
MATRIX = {name: case for name, case in {**CASES, **MORE}.items() if not case.looks and case.name not in ELSEWHERE}


@pytest.fixture(scope="module")
def places(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Seat]]:
    with seats_beside_others(installed, SEATS, tmp_path_factory.mktemp("seats")) as found:
        yield found


def test_every_command_that_changes_something_is_in_the_matrix() -> None:
    changing = {case.name for case in CASES.values() if not case.looks}
    assert changing - ELSEWHERE == {case.name for case in MATRIX.values()}
    assert commands() >= ELSEWHERE
    assert {"ips move", "ips import", "ips rebuild", "ips gc", "sync", "network delete"} <= changing


@pytest.mark.timeout(1800)
def test_a_command_is_done_or_changes_nothing_whichever_permission_is_missing(places: list[Seat]) -> None:
    names = [name for name in MATRIX if ONLY in name]
    usual: dict[str, Usual] = {}
    raise_first(side_by_side(places, [partial(run_with_all, name, usual) for name in names]))
    denials = denials_of({name: usual[name].needed for name in names})
    told: list[Cell] = []
    wrong = side_by_side(places, [partial(run_without, name, denials[name], usual[name], told) for name in names])
    wrong += [cell.error for cell in told if cell.error is not None]
    count = Counter(
        f"{'reads' if cell.permission.reads else 'writes'} {'refused' if cell.refused else 'done'}" for cell in told
    )
    print(f"\n{len(names)} cases, {len(told)} denials: {dict(count)}; {len(wrong)} went wrong")
    raise_first(wrong)
    assert {cell.permission for cell in told} == {permission for one in usual.values() for permission in one.needed}


@dataclass(frozen=True)
class Usual:
    """What a case comes to by a user who may do everything.

    Attributes:
        state: see Seat.state.
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


def run_with_all(name: str, usual: dict[str, Usual], seat: Seat) -> None:
    """A case by a user who may do everything."""
    case = MATRIX[name]
    case.prepare(seat)
    with denying(seat.proxy, None) as everything:
        ran = run(seat, case.command)
    assert ran.code == case.code, str(ran)
    usual[name] = Usual(seat.state(), frozenset(everything.needed))


def denials_of(needed: Mapping[str, Collection[Permission]]) -> dict[str, list[Permission]]:
    """Case -> the permissions without which it is run.

    Of the cases of a command that need the same permission, those are run without it that have the fewest until then.
    """
    denials: dict[str, list[Permission]] = {name: [] for name in needed}
    for command in sorted({MATRIX[name].name for name in needed}):
        cases = [name for name in needed if MATRIX[name].name == command]
        for permission in sorted({permission for name in cases for permission in needed[name]}):
            need = sorted((name for name in cases if permission in needed[name]), key=lambda name: len(denials[name]))
            for name in need[: None if ALL else OF_READS if permission.reads else OF_WRITES]:
                denials[name].append(permission)
    return denials


def run_without(name: str, denials: Sequence[Permission], usual: Usual, told: list[Cell], seat: Seat) -> None:
    """A case without each of these permissions."""
    case, is_fresh = MATRIX[name], False
    before: dict[str, str] = {}
    uids: dict[str, str] = {}
    known: list[str] = []
    for permission in denials:
        if not is_fresh:
            case.prepare(seat)
            before, known, uids = seat.state(), seat.violations(), uids_of(seat)
        with denying(seat.proxy, permission):
            ran = run(seat, case.command)
        cell = Cell(permission, ran.code != case.code)
        told.append(cell)
        is_fresh = False
        try:
            check_message(ran, case.code)
            check_done_or_nothing(seat, ran, case, before, usual.state)
            if cell.refused and case.name not in ONE_BY_ONE:
                must_be(uids_of(seat), uids, "it was refused, and has made something again")
            else:
                seat.check(known)
            is_fresh = cell.refused and case.name not in ONE_BY_ONE
        except AssertionError as error:
            cell.error = AssertionError(f"{name}, may not {permission}\n{ran}\n{error}")
            print(f"\n{cell.error}", flush=True)
    print(f"{name}: {len(denials)} of {len(usual.needed)} permissions", flush=True)


def check_done_or_nothing(seat: Seat, ran: Ran, case: Case, before: dict[str, str], done: dict[str, str]) -> None:
    """It has done all that it says, or has changed nothing."""
    after = seat.state()
    if ran.code == case.code:
        left = any(words in ran.err for words in LEFT)
        if after != done and not left:
            raise AssertionError(f"it says that it is done, and it is not:\n{differences(done, after)}")
    elif case.name not in ONE_BY_ONE:
        must_be(after, before, "it was refused, and has changed something")


def uids_of(seat: Seat) -> dict[str, str]:
    """The uids of what runs: a VM that was stopped and started again has another instance, and is as it was."""
    return {name_of(vmi): vmi["metadata"]["uid"] for vmi in seat.api.list(VMI, seat.namespace)}


def run(seat: Seat, command: str) -> Ran:
    """A command by way of the proxy, for which what is served is known already."""
    api = Api(seat.bad, clock=HastyClock())
    api.__dict__["served"] = seat.api.served
    seat.proxy.fate = Fate()
    return run_here(shlex.split(seat.words(command)), api, seat.namespace)
