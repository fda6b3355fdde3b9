"""Flags of `network create` whose value cannot be: exit 2, and a way out in flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster

RED = "network create red --cidr 10.20.0.0/24"


@pytest.mark.parametrize(
    ("line", "says", "way_out"),
    [
        (
            f"{RED} --type l2 --plugin public",
            "--type l2 and --plugin public contradict each other",
            "l2 network is ovs",
        ),
        (f"{RED} --type vpn", "'vpn' is not one of 'private', 'public', 'l2'", "network create --help"),
        (f"{RED} --plugin calcio", '--plugin "calcio" is unknown', "Choose one of calico, ovs, public."),
        (
            f"{RED} --range 10.20.0.100",
            '--range "10.20.0.100" has no end',
            "Write FIRST-LAST; 10.20.0.100-10.20.0.100 where a single address is meant.",
        ),
        (
            f"{RED} --plugin ovs --bridge br-ext --uplink eth1 --dhcp-range 10.20.0.100",
            '--dhcp-range "10.20.0.100" has no end',
            "10.20.0.100-10.20.0.100",
        ),
        (f"{RED} --plugin ovs --uplink eth1", "a Layer 2 network needs a bridge", "Name it with --bridge"),
        (f"{RED} --live-migration --encapsulation VXLAN", "without overlay and NAT", "Leave --encapsulation and"),
        (f"{RED} --live-migration --nat-outgoing", "without overlay and NAT", "together with --live-migration"),
    ],
)
def test_invalid_flag_value_is_a_usage_error(cluster: FakeCluster, line: str, says: str, way_out: str) -> None:
    said = run(cluster, *line.split())
    assert says in said.err
    assert way_out in said.err
    assert (said.code, cluster.networks()) == (2, ["blue"])


@pytest.mark.parametrize("text", ["10.20.0.100-10.20.0.100", "10.20.0.100/32"])
def test_range_of_one_address_is_accepted(cluster: FakeCluster, text: str) -> None:
    assert run(cluster, *RED.split(), "--range", text).code == 0
    cluster.reserve(network="red")
    assert [*cluster.records("red")] == ["10.20.0.100"]


def test_unknown_plugin_in_a_file_is_refused(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "red.yaml"
    file.write_text(
        "apiVersion: plumber.k8s.pf9.io/v1\nkind: NetworkWizard\nmetadata: {name: red}\n"
        "spec: {plugin: calcio, cidr: 10.20.0.0/24}\n"
    )
    said = run(cluster, "network", "create", "-f", str(file))
    assert 'network "red": plugin "calcio" is unknown' in said.err
    assert said.code == 2


@pytest.mark.parametrize(
    ("flags", "plugin"),
    [
        ("", "calico"),
        ("--type private", "calico"),
        ("--type private --plugin calico", "calico"),
        ("--type l2 --bridge br-ext --no-dhcp --no-host-config", "ovs"),
    ],
)
def test_type_of_a_network_is_its_plugin(cluster: FakeCluster, flags: str, plugin: str) -> None:
    said = run(cluster, *RED.split(), *flags.split(), "--dry-run", "-o", "json")
    assert (said.code, said.err) == (0, "")
    [network] = [obj for obj in json.loads(said.out)["items"] if obj["kind"] == "NetworkWizard"]
    assert network["spec"]["plugin"] == plugin
