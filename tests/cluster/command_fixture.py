"""A namespace with VMs in which commands are run in this process, and compared with their expected results.

Starting a process costs more than a command; a thread has a fixture of its own, so that many run side by side. `state`
says what there is without what differs from run to run: uids, versions, times, and which address it was.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, NAD, TEMPLATE
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.cli.errors import run_reporting_errors
from kubectl_yoshi.cli.session import SESSION_KEY, Session
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions, HttpRequest
from kubectl_yoshi.kube.retry import Clock
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Resource, name_of
from kubectl_yoshi.model.vm import POD, VM, VMI
from kubectl_yoshi.plan.release import RELEASED_AT_ANNOTATION
from lab.testing import Cluster
from tests.cluster import shared_bgp
from tests.cluster.checker import is_of_handles, violations
from tests.cluster.fake_kubevirt import Kubevirt
from tests.cluster.harness import CommandResult, ensure, vm
from tests.cluster.raw_state import CONFIGMAPS, SERVICES, RawState
from tests.cluster.scripted_fault_proxy import write_kubeconfig
from tests.cluster.seeded_fault_proxy import FaultSchedule, Proxy, is_read, proxy

NAMESPACED = (NETWORKWIZARD, ADDRESSBLOCK, VM, VMI, SERVICE, NAD, CONFIGMAP, DHCPSERVER, TEMPLATE)
METALLB = "metallb-system"
ELSEWHERE = ((RAW.pool, ""), (metallb.POOL, METALLB), (metallb.L2_ADVERTISEMENT, METALLB), (RAW.bgp_peer, ""),
             (RAW.block, ""), (RAW.handle, ""))  # fmt: skip
"""What is outside the fixture's namespace, and bears its namespace or addresses in its name."""

AGE = re.compile(r"\b\d+[smhd]\b")
ANY_ADDRESS = re.compile(r"<ip>\.\d+\.\d+|<[^<>]*address of [^<>]*>")
NAMED_UID = re.compile(r"<uid of [^<>]*>")
OTHERS = re.compile(r"faults-\d+-")
UID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

HASTE = 0.05
"""How much of a wait is waited: the server's "after a second" is obeyed, only quicker."""
VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)")
INVARIANT = re.compile(r"I\d+ ")
MAC = re.compile(r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b")
DHCP_RANGE = re.compile(r'dhcp-range=set:\d+(,10(\.\d+){3}){2}|"range_(start|end)": "10(\.\d+){3}"')
"""Its ends may be addresses that VMs have, and are the same for any owner."""
CHOSEN = re.compile(r"(?<=-)[0-9a-f]{8}\b|\b10\.96\.\d+\.\d+\b")
"""Digests in names, and what the API server chooses for a Service."""


class WriteLog:
    """A connection that notes the writes that it sends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.writes: list[str] = []

    def send(self, request: HttpRequest) -> Any:
        described = f"{request.method} {request.path}"
        if not is_read(described):
            self.writes.append(described)
        return self._connection.send(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class HastyClock(Clock):
    """A clock that waits a fraction of each sleep."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds * HASTE)


@dataclass
class CommandFixture:
    """A namespace in which commands are run. Use one from one thread.

    Attributes:
        number: tells it from others: its addresses are those of 10.<number>.0.0/16.
        namespace: its own, in which VMs web-1 to web-3 are made.
        good: the API server.
        proxy: a server before it that fails by rules.
        bad: the way by the proxy.
        by_proxy: the kubeconfig of that way, for processes of their own.
        folder: for files.
        fixed: addresses that are distinguished, since somebody asked for them by name.
        prepared: what was made before a command that only looked, and is there still; None where that is not known.
        writes: what the last command sent, besides reads.
        names: uid -> what it is called instead where runs are compared.
    """

    number: int
    namespace: str
    good: Connection
    proxy: Proxy
    bad: Connection
    by_proxy: Path
    folder: Path
    fixed: Sequence[str] = ()
    prepared: object = None
    writes: Sequence[str] = ()
    names: dict[str, str] = field(default_factory=dict)

    @cached_property
    def api(self) -> Api:
        """Return the client that tests read and write with."""
        return Api(self.good, clock=HastyClock())

    def words(self, text: str) -> str:
        """Return a command line with this fixture's names: {ns}, {ip} for "10.<number>", {n} for the number, {tmp}."""
        named = {"{ns}": self.namespace, "{ip}": self.prefix, "{n}": str(self.number), "{tmp}": str(self.folder)}
        for word, instead in named.items():
            text = text.replace(word, instead)
        return text

    @property
    def prefix(self) -> str:
        """Return the first half of its addresses."""
        return f"10.{self.number}"

    # -- commands ------------------------------------------------------------------------------------------------

    def run(self, text: str, schedule: FaultSchedule | None = None) -> CommandResult:
        """Run a command directly, or under these faults. Where VMs run, requests go through the fake KubeVirt."""
        words = shlex.split(self.words(text))
        if schedule is None and self.proxy.kubevirt:
            schedule = FaultSchedule()
        if schedule is None:
            connection = WriteLog(self.good)
            api = Api(connection, clock=HastyClock())  # type: ignore[arg-type]
            api.__dict__["served"] = self.api.served
            ran = run_in_process(words, api, self.namespace)
            self.writes = connection.writes
            return ran
        self.proxy.schedule = schedule
        self.proxy.late_calls.clear()
        ran = run_in_process(words, Api(self.bad, clock=HastyClock()), self.namespace)
        self.writes = schedule.writes
        return ran

    def done(self, text: str) -> CommandResult:
        """Run a command that must succeed."""
        ran = self.run(text)
        assert ran.code == 0, str(ran)
        return ran

    # -- what there is -------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Delete everything and recreate the VMs."""
        for obj in self.api.list(NETWORKWIZARD, self.namespace):
            self.names[obj["metadata"]["uid"]] = ""
            if obj["metadata"].get("finalizers"):
                self.api.patch(NETWORKWIZARD.ref(name_of(obj), self.namespace), {"metadata": {"finalizers": None}})
        for resource, namespace, obj in self._elsewhere():
            self._raw("DELETE", resource.path(namespace, name_of(obj)))
        for resource in (*NAMESPACED, POD):
            self._raw("DELETE", resource.path(self.namespace))
        shared_bgp.clear(self.api, f"{self.prefix}.", self.names)
        self.proxy.kubevirt = None
        self.names.clear()
        for name in ("web-1", "web-2", "web-3"):
            self.make_vm(name)

    def remember_uids(self) -> None:
        """Note whose uids those of the networks and VMs are; `state` calls them by that when they are deleted, too."""
        for resource in (NETWORKWIZARD, VM):
            for obj in self.api.list(resource, self.namespace):
                self.names[obj["metadata"]["uid"]] = f"<uid of {resource.kind} {name_of(obj)}>"

    def make_vm(self, name: str, **changes: Any) -> Json:
        """Create a VM with foreign fields."""
        foreign = {"labels": {"app": "web"}, "template_annotations": {"example.com/theirs": "stay"}}
        obj = vm(self.namespace, name, **{**foreign, **changes})
        return self.api.create(VM.ref(name, self.namespace), obj)

    def play_kubevirt(self) -> Kubevirt:
        """Start the fake KubeVirt: until the next `clear`, VMs run as their run strategy says."""
        self.proxy.kubevirt = Kubevirt(self.api)
        return self.proxy.kubevirt

    def _elsewhere(self) -> Iterator[tuple[Resource, str, Json]]:
        mine = f"{self.namespace}.", f"yoshi-{self.prefix}.", f"{self.prefix.replace('.', '-')}-"
        for resource, namespace in ELSEWHERE:
            for obj in self.api.list(resource, namespace):
                if name_of(obj).startswith(mine) or f".{self.namespace}." in name_of(obj):
                    yield resource, namespace, obj

    def _raw(self, method: str, path: str, body: Any = None) -> None:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        data = json.dumps(body).encode() if body else None
        response = self.good.send(HttpRequest(method, path, headers, data))
        assert response.status < 300 or response.status == 404, response.data

    def objects(self) -> list[Json]:
        """Return all objects that commands create or change here."""
        found = [obj for resource in NAMESPACED for obj in self.api.list(resource, self.namespace)]
        found += [obj for _, _, obj in self._elsewhere()]
        networks = {obj["metadata"]["uid"] for obj in found if obj["kind"] == NETWORKWIZARD.kind}
        part = shared_bgp.part_of(shared_bgp.find(self.api), f"{self.prefix}.", networks | {*self.names})
        return [obj for obj in [*found, *([part] if part else [])] if name_of(obj) != "kube-root-ca.crt"]

    def raw_state(self, objects: Sequence[Json]) -> RawState:
        """Return the state that the invariants are checked on."""

        def of(resource: Resource) -> list[Json]:
            return [obj for obj in objects if obj["kind"] == resource.kind]

        return RawState(
            of(NETWORKWIZARD),
            of(ADDRESSBLOCK),
            of(VM),
            of(VMI),
            list(self.api.list(POD, self.namespace)),
            None,
            {SERVICES: of(SERVICE), CONFIGMAPS: of(CONFIGMAP)},
            of(RAW.block),
            of(RAW.handle),
        )

    def violations(self, *, settled: bool = False, objects: Sequence[Json] | None = None) -> list[str]:
        """Return the violated invariants of these objects, by default of the current ones.

        A run that failed may leave a VM a second record, which it does not carry, and one of Calico's handles between
        its block's write and its own. Counters are no invariant: the next writer fixes them.
        """
        found = violations(
            self.raw_state(self.objects() if objects is None else objects), [self.namespace], settled=settled
        )
        found = [one for one in found if INVARIANT.match(one)]
        found = [one for one in found if settled or not is_of_handles(one)]
        return [one for one in found if settled or not one.startswith("I3") or "carries" in one]

    def check(self, known: Sequence[str] = (), *, settled: bool = False, objects: Sequence[Json] | None = None) -> None:
        """Fail if an invariant is violated that was not violated before."""
        found = [one for one in self.violations(settled=settled, objects=objects) if one not in known]
        assert not found, "\n".join(found)

    def state(self, objects: Sequence[Json] | None = None) -> dict[str, str]:
        """Return "Kind name" -> its content, without what differs between runs."""
        objects = self.objects() if objects is None else objects
        for obj in objects:
            self.names[obj["metadata"]["uid"]] = f"<uid of {obj['kind']} {name_of(obj)}>"
        holders = self._holders(objects)
        found = {}
        blocks = [obj for obj in objects if obj["kind"] == ADDRESSBLOCK.kind]
        for obj in [*_one_of_many(blocks), *(obj for obj in objects if obj not in blocks)]:
            alike = json.loads(self.alike(json.dumps(_lasting(obj)), holders))
            found[self.alike(f"{obj['kind']} {name_of(obj)}", holders)] = json.dumps(alike, sort_keys=True, indent=1)
        return dict(sorted(found.items()))

    def said(self, ran: CommandResult) -> list[str]:
        """Return the sorted lines that a command printed, without ages, addresses and what else differs between runs.

        Those on other fixtures' things are left out: what they leave behind, anybody's `ips gc` and `sync` take away.
        """
        text = self.alike(ran.out, {address: address for address in self.fixed})
        text = text.replace('"<mac>"', "<mac>")  # YAML has those in quotes that look like a number
        lines = ANY_ADDRESS.sub("<address>", NAMED_UID.sub("<uid>", AGE.sub("<age>", text))).splitlines()
        return sorted(" ".join(line.split()) for line in lines if not OTHERS.search(line))

    def versions(self, objects: Sequence[Json] | None = None) -> dict[str, str]:
        """Return "Kind name" -> resourceVersion, or the content of an object that others write to as well.

        What Kubernetes takes away because its owner is gone, whenever it comes to that, is left out.
        """
        objects = self.objects() if objects is None else objects
        uids = {obj["metadata"]["uid"] for obj in objects}
        return {
            f"{obj['kind']} {name_of(obj)}": obj["metadata"].get("resourceVersion") or json.dumps(obj, sort_keys=True)
            for obj in objects
            if {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()} <= uids
        }

    def alike(self, text: str, holders: Mapping[str, str]) -> str:
        """Return a text without what differs between fixtures and runs."""
        text = TIME.sub("<time>", MAC.sub("<mac>", text))
        text = DHCP_RANGE.sub(lambda m: m[0].replace(f"{self.prefix}.", "<ip>."), text)
        for uid, name in self.names.items():
            text = text.replace(uid, name)
        text = UID.sub("<uid of what is gone>", text)
        text = re.sub(rf"{self.prefix}(\.\d+\.\d+)(?!\d)", lambda m: holders.get(m[0], m[0]), text)
        text = text.replace(self.prefix.replace(".", "-"), "<ip>").replace(f"{self.prefix}.", "<ip>.")
        text = text.replace(self.namespace, "<ns>").replace(str(self.folder), "<tmp>")
        return CHOSEN.sub("<any>", text).replace(f"br{self.number}", "<bridge>").replace(f"eth{self.number}", "<nic>")

    def _holders(self, objects: Sequence[Json]) -> dict[str, str]:
        """Return address -> owner, for addresses that were not requested by name."""
        found = {}
        for obj in objects:
            network = (obj.get("spec") or {}).get("network") or name_of(obj)
            if obj["kind"] in (NETWORKWIZARD.kind, ADDRESSBLOCK.kind):
                for address, record in ((obj.get("status") or {}).get("allocations") or {}).items():
                    if isinstance(record, dict) and record.get("kind") == VM.kind:
                        found[address] = f"<address of {record['name']} on {network}>"
        return {address: holder for address, holder in found.items() if address not in self.fixed}


def _one_of_many(blocks: Sequence[Json]) -> Iterator[Json]:
    """Yield the AddressBlocks of each network as one object: which ones they are depends on chance."""
    for network in sorted({block["spec"]["network"] for block in blocks}):
        mine = [block for block in blocks if block["spec"]["network"] == network]
        statuses = [block["status"] for block in mine if (block.get("status") or {}).get("allocations")]
        if not statuses:
            continue  # an empty one goes with the next write, or with its network
        metadata = {key: part for key, part in mine[0]["metadata"].items() if key != "name"}
        yield {
            "kind": ADDRESSBLOCK.kind,
            "metadata": {**metadata, "name": f"of {network}"},
            "allocations": {key: record for one in statuses for key, record in one["allocations"].items()},
        }


def _lasting(obj: Json) -> Json:
    kept = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    volatile = {
        "spec": ["healthCheckNodePort"],
        "status": ["size", "used", "free", "usePercent", "countedAt", "history", "contendedAt", "reservedForVMs"],
    }
    for part, field_names in volatile.items():
        if part in kept:
            kept[part] = {key: value for key, value in kept[part].items() if key not in field_names}
    if "binaryData" in kept:
        kept["binaryData"] = {key: base64.b64decode(text).decode() for key, text in kept["binaryData"].items()}
    kept["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in VOLATILE}
    annotations = kept["metadata"].pop("annotations", None) or {}
    if kept_annotations := {key: text for key, text in annotations.items() if key != RELEASED_AT_ANNOTATION}:
        kept["metadata"]["annotations"] = kept_annotations
    return kept


@contextmanager
def open_fixtures_with_foreign_bgp(
    cluster: Cluster, numbers: Sequence[int], folder: Path
) -> Iterator[list[CommandFixture]]:
    """Open fixtures on a cluster with MetalLB's namespace and foreign entries in its BGPConfiguration."""
    ensure(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": METALLB}})
    with open_fixtures(cluster, numbers, folder) as found:
        shared_bgp.create_foreign_entries(found[0].api)
        yield found
        for fixture in found:
            fixture.clear()
        shared_bgp.delete_foreign_entries(found[0].api)


@contextmanager
def open_fixtures(cluster: Cluster, numbers: Sequence[int], folder: Path) -> Iterator[list[CommandFixture]]:
    """Open several fixtures on one cluster.

    The proxies have the administrator's credentials, and who asks them needs none.
    """
    options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
    with ExitStack() as stack:
        found = []
        for number in numbers:
            namespace = stack.enter_context(cluster.namespace(f"faults-{number}"))
            good = stack.enter_context(closing(Connection.open(options)))
            bad_way = stack.enter_context(proxy(cluster))
            bad_way.known = {
                namespace: "<ns>",
                f"10.{number}.": "<ip>.",
                f"/10-{number}-": "/<ip>-",
                f"br{number}": "<bridge>",
            }
            file = write_kubeconfig(folder / f"by-proxy-{number}", bad_way.url)
            bad = stack.enter_context(closing(Connection.open(ConnectionOptions(kubeconfig=str(file)))))
            files = folder / f"seat-{number}"
            files.mkdir()
            found.append(CommandFixture(number, namespace, good, bad_way, bad, file, files))
        yield found


def side_by_side(
    fixtures: Sequence[CommandFixture], jobs: Sequence[Callable[[CommandFixture], None]]
) -> list[BaseException]:
    """Run each job on a free fixture; return the errors."""
    left = iter(jobs)
    wrong: list[BaseException] = []

    def work(fixture: CommandFixture) -> None:
        for job in left:
            try:
                job(fixture)
            except Exception as error:
                wrong.append(error)

    with ThreadPoolExecutor(len(fixtures)) as pool:
        list(pool.map(work, fixtures))
    return wrong


def run_in_process(words: Sequence[str], api: Api, namespace: str) -> CommandResult:
    """Run the program in this process and thread."""
    out, err = io.StringIO(), io.StringIO()
    session = Session({"namespace": namespace}, out=out, err=err, api=api)
    session.is_diff = words[0] == "diff"  # which tells a session that is still to be made

    roots = []

    def do() -> int:
        root = cli.make_context("kubectl yoshi", list(words))
        roots.append(root)
        root.meta[SESSION_KEY] = session
        with root:
            cli.invoke(root)
        return 0

    code = run_reporting_errors(do, err=err, verbosity=lambda: 0, root=lambda: roots[0] if roots else None)
    return CommandResult(tuple(words), code, out.getvalue(), err.getvalue(), 0.0)
