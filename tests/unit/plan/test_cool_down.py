"""spec.coolDown: a released address is not assigned to others for a while, and to its last owner at once.

chosen automatically    attach of one and of many, reserve --count    never a cooling one; full says for how long
asked for               by who had it, by another VM, reserved         given, refused with the time left, given
recreated               under its name, at once or later               its old address, if it is free
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, parse_cool_down
from kubectl_yoshi.model.objects import Json, name_of
from tests.unit.plan.fake_cluster import FakeCluster, refusal

SMALL, LARGE = "10.133.0.0/24", "10.133.0.0/16"
SIZES = pytest.mark.parametrize("cidr", [SMALL, LARGE])
RANGE = {"range_start": "10.133.0.1", "range_end": "10.133.0.3"}


def cooling(cidr: str = SMALL, **spec: Any) -> FakeCluster:
    """Network prod/blue that cools down for 10 minutes, and VMs web-1 to web-4."""
    cluster = FakeCluster()
    cluster.network(cidr=cidr, **{"coolDown": "10m", **spec})
    for number in range(1, 5):
        cluster.vm(f"web-{number}")
    return cluster


def later(cluster: FakeCluster, **time: float) -> None:
    """Makes every tenure end so much earlier."""

    def grow_old(obj: Json) -> None:
        for tenures in obj["status"].get("history", {}).values():
            for past in tenures:
                ended = datetime.fromisoformat(past["until"].replace("Z", "+00:00")) - timedelta(**time)
                past["until"] = ended.strftime("%Y-%m-%dT%H:%M:%SZ")

    for resource in (NETWORKWIZARD, ADDRESSBLOCK):
        for obj in cluster.api.every(resource):
            cluster.api.change(resource.ref(name_of(obj), "prod"), grow_old)


@SIZES
def test_released_address_is_assigned_to_no_other_vm_during_cool_down(cidr: str) -> None:
    cluster = cooling(cidr, **RANGE)
    cluster.attach("web-1")
    cluster.detach("web-1")
    cluster.attach("web-2", "web-3")
    assert cluster.holders() == {"10.133.0.2": "prod/web-2", "10.133.0.3": "prod/web-3"}
    error = refusal(cluster.attach("web-4"), "prod/web-4")
    assert error.message.startswith(
        f"network prod/blue is full: no address of {cidr} is free, 1 are cooling down, the first"
    )
    assert error.message.rpartition("free in ")[2] in ("10m", "9m59s", "9m58s", "9m57s")
    assert "spec.coolDown" in error.hint
    later(cluster, minutes=11)
    assert not cluster.attach("web-4").errors
    assert cluster.holders()["10.133.0.1"] == "prod/web-4"
    cluster.check()


def test_released_address_without_cool_down_is_assigned_at_once() -> None:
    cluster = cooling(coolDown="0s", **RANGE)
    cluster.attach("web-1")
    cluster.detach("web-1")
    cluster.attach("web-2")
    assert cluster.holders() == {"10.133.0.1": "prod/web-2"}


def test_reserve_count_skips_cooling_addresses_and_named_reservations_do_not() -> None:
    cluster = cooling(**RANGE)
    cluster.attach("web-1")
    cluster.detach("web-1")
    cluster.reserve(count=2)
    assert set(cluster.holders()) == {"10.133.0.2", "10.133.0.3"}
    assert not cluster.reserve("10.133.0.1").errors


@SIZES
def test_requested_cooling_address_is_assigned_only_to_its_last_owner(cidr: str) -> None:
    cluster = cooling(cidr)
    cluster.attach("web-1", ip="10.133.0.9")
    cluster.detach("web-1")
    error = refusal(cluster.attach("web-2", ip="10.133.0.9"), "prod/web-2")
    assert error.message.startswith("10.133.0.9 cools down for another ")
    assert ": prod/web-1 had it until 2" in error.message
    assert "spec.coolDown" in error.hint
    assert not cluster.attach("web-1", ip="10.133.0.9").errors
    cluster.detach("web-1")
    later(cluster, minutes=10, seconds=1)
    assert not cluster.attach("web-2", ip="10.133.0.9").errors


@SIZES
@pytest.mark.parametrize("cool_down", ["10m", "0s"])
def test_recreated_vm_gets_its_old_address_while_it_is_free(cidr: str, cool_down: str) -> None:
    cluster = cooling(cidr, coolDown=cool_down)
    cluster.attach("web-1")
    (lowest,) = cluster.holders()
    old = lowest.removesuffix(".1") + ".7"
    cluster.attach("web-1", ip=old, replace=True)
    cluster.attach("web-2", "web-3")
    cluster.delete_vm("web-1")
    cluster.collect()
    assert "prod/web-1" not in cluster.holders().values()
    cluster.vm("web-1")
    cluster.attach("web-1")
    assert cluster.holders()[old] == "prod/web-1"
    cluster.check()


def test_many_recreated_vms_each_get_their_old_address() -> None:
    cluster = cooling(coolDown="0s")
    names = ("web-1", "web-2", "web-3", "web-4")
    cluster.attach(*names)
    had = cluster.holders()
    for name in names:
        cluster.delete_vm(name)
    cluster.collect()
    assert cluster.holders() == {}
    for name in ("new-1", "new-2", *names):
        cluster.vm(name)
    cluster.attach("new-1", "new-2", *names[::-1])
    assert {address: who for address, who in cluster.holders().items() if "web" in who} == had
    assert len(cluster.holders()) == 6
    cluster.check()


def test_old_address_in_use_is_not_assigned_again() -> None:
    cluster = cooling(coolDown="0s")
    cluster.attach("web-1")
    cluster.detach("web-1")
    cluster.attach("web-2", ip="10.133.0.1")
    cluster.attach("web-1")
    assert cluster.holders() == {"10.133.0.1": "prod/web-2", "10.133.0.2": "prod/web-1"}

    cluster.attach("web-3")
    cluster.detach("web-3")
    cluster.hold_by_pod("10.133.0.3")
    cluster.attach("web-3")
    assert cluster.holders()["10.133.0.4"] == "prod/web-3"


def test_vm_of_the_same_name_in_another_namespace_is_another_owner() -> None:
    cluster = cooling(**RANGE)
    cluster.vm("web-1", "dev")
    cluster.attach("prod/web-1")
    cluster.detach("prod/web-1")
    cluster.attach("dev/web-1")
    assert cluster.holders() == {"10.133.0.2": "dev/web-1"}


def test_replaced_address_cools_down() -> None:
    cluster = cooling(**RANGE)
    cluster.attach("web-1")
    cluster.attach("web-1", ip="10.133.0.3", replace=True)
    cluster.attach("web-2")
    assert cluster.holders() == {"10.133.0.2": "prod/web-2", "10.133.0.3": "prod/web-1"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("45s", 45), ("720h", 2592000), ("0s", 0)]
)
def test_cool_down_is_parsed_as_a_duration(text: str, seconds: int) -> None:
    assert parse_cool_down(text) == seconds


@pytest.mark.parametrize("value", ["", "10", "m", "10 minutes", 600, "-1m", "721h", ["10m"]])
def test_invalid_cool_down_is_a_usage_error(value: object) -> None:
    with pytest.raises(UsageError, match="coolDown"):
        parse_cool_down(value)


@given(st.integers(1, 30 * 86400))
def test_format_duration_rounds_up_to_its_unit(seconds: int) -> None:
    told = parse_cool_down(format_duration(seconds))
    assert 0 <= seconds - told < (60 if seconds >= 3600 else 1)
    assert parse_cool_down(format_duration(seconds - 0.5)) == told or seconds >= 3600
