"""A flag that names one thing, given twice: kubectl takes the last without a word, here that would lose a network."""

from __future__ import annotations

import pytest

from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("vm attach web-1 --network blue --ip 10.133.0.5 --ip 10.133.0.6", "--ip"),
        ("vm attach web-1 --public-ip 192.0.2.1 --public-ip 192.0.2.2", "--public-ip"),
        ("vm detach web-1 --public-network a --public-network b", "--public-network"),
        ("ips list --network blue --network lab", "--network"),
    ],
)
def test_repeated_single_value_flag_is_a_usage_error(cluster: FakeCluster, line: str, flag: str) -> None:
    cluster.vm()
    said = run(cluster, *line.split())
    assert said.code == 2
    assert said.err.startswith(f"error: {flag} is given twice, but accepts one value")
    assert cluster.pin() == ""


@pytest.mark.parametrize("line", ["network list -o json -o name", "-n prod network list -n prod -n prod -o name"])
def test_other_repeated_flags_use_the_last_value(cluster: FakeCluster, line: str) -> None:
    said = run(cluster, *line.split())
    assert (said.code, said.out) == (0, "networkwizard.plumber.k8s.pf9.io/blue\n")
