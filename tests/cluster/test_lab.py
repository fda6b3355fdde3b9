"""The lab itself: its version and APIs, parallel labs, and that nothing of one is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.lab_ids import is_free_port, list_taken_lab_ids
from lab.paths import labs_folder
from lab.processes import list_lab_pids
from lab.programs import DEFAULT_KUBERNETES, kubernetes_program
from lab.testing import Cluster
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def only_with_a_lab(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("about the lab, and another cluster was chosen")


def test_api_server_reports_its_version(cluster: Cluster) -> None:
    told = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]
    version = kubernetes_program("kube-apiserver").version
    assert told["gitVersion"] == version
    assert f"{told['major']}.{told['minor']}" == DEFAULT_KUBERNETES


def test_custom_resources_of_every_backend_are_served(cluster: Cluster) -> None:
    served = set(cluster.kubectl("api-resources", "-o", "name").split())
    assert served >= {
        "virtualmachines.kubevirt.io",
        "virtualmachineinstances.kubevirt.io",
        "ippools.crd.projectcalico.org",
        "bgpconfigurations.crd.projectcalico.org",
        "ipaddresspools.metallb.io",
        "bgppeers.metallb.io",
        "network-attachment-definitions.k8s.cni.cncf.io",
        "hostnetworktemplates.plumber.k8s.pf9.io",
        "dhcpservers.dhcp.plumber.k8s.pf9.io",
    }


def test_owned_objects_are_garbage_collected(cluster: Cluster, namespace: str) -> None:
    owner = json.loads(cluster.kubectl("-n", namespace, "create", "configmap", "owner", "-o", "json"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    owned = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "owned", "ownerReferences": [reference]},
    }
    cluster.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(owned))
    cluster.kubectl("-n", namespace, "delete", "configmap", "owner")
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "configmap/owned", "--timeout=120s")


@pytest.fixture(scope="module")
def second_lab() -> Iterator[lab.Lab]:
    """A lab beside the tests' own; nothing of it is left."""
    with lab.start() as running:
        ports = [record.launch.port for record in running.programs]
        yield running
    assert_gone(running.folder)
    if running.lab_id.number not in list_taken_lab_ids(labs_folder()):  # another lab may have begun where it was
        assert all(is_free_port(port) for port in ports)


def test_two_labs_run_in_parallel(cluster: Cluster, second_lab: lab.Lab) -> None:
    cluster.kubectl("create", "namespace", "only-in-one")
    assert "only-in-one" not in second_lab.kubectl("get", "namespaces", "-o", "name")
    cluster.kubectl("delete", "namespace", "only-in-one")
    assert "networkwizards" not in second_lab.kubectl("get", "crd", "-o", "name"), "it installs what `install` should"


def test_restarted_api_server_has_its_data(second_lab: lab.Lab) -> None:
    second_lab.kubectl("create", "namespace", "kept")
    second_lab.kill_api_server()
    with pytest.raises(lab.LabError, match="refused"):
        second_lab.kubectl("get", "namespaces")
    second_lab.restart_api_server()
    assert "kept" in second_lab.kubectl("get", "namespaces")


def test_lab_is_removed_when_its_owner_process_is_killed() -> None:
    name = f"killed-{os.getpid()}"
    code = f"import lab, time; lab.start(name={name!r}); print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        owner.send_signal(signal.SIGKILL)
    assert_gone(labs_folder() / name)


@pytest.mark.parametrize("begun", [".", "programs/kube-apiserver.json"])
def test_interrupted_up_leaves_nothing_behind(begun: str) -> None:
    """As soon as its folder is there, and as soon as its API server is: it takes seconds to be ready."""
    name = f"interrupted-{os.getpid()}"
    folder = labs_folder() / name
    command = [sys.executable, "-m", "lab", "up", "--name", name]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as up:
        wait_for(lambda: (folder / begun).exists() or up.poll() is not None)
        up.send_signal(signal.SIGINT)
        _, said = up.communicate(timeout=120)
    assert up.returncode == 130
    assert "nothing is left behind" in said
    assert_gone(folder)


def test_up_prints_its_kubeconfig_and_runs_until_down() -> None:
    name = f"background-{os.getpid()}"

    def run(*args: str) -> str:
        command = [sys.executable, "-m", "lab", *args, "--name", name]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    kubeconfig = run("up").strip()
    try:
        assert run("env") == f"export KUBECONFIG={kubeconfig}\n"
        assert "kube-apiserver" in run("status")
        subprocess.run(["kubectl", f"--kubeconfig={kubeconfig}", "get", "--raw", "/readyz"], check=True)
    finally:
        run("down")
    assert_gone(Path(kubeconfig).parent)


def assert_gone(folder: Path) -> None:
    wait_for(lambda: not folder.exists() and not any(list_lab_pids(folder)), f"{folder} and its programs are gone")
