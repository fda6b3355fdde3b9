"""The full lab, and a second one beside it, in which MetalLB speaks BGP by FRR: only so does it announce IPv6."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.frr import check_installed
from tests.cluster.harness import ForkServer
from tests.e2e.public_lab import PublicLab, follows_its_vm, open_public_lab

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def frr_lab(full_lab: lab.Lab) -> Iterator[lab.Lab]:
    """The second lab; nothing of it is left on this machine. MetalLB takes 3 s for each change with FRR."""
    try:
        check_installed()
    except lab.LabError as error:
        pytest.skip(str(error))
    before = network_things()
    with lab.start("full", name=f"frr-{os.getpid()}", bgp="frr") as running:
        yield running
    assert network_things() == before
    assert "ipv4:" in full_lab.route_table()


@pytest.fixture
def public_lab6(frr_lab: lab.Lab, forks: ForkServer) -> Iterator[PublicLab]:
    yield from open_public_lab(frr_lab, forks)


def network_things() -> list[str]:
    """The network namespaces and links of this machine."""
    return sorted(
        line.split()[0]
        for command in (["ip", "netns", "list"], ["ip", "-brief", "link"])
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    )


def test_bgp_ipv6_route_points_to_the_node_of_the_vm(public_lab6: PublicLab) -> None:
    hops = {node.name: node.address6 for node in public_lab6.lab.nodes}
    follows_its_vm(public_lab6, "2001:db8:64::/120", "2001:db8:64::5/128", public_lab6.lab.router_address6, hops)


def test_second_full_lab_shares_nothing_with_the_first(full_lab: lab.Lab, frr_lab: lab.Lab) -> None:
    full_lab.kubectl("create", "namespace", "only-in-one")
    try:
        assert "only-in-one" not in frr_lab.kubectl("get", "namespaces", "-o", "name")
    finally:
        full_lab.kubectl("delete", "namespace", "only-in-one", "--wait=false")
    pids = [{program.pid for program in running.programs} for running in (full_lab, frr_lab)]
    assert not pids[0] & pids[1]
    assert not {node.address for node in full_lab.nodes} & {node.address for node in frr_lab.nodes}


def test_lab_commands_show_a_full_lab(frr_lab: lab.Lab) -> None:
    def run(*args: str) -> str:
        command = [sys.executable, "-m", "lab", *args, "--name", frr_lab.name]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert run("status").count(" yes ") == len(frr_lab.programs)
    assert "ipv4:" in run("route")


def test_kubevirt_webhooks_refuse_invalid_vms(full_lab: lab.Lab) -> None:
    template = {"spec": {"domain": {"devices": {}, "memory": {"guest": "128Mi"}}}}
    both = {"running": True, "runStrategy": "Always", "template": template}
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web"}, "spec": both}
    with pytest.raises(lab.LabError, match="mutually exclusive"):
        full_lab.kubectl("-n", "default", "create", "-f", "-", input=json.dumps(vm))
