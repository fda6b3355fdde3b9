"""`trace` on the whole lab: what it says of a public address agrees with the router's table.

MetalLB's native BGP does not report its sessions, so that hop is `?` here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import lab
from tests.cluster.harness import ForkServer
from tests.e2e.public_lab import PublicLab, open_public_lab
from tests.waiting import wait_for

ADDRESS = "203.0.113.70"


@pytest.fixture
def public_lab(full_lab: lab.Lab, forks: ForkServer) -> Iterator[PublicLab]:
    yield from open_public_lab(full_lab, forks)


def traced(public_lab: PublicLab, target: str = "vm/web") -> tuple[int, dict[str, Any]]:
    """Return the exit code of `trace`, and its hops by name."""
    ran = public_lab.yoshi.run("trace", target, "-o", "json")
    return ran.code, {hop["name"]: hop for hop in json.loads(ran.out)["status"]["hops"]}


def states(public_lab: PublicLab) -> dict[str, str]:
    return {name: hop["state"] for name, hop in traced(public_lab)[1].items()}


def test_trace_agrees_with_the_table_of_the_router(public_lab: PublicLab) -> None:
    public_lab.create_network("203.0.113.64/28", public_lab.lab.router_address)
    node = public_lab.lab.nodes[0]
    public_lab.vms("web", node=node.name)
    public_lab.yoshi.done("vm", "attach", "web", "--public-network", "pub", "--ip", ADDRESS, "--wait")
    wait_for(lambda: public_lab.hops(f"{ADDRESS}/32") == [node.address])
    in_cluster = ("annotation", "allocation", "service", "pool", "assigned", "vm", "endpoint", "advertisement", "node")
    expected = {**dict.fromkeys(in_cluster, "OK"), "session": "Unknown", "route": "Unknown"}
    wait_for(lambda: states(public_lab) == expected, "every hop in the cluster is passed")
    code, hops = traced(public_lab, ADDRESS)
    assert code == 3
    assert hops["node"]["message"] == f"announced from {node.name}"
    public_lab.call("web", "stop")
    wait_for(lambda: public_lab.hops(f"{ADDRESS}/32") == [])
    wait_for(lambda: states(public_lab)["node"] == "Broken", "no node reports the announcement")
    code, hops = traced(public_lab)
    assert (code, hops["vm"]["state"], hops["endpoint"]["state"]) == (1, "Broken", "Broken")
