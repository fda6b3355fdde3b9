"""Every command that changes something, under every fault of a bad way to the API server, and then without faults.

    whatever went wrong         I1, I2, I4; a VM carries one address of a network at most (I3); no traceback
    a run says that it is done  it is so
    a run says that it failed   nothing was changed, or it says what was, or may have been
    the same without faults     is done, and what there is then is what there is where nothing ever went wrong (I6, I8)
    once more                   changes nothing (I7)

YOSHI_FAULT_SEEDS   how many courses (400); the first ones are every command with every fault at one of its writes
YOSHI_FAULT_ONLY    only these courses: their numbers, with commas; what a failure prints
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, name_of
from kubectl_yoshi.model.vm import VM
from lab.testing import Cluster
from tests.cluster.fates import WRITE_FAULTS, Fate, OneFault
from tests.cluster.harness import Ran
from tests.cluster.seats import METALLB, Seat, seats, side_by_side

SEEDS = int(os.environ.get("YOSHI_FAULT_SEEDS", "400"))
ONLY = [int(number) for number in os.environ.get("YOSHI_FAULT_ONLY", "").split(",") if number]
SEATS = range(60, 68)
STORMS = [(0.1, 0.01), (0.3, 0.03), (0.6, 0.05), (0.5, 0.0), (0.0, 0.2)]
SHOWN = 5
UNSURE = ("may or may not", "Done before that", "May have been done", "could not be taken back")
WISH = "plumber.k8s.pf9.io/networkName"

BLUE = "network create blue --cidr {ip}.0.0/28"
BIG = "network create big --cidr {ip}.16.0/20"
PUB = "network create pub --plugin public --cidr {ip}.9.0/28"
LAN = "network create lan --plugin ovs --cidr {ip}.20.0/24 --bridge br{n} --nic eth{n} --vlan 20"
ALL = "web-1 web-2 web-3"


@dataclass(frozen=True)
class Case:
    """A command, and what there is before it.

    Attributes:
        before: commands, or functions of the seat.
        command: what is run under faults.
        fixed: addresses that are asked for by name.
    """

    command: str
    before: tuple[str | Callable[[Seat], None], ...] = ()
    fixed: tuple[str, ...] = ()


def delete_vm(seat: Seat) -> None:
    seat.api.delete(VM.ref("web-1", seat.namespace))


def write_wishes(seat: Seat) -> None:
    """What `sync` makes true: a network of kubectl's, and VMs that ask for it."""
    ref = NETWORKWIZARD.ref("blue", seat.namespace)
    spec = {"plugin": "calico", "cidr": f"{seat.prefix}.0.0/28"}
    seat.api.create(ref, {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard", "metadata":
                          {"name": "blue", "namespace": seat.namespace}, "spec": spec})  # fmt: skip
    for name in ("web-1", "web-2"):
        seat.api.patch(VM.ref(name, seat.namespace), {"metadata": {"annotations": {WISH: "blue"}}})


def lose_ledgers(seat: Seat) -> None:
    """As a restore without status leaves it."""
    for obj in seat.api.list(ADDRESSBLOCK, seat.namespace):
        seat.api.delete(ADDRESSBLOCK.ref(name_of(obj), seat.namespace))
    for obj in seat.api.list(NETWORKWIZARD, seat.namespace):
        gone: Json = {"status": None}
        seat.api.patch(NETWORKWIZARD.ref(name_of(obj), seat.namespace), gone, subresource="status")


def write_as_the_original(seat: Seat) -> None:
    """What `install` takes over: records that are a VM's name, a finalizer."""
    ref = NETWORKWIZARD.ref("blue", seat.namespace)
    records = seat.api.get(ref)["status"]["allocations"]
    names = {address: record["name"] for address, record in records.items()}
    seat.api.patch(ref, {"status": {"allocations": None}}, subresource="status")
    seat.api.patch(ref, {"status": {"allocations": names}}, subresource="status")
    seat.api.patch(ref, {"metadata": {"finalizers": ["network.plumber.k8s.pf9.io"]}})


ATTACHED_BLUE = (BLUE, f"vm attach {ALL} --network blue")
ATTACHED_BIG = (BIG, f"vm attach {ALL} --network big")
ATTACHED_PUB = (PUB, "vm attach web-1 web-2 --public-network pub")
ATTACHED_LAN = (LAN, "vm attach web-1 web-2 --network lan")

CASES = {
    "create small": Case(BLUE),
    "create large": Case(BIG),
    "create public": Case(PUB),
    "create layer 2": Case(LAN),
    "delete small": Case("network delete blue", (BLUE,)),
    "delete large, in use": Case("network delete big --force --yes", ATTACHED_BIG),
    "delete public, in use": Case("network delete pub --force --yes", ATTACHED_PUB),
    "delete layer 2, in use": Case("network delete lan --force --yes", ATTACHED_LAN),
    "attach one": Case("vm attach web-1 --network blue", (BLUE,)),
    "attach to an address": Case("vm attach web-1 --network blue --ip {ip}.0.5", (BLUE,), ("{ip}.0.5",)),
    "attach several": Case("vm attach -l app=web --network big", (BIG,)),
    "attach elsewhere": Case("vm attach web-1 --network big --replace", (*ATTACHED_BLUE, BIG)),
    "attach public": Case("vm attach web-1 web-2 --public-network pub", (PUB,)),
    "attach both": Case("vm attach web-1 --network blue --public-network pub", (BLUE, PUB)),
    "attach layer 2": Case("vm attach web-1 web-2 --network lan", (LAN,)),
    "detach several": Case(f"vm detach {ALL} --network big", ATTACHED_BIG),
    "detach one": Case("vm detach web-2 --network blue", ATTACHED_BLUE),
    "detach public": Case("vm detach web-1 --public-network pub", ATTACHED_PUB),
    "detach layer 2": Case("vm detach web-1 --network lan", ATTACHED_LAN),
    "reserve": Case("ips reserve blue {ip}.0.7 {ip}.0.8 --note printer", (BLUE,)),
    "reserve in a large one": Case("ips reserve big {ip}.17.7 {ip}.19.8", (BIG,)),
    "release": Case("ips release blue {ip}.0.7", (BLUE, "ips reserve blue {ip}.0.7 {ip}.0.8")),
    "move": Case(
        "ips move {ip}.9.5 --to web-2",
        (PUB, "vm attach web-1 --public-network pub --public-ip {ip}.9.5"), ("{ip}.9.5",),
    ),
    "gc": Case("ips gc --grace 0s --yes", (*ATTACHED_BLUE, delete_vm)),
    "sync": Case("sync", (write_wishes,)),
    "rebuild": Case("ips rebuild --yes", (*ATTACHED_BLUE, BIG, "vm detach web-3 --network blue",
                                          "vm attach web-3 --network big", lose_ledgers)),
    "take over": Case("install", (*ATTACHED_BLUE, write_as_the_original)),
}  # fmt: skip
NAMES = list(CASES)


@dataclass(frozen=True)
class Undisturbed:
    """What a case comes to where nothing goes wrong."""

    state: dict[str, str]
    writes: list[str]


@pytest.fixture(scope="module")
def places(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Seat]]:
    if not installed.kubectl("get", "namespace", METALLB, "--ignore-not-found"):
        installed.kubectl("create", "namespace", METALLB)
    with seats(installed, SEATS, tmp_path_factory.mktemp("kubeconfigs")) as found:
        yield found
        for seat in found:
            seat.clear()


def prepare(seat: Seat, case: Case) -> None:
    seat.clear()
    seat.fixed = [seat.words(address) for address in case.fixed]
    for step in case.before:
        step(seat) if callable(step) else seat.done(step)


@pytest.fixture(scope="module")
def undisturbed(places: list[Seat]) -> dict[str, Undisturbed]:
    """Every case without faults, by way of the proxy."""
    found: dict[str, Undisturbed] = {}

    def look(name: str, seat: Seat) -> None:
        case, fate = CASES[name], Fate()
        prepare(seat, case)
        ran = seat.run(case.command, fate)
        assert ran.code == 0, str(ran)
        found[name] = Undisturbed(seat.state(), fate.writes)
        seat.check(settled=True)
        assert fate.writes, f"{case.command} writes nothing"

    raise_first(side_by_side(places, [partial(look, name) for name in NAMES]))
    return found


def raise_first(wrong: list[BaseException]) -> None:
    if wrong:
        pytest.fail("\n\n".join(f"{type(error).__name__}: {error}" for error in wrong[:SHOWN]), pytrace=False)


def fate_of(number: int, writes: dict[str, list[str]]) -> tuple[str, Fate]:
    """A course's case and fate: first every fault at one write of every case, then storms."""
    name = NAMES[number % len(NAMES)]
    chance = random.Random(f"course {number}")
    turn = number // len(NAMES)
    if turn < len(WRITE_FAULTS):
        return name, OneFault(chance.choice(writes[name]), WRITE_FAULTS[turn], chance.choice((1, 1, 2, 9)))
    return name, Fate(f"course {number}", *chance.choice(STORMS))


def test_every_command_under_every_fault(places: list[Seat], undisturbed: dict[str, Undisturbed]) -> None:
    wanted = ONLY or range(SEEDS)
    seen: list[int] = []
    jobs = [partial(run_course, number, undisturbed, seen) for number in wanted]
    wrong = side_by_side(places, jobs)
    print(f"\n{len(wanted)} courses, {sum(seen)} faults, {len(wrong)} went wrong")
    raise_first(wrong)


def run_course(number: int, undisturbed: dict[str, Undisturbed], seen: list[int], seat: Seat) -> None:
    name, fate = fate_of(number, {name: found.writes for name, found in undisturbed.items()})
    case = CASES[name]
    told = [f"course {number} (YOSHI_FAULT_ONLY={number}): {name}"]
    try:
        prepare(seat, case)
        before, known = seat.state(), seat.violations()
        ran = seat.run(case.command, fate)
        told += [*(f"    {line}" for line in fate.told), str(ran)]
        seen.append(len(fate.told))
        seat.check(known)
        check_message(ran)
        after = seat.state()
        if ran.code == 0:
            must_be(after, undisturbed[name].state, "it says that it is done, and it is not")
        else:
            check_told(ran, before, after)
        if random.Random(number).random() < 0.5:
            seat.proxy.arrive_all()
            seat.check(known)
        again = seat.run(case.command)
        told.append(f"again: {again}")
        check_success(again)
        seat.proxy.arrive_all()
        must_be(seat.state(), undisturbed[name].state, "it is not what there is without faults")
        seat.check(settled=True)
        versions = seat.versions()
        once_more = seat.run(case.command)
        told.append(f"once more: {once_more}")
        check_success(once_more)
        must_be(seat.versions(), versions, "once more has changed something")
    except AssertionError as error:
        raise AssertionError("\n".join([*told, str(error)])) from error


def check_success(ran: Ran) -> None:
    """It is done; what is deleted already is not there to be deleted, as `kubectl delete` has it."""
    if ran.args[:2] == ("network", "delete") and ran.code == 1:
        assert "not found" in ran.err
    else:
        assert ran.code == 0


def check_message(ran: Ran) -> None:
    """A failure as people deserve it."""
    assert ran.code in (0, 1)
    for words in ("Traceback", "internal error", "<class ", "object at 0x"):
        assert words not in ran.err
    if ran.code:
        assert any(line.startswith("error: ") for line in ran.err.splitlines())


def check_told(ran: Ran, before: dict[str, str], after: dict[str, str]) -> None:
    """A run that failed tells what it has done: for a VM that is named, on its line; else anywhere."""
    lines = [line for line in ran.err.splitlines() if not any(words in line for words in UNSURE)]
    for name in ("web-1", "web-2", "web-3"):
        key = f"VirtualMachine {name}"
        if any(line.startswith("error: ") and f"/{name}: " in line for line in lines):
            must_be({key: after[key]}, {key: before[key]}, f"of {name} it does not tell what it has done")
    if len(lines) == len(ran.err.splitlines()) and not ran.out:
        must_be(after, before, "it does not tell what it has done")


def must_be(now: dict[str, str], wanted: dict[str, str], trouble: str) -> None:
    """Fails with what differs: - as wanted, + as it is."""
    if now != wanted:
        raise AssertionError(f"{trouble}:\n{differences(wanted, now)}")


def differences(before: dict[str, str], after: dict[str, str]) -> str:
    """What differs, a line of each object."""
    lines = []
    for key in sorted({*before, *after}):
        one, other = before.get(key, "nothing").splitlines(), after.get(key, "nothing").splitlines()
        if one != other:
            lines.append(f"{key}:")
            lines += [f"  - {line}" for line in one if line not in other]
            lines += [f"  + {line}" for line in other if line not in one]
    return "\n".join(lines)
