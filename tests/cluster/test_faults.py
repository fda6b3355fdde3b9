"""Every command under every class of faults of a bad way to the API server, or cut off before any of its writes, and
then without faults. As processes that are killed: test_kill_matrix.py.

    whatever went wrong         I1, I2, I4; a VM carries one address of a network at most (I3); no traceback
    a run says that it is done  it is so, and it says the same as where nothing went wrong
    a run says that it failed   nothing was changed, or it says what was, or may have been
    the same without faults     is done, and what there is then is what there is where nothing ever went wrong (I6, I8)
    once more                   changes nothing (I7)
    it only looks               it says the same as where nothing went wrong, or that it failed; nothing was changed

YOSHI_FAULT_SEEDS   how many courses (the matrix and STORMY more); the first ones are the matrix, see `matrix`
YOSHI_FAULT_ONLY    only these courses: their numbers, with commas; what a failure prints
YOSHI_CUT_OFFS      before how many writes of each case it is cut off (3): the first, the last, and between
YOSHI_CUT_OFF_ONLY  only this case is cut off, "attach one", or before one of its writes, "attach one, 2"
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import pytest

from kubectl_yoshi.engine.loop import MAX_WRITE_ATTEMPTS
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import name_of
from lab.testing import Cluster
from tests.cluster import shared_bgp
from tests.cluster.assertions import (
    check_message,
    check_success,
    check_told,
    is_failure,
    must_be,
    must_say,
    raise_first,
    table_of,
)
from tests.cluster.command_fixture import Seat, seats_beside_others, side_by_side
from tests.cluster.fault_scenarios import CASES, Case
from tests.cluster.harness import Ran
from tests.cluster.seeded_fault_proxy import (
    READ_CLASSES,
    READ_FAULTS,
    WRITE_CLASSES,
    WRITE_FAULTS,
    CutOff,
    Fate,
    OneFault,
    is_read,
    spread,
)

pytestmark = [
    pytest.mark.I1,
    pytest.mark.I2,
    pytest.mark.I3,
    pytest.mark.I4,
    pytest.mark.I6,
    pytest.mark.I7,
    pytest.mark.I8,
]

STARTED_AGAIN = "is started again unchanged"
NOT_SEEN = "note: not seen:"
HANDLE = "IPAMHandle "
MOVES = ("attach elsewhere", "attach a running one elsewhere")
"""Cases that give back an address in the end: where they were cut off before that, `ips gc` does, as for any VM that no
longer carries one."""
CUT_OFFS = int(os.environ.get("YOSHI_CUT_OFFS", "3"))
CUT_OFF_ONLY = os.environ.get("YOSHI_CUT_OFF_ONLY", "")
ONLY = [int(number) for number in os.environ.get("YOSHI_FAULT_ONLY", "").split(",") if number]
SEATS = range(60, 68)
STORMY = 40
"""How many courses with one fault anywhere, or a storm, follow the matrix."""
STORMS = [(0.1, 0.01), (0.3, 0.03), (0.6, 0.05), (0.5, 0.0), (0.0, 0.2)]
TURNS = 4
ALONE = threading.Lock()
"""Of courses that change what is in other seats as well."""
NAMES = list(CASES)
THOROUGH = ("network create", "vm attach")
"""Commands that meet every fault and not only one of each class: they choose what others must not have."""


@dataclass(frozen=True)
class Undisturbed:
    """What a case comes to where nothing goes wrong.

    Attributes:
        state: see Seat.state.
        writes, reads: what was sent.
        sent: how many writes, with those that were sent again.
        said: see Seat.said.
    """

    state: dict[str, str]
    writes: list[str]
    reads: list[str]
    sent: int
    said: list[str]


@dataclass(frozen=True)
class OneOf:
    """A fault at one request of a case.

    Attributes:
        name: the case's.
        writing: at one of its writes, not of its reads.
        fault: how.
    """

    name: str
    writing: bool
    fault: str


def matrix() -> Iterator[OneOf]:
    """Every command with a fault of every class at a write and at a read, and the thorough ones with every fault.

    The cases of a command take turns, and so do the faults of a class from command to command.
    """
    for turn, command in enumerate(sorted({case.name for case in CASES.values()})):
        cases = [name for name in NAMES if CASES[name].name == command]
        changing = [name for name in cases if not CASES[name].looks]
        writes, reads = (
            every if command in THOROUGH else [faults[turn % len(faults)] for faults in classes]
            for every, classes in ((WRITE_FAULTS, WRITE_CLASSES), (READ_FAULTS, READ_CLASSES))
        )
        if changing:
            yield from (OneOf(changing[n % len(changing)], True, fault) for n, fault in enumerate(writes))
        yield from (OneOf(cases[n % len(cases)], False, fault) for n, fault in enumerate(reads))


MATRIX = list(matrix())
SEEDS = int(os.environ.get("YOSHI_FAULT_SEEDS", len(MATRIX) + STORMY))


@pytest.fixture(scope="module")
def places(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Seat]]:
    with seats_beside_others(installed, SEATS, tmp_path_factory.mktemp("seats")) as found:
        yield found


def prepare(seat: Seat, case: Case) -> None:
    """What there is before a case; left as it is where the last one had the same, and only looked."""
    seat.fixed = [seat.words(address) for address in case.fixed]
    if seat.scene is None or seat.scene != case.before:
        case.prepare(seat)
    seat.scene = case.before if case.looks else None


@pytest.fixture(scope="module")
def undisturbed(places: list[Seat]) -> dict[str, Undisturbed]:
    """Every case without faults, by way of the proxy."""
    found: dict[str, Undisturbed] = {}

    def look(name: str, seat: Seat) -> None:
        case, fate = CASES[name], Fate()
        prepare(seat, case)
        before = seat.versions()
        ran = seat.run(case.command, fate)
        assert ran.code == case.code, str(ran)
        sent = sum(fate.asked[request] for request in fate.writes)
        found[name] = Undisturbed(seat.state(), fate.writes, fate.reads, sent, seat.said(ran))
        if case.looks:
            assert seat.versions() == before, f"{case.command} changes something"
            assert not fate.writes
            return
        seat.check(settled=True)
        assert fate.writes, f"{case.command} writes nothing"

    raise_first(side_by_side(places, [partial(look, name) for name in NAMES]))
    return found


def fate_of(number: int, undisturbed: Mapping[str, Undisturbed], turn: int = 0) -> tuple[str, Fate]:
    """A course's case and fate: first those of the matrix, then one fault anywhere, or a storm.

    Of one fault, each turn is at another request, as some are not sent every time.
    """
    rng = random.Random(f"course {number}, turn {turn}")
    if number < len(MATRIX):
        one = MATRIX[number]
    else:
        name = NAMES[number % len(NAMES)]
        if CASES[name].looks or rng.random() < 0.5:
            return name, Fate(f"course {number}", *rng.choice(STORMS))
        one = OneOf(name, True, rng.choice(WRITE_FAULTS))
    requests = undisturbed[one.name].writes if one.writing else undisturbed[one.name].reads
    return one.name, OneFault(rng.choice(requests), one.fault, rng.choice((1, 1, 2, 9)))


@pytest.mark.timeout(max(1800, 3 * SEEDS))
def test_every_command_under_every_fault(places: list[Seat], undisturbed: dict[str, Undisturbed]) -> None:
    wanted = ONLY or range(SEEDS)
    met: dict[str, Counter[str]] = {case.name: Counter() for case in CASES.values()}
    wrong = side_by_side(places, [partial(run_course, number, undisturbed, met) for number in wanted])
    print(f"\n{len(wanted)} courses, {sum(map(Counter.total, met.values()))} faults, {len(wrong)} went wrong")
    raise_first(wrong)
    assert len(AFTER_LAST_READ) <= max(1, len(wanted) // 100), "too many courses of which only invariants were checked"
    shared_bgp_is_theirs(places)
    if not ONLY and len(MATRIX) <= SEEDS:
        print(table_of(met))
        must_have_met_all(met)


@pytest.mark.timeout(1800)
def test_every_command_cut_off_before_each_of_its_writes(
    places: list[Seat], undisturbed: dict[str, Undisturbed]
) -> None:
    """Every case that changes something, before its first write, its last, and some between: what it says is true."""
    changing = [name for name, case in CASES.items() if not case.looks]
    number = 10**6 if CUT_OFF_ONLY else CUT_OFFS
    points = [(name, writes) for name in changing for writes in spread(undisturbed[name].sent, number)]
    wanted = [(name, writes) for name, writes in points if CUT_OFF_ONLY in ("", name, f"{name}, {writes}")]
    met: Counter[str] = Counter()

    def cut_off(name: str, writes: int, seat: Seat) -> None:
        fate = CutOff(writes)
        run_one(Course(writes, CASES[name], fate, undisturbed[name], seat, [f"{name}, {writes} (YOSHI_CUT_OFF_ONLY)"]))
        met[name] += bool(fate.met)

    wrong = side_by_side(places, [partial(cut_off, name, writes) for name, writes in wanted])
    print(f"\n{len(wanted)} times cut off, {met.total()} before the end, {len(wrong)} went wrong")
    raise_first(wrong)
    assert CUT_OFF_ONLY or all(met[name] for name in changing), met


def shared_bgp_is_theirs(places: list[Seat]) -> None:
    """What somebody else wrote into Calico's configuration is there still, and nothing of ours when all is cleared."""
    for seat in places:
        seat.scene = None
        for network in seat.api.list(NETWORKWIZARD, seat.namespace):
            seat.run(f"network delete {name_of(network)} --force --yes")
        seat.clear()
    shared_bgp.must_be_theirs(places[0].api)


def must_have_met_all(met: Mapping[str, Counter[str]]) -> None:
    """Every command met the faults that it has in the matrix."""
    for one in MATRIX:
        kind = f"{'write' if one.writing else 'read'} {one.fault}"
        assert met[CASES[one.name].name][kind], f"{CASES[one.name].name} never met a {kind}"


def run_course(number: int, undisturbed: dict[str, Undisturbed], met: Mapping[str, Counter[str]], seat: Seat) -> None:
    """One course, from what there is before it to its end; again with another request where its fault was not met."""
    for turn in range(TURNS):
        fate = run_turn(number, turn, undisturbed, seat)
        met[CASES[fate_of(number, undisturbed)[0]].name].update(fate.met)
        if fate.met or number >= len(MATRIX):
            return


def run_turn(number: int, turn: int, undisturbed: dict[str, Undisturbed], seat: Seat) -> Fate:
    """One course; gives what went wrong on its way."""
    name, fate = fate_of(number, undisturbed, turn)
    told = [f"course {number} (YOSHI_FAULT_ONLY={number}): {name}"]
    run_one(Course(number, CASES[name], fate, undisturbed[name], seat, told))
    return fate


def run_one(course: Course) -> None:
    """One course, alone where it must be; an AssertionError says what happened."""
    try:
        with ALONE if course.case.alone else nullcontext():
            course.run()
    except AssertionError as error:
        course.seat.scene = None
        raise AssertionError("\n".join([*course.told, str(error)])) from error


AFTER_LAST_READ: list[int] = []
"""Courses in which a late call to KubeVirt came after the run's last read: only the invariants hold for these."""


@dataclass
class Course:
    """A command by a bad way, and what is judged of it.

    Attributes:
        number: tells it from others, and is the seed of what is random in it.
        usual: what the case comes to where nothing goes wrong.
        told: what happened, for who reads of a failure.
        started_again: a VM was stopped in vain, and was started again.
    """

    number: int
    case: Case
    fate: Fate
    usual: Undisturbed
    seat: Seat
    told: list[str] = field(default_factory=list)
    started_again: bool = False

    def run(self) -> None:
        """Runs the command under its fate, and then without."""
        prepare(self.seat, self.case)
        objects = self.seat.objects()
        before, known = self.seat.state(objects), self.seat.violations(objects=objects)
        ran = self.seat.run(self.case.command, self.fate)
        self.started_again = STARTED_AGAIN in ran.err
        self.told += [*(f"    {line}" for line in self.fate.told), str(ran)]
        check_message(ran, self.case.code, 2 if self.case.name == "diff" else 1)
        if self.seat.proxy.late_calls:
            self.seat.proxy.arrive_all()
            self.seat.check(known)
            AFTER_LAST_READ.append(self.number)
        elif self.case.looks:
            self.check_look(ran, before)
        else:
            self.check_change(ran, before, known)
            self.complete(known)

    def again(self, word: str = "again") -> Ran:
        """The same command without faults."""
        ran = self.seat.run(self.case.command)
        self.told.append(f"{word}: {ran}")
        return ran

    def check_look(self, ran: Ran, before: dict[str, str]) -> None:
        """What only looks says what is so, or that it could not."""
        must_be(self.seat.state(), before, "it has changed something")
        for one in (*(() if is_failure(ran) else (ran,)), self.again()):
            assert one.code == self.case.code, f"exit code {one.code}"
            said = self.seat.said(one)
            if one is ran and NOT_SEEN in one.err:
                otherwise = [line for line in said if line not in self.usual.said]
                assert all("cannot be read" in line for line in otherwise), otherwise
            else:
                must_say(said, self.usual.said)

    def check_change(self, ran: Ran, before: dict[str, str], known: list[str]) -> None:
        """What changes something has done it, or says how far it came."""
        objects = self.seat.objects()
        self.seat.check(known, objects=objects)
        after = self.seat.state(objects)
        if ran.code == 0 and NOT_SEEN not in ran.err:
            must_be(after, self.usual.state, "it says that it is done, and it is not")
            must_say(self.seat.said(ran), self.usual.said, more=self.case.name == "sync")  # it tells of each renewal
        else:
            check_told(ran, before, after)
            assert not self.was_done_unheard(), "it did not look whether what got no answer was done"

    def was_done_unheard(self) -> bool:
        """Whether all was well but for a few answers that did not come: who looks again knows that all is done."""
        return (
            isinstance(self.fate, OneFault)
            and self.fate.fault.startswith("done-")
            and self.fate.times < MAX_WRITE_ATTEMPTS
            and not is_read(self.fate.request)
            and self.case.name != "install"  # which is no run of plans, and says what it does not know
        )

    def complete(self, known: list[str]) -> None:
        """The same command without faults makes it as it is where nothing went wrong; once more changes nothing."""
        if random.Random(self.number).random() < 0.5:
            self.seat.proxy.arrive_all()
            self.seat.check(known)
        check_success(self.again())
        if isinstance(self.fate, CutOff) and self.case in [CASES[name] for name in MOVES]:
            check_success(self.seat.run("ips gc --grace 0s --yes"))
        self.seat.proxy.arrive_all()
        objects = self.seat.objects()
        now = self.seat.state(objects)
        if self.started_again:  # in between; what Calico counts for a VM that runs is Calico's to put right
            now = {key: text for key, text in now.items() if key in self.usual.state or not key.startswith(HANDLE)}
        must_be(now, self.usual.state, "it is not what there is without faults")
        self.seat.check(settled=True, objects=objects)
        versions = self.seat.versions(objects)
        check_success(self.again("once more"))
        must_be(self.seat.versions(), versions, "once more has changed something")
