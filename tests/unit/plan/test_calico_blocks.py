"""Many VMs whose addresses are in one Calico block: what is written, and what others write at the same time.

The VMs are halted, have addresses of network blue, which Calico keeps for them, and move to network red.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.model.objects import ObjectRef, dig
from tests.unit.plan.fake_cluster import FakeCluster, refusal
from tests.unit.plan.faulty_api import FaultyApi, ScriptedApiFaults

pytestmark = [pytest.mark.I6, pytest.mark.I10]

NAMES = [f"web-{number}" for number in range(1, 13)]
BLOCK = RAW.block.ref("10-133-0-0-26")


@pytest.fixture
def cluster(cluster: FakeCluster) -> FakeCluster:
    cluster.network("red", "10.20.0.0/24")
    for name in NAMES:
        cluster.vm(name)
    cluster.attach(*NAMES)
    for name in NAMES:
        cluster.hold(cluster.pin(name), handle(name))
    cluster.api.writes.clear()
    cluster.api.tried.clear()
    return cluster


def handle(name: str) -> str:
    return f"k8s-pod-network.vmi.prod.{name}"


def move(cluster: FakeCluster, *names: str, **more: Any) -> Any:
    return cluster.attach(*(names or NAMES), network="prod/red", replace=True, **more)


def at_each_put(cluster: FakeCluster, happens: Callable[[int], None]) -> None:
    """Calls this with the number of each PUT of the block before it arrives."""
    count = [0]

    def before(verb: str, ref: ObjectRef) -> None:
        if (verb, ref) == ("update", BLOCK):
            count[0] += 1
            happens(count[0])

    cluster.api.before.append(before)


def start_in_calico(cluster: FakeCluster, address: str) -> None:
    """The VM that has the address starts: Calico's CNI plugin writes down who runs with it."""

    def change(block: Any) -> None:
        ordinal = int(address.rsplit(".", 1)[1])
        attribute = block["spec"]["attributes"][block["spec"]["allocations"][ordinal]]
        attribute["secondary"] = {"namespace": "prod", "node": "node1", "vmi-name": "x", "vmi-uid": "u"}

    cluster.api.change(BLOCK, change)


def pods_of_a_worker(cluster: FakeCluster) -> Callable[[int], None]:
    return lambda number: cluster.hold_by_pod(f"10.133.0.{40 + number}") if number <= 8 else None


def test_attach_of_many_vms_writes_their_ipam_block_once(cluster: FakeCluster) -> None:
    assert not move(cluster).errors
    assert cluster.api.writes.count("replace ipamblock/10-133-0-0-26") == 1
    assert cluster.api.tried[("update", "ipamblocks")] == 1
    assert cluster.held_in_calico() == {}
    assert cluster.records() == {}
    assert {*cluster.holders("red").values()} == {f"prod/{name}" for name in NAMES}
    cluster.check()


def test_detach_of_many_vms_writes_their_ipam_block_once(cluster: FakeCluster) -> None:
    assert not cluster.detach(*NAMES).errors
    assert cluster.api.tried[("update", "ipamblocks")] == 1
    assert (cluster.held_in_calico(), cluster.records()) == ({}, {})


def test_conflict_reads_only_the_block_again_and_preserves_foreign_entries(cluster: FakeCluster) -> None:
    at_each_put(cluster, pods_of_a_worker(cluster))
    listed = cluster.api.tried.copy()
    assert not move(cluster).errors
    again = cluster.api.tried - listed
    assert again[("update", "ipamblocks")] == 9
    assert again[("patch", "virtualmachines")] == len(NAMES), "no second look for conflicts in the block"
    assert cluster.held_in_calico().keys() == {f"10.133.0.{40 + number}" for number in range(1, 9)}
    cluster.check()


def test_address_of_a_vm_started_concurrently_is_not_released(
    cluster: FakeCluster,
) -> None:
    address = cluster.pin("web-5")

    def start(number: int) -> None:
        if number == 1:
            cluster.running("web-5", runStrategy="Always", pin=address)
            start_in_calico(cluster, address)

    at_each_put(cluster, start)
    done = move(cluster)
    assert [*done.errors] == ["prod/web-5"]
    assert f"Calico holds {address} for VM prod/web-5" in refusal(done, "prod/web-5").message
    assert cluster.held_in_calico() == {address: handle("web-5")}
    assert cluster.holders() == {address: "prod/web-5"}
    assert cluster.pin("web-5") == address
    assert {*cluster.holders("red").values()} == {f"prod/{name}" for name in NAMES if name != "web-5"}
    cluster.check()


def test_repeated_release_after_a_lost_response_is_harmless(cluster: FakeCluster) -> None:
    """The answer to the write was lost."""
    first = cluster.api
    cluster.api = FaultyApi(first, ScriptedApiFaults(update__IPAMBlock="done-cut,"))  # type: ignore[assignment]
    assert not move(cluster).errors
    assert cluster.held_in_calico() == {}
    cluster.check()


def test_forbidden_block_write_leaves_attached_vms_unchanged(cluster: FakeCluster) -> None:
    pins = {name: cluster.pin(name) for name in NAMES}
    held, records = cluster.held_in_calico(), cluster.holders()
    cluster.forbid_ipam_writes()
    for _ in range(2):
        done = move(cluster)
        assert done.errors.keys() == {f"prod/{name}" for name in NAMES}
        assert "may not update ipamblocks" in refusal(done).message
        assert {name: cluster.pin(name) for name in NAMES} == pins
        assert (cluster.held_in_calico(), cluster.holders(), cluster.records("red")) == (held, records, {})
        cluster.check()


def test_forbidden_block_write_leaves_a_detached_vm_unchanged(cluster: FakeCluster) -> None:
    """Where no authorizer can say so before: otherwise it is detached, and only its record stays (test_permissions)."""
    pin, held, records = cluster.pin(), cluster.held_in_calico(), cluster.holders()
    cluster.forbid_ipam_writes()
    cluster.api.reviews = False
    assert "may not update ipamblocks" in refusal(cluster.detach()).message
    assert (cluster.pin(), cluster.held_in_calico(), cluster.holders()) == (pin, held, records)
    cluster.check()


def test_endless_block_conflicts_leave_vms_unchanged(cluster: FakeCluster) -> None:
    def count_up(_: int) -> None:
        cluster.api.change(
            BLOCK, lambda block: block["spec"].update(sequenceNumber=block["spec"]["sequenceNumber"] + 1)
        )
        cluster.api.clock.time += 0.2

    pins = {name: cluster.pin(name) for name in NAMES}
    held, records = cluster.held_in_calico(), cluster.holders()
    at_each_put(cluster, count_up)
    done = move(cluster)
    assert "10-133-0-0-26 was changed by other clients" in refusal(done).message
    assert {name: cluster.pin(name) for name in NAMES} == pins
    assert (cluster.held_in_calico(), cluster.holders(), cluster.records("red")) == (held, records, {})
    assert cluster.api.clock.time < 60


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_vm_starts_with_its_allocated_address_after_a_killed_command(cluster: FakeCluster, verb: str) -> None:
    """Whatever is written last, the VM's template, Calico and the records agree on the address that it gets."""
    for last in range(1, 6):
        cluster = FakeCluster()
        cluster.network()
        cluster.vm()
        cluster.attach()
        cluster.hold(cluster.pin(), handle("web-1"))
        left = [last]

        def die(request: str, ref: ObjectRef, left: list[int] = left) -> None:
            if request not in ("get", "list"):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt

        cluster.api.before.append(die)
        try:
            cluster.attach(ip="10.133.0.9", replace=True) if verb == "attach" else cluster.detach()
        except KeyboardInterrupt:
            pass
        cluster.api.before.clear()
        held = [*cluster._held()]
        gets = held[0] if held else cluster.pin()
        assert gets in ("", cluster.pin()), f"after {last} writes Calico would give {gets}"
        assert not gets or gets in cluster.records()


def test_server_dry_run_sends_one_block_write(cluster: FakeCluster) -> None:
    done = move(cluster, dry_run="server")
    assert not done.errors
    assert cluster.api.tried[("update", "ipamblocks")] == 1
    assert len([change for change, _ in done.executed if change.ref == BLOCK]) == len(NAMES)
    assert cluster.api.writes == []


def test_diff_shows_the_block_without_the_released_addresses(cluster: FakeCluster) -> None:
    from kubectl_yoshi.output.plan_printer import object_changes

    (changed,) = [changed for changed in object_changes(move(cluster, dry_run="client").plan) if changed.ref == BLOCK]
    assert set(dig(changed.after, "spec", "allocations")) == {None}
    assert len(dig(changed.before, "spec", "attributes")) == len(NAMES)
