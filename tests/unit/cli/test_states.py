"""The states of addresses: one word each, in one place, with a colour and documented; and those of `ips show`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kubectl_yoshi.cli.ips.list import STATES
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.output.tables import STATE_COLOURS
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster

STATES_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "states.md"


def test_every_state_is_one_word_with_a_colour_and_documented() -> None:
    states = [state.value for state in AddressState]
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", state) for state in states)
    documented = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \|$", STATES_PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(documented) == STATE_COLOURS
    assert sorted(STATE_COLOURS) == sorted(states)
    assert {*STATES} == {*states} - {"Free", "Unusable"}


@pytest.mark.parametrize(
    ("address", "state", "reason"),
    [
        ("10.133.0.1", "Bound", ""),
        ("10.133.0.2", "Free", ""),
        ("10.133.0.255", "Unusable", "it is the network or broadcast address"),
    ],
)
def test_ips_show_prints_the_state(address: str, state: str, reason: str) -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm()
    cluster.attach()
    shown = run(cluster, "ips", "show", address).out.splitlines()
    fields = dict(re.split(r": +", line, maxsplit=1) for line in shown)
    assert (fields["State"], fields.get("Reason", "")) == (state, reason)
    status = json.loads(run(cluster, "ips", "show", address, "-o", "json").out)["status"]
    assert (status["state"], status["reason"]) == (state, reason)


def test_states_are_coloured_where_they_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    cluster = FakeCluster()
    cluster.network()
    cluster.vm()
    cluster.attach()
    for words in ("ips list", "vm list", "ips show 10.133.0.1", "network describe blue"):
        assert "\x1b[32mBound\x1b[0m" in run(cluster, *words.split()).out, words
