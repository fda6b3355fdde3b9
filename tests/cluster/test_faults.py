"""Every command under every class of faults of a bad way to the API server, or cut off before any of its writes, and
then without faults. As processes that are killed: test_kill_matrix.py.

    whatever went wrong         I1, I2, I4; a VM carries one address of a network at most (I3); no traceback
    a run says that it is done  it is so, and it says the same as where nothing went wrong
    a run says that it failed   nothing was changed, or it says what was, or may have been
    the same without faults     is done, and what there is then is what there is where nothing ever went wrong (I6, I8)
    once more                   changes nothing (I7)
    it only looks               it says the same as where nothing went wrong, or that it failed; nothing was changed

YOSHI_FAULT_SEEDS   how many fault runs: first those of `classed` and STORMY more, which are the default, then every
                    command with every fault, then random ones
YOSHI_FAULT_ONLY    only these fault runs: their numbers, with commas; what a failure prints
YOSHI_CUT_OFFS      before how many writes of each case it is cut off: the first, the last, and between; by default the
                    cases of a command take turns, and in test_kill_matrix.py each is killed before another one
YOSHI_CUT_OFF_ONLY  only this case is cut off, "attach one", or before one of its writes, "attach one, 2"
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    assert_output,
    assert_state,
    check_message,
    check_reported,
    check_success,
    is_failure,
    raise_first,
    table_of,
)
from tests.cluster.command_fixture import CommandFixture, open_fixtures_with_foreign_bgp, side_by_side
from tests.cluster.fault_scenarios import SCENARIOS, Scenario, turns_of
from tests.cluster.harness import CommandResult
from tests.cluster.seeded_fault_proxy import (
    READ_CLASSES,
    READ_FAULTS,
    WRITE_CLASSES,
    WRITE_FAULTS,
    CutOff,
    FaultSchedule,
    OneFault,
    is_read,
    spread,
    spread_by_turns,
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
NOT_CHECKED = "? not checked"
HANDLE = "IPAMHandle "
MOVES = ("attach elsewhere", "attach a running one elsewhere")
"""Cases that release an address in the end: where they were cut off before that, `ips gc` does, as for any VM that no
longer carries one."""
CUT_OFFS = int(os.environ.get("YOSHI_CUT_OFFS", "0"))
CUT_OFF_ONLY = os.environ.get("YOSHI_CUT_OFF_ONLY", "")
ONLY = [int(number) for number in os.environ.get("YOSHI_FAULT_ONLY", "").split(",") if number]
FIXTURE_NUMBERS = range(60, 68)
STORMY = 16
"""How many fault runs with one fault anywhere, or a storm, follow those with one fault of each class."""
STORMS = [(0.1, 0.01), (0.3, 0.03), (0.6, 0.05), (0.5, 0.0), (0.0, 0.2)]
TURNS = 4
ALONE = threading.Lock()
"""Of scenarios that change what is in other fixtures as well."""
NAMES = list(SCENARIOS)
TURN_OF = turns_of({name: scenario for name, scenario in SCENARIOS.items() if not scenario.looks})
THOROUGH = ("network create", "vm attach")
"""Commands that meet every class of faults, at writes and at reads: they choose what others must not have."""
SENT_AGAIN = (("busy",), ("slow", "overtaken"), ("closed",))
"""Classes of faults at a write that the client deals with in the same way for all commands: but for the thorough ones,
each meets one of these."""
OF_READS = 3
"""Of so many classes of faults at a read each command meets one, but for the thorough ones."""


@dataclass(frozen=True)
class FaultFreeRun:
    """What a case comes to where nothing goes wrong.

    Attributes:
        before, state: see CommandFixture.state; before the command and after it.
        is_violated_before: an invariant is violated before it.
        writes, reads: what was sent.
        said: see CommandFixture.said.
    """

    before: dict[str, str]
    is_violated_before: bool
    state: dict[str, str]
    writes: list[str]
    reads: list[str]
    said: list[str]


@dataclass(frozen=True)
class PlannedFault:
    """A fault at one request of a case.

    Attributes:
        name: the case's.
        writing: at one of its writes, not of its reads.
        fault: how.
    """

    name: str
    writing: bool
    fault: str


def courses_of(command: str, writes: Sequence[str], reads: Sequence[str]) -> Iterator[PlannedFault]:
    """A command with these faults at a write, and those at a read; its cases take turns."""
    scenarios = [name for name in NAMES if SCENARIOS[name].name == command]
    changing = [name for name in scenarios if not SCENARIOS[name].looks]
    if changing:
        yield from (PlannedFault(changing[n % len(changing)], True, fault) for n, fault in enumerate(writes))
    yield from (PlannedFault(scenarios[n % len(scenarios)], False, fault) for n, fault in enumerate(reads))


def classed() -> Iterator[PlannedFault]:
    """Every command with a fault of each class that it can deal with in a way of its own, and of some other classes.

    These take turns from command to command, those that change something and those that only look for themselves, and
    so do the faults of a class.
    """
    changing = {scenario.name for scenario in SCENARIOS.values() if not scenario.looks}
    for commands in (changing, {scenario.name for scenario in SCENARIOS.values()} - changing):
        for turn, command in enumerate(sorted(commands)):
            writes, reads = WRITE_CLASSES, READ_CLASSES
            if command not in THOROUGH:
                again = SENT_AGAIN[turn % len(SENT_AGAIN)]
                writes = tuple(one for one in writes if one not in SENT_AGAIN or one == again)
                reads = tuple(reads[(OF_READS * turn + n) % len(reads)] for n in range(OF_READS))
            one_of_each = ([faults[turn % len(faults)] for faults in classes] for classes in (writes, reads))
            yield from courses_of(command, *one_of_each)


COMMANDS = sorted({scenario.name for scenario in SCENARIOS.values()})
CLASSED = list(classed())
EVERY = [one for command in COMMANDS for one in courses_of(command, WRITE_FAULTS, READ_FAULTS) if one not in CLASSED]
COURSES = [*CLASSED, *[None] * STORMY, *EVERY]
"""The first fault runs, and so many at random; further ones are at random."""
SEEDS = int(os.environ.get("YOSHI_FAULT_SEEDS", len(CLASSED) + STORMY))


@pytest.fixture(scope="module")
def fixtures(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CommandFixture]]:
    with open_fixtures_with_foreign_bgp(installed, FIXTURE_NUMBERS, tmp_path_factory.mktemp("fixtures")) as found:
        yield found


def prepare(fixture: CommandFixture, scenario: Scenario) -> None:
    """What there is before a case; left as it is where the last one had the same, and only looked."""
    fixture.fixed = [fixture.words(address) for address in scenario.fixed]
    if fixture.prepared is None or fixture.prepared != scenario.before:
        scenario.prepare(fixture)
    fixture.prepared = scenario.before if scenario.looks else None


@pytest.fixture(scope="module")
def fault_free(fixtures: list[CommandFixture]) -> dict[str, FaultFreeRun]:
    """Every case without faults, by way of the proxy."""
    found: dict[str, FaultFreeRun] = {}

    def look(name: str, fixture: CommandFixture) -> None:
        scenario, schedule = SCENARIOS[name], FaultSchedule()
        prepare(fixture, scenario)
        objects = fixture.objects()
        before, is_violated = fixture.state(objects), bool(fixture.violations(objects=objects))
        ran = fixture.run(scenario.command, schedule)
        assert ran.code == scenario.code, str(ran)
        found[name] = FaultFreeRun(
            before, is_violated, fixture.state(), schedule.writes, schedule.reads, fixture.said(ran)
        )
        if scenario.looks:
            assert not schedule.writes, f"{scenario.command} changes something"
            return
        fixture.check(settled=True)
        assert schedule.writes, f"{scenario.command} writes nothing"

    raise_first(side_by_side(fixtures, [partial(look, name) for name in NAMES]))
    return found


def schedule_of(number: int, fault_free: Mapping[str, FaultFreeRun], turn: int = 0) -> tuple[str, FaultSchedule]:
    """A fault run's scenario and fault schedule: of those at random, one fault anywhere, or a storm.

    Of one fault, each turn is at another request, as some are not sent every time.
    """
    rng = random.Random(f"course {number}, turn {turn}")
    one = planned(number)
    if one is None:
        name = NAMES[number % len(NAMES)]
        if SCENARIOS[name].looks or rng.random() < 0.5:
            return name, FaultSchedule(f"course {number}", *rng.choice(STORMS))
        one = PlannedFault(name, True, rng.choice(WRITE_FAULTS))
    requests = fault_free[one.name].writes if one.writing else fault_free[one.name].reads
    return one.name, OneFault(rng.choice(requests), one.fault, rng.choice((1, 1, 2, 9)))


def planned(number: int) -> PlannedFault | None:
    """The fault of a fault run; None where it is at random."""
    return COURSES[number] if number < len(COURSES) else None


@pytest.mark.timeout(max(1800, 3 * SEEDS))
def test_every_command_under_every_fault(fixtures: list[CommandFixture], fault_free: dict[str, FaultFreeRun]) -> None:
    wanted = ONLY or range(SEEDS)
    counts: dict[str, Counter[str]] = {scenario.name: Counter() for scenario in SCENARIOS.values()}
    wrong = side_by_side(fixtures, [partial(run_numbered_fault, number, fault_free, counts) for number in wanted])
    print(f"\n{len(wanted)} fault runs, {sum(map(Counter.total, counts.values()))} faults, {len(wrong)} went wrong")
    raise_first(wrong)
    assert len(AFTER_LAST_READ) <= max(1, len(wanted) // 100), "only invariants were checked in too many"
    check_shared_bgp(fixtures)
    if not ONLY:
        print(table_of(counts))
        check_all_faults_occurred(counts)


@pytest.mark.timeout(1800)
def test_every_command_disconnected_before_each_of_its_writes(
    fixtures: list[CommandFixture], fault_free: dict[str, FaultFreeRun]
) -> None:
    """Every case that changes something, before its first write, its last, and some between: what it says is true."""
    changing = [name for name, scenario in SCENARIOS.items() if not scenario.looks]
    points = [(name, writes) for name in changing for writes in writes_to_cut_off_at(name, fault_free[name])]
    wanted = [(name, writes) for name, writes in points if CUT_OFF_ONLY in ("", name, f"{name}, {writes}")]
    counts: Counter[str] = Counter()

    def cut_off(name: str, writes: int, fixture: CommandFixture) -> None:
        schedule = CutOff(writes)
        run_fault(
            FaultRun(
                writes, SCENARIOS[name], schedule, fault_free[name], fixture, [f"{name}, {writes} (YOSHI_CUT_OFF_ONLY)"]
            )
        )
        counts[name] += bool(schedule.counts)

    wrong = side_by_side(fixtures, [partial(cut_off, name, writes) for name, writes in wanted])
    print(f"\n{len(wanted)} times cut off, {counts.total()} before the end, {len(wrong)} went wrong")
    raise_first(wrong)
    assert CUT_OFF_ONLY or all(counts[name] for name in changing), counts


def writes_to_cut_off_at(name: str, expected: FaultFreeRun) -> list[int]:
    """After how many of its writes a case is cut off.

    What was sent again does not count: how often a policy refuses an address that its API server does not know yet,
    depends on the moment.
    """
    sent = len(expected.writes)
    if CUT_OFF_ONLY:
        return [*range(sent)]
    turn, turns = TURN_OF[name]
    return spread(sent, CUT_OFFS) if CUT_OFFS else spread_by_turns(sent, turn + 1, turns)


def check_shared_bgp(fixtures: list[CommandFixture]) -> None:
    """What another client wrote into Calico's configuration is there still, and nothing of ours when all is cleared."""
    for fixture in fixtures:
        fixture.prepared = None
        for network in fixture.api.list(NETWORKWIZARD, fixture.namespace):
            fixture.run(f"network delete {name_of(network)} --force --yes")
        fixture.clear()
    shared_bgp.check_foreign_entries(fixtures[0].api)


def check_all_faults_occurred(counts: Mapping[str, Counter[str]]) -> None:
    """Every command met the faults that are planned for it."""
    for one in filter(None, COURSES[:SEEDS]):
        kind = f"{'write' if one.writing else 'read'} {one.fault}"
        assert counts[SCENARIOS[one.name].name][kind], f"{SCENARIOS[one.name].name} never met a {kind}"


def run_numbered_fault(
    number: int, fault_free: dict[str, FaultFreeRun], counts: Mapping[str, Counter[str]], fixture: CommandFixture
) -> None:
    """Run one fault run from its preparation to its end; repeat it with another request if its fault did not occur."""
    for turn in range(TURNS):
        schedule = run_turn(number, turn, fault_free, fixture)
        counts[SCENARIOS[schedule_of(number, fault_free)[0]].name].update(schedule.counts)
        if schedule.counts or planned(number) is None:
            return


def run_turn(number: int, turn: int, fault_free: dict[str, FaultFreeRun], fixture: CommandFixture) -> FaultSchedule:
    """One fault run; gives what went wrong on its way."""
    name, schedule = schedule_of(number, fault_free, turn)
    log = [f"course {number} (YOSHI_FAULT_ONLY={number}): {name}"]
    run_fault(FaultRun(number, SCENARIOS[name], schedule, fault_free[name], fixture, log))
    return schedule


def run_fault(fault_run: FaultRun) -> None:
    """One fault run, alone where it must be; an AssertionError says what happened."""
    try:
        with ALONE if fault_run.scenario.alone else nullcontext():
            fault_run.run()
    except AssertionError as error:
        fault_run.fixture.prepared = None
        raise AssertionError("\n".join([*fault_run.log, str(error)])) from error


AFTER_LAST_READ: list[int] = []
"""Fault runs in which a late call to KubeVirt came after the run's last read: only the invariants hold for these."""


@dataclass
class FaultRun:
    """A command by a bad way, and what is judged of it.

    Attributes:
        number: tells it from others, and is the seed of what is random in it.
        expected: what the scenario comes to where nothing goes wrong.
        log: what happened, for the failure message.
        started_again: a VM was stopped in vain, and was started again.
    """

    number: int
    scenario: Scenario
    schedule: FaultSchedule
    expected: FaultFreeRun
    fixture: CommandFixture
    log: list[str] = field(default_factory=list)
    started_again: bool = False

    def run(self) -> None:
        """Runs the command under its faults, and then without."""
        prepare(self.fixture, self.scenario)
        self.fixture.remember_uids()
        before, known = self.expected.before, self.fixture.violations() if self.expected.is_violated_before else []
        ran = self.fixture.run(self.scenario.command, self.schedule)
        self.started_again = STARTED_AGAIN in ran.err
        self.log += [*(f"    {line}" for line in self.schedule.log), str(ran)]
        check_message(
            ran, self.scenario.code, 3 if self.scenario.name in ("diff", "ips check", "doctor", "trace") else 1
        )
        if self.fixture.proxy.late_calls:
            self.fixture.proxy.arrive_all()
            self.fixture.check(known)
            AFTER_LAST_READ.append(self.number)
        elif self.scenario.looks:
            self.check_look(ran)
        else:
            self.check_change(ran, before, known)
            self.complete(known)

    def again(self, word: str = "again") -> CommandResult:
        """The same command without faults."""
        ran = self.fixture.run(self.scenario.command)
        self.log.append(f"{word}: {ran}")
        return ran

    def check_look(self, ran: CommandResult) -> None:
        """What only looks says what is so, or that it could not."""
        assert not self.fixture.writes, "it has changed something"
        for one in (*(() if is_failure(ran) else (ran,)), self.again()):
            assert one.code == self.scenario.code, f"exit code {one.code}"
            said = self.fixture.said(one)
            if one is ran and (NOT_SEEN in one.err or NOT_CHECKED in one.out):
                otherwise = [line for line in said if line not in self.expected.said]
                assert all("cannot be read" in line or "not checked" in line for line in otherwise), otherwise
            else:
                assert_output(said, self.expected.said)

    def check_change(self, ran: CommandResult, before: dict[str, str], known: list[str]) -> None:
        """What changes something has done it, or says how far it came."""
        objects = self.fixture.objects()
        self.fixture.check(known, objects=objects)
        after = self.fixture.state(objects)
        if ran.code == 0 and NOT_SEEN not in ran.err:
            assert_state(after, self.expected.state, "it says that it is done, and it is not")
            assert_output(
                self.fixture.said(ran), self.expected.said, more=self.scenario.name == "sync"
            )  # it tells of each renewal
        else:
            check_reported(ran, before, after)
            assert not self.was_done_unheard(), "it did not look whether what got no answer was done"

    def was_done_unheard(self) -> bool:
        """Whether all was well but for a few answers that did not come: who looks again knows that all is done."""
        return (
            isinstance(self.schedule, OneFault)
            and self.schedule.fault.startswith("done-")
            and self.schedule.times < MAX_WRITE_ATTEMPTS
            and not is_read(self.schedule.request)
            and self.scenario.name != "install"  # which is no run of plans, and says what it does not know
        )

    def complete(self, known: list[str]) -> None:
        """The same command without faults makes it as it is where nothing went wrong; once more changes nothing."""
        if random.Random(self.number).random() < 0.5:
            self.fixture.proxy.arrive_all()
            self.fixture.check(known)
        check_success(self.again())
        if isinstance(self.schedule, CutOff) and self.scenario in [SCENARIOS[name] for name in MOVES]:
            check_success(self.fixture.run("ips gc --grace 0s --yes"))
        self.fixture.proxy.arrive_all()
        objects = self.fixture.objects()
        now = self.fixture.state(objects)
        if self.started_again:  # in between; what Calico counts for a VM that runs is Calico's to put right
            now = {key: text for key, text in now.items() if key in self.expected.state or not key.startswith(HANDLE)}
        assert_state(now, self.expected.state, "it is not what there is without faults")
        self.fixture.check(settled=True, objects=objects)
        versions = self.fixture.versions(objects)
        check_success(self.again("once more"))
        if self.fixture.writes:
            assert_state(self.fixture.versions(), versions, "once more has changed something")
