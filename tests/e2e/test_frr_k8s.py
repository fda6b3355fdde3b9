"""MetalLB with frr-k8s: what it reports about the sessions and the configuration of each node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lab
from tests.cluster.harness import ForkServer, get
from tests.e2e.public_lab import PublicLab, open_public_lab
from tests.waiting import wait_for


@pytest.fixture
def public_lab(frr_k8s_lab: lab.Lab, forks: ForkServer) -> Iterator[PublicLab]:
    yield from open_public_lab(frr_k8s_lab, forks)


def sessions(public_lab: PublicLab) -> dict[str, str]:
    """Node -> the state of its session with the router."""
    states = [item["status"] for item in get(public_lab.cluster, "bgpsessionstates")["items"]]
    return {state["node"]: state["bgpStatus"] for state in states if state["peer"] == public_lab.lab.router_address}


def announced(public_lab: PublicLab, node: str) -> bool:
    """Whether the configuration that FRR runs on a node announces the address of the test."""
    state = get(public_lab.cluster, "frrnodestates", node).get("status", {})  # none in the first 30 s
    return state.get("lastReloadResult") == "success" and "network 203.0.113.70/32" in state.get("runningConfig", "")


def test_frr_k8s_reports_sessions_and_the_announced_address(public_lab: PublicLab) -> None:
    public_lab.create_network("203.0.113.64/28", public_lab.lab.router_address)
    first, second = public_lab.lab.nodes
    public_lab.vms("web", node=first.name)
    public_lab.yoshi.done("vm", "attach", "web", "--public-network", "pub", "--ip", "203.0.113.70", "--wait")
    wait_for(lambda: public_lab.hops("203.0.113.70/32") == [first.address])
    wait_for(lambda: sessions(public_lab) == {first.name: "Established", second.name: "Established"})
    wait_for(lambda: announced(public_lab, first.name))
    assert not announced(public_lab, second.name)
