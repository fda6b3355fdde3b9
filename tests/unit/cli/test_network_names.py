"""A network is named as people, `-o name` and kubectl write it, and described."""

from __future__ import annotations

import re

import pytest

from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster

NAMES = (
    "blue",
    "prod/blue",
    "networkwizard.plumber.k8s.pf9.io/blue",
    "networkwizards.plumber.k8s.pf9.io/prod/blue",
    "networkwizard/blue",
    "nw/blue",
    "NW/prod/blue",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "line",
    [
        "network describe {}",
        "network list {}",
        "ips reserve {}",
        "ips release {} 10.133.0.5",
        "ips list --network {}",
        "ips rebuild --network {}",
        "ips gc --yes --network {}",
        "network delete {}",
        "vm attach web-1 --network {}",
        "vm detach web-1 --network {}",
    ],
)
def test_network_name_may_have_its_kind_as_prefix(cluster: FakeCluster, line: str, name: str) -> None:
    cluster.vm()
    said = run(cluster, *line.format(name).split())
    assert said.code == 0, said


def test_name_output_is_accepted_as_an_argument(cluster: FakeCluster) -> None:
    name = run(cluster, "network", "list", "-o", "name").out.strip()
    assert run(cluster, "network", "delete", name).code == 0
    assert cluster.networks() == []


def test_other_prefix_is_a_namespace(cluster: FakeCluster) -> None:
    assert 'not found in namespace "dev"' in run(cluster, "network", "describe", "dev/blue").err


def test_describe_shows_no_allocations_and_the_range_on_one_line(cluster: FakeCluster) -> None:
    cluster.network("red", "10.20.0.0/24", range_start="10.20.0.100", range_end="10.20.0.120")
    cluster.network("half", "10.21.0.0/24", range_start="10.21.0.100")
    said = run(cluster, "network", "describe", "red").out
    assert re.search(r"^Range: +10\.20\.0\.100-10\.20\.0\.120$", said, re.MULTILINE)
    assert said.endswith("Addresses: <none>\n")
    assert re.search(r"^Range: +10\.21\.0\.100-end$", run(cluster, "network", "describe", "half").out, re.MULTILINE)
    assert "Range:" not in run(cluster, "network", "describe", "blue").out


def test_ips_list_accepts_a_bare_network_name(cluster: FakeCluster) -> None:
    cluster.network("red", "10.20.0.0/24")
    cluster.reserve()
    cluster.reserve(network="red")
    for more in ((), ("--free",), ("-o", "json")):
        wanted = run(cluster, "ips", "list", "--network", "red", *more)
        assert run(cluster, "ips", "list", "red", *more) == wanted
        assert "10.20.0." in wanted.out and "10.133.0." not in wanted.out
    assert run(cluster, "ips", "list", "red", "--network", "blue").code == 2
    assert 'network "green" not found' in run(cluster, "ips", "list", "green").err
