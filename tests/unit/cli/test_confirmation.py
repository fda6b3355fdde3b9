"""Who is asked may say no, by a word or by Ctrl-C, and then nothing was begun."""

from __future__ import annotations

import io
import sys

import pytest

from kubectl_yoshi.model.network import NETWORKWIZARD
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import World


class Terminal(io.StringIO):
    """A stdin at which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def stale(world: World) -> World:
    """With an old record of a VM that is gone, and a VM whose record is lost."""
    world.vm("gone")
    world.attach("gone")
    world.drop_vm("gone")
    world.vm("lost", pin="10.133.0.9")
    return world


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "end of stdin"])
@pytest.mark.parametrize("line", ["network delete blue blue --force", "ips gc --grace 0", "ips rebuild --network blue"])
def test_what_is_not_confirmed_changes_nothing_and_says_so(
    stale: World, monkeypatch: pytest.MonkeyPatch, line: str, answer: str
) -> None:
    before = stale.api.every(NETWORKWIZARD)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    said = run(stale, *line.split())
    assert said.err.endswith("error: not confirmed\nNothing was changed.\n")
    assert (said.code, stale.api.every(NETWORKWIZARD)) == (1, before)


def test_nothing_is_deleted_before_every_network_is_confirmed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.network("red", "10.134.0.0/24")
    monkeypatch.setattr(sys, "stdin", Terminal("y\nn\n"))
    assert run(world, "network", "delete", "blue", "red", "--force").code == 1
    assert world.networks() == ["blue", "red"]
    monkeypatch.setattr(sys, "stdin", Terminal("y\ny\n"))
    assert run(world, "network", "delete", "blue", "red", "--force").code == 0
    assert world.networks() == []
