"""Commands killed by SIGKILL before and after every write to Calico's IPAM, and what people do next.

killed       vm attach --replace, --restart, vm detach, ips release, ips gc, ips rebuild; ips move writes nothing there
when         before an IPAMBlock or IPAMHandle is written, and when it is written and the answer is on its way
then         the same command, ips gc, sync, or the VM is started
afterwards   every handle counts what its blocks contain, and a VM runs with the address that is recorded for it. Where
             that is not so, `ips check` says it, and the command that it names makes it so.

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
from tests.cluster.command_fixture import HastyClock, run_here
from tests.cluster.fake_calico_cni import WithCalico, assign, find, handle_of, held
from tests.cluster.fake_kubevirt import PIN
from tests.cluster.harness import ForkServer, Ran, Yoshi, fork_server, vm
from tests.cluster.killing import run_killed
from tests.cluster.raw_state import Seen
from tests.cluster.scripted_fault_proxy import write_kubeconfig
from tests.cluster.seeded_fault_proxy import Fate, Kill, Proxy
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
    before: tuple[str | Callable[[Place], None], ...]
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
class Place:
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

    def killed(self, text: str, at: Moment = Moment(0, False)) -> tuple[Ran, Kill]:
        """A command in a process of its own, which is killed then."""
        return run_killed(self.program, self.proxy, self.words(text), at.write, IPAM, at.done)

    def run(self, text: str) -> Ran:
        """A command in this process."""
        self.proxy.fate = Fate()
        api = Api(self.bad, clock=HastyClock())
        api.__dict__["served"] = self.api.served
        return run_here(self.words(text), api, self.namespace)

    def done(self, text: str) -> Ran:
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
        seen = Seen(of(NETWORKWIZARD), [], of(VM), of(VMI), of(POD), ipam_blocks=blocks, ipam_handles=handles)
        found = violations(seen, [self.namespace], settled=settled)
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


def hold_a(place: Place) -> None:
    """Calico has given the VM what it is pinned to, and it has been stopped."""
    assign(place.api, handle_of(place.namespace, "web"), place.a)


def hold_two(place: Place) -> None:
    """As after a handle was deleted alone: it has an address of another block besides."""
    assign(place.api, handle_of(place.namespace, "web"), place.a, place.b.replace(".70", ".99"))


def run_it(place: Place) -> None:
    place.start()
    assert place.runs_with == place.a


def delete_vm(place: Place) -> None:
    place.api.delete(VM.ref("web", place.namespace))


def lose_record(place: Place) -> None:
    place.api.patch(NETWORKWIZARD.ref("blue", place.namespace), {"status": {"allocations": None}}, subresource="status")
    place.api.patch(NETWORKWIZARD.ref("blue", place.namespace), {"status": {"allocations": {}}}, subresource="status")


def half_release(place: Place) -> None:
    """As a release leaves it that is cut off between block and handle."""
    hold_a(place)
    for resource, obj in place.of_ipam():
        if resource == RAW.block:
            place.api.delete(resource.ref(obj["metadata"]["name"]))


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
    "rebuild of a half release": Case("ips rebuild --yes", (ATTACHED, half_release), 1),
    "move": Case("ips move {a} --to web", (ATTACHED, hold_a), 0, code=1),
}
THEN = ("same", "gc", "sync", "start")


@dataclass(frozen=True)
class One:
    """A cell of the matrix."""

    name: str
    at: Moment
    then: str

    def __str__(self) -> str:
        return f"{self.name}, killed {'after' if self.at.done else 'before'} write {self.at.write}, then {self.then}"


MATRIX = [
    One(name, Moment(write, done), then)
    for name, case in CASES.items()
    for write, done, then in product(range(1, case.writes + 1), (False, True), THEN)
]
MATRIX = [one for one in MATRIX if os.environ.get("YOSHI_KILL_CELLS", "") in str(one)]


def prepare(place: Place, case: Case) -> None:
    place.clear()
    for step in case.before:
        step(place) if callable(step) else place.done(step)


def judge_one(one: One, place: Place) -> list[str]:
    """Plays a cell; gives what had to be done because `ips check` said so."""
    case = CASES[one.name]
    prepare(place, case)
    ran, _ = place.killed(case.command, one.at)
    assert ran.killed, f"not killed: {ran}"
    if one.then == "start":
        place.start()
    else:
        again = {"same": case.command, "gc": GC, "sync": "sync"}[one.then]
        ran = place.run(again)
        assert ran.code == case.code, str(ran)
        assert "Traceback" not in ran.err
    found = [sentence for sentence in place.violations() if not sentence.startswith("I3")]
    if one.then == "start":  # nothing was repaired yet: that `ips check` says so is judged below
        found = [sentence for sentence in found if not sentence.startswith(("I5", "I10"))]
    assert not found, found
    repaired = as_check_says(place)
    assert not [sentence for sentence in place.violations() if sentence.startswith("I10")]
    if not place.runs_with:
        place.start()
    assert place.runs_with, "the VM does not start"
    assert place.runs_with == place.pin or not place.pin
    place.done(GC)
    said = place.run("ips check").out
    assert [sentence for sentence in place.violations(settled=True) if not is_reported(sentence, said)] == []
    return repaired


def is_reported(sentence: str, said: str) -> bool:
    """Whether it is that a new VM has got the address of an earlier one of its name, and `ips check` says so."""
    runs = re.match(r"I5 \S+ runs with (\S+), but \S+ has it for nobody", sentence)
    return (
        bool(runs) and re.search(rf"^{runs[1]} on .* uses? it, but it is not recorded", said, re.MULTILINE) is not None
    )


def as_check_says(place: Place) -> list[str]:
    """Does what `ips check` names, until it says nothing of Calico any more; gives the commands.

    It must say it where a VM does not start, or would start with another address.
    """
    did: list[str] = []
    for _ in range(4):
        said = place.run("ips check").out
        hangs = bool(find(place.api, POD.ref("virt-launcher-web", place.namespace))) and not place.runs_with
        otherwise = place.assigned_otherwise
        assert not hangs or "cannot start" in said, said
        assert not otherwise or f"Calico would assign {otherwise} to VM {place.namespace}/web" in said, said
        lines = [line for line in said.splitlines() if "Calico would assign" in line or "IPAMHandle" in line]
        if not lines:
            return did
        (command,) = COMMAND.findall(lines[0])[-1:]
        did.append(command)
        if command.startswith("virtctl stop"):
            place.stop()
        else:
            yes = " --yes" if " gc " in command else ""
            place.done(command.removeprefix("kubectl yoshi ") + yes)
    raise AssertionError(f"it does not help: {did}")


@contextmanager
def places(cluster: Cluster, folder: Path) -> Iterator[list[Place]]:
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
            place = Place(number, namespace, Api(good, clock=HastyClock()), proxy, bad, program)
            stack.callback(_take_away, place)
            place.done(f"network create blue --cidr 10.{number}.0.0/24")
            found.append(place)
        yield found


def _take_away(place: Place) -> None:
    place.clear()
    place.done("network delete blue --force --yes")


def side_by_side(places: Sequence[Place], cells: Sequence[One]) -> tuple[list[str], list[str]]:
    """Plays each cell at a place that is free; gives what had to be done, and what went wrong."""
    left = iter(cells)
    did: list[str] = []
    wrong: list[str] = []

    def work(place: Place) -> None:
        for one in left:
            try:
                did.extend(f"{one}: {command}" for command in judge_one(one, place))
            except Exception as error:
                wrong.append(f"{one}: {error!r}")
                print(wrong[-1], flush=True)

    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(work, places))
    return did, wrong


@pytest.mark.timeout(1800)
def test_whatever_write_to_ipam_a_command_is_killed_at_every_handle_counts_what_its_blocks_contain_in_the_end(
    installed: Cluster, tmp_path: Path
) -> None:
    with places(installed, tmp_path) as found:
        for name, case in CASES.items():
            place = found[0]
            prepare(place, case)
            ran, fate = place.killed(case.command)
            assert ran.code == case.code, str(ran)
            assert fate.written == case.writes, f"{name}: {fate.written} writes to IPAM"
        did, wrong = side_by_side(found, MATRIX)
    kills = {(one.name, one.at) for one in MATRIX}
    print(f"\n{len(kills)} kills of {len(CASES)} commands, then {len(THEN)}: {len(MATRIX)} cells, {len(wrong)} wrong")
    print(f"{len(did)} commands were needed that `ips check` named")
    assert not wrong, "\n".join(wrong)
