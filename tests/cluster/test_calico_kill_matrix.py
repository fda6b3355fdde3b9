"""Commands killed by SIGKILL before and after every write to Calico's IPAM, and the commands that follow.

killed       vm attach --replace, --restart, vm detach, ips release, ips gc, ips rebuild; ips move writes nothing there
when         before an IPAMBlock or IPAMHandle is written, and when it is written and the answer is on its way
then         the same command, or ips gc, sync, or the VM is started
afterwards   every handle counts what its blocks contain, and a VM runs with the address that is recorded for it. Where
             that is not so, `ips check` says it, and the command that it names makes it so.

YOSHI_KILL_THEN    after how many of these four things it is looked, for each kill (2): the same command always, and the
                   others by turns
YOSHI_KILL_CELLS   only cells that have this in what they are called, such as "then start"

Calico's CNI plugin and KubeVirt are played (fake_calico_cni.py): a VM whose handle is miscounted does not start.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.kube.errors import NotFoundError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Resource
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm
from lab.testing import Cluster
from tests.cluster.checker import violations
from tests.cluster.command_fixture import HastyClock, run_in_process
from tests.cluster.fake_calico_cni import WithCalico, assign, find, handle_of, held
from tests.cluster.fake_kubevirt import PIN
from tests.cluster.harness import CommandResult, ForkServer, Yoshi, fork_server, vm
from tests.cluster.killing import run_killed
from tests.cluster.raw_state import RawState
from tests.cluster.scripted_fault_proxy import write_kubeconfig
from tests.cluster.seeded_fault_proxy import FaultSchedule, Kill, Proxy
from tests.unit.kube.fault_server import serving

pytestmark = [pytest.mark.I5, pytest.mark.I10]

NUMBERS = (116, 117, 118)
"""A place has the addresses 10.<number>.0.0/24."""
IPAM = r"/(ipamblocks|ipamhandles)/"
COMMAND = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Case:
    """A command, and what there is before it.

    Attributes:
        command: {vm}, and its addresses {a} and {b}, which are of two blocks.
        before: commands, or functions of the place.
        writes: how many it sends to IPAM.
        code: its exit code.
    """

    command: str
    before: tuple[str | Callable[[CalicoFixture], None], ...]
    writes: int
    code: int = 0


@dataclass(frozen=True)
class Moment:
    """When a command is killed.

    Attributes:
        write: the number of the write to IPAM, from 1 on.
        done: it is done, and its answer never comes.
    """

    write: int
    done: bool


@dataclass
class CalicoFixture:
    """A namespace with a network blue. Use one from one thread.

    Attributes:
        number: see NUMBERS.
        api: the API server.
        proxy: before it.
        bad: the way by the proxy.
        program: real processes, by the proxy.
    """

    number: int
    namespace: str
    api: Api
    proxy: Proxy
    bad: Connection
    program: Yoshi
    kubevirt: WithCalico = field(init=False)

    def __post_init__(self) -> None:
        self.kubevirt = WithCalico(self.api)
        self.proxy.kubevirt = self.kubevirt

    @property
    def a(self) -> str:
        """An address of the first block."""
        return f"10.{self.number}.0.10"

    @property
    def b(self) -> str:
        """An address of the second block."""
        return f"10.{self.number}.0.70"

    def words(self, text: str) -> list[str]:
        return shlex.split(text.replace("{a}", self.a).replace("{b}", self.b).replace("{ns}", self.namespace))

    def killed(self, text: str, at: Moment = Moment(0, False)) -> tuple[CommandResult, Kill]:
        """A command in a process of its own, which is killed then."""
        return run_killed(self.program, self.proxy, self.words(text), at.write, IPAM, at.done)

    def run(self, text: str) -> CommandResult:
        """A command in this process."""
        self.proxy.schedule = FaultSchedule()
        api = Api(self.bad, clock=HastyClock())
        api.__dict__["served"] = self.api.served
        return run_in_process(self.words(text), api, self.namespace)

    def done(self, text: str) -> CommandResult:
        ran = self.run(text)
        assert ran.code == 0, str(ran)
        return ran

    # -- what there is -------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Takes away all that a case has left, but the network, and makes VM web."""
        for resource in (VM, VMI, POD):
            for obj in self.api.list(resource, self.namespace):
                with suppress(NotFoundError):  # what its VM owned may be gone with it
                    self.api.delete(resource.ref(obj["metadata"]["name"], self.namespace))
        for resource, obj in self.of_ipam():
            self.api.delete(resource.ref(obj["metadata"]["name"]))
        blue = NETWORKWIZARD.ref("blue", self.namespace)
        for allocations in (None, {}):
            status: Json = {"status": {"allocations": allocations, "history": allocations, "used": 0}}
            self.api.patch(blue, status, subresource="status")
        self.make_vm()

    def make_vm(self) -> Json:
        return self.api.create(VM.ref("web", self.namespace), vm(self.namespace, "web"))

    def of_ipam(self) -> Iterator[tuple[Resource, Json]]:
        """The blocks and handles of this place."""
        for obj in self.api.list(RAW.block):
            if obj["metadata"]["name"].startswith(f"10-{self.number}-"):
                yield RAW.block, obj
        for obj in self.api.list(RAW.handle):
            if f".{self.namespace}." in obj["metadata"]["name"]:
                yield RAW.handle, obj

    def violations(self, settled: bool = False) -> list[str]:
        """See checker.py."""

        def of(resource: Resource) -> list[Json]:
            return list(self.api.list(resource, self.namespace))

        ipam = [*self.of_ipam()]
        blocks, handles = ([obj for kind, obj in ipam if kind == which] for which in (RAW.block, RAW.handle))
        raw_state = RawState(of(NETWORKWIZARD), [], of(VM), of(VMI), of(POD), ipam_blocks=blocks, ipam_handles=handles)
        found = violations(raw_state, [self.namespace], settled=settled)
        return [one for one in found if re.match(r"I\d", one)]

    @property
    def machine(self) -> Vm | None:
        found = find(self.api, VM.ref("web", self.namespace))
        return Vm(found) if found else None

    @property
    def pin(self) -> str:
        """The address on the VM's template; "" for none."""
        machine = self.machine
        return (json.loads(machine.template_annotations.get(PIN, "[]")) or [""])[0] if machine else ""

    @property
    def runs_with(self) -> str:
        """The address of the VM's pod; "" where it hangs or is not there."""
        pod = find(self.api, POD.ref("virt-launcher-web", self.namespace))
        return str(pod.get("status", {}).get("podIP", "")) if pod else ""

    @property
    def assigned_otherwise(self) -> str:
        """An address that Calico holds for the VM besides the one on its template; "" for none."""
        handle = find(self.api, RAW.handle.ref(handle_of(self.namespace, "web")))
        found = held(self.api, handle_of(self.namespace, "web"), handle["spec"]["block"]) if handle else []
        return next((address for address in found if self.pin and address != self.pin), "")

    def start(self) -> None:
        """Somebody starts the VM: another one of its name, where it is gone."""
        machine = self.machine.raw if self.machine else self.make_vm()
        self._set("Always")
        self.kubevirt.run(self.api.get(Vm(machine).ref))

    def stop(self) -> None:
        self._set("Halted")
        self.kubevirt.follow(VM.path(self.namespace, "web"))

    def _set(self, strategy: str) -> None:
        self.api.patch(VM.ref("web", self.namespace), {"spec": {"runStrategy": strategy}})


# -- what there is before ----------------------------------------------------------------------------------------------


def hold_a(fixture: CalicoFixture) -> None:
    """Calico has given the VM what it is pinned to, and it has been stopped."""
    assign(fixture.api, handle_of(fixture.namespace, "web"), fixture.a)


def hold_two(fixture: CalicoFixture) -> None:
    """As after a handle was deleted alone: it has an address of another block besides."""
    assign(fixture.api, handle_of(fixture.namespace, "web"), fixture.a, fixture.b.replace(".70", ".99"))


def run_it(fixture: CalicoFixture) -> None:
    fixture.start()
    assert fixture.runs_with == fixture.a


def delete_vm(fixture: CalicoFixture) -> None:
    fixture.api.delete(VM.ref("web", fixture.namespace))


def lose_record(fixture: CalicoFixture) -> None:
    fixture.api.patch(
        NETWORKWIZARD.ref("blue", fixture.namespace), {"status": {"allocations": None}}, subresource="status"
    )
    fixture.api.patch(
        NETWORKWIZARD.ref("blue", fixture.namespace), {"status": {"allocations": {}}}, subresource="status"
    )


def interrupt_release(fixture: CalicoFixture) -> None:
    """As a release leaves it that is cut off between block and handle."""
    hold_a(fixture)
    for resource, obj in fixture.of_ipam():
        if resource == RAW.block:
            fixture.api.delete(resource.ref(obj["metadata"]["name"]))


ATTACHED = "vm attach web --network blue --ip {a}"
GC = "ips gc --grace 0s --yes"
CASES = {
    "attach --replace": Case("vm attach web --network blue --ip {b} --replace", (ATTACHED, hold_a), 2),
    "attach --replace, two blocks": Case("vm attach web --network blue --ip {b} --replace", (ATTACHED, hold_two), 3),
    "attach --restart": Case("vm attach web --network blue --ip {b} --replace --restart", (ATTACHED, run_it), 2),
    "detach": Case("vm detach web --network blue", (ATTACHED, hold_a), 2),
    "release": Case("ips release blue {a}", (ATTACHED, hold_a, delete_vm), 2),
    "gc": Case(GC, (ATTACHED, hold_a, delete_vm), 2),
    "gc, nothing recorded": Case(GC, (ATTACHED, hold_a, delete_vm, lose_record), 2),
    "rebuild": Case("ips rebuild --yes", (ATTACHED, lose_record, hold_a), 0),
    "rebuild of a half release": Case("ips rebuild --yes", (ATTACHED, interrupt_release), 1),
    "move": Case("ips move {a} --to web", (ATTACHED, hold_a), 0, code=1),
}
OTHERS = ("gc", "sync", "start")
THEN = ("same", *OTHERS)
NEXT = int(os.environ.get("YOSHI_KILL_THEN", "2"))


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix."""

    name: str
    at: Moment
    then: str

    def __str__(self) -> str:
        return f"{self.name}, killed {'after' if self.at.done else 'before'} write {self.at.write}, then {self.then}"


KILLS = [
    (name, Moment(write, done))
    for name, case in CASES.items()
    for write, done in product(range(1, case.writes + 1), (False, True))
]
MATRIX = [
    Cell(name, at, then)
    for turn, (name, at) in enumerate(KILLS)
    for then in ("same", *(OTHERS[(turn + n) % len(OTHERS)] for n in range(min(NEXT, len(THEN)) - 1)))
]
MATRIX = [one for one in MATRIX if os.environ.get("YOSHI_KILL_CELLS", "") in str(one)]


def prepare(fixture: CalicoFixture, case: Case) -> None:
    fixture.clear()
    for step in case.before:
        step(fixture) if callable(step) else fixture.done(step)


def check_cell(one: Cell, fixture: CalicoFixture) -> list[str]:
    """Plays a cell; gives what had to be done because `ips check` said so."""
    case = CASES[one.name]
    prepare(fixture, case)
    ran, _ = fixture.killed(case.command, one.at)
    assert ran.killed, f"not killed: {ran}"
    if one.then == "start":
        fixture.start()
    else:
        again = {"same": case.command, "gc": GC, "sync": "sync"}[one.then]
        ran = fixture.run(again)
        assert ran.code == case.code, str(ran)
        assert "Traceback" not in ran.err
    found = [sentence for sentence in fixture.violations() if not sentence.startswith("I3")]
    if one.then == "start":  # nothing was repaired yet: that `ips check` says so is judged below
        found = [sentence for sentence in found if not sentence.startswith(("I5", "I10"))]
    assert not found, found
    repaired = as_check_says(fixture)
    assert not [sentence for sentence in fixture.violations() if sentence.startswith("I10")]
    if not fixture.runs_with:
        fixture.start()
    assert fixture.runs_with, "the VM does not start"
    assert fixture.runs_with == fixture.pin or not fixture.pin
    fixture.done(GC)
    said = fixture.run("ips check").out
    assert [sentence for sentence in fixture.violations(settled=True) if not is_reported(sentence, said)] == []
    return repaired


def is_reported(sentence: str, said: str) -> bool:
    """Whether it is that a new VM has got the address of an earlier one of its name, and `ips check` says so."""
    runs = re.match(r"I5 \S+ runs with (\S+), but \S+ has it for nobody", sentence)
    return (
        bool(runs) and re.search(rf"^{runs[1]} on .* uses? it, but it is not recorded", said, re.MULTILINE) is not None
    )


def as_check_says(fixture: CalicoFixture) -> list[str]:
    """Does what `ips check` names, until it says nothing of Calico any more; gives the commands.

    It must say it where a VM does not start, or would start with another address.
    """
    did: list[str] = []
    for _ in range(4):
        said = fixture.run("ips check").out
        hangs = bool(find(fixture.api, POD.ref("virt-launcher-web", fixture.namespace))) and not fixture.runs_with
        otherwise = fixture.assigned_otherwise
        assert not hangs or "cannot start" in said, said
        assert not otherwise or f"Calico would assign {otherwise} to VM {fixture.namespace}/web" in said, said
        lines = [line for line in said.splitlines() if "Calico would assign" in line or "IPAMHandle" in line]
        if not lines:
            return did
        (command,) = COMMAND.findall(lines[0])[-1:]
        did.append(command)
        if command.startswith("virtctl stop"):
            fixture.stop()
        else:
            yes = " --yes" if " gc " in command else ""
            fixture.done(command.removeprefix("kubectl yoshi ") + yes)
    raise AssertionError(f"it does not help: {did}")


@contextmanager
def open_fixtures(cluster: Cluster, folder: Path) -> Iterator[list[CalicoFixture]]:
    """Places side by side, each with a warm parent for its processes."""
    options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
    with ExitStack() as stack:
        found = []
        for number in NUMBERS:
            namespace = stack.enter_context(cluster.namespace(f"kills-{number}"))
            good = stack.enter_context(closing(Connection.open(options)))
            proxy = Proxy("", good)
            proxy.url = stack.enter_context(serving(proxy.answer))
            file = write_kubeconfig(folder / f"by-proxy-{number}", proxy.url)
            bad = stack.enter_context(closing(Connection.open(ConnectionOptions(kubeconfig=str(file)))))
            parent: ForkServer = stack.enter_context(fork_server())
            program = Yoshi(file, "it", parent, namespace)
            fixture = CalicoFixture(number, namespace, Api(good, clock=HastyClock()), proxy, bad, program)
            stack.callback(_clean_up, fixture)
            fixture.done(f"network create blue --cidr 10.{number}.0.0/24")
            found.append(fixture)
        yield found


def _clean_up(fixture: CalicoFixture) -> None:
    fixture.clear()
    fixture.done("network delete blue --force --yes")


def side_by_side(fixtures: Sequence[CalicoFixture], cells: Sequence[Cell]) -> tuple[list[str], list[str]]:
    """Plays each cell at a place that is free; gives what had to be done, and what went wrong."""
    left = iter(cells)
    did: list[str] = []
    wrong: list[str] = []

    def work(fixture: CalicoFixture) -> None:
        for one in left:
            try:
                did.extend(f"{one}: {command}" for command in check_cell(one, fixture))
            except Exception as error:
                wrong.append(f"{one}: {error!r}")
                print(wrong[-1], flush=True)

    with ThreadPoolExecutor(len(fixtures)) as pool:
        list(pool.map(work, fixtures))
    return did, wrong


@pytest.mark.timeout(1800)
def test_ipam_handles_match_blocks_after_a_kill_at_any_ipam_write(installed: Cluster, tmp_path: Path) -> None:
    with open_fixtures(installed, tmp_path) as found:
        for name, case in CASES.items():
            fixture = found[0]
            prepare(fixture, case)
            ran, schedule = fixture.killed(case.command)
            assert ran.code == case.code, str(ran)
            assert schedule.written == case.writes, f"{name}: {schedule.written} writes to IPAM"
        did, wrong = side_by_side(found, MATRIX)
    kills = {(one.name, one.at) for one in MATRIX}
    print(f"\n{len(kills)} kills of {len(CASES)} commands, then {len(THEN)}: {len(MATRIX)} cells, {len(wrong)} wrong")
    print(f"{len(did)} commands were needed that `ips check` named")
    assert not wrong, "\n".join(wrong)
