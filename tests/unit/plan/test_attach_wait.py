"""Waiting until VMs run with their assigned addresses: for which VMs, how long, and what is printed meanwhile.

| a VM | is waited for |
|---|---|
| that runs, or is to run by its run strategy | until it runs with the address: not while it starts, or stops |
| that is halted, or stopped where people start it | no; but where this run has started it |
| on a Layer 2 network, of whose guest nothing is heard | until its instance has the interface |
| that is deleted, or of which nothing may be read | no, with an error |
"""

from __future__ import annotations

from functools import partial

import pytest

from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.wait import wait_until_running
from kubectl_yoshi.kube.errors import TimedOutError
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.vm import VM, VMI
from kubectl_yoshi.plan.attach.wait import find_pending_vms
from kubectl_yoshi.plan.restart import starts_vm
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster
from tests.unit.plan.test_layer2 import layer2

WEB = VM.ref("web-1", "prod")
INSTANCE = VMI.ref("web-1", "prod")
AT_ONCE = [(1, "")]
"""The output where there is nothing to wait for."""


def wait(
    cluster: FakeCluster, done: RunResult, network: str = "blue", timeout: float | None = None
) -> list[tuple[int, str]]:
    """Wait as `vm attach --wait` does; return its output."""
    started = {change.owner for change, _ in done.executed if starts_vm(change)}
    ask = partial(find_pending_vms, ("prod", network), done.results, started, BACKENDS)
    told: list[tuple[int, str]] = []
    wait_until_running(cluster.api, ask, done.results, timeout, lambda count, what: told.append((count, what)))  # type: ignore[arg-type]
    return told


def blue() -> FakeCluster:
    cluster = FakeCluster()
    cluster.network()
    return cluster


@pytest.mark.parametrize("strategy", ["Always", "RerunOnFailure", "Manual"])
def test_wait_for_a_restarted_vm_ends_when_it_runs_with_its_address(strategy: str) -> None:
    cluster = blue()
    cluster.running(runStrategy=strategy)
    done = cluster.attach(restart=True)
    assert cluster.runs_with() != "10.133.0.1"
    told = wait(cluster, done)
    assert cluster.runs_with() == "10.133.0.1"
    assert (0, "prod/web-1 does not run with 10.133.0.1 yet") in told


@pytest.mark.parametrize("strategy", ["RerunOnFailure", "Manual"])
def test_wait_for_a_started_vm_without_instance_times_out(strategy: str) -> None:
    cluster = blue()
    cluster.running(runStrategy=strategy)
    done = cluster.attach(restart=True)
    if cluster.api.look(INSTANCE):
        cluster.api.drop(INSTANCE)
    with pytest.raises(TimedOutError, match=r"VM prod/web-1 does not run with 10.133.0.1 yet \(1 in all\)"):
        wait(cluster, done, timeout=0.0)


@pytest.mark.parametrize("strategy", ["Halted", "RerunOnFailure", "Manual"])
def test_stopped_vm_is_not_waited_for(strategy: str) -> None:
    cluster = blue()
    cluster.vm(runStrategy=strategy)
    assert wait(cluster, cluster.attach(), timeout=0.0) == AT_ONCE


def test_vm_that_kubevirt_will_start_is_waited_for() -> None:
    cluster = blue()
    cluster.vm(runStrategy="Always")
    wait(cluster, cluster.attach())
    assert cluster.runs_with() == "10.133.0.1"


@pytest.mark.parametrize(
    "state",
    [
        {"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}},
        {"status": {"phase": "Scheduled"}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"interfaces": [{"name": "default", "ipAddress": "10.133.0.77"}]}},
    ],
    ids=["stops", "starts", "is over", "runs with another"],
)
def test_instance_does_not_count_as_running_in_these_states(state: Json) -> None:
    cluster = blue()
    cluster.vm(runStrategy="Always")
    done = cluster.attach()
    cluster.time_passes()
    assert wait(cluster, done, timeout=0.0) == AT_ONCE

    def change(vmi: Json) -> None:
        for key, value in state.items():
            vmi[key] |= value

    cluster.api.change(INSTANCE, change)
    with pytest.raises(TimedOutError, match=r"does not run with 10\.133\.0\.1"):
        wait(cluster, done, timeout=0.0)


def test_each_running_vm_is_counted_once() -> None:
    cluster = FakeCluster(keeps=False)  # so that each is restarted by one call
    cluster.network()
    names = [f"web-{number}" for number in range(30)]
    for name in names:
        cluster.running(name)
    cluster.slow |= {"web-3", "web-4"}
    done = cluster.attach(*names, restart=True)
    told = []
    ask = partial(find_pending_vms, ("prod", "blue"), done.results, {*done.results}, BACKENDS)

    def step(count: int, what: str) -> None:
        told.append((count, what.partition(" ")[0]))
        if len(told) == 4:
            cluster.slow.clear()

    wait_until_running(cluster.api, ask, done.results, None, step)  # type: ignore[arg-type]
    assert sum(count for count, _ in told) == 30
    assert told[-1][1:] == ("",)
    assert {who for _, who in told[1:4]} == {"prod/web-3"}


def test_layer2_interface_without_guest_agent_is_sufficient() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    cluster.running()
    done = cluster.attach(network="prod/lab", restart=True)
    assert dig(cluster.api.get(INSTANCE), "spec", "networks", default=[]) == []
    wait(cluster, done, "lab")
    assert [one["name"] for one in cluster.api.get(INSTANCE)["spec"]["networks"]] == ["default", "lab"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_read_error_does_not_end_the_wait(status: int) -> None:
    cluster = blue()
    cluster.running()
    done = cluster.attach(restart=True)
    cluster.api.refuse("get", VMI, status, "not now")
    tries: list[float] = []

    def meanwhile(verb: str, ref: object) -> None:
        tries.append(cluster.api.clock.now())
        if cluster.api.clock.now() > 3:
            cluster.api.allow_everything()

    cluster.api.before.append(meanwhile)
    wait(cluster, done)
    assert cluster.runs_with() == "10.133.0.1"
    assert len({*tries}) > 3


def test_deleted_vm_ends_the_wait_with_an_error() -> None:
    cluster = blue()
    cluster.running()
    done = cluster.attach(restart=True)
    cluster.delete_vm()
    with pytest.raises(PreconditionFailed, match=r"VM prod/web-1 was deleted before it ran with 10\.133\.0\.1"):
        wait(cluster, done)


@pytest.mark.parametrize("hidden", [VM, VMI], ids=lambda resource: resource.kind)
def test_unreadable_vm_or_instance_ends_the_wait_with_an_error(hidden: object) -> None:
    cluster = blue()
    cluster.running()
    done = cluster.attach(restart=True)
    cluster.api.refuse("get", hidden)  # type: ignore[arg-type]
    with pytest.raises(PreconditionFailed, match="cannot check whether VM prod/web-1 runs: "):
        wait(cluster, done)
