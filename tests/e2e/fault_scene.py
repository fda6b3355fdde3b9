"""A healthy lab for the fault matrix: what `doctor` finds in it, and a shell in which remedies are run.

Namespace shop has VM db on the private network blue, and VM web, on node-1, with a public address of network pub that
MetalLB announces by BGP (frr-k8s).
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lab
from lab.frr import run_vtysh
from lab.processes import spawn, stop_programs
from lab.running import kubectl_command
from lab.testing import Cluster
from tests.cluster.harness import ROOT, CommandResult, ForkServer, Yoshi, find, patch, reported_address
from tests.e2e.public_lab import PublicLab
from tests.waiting import wait_for

Json = dict[str, Any]

NAMESPACE = "shop"
BLUE_CIDR, PUB_CIDR = "10.133.0.0/28", "203.0.113.64/28"
VIRT_CONTROLLER = "system:serviceaccount:kubevirt:kubevirt-controller"
MAC = "02:00:00:00:00:0a"
VIRTCTL = """#!/bin/sh
# virtctl is not in the lab: `virtctl restart NAME -n NAMESPACE` by the subresource that it calls.
echo '{}' |
  exec kubectl replace --raw "/apis/subresources.kubevirt.io/v1/namespaces/$4/virtualmachines/$2/$1" -f -
"""


@dataclass
class FaultScene(PublicLab):
    """The lab, and a folder with the programs that remedies call."""

    folder: Path

    # -- diagnosis ---------------------------------------------------------------------------------------------------

    def doctor(self, *more: str) -> Json:
        """Return what `doctor -A -o json` prints."""
        ran: CommandResult = self.yoshi.run("doctor", "-A", "-o", "json", "--fail-on", "never", *more)
        assert ran.code == 0, str(ran)
        return dict(json.loads(ran.out))

    def wait_for_codes(self, *codes: str, count: int = 0) -> list[Json]:
        """Wait until doctor finds exactly these codes; return the findings.

        Args:
            codes: the codes.
            count: the number of findings; 0 for one of each code.
        """
        last: Json = {}

        def found() -> bool:
            nonlocal last
            last = self.doctor()
            found_codes = [finding["code"] for finding in last["findings"]]
            return set(found_codes) == set(codes) and len(found_codes) == (count or len(codes))

        try:
            wait_for(found, seconds=45)
        except AssertionError:
            listed = "\n".join(f"{one['code']} {one['message']}" for one in last["findings"]) or "no findings"
            raise AssertionError(f"doctor does not find {', '.join(codes) or 'nothing'}, but:\n{listed}") from None
        return list(last["findings"])

    def wait_until_healthy(self) -> None:
        """Wait until doctor finds nothing."""
        self.wait_for_codes()

    def first_break(self, target: str = "vm/web") -> str:
        """Return the first hop that `trace` reports as broken; "" if there is none."""
        hops = json.loads(self.yoshi.run("trace", target, "-o", "json").out)["status"]["hops"]
        return str(next((hop["name"] for hop in hops if hop["state"] == "Broken"), ""))

    # -- remedies ----------------------------------------------------------------------------------------------------

    def shell(self, command: str, editor: str = "false") -> str:
        """Run a command as a user does in a terminal, who answers y to a question; return its stdout.

        Args:
            command: the command line. `kubectl logs` is skipped: the lab has no kubelets.
            editor: what `kubectl edit` runs.
        """
        if command.startswith("kubectl logs "):
            return ""
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.lab.kubeconfig),
            "KUBE_EDITOR": editor,
            "PATH": f"{self.folder}:{os.environ['PATH']}",
        }
        keys, terminal = pty.openpty()
        os.write(keys, b"y\n")
        try:
            ran = subprocess.run(
                ["bash", "-c", command],
                env=environment, stdin=terminal, capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
        finally:
            os.close(keys)
            os.close(terminal)
        assert ran.returncode == 0, f"{command}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    # -- what faults change ------------------------------------------------------------------------------------------

    def patch(
        self, kind: str, name: str, body: Json | list[Json], *, namespace: str = "", subresource: str = ""
    ) -> None:
        """Send a merge patch, or a JSON Patch if the body is a list, to an object of the test's namespace."""
        patch(self.cluster, kind, name, body, namespace=namespace or NAMESPACE, subresource=subresource)

    def patch_as_kubevirt(self, name: str, body: Json) -> None:
        """Change the status of a VMI, which only KubeVirt's own account may."""
        words = ("patch", "vmi", name, "--type=merge", f"--as={VIRT_CONTROLLER}", "-p", json.dumps(body))
        self.kubectl(*words)

    def halted(self, name: str, *, mac: str = "", annotations: Json | None = None) -> None:
        """Create a VM that does not run."""
        interface = {"name": "default", "masquerade": {}, **({"macAddress": mac} if mac else {})}
        body: Json = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": name},
            "spec": {
                "runStrategy": "Halted",
                "template": {
                    "metadata": {"annotations": annotations or {}},
                    "spec": {
                        "domain": {"devices": {"interfaces": [interface]}, "memory": {"guest": "128Mi"}},
                        "networks": [{"name": "default", "pod": {}}],
                    },
                },
            },
        }
        self.kubectl("create", "-f", "-", input=json.dumps(body))

    def start(self, name: str) -> None:
        """Start a VM, and wait until it runs."""
        self.patch("vm", name, {"spec": {"runStrategy": "Always"}})
        wait_for(lambda: self.runs_on(name))

    def running_instance(self, name: str) -> Json:
        """Return the VMI of a VM, once its interfaces are reported."""
        wait_for(lambda: self.get("vmi", name)["status"].get("interfaces"), f"VM {name} reports its interfaces")
        return dict(self.get("vmi", name))

    def wait_until_restarted(self, before: Json) -> None:
        """Wait until a VM runs with another VMI than before, and with the same address."""
        name, interfaces = before["metadata"]["name"], before["status"]["interfaces"]

        def runs() -> bool:
            vmi = find(self.cluster, "virtualmachineinstances", name, namespace=NAMESPACE)
            if vmi is None or vmi["metadata"]["uid"] == before["metadata"]["uid"]:
                return False
            found = vmi["status"].get("interfaces", [])
            return [one.get("ipAddress") for one in found] == [one.get("ipAddress") for one in interfaces]

        wait_for(runs, f"VM {name} is restarted")

    def attach(self, name: str, *more: str) -> str:
        """Attach a VM to network blue, or to the one that is named; return its address."""
        return reported_address(self.yoshi.run("vm", "attach", name, *(more or ("--network", "blue"))))

    def remove(self, name: str) -> None:
        """Delete a VM, and release its addresses."""
        self.kubectl("delete", "vm", name, "--ignore-not-found")
        self.yoshi.done("ips", "gc", "-A", "--grace", "0s", "--yes")

    def service(self) -> str:
        """Return the name of the Service of VM web."""
        (found,) = (item for item in self.services() if item["metadata"]["name"].startswith("yoshi-web"))
        return str(found["metadata"]["name"])

    @contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """Stop programs of the lab for a while."""
        programs = [self.lab.program(name) for name in names]
        stop_programs(programs)
        yield
        for program in programs:
            spawn(program.launch, self.lab.folder)

    def reconnect(self) -> None:
        """Have the nodes connect to the router again, which FRR tries every two minutes only."""
        wait_for(self._router_answers, "the router runs")
        for node in self.lab.nodes:
            run_vtysh(self.lab.folder, node, "clear bgp *")

    def _router_answers(self) -> bool:
        try:
            self.lab.routes()
        except lab.LabError:
            return False
        return True

    def metallb(self, *args: str) -> str:
        """Run kubectl in MetalLB's namespace."""
        return self.lab.kubectl("-n", "metallb-system", *args)


def open_fault_scene(running: lab.Lab, forks: ForkServer, folder: Path) -> FaultScene:
    """Make a healthy lab of a new one."""
    for name, text in (("kubectl-yoshi", _program()), ("virtctl", VIRTCTL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "kubectl").symlink_to(kubectl_command())
    running.kubectl("create", "namespace", NAMESPACE)
    yoshi = Yoshi(running.kubeconfig, "lab", forks, NAMESPACE)
    scene = FaultScene(running, Cluster(running.kubeconfig, "lab"), yoshi, NAMESPACE, folder)
    yoshi.done("install")
    yoshi.done("network", "create", "blue", "--cidr", BLUE_CIDR)
    scene.create_network(PUB_CIDR, running.router_address)
    scene.halted("db", mac=MAC)
    scene.attach("db")
    scene.start("db")
    scene.vms("web", node=running.nodes[0].name)
    address = scene.attach("web", "--public-network", "pub")
    wait_for(lambda: scene.hops(f"{address}/32"), "the router has the route")
    return scene


def _program() -> str:
    return f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m kubectl_yoshi "$@"\n'
