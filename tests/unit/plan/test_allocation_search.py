"""Search of a free address in a large network: the lowest one, from where the status says to start.

attached one by one, many, reserved    the lowest free addresses, block after block
a block is full                        one table of counts is read, and the status names the next block with room
an address of a lower block released   it is the next one given; not while it cools down
the status is wrong, or not writable   everything works, from another block or by one table more
somebody was faster                    random in the block, and for a minute in one of the next few
a VM recreated                         gets its address where the backend still knows it, in whichever block
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from kubectl_yoshi.kube.errors import UnreachableError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef, dig
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.attach.allocate import CONTENDED_SHARDS
from kubectl_yoshi.plan.context import format_timestamp
from tests.unit.plan.fake_api import FakeApi
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_attach import once_before

pytestmark = pytest.mark.I9

LARGE = "10.133.0.0/16"
BLUE = NETWORKWIZARD.ref("blue", "prod")
VMS = [f"web-{number}" for number in range(1, 6)]


def large(**spec: object) -> FakeCluster:
    """Network prod/blue, and VMs web-1 to web-5."""
    cluster = FakeCluster()
    cluster.network(cidr=LARGE, **spec)
    for name in VMS:
        cluster.vm(name)
    return cluster


def search_from(cluster: FakeCluster) -> str:
    return str(dig(cluster.api.get(BLUE), "status", "searchFrom", default=""))


def tables(cluster: FakeCluster) -> int:
    return cluster.api.tried[("list", ADDRESSBLOCK.plural)]


def full_but(cluster: FakeCluster, *free: str, blocks: int = 1) -> None:
    """Reserves all addresses of the first blocks but these."""
    cluster.reserve(count=blocks * 256 - 1)
    if free:
        cluster.release(*free)


@pytest.mark.parametrize("together", [True, False])
def test_lowest_free_addresses_are_assigned(together: bool) -> None:
    cluster = large()
    for names in [VMS[:3]] if together else VMS[:3]:
        cluster.attach(*([names] if isinstance(names, str) else names))
    cluster.reserve(count=2)
    assert list(cluster.holders()) == [f"10.133.0.{last}" for last in range(1, 6)]
    assert search_from(cluster) == "", "nothing is written while the first block has room"
    cluster.detach("web-2")
    cluster.attach("web-4")
    assert cluster.holders()["10.133.0.2"] == "prod/web-4"
    cluster.check()


def test_search_continues_after_a_full_block_and_later_searches_start_there() -> None:
    cluster = large()
    full_but(cluster, "10.133.0.200")
    cluster.attach("web-1")
    assert cluster.pin("web-1") == "10.133.0.200"
    cluster.attach("web-2")
    assert (cluster.pin("web-2"), search_from(cluster)) == ("10.133.1.1", "10.133.1.0")
    before = tables(cluster)
    cluster.attach("web-3")
    cluster.attach("web-4")
    assert (cluster.pin("web-3"), cluster.pin("web-4")) == ("10.133.1.2", "10.133.1.3")
    assert tables(cluster) == before, "where to begin is known"
    cluster.check()


def test_released_address_of_a_lower_block_is_assigned_next() -> None:
    cluster = large()
    full_but(cluster)
    cluster.attach("web-1")
    assert search_from(cluster) == "10.133.1.0"
    cluster.release("10.133.0.9")
    assert search_from(cluster) == "10.133.0.0"
    cluster.attach("web-2")
    cluster.attach("web-3")
    assert (cluster.pin("web-2"), cluster.pin("web-3")) == ("10.133.0.9", "10.133.1.2")
    assert search_from(cluster) == "10.133.1.0"
    cluster.check()


def test_cooling_address_does_not_move_the_search_start_back() -> None:
    cluster = large(coolDown="10m")
    full_but(cluster)
    cluster.attach("web-1")
    cluster.release("10.133.0.9")
    assert search_from(cluster) == "10.133.1.0"
    cluster.attach("web-2")
    assert cluster.pin("web-2") == "10.133.1.2"


def test_concurrently_lowered_search_start_is_not_raised() -> None:
    cluster = large()
    full_but(cluster, blocks=2)
    cluster.api.change(BLUE, lambda obj: obj["status"].update(searchFrom="10.133.1.0"))

    def lower(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == ADDRESSBLOCK:
            cluster.api.change(BLUE, lambda obj: obj["status"].update(searchFrom="10.133.0.0"))

    cluster.api.before.append(lower)
    cluster.attach("web-1")
    assert (cluster.pin("web-1"), search_from(cluster)) == ("10.133.2.1", "10.133.0.0")


@pytest.mark.parametrize("wrong", ["10.133.9.0", "10.133.0.0", "10.133.255.0", "172.16.0.1", "nonsense"])
def test_every_address_is_assigned_once_for_any_search_start(wrong: str) -> None:
    """It is a hint: an older version does not write it, and anybody may have written it."""
    cluster = large(range_start="10.133.8.254", range_end="10.133.10.1")
    cluster.reserve("10.133.8.254", "10.133.8.255", *[f"10.133.9.{last}" for last in range(256)])
    cluster.api.change(BLUE, lambda obj: obj["status"].update(searchFrom=wrong))
    done = cluster.attach("web-1", "web-2", "web-3")
    assert list(done.errors) == ["prod/web-3"]
    assert {cluster.pin("web-1"), cluster.pin("web-2")} == {"10.133.10.0", "10.133.10.1"}
    cluster.check()


@pytest.mark.parametrize("fails", [True, False])
def test_search_start_that_cannot_be_written_costs_only_time(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write fails, or the API server drops the field, which older CRDs do not have."""
    cluster = large()
    full_but(cluster)
    patch = FakeApi.patch

    def without(api: FakeApi, ref: ObjectRef, body: list[Json], **more: Any) -> Json:
        if fails and any(op["path"] == "/status/searchFrom" and op["op"] == "add" for op in body):
            raise UnreachableError("the API server cannot be reached")
        return patch(api, ref, [op for op in body if op["path"] != "/status/searchFrom"], **more)

    monkeypatch.setattr(FakeApi, "patch", without)
    for place, name in enumerate(VMS[:3], 1):
        done = cluster.attach(name)
        assert not done.errors
        assert not done.notes
        assert cluster.pin(name) == f"10.133.1.{place}"
    assert search_from(cluster) == ""
    cluster.check()


def test_contention_makes_writers_choose_at_random_and_spread_over_the_next_blocks() -> None:
    cluster = large()
    cluster.attach("web-1")
    once_before(cluster, "patch", "AddressBlock", lambda: cluster.second_client(1).attach("web-2"))
    cluster.attach("web-3")
    assert cluster.pin("web-2") == "10.133.0.2"
    assert cluster.pin("web-3").startswith("10.133.0."), "still in the first block"
    assert dig(cluster.api.get(BLUE), "status", "contendedAt")
    cluster.reserve(count=1)
    cluster.attach("web-4")
    cluster.attach("web-5")
    thirds = {int(address.split(".")[2]) for address in cluster.holders()}
    assert max(thirds) < CONTENDED_SHARDS
    assert len(thirds) > 1
    assert search_from(cluster) == "", "where the lowest free address is, is not forgotten"
    cluster.api.change(BLUE, lambda obj: obj["status"].update(contendedAt="2026-01-01T00:00:00Z"))
    cluster.vm("web-6")
    cluster.attach("web-6")
    assert cluster.pin("web-6") == "10.133.0.3"
    cluster.check()


def test_one_block_is_read_during_contention() -> None:
    cluster = large()
    cluster.attach("web-1")
    cluster.api.change(BLUE, lambda obj: obj["status"].update(contendedAt=format_timestamp(datetime.now(timezone.utc))))
    before = cluster.api.tried[("get", ADDRESSBLOCK.plural)]
    cluster.attach("web-2", dry_run="client")
    assert cluster.api.tried[("get", ADDRESSBLOCK.plural)] == before + 1


def test_dry_run_does_not_print_the_search_start() -> None:
    cluster = large()
    full_but(cluster)
    shown = cluster.attach("web-1", dry_run="client").plan
    assert not [change.summary for change in shown if "search" in change.summary]
    assert search_from(cluster) == ""


def test_recreated_vm_gets_the_address_that_the_backend_still_holds_in_any_block() -> None:
    cluster = large()
    cluster.vm("db", runStrategy="Always")
    cluster.attach("db", restart=True)
    had = cluster.pin("db")
    cluster.time_passes()
    full_but(cluster, blocks=2)
    cluster.attach("web-1")
    assert search_from(cluster) == "10.133.2.0"
    cluster.api.change(VM.ref("db", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    cluster.time_passes()
    cluster.delete_vm("db")
    cluster.vm("db")
    cluster.attach("db")
    assert cluster.pin("db") == had
