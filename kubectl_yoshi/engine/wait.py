"""Waiting until the cluster has done what was asked of it, by looking again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import (
    TRANSIENT_ERRORS,
    ClusterError,
    NotFoundError,
    NotServedError,
    TimedOutError,
)
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.objects import EVENT, ObjectRef, labels_of, name_of, uid_of
from kubectl_yoshi.model.plan import Change
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import LAUNCHER_SELECTOR, POD, VMI, get_instance_name, has_ended

DEFAULT_WAIT_SECONDS = 300.0
"""KubeVirt gives a guest up to 180 s to shut down by default; the pod takes some more."""
MIN_PAUSE, MAX_PAUSE = 0.2, 2.0

METALLB_FAILURE_SECONDS = 3.0
"""MetalLB says for a moment that it cannot, while it takes up a new pool or another Service lets go of the address."""
_METALLB_HINT = "See `kubectl describe` of that Service, and MetalLB's pools; then run the same command again."

Waiter = Callable[[Api, Change], None]
"""Returns when what the change waits for holds; raises a ClusterError if it does not come."""


def waiters(
    *, limit_seconds: float = DEFAULT_WAIT_SECONDS, progress: Callable[[Change, str], None] | None = None
) -> Mapping[str, Waiter]:
    """What a plan may wait for, by the word in Change.wait_for.

    - "deleted": the change's object is gone.
    - "served": the change's Service has the address in its body.
    - "stopped": the change's VirtualMachine has no instance, and no virt-launcher pod that still runs.

    Args:
        limit_seconds: how long each may take.
        progress: told, in the waiting thread, what is still there, whenever that changes.
    """

    def waiter(list_remaining: Callable[[Api, Change, set[str]], list[str]]) -> Waiter:
        def wait(api: Api, change: Change) -> None:
            _wait_until_gone(api, change, list_remaining, limit_seconds, progress)

        return wait

    def served(api: Api, change: Change) -> None:
        _wait_until_announced(api, change, limit_seconds, progress)

    return {"deleted": waiter(_list_if_exists), "served": served, "stopped": waiter(_list_running_objects)}


def _wait_until_gone(
    api: Api,
    change: Change,
    list_remaining: Callable[[Api, Change, set[str]], list[str]],
    limit_seconds: float,
    progress: Callable[[Change, str], None] | None,
) -> None:
    clock = api.clock
    deadline = clock.now() + limit_seconds
    uids: set[str] = set()
    pause = MIN_PAUSE
    reported = ""
    while True:
        last_error: ClusterError | None = None
        try:
            remaining = " and ".join(list_remaining(api, change, uids))
            if not remaining:
                return
        except TRANSIENT_ERRORS as error:  # a moment without an answer ends no long wait
            last_error, remaining = error, reported
        if progress and remaining != reported:
            progress(change, remaining)
        reported = remaining
        if clock.now() + pause > deadline:
            raise last_error or TimedOutError(
                f"Could not {change.summary}: after {limit_seconds:.0f} s there is still {remaining}.",
                "Look at it with kubectl describe, then run the same command again.",
            )
        clock.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)


def _wait_until_announced(
    api: Api, change: Change, limit_seconds: float, progress: Callable[[Change, str], None] | None
) -> None:
    """Waits for a Service's address; ends early where MetalLB says that it cannot give it, and keeps to that."""
    clock, address = api.clock, ip_address(change.body)
    deadline, pause, reported = clock.now() + limit_seconds, MIN_PAUSE, ""
    refused_since: float | None = None
    while True:
        service = api.get(change.ref)
        if metallb.is_served(service, address):
            return
        events = api.list(EVENT, change.ref.namespace, field_selector=f"involvedObject.uid={uid_of(service)}")
        failure_message = metallb.allocation_failure(uid_of(service), events)
        refused_since = (refused_since or clock.now()) if str(address) in failure_message else None
        if progress and (remaining := failure_message or f"{change.ref} has no address yet") != reported:
            progress(change, remaining)
            reported = remaining
        if refused_since is not None and clock.now() - refused_since > METALLB_FAILURE_SECONDS:
            raise ClusterError(f"MetalLB does not give {address} to {change.ref}: {failure_message}", _METALLB_HINT)
        if clock.now() + pause > deadline:
            suffix = f"; it said: {failure_message}" if failure_message else ""
            message = f"MetalLB has not given {address} to {change.ref} after {limit_seconds:.0f} s{suffix}"
            raise TimedOutError(message, _METALLB_HINT)
        clock.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)


def _list_if_exists(api: Api, change: Change, uids: set[str]) -> list[str]:
    """The object, unless it is gone or another one now has its name."""
    try:
        uid = uid_of(api.get(change.ref))
    except (NotFoundError, NotServedError):
        return []
    if not uids:
        uids.add(change.uid or uid_of(change.before or {}) or uid)
    return [str(change.ref)] if uid in uids else []


def _list_running_objects(api: Api, change: Change, uids: set[str]) -> list[str]:
    """The machine's instance, and its launcher pods that have not ended (during a migration there are two)."""
    vm = change.ref
    remaining: list[ObjectRef] = []
    try:
        uids.add(uid_of(api.get(VMI.ref(vm.name, vm.namespace))))
        remaining.append(VMI.ref(vm.name, vm.namespace))
    except (NotFoundError, NotServedError):
        pass
    for pod in api.list(POD, vm.namespace, label_selector=LAUNCHER_SELECTOR):
        belongs_to_vm = get_instance_name(pod) == vm.name or labels_of(pod).get("kubevirt.io/created-by") in uids
        if belongs_to_vm and not has_ended(pod):
            remaining.append(POD.ref(name_of(pod), vm.namespace))
    return [str(ref) for ref in remaining]


def wait_until_running(
    api: Api,
    find_pending_vms: Callable[[Snapshot], Sequence[str]],
    results: Mapping[str, str],
    timeout: float | None,
    step: Callable[[int, str], None],
) -> None:
    """Looks again and again until no VM is still to come.

    Args:
        api: the cluster.
        find_pending_vms: see plan/attach/wait.py, which tells what else may be raised.
        results: "namespace/name" of each VM -> its address.
        timeout: seconds; None for the usual limit.
        step: told how many more have come, and of one that has not; "" after the last.

    Raises:
        TimedOutError: some have not; the message names the first and its address.
    """
    deadline = api.clock.now() + (DEFAULT_WAIT_SECONDS if timeout is None else timeout)
    pause = MIN_PAUSE
    pending: Sequence[str] = tuple(results)
    while True:
        last_error: YoshiError | None = None
        try:
            previous_count, pending = len(pending), find_pending_vms(new_snapshot(api))
        except TRANSIENT_ERRORS as error:  # a moment without an answer ends no long wait
            last_error = error
        else:
            step(
                previous_count - len(pending),
                f"{pending[0]} does not run with {results[pending[0]]} yet" if pending else "",
            )
            if not pending:
                return
        if api.clock.now() + pause > deadline:
            raise last_error or TimedOutError(
                f"VM {pending[0]} does not run with {results[pending[0]]} yet ({len(pending)} in all)",
                "See `kubectl yoshi vm list`; --restart restarts VMs that run without their address.",
            )
        api.clock.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)
