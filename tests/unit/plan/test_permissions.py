"""A user who lacks a permission: the command succeeds, or changes nothing and names the permission."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.vm import VM, VM_SUBRESOURCES
from tests.unit.plan.fake_cluster import FakeCluster, refusal

UPDATE_BLOCKS = "may not update ipamblocks.crd.projectcalico.org"


def calico_keeps(cluster: FakeCluster, **spec: Any) -> str:
    """A VM that has run with an address, which Calico keeps for it."""
    cluster.running(**spec)
    cluster.attach(restart=True)
    cluster.time_passes()
    return cluster.pin()


def halt(cluster: FakeCluster) -> None:
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"].update(runStrategy="Halted"))
    cluster.time_passes()
    assert cluster.runs_with() == ""


def test_replace_for_a_halted_vm_by_a_tenant_is_refused_before_any_write(cluster: FakeCluster) -> None:
    had = calico_keeps(cluster)
    halt(cluster)
    cluster.forbid_ipam_writes()
    cluster.api.writes.clear()
    done = cluster.attach(ip="10.133.0.9", replace=True)
    assert UPDATE_BLOCKS in refusal(done).message
    assert "administrator" in refusal(done).hint
    assert cluster.api.writes == []
    assert (cluster.pin(), set(cluster.records())) == (had, {had})


@pytest.mark.parametrize("restart", [False, True])
def test_replace_by_a_tenant_does_not_stop_the_vm(cluster: FakeCluster, restart: bool) -> None:
    had = calico_keeps(cluster)
    cluster.forbid_ipam_writes()
    cluster.api.writes.clear()
    done = cluster.attach(ip="10.133.0.9", replace=True, restart=restart)
    assert UPDATE_BLOCKS in refusal(done).message
    assert "administrator" in refusal(done).hint
    assert cluster.api.writes == []
    assert cluster.runs_with() == had


def test_detach_by_a_tenant_does_not_stop_the_vm(cluster: FakeCluster) -> None:
    had = calico_keeps(cluster)
    cluster.forbid_ipam_writes()
    cluster.api.writes.clear()
    done = cluster.detach(restart=True)
    assert UPDATE_BLOCKS in refusal(done).message
    assert cluster.api.writes == []
    done = cluster.detach()
    assert not done.errors
    assert (cluster.pin(), cluster.runs_with(), set(cluster.records())) == ("", had, {had})
    cluster.check()


def test_other_vms_of_the_command_are_attached(cluster: FakeCluster) -> None:
    calico_keeps(cluster)
    halt(cluster)
    cluster.vm("web-2")
    cluster.forbid_ipam_writes()
    had = cluster.pin()
    cluster.network("green", "10.134.0.0/24")
    done = cluster.attach("web-1", "web-2", network="prod/green", replace=True)
    assert UPDATE_BLOCKS in refusal(done).message
    assert done.results == {"prod/web-2": cluster.pin("web-2")}
    assert cluster.pin() == had
    cluster.check()


def test_detach_by_a_tenant_keeps_the_allocation_for_a_gc_by_an_administrator(
    cluster: FakeCluster,
) -> None:
    had = calico_keeps(cluster)
    halt(cluster)
    cluster.forbid_ipam_writes()
    done = cluster.detach()
    assert not done.errors
    (note,) = done.notes
    assert note.startswith(f"{had} stays recorded for prod/web-1: ")
    assert UPDATE_BLOCKS in note
    assert cluster.pin() == ""
    assert set(cluster.records()) == {had}
    cluster.check()
    assert any(UPDATE_BLOCKS in one for one in cluster.collect().notes)
    assert set(cluster.records()) == {had}
    cluster.api.allow_everything()
    cluster.collect()
    assert cluster.records() == {}
    assert cluster.held_in_calico() == {}


def test_gc_by_a_tenant_keeps_the_ipam_address_of_a_deleted_vm(cluster: FakeCluster) -> None:
    had = calico_keeps(cluster)
    halt(cluster)
    cluster.delete_vm()
    cluster.release(had)
    cluster.hold(had, "k8s-pod-network.vmi.prod.web-1")
    cluster.forbid_ipam_writes()
    done = cluster.collect()
    assert not done.errors
    assert any(UPDATE_BLOCKS in note for note in done.notes)


@pytest.mark.parametrize("strategy", ["Always", "Manual", "RerunOnFailure"])
@pytest.mark.parametrize("resource", [NETWORKWIZARD, VM_SUBRESOURCES])
def test_vm_is_not_stopped_without_all_permissions_to_finish(
    cluster: FakeCluster, resource: Any, strategy: str
) -> None:
    had = calico_keeps(cluster, runStrategy=strategy)
    cluster.api.refuse("patch" if resource == NETWORKWIZARD else "update", resource)
    cluster.api.writes.clear()
    done = cluster.detach(restart=True)
    assert "may not" in refusal(done).message
    assert cluster.api.writes == []
    assert (cluster.pin(), cluster.runs_with()) == (had, had)


def test_template_is_not_changed_if_removing_the_allocation_is_forbidden(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    had = cluster.pin()
    cluster.api.refuse("patch", NETWORKWIZARD)
    assert "may not patch networkwizards" in refusal(cluster.detach()).message
    assert cluster.pin() == had
    cluster.api.reviews = False
    assert "may not patch networkwizards" in refusal(cluster.detach()).message


def test_no_block_is_created_if_patching_it_is_forbidden() -> None:
    cluster = FakeCluster()
    cluster.network(cidr="10.133.0.0/22")
    cluster.vm()
    cluster.api.refuse("patch", ADDRESSBLOCK)
    assert "may not patch addressblocks" in refusal(cluster.attach()).message
    assert cluster.api.every(ADDRESSBLOCK) == []


def test_attach_sends_no_access_review(cluster: FakeCluster) -> None:
    """A record whose VM may not be written to is removed again: nothing gets slower for users with all permissions."""
    cluster.vm()
    asked: list[Any] = []
    is_allowed = cluster.api.is_allowed
    cluster.api.is_allowed = lambda access: asked.append(access) or is_allowed(access)  # type: ignore[method-assign, func-returns-value]
    assert cluster.attach().results
    assert asked == []
    cluster.vm("web-2")
    cluster.api.refuse("patch", VM)
    assert "may not patch virtualmachines" in refusal(cluster.attach("web-2"), "prod/web-2").message
    assert len(cluster.records()) == 1
    assert asked == []


def test_network_is_not_created_if_creating_its_pool_is_forbidden() -> None:
    cluster = FakeCluster()
    cluster.api.refuse("create", RAW.pool)
    done = cluster.make_network("blue", "10.133.0.0/24")
    assert "may not create ippools" in refusal(done, "prod/blue").message
    assert cluster.api.writes == []


def test_network_deletion_does_not_start_if_deleting_its_pool_is_forbidden(cluster: FakeCluster) -> None:
    cluster.api.refuse("delete", RAW.pool)
    cluster.api.writes.clear()
    done = cluster.delete_network()
    assert "may not delete ippools" in refusal(done, "prod/blue").message
    assert cluster.api.writes == []


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("delete", NETWORKWIZARD), ("delete", RAW.pool), ("list", RAW.pool), ("list", RAW.block), ("get", RAW.handle)],
)
def test_forced_deletion_detaches_no_vm_without_all_permissions_to_finish(
    cluster: FakeCluster, verb: str, resource: Any
) -> None:
    calico_keeps(cluster)
    halt(cluster)
    had = cluster.pin()
    cluster.api.refuse(verb, resource)
    cluster.api.writes.clear()
    try:
        refused: YoshiError = refusal(cluster.delete_network(force=True), "prod/blue")
    except PreconditionFailed as error:
        refused = error
    assert f"may not {verb} {resource.plural}" in refused.message
    assert (cluster.api.writes, cluster.pin()) == ([], had)
