"""Waiting until the cluster has done what was asked of it, by looking again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from kubectl_yoshi.backends import metallb
from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import Busy, ClusterError, NotFound, NotServed, ServerError, TimedOut, Unreachable
from kubectl_yoshi.model.change import Change
from kubectl_yoshi.model.kinds import EVENT
from kubectl_yoshi.model.objects import ObjectRef, labels_of, name_of, uid_of
from kubectl_yoshi.model.vm import LAUNCHER, POD, VMI, instance_name_of_pod, is_over

LIMIT_SECONDS = 300.0
"""KubeVirt gives a guest up to 180 s to shut down by default; the pod takes some more."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0

REFUSED_SECONDS = 3.0
"""MetalLB says for a moment that it cannot, while it takes up a new pool or another Service lets go of the address."""
_LOOK_AT_METALLB = "See `kubectl describe` of that Service, and MetalLB's pools; then run the same command again."

Waiter = Callable[[Api, Change], None]
"""Returns when what the change waits for holds; raises a ClusterError if it does not come."""


def waiters(
    *, limit_seconds: float = LIMIT_SECONDS, progress: Callable[[Change, str], None] | None = None
) -> Mapping[str, Waiter]:
    """What a plan may wait for, by the word in Change.wait_for.

    - "deleted": the change's object is gone.
    - "served": the change's Service has the address in its body.
    - "stopped": the change's VirtualMachine has no instance, and no virt-launcher pod that still runs.

    Args:
        limit_seconds: how long each may take.
        progress: told, in the waiting thread, what is still there, whenever that changes.
    """

    def waiter(still_there: Callable[[Api, Change, set[str]], list[str]]) -> Waiter:
        def wait(api: Api, change: Change) -> None:
            _until_gone(api, change, still_there, limit_seconds, progress)

        return wait

    def served(api: Api, change: Change) -> None:
        _until_served(api, change, limit_seconds, progress)

    return {"deleted": waiter(_object_there), "served": served, "stopped": waiter(_machine_there)}


def _until_gone(
    api: Api,
    change: Change,
    still_there: Callable[[Api, Change, set[str]], list[str]],
    limit_seconds: float,
    progress: Callable[[Change, str], None] | None,
) -> None:
    clock = api.clock
    end = clock.now() + limit_seconds
    uids: set[str] = set()
    pause = SHORTEST_PAUSE
    told = ""
    while True:
        problem: ClusterError | None = None
        try:
            there = " and ".join(still_there(api, change, uids))
            if not there:
                return
        except (Unreachable, ServerError, TimedOut, Busy) as error:  # a moment without an answer ends no long wait
            problem, there = error, told
        if progress and there != told:
            progress(change, there)
        told = there
        if clock.now() + pause > end:
            raise problem or TimedOut(
                f"Could not {change.says}: after {limit_seconds:.0f} s there is still {there}.",
                "Look at it with kubectl describe, then run the same command again.",
            )
        clock.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _until_served(
    api: Api, change: Change, limit_seconds: float, progress: Callable[[Change, str], None] | None
) -> None:
    """Waits for a Service's address; ends early where MetalLB says that it cannot give it, and keeps to that."""
    clock, address = api.clock, ip_address(change.body)
    end, pause, told = clock.now() + limit_seconds, SHORTEST_PAUSE, ""
    refused_since: float | None = None
    while True:
        service = api.get(change.ref)
        if metallb.is_served(service, address):
            return
        events = api.list(EVENT, change.ref.namespace, field_selector=f"involvedObject.uid={uid_of(service)}")
        said = metallb.failure(uid_of(service), events)
        refused_since = (refused_since or clock.now()) if str(address) in said else None
        if progress and (there := said or f"{change.ref} has no address yet") != told:
            progress(change, there)
            told = there
        if refused_since is not None and clock.now() - refused_since > REFUSED_SECONDS:
            raise ClusterError(f"MetalLB does not give {address} to {change.ref}: {said}", _LOOK_AT_METALLB)
        if clock.now() + pause > end:
            why = f"; it said: {said}" if said else ""
            message = f"MetalLB has not given {address} to {change.ref} after {limit_seconds:.0f} s{why}"
            raise TimedOut(message, _LOOK_AT_METALLB)
        clock.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _object_there(api: Api, change: Change, uids: set[str]) -> list[str]:
    """The object, unless it is gone or another one now has its name."""
    try:
        uid = uid_of(api.get(change.ref))
    except (NotFound, NotServed):
        return []
    if not uids:
        uids.add(change.uid or uid_of(change.before or {}) or uid)
    return [str(change.ref)] if uid in uids else []


def _machine_there(api: Api, change: Change, uids: set[str]) -> list[str]:
    """The machine's instance, and its launcher pods that have not ended (during a migration there are two)."""
    vm = change.ref
    there: list[ObjectRef] = []
    try:
        uids.add(uid_of(api.get(VMI.ref(vm.name, vm.namespace))))
        there.append(VMI.ref(vm.name, vm.namespace))
    except (NotFound, NotServed):
        pass
    for pod in api.list(POD, vm.namespace, label_selector=LAUNCHER):
        is_ours = instance_name_of_pod(pod) == vm.name or labels_of(pod).get("kubevirt.io/created-by") in uids
        if is_ours and not is_over(pod):
            there.append(POD.ref(name_of(pod), vm.namespace))
    return [str(ref) for ref in there]
