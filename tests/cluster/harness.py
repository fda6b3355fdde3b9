"""The program as real processes on a real API server, many at once, and killed if need be. It knows no backend.

A test asks for `yoshi`; `yoshi.run(…)` is one process, `yoshi.together(…)` are many that begin at the same moment.
An interpreter takes half a second of CPU to start, and starting 24 of them spreads them over seconds, so that they
hardly meet. Therefore a warm parent, this very module run as a program, has imported everything and forks a child
per run; the child is the program with its own memory and its own connections, waits for the others to be there too,
and is killed by SIGKILL when its time is up. `Yoshi.alone` starts an interpreter of its own instead.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lab.api import MERGE_PATCH, NOT_FOUND, ApiError
from lab.testing import Cluster
from tests.waiting import wait_for

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent.parent
CONFLICT = 409
JSON_PATCH = "application/json-patch+json"
ATTACHED = re.compile(r"attached to \S+: (\S+)( \(unchanged\))?$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """A command to run.

    Attributes:
        args: the words after the program's name.
        kill_after: seconds until SIGKILL; None for never.
        wait: seconds after the others' start.
        input: stdin.
        version: another version of the program (see other_versions.py); "" for this one.
    """

    args: tuple[str, ...]
    kill_after: float | None = None
    wait: float = 0.0
    input: str = ""
    version: str = ""


@dataclass(frozen=True)
class CommandResult:
    """The result of a command.

    Attributes:
        args: the words after the program's name.
        code: exit code; -9 where it was killed.
        out, err: what it printed.
        seconds: how long it took.
    """

    args: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Return whether the command was killed by SIGKILL."""
        return self.code == -signal.SIGKILL

    def __str__(self) -> str:
        said = "".join(f"\n  {line}" for line in (self.out + self.err).splitlines())
        return f"kubectl yoshi {' '.join(self.args)}: exit {self.code} after {self.seconds:.2f} s{said}"


def reported_address(ran: CommandResult) -> str:
    """Return the address that the attach of a single VM printed."""
    assert ran.code == 0, str(ran)
    found = ATTACHED.search(ran.out)
    assert found, str(ran)
    return found.group(1)


@dataclass
class Yoshi:
    """The program, run with a kubeconfig.

    Attributes:
        kubeconfig, context: whose.
        namespace: of the context ("" for the kubeconfig's own).
        server: the warm parent.
    """

    kubeconfig: Path
    context: str
    server: ForkServer
    namespace: str = ""

    def words(self, *args: str) -> tuple[str, ...]:
        """Return the command line with the flags for cluster and namespace."""
        where = (f"--kubeconfig={self.kubeconfig}", f"--context={self.context}")
        return (*where, *((f"--namespace={self.namespace}",) if self.namespace else ()), *args)

    def within(self, namespace: str) -> Yoshi:
        """Return the same program in another namespace."""
        return Yoshi(self.kubeconfig, self.context, self.server, namespace)

    def run(self, *args: str, input: str = "", kill_after: float | None = None, version: str = "") -> CommandResult:
        """One process."""
        return self.together(Run(args, kill_after, input=input, version=version))[0]

    def done(self, *args: str, input: str = "", code: int = 0, version: str = "") -> str:
        """Run one process that must end with this exit code; return its stdout."""
        ran = self.run(*args, input=input, version=version)
        assert ran.code == code, str(ran)
        return ran.out

    def refused(self, *args: str, code: int = 1, input: str = "") -> str:
        """Run one process that must fail with at most five lines and no traceback; return its stderr."""
        ran = self.run(*args, input=input)
        assert ran.code == code, str(ran)
        assert ran.err.startswith("error: ") or "\nerror: " in ran.err, str(ran)
        assert len(ran.err.splitlines()) <= 5, str(ran)
        assert "Traceback" not in ran.err, str(ran)
        assert "internal error" not in ran.err, str(ran)
        return ran.err

    def together(self, *runs: Run | Sequence[str]) -> list[CommandResult]:
        """Run processes that start at the same moment; return their results in the same order."""
        wanted = [run if isinstance(run, Run) else Run(tuple(run)) for run in runs]
        return self.server.run([(run, self.words(*run.args)) for run in wanted])

    def program(self, *args: str) -> list[str]:
        """Return the words that start the program in an interpreter of its own."""
        return [sys.executable, "-m", "kubectl_yoshi", *self.words(*args)]

    def alone(self, *args: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start one process with an interpreter of its own, as a user does."""
        return subprocess.Popen(
            self.program(*args),
            cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@dataclass
class ForkServer:
    """The parent process with all modules imported, which forks commands. Use one from one thread at a time."""

    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, wanted: Iterable[tuple[Run, tuple[str, ...]]]) -> list[CommandResult]:
        """Runs them side by side; each Run with its whole command line."""
        wanted = list(wanted)
        assert self.process.stdin
        assert self.process.stdout
        asked = [{**asdict(run), "args": words} for run, words in wanted]
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the parent of the test's processes ended with {self.process.wait()}"
        return [CommandResult(run.args, **told) for (run, _), told in zip(wanted, json.loads(answer), strict=True)]

    def kill(self) -> None:
        """Kill the one process that it runs, while another thread waits for it."""
        parent = self.process.pid
        (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)

    def close(self) -> None:
        """End the parent, and with it what it runs."""
        if self.process.stdin and self.process.poll() is None:
            self.process.stdin.close()
        self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    """Open a fork server."""
    server = ForkServer()
    try:
        yield server
    finally:
        server.close()


# -- objects ---------------------------------------------------------------------------------------------------------


def get(cluster: Cluster, kinds: str, name: str = "", *, namespace: str = "", field_selector: str = "") -> Json:
    """Return what `kubectl get … -o json` prints: an object, or the list of all of these kinds ("services,pods").

    Without a namespace those of all namespaces are listed.
    """
    if name:
        return _plain(cluster.api.get(cluster.api.find_resource(kinds).path(namespace, name)))
    query = f"?fieldSelector={quote(field_selector)}" if field_selector else ""
    items = []
    for kind in kinds.split(","):
        found = cluster.api.get(cluster.api.find_resource(kind).path(namespace) + query)
        what = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
        items += [_plain({**what, **item}) for item in found["items"]]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def find(cluster: Cluster, kind: str, name: str, *, namespace: str = "") -> Json | None:
    """Return an object; None if it does not exist."""
    try:
        return get(cluster, kind, name, namespace=namespace)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return None


def make(cluster: Cluster, *objects: Json) -> list[Json]:
    """Create objects; return them as stored. An unknown field is an error."""
    return [_plain(cluster.api.post(f"{_collection(cluster, obj)}?fieldValidation=Strict", obj)) for obj in objects]


def ensure(cluster: Cluster, *objects: Json) -> None:
    """Create objects unless they exist."""
    for obj in objects:
        try:
            make(cluster, obj)
        except ApiError as error:
            if error.status != CONFLICT:
                raise


def wait_for_role(cluster: Cluster, user: str, namespace: str) -> None:
    """Wait until the API server applies a role binding that lets a user list networks, which takes it a moment."""
    wait_for(lambda: _can_list_networks(cluster, user, namespace), f"the API server knows the role of {user}")


def _can_list_networks(cluster: Cluster, user: str, namespace: str) -> bool:
    attributes = {"verb": "list", "group": "plumber.k8s.pf9.io", "resource": "networkwizards", "namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    spec = {"user": user, "resourceAttributes": attributes}
    answer = cluster.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {**review, "spec": spec})
    return bool(answer["status"]["allowed"])


def patch(
    cluster: Cluster, kind: str, name: str, body: Json | list[Json], *, namespace: str = "", subresource: str = ""
) -> Json:
    """Send a merge patch, or a JSON Patch if the body is a list; return the new object."""
    content = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
    path = cluster.api.find_resource(kind).path(namespace, name, subresource)
    return _plain(cluster.api.patch(path, body, content))


def delete(cluster: Cluster, kind: str, *names: str, namespace: str = "", cascade: str = "Background") -> None:
    """Delete objects and wait until they are gone, as `kubectl delete --ignore-not-found` does.

    Args:
        cascade: Background, Foreground or Orphan.
    """
    resource = cluster.api.find_resource(kind)
    uids = {}
    for name in names:
        try:
            found = cluster.api.delete(resource.path(namespace, name), {"propagationPolicy": cascade})
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            continue
        uids[name] = found["details"]["uid"] if found["kind"] == "Status" else found["metadata"]["uid"]

    def is_gone(name: str) -> bool:
        now = find(cluster, kind, name, namespace=namespace)
        return now is None or now["metadata"]["uid"] != uids[name]

    for name in uids:
        wait_for(partial(is_gone, name), f"{kind}/{name} is gone")


def delete_all(
    cluster: Cluster, *kinds: str, namespace: str = "", label: str = "", cascade: str = "Background"
) -> None:
    """Delete every object of these kinds with the label, "key=value", and wait until they are gone."""
    query = f"?labelSelector={quote(label)}" if label else ""
    for kind in kinds:
        items = cluster.api.get(cluster.api.find_resource(kind).path(namespace) + query)["items"]
        names = [item["metadata"]["name"] for item in items]
        delete(cluster, kind, *names, namespace=namespace, cascade=cascade)


def _collection(cluster: Cluster, obj: Json) -> str:
    return cluster.api.find_kind(obj["apiVersion"], obj["kind"]).path(obj["metadata"].get("namespace", "default"))


def _plain(obj: Json) -> Json:
    """Return an object as kubectl shows it."""
    obj["metadata"].pop("managedFields", None)
    return obj


def wizard(namespace: str, name: str, **spec: object) -> Json:
    """Return a NetworkWizard as somebody writes it for kubectl."""
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard", "metadata": metadata, "spec": spec}


def vm(namespace: str, name: str, **changes: Any) -> Json:
    """Return a halted VirtualMachine of KubeVirt.

    Args:
        namespace, name: its own.
        changes: labels, annotations, template_annotations; interfaces and networks of the template; run_strategy; all
            else goes into its spec.
    """
    template: Json = {"spec": {"domain": {"devices": {}}}}
    if annotations := changes.pop("template_annotations", None):
        template["metadata"] = {"annotations": annotations}
    if interfaces := changes.pop("interfaces", None):
        template["spec"]["domain"]["devices"]["interfaces"] = interfaces
    if networks := changes.pop("networks", None):
        template["spec"]["networks"] = networks
    metadata = {"name": name, "namespace": namespace}
    metadata |= {key: changes.pop(key) for key in ("labels", "annotations") if key in changes}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": {"runStrategy": changes.pop("run_strategy", "Halted"), "template": template, **changes},
    }


def make_vms(cluster: Cluster, namespace: str, *names: str, **changes: Any) -> list[Json]:
    """Create VMs with the same spec."""
    return make(cluster, *(vm(namespace, name, **changes) for name in names))


def resource_versions(cluster: Cluster, namespace: str, *kinds: str) -> dict[str, str]:
    """Return "kind/name" -> resourceVersion of every object of these kinds in a namespace ("" for all).

    Without the ConfigMap that Kubernetes itself creates in every namespace, a moment after it.
    """
    found = get(cluster, ",".join(kinds), namespace=namespace)
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in found["items"]
        if item["metadata"]["name"] != "kube-root-ca.crt"
    }


# -- the warm parent -------------------------------------------------------------------------------------------------


def serve() -> None:
    """Read lines of JSON until stdin ends; run the commands of each and print their results."""
    import pkgutil

    import kubectl_yoshi
    from kubectl_yoshi.kube.slim_import import import_client_modules

    for module in pkgutil.walk_packages(kubectl_yoshi.__path__, "kubectl_yoshi."):
        if module.name != "kubectl_yoshi.__main__":
            __import__(module.name)
    import_client_modules()
    for line in sys.stdin:
        print(json.dumps(_run_all(json.loads(line))), flush=True)


def _run_all(wanted: list[Json]) -> list[Json]:
    with tempfile.TemporaryDirectory() as folder:
        gate, open_gate = os.pipe()
        children: dict[int, tuple[int, float | None]] = {}  # pid -> place, when to kill it
        pids = []
        for place, one in enumerate(wanted):
            (Path(folder) / f"{place}.in").write_text(one["input"])
            for name in ("out", "err"):  # here, as a child may be killed before it has done anything
                (Path(folder) / f"{place}.{name}").touch()
            pid = os.fork()
            if pid == 0:
                os.close(open_gate)
                _child(one, gate, Path(folder), place)
            pids.append(pid)
        os.close(gate)
        os.close(open_gate)
        start = time.monotonic()
        for place, (pid, one) in enumerate(zip(pids, wanted, strict=True)):
            after = one["kill_after"]
            children[pid] = place, None if after is None else start + one["wait"] + after
        ended = _wait_for(children)
        return [
            {
                "code": ended[pid][0],
                "seconds": ended[pid][1] - start - one["wait"],
                "out": (Path(folder) / f"{place}.out").read_text(errors="replace"),
                "err": (Path(folder) / f"{place}.err").read_text(errors="replace"),
            }
            for place, (pid, one) in enumerate(zip(pids, wanted, strict=True))
        ]


def _wait_for(children: dict[int, tuple[int, float | None]]) -> dict[int, tuple[int, float]]:
    """Kill each child when its time is up; return its exit code and when it ended."""
    ended: dict[int, tuple[int, float]] = {}
    while len(ended) < len(children):
        now = time.monotonic()
        for pid, (_, kill_at) in children.items():
            if pid not in ended and kill_at is not None and kill_at <= now:
                os.kill(pid, signal.SIGKILL)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            ended[pid] = os.waitstatus_to_exitcode(status), time.monotonic()
        else:
            select.select([], [], [], 0.002)
    return ended


def _child(one: Json, gate: int, folder: Path, place: int) -> None:
    code = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / f"{place}.{name}", os.O_WRONLY), number)
        os.dup2(os.open(folder / f"{place}.in", os.O_RDONLY), 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the program's own, for all its life
        if one["version"]:
            from tests.cluster.other_versions import become

            become(one["version"])
        os.read(gate, 1)
        time.sleep(one["wait"])
        from kubectl_yoshi.__main__ import run

        code = run(list(one["args"]), "kubectl yoshi")
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
