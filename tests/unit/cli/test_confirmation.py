"""Who is asked may say no, by a word or by Ctrl-C, and then nothing was begun."""

from __future__ import annotations

import io
import sys

import pytest

from kubectl_yoshi.model.network import NETWORKWIZARD
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster


class Terminal(io.StringIO):
    """A stdin at which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def stale(cluster: FakeCluster) -> FakeCluster:
    """With an old record of a VM that is gone, and a VM whose record is lost."""
    cluster.vm("gone")
    cluster.attach("gone")
    cluster.delete_vm("gone")
    cluster.vm("lost", pin="10.133.0.9")
    return cluster


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "end of stdin"])
@pytest.mark.parametrize("line", ["network delete blue blue --force", "ips gc --grace 0", "ips rebuild --network blue"])
def test_unconfirmed_command_changes_nothing_and_fails(
    stale: FakeCluster, monkeypatch: pytest.MonkeyPatch, line: str, answer: str
) -> None:
    before = stale.api.every(NETWORKWIZARD)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    said = run(stale, *line.split())
    assert said.err.endswith("error: not confirmed\nNothing was changed.\n")
    assert (said.code, stale.api.every(NETWORKWIZARD)) == (1, before)


def test_no_network_is_deleted_before_all_are_confirmed(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.network("red", "10.134.0.0/24")
    monkeypatch.setattr(sys, "stdin", Terminal("y\nn\n"))
    assert run(cluster, "network", "delete", "blue", "red", "--force").code == 1
    assert cluster.networks() == ["blue", "red"]
    monkeypatch.setattr(sys, "stdin", Terminal("y\ny\n"))
    assert run(cluster, "network", "delete", "blue", "red", "--force").code == 0
    assert cluster.networks() == []
