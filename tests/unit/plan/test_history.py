"""Previous owners of an address: written by the patch that removes the allocation, bounded, and kept with the network.

detached, collected, released, moved to another VM, recreated    a tenure, the latest first
rolled back by the very run that wrote it                         none: nobody had it
released by several at once                                    all of them
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.allocations import SHARD_SIZE, VIRTUALMACHINE
from kubectl_yoshi.model.history import (
    MAX_NOTE_LENGTH,
    MAX_PER_ADDRESS,
    PastAllocation,
    parse_history,
    prepend_past_allocation,
)
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, name_of
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from tests.unit.plan.fake_cluster import FakeCluster

SMALL, LARGE = "10.133.0.0/24", "10.133.0.0/16"
SIZES = pytest.mark.parametrize("cidr", [SMALL, LARGE])
SIZE_LIMIT = 3 << 19
"""Bytes that an object may have in etcd: 1.5 MiB."""


def made(cidr: str) -> FakeCluster:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    return cluster


def history(cluster: FakeCluster) -> dict[str, list[str]]:
    """Address -> who had it, the latest first."""
    found: dict[str, list[str]] = {}
    for obj in [*cluster.api.every(NETWORKWIZARD), *cluster.api.every(ADDRESSBLOCK)]:
        for address, value in obj["status"].get("history", {}).items():
            assert value
            found[address] = [f"{one.namespace}/{one.name}" for one in parse_history(value)]
    return found


@SIZES
def test_detached_vm_is_the_latest_entry(cidr: str) -> None:
    cluster = made(cidr)
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    (record,) = cluster.records().values()
    before = datetime.now(timezone.utc) - timedelta(seconds=2)
    cluster.detach()
    assert history(cluster) == {"10.133.0.9": ["prod/web-1"]}
    (obj,) = [
        o for o in [*cluster.api.every(NETWORKWIZARD), *cluster.api.every(ADDRESSBLOCK)] if o["status"].get("history")
    ]
    (value,) = obj["status"]["history"]["10.133.0.9"]
    assert value["uid"] == record.uid
    assert value["since"] == record.since[:19] + "Z"
    assert before <= datetime.fromisoformat(value["until"].replace("Z", "+00:00")) <= datetime.now(timezone.utc)
    assert "kind" not in value


@SIZES
def test_history_is_ordered_latest_first_and_bounded(cidr: str) -> None:
    cluster = made(cidr)
    for name in ("web-1", "web-2", "web-3"):
        cluster.vm(name)
        cluster.attach(name, ip="10.133.0.9")
        cluster.detach(name)
    assert history(cluster) == {"10.133.0.9": ["prod/web-3", "prod/web-2"]}
    assert MAX_PER_ADDRESS == 2


def test_recreated_vm_has_its_earlier_entry() -> None:
    cluster = made(SMALL)
    cluster.vm()
    cluster.attach(ip="10.133.0.9")
    (old,) = cluster.records().values()
    cluster.delete_vm()
    cluster.vm()
    cluster.attach()
    assert history(cluster) == {"10.133.0.9": ["prod/web-1"]}
    (value,) = cluster.api.get(NETWORKWIZARD.ref("blue", "prod"))["status"]["history"]["10.133.0.9"]
    assert value["uid"] == old.uid


def test_gc_and_release_write_history() -> None:
    cluster = made(SMALL)
    for name in ("web-1", "web-2"):
        cluster.vm(name)
    cluster.attach("web-1", ip="10.133.0.1")
    cluster.reserve("10.133.0.7", note="printer")
    cluster.delete_vm("web-1")
    cluster.collect()
    cluster.release("10.133.0.7")
    assert set(history(cluster)) == {"10.133.0.1", "10.133.0.7"}
    (value,) = cluster.api.get(NETWORKWIZARD.ref("blue", "prod"))["status"]["history"]["10.133.0.7"]
    assert (value["kind"], value["note"]) == ("Reservation", "printer")


@SIZES
def test_rolled_back_allocation_has_no_history(cidr: str) -> None:
    cluster = made(cidr)
    cluster.vm()
    cluster.api.refuse("patch", VM)
    assert cluster.attach().errors
    assert cluster.records() == {}
    assert history(cluster) == {}


def test_rebuild_with_new_uids_writes_no_history() -> None:
    cluster = made(SMALL)
    cluster.vm()
    cluster.attach()
    blue = NETWORKWIZARD.ref("blue", "prod")
    cluster.api.change(blue, lambda obj: obj["status"]["allocations"]["10.133.0.1"].update(uid="of-before"))
    cluster.run(plan_rebuild, RebuildRequest(("prod", "blue")))
    assert cluster.records()["10.133.0.1"].uid == cluster.now().uid
    assert history(cluster) == {}


@SIZES
@pytest.mark.parametrize("fresh", [True, False])
def test_concurrent_releases_are_all_in_the_history(cidr: str, fresh: bool) -> None:
    cluster = made(cidr)
    names = [f"web-{number}" for number in range(6)]
    for place, name in enumerate(names):
        cluster.vm(name)
        cluster.attach(name, ip=f"10.133.0.{10 + place}")
    if fresh:  # as an older version left it
        for obj in [*cluster.api.every(NETWORKWIZARD), *cluster.api.every(ADDRESSBLOCK)]:
            resource = ADDRESSBLOCK if obj["kind"] == "AddressBlock" else NETWORKWIZARD
            cluster.api.change(resource.ref(name_of(obj), "prod"), lambda one: one["status"].pop("history", None))
    done = cluster.run_concurrently(
        *(partial(lambda mine, name: mine.detach(name), name=name) for name in names), seed=3
    )
    assert not any(isinstance(one, Exception) or one.errors for one in done)
    assert sorted(who for (who,) in history(cluster).values()) == [f"prod/{name}" for name in names]
    cluster.check()


def test_empty_block_is_deleted_after_its_history_expired() -> None:
    cluster = made(LARGE)
    cluster.vm()
    cluster.attach()
    cluster.detach()
    (block,) = cluster.api.every(ADDRESSBLOCK)
    ref = ADDRESSBLOCK.ref(name_of(block), "prod")
    cluster.collect()
    assert cluster.api.look(ref)

    def grow_old(obj: Json) -> None:
        for (past,) in obj["status"]["history"].values():
            past["until"] = (datetime.now(timezone.utc) - timedelta(days=31)).strftime("%Y-%m-%dT%H:%M:%SZ")

    cluster.api.change(ref, grow_old)
    cluster.collect()
    assert cluster.api.look(ref) is None


NAME = st.text("abc-.123", min_size=1, max_size=253)
TENURES = st.builds(
    PastAllocation,
    st.sampled_from([VIRTUALMACHINE, "Reservation", "Network"]),
    st.text("abc", min_size=1, max_size=63),
    NAME,
    st.just("0f2ad0d6-6f5c-4e8a-9f5e-2f6b6f0f9d2a"),
    st.text(max_size=200),
    st.just("2026-11-25T10:00:00.123456Z"),
    st.just("2026-11-25T11:00:00.123456Z"),
)


@given(st.lists(TENURES, max_size=6))
def test_prepended_history_is_bounded_and_keeps_the_latest_entries(tenures: list[PastAllocation]) -> None:
    written: list[Json] = []
    for past in tenures:
        written = prepend_past_allocation(parse_history(written), past)
    read = parse_history(json.loads(json.dumps(written)))
    assert [(one.kind, one.namespace, one.name, one.uid) for one in read] == [
        (one.kind, one.namespace, one.name, one.uid) for one in reversed(tenures[-MAX_PER_ADDRESS:])
    ]
    assert all(len(one.note) <= MAX_NOTE_LENGTH and one.until == "2026-11-25T11:00:00Z" for one in read)


def test_full_block_with_the_longest_names_is_far_below_the_size_limit() -> None:
    longest = PastAllocation(
        VIRTUALMACHINE, "n" * 63, "v" * 253, "u" * 36, "", "2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"
    )
    record = {**longest.to_json(), "kind": VIRTUALMACHINE, "mac": "02:00:00:00:00:01"}
    of_one = len(json.dumps(prepend_past_allocation([longest] * 5, longest))) + len(json.dumps(record)) + 2 * 42
    assert SHARD_SIZE * of_one < SIZE_LIMIT / 3


@pytest.mark.parametrize("value", [None, "web-1", 3, {}, [None, "x", {"name": "web-1"}]])
def test_invalid_history_is_empty(value: object) -> None:
    assert parse_history(value) == ()
