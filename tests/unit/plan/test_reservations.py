"""Addresses that are reserved for a VM or a namespace: reserve, attach, detach --keep, move, release.

At every moment an address has exactly one holder: nobody gets it who is not meant to, and no kill or refusal frees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.kube.errors import ForbiddenError
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef, dig
from kubectl_yoshi.model.vm import VM, VMI
from kubectl_yoshi.plan.move.planner import (
    MoveRequest,
    MoveToReservationRequest,
    plan_move,
    plan_move_to_reservation,
)
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from kubectl_yoshi.plan.records import MAX_RESERVED_FOR_VMS
from tests.unit.plan.fake_cluster import FakeCluster, is_killed, refusal
from tests.unit.plan.test_public import public

pytestmark = [pytest.mark.I1, pytest.mark.I2, pytest.mark.I5, pytest.mark.I11]

SMALL, LARGE, LARGE_IPV6 = "10.133.0.0/24", "10.133.0.0/16", "fd00:133::/112"
SIZES = pytest.mark.parametrize("cidr", [SMALL, LARGE, LARGE_IPV6])
ADDRESS = "10.133.4.7"
ADDRESSES = {SMALL: "10.133.0.7", LARGE: ADDRESS, LARGE_IPV6: "fd00:133::407"}
FOR_WEB_1 = "vm/prod/web-1"


def with_network(cidr: str, **spec: Any) -> FakeCluster:
    """A cluster with network prod/blue and the halted VMs web-1 and web-2."""
    cluster = FakeCluster()
    cluster.network(cidr=cidr, **spec)
    cluster.vm("web-1")
    cluster.vm("web-2")
    return cluster


def address_in(cidr: str) -> str:
    return ADDRESSES[cidr]


def listed(cluster: FakeCluster) -> dict[str, str]:
    """What the network's status lists as reserved for VMs."""
    status = cluster.api.get(NETWORKWIZARD.ref("blue", "prod"))["status"]
    return dict(status.get("reservedForVMs", {}))


@SIZES
def test_reserved_address_is_attached_kept_attached_again_and_released(cidr: str) -> None:
    cluster, address = with_network(cidr), address_in(cidr)
    cluster.reserve(address, reserved_for=FOR_WEB_1, note="shop front")
    assert cluster.holders() == {address: "reserved for VM prod/web-1 (shop front)"}
    assert listed(cluster) == ({address: "prod/web-1"} if cidr != SMALL else {})

    assert cluster.attach().results == {"prod/web-1": address}
    assert cluster.holders() == {address: "prod/web-1"}
    assert (cluster.pin(), listed(cluster)) == (address, {})
    assert not cluster.attach().executed

    assert not cluster.detach(keep=True).errors
    assert cluster.holders() == {address: "reserved for VM prod/web-1 (shop front)"}
    assert (cluster.pin(), cluster.held_in_calico()) == ("", {})
    assert not cluster.detach(keep=True).executed

    assert cluster.attach("web-2").results["prod/web-2"] != address
    assert cluster.attach("web-1").results == {"prod/web-1": address}
    cluster.detach("web-1", "web-2")
    assert cluster.holders() == {}
    assert listed(cluster) == {}
    cluster.check()


@SIZES
def test_attach_replaces_a_reservation_in_one_patch_that_tests_it(cidr: str) -> None:
    cluster, address = with_network(cidr), address_in(cidr)
    cluster.reserve(address, reserved_for=FOR_WEB_1)
    reservation = cluster.records()[address].as_written
    done = cluster.attach()
    path = f"/status/allocations/{address}"
    (patch,) = [
        change.body for change, _ in done.executed if any(op["path"] == path for op in change.body if change.body)
    ]
    operations = [op for op in patch if op["path"] == path]
    assert operations == [
        {"op": "test", "path": path, "value": reservation},
        {"op": "add", "path": path, "value": cluster.records()[address].as_written},
    ]


def test_detach_replaces_the_allocation_by_the_reservation_in_one_patch() -> None:
    cluster = with_network(SMALL)
    cluster.attach(ip="10.133.0.7")
    done = cluster.detach(keep=True)
    path = "/status/allocations/10.133.0.7"
    last = [op for change, _ in done.executed for op in change.body if op["path"] == path][-2:]
    assert [op["op"] for op in last] == ["test", "add"]
    assert last[0]["value"]["kind"] == VIRTUALMACHINE
    assert last[1]["value"] == cluster.records()["10.133.0.7"].as_written


@SIZES
@pytest.mark.parametrize(
    ("reserved_for", "holder"),
    [
        ("", "reserved"),
        ("vm/prod/web-2", "reserved for VM prod/web-2"),
        ("vm/other/web-1", "reserved for VM other/web-1"),
        ("namespace/other", "reserved for namespace other"),
    ],
)
def test_reservation_for_others_is_refused_and_names_them(cidr: str, reserved_for: str, holder: str) -> None:
    cluster, address = with_network(cidr), address_in(cidr)
    cluster.reserve(address, reserved_for=reserved_for)
    error = refusal(cluster.attach(ip=address))
    assert error.message == f"{address} is not free: it is {holder} on network prod/blue"
    assert "--take-reservation" in error.hint
    assert cluster.attach().results["prod/web-1"] != address
    assert cluster.holders()[address] == holder


def test_any_vm_of_the_namespace_gets_an_address_reserved_for_it_on_request_only() -> None:
    cluster = with_network(SMALL)
    cluster.reserve("10.133.0.1", reserved_for="namespace/prod")
    assert cluster.attach("web-1").results == {"prod/web-1": "10.133.0.2"}
    assert cluster.attach("web-2", ip="10.133.0.1").results == {"prod/web-2": "10.133.0.1"}
    cluster.check()


@pytest.mark.parametrize("reserved_for", ["", "vm/other/web-1"])
def test_who_may_change_the_network_can_take_any_reservation(reserved_for: str) -> None:
    cluster = with_network(SMALL)
    cluster.reserve("10.133.0.7", reserved_for=reserved_for)
    assert cluster.attach(ip="10.133.0.7", take_reservation=True).results == {"prod/web-1": "10.133.0.7"}
    cluster.check()


@pytest.mark.parametrize("reviews", [True, False])
def test_take_reservation_requires_the_permission_to_change_the_network(reviews: bool) -> None:
    cluster = with_network(SMALL)
    cluster.reserve("10.133.0.7", reserved_for="vm/other/web-1")
    before = cluster.records()
    cluster.api.reviews = reviews
    cluster.api.refuse("patch", NETWORKWIZARD)
    error = refusal(cluster.attach(ip="10.133.0.7", take_reservation=True))
    assert isinstance(error, ForbiddenError)
    assert (cluster.records(), cluster.pin()) == (before, "")


def test_reservation_is_not_taken_beyond_the_quota() -> None:
    cluster = with_network(SMALL, maxAddressesPerNamespace=1)
    cluster.attach("web-2")
    cluster.reserve("10.133.0.7", reserved_for="vm/other/web-1")
    before = cluster.records()
    done = cluster.attach(ip="10.133.0.7", take_reservation=True)
    assert "which allows 1 per namespace" in refusal(done).message
    assert (done.executed, cluster.records()) == ((), before)


def test_reservation_is_not_taken_for_a_vm_that_must_be_stopped_first(cluster: FakeCluster) -> None:
    cluster.running(pin="10.133.0.9")
    cluster.attach()
    cluster.reserve("10.133.0.7", reserved_for="vm/other/web-1")
    done = cluster.attach(ip="10.133.0.7", replace=True, take_reservation=True)
    assert "Pass --restart to stop it" in refusal(done).hint
    assert (done.executed, cluster.holders()["10.133.0.7"]) == ((), "reserved for VM other/web-1")


def test_several_addresses_reserved_for_one_vm_must_be_named() -> None:
    cluster = with_network(SMALL)
    cluster.reserve("10.133.0.7", "10.133.0.9", reserved_for=FOR_WEB_1)
    error = refusal(cluster.attach())
    assert error.message == ("2 addresses of network prod/blue are reserved for VM prod/web-1: 10.133.0.7, 10.133.0.9")
    assert cluster.attach(ip="10.133.0.9").results == {"prod/web-1": "10.133.0.9"}


def test_reserved_address_that_something_uses_is_refused() -> None:
    cluster = with_network(SMALL)
    cluster.reserve("10.133.0.7", reserved_for=FOR_WEB_1)
    cluster.hold_by_pod("10.133.0.7")
    assert refusal(cluster.attach()).message.startswith("10.133.0.7 is not free: ")
    assert cluster.holders() == {"10.133.0.7": "reserved for VM prod/web-1"}


@SIZES
def test_refused_attachment_restores_the_reservation(cidr: str) -> None:
    cluster, address = with_network(cidr), address_in(cidr)
    cluster.reserve(address, reserved_for=FOR_WEB_1, note="shop front")
    before = cluster.records()
    cluster.api.refuse("patch", VM)
    assert refusal(cluster.attach())
    assert cluster.records() == before
    assert listed(cluster) == ({address: "prod/web-1"} if cidr != SMALL else {})


@SIZES
def test_refused_detachment_leaves_the_allocation_as_it_was(cidr: str) -> None:
    cluster, address = with_network(cidr), address_in(cidr)
    cluster.attach(ip=address)
    before = cluster.records()
    cluster.api.reviews = False
    cluster.api.refuse("patch", VM)
    assert refusal(cluster.detach(keep=True))
    assert cluster.records() == before
    assert cluster.pin() == address


def attach_reserved(cluster: FakeCluster) -> RunResult:
    return cluster.attach()


def detach_kept(cluster: FakeCluster) -> RunResult:
    return cluster.detach(keep=True)


def killed_at_each_write(
    cidr: str, prepare: Callable[[FakeCluster], object], command: Callable[[FakeCluster], object]
) -> Iterator[FakeCluster]:
    """Yield a cluster for each write of a command before which it is killed."""
    for writes in range(12):
        cluster = with_network(cidr)
        prepare(cluster)
        if not is_killed(cluster, writes, command):
            assert writes > 1
            return
        assert [*cluster.records()] == [address_in(cidr)], "it has exactly one holder"
        assert not [sentence for sentence in cluster.violations() if not sentence.startswith("I5")]
        yield cluster
    raise AssertionError("it does not end")


@SIZES
@pytest.mark.I7
def test_killed_attachment_is_completed_or_its_reservation_restored(cidr: str) -> None:
    address = address_in(cidr)

    def reserve(cluster: FakeCluster) -> None:
        cluster.reserve(address, reserved_for=FOR_WEB_1)

    for number, cluster in enumerate(killed_at_each_write(cidr, reserve, attach_reserved)):
        if not cluster.pin():
            cluster.collect()
            assert cluster.holders() == {address: "reserved for VM prod/web-1"}, number
        assert cluster.attach().results == {"prod/web-1": address}
        assert listed(cluster) == {}
        assert not cluster.attach().executed
        cluster.check()


@SIZES
@pytest.mark.I7
def test_killed_detachment_keeps_the_address_reserved(cidr: str) -> None:
    address = address_in(cidr)

    def attach(cluster: FakeCluster) -> None:
        cluster.attach(ip=address)

    for number, cluster in enumerate(killed_at_each_write(cidr, attach, detach_kept)):
        if cluster.pin():
            cluster.detach(keep=True)
        else:
            cluster.collect()
        assert cluster.holders() == {address: "reserved for VM prod/web-1"}, number
        assert not cluster.detach(keep=True).executed
        assert cluster.attach().results == {"prod/web-1": address}
        cluster.check()


def test_address_of_a_running_vm_is_reserved_once_it_does_not_run_with_it(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach(ip="10.133.0.7")
    cluster.kubevirt(VM.ref("web-1", "prod"), "start")
    cluster.time_passes()
    assert cluster.runs_with() == "10.133.0.7"
    cluster.detach(keep=True)
    assert cluster.holders() == {"10.133.0.7": "prod/web-1"}
    cluster.kubevirt(VM.ref("web-1", "prod"), "stop")
    cluster.time_passes()
    assert not cluster.api.look(VMI.ref("web-1", "prod"))
    cluster.collect()
    assert cluster.holders() == {"10.133.0.7": "reserved for VM prod/web-1"}
    cluster.check()


def test_plain_detachment_frees_an_address_that_was_reserved(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.reserve("10.133.0.7", reserved_for=FOR_WEB_1)
    cluster.attach()
    cluster.detach()
    assert cluster.holders() == {}


def test_gc_keeps_the_reserved_address_of_a_deleted_vm(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.reserve("10.133.0.7", reserved_for=FOR_WEB_1)
    cluster.attach()
    cluster.delete_vm()
    cluster.collect()
    assert cluster.holders() == {"10.133.0.7": "reserved for VM prod/web-1"}
    cluster.vm()
    assert cluster.attach().results == {"prod/web-1": "10.133.0.7"}
    cluster.check()


def test_rebuild_keeps_for_whom_the_address_was_reserved(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.reserve("10.133.0.7", reserved_for=FOR_WEB_1)
    cluster.attach()
    path = ("status", "allocations", "10.133.0.7")
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: dig(obj, *path).update(uid="restored"))
    cluster.run(plan_rebuild, RebuildRequest(("prod", "blue")))
    assert cluster.records()["10.133.0.7"].uid == cluster.now().uid
    assert cluster.records()["10.133.0.7"].reserved_for == FOR_WEB_1


@SIZES
def test_reserved_addresses_count_towards_the_quota_of_their_namespace(cidr: str) -> None:
    cluster, address = with_network(cidr, maxAddressesPerNamespace=2), address_in(cidr)
    cluster.reserve(address, reserved_for=FOR_WEB_1)
    cluster.reserve(count=1, reserved_for="namespace/prod")
    assert "which allows 2 per namespace" in refusal(cluster.attach("web-2"), "prod/web-2").message
    before = cluster.records()
    with_error(lambda: cluster.reserve(count=1, reserved_for=FOR_WEB_1), "which allows 2 per namespace")
    assert cluster.records() == before
    cluster.reserve(count=1)
    cluster.reserve(count=1, reserved_for="namespace/other")
    assert cluster.attach("web-1").results == {"prod/web-1": address}, "it counts already"
    cluster.detach("web-1", keep=True)
    assert "which allows 2 per namespace" in refusal(cluster.attach("web-2"), "prod/web-2").message


@SIZES
def test_concurrent_reservations_do_not_exceed_the_quota(cidr: str) -> None:
    for seed in range(5):
        cluster = with_network(cidr, maxAddressesPerNamespace=3)

        def reserve(client: FakeCluster) -> RunResult:
            return client.reserve(count=2, reserved_for="namespace/prod")

        cluster.run_concurrently(reserve, reserve, reserve, seed=seed)
        assert len(cluster.records()) <= 2


def with_error(command: Callable[[], object], words: str) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        command()
    assert words in caught.value.message


def test_one_of_two_vms_gets_an_address_reserved_for_their_namespace() -> None:
    for seed in range(10):
        cluster = with_network(SMALL)
        cluster.reserve("10.133.0.7", reserved_for="namespace/prod")
        outcomes = cluster.run_concurrently(
            lambda client: client.attach("web-1", ip="10.133.0.7"),
            lambda client: client.attach("web-2", ip="10.133.0.7"),
            seed=seed,
        )
        assert sorted(bool(done.errors) for done in outcomes) == [False, True]
        cluster.check()


def test_large_network_lists_a_limited_number_of_reservations_for_vms() -> None:
    cluster = with_network(LARGE)
    names = {f"10.133.{number // 250}.{number % 250 + 1}": "prod/x" for number in range(MAX_RESERVED_FOR_VMS)}
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["status"].update(reservedForVMs=names))
    with_error(lambda: cluster.reserve("10.133.200.1", reserved_for=FOR_WEB_1), "for single VMs, not 1025")
    cluster.reserve("10.133.200.1", reserved_for="namespace/prod")
    request = MoveToReservationRequest(parse_address("10.133.200.1"), FOR_WEB_1, "prod", ("prod", "blue"))
    with_error(lambda: cluster.run(plan_move_to_reservation, request), "for single VMs, not 1025")


def test_outdated_entry_of_the_list_is_ignored_and_removed_by_gc() -> None:
    cluster = with_network(LARGE)
    entries = {ADDRESS: "prod/web-1"}
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["status"].update(reservedForVMs=entries))
    assert cluster.attach().results == {"prod/web-1": "10.133.0.1"}
    cluster.collect()
    assert listed(cluster) == {}


def test_gc_leaves_the_list_alone_if_the_reservations_cannot_be_read() -> None:
    cluster = with_network(LARGE)
    cluster.reserve(ADDRESS, reserved_for=FOR_WEB_1)
    other = cluster.second_client(1)
    other.api.refuse("list", ADDRESSBLOCK)
    other.collect()
    assert listed(cluster) == {ADDRESS: "prod/web-1"}


def test_addresses_are_reserved_with_one_patch_per_block() -> None:
    cluster = with_network(LARGE)
    addresses = [f"10.133.{block}.{number}" for block in (4, 5) for number in range(10, 40)]
    done = cluster.reserve(*addresses, reserved_for="namespace/prod")
    written = [change for change, _ in done.executed if change.ref.resource == ADDRESSBLOCK and change.subresource]
    assert len(written) == 2
    assert [*cluster.records()] == addresses


def test_reservation_of_several_blocks_is_undone_if_one_address_is_taken_meanwhile() -> None:
    cluster = with_network(LARGE)
    other = cluster.second_client(1)
    other.api.before.clear()

    def take(verb: str, ref: ObjectRef) -> None:
        if verb == "create" and ref.name == "blue.10.133.5.0":
            other.api.before.clear()
            cluster.attach(ip="10.133.5.7")

    other.api.before.append(take)
    with_error(lambda: other.reserve("10.133.4.7", "10.133.5.7"), "prod/web-1 holds it")
    assert cluster.holders() == {"10.133.5.7": "prod/web-1"}


def public_cluster() -> FakeCluster:
    cluster = public()
    cluster.vm("web-1")
    cluster.vm("web-2")
    return cluster


def move(cluster: FakeCluster, to: str, **more: Any) -> RunResult:
    address = parse_address("203.0.113.7")
    return cluster.run(plan_move, MoveRequest(address, ("prod", to), ("prod", "pub"), **more))


def move_to_reservation(cluster: FakeCluster, reserve_for: str, **more: Any) -> RunResult:
    address = parse_address("203.0.113.7")
    request = MoveToReservationRequest(address, reserve_for, "prod", ("prod", "pub"), **more)
    return cluster.run(plan_move_to_reservation, request)


def public_holders(cluster: FakeCluster) -> dict[str, str]:
    return cluster.holders("pub")


def test_public_address_moves_from_a_vm_to_a_reservation_and_from_there_to_another_vm() -> None:
    cluster = public_cluster()
    cluster.attach("web-1", network="prod/pub", ip="203.0.113.7")
    assert not move_to_reservation(cluster, "vm/prod/web-2").errors
    assert public_holders(cluster) == {"203.0.113.7": "reserved for VM prod/web-2"}
    assert not move_to_reservation(cluster, "vm/prod/web-2").executed
    assert "203.0.113.7 is not free: it is reserved for VM prod/web-2" in refusal(move(cluster, "web-1")).message
    assert move(cluster, "web-2").results == {"prod/web-2": "203.0.113.7"}
    assert public_holders(cluster) == {"203.0.113.7": "prod/web-2"}
    cluster.check()


def test_reservation_moves_to_another_one_of_its_namespace_or_with_permission() -> None:
    cluster = public_cluster()
    cluster.reserve("203.0.113.7", network="pub", reserved_for="namespace/prod")
    assert not move_to_reservation(cluster, FOR_WEB_1).errors
    assert public_holders(cluster) == {"203.0.113.7": "reserved for VM prod/web-1"}
    with_error(lambda: move_to_reservation(cluster, "namespace/other"), "is reserved for VM prod/web-1")
    assert not move_to_reservation(cluster, "namespace/other", take_reservation=True).errors
    cluster.api.refuse("patch", NETWORKWIZARD)
    with pytest.raises(YoshiError):
        move_to_reservation(cluster, FOR_WEB_1, take_reservation=True)
    assert public_holders(cluster) == {"203.0.113.7": "reserved for namespace other"}


def test_free_address_cannot_be_moved_to_a_reservation() -> None:
    with_error(lambda: move_to_reservation(public_cluster(), FOR_WEB_1), "nothing has it")


def test_private_address_of_a_vm_is_kept_by_detach_not_by_move() -> None:
    cluster = with_network(SMALL)
    cluster.attach(ip="10.133.0.7")
    request = MoveToReservationRequest(parse_address("10.133.0.7"), FOR_WEB_1, "prod", ("prod", "blue"))
    with pytest.raises(PreconditionFailed) as caught:
        cluster.run(plan_move_to_reservation, request)
    assert "vm detach web-1 -n prod --network blue --keep" in caught.value.hint


@pytest.mark.parametrize("value", ["", "vm/web-1", "vm/a/b/c", "namespace/", "team/red", 7])
def test_invalid_value_of_for_reserves_for_nobody(value: object) -> None:
    cluster = with_network(SMALL)
    cluster.reserve("10.133.0.7")
    path = ("status", "allocations", "10.133.0.7")
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: dig(obj, *path).update({"for": value}))
    record = cluster.records()["10.133.0.7"]
    assert (record.kind, record.reserved_for, record.reserved_vm, record.reserved_namespace) == (
        RESERVATION, "", None, ""
    )  # fmt: skip
    assert refusal(cluster.attach(ip="10.133.0.7"))
