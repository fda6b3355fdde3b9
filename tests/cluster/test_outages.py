"""The API server killed by SIGKILL and started again while many VMs are attached, and while they are detached."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

import lab
from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.connection import Connection, ConnectionOptions
from kubectl_yoshi.model.vm import VM
from lab.testing import Cluster
from tests.cluster.checker import check, violations
from tests.cluster.harness import ForkServer, Yoshi, make_vms
from tests.cluster.seen import look

MANY = 100
PIN = "cni.projectcalico.org/ipAddrs"
NAMESPACE = "default"
SECONDS = 300.0
"""How long a run may take on a busy machine."""
UNSURE = ("Done before that", "May have been done", "may or may not")


@dataclass(frozen=True)
class Place:
    """A lab of the test's own, with network big and VMs that can be attached to it."""

    lab: lab.Lab
    cluster: Cluster
    yoshi: Yoshi
    api: Api

    def attached(self) -> int:
        """How many VMs carry an address."""
        found = self.api.list(VM, NAMESPACE)
        return sum(PIN in obj["spec"]["template"].get("metadata", {}).get("annotations", {}) for obj in found)

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """A run, when it has changed some of the VMs."""
        before = self.attached()
        process = self.yoshi.alone(*command)
        until = time.monotonic() + SECONDS
        while self.attached() == before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
        return process


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[Place]:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("kills the API server, so it needs a lab of its own")
    with lab.start() as running:
        cluster = Cluster(running.kubeconfig, "lab")
        yoshi = Yoshi(cluster.kubeconfig, cluster.context, forks, NAMESPACE)
        yoshi.done("install")
        yoshi.done("network", "create", "big", "--cidr", "10.133.0.0/20")
        make_vms(cluster, NAMESPACE, *(f"db-{number}" for number in range(MANY)), labels={"app": "db"})
        options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
        with closing(Connection.open(options)) as connection:
            yield Place(running, cluster, yoshi, Api(connection))


@pytest.mark.parametrize("comes_back", [True, False], ids=["comes-back", "stays-away"])
def test_an_api_server_that_dies_in_the_middle_is_completed_by_the_same_command(place: Place, comes_back: bool) -> None:
    for command, wanted in (("attach", MANY), ("detach", 0)):
        words = ("vm", command, "-l", "app=db", "--network", "big")
        process = place.begin(*words)
        place.lab.kill_api_server()
        alive = process.poll() is None
        if comes_back:
            place.lab.restart_api_server()
        out, err = process.communicate(timeout=SECONDS)
        if not comes_back:
            place.lab.restart_api_server()
        told = f"kubectl yoshi {' '.join(words)}: exit {process.returncode}\n{out}{err}"
        assert alive, f"it was over before the API server was dead: {told}"
        check_told(process.returncode, out, err, told)
        assert not [one for one in violations(look(place.cluster), [NAMESPACE]) if not is_spare(one)], told
        if process.returncode == 0:
            assert place.attached() == wanted, told
        assert len(place.yoshi.done(*words).splitlines()) == MANY
        assert place.attached() == wanted
        place.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
        check(place.cluster, NAMESPACE, settled=True)


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
