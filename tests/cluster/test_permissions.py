"""Every command that changes something, by a user who lacks one permission, whichever it is: it is done, or nothing was
changed.

First each case is run by a user who may do everything, to see which permissions it needs; then once for each of these,
without it (tests/cluster/denials.py). A command is done, too, where an address stays recorded and a note says so.

YOSHI_PERMISSIONS_ONLY    only cases whose name has this in it
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.model.objects import name_of
from kubectl_yoshi.model.vm import VMI
from lab.testing import Cluster
from tests.cluster.assertions import check_message, differences, must_be, raise_first
from tests.cluster.command_fixture import HastyClock, Seat, run_here, seats_beside_others, side_by_side
from tests.cluster.denials import Permission, denying
from tests.cluster.fault_scenarios import (
    CASES,
    WIDE,
    Case,
    commands,
    delete_vm,
    keep_in_calico,
    start_vms,
)
from tests.cluster.harness import Ran
from tests.cluster.seeded_fault_proxy import Fate

SEATS = range(50, 54)
ONLY = os.environ.get("YOSHI_PERMISSIONS_ONLY", "")
ONE_BY_ONE = {"sync", "ips rebuild"}
"""Commands for many networks: each network, and each VM of sync, is done or refused by itself, and says so."""
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
    cases = {name: case for name, case in MATRIX.items() if ONLY in name}
    told: list[Cell] = []
    wrong = side_by_side(places, [partial(run_case, name, cases[name], told) for name in cases])
    wrong += [cell.error for cell in told if cell.error is not None]
    count = Counter(
        f"{'reads' if cell.permission.reads else 'writes'} {'refused' if cell.refused else 'done'}" for cell in told
    )
    print(f"\n{len(cases)} commands, {len(told)} denials: {dict(count)}; {len(wrong)} went wrong")
    raise_first(wrong)


@dataclass
class Cell:
    """A command by a user who lacks a permission, and what became of it."""

    permission: Permission
    refused: bool
    error: AssertionError | None = None


def run_case(name: str, case: Case, told: list[Cell], seat: Seat) -> None:
    """A command by who may do everything, then without each permission that it needed."""
    case.prepare(seat)
    with denying(seat.proxy, None) as everything:
        ran = run(seat, case.command)
    assert ran.code == case.code, str(ran)
    done, is_fresh = seat.state(), False
    before: dict[str, str] = {}
    uids: dict[str, str] = {}
    known: list[str] = []
    for permission in sorted(everything.needed):
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
            check_done_or_nothing(seat, ran, case, before, done)
            if cell.refused and case.name not in ONE_BY_ONE:
                must_be(uids_of(seat), uids, "it was refused, and has made something again")
            else:
                seat.check(known)
            is_fresh = cell.refused and case.name not in ONE_BY_ONE
        except AssertionError as error:
            cell.error = AssertionError(f"{name}, may not {permission}\n{ran}\n{error}")
            print(f"\n{cell.error}", flush=True)
    print(f"{name}: {len(everything.needed)} permissions", flush=True)


def check_done_or_nothing(seat: Seat, ran: Ran, case: Case, before: dict[str, str], done: dict[str, str]) -> None:
    """It has done all that it says, or has changed nothing."""
    after = seat.state()
    if ran.code == case.code:
        left = any(words in ran.err for words in ("stays recorded", "stays reserved", "not seen", " is kept: "))
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
