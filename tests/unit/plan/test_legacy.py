"""Conversion of the allocations of Platform9 yoshi, and compatibility with them until then.

| What Platform9 yoshi left               | What becomes of it                                                   |
|-----------------------------------------|----------------------------------------------------------------------|
| address: vm-name, the VM is there       | a record; of a large network in its block first, then off the status |
| address: vm-name, there is no such VM   | stays as it is, held; `ips gc` releases it                           |
| the same, of a large network, not moved | held: nobody else gets it, its VM keeps it, detach and gc strike it  |
| its finalizers                          | go, since nobody is left who would remove them                       |
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.backend import HW_ADDR_ANNOTATION, IP_ADDRS_ANNOTATION
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef, dig
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.legacy import (
    NETWORK_FINALIZER,
    VM_FINALIZER,
    LegacyConversionRequest,
    plan_legacy_conversion,
)
from tests.unit.plan.fake_cluster import FakeCluster, is_killed

SMALL, LARGE = "10.133.0.0/24", "10.133.0.0/16"
CIDRS = pytest.mark.parametrize("cidr", [SMALL, LARGE])


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def original(cluster: FakeCluster, cidr: str, allocations: dict[str, Any], **metadata: Any) -> None:
    """A network as Platform9 yoshi left it, with its pool."""
    cluster.make_network("blue", cidr)

    def as_it_was(obj: Json) -> None:
        obj["status"] = {"created": True, "allocations": allocations}
        obj["metadata"] |= metadata

    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), as_it_was)
    cluster.api.writes.clear()


def take_over(cluster: FakeCluster, **more: Any) -> RunResult:
    return cluster.run(plan_legacy_conversion, LegacyConversionRequest(**more))


def in_status(cluster: FakeCluster) -> Json:
    return dict(dig(cluster.api.get(NETWORKWIZARD.ref("blue", "prod")), "status", "allocations", default={}))


def unmoved(cluster: FakeCluster) -> Json:
    return {address: value for address, value in in_status(cluster).items() if isinstance(value, str)}


@CIDRS
def test_legacy_vm_name_becomes_an_allocation(cluster: FakeCluster, cidr: str) -> None:
    template = {
        "metadata": {"annotations": {IP_ADDRS_ANNOTATION: '["10.133.0.7"]', HW_ADDR_ANNOTATION: "02:00:00:00:00:07"}},
        "spec": {},
    }
    vm = cluster.vm(template=template)
    original(cluster, cidr, {"10.133.0.7": "web-1"})
    done = take_over(cluster)
    assert done.results == {}, "nothing is left to take over"
    assert done.plan.results == {"prod/blue": "1"}
    record = cluster.records()["10.133.0.7"]
    assert (record.namespace, record.name, record.uid, record.mac) == ("prod", "web-1", vm.uid, "02:00:00:00:00:07")
    assert record.since
    assert not unmoved(cluster)
    cluster.check()
    cluster.api.writes.clear()
    take_over(cluster)
    assert not cluster.api.writes


@CIDRS
def test_legacy_allocation_without_a_vm_is_kept_and_reported(cluster: FakeCluster, cidr: str) -> None:
    cluster.vm()
    original(cluster, cidr, {"10.133.0.7": "web-1", "10.133.0.8": "gone"})
    done = take_over(cluster)
    assert cluster.holders() == {"10.133.0.7": "prod/web-1", "10.133.0.8": "prod/gone"}
    assert unmoved(cluster) == {"10.133.0.8": "gone"}
    (note,) = done.notes
    assert "does not convert 10.133.0.8 of gone" in note
    cluster.collect()
    assert "10.133.0.8" not in cluster.holders()


def test_nothing_is_converted_if_vms_are_unreadable(cluster: FakeCluster) -> None:
    cluster.vm()
    original(cluster, SMALL, {"10.133.0.7": "web-1"})
    cluster.api.refuse("list", VM)
    done = take_over(cluster)
    assert unmoved(cluster) == {"10.133.0.7": "web-1"}
    assert "may not list virtualmachines" in done.notes[0]


def test_conversion_is_limited_to_a_namespace_or_networks(cluster: FakeCluster) -> None:
    cluster.vm()
    original(cluster, SMALL, {"10.133.0.7": "web-1"})
    take_over(cluster, namespace="shop")
    assert unmoved(cluster)
    take_over(cluster, networks=frozenset({("prod", "blue")}))
    assert not unmoved(cluster)


def test_network_that_cannot_be_written_does_not_stop_the_others(cluster: FakeCluster) -> None:
    cluster.vm()
    original(cluster, SMALL, {"10.133.0.7": "web-1"})
    cluster.make_network("green", "10.134.0.0/24")

    def as_it_was(obj: Json) -> None:
        obj["status"] = {"allocations": {"10.134.0.7": "web-1"}}

    cluster.api.change(NETWORKWIZARD.ref("green", "prod"), as_it_was)

    def no_writes_to_blue(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.name) == ("patch", "blue"):
            cluster.api.refuse("patch", NETWORKWIZARD)
        else:
            cluster.api.allow_everything()

    cluster.api.before.append(no_writes_to_blue)
    done = take_over(cluster)
    assert [*done.errors] == ["prod/blue"]
    assert cluster.records("green")["10.134.0.7"].uid
    assert unmoved(cluster) == {"10.133.0.7": "web-1"}


def test_conversion_killed_at_any_write_keeps_every_address_recorded(cluster: FakeCluster) -> None:
    """Killed before any of its writes, a takeover leaves every address recorded, and the next one completes it."""
    for stop_at in itertools.count():
        cluster = FakeCluster()
        cluster.vm()
        cluster.vm("web-2")
        original(cluster, LARGE, {"10.133.0.7": "web-1", "10.133.9.9": "web-2", "10.133.9.10": "gone"})
        killed = is_killed(cluster, stop_at, take_over)
        recorded = {*in_status(cluster)}
        for block in cluster.api.every(ADDRESSBLOCK):
            recorded |= {*dig(block, "status", "allocations", default={})}
        assert recorded == {"10.133.0.7", "10.133.9.9", "10.133.9.10"}, stop_at
        take_over(cluster)
        assert unmoved(cluster) == {"10.133.9.10": "gone"}, stop_at
        assert all(record.uid for address, record in cluster.records().items() if address != "10.133.9.10")
        if not killed:
            break
    assert stop_at > 3, "so many writes at least have had a kill before them"


def test_contradicting_allocations_are_reported_and_kept(cluster: FakeCluster) -> None:
    cluster.network("blue", LARGE)
    cluster.vm()
    cluster.attach(ip="10.133.0.7")
    cluster.vm("web-2")

    def disagree(obj: Json) -> None:
        obj["status"]["allocations"] = {"10.133.0.7": "web-2"}

    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), disagree)
    done = take_over(cluster)
    assert "10.133.0.7 is recorded for prod/web-1, but its status still has web-2" in done.notes[0]
    assert unmoved(cluster) == {"10.133.0.7": "web-2"}


# -- before anything is taken over -----------------------------------------------------------------------------------


def test_unconverted_address_is_not_assigned(cluster: FakeCluster) -> None:
    original(cluster, "10.133.0.0/23", {f"10.133.{n // 256}.{n % 256}": f"old-{n}" for n in range(1, 510)})
    cluster.vm()
    done = cluster.attach()
    assert cluster.pin() == "10.133.1.254", "the only one that is left"
    cluster.vm("web-2")
    assert "full" in str(cluster.attach("web-2").errors["prod/web-2"])
    done = cluster.attach("web-2", ip="10.133.0.9")
    assert "prod/old-9 holds it" in str(done.errors["prod/web-2"])
    with pytest.raises(PreconditionFailed, match="prod/old-9 holds it"):
        cluster.reserve("10.133.0.9")


@pytest.mark.parametrize("carries", [True, False])
def test_unconverted_address_is_kept_by_its_vm(cluster: FakeCluster, carries: bool) -> None:
    vm = cluster.vm(pin="10.133.9.9" if carries else "")
    original(cluster, LARGE, {"10.133.9.9": "web-1"})
    assert not cluster.attach().errors
    assert cluster.pin() == "10.133.9.9"
    assert cluster.records()["10.133.9.9"].uid == vm.uid
    assert not unmoved(cluster)
    cluster.check()


def test_partly_converted_address_is_completed_by_the_next_write(cluster: FakeCluster) -> None:
    cluster.network("blue", LARGE)
    cluster.vm()
    cluster.attach(ip="10.133.9.9")

    def half_moved(obj: Json) -> None:
        obj["status"]["allocations"] = {"10.133.9.9": "web-1"}

    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), half_moved)
    assert not cluster.attach().errors
    assert not unmoved(cluster)
    assert cluster.holders() == {"10.133.9.9": "prod/web-1"}


@pytest.mark.parametrize("gone", [True, False])
def test_detach_removes_an_unconverted_address(cluster: FakeCluster, gone: bool) -> None:
    original(cluster, LARGE, {"10.133.9.9": "web-1"})
    vm = cluster.vm(pin="10.133.9.9")
    if gone:
        cluster.api.drop(vm.ref)
    assert not cluster.detach().errors
    assert not in_status(cluster)
    assert not cluster.api.every(ADDRESSBLOCK)


def test_legacy_allocation_written_concurrently_is_preserved(cluster: FakeCluster) -> None:
    original(cluster, LARGE, {"10.133.9.9": "web-1"})
    cluster.vm(pin="10.133.9.9")

    def meanwhile(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", NETWORKWIZARD):
            cluster.api.before.clear()
            cluster.api.change(ref, lambda obj: obj["status"]["allocations"].update({"10.133.9.9": "web-2"}))

    cluster.api.before.append(meanwhile)
    cluster.detach()
    assert not cluster.api.before
    assert in_status(cluster) == {"10.133.9.9": "web-2"}


# -- finalizers ------------------------------------------------------------------------------------------------------


def test_legacy_finalizers_are_removed_and_others_kept(cluster: FakeCluster) -> None:
    def hold(obj: Json) -> None:
        obj["metadata"]["finalizers"] = ["a/first", VM_FINALIZER, "b/last"]

    cluster.api.change(cluster.vm().ref, hold)
    original(cluster, SMALL, {"10.133.0.7": "web-1"}, finalizers=[NETWORK_FINALIZER])
    take_over(cluster)
    assert VM_FINALIZER in cluster.now().raw["metadata"]["finalizers"], "only install removes them"
    done = take_over(cluster, finalizers=True)
    assert not done.errors
    assert cluster.now().raw["metadata"]["finalizers"] == ["a/first", "b/last"]
    assert cluster.api.get(NETWORKWIZARD.ref("blue", "prod"))["metadata"]["finalizers"] == []
    cluster.api.writes.clear()
    take_over(cluster, finalizers=True)
    assert not cluster.api.writes


def test_finalizer_that_cannot_be_removed_stops_nothing_else(cluster: FakeCluster) -> None:
    def hold(obj: Json) -> None:
        obj["metadata"]["finalizers"] = [VM_FINALIZER]

    cluster.api.change(cluster.vm().ref, hold)
    original(cluster, SMALL, {"10.133.0.7": "web-1"}, finalizers=[NETWORK_FINALIZER])
    cluster.api.refuse("patch", VM)
    done = take_over(cluster, finalizers=True)
    assert [*done.errors] == ["virtualmachine/web-1 in namespace prod"]
    assert cluster.records()["10.133.0.7"].uid


def test_conversion_without_legacy_networks_needs_one_list(cluster: FakeCluster) -> None:
    cluster.network()
    cluster.vm()
    cluster.attach()
    cluster.api.tried.clear()
    take_over(cluster, finalizers=True)
    assert cluster.api.tried == {("list", "networkwizards"): 1}
    assert Vm(cluster.api.get(VM.ref("web-1", "prod"))).template_annotations[IP_ADDRS_ANNOTATION] == json.dumps(
        ["10.133.0.1"]
    )
