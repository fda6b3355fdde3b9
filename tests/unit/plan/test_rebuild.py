"""Rebuilding lost or stale allocations from what exists; contradictions are reported.

| what is left | what becomes of it |
|---|---|
| no status, no blocks, VMs with new uids | a record for each VM that carries or runs with an address |
| a network with a new uid, its blocks with the old one | the blocks are recreated, their reservations stay |
| a record of another VM than the one that uses the address | it changes hands, the loser's attachments end |
| two VMs with one address | who runs, the record's uid, the backend's allocations, the record's name, the older one |
| a request and an address that Calico keeps, no pin | a record, so that the VM gets that address again |
| reservations, records that nothing uses | stay |
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.backends.calico.backend import IP_ADDRS_ANNOTATION
from kubectl_yoshi.backends.calico.ipam import handle_name
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.backend import AddressUse, UsageKind
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import name_of
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm
from kubectl_yoshi.plan.rebuild.expected import deciding_reason, rank_claims
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from tests.unit.plan.fake_cluster import FakeCluster

pytestmark = [pytest.mark.I1, pytest.mark.I2]

BLUE = NETWORKWIZARD.ref("blue", "prod")
CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])


def rebuild(cluster: FakeCluster, **more: Any) -> RunResult:
    return cluster.run(plan_rebuild, RebuildRequest(**more))


def contradictions(done: RunResult) -> list[str]:
    return [note for note in done.notes if note.startswith("contradiction: ")]


def lose_status(cluster: FakeCluster) -> None:
    cluster.api.change(BLUE, lambda obj: obj.pop("status", None))
    for block in cluster.api.every(ADDRESSBLOCK):
        cluster.api.drop(ADDRESSBLOCK.ref(name_of(block), "prod"))


def recreate(cluster: FakeCluster, *names: str) -> None:
    """VMs as a restore leaves them: the same, with new uids."""
    for name in names:
        obj = cluster.api.get(VM.ref(name, "prod"))
        cluster.api.drop(VM.ref(name, "prod"))
        for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
            obj["metadata"].pop(key, None)
        cluster.api.put(VM, obj)


def whole(cluster: FakeCluster) -> dict[str, tuple[str, str, str]]:
    """Address -> holder, uid, MAC address."""
    return {address: (record.holder, record.uid, record.mac) for address, record in cluster.records().items()}


@CIDRS
def test_rebuild_restores_lost_allocations(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    for name in ("a", "b", "c"):
        cluster.vm(name)
    cluster.running("d")
    cluster.attach("a", "b", "c")
    cluster.attach("d", restart=True)
    before = whole(cluster)
    lose_status(cluster)
    done = rebuild(cluster)
    assert whole(cluster) == before
    assert not contradictions(done)
    cluster.check()
    cluster.api.writes.clear()
    again = rebuild(cluster)
    assert cluster.api.writes == []
    assert again.results == again.plan.results == {}


@CIDRS
def test_rebuild_updates_uids_and_keeps_since(cidr: str) -> None:
    cluster = FakeCluster()
    cluster.network(cidr=cidr)
    cluster.vm("a")
    cluster.attach("a")
    ((address, before),) = cluster.records().items()
    recreate(cluster, "a")
    rebuild(cluster)
    after = cluster.records()[address]
    assert after.uid == cluster.now("a").uid != before.uid
    assert (after.since, after.mac) == (before.since, before.mac)
    cluster.check()


def test_rebuild_recreates_the_blocks_of_a_recreated_network() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/16")
    cluster.vm("a")
    cluster.attach("a", ip="10.133.7.7")
    cluster.reserve("10.133.7.8", note="printer")
    before = whole(cluster)
    blocks = cluster.api.every(ADDRESSBLOCK)
    obj = cluster.api.get(BLUE)
    cluster.api.drop(BLUE)
    for key in ("uid", "resourceVersion"):
        obj["metadata"].pop(key)
    cluster.api.put(NETWORKWIZARD, obj)
    for block in blocks:  # a restore that drops ownerReferences
        block["metadata"].pop("ownerReferences")
        cluster.api.put(ADDRESSBLOCK, block)
    done = rebuild(cluster)
    assert not done.errors
    assert whole(cluster) == before
    (block,) = cluster.api.every(ADDRESSBLOCK)
    assert block["spec"]["networkUID"] == cluster.api.get(BLUE)["metadata"]["uid"]
    assert block["metadata"]["ownerReferences"]
    cluster.attach("a")
    cluster.check()


def test_rebuild_corrects_the_owner_of_an_allocation_from_a_backup() -> None:
    cluster = FakeCluster()
    cluster.network()
    for name in ("old", "new"):
        cluster.vm(name)
    cluster.attach("old", ip="10.133.0.10")
    stale = cluster.api.get(BLUE)["status"]
    cluster.detach("old")
    cluster.attach("new", ip="10.133.0.10")
    cluster.api.change(BLUE, lambda obj: obj.update(status=stale))
    version = cluster.now("old").raw["metadata"]["resourceVersion"]
    done = rebuild(cluster)
    assert cluster.holders() == {"10.133.0.10": "prod/new"}
    assert cluster.now("old").raw["metadata"]["resourceVersion"] != version
    assert not contradictions(done)
    cluster.check()


def test_running_vm_keeps_a_duplicate_address() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("first", pin="10.133.0.10")
    cluster.running("second", pin="10.133.0.10")
    done = rebuild(cluster)
    assert cluster.holders() == {"10.133.0.10": "prod/second"}
    (said,) = contradictions(done)
    assert "prod/second keeps it, since virtualmachineinstance/second in namespace prod runs with it" in said
    assert "prod/first has it too" in said
    assert "kubectl yoshi vm detach first -n prod --network blue" in said


def test_contradiction_is_reported_once_with_its_deciding_reason() -> None:
    cluster = FakeCluster()
    cluster.network()
    for name in ("older", "younger"):
        cluster.vm(name, pin="10.133.0.10")
    (said,) = contradictions(rebuild(cluster))
    assert "prod/older keeps it" in said
    assert "by its uid" not in said


def test_recorded_uid_outranks_age_and_recorded_name() -> None:
    cluster = FakeCluster()
    cluster.network()
    for name in ("older", "younger"):
        cluster.vm(name, pin="10.133.0.10")
    cluster.attach("older")
    assert cluster.holders() == {"10.133.0.10": "prod/older"}
    uid = cluster.now("younger").uid

    def give_to(**record: str) -> None:
        value = {"kind": "VirtualMachine", "namespace": "prod", "name": "younger", **record}
        cluster.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.0.10": value}))

    give_to(uid=uid)
    assert "by its uid" in contradictions(rebuild(cluster))[0]
    assert cluster.holders() == {"10.133.0.10": "prod/younger"}
    give_to(uid="of-before-the-restore")
    assert "of this name" in contradictions(rebuild(cluster))[0]
    assert cluster.records()["10.133.0.10"].uid == uid
    cluster.api.change(BLUE, lambda obj: obj["status"].update(allocations={}))
    rebuild(cluster)
    assert cluster.holders() == {"10.133.0.10": "prod/older"}


def test_ipam_address_of_a_vm_requesting_the_network_is_recorded() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.77")
    cluster.hold("10.133.0.77", handle_name("prod", "web-1"))
    lose_status(cluster)
    cluster.api.change(
        VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"]["metadata"]["annotations"].pop(IP_ADDRS_ANNOTATION)
    )
    rebuild(cluster)
    assert cluster.holders() == {"10.133.0.77": "prod/web-1"}
    cluster.attach("web-1")
    assert cluster.pin() == "10.133.0.77"


def test_ipam_address_of_a_vm_without_request_is_not_recorded() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1")
    cluster.hold("10.133.0.77", handle_name("prod", "web-1"))
    rebuild(cluster)
    assert cluster.records() == {}


def test_reservation_is_kept_and_the_contradiction_reported() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.reserve("10.133.0.10", note="printer")
    cluster.vm("web-1", pin="10.133.0.10")
    (said,) = contradictions(rebuild(cluster))
    assert "reserved (printer), but prod/web-1 has it" in said
    assert cluster.holders() == {"10.133.0.10": "reserved (printer)"}


def test_unusable_address_is_not_recorded() -> None:
    cluster = FakeCluster()
    cluster.network(gateway="10.133.0.1")
    cluster.vm("web-1", pin="10.133.0.1")
    (said,) = contradictions(rebuild(cluster))
    assert said.endswith("it is the gateway; it is not recorded")
    assert cluster.records() == {}


def test_allocation_that_became_unusable_is_kept_and_reported() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.80")
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(gateway="10.133.0.80"))
    (said,) = contradictions(rebuild(cluster))
    assert said.endswith("it is the gateway; it stays recorded for prod/web-1")
    assert cluster.holders() == {"10.133.0.80": "prod/web-1"}


def test_unused_allocations_are_left_to_gc() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1")
    cluster.attach("web-1")
    cluster.delete_vm("web-1")
    done = rebuild(cluster)
    assert [*cluster.holders().values()] == ["prod/web-1"]
    assert any("`kubectl yoshi ips gc` releases them" in note for note in done.notes)


def test_vm_running_with_another_address_has_both_recorded() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.running("web-1", pin="10.133.0.10")
    cluster.api.change(
        VM.ref("web-1", "prod"),
        lambda obj: obj["spec"]["template"]["metadata"]["annotations"].update({IP_ADDRS_ANNOTATION: '["10.133.0.11"]'}),
    )
    (said,) = contradictions(rebuild(cluster))
    assert "VM prod/web-1 has 2 addresses" in said
    assert cluster.holders() == dict.fromkeys(("10.133.0.10", "10.133.0.11"), "prod/web-1")


def test_legacy_allocations_of_a_large_network_are_converted() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/16")
    cluster.vm("a", pin="10.133.9.9")
    cluster.api.change(BLUE, lambda obj: obj["status"].update(allocations={"10.133.9.9": "a"}))
    rebuild(cluster)
    assert not cluster.api.get(BLUE)["status"]["allocations"]
    assert cluster.records()["10.133.9.9"].uid == cluster.now("a").uid


@pytest.mark.parametrize("unseen", [VM, VMI, POD], ids=lambda resource: resource.plural)
def test_rebuild_with_unreadable_objects_writes_nothing(unseen: Any) -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1", pin="10.133.0.10")
    cluster.api.refuse("list", unseen)
    with pytest.raises(PreconditionFailed, match="cannot determine"):
        rebuild(cluster)
    assert cluster.records() == {}


def test_network_being_deleted_is_skipped() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1", pin="10.133.0.10")
    cluster.api.change(BLUE, lambda obj: obj["status"].update(deleting="2026-01-01T00:00:00Z"))
    assert any("being deleted" in note for note in rebuild(cluster).notes)
    assert cluster.records() == {}


def test_refused_network_does_not_stop_the_rebuild_of_others() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.network("green", "10.134.0.0/24")
    cluster.vm("a", pin="10.133.0.10")
    cluster.vm("b", pin="10.134.0.10")

    def fail(verb: str, ref: Any) -> None:
        if verb == "patch" and ref.name == "blue":
            raise PreconditionFailed("no")

    cluster.api.before.append(fail)
    done = rebuild(cluster)
    assert [*done.errors] == ["prod/blue"]
    assert cluster.holders("green") == {"10.134.0.10": "prod/b"}


@pytest.mark.parametrize("seed", range(10))
def test_concurrent_rebuilds_and_attaches_leave_correct_allocations(seed: int) -> None:
    cluster = FakeCluster()
    cluster.network()
    dice = random.Random(seed)
    for number in range(6):
        cluster.vm(f"pinned-{number}", pin=f"10.133.0.{10 + number}")
        cluster.vm(f"free-{number}")

    def attach(other: FakeCluster) -> Any:
        return other.attach(*(f"free-{n}" for n in range(6)))

    errands: list[Any] = [rebuild, rebuild, attach]
    dice.shuffle(errands)
    cluster.run_concurrently(*errands, seed=seed)
    rebuild(cluster)
    cluster.check()
    assert {f"10.133.0.{10 + n}": f"prod/pinned-{n}" for n in range(6)}.items() <= cluster.holders().items()


# -- the rules -------------------------------------------------------------------------------------------------------


def vm_of(name: str, uid: str, born: str) -> Vm:
    return Vm({"metadata": {"name": name, "namespace": "prod", "uid": uid, "creationTimestamp": born}})


NAMES = ("a", "b", "c")
records = st.none() | st.builds(
    Allocation, st.just(VIRTUALMACHINE), st.just("prod"), st.sampled_from(NAMES),
    st.sampled_from(("u1", "u2", "u3", "")),
) | st.just(Allocation(RESERVATION, "prod", ""))  # fmt: skip


@given(
    born=st.tuples(*[st.sampled_from(("2026-01-01", "2026-01-02"))] * 3),
    shown=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(UsageKind)), max_size=6),
    record=records,
    asking=st.sets(st.sampled_from(NAMES)),
    seed=st.integers(),
)
def test_ranking_of_claims_does_not_depend_on_their_order(
    born: tuple[str, ...], shown: list[tuple[str, UsageKind]], record: Allocation | None, asking: set[str], seed: int
) -> None:
    vms = {("prod", name): vm_of(name, f"u{n}", born[n - 1]) for n, name in enumerate(NAMES, 1)}
    address_uses = [AddressUse(1, kind, POD.ref(f"pod-{name}", "prod"), "prod", name) for name, kind in shown]
    askers = {("prod", name) for name in asking}
    claims, strangers = rank_claims(address_uses, record, vms, askers)
    shuffled = [*address_uses]
    random.Random(seed).shuffle(shuffled)
    again, _ = rank_claims(shuffled, record, dict(reversed(vms.items())), askers)
    assert [claim.vm for claim in claims] == [claim.vm for claim in again]
    assert not strangers
    if claims:
        assert deciding_reason(claims)
        first = claims[0]
        if any(claim.find_use(UsageKind.RUNNING, UsageKind.ANNOUNCED) for claim in claims):
            assert first.find_use(UsageKind.RUNNING, UsageKind.ANNOUNCED)
    for claim in claims:
        assert claim.vm.name in asking or any(use.kind is not UsageKind.HELD_BY_BACKEND for use in claim.address_uses)


def test_recreated_vm_has_no_claim_to_an_address_of_its_predecessor() -> None:
    vms = {("prod", "a"): vm_of("a", "new", "2026-01-02")}
    use = AddressUse(1, UsageKind.RUNNING, VMI.ref("a", "prod"), "prod", "a", "old")
    claims, strangers = rank_claims([use], None, vms, set())
    assert claims == []
    assert strangers == [use]


@pytest.mark.parametrize("count", [2000])
def test_rebuild_of_a_large_network_is_not_quadratic(count: int) -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/16")
    for number in range(count):
        annotations = {IP_ADDRS_ANNOTATION: json.dumps([f"10.133.{number // 250 + 1}.{number % 250 + 1}"])}
        cluster.vm(f"vm-{number}", template={"metadata": {"annotations": annotations}, "spec": {}})
    done = rebuild(cluster)
    assert done.plan.results == {"prod/blue": str(count)}
    patches = [write for write in cluster.api.writes if write.startswith("patch addressblock/")]
    assert len(patches) == -(-count // 250)
