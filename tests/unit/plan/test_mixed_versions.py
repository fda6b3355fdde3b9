"""Two concurrent versions of this program: what only the newer one knows is preserved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi import __version__
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.allocations import parse_allocation
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, REQUIRES_ANNOTATION
from kubectl_yoshi.model.objects import Json, ObjectRef, name_of
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from tests.unit.plan.fake_cluster import FakeCluster

pytestmark = pytest.mark.I6

ADDRESS = "10.133.0.1"
NEWER = {"kind": "Gateway", "namespace": "prod", "name": "edge", "uid": "1-2-3", "since": "2020-01-01T00:00:00.000000Z"}


def change_record(cluster: FakeCluster, address: str, change: Callable[[Json], object], network: str = "blue") -> None:
    """What a newer version does with a record."""
    ref = NETWORKWIZARD.ref(network, "prod")
    cluster.api.change(ref, lambda obj: change(obj["status"]["allocations"][address]))


def write_newer(cluster: FakeCluster, address: str = ADDRESS) -> None:
    """A record of a kind that this version does not know."""

    def write(obj: Json) -> None:
        obj["status"].setdefault("allocations", {})[address] = dict(NEWER)
        obj["status"]["used"] = len(obj["status"]["allocations"])

    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), write)


def written(cluster: FakeCluster, address: str = ADDRESS) -> Json:
    record = cluster.records()[address].as_written
    assert isinstance(record, dict)
    return record


def test_rewritten_allocation_keeps_unknown_fields() -> None:
    old = parse_allocation({**NEWER, "kind": "VirtualMachine", "lease": {"days": 3}}, "prod")
    new = parse_allocation({**NEWER, "kind": "VirtualMachine", "since": "2021-01-01T00:00:00Z"}, "prod")
    assert new.to_json(existing=old) == {**new.to_json(), "lease": {"days": 3}}
    assert "lease" not in parse_allocation({**NEWER, "kind": "Reservation"}, "prod").to_json(existing=old)
    assert "lease" not in parse_allocation({**NEWER, "kind": "VirtualMachine", "uid": "2"}, "prod").to_json(
        existing=old
    )


def test_attach_that_renews_its_allocation_keeps_unknown_fields(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    change_record(cluster, ADDRESS, lambda record: record.update(lease={"days": 3}))
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    before = written(cluster)["since"]
    cluster.time_passes()
    cluster.attach()
    assert cluster.pin() == ADDRESS
    assert written(cluster)["since"] != before
    assert written(cluster)["lease"] == {"days": 3}


@pytest.mark.parametrize(
    "command",
    [
        lambda w: w.release(ADDRESS),
        lambda w: w.collect(),
        lambda w: w.delete_network(force=True),
        lambda w: w.reserve(ADDRESS),
        lambda w: w.attach(ip=ADDRESS),
        lambda w: w.attach(),
        lambda w: w.sync_network(),
    ],
    ids=["release", "gc", "delete", "reserve", "attach-to-it", "attach", "sync"],
)
def test_allocation_of_an_unknown_kind_is_never_released(
    cluster: FakeCluster, command: Callable[[FakeCluster], object]
) -> None:
    cluster.vm()
    write_newer(cluster)
    try:
        command(cluster)
    except YoshiError as error:
        assert isinstance(error, PreconditionFailed)
    assert written(cluster) == NEWER
    assert cluster.pin() != ADDRESS


def test_allocation_of_an_unknown_kind_is_named_in_the_error(cluster: FakeCluster) -> None:
    write_newer(cluster)
    done = cluster.release(ADDRESS)
    assert "Gateway prod/edge" in str(done.errors[ADDRESS])
    assert "newer" in str(done.errors[ADDRESS])
    with pytest.raises(PreconditionFailed, match="newer"):
        cluster.delete_network(force=True)


def test_block_with_unknown_content_is_not_deleted(cluster: FakeCluster) -> None:
    cluster.network("big", "10.134.0.0/20")
    cluster.vm()
    cluster.attach(network="prod/big")
    (block,) = cluster.api.every(ADDRESSBLOCK)
    ref = ADDRESSBLOCK.ref(name_of(block), "prod")
    cluster.api.change(ref, lambda obj: obj["status"].update(leases={"10.134.0.1": []}))
    cluster.detach(network="prod/big")
    (block,) = cluster.api.every(ADDRESSBLOCK)
    assert block["status"]["leases"] == {"10.134.0.1": []}
    assert block["status"]["allocations"] == {}


# -- allocations that only a newer version understands ---------------------------------------------------------------


def require(cluster: FakeCluster, version: str, network: str = "blue") -> None:
    """What a newer version writes before it records in a way of its own."""
    ref = NETWORKWIZARD.ref(network, "prod")
    cluster.api.change(
        ref, lambda obj: obj["metadata"].setdefault("annotations", {}).update({REQUIRES_ANNOTATION: version})
    )


@pytest.mark.parametrize(
    "command",
    [
        lambda w: w.attach("web-2"),
        lambda w: w.detach(),
        lambda w: w.reserve("10.133.0.9"),
        lambda w: w.release(ADDRESS),
        lambda w: w.delete_network(force=True),
        lambda w: w.sync_network(),
        lambda w: w.collect(networks=(("prod", "blue"),)),
        lambda w: w.run(plan_rebuild, RebuildRequest(("prod", "blue"), None)),
    ],
    ids=["attach", "detach", "reserve", "release", "delete", "sync", "gc", "rebuild"],
)
def test_network_requiring_a_newer_version_is_not_changed(
    cluster: FakeCluster, command: Callable[[FakeCluster], RunResult]
) -> None:
    cluster.vm()
    cluster.vm("web-2")
    cluster.attach()
    require(cluster, "99.1")
    before = cluster.records(), cluster.pin()
    with pytest.raises(
        PreconditionFailed, match=r"network prod/blue requires kubectl yoshi 99\.1 or later, and this is"
    ) as caught:
        for error in command(cluster).errors.values():
            raise error
    assert "Use kubectl yoshi 99.1 or later" in caught.value.hint
    assert (cluster.records(), cluster.pin()) == before


def test_network_requiring_an_older_version_is_accepted(cluster: FakeCluster) -> None:
    require(cluster, __version__)
    cluster.vm()
    cluster.attach()
    assert cluster.pin() == ADDRESS


def test_network_requiring_a_newer_version_does_not_stop_the_others(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/28")
    cluster.vm()
    cluster.vm("web-2")
    cluster.attach()
    cluster.attach("web-2", network="prod/red")
    cluster.delete_vm()
    cluster.delete_vm("web-2")
    require(cluster, "99.1")
    collected = cluster.collect()
    assert [note for note in collected.notes if note.startswith("network prod/blue requires")]
    rebuilt = cluster.run(plan_rebuild, RebuildRequest())
    assert [note for note in rebuilt.notes if note.startswith("network prod/blue requires")]
    assert (cluster.holders(), cluster.holders("red")) == ({ADDRESS: "prod/web-1"}, {})


def test_network_requiring_a_newer_version_is_not_overlapped(cluster: FakeCluster) -> None:
    require(cluster, "99.1")
    with pytest.raises(PreconditionFailed, match="overlaps network prod/blue"):
        cluster.network("red", "10.133.0.0/29")


@pytest.mark.parametrize("cidr", ["10.144.0.0/28", "10.144.0.0/20"], ids=["small", "large"])
@pytest.mark.parametrize("annotated", [True, False])
def test_attach_overtaken_by_a_newer_version_is_refused(cluster: FakeCluster, cidr: str, annotated: bool) -> None:
    """Whatever it read before: the newer version marks the network first, and reads the records then."""
    cluster.network("red", cidr)
    if annotated:
        ref = NETWORKWIZARD.ref("red", "prod")
        cluster.api.change(ref, lambda obj: obj["metadata"].update(annotations={"example.com/theirs": "stay"}))
    cluster.vm()

    def overtake(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource in (NETWORKWIZARD, ADDRESSBLOCK):
            cluster.api.before.clear()
            require(cluster, "99.1", "red")

    cluster.api.before.append(overtake)
    try:
        refused = [*cluster.attach(network="prod/red").errors.values()]
    except PreconditionFailed as error:
        refused = [error]
    assert [error for error in refused if "99.1" in error.message]
    assert cluster.pin() == ""
    assert len(cluster.records("red")) == (
        1 if cidr.endswith("20") else 0
    )  # which in a block is the newer one's to find
