"""A command that an error names as the way out does what it is for, as it is written, from any namespace."""

from __future__ import annotations

import re
import shlex

from tests.unit.cli.command_runner import CliResult, run
from tests.unit.plan.fake_cluster import FakeCluster


def remedies(said: CliResult) -> list[list[str]]:
    """Return the words of each `kubectl yoshi` command in the output."""
    return [shlex.split(line) for line in re.findall(r"`kubectl yoshi ([^`]*)`", said.err)]


def test_commands_in_the_refusal_of_a_private_move_work(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.vm("web-2")
    cluster.attach("web-1", ip="10.133.0.80")
    refused = run(
        cluster, "ips", "move", "10.133.0.80", "--to", "prod/web-2", "--network", "prod/blue", namespace="dev"
    )
    assert "only public addresses can" in refused.err
    for words in remedies(refused):
        said = run(cluster, *words, namespace="dev")
        assert said.code == 0, said
    assert cluster.holders() == {"10.133.0.80": "prod/web-2"}
