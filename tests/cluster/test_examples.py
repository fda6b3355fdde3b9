"""Every example of --help and docs/reference/commands.md does what it should, in a scene that it fits into."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import lab
from lab.running import kubectl_command
from lab.testing import Cluster
from tests.cluster.harness import delete_all, make
from tests.cluster.public_scene import METALLB_KINDS
from tools.documents.running import environment
from tools.documents.tree import PROGRAM, pages

EXAMPLES = [
    (page.title.removeprefix(f"{PROGRAM} "), example)
    for page in pages()
    for example in "\n".join(page.examples).split("\n\n")
    if example
]
"""The command that it is shown with, and the example: comments and commands."""

VMS = """
apiVersion: v1
kind: List
items:
- &vm
  apiVersion: kubevirt.io/v1
  kind: VirtualMachine
  metadata: {name: web-1}
  spec:
    runStrategy: Halted
    template:
      spec:
        domain: {devices: {interfaces: [{name: default, masquerade: {}}]}, memory: {guest: 128Mi}}
        networks: [{name: default, pod: {}}]
- {<<: *vm, metadata: {name: web-2}}
- {<<: *vm, metadata: {name: db-1, labels: {app: db}}}
- {<<: *vm, metadata: {name: old-1}}
"""
NETWORKS = {
    "blue": "cidr: 10.133.0.0/16",
    "internet": "plugin: public, cidr: 203.0.113.0/28",
    "lab": "plugin: ovs, cidr: 10.20.0.0/24, ovs: {bridge: br-ext, nic: eth1, vlan: 20}",
    "given": "plugin: public",
    "red": "cidr: 10.134.0.0/24",
}
WIZARD = "{{apiVersion: plumber.k8s.pf9.io/v1, kind: NetworkWizard, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n"
CSV = "name,address,mac,namespace\nold-1,10.133.0.80\n"

BLUE = "kubectl yoshi network create -f blue.yaml"
INTERNET = "kubectl yoshi network create -f internet.yaml"
ATTACHED = f"{BLUE}; kubectl yoshi vm attach web-1 --network blue --ip 10.133.0.10"
EVERY_NETWORK = "--network blue --network internet --network lab"
BEFORE = {
    "network delete": BLUE,
    "network describe": BLUE,
    "network update": f"{BLUE} -f lab.yaml",
    "vm attach": f"{BLUE} -f internet.yaml -f lab.yaml -f given.yaml",
    "vm detach": f"{BLUE} -f internet.yaml -f lab.yaml; kubectl yoshi vm attach web-1 {EVERY_NETWORK}",
    "vm list": ATTACHED,
    "ips list": ATTACHED,
    "ips show": ATTACHED,
    "ips map": ATTACHED,
    "ips reserve": BLUE,
    "ips release": f"{BLUE}; kubectl yoshi ips reserve blue 10.133.0.50",
    "ips move": f"{INTERNET}; kubectl yoshi vm attach web-1 --public-network internet --ip 203.0.113.5",
    "ips check": ATTACHED,
    "doctor": ATTACHED,
    "trace": ATTACHED,
    "ips import": BLUE,
    "ips rebuild": ATTACHED,
    "policy explain": ATTACHED,
    "diff": BLUE,
}
"""What there must be, besides the CRDs and VMs, before an example of a command."""
FINDS_DIFFERENCES = "kubectl yoshi diff vm attach web-1 --network blue"
FINDS_A_BREAK = "kubectl yoshi trace"
"""The VMs are stopped."""
UNTIL_CTRL_C = "kubectl yoshi sync -A --watch"
OURS = "app.kubernetes.io/managed-by=kubectl-yoshi"
PRELUDES = {"completion zsh": "autoload -Uz compinit; compinit -u\n"}
"""What an example of a command finds in its own shell."""
LEFT = ("vm", "networkwizards", "addressblocks", "net-attach-def", "hostnetworktemplates", "dhcpservers")
"""All of these kinds an example may have made."""


@dataclass(frozen=True)
class Shell:
    """A lab, and the environment of who types commands for it."""

    cluster: Cluster
    variables: dict[str, str]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with lab.start() as running:
        home = tmp_path_factory.mktemp("home")
        variables = environment(running.kubeconfig, Path(kubectl_command()), home)
        for name, spec in NETWORKS.items():
            (home / f"{name}.yaml").write_text(WIZARD.format(name=name, spec=spec))
        (home / "red.yaml").rename(home / "network.yaml")
        (home / "ports.csv").write_text(CSV)
        (home / "vm.yaml").write_text(VMS)
        well(variables, "kubectl create namespace metallb-system; kubectl yoshi install")
        yield Shell(Cluster(running.kubeconfig, "lab"), variables)


@pytest.fixture
def scene(shell: Shell) -> Iterator[dict[str, str]]:
    """The lab with four VMs, and nothing of ours but the CRDs; what examples made goes without asking the program."""
    cluster = shell.cluster
    for vm in yaml.safe_load(VMS)["items"]:
        make(cluster, vm)
    yield shell.variables
    delete_all(cluster, *LEFT, namespace="default")
    delete_all(cluster, "ippools")
    delete_all(cluster, "services", "configmaps", namespace="default", label=OURS)
    delete_all(cluster, *METALLB_KINDS, namespace="metallb-system")


def run(variables: dict[str, str], shell: str, commands: str) -> subprocess.CompletedProcess[str]:
    """Runs commands; both streams are in stdout."""
    return subprocess.run(
        [shell, "-c", commands],
        cwd=variables["HOME"], env=variables, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )  # fmt: skip


def well(variables: dict[str, str], commands: str, code: int = 0, shell: str = "bash") -> None:
    """Runs commands that end with a code."""
    ran = run(variables, shell, commands)
    assert ran.returncode == code, f"{commands}\n{ran.stdout}"


@pytest.mark.parametrize(("command", "example"), EXAMPLES, ids=[f"{c}: {e.splitlines()[0]}" for c, e in EXAMPLES])
def test_help_examples_succeed(command: str, example: str, scene: dict[str, str]) -> None:
    if command in BEFORE:
        well(scene, f"set -e; {BEFORE[command]}")
    shell = command.rpartition(" ")[2] if command in ("completion zsh", "completion fish") else "bash"
    typed = example.replace(UNTIL_CTRL_C, f"timeout --signal=INT --preserve-status 5 {UNTIL_CTRL_C}")
    code = 1 if FINDS_DIFFERENCES in example or FINDS_A_BREAK in example else 0
    well(scene, PRELUDES.get(command, "") + typed, code, shell)
    if command == "uninstall":
        well(scene, "kubectl yoshi install")


def test_every_preparation_belongs_to_an_example() -> None:
    assert {*BEFORE, *PRELUDES} <= {command for command, _ in EXAMPLES}
    assert {FINDS_DIFFERENCES, UNTIL_CTRL_C} <= {example.splitlines()[-1] for _, example in EXAMPLES}
