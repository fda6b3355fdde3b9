"""FakeCluster.check finds errors independently of the program's own code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi.model.network import NETWORKWIZARD, Network
from tests.unit.plan.fake_cluster import FakeCluster, wizard


def test_check_finds_an_unusable_address_independently_of_the_program(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Network, "unusable_reason", lambda *_: "")
    cluster.vm()
    assert cluster.attach(ip="10.133.0.255").results == {"prod/web-1": "10.133.0.255"}
    with pytest.raises(AssertionError, match=r"I4 prod/blue: 10\.133\.0\.255 is held, but it is the broadcast address"):
        cluster.check()


def overlap(cluster: FakeCluster) -> None:
    cluster.api.put(NETWORKWIZARD, wizard("red", "10.133.0.128/25"))


def record_twice(cluster: FakeCluster) -> None:
    cluster.vm("web-2", pin="10.133.0.1")


def forget(cluster: FakeCluster) -> None:
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["status"]["allocations"].clear())


def record_another(cluster: FakeCluster) -> None:
    def change(obj: dict[str, dict[str, dict[str, object]]]) -> None:
        records = obj["status"]["allocations"]
        records["10.133.0.7"] = records["10.133.0.1"]

    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), change)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (overlap, r"I1 networks prod/blue \(10\.133\.0\.0/24\) and prod/red \(10\.133\.0\.128/25\) overlap"),
        (record_twice, r"I1 10\.133\.0\.1 is carried by prod/web-1 and prod/web-2"),
        (forget, r"I2 prod/web-1 carries 10\.133\.0\.1 .* has no record"),
        (record_another, r"I3 prod/web-1 .* has 2 records on prod/blue"),
    ],
)
def test_check_finds_violated_invariants(cluster: FakeCluster, harm: Callable[[FakeCluster], None], says: str) -> None:
    cluster.vm()
    cluster.attach()
    cluster.check()
    harm(cluster)
    with pytest.raises(AssertionError, match=says):
        cluster.check()
