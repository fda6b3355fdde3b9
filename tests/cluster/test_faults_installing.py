"""`install` on a bare cluster and `uninstall`, under every class of faults, and killed by SIGKILL before their writes:
they change the whole cluster, so it is their own.

As in test_faults.py: a run that says that it is done has done it, one that failed tells what it did or may have done,
the same command without faults completes it, and once more it changes nothing.

YOSHI_FAULT_INSTALL_COURSES   how many fault runs (CLASSED): first one of each class, then those of the other faults
YOSHI_FAULT_INSTALL_ONLY      only these fault runs, their numbers with commas; what a failure prints
YOSHI_KILLS                   before how many writes each is killed (3)
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest

import lab
from kubectl_yoshi.cli.installation import CRD, find_installed, load_manifests
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from lab.testing import Cluster
from tests.cluster.assertions import assert_output, assert_state, check_message, check_reported, table_of
from tests.cluster.command_fixture import HastyClock, run_in_process
from tests.cluster.denials import denying
from tests.cluster.harness import CommandResult, Yoshi
from tests.cluster.killing import KILLS, run_killed
from tests.cluster.scripted_fault_proxy import write_kubeconfig
from tests.cluster.seeded_fault_proxy import (
    POINTS,
    READ_FAULTS,
    WRITE_FAULTS,
    FaultSchedule,
    OneFault,
    Proxy,
    proxy,
    spread,
)

pytestmark = pytest.mark.I7

ONLY = [int(number) for number in os.environ.get("YOSHI_FAULT_INSTALL_ONLY", "").split(",") if number]
COMMANDS = {"install": "uninstall --force --yes", "uninstall --force --yes": "install"}
"""What is run under faults, and what brings the cluster to where it begins."""
WRITE_CLASSES = (
    ("conflict", "test-failed", "invalid"),
    ("busy",),
    ("error", "unavailable"),
    ("done-error",),
    ("lost",),
    ("done-cut", "done-headers", "done-half"),
    ("late",),
    ("slow", "overtaken"),
    ("closed", "forgotten"),
)
READ_CLASSES = (
    ("busy",),
    ("error", "unavailable"),
    ("lost", "done-cut", "done-headers", "done-half"),
    ("slow", "overtaken", "closed", "forgotten"),
)
"""Fewer than those of seeded_fault_proxy.py: neither command plans again after a conflict or a failed read."""
EVERY = [
    (command, writing, fault)
    for command in COMMANDS
    for writing, faults in ((True, WRITE_FAULTS), (False, READ_FAULTS))
    for fault in faults
]
CLASSED = [
    (command, writing, faults[turn % len(faults)])
    for turn, command in enumerate(COMMANDS)
    for writing, classes in ((True, WRITE_CLASSES), (False, READ_CLASSES))
    for faults in classes
]
"""A fault run for each class; the faults of a class take turns."""
FAULT_RUNS = [*CLASSED, *(run for run in EVERY if run not in CLASSED)]
WANTED = ONLY or range(int(os.environ.get("YOSHI_FAULT_INSTALL_COURSES", len(CLASSED))))
ATTEMPTS = 4
"""How often another request is chosen for a fault, where the one that was chosen was not made this time: how often the
server is asked whether it serves the CRDs yet depends on how fast it is."""
NETWORK: Json = {
    "apiVersion": NETWORKWIZARD.api_version,
    "kind": NETWORKWIZARD.kind,
    "metadata": {"name": "lost", "namespace": "default"},
    "spec": {"plugin": "calico", "cidr": "10.1.2.0/28"},
}
"""What `uninstall --force` loses."""


@dataclass(frozen=True)
class InstallFixture:
    """A cluster of the test's own, the good way to it, and the bad one."""

    good: Api
    bad: Connection
    proxy: Proxy
    program: Yoshi

    def run(self, command: str, schedule: FaultSchedule | None = None) -> CommandResult:
        if schedule is None:
            return run_in_process(command.split(), Api(self.good.connection, clock=HastyClock()), "default")
        self.proxy.schedule = schedule
        return run_in_process(command.split(), Api(self.bad, clock=HastyClock()), "default")

    def prepare(self, command: str) -> None:
        """Where the command begins."""
        ran = self.run(COMMANDS[command])
        assert ran.code == 0, str(ran)
        if command != "install":
            self.good.create(NETWORKWIZARD.ref("lost", "default"), NETWORK)

    def state(self) -> dict[str, str]:
        """ "kind/name" -> what lasts of it, of what `install` makes and what `uninstall` loses."""
        found = {}
        for ref, obj in find_installed(self.good, load_manifests()).items():
            metadata = {key: obj["metadata"].get(key) for key in ("labels", "annotations")}
            content = {key: part for key, part in obj.items() if key not in ("metadata", "status")}
            found[str(ref)] = json.dumps({**content, "metadata": metadata}, sort_keys=True, indent=1)
        return found

    def versions(self) -> dict[str, str]:
        """ "kind/name" -> what tells that it was changed; Kubernetes itself writes to the status of CRDs."""
        return {
            str(ref): f"{obj['metadata']['uid']} "
            + str(obj["metadata"]["generation" if ref.resource == CRD else "resourceVersion"])
            for ref, obj in find_installed(self.good, load_manifests()).items()
        }


@dataclass
class FaultFreeRun:
    """What a command comes to where nothing goes wrong."""

    state: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    schedule: FaultSchedule = field(default_factory=FaultSchedule)


@pytest.fixture(scope="module")
def fixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstallFixture]:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("takes the CRDs away, so it needs a lab of its own")
    with lab.start() as running:
        cluster = Cluster(running.kubeconfig, "lab")
        options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
        with closing(Connection.open(options)) as good, proxy(cluster) as bad_way:
            file = write_kubeconfig(tmp_path_factory.mktemp("kubeconfig") / "by-proxy", bad_way.url)
            with closing(Connection.open(ConnectionOptions(kubeconfig=str(file)))) as bad:
                program = Yoshi(file, "it", request.getfixturevalue("forks"), "default")
                yield InstallFixture(Api(good, clock=HastyClock()), bad, bad_way, program)


@pytest.fixture(scope="module")
def fault_free(fixture: InstallFixture) -> dict[str, FaultFreeRun]:
    found = {}
    for command in COMMANDS:
        fixture.prepare(command)
        schedule = FaultSchedule()
        ran = fixture.run(command, schedule)
        assert ran.code == 0, str(ran)
        found[command] = FaultFreeRun(fixture.state(), lines(ran), schedule)
    assert found["uninstall --force --yes"].state == {}
    assert len(found["install"].state) > 3
    return found


def lines(ran: CommandResult) -> list[str]:
    return sorted(ran.out.splitlines())


@pytest.mark.timeout(max(1800, 60 * len(WANTED)))
def test_install_and_uninstall_under_every_fault(fixture: InstallFixture, fault_free: dict[str, FaultFreeRun]) -> None:
    met: dict[str, Counter[str]] = {command: Counter() for command in COMMANDS}
    for number in WANTED:
        command, writing, fault = FAULT_RUNS[number]
        for attempt in range(ATTEMPTS):
            run_numbered_fault(number, fixture, fault_free, met, attempt)
            if met[command][f"{'write' if writing else 'read'} {fault}"]:
                break
    print(f"\n{table_of({command.partition(' ')[0]: counts for command, counts in met.items()})}")
    for number in WANTED:
        command, writing, fault = FAULT_RUNS[number]
        assert met[command][f"{'write' if writing else 'read'} {fault}"], f"{command} never met {fault}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_install_and_uninstall_killed_before_a_write_are_completed_by_a_second_run(
    fixture: InstallFixture, fault_free: dict[str, FaultFreeRun], command: str
) -> None:
    fixture.prepare(command)
    ran, schedule = run_killed(fixture.program, fixture.proxy, command.split())
    assert ran.code == 0, str(ran)
    assert_state(fixture.state(), fault_free[command].state, "a process comes to something else")
    for write in (number + 1 for number in spread(schedule.written, KILLS or POINTS)):
        with logging_failures(f"{command}, killed before write {write} of {schedule.written}") as log:
            fixture.prepare(command)
            ran, killed = run_killed(fixture.program, fixture.proxy, command.split(), write)
            log += [*killed.log, str(ran)]
            assert ran.killed
            complete(fixture, command, fault_free[command], log)


@pytest.mark.timeout(900)
def test_install_and_uninstall_without_one_permission_succeed_or_change_nothing(
    fixture: InstallFixture, fault_free: dict[str, FaultFreeRun]
) -> None:
    outcomes: Counter[str] = Counter()
    for command in COMMANDS:
        fixture.prepare(command)
        with denying(fixture.proxy, None) as everything:
            ran = fixture.run(command, FaultSchedule())
        assert ran.code == 0, str(ran)
        refused = False
        for permission in sorted(everything.needed):
            if not refused:  # or everything is as it was
                fixture.prepare(command)
            versions = fixture.versions()
            with denying(fixture.proxy, permission) as denial:
                ran = fixture.run(command, FaultSchedule())
            log = f"{command}, may not {permission}\n{ran}\n"
            assert denial.met, log
            check_message(ran)
            refused = ran.code != 0
            if not refused:
                assert_state(fixture.state(), fault_free[command].state, f"{log}it says that it is done, and it is not")
            else:
                assert_state(fixture.versions(), versions, f"{log}it was refused, and has changed something")
            outcomes["refused" if refused else "done"] += 1
    print(f"\n{outcomes}")
    assert outcomes["refused"] > len(COMMANDS), outcomes


def run_numbered_fault(
    number: int,
    fixture: InstallFixture,
    fault_free: dict[str, FaultFreeRun],
    met: dict[str, Counter[str]],
    attempt: int,
) -> None:
    command, writing, fault = FAULT_RUNS[number]
    expected, rng = fault_free[command], random.Random(f"course {number}{f', {attempt}' if attempt else ''}")
    schedule = OneFault(
        rng.choice(expected.schedule.writes if writing else expected.schedule.reads), fault, rng.choice((1, 1, 2, 9))
    )
    with logging_failures(f"course {number} (YOSHI_FAULT_INSTALL_ONLY={number}): {command}") as log:
        fixture.prepare(command)
        before = fixture.state()
        ran = fixture.run(command, schedule)
        log += [*(f"    {line}" for line in schedule.log), str(ran)]
        met[command].update(schedule.counts)
        check_message(ran)
        if ran.code == 0:
            assert_state(fixture.state(), expected.state, "it says that it is done, and it is not")
            assert_output(lines(ran), expected.said)
        else:
            check_reported(ran, before, fixture.state())
        fixture.proxy.arrive_all()
        complete(fixture, command, expected, log)


@contextmanager
def logging_failures(what: str) -> Iterator[list[str]]:
    """Gives a list for what happens; an AssertionError says all of it."""
    log = [what]
    try:
        yield log
    except AssertionError as error:
        raise AssertionError("\n".join([*log, str(error)])) from error


def complete(fixture: InstallFixture, command: str, expected: FaultFreeRun, log: list[str]) -> None:
    """The same command without faults makes it as it is where nothing went wrong; once more changes nothing."""
    again = fixture.run(command)
    log.append(f"again: {again}")
    assert again.code == 0
    assert_state(fixture.state(), expected.state, "it is not what there is without faults")
    versions = fixture.versions()
    once_more = fixture.run(command)
    log.append(f"once more: {once_more}")
    assert once_more.code == 0
    assert_state(fixture.versions(), versions, "once more has changed something")
