"""Concurrent users whose clocks differ by an hour: allocations are young for one and old for another."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from kubectl_yoshi.kube.client import Api
from lab.testing import Cluster
from tests.cluster.checker import violations
from tests.cluster.command_fixture import CommandFixture, HastyClock, open_fixtures, run_in_process
from tests.cluster.raw_state import read_raw_state

pytestmark = [pytest.mark.I1, pytest.mark.I5]

SKEWS = {"slow": -3600.0, "right": 0.0, "fast": 3600.0, "fast too": 3600.0}
COMMANDS = 20
VMS = ("web-1", "web-2", "web-3")
UNDERSTOOD = ("is full", "already has", "is not free", "was faster", "others", "no address", "not found", "stays")


class Skewed(datetime):
    """A clock that each thread sets for itself."""

    ahead = threading.local()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=getattr(cls.ahead, "seconds", 0.0))


@pytest.fixture
def fixture(installed: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandFixture]:
    monkeypatch.setattr("kubectl_yoshi.plan.context.datetime", Skewed)
    with open_fixtures(installed, [70], tmp_path) as (found,):
        found.clear()
        found.done("network create small --cidr {ip}.0.0/29")
        found.done("network create large --cidr {ip}.16.0/20")
        yield found
        found.clear()


def one_person(fixture: CommandFixture, skew: float, seed: str) -> list[str]:
    """Commands at random; gives what went wrong in another way than people understand."""
    Skewed.ahead.seconds = skew
    rng = random.Random(seed)
    wrong = []
    for _ in range(COMMANDS):
        vm, network = rng.choice(VMS), rng.choice(("small", "large"))
        command = rng.choice(
            [
                f"vm attach {vm} --network {network} --replace",
                f"vm attach {vm} --network {network}",
                f"vm detach {vm} --network {network}",
                "ips gc --grace 5m --yes",
                "sync",
            ]
        )
        api = Api(fixture.good, clock=HastyClock())
        api.__dict__["served"] = fixture.api.served
        ran = run_in_process(command.split(), api, fixture.namespace)
        understood = ran.code == 0 or any(words in ran.err for words in UNDERSTOOD)
        if ran.code not in (0, 1) or not understood or "internal error" in ran.err:
            wrong.append(str(ran))
    return wrong


def test_invariants_hold_with_skewed_clocks(fixture: CommandFixture, installed: Cluster) -> None:
    assert fixture.api.served
    with ThreadPoolExecutor(len(SKEWS)) as pool:
        going = [pool.submit(one_person, fixture, skew, name) for name, skew in SKEWS.items()]
        while not all(one.done() for one in going):
            found = violations(read_raw_state(installed, [fixture.namespace]), [fixture.namespace])
            assert not [one for one in found if not one.startswith("I3") or "carries" in one]
        wrong = [text for one in going for text in one.result()]
    assert not wrong, "\n".join(wrong[:3])
    fixture.check()
    for skew in (3600.0, -3600.0):
        Skewed.ahead.seconds = skew
        fixture.run("sync")
        fixture.done("ips gc --grace 0s --yes")
        fixture.check(settled=True)
    Skewed.ahead.seconds = 0.0
