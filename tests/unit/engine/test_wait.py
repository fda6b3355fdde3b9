"""Waiting for a VM to stop, for an object to be deleted, and for conditions and Events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kubectl_yoshi.engine.wait import waiters
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ClusterError, ServerError, TimedOutError
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.model.plan import Change, Verb, WaitStatus
from kubectl_yoshi.model.vm import VM
from tests.unit.kube.conftest import FakeClock
from tests.unit.kube.fault_server import FaultServer, refuses, says

STOPPED = Change(Verb.WAIT, VM.ref("web", "prod"), "wait until it has stopped", wait_for="stopped")
THING = Resource("try.example", "v1", "things", "Thing").ref("a", "prod")
DELETED = Change(Verb.WAIT, THING, "wait until it is deleted", wait_for="deleted")
VMI_PATH = "/apis/kubevirt.io/v1/namespaces/prod/virtualmachineinstances/web"
POD_PATH = "/api/v1/namespaces/prod/pods"
THING_PATH = "/apis/try.example/v1/namespaces/prod/things/a"
GONE = refuses(404, "NotFound", "not found", {"name": "web"})
VMI = says(200, {"metadata": {"name": "web", "uid": "vmi-1"}})


def in_turn(*behaviours: Callable[[Any], None]) -> Callable[[Any], None]:
    left = list(behaviours)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def pods(*some: dict) -> Callable[[Any], None]:
    return says(200, {"kind": "PodList", "metadata": {}, "items": list(some)})


def pod(name: str, domain: str = "web", phase: str = "Running", **labels: str) -> dict:
    annotations = {"kubevirt.io/domain": domain} if domain else {}
    return {"metadata": {"name": name, "annotations": annotations, "labels": labels}, "status": {"phase": phase}}


def test_vm_has_stopped_when_its_instance_and_pods_are_gone(api: Api, server: FaultServer, clock: FakeClock) -> None:
    server.by_path |= {
        VMI_PATH: in_turn(VMI, VMI, GONE),
        POD_PATH: in_turn(pods(pod("p1")), pods(pod("p1")), pods(pod("p1")), pods(pod("other", domain="db"))),
    }
    heard: list[str] = []
    waiters(progress=lambda change, there: heard.append(there))["stopped"](api, STOPPED)
    assert len(clock.slept) == 3
    assert (
        heard
        == [
            "virtualmachineinstance/web in namespace prod and pod/p1 in namespace prod",
            "pod/p1 in namespace prod",
            "",
        ][: len(heard)]
    )
    assert "labelSelector=kubevirt.io%3Dvirt-launcher" in server.requests[1].path


def test_pod_without_a_domain_is_matched_by_its_instance(api: Api, server: FaultServer, clock: FakeClock) -> None:
    made = pod("p1", domain="", **{"kubevirt.io/created-by": "vmi-1"})
    server.by_path |= {VMI_PATH: in_turn(VMI, GONE), POD_PATH: in_turn(pods(made), pods(made), pods())}
    waiters()["stopped"](api, STOPPED)
    assert len(clock.slept) == 2


def test_ended_pod_is_not_waited_for(api: Api, server: FaultServer, clock: FakeClock) -> None:
    server.by_path |= {VMI_PATH: GONE, POD_PATH: pods(pod("p1", phase="Succeeded"))}
    waiters()["stopped"](api, STOPPED)
    assert clock.slept == []


def test_remaining_objects_are_named_on_timeout(api: Api, server: FaultServer, clock: FakeClock) -> None:
    server.by_path |= {VMI_PATH: VMI, POD_PATH: pods(pod("p1"))}
    with pytest.raises(TimedOutError) as caught:
        waiters(limit_seconds=30)["stopped"](api, STOPPED)
    assert "virtualmachineinstance/web" in caught.value.message
    assert "pod/p1" in caught.value.message
    assert "30 s" in caught.value.message
    assert clock.time <= 30


def test_transient_error_does_not_end_the_wait(api: Api, server: FaultServer) -> None:
    server.by_path[THING_PATH] = in_turn(says(200, {}), refuses(500, "", "etcd leader changed"), GONE)
    waiters()["deleted"](api, DELETED)


def test_persistent_server_error_ends_the_wait(api: Api, server: FaultServer) -> None:
    server.by_path[THING_PATH] = refuses(500, "", "etcd is on fire")
    with pytest.raises(ServerError, match="etcd is on fire"):
        waiters(limit_seconds=5)["deleted"](api, DELETED)


def test_object_with_another_uid_counts_as_deleted(api: Api, server: FaultServer) -> None:
    server.by_path[THING_PATH] = in_turn(says(200, {"metadata": {"uid": "1"}}), says(200, {"metadata": {"uid": "2"}}))
    waiters()["deleted"](api, DELETED)
    server.by_path[THING_PATH] = says(200, {"metadata": {"uid": "2"}})
    waiters()["deleted"](api, Change(Verb.WAIT, THING, "wait", uid="1", wait_for="deleted"))


def ready(obj: dict, events: Sequence[dict]) -> WaitStatus:
    """A condition: what `missing` says, and a failure where an Event says that it will not come."""
    return WaitStatus(obj.get("missing", ""), next((event["message"] for event in events), ""))


READY = Change(Verb.WAIT, THING, "wait until it is ready", wait_for="condition", condition=ready)
EVENTS_PATH = "/api/v1/namespaces/prod/events"
UNREADY = says(200, {"metadata": {"uid": "1"}, "missing": "a part"})


def events(*messages: str) -> Callable[[Any], None]:
    return says(200, {"kind": "EventList", "metadata": {}, "items": [{"message": message} for message in messages]})


def test_condition_is_waited_for_despite_transient_failures(api: Api, server: FaultServer, clock: FakeClock) -> None:
    server.by_path |= {
        THING_PATH: in_turn(UNREADY, UNREADY, refuses(500, "", "etcd leader changed"), says(200, {})),
        EVENTS_PATH: in_turn(events("no room"), events()),
    }
    heard: list[str] = []
    waiters(progress=lambda change, missing: heard.append(missing))["condition"](api, READY)
    assert heard == ["a part"]
    assert "fieldSelector=involvedObject.uid%3D1" in server.requests[1].path


def test_persistent_failure_ends_the_wait(api: Api, server: FaultServer, clock: FakeClock) -> None:
    server.by_path |= {THING_PATH: UNREADY, EVENTS_PATH: events("no room")}
    with pytest.raises(ClusterError, match="could not wait until it is ready: no room"):
        waiters(limit_seconds=30)["condition"](api, READY)
    assert clock.time < 10
