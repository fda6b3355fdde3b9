"""The demo: the main job on a real control plane that it starts itself. Every command is printed before its output."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lab
import lab.running
from lab.progress import Progress

NETWORK = """\
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  name: newarjunpool
spec:
  plugin: "calico"
  cidr: "10.133.0.0/16"
"""
"""Platform9 yoshi's README, unchanged."""

VM = """\
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: {name}
{annotations}spec:
  runStrategy: {runs}
  template:
    spec:
      domain:
        devices:
          interfaces: [{{name: default, masquerade: {{}}}}]
        memory: {{guest: 128Mi}}
      networks: [{{name: default, pod: {{}}}}]
"""
REQUESTED_NETWORK = "  annotations:\n    'plumber.k8s.pf9.io/networkName': 'newarjunpool'\n"


ROUTER_ASN = "64513"


def main() -> int:
    """Run the demo; 0 if every command did what it should.

    The first part needs a control plane only. The second, which needs root, has VMs that run, MetalLB and a router that
    learns their public addresses; its programs are built while the first one runs.
    """
    started_at = time.monotonic()
    progress = Progress()
    try:
        with lab.start("core", progress=progress) as running, _building("full") as build:
            progress.print_line(f"A real control plane is up after {time.monotonic() - started_at:.1f} s.")
            _run_private_demo(_DemoRunner(running))
            if build is None:
                progress.print_line(
                    "Not root, so there are no network namespaces: VMs do not run, and public networks are left out."
                )
            else:
                with progress.task("KubeVirt, MetalLB and a router are built for the second part"):
                    build.wait()
        if build is not None:
            with lab.start("full", progress=progress) as running:
                _run_public_demo(_DemoRunner(running))
    except subprocess.CalledProcessError as error:
        print(f"demo: {shlex.join(error.cmd)} ended with {error.returncode}", file=sys.stderr)
        return 1
    progress.print_line(f"Done after {time.monotonic() - started_at:.1f} s; nothing is left behind.")
    return 0


@contextmanager
def _building(profile: str) -> Iterator[subprocess.Popen[bytes] | None]:
    """Build the programs of a profile in the background, silently; None without root, which it needs to run."""
    if os.geteuid():
        yield None
        return
    words = [sys.executable, "-m", "lab", "build", "--profile", profile]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:
        try:
            yield build
        finally:
            build.terminate()  # which ends the compilers too; nothing to end when it is done


def _run_private_demo(demo: _DemoRunner) -> None:
    demo.print_comment("What yoshi needs in a cluster: two CRDs and its roles.")
    demo.yoshi("install")
    demo.print_comment("A network and a VM as Platform9 yoshi's README has them, reconciled by `sync`.")
    demo.kubectl("apply", "-f", "-", content=NETWORK)
    demo.kubectl(
        "apply", "-f", "-", content=VM.format(name="vmcalicobridge2", annotations=REQUESTED_NETWORK, runs="Halted")
    )
    demo.yoshi("sync")
    demo.print_comment("The same by command: a network, three VMs, with and without an address of choice.")
    demo.yoshi("network", "create", "blue", "--cidr", "10.20.0.0/24", "--gateway", "10.20.0.1")
    for name in ("web-1", "web-2", "db-1"):
        demo.kubectl("apply", "-f", "-", content=VM.format(name=name, annotations="", runs="Halted"))
    demo.yoshi("vm", "attach", "web-1", "web-2", "--network", "blue")
    demo.yoshi("vm", "attach", "db-1", "--network", "blue", "--ip", "10.20.0.50")
    demo.yoshi("network", "list")
    demo.yoshi("vm", "list")
    demo.yoshi("ips", "list")
    demo.yoshi("ips", "show", "10.20.0.50")
    demo.print_comment("One VM is detached, another is deleted behind yoshi's back: gc releases its address.")
    demo.yoshi("vm", "detach", "web-2", "--network", "blue")
    demo.kubectl("delete", "virtualmachine", "db-1")
    demo.yoshi("ips", "check", may_fail=True)
    demo.yoshi("ips", "gc", "--grace", "0s", "--yes")
    demo.yoshi("ips", "list")
    demo.print_comment("A network in use is not deleted by accident.")
    demo.yoshi("network", "delete", "blue", may_fail=True)
    demo.yoshi("vm", "detach", "web-1", "--network", "blue", "--restart")
    demo.yoshi("network", "delete", "blue")
    demo.yoshi("network", "list")
    demo.kubectl("get", "ippools")


def _run_public_demo(demo: _DemoRunner) -> None:
    demo.print_comment("Another control plane, with KubeVirt's controllers, MetalLB and a BGP router.")
    demo.yoshi("install")
    demo.yoshi("network", "create", "blue", "--cidr", "10.20.0.0/24", "--gateway", "10.20.0.1")
    demo.kubectl("apply", "-f", "-", content=VM.format(name="web-1", annotations="", runs="Always"))
    demo.print_comment("A public network, announced by BGP to the router, and a running VM on both.")
    words = ("--plugin", "public", "--announce", "metallb-bgp", "--cidr", "203.0.113.0/28")
    peer = ("--peer", demo.lab.router_address, "--my-asn", "64512", "--remote-asn", ROUTER_ASN)
    demo.yoshi("network", "create", "internet", *words, *peer)
    words = ("--network", "blue", "--public-network", "internet", "--restart", "--wait")
    demo.yoshi("vm", "attach", "web-1", *words)
    demo.yoshi("vm", "list")
    demo.yoshi("ips", "list", "-o", "wide")
    demo.print_comment("What the router has learned, with the VM's node as next hop.")
    demo.route("203.0.113.1/32")
    demo.yoshi("vm", "detach", "web-1", "--public-network", "internet")
    demo.yoshi("network", "delete", "internet")


class _DemoRunner:
    """Where the commands run."""

    def __init__(self, running: lab.Lab) -> None:
        self.lab = running
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self._environment = {**os.environ, "KUBECONFIG": str(running.kubeconfig), "PATH": path}

    def print_comment(self, sentence: str) -> None:
        """A sentence between commands."""
        print(f"\n# {sentence}", flush=True)

    def yoshi(self, *words: str, may_fail: bool = False) -> None:
        """Runs `kubectl yoshi`, found by kubectl as a plugin."""
        self._run(["kubectl", "yoshi", *words], may_fail=may_fail)

    def kubectl(self, *words: str, content: str = "") -> None:
        """Runs kubectl."""
        self._run([lab.running.kubectl_command(), *words], content)

    def route(self, prefix: str) -> None:
        """Shows the router's table once it has a route; it may take BGP some seconds."""
        end = time.monotonic() + 30
        while all(route.prefix != prefix for route in self.lab.routes()) and time.monotonic() < end:
            time.sleep(0.2)
        print(f"\n$ python -m lab route\n{self.lab.route_table()}", flush=True)
        if all(route.prefix != prefix for route in self.lab.routes()):
            raise subprocess.CalledProcessError(1, ["python", "-m", "lab", "route"])

    def _run(self, words: list[str], content: str = "", may_fail: bool = False) -> None:
        shown = shlex.join(["kubectl", *words[1:]])
        if content:
            shown += " <<EOF\n" + content + "EOF"
        print(f"\n$ {shown}", flush=True)
        result = subprocess.run(words, env=self._environment, input=content, text=True, stderr=subprocess.STDOUT)
        if result.returncode and not may_fail:
            raise subprocess.CalledProcessError(result.returncode, words)
