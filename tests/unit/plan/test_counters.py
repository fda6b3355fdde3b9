"""The counters in the status of a network.

small    written with each allocation
large    counted after a run that writes allocations, at most once a minute, and by `ips gc` and `ips rebuild`
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from kubectl_yoshi.kube.errors import ForbiddenError
from kubectl_yoshi.model.allocations import compute_counters
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, parse_network
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.plan.context import format_timestamp
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster

BLUE = NETWORKWIZARD.ref("blue", "prod")
LARGE = "10.133.0.0/16"
USABLE = 65534


@pytest.fixture
def large() -> FakeCluster:
    """A cluster with network prod/blue, of 65,536 addresses, and three VMs."""
    cluster = FakeCluster()
    cluster.network(cidr=LARGE)
    for number in range(1, 4):
        cluster.vm(f"web-{number}")
    return cluster


def status(cluster: FakeCluster) -> Json:
    return dict(cluster.api.get(BLUE)["status"])


def counters(cluster: FakeCluster) -> list[int | None]:
    found = status(cluster)
    return [found.get(counter) for counter in ("size", "used", "free", "usePercent")]


def minutes_pass(cluster: FakeCluster, minutes: int) -> None:
    """The addresses were counted that many minutes ago."""
    counted = format_timestamp(datetime.now(timezone.utc) - timedelta(minutes=minutes))
    cluster.api.change(BLUE, lambda obj: obj["status"].update(countedAt=counted))


def test_small_network_counts_with_each_allocation() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm()
    cluster.attach()
    assert counters(cluster) == [254, 1, 253, 1]
    cluster.detach()
    assert counters(cluster) == [254, 0, 254, 0]
    assert "countedAt" not in status(cluster)


def test_large_network_is_counted_at_most_once_a_minute(large: FakeCluster) -> None:
    minutes_pass(large, 2)
    large.attach("web-1")
    assert counters(large) == [USABLE, 1, USABLE - 1, 1]
    large.attach("web-2")
    assert counters(large) == [USABLE, 1, USABLE - 1, 1], "it was counted just now"
    minutes_pass(large, 2)
    large.reserve("10.133.200.7")
    assert counters(large) == [USABLE, 3, USABLE - 3, 1]
    minutes_pass(large, 2)
    large.detach("web-1", "web-2")
    assert counters(large) == [USABLE, 1, USABLE - 1, 1]


def test_network_create_counts_a_large_network() -> None:
    cluster = FakeCluster()
    cluster.network(cidr=LARGE)
    assert counters(cluster) == [USABLE, 0, USABLE, 0]
    assert status(cluster)["countedAt"]


@pytest.mark.parametrize("command", ["ips gc --yes", "ips rebuild --yes"])
def test_command_that_reads_all_blocks_writes_counters_that_differ(large: FakeCluster, command: str) -> None:
    large.attach("web-1")
    large.attach("web-2")
    assert counters(large)[1] != 2
    for _ in range(2):
        assert run(large, *command.split()).code == 0
        assert counters(large) == [USABLE, 2, USABLE - 2, 1]
    before = large.api.get(BLUE)
    assert run(large, *command.split()).code == 0
    assert large.api.get(BLUE) == before


def test_network_list_counts_by_itself(large: FakeCluster) -> None:
    large.attach("web-1")
    large.attach("web-2")
    assert counters(large)[1] != 2
    (shown,) = json.loads(run(large, "network", "list", "-o", "json").out)["items"]
    expected = {"size": USABLE, "used": 2, "free": USABLE - 2, "usePercent": 1}
    assert {counter: shown["status"][counter] for counter in expected} == expected
    assert run(large, "network", "list", "--no-headers").out.split()[4:8] == [*map(str, expected.values())]


def test_refused_count_is_no_error(large: FakeCluster) -> None:
    minutes_pass(large, 2)

    def refuse(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource, ref.name) == ("list", ADDRESSBLOCK, ""):
            raise ForbiddenError("Forbidden.", missing_permission="may not list addressblocks")

    large.api.before.append(refuse)
    done = large.attach("web-1")
    assert not done.errors
    assert counters(large)[1] == 0


@pytest.mark.parametrize(
    ("spec", "used", "outside", "expected"),
    [
        ({"cidr": "10.0.0.0/24"}, 1, 0, {"size": 254, "used": 1, "free": 253, "usePercent": 1}),
        ({"cidr": "10.0.0.0/24"}, 254, 0, {"size": 254, "used": 254, "free": 0, "usePercent": 100}),
        ({"cidr": "10.0.0.0/24", "plugin": "public"}, 3, 2, {"size": 254, "used": 3, "free": 253, "usePercent": 1}),
        ({"cidr": "fd00::/48"}, 1, 0, {"size": (1 << 63) - 1, "used": 1, "free": (1 << 63) - 1, "usePercent": 1}),
        ({"plugin": "public"}, 3, 3, {"used": 3}),
    ],
)
def test_counters(spec: Json, used: int, outside: int, expected: dict[str, int]) -> None:
    network = parse_network(
        {"metadata": {"name": "a", "namespace": "b", "uid": "1"}, "spec": {"plugin": "calico", **spec}}
    )
    assert compute_counters(network, used, outside) == expected
