"""`ips map`: the network and the part of it that are drawn, formats, and errors; the map of `network describe`."""

from __future__ import annotations

import json

import pytest

from kubectl_yoshi.model.network import ADDRESSBLOCK
from kubectl_yoshi.model.vm import VM, VMI
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.cli.test_list_commands import hide
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_public import public


@pytest.fixture
def networks(cluster: FakeCluster) -> FakeCluster:
    """Networks prod/blue, prod/big and dev/red; a running VM and a halted one on blue."""
    cluster.network("big", "10.140.0.0/16")
    cluster.network("red", "10.150.0.0/24", namespace="dev")
    cluster.vm("web-2")
    cluster.running("web-1", pin="10.133.0.1")
    cluster.attach("web-1", "web-2")
    return cluster


def drawn(said: CliResult) -> str:
    """Return the network and the part of it that a map shows."""
    assert said.code == 0, said.err
    assert said.err == ""
    return said.out.partition(":")[0]


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("blue", "prod/blue 10.133.0.0/24"),
        ("dev/red", "dev/red 10.150.0.0/24"),
        ("networkwizard.plumber.k8s.pf9.io/blue", "prod/blue 10.133.0.0/24"),
        ("blue 10.133.0.64/26", "prod/blue 10.133.0.64/26"),
        ("blue 10.133.0.0/16", "prod/blue 10.133.0.0/24"),
        ("10.133.0.0/24", "prod/blue 10.133.0.0/24"),
        ("10.133.0.0/16", "prod/blue 10.133.0.0/24"),
        ("10.140.7.9/24", "prod/big 10.140.7.0/24"),
        ("10.150.0.0/24 -A", "dev/red 10.150.0.0/24"),
        ("blue -o terminal", "prod/blue 10.133.0.0/24"),
    ],
)
def test_map_is_of_the_named_network_or_of_the_one_with_the_cidr(networks: FakeCluster, words: str, title: str) -> None:
    assert drawn(run(networks, "ips", "map", *words.split())) == title


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("nope", 1, 'network "nope" not found in namespace "prod"'),
        ("10.99.0.0/24", 1, "10.99.0.0/24 is in no network that you can access"),
        ("10.150.0.0/24", 1, "10.150.0.0/24 is in no network that you can access"),
        ("10.0.0.0/8", 1, "10.0.0.0/8 may belong to several networks: prod/big, prod/blue"),
        ("blue 10.134.0.0/24", 1, "10.134.0.0/24 is not a part of network prod/blue (10.133.0.0/24)"),
        ("blue fd00::/64", 1, "fd00::/64 is not a part of network prod/blue (10.133.0.0/24)"),
        ("blue big", 2, 'CIDR "big" is not a network in CIDR notation'),
        ("10.133.0.9", 2, 'CIDR "10.133.0.9" is not a network in CIDR notation'),
        ("10.133.0.0/24 10.133.0.0/26", 2, "give a CIDR either alone, or after the name of its network"),
        ("blue -o png", 2, 'unable to match a printer suitable for the output format "png"'),
        ("", 2, "missing argument 'NETWORK|CIDR'"),
    ],
)
def test_wrong_network_or_cidr_is_an_error(networks: FakeCluster, words: str, code: int, message: str) -> None:
    said = run(networks, "ips", "map", *words.split())
    assert (said.code, said.out) == (code, "")
    assert message in said.err


def test_map_has_the_states_of_the_addresses(networks: FakeCluster) -> None:
    networks.reserve("10.133.0.9")
    lines = run(networks, "ips", "map", "blue").out.splitlines()
    assert lines[0] == "prod/blue 10.133.0.0/24: 1 used, 1 held, 1 reserved, 2 unusable, 251 free"
    assert lines[3].split()[:3] == ["10.133.0.0", "x█▒·····", "·R······"]


def test_unreadable_vms_are_noted_and_their_addresses_used(networks: FakeCluster) -> None:
    for resource in (VM, VMI):
        hide(networks, resource, "prod")
    said = run(networks, "ips", "map", "blue")
    assert said.out.startswith("prod/blue 10.133.0.0/24: 2 used, ")
    assert "note: " in said.err
    assert "virtualmachines.kubevirt.io" in said.err


@pytest.mark.parametrize("words", ["big", "big -A", "10.140.7.0/24"])
def test_unreadable_allocations_are_an_error(networks: FakeCluster, words: str) -> None:
    hide(networks, ADDRESSBLOCK, "prod")
    said = run(networks, "ips", "map", *words.split())
    assert (said.code, said.out) == (1, "")
    assert "the allocations of network prod/big cannot be read: " in said.err


def test_released_address_is_held_while_it_cools_down() -> None:
    cluster = FakeCluster()
    cluster.network(coolDown="1h")
    cluster.vm()
    cluster.attach()
    cluster.detach()
    assert "1 held" in run(cluster, "ips", "map", "blue").out.splitlines()[0]


def test_public_addresses_outside_the_cidr_are_drawn() -> None:
    cluster = public()
    cluster.attach("a", network="prod/pub", ip="198.51.100.9")
    for words in (["pub"], ["pub", "198.51.100.0/24"], ["198.51.100.0/28"]):
        assert "198.51.100.0" in run(cluster, "ips", "map", *words).out, words


def test_objects_have_totals_and_runs(networks: FakeCluster) -> None:
    obj = json.loads(run(networks, "ips", "map", "blue", "10.133.0.0/29", "-o", "json").out)
    assert obj["metadata"] == {"name": "blue", "namespace": "prod"}
    assert obj["spec"] == {"network": "blue", "cidr": "10.133.0.0/29"}
    assert {state: count for state, count in obj["status"]["totals"].items() if count} == {
        "Free": 5, "Used": 1, "Held": 1, "Unusable": 1,
    }  # fmt: skip
    first, used, *_, free = obj["status"]["runs"]
    reason = "it is the network or broadcast address"
    assert first == {
        "range": "10.133.0.0", "count": 1, "state": "Unusable", "addressState": "Unusable", "reason": reason,
    }  # fmt: skip
    assert (used["holder"], used["addressState"], used["since"][:2]) == ("prod/web-1", "Bound", "20")
    assert (free["range"], free["count"], free["state"]) == ("10.133.0.3-10.133.0.7", 5, "Free")


@pytest.mark.parametrize(("output", "start"), [("svg", "<svg "), ("html", "<!doctype html>")])
def test_picture_is_written_to_stdout(networks: FakeCluster, output: str, start: str) -> None:
    said = run(networks, "ips", "map", "blue", "-o", output)
    assert said.out.startswith(start)
    assert "10.133.0.1: used, prod/web-1, age " in said.out
    assert said.out.endswith(">\n")


def test_describe_has_a_map_in_one_line(networks: FakeCluster) -> None:
    lines = run(networks, "network", "describe", "blue").out.splitlines()
    assert [line for line in lines if line.startswith("Map:")] == [
        "Map:            ▒·······························  8 addresses a cell"
    ]
