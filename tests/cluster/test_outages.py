"""The API server killed by SIGKILL while many VMs are attached, or detached, or synced by `sync --watch`, and started
again, during the command or after it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import lab
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.model.vm import VM
from lab.testing import Cluster
from tests.cluster.admission import Admission, admission
from tests.cluster.checker import check, violations
from tests.cluster.harness import ForkServer, Yoshi, get, make, make_vms, wizard
from tests.cluster.raw_state import read_raw_state
from tests.cluster.request_gate import RequestGate
from tests.cluster.watching import watching
from tests.waiting import wait_for

pytestmark = [pytest.mark.I1, pytest.mark.I2]

MANY = 100
SOME = 20
"""So many VMs are changed when the API server is killed."""
PIN = "cni.projectcalico.org/ipAddrs"
NAMESPACE = "default"
SECONDS = 300.0
"""How long a run may take on a busy machine."""
UNSURE = ("Done before the error", "Outcome unknown", "may or may not")


@dataclass(frozen=True)
class OutageFixture:
    """A lab of the test's own, with network big and VMs that can be attached to it."""

    lab: lab.Lab
    cluster: Cluster
    yoshi: Yoshi
    api: Api
    admission: Admission

    def attached(self) -> int:
        """How many VMs carry an address."""
        found = self.api.list(VM, NAMESPACE)
        return sum(PIN in obj["spec"]["template"].get("metadata", {}).get("annotations", {}) for obj in found)

    @contextmanager
    def in_the_middle(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """A run of which some VMs are changed, and others wait in the API server; they go on when the block ends."""
        self.admission.gate = gate = RequestGate(SOME)
        process = self.yoshi.alone(*command)
        try:
            wait_for(lambda: gate.is_reached(0.05) or process.poll() is not None, "it is in the middle")
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            gate.open()


@pytest.fixture(scope="module")
def fixture(
    request: pytest.FixtureRequest, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OutageFixture]:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("kills the API server, so it needs a lab of its own")
    with lab.start() as running:
        cluster = Cluster(running.kubeconfig, "lab")
        yoshi = Yoshi(cluster.kubeconfig, cluster.context, forks, NAMESPACE)
        yoshi.done("install")
        yoshi.done("network", "create", "big", "--cidr", "10.133.0.0/20")
        make_vms(cluster, NAMESPACE, *(f"db-{number}" for number in range(MANY)), labels={"app": "db"})
        options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
        folder = tmp_path_factory.mktemp("admission")
        with closing(Connection.open(options)) as connection, admission(cluster, folder, NAMESPACE, "db-0") as webhook:
            yield OutageFixture(running, cluster, yoshi, Api(connection), webhook)


@pytest.mark.parametrize(
    ("command", "comes_back"), [("attach", True), ("detach", False)], ids=["comes-back", "stays-away"]
)
def test_command_interrupted_by_an_api_server_outage_is_completed_by_a_second_run(
    fixture: OutageFixture, command: str, comes_back: bool
) -> None:
    selected = ("-l", "app=db", "--network", "big")
    words, wanted = ("vm", command, *selected), MANY if command == "attach" else 0
    fixture.yoshi.done("vm", "detach" if command == "attach" else "attach", *selected)
    with fixture.in_the_middle(*words) as process:
        fixture.lab.kill_api_server()
    if comes_back:
        fixture.lab.restart_api_server()
    out, err = process.communicate(timeout=SECONDS)
    if not comes_back:
        fixture.lab.restart_api_server()
    told = f"kubectl yoshi {' '.join(words)}: exit {process.returncode}\n{out}{err}"
    check_told(process.returncode, out, err, told)
    assert not [
        one for one in violations(read_raw_state(fixture.cluster, [NAMESPACE]), [NAMESPACE]) if not is_spare(one)
    ], told
    if process.returncode == 0:
        assert fixture.attached() == wanted, told
    assert len(fixture.yoshi.done(*words).splitlines()) == MANY
    assert fixture.attached() == wanted
    fixture.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    check(fixture.cluster, NAMESPACE, settled=True)


def check_told(code: int, out: str, err: str, told: str) -> None:
    """Every VM has a line, or one error tells what was done."""
    assert code in (0, 1), told
    assert "Traceback" not in err, told
    assert "internal error" not in err, told
    lines = [line for line in (out + err).splitlines() if line.startswith(("virtualmachine", f"error: {NAMESPACE}/"))]
    assert len(lines) == MANY or (code == 1 and any(words in err for words in UNSURE)), told


def is_spare(sentence: str) -> bool:
    """A VM may have a second record for a while, of which it carries nothing."""
    return sentence.startswith("I3") and "carries" not in sentence


def test_sync_watch_survives_an_api_server_outage(fixture: OutageFixture, tmp_path: Path) -> None:
    cluster = fixture.cluster
    with cluster.namespace() as namespace, watching(cluster.kubeconfig, tmp_path, "-A") as watcher:
        make(cluster, wizard(namespace, "blue", plugin="calico", cidr="10.134.0.0/24"))
        wait_for(lambda: watcher.said("is ready"), "the network is made")
        fixture.lab.kill_api_server()
        wait_for(lambda: watcher.complained("it is retried until it succeeds"), "it says so")
        time.sleep(2)
        fixture.lab.restart_api_server()
        make_vms(cluster, namespace, "web-1", annotations={"plumber.k8s.pf9.io/networkName": "blue"})

        def is_attached() -> bool:
            template = get(cluster, "virtualmachine", "web-1", namespace=namespace)["spec"]["template"]
            return PIN in (template.get("metadata") or {}).get("annotations", {})

        wait_for(is_attached, "the VM has an address")
        wait_for(lambda: watcher.said("the API server responds again"), "it says that too")
        assert watcher.err.read_text().count("it is retried") == 1, watcher.err.read_text()
        assert watcher.ended(signal.SIGTERM) == 0
