"""Wait until the cluster has completed a change, by polling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
from kubectl_yoshi.model.plan import Change, WaitStatus
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import LAUNCHER_SELECTOR, POD, VMI, get_instance_name, has_ended

DEFAULT_WAIT_SECONDS = 300.0
"""KubeVirt gives a guest up to 180 s to shut down by default; the pod takes additional time."""
MIN_PAUSE, MAX_PAUSE = 0.2, 2.0
_DESCRIBE_HINT = "Look at it with kubectl describe, then run the same command again."

FAILURE_SECONDS = 3.0
"""How long, in seconds, a failure must be reported before the wait ends.

MetalLB reports one briefly while it loads a new pool or another Service releases the address.
"""

Waiter = Callable[[Api, Change], None]
"""Returns when the condition of the change holds; raises a ClusterError if it will not."""
_Check = Callable[[Api, Change, set[str]], WaitStatus]
"""Returns what is missing; stores the observed uids in the set, which all checks of one wait share."""


def waiters(
    *, limit_seconds: float | None = None, progress: Callable[[Change, str], None] | None = None
) -> Mapping[str, Waiter]:
    """Return the waiters for a plan, by the value of Change.wait_for.

    - "deleted": the change's object no longer exists.
    - "condition": nothing is missing according to the change's condition.
    - "stopped": the change's VirtualMachine has no instance, and no virt-launcher pod that still runs.

    Args:
        limit_seconds: how long each wait may take; None for DEFAULT_WAIT_SECONDS.
        progress: called in the waiting thread with what is still missing, whenever that changes.
    """

    limit = DEFAULT_WAIT_SECONDS if limit_seconds is None else limit_seconds

    def waiter(check: _Check) -> Waiter:
        def wait(api: Api, change: Change) -> None:
            _wait_until_done(api, change, check, limit, progress)

        return wait

    checks = {"deleted": _check_deleted, "condition": _check_condition, "stopped": _check_stopped}
    return {word: waiter(check) for word, check in checks.items()}


def _wait_until_done(
    api: Api, change: Change, check: _Check, limit_seconds: float, progress: Callable[[Change, str], None] | None
) -> None:
    clock = api.clock
    deadline, pause = clock.now() + limit_seconds, MIN_PAUSE
    uids: set[str] = set()
    status, reported = WaitStatus(), ""
    failing_since: float | None = None
    while True:
        last_error: ClusterError | None = None
        try:
            status = check(api, change, uids)
            if not status.remaining:
                return
        except TRANSIENT_ERRORS as error:  # a brief outage must not end a long wait
            last_error = error
        if progress and status.remaining != reported:
            progress(change, status.remaining)
        reported = status.remaining
        failing_since = (failing_since or clock.now()) if status.failure else None
        if failing_since is not None and clock.now() - failing_since > FAILURE_SECONDS:
            raise ClusterError(f"could not {change.summary}: {status.failure}", _DESCRIBE_HINT)
        if clock.now() + pause > deadline:
            raise last_error or TimedOutError(
                f"could not {change.summary}: after {limit_seconds:.0f} s there is still {reported}", _DESCRIBE_HINT
            )
        clock.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)


def _check_condition(api: Api, change: Change, _uids: set[str]) -> WaitStatus:
    """Check the object alone; if something is missing, also the Events about it."""
    assert change.condition is not None
    obj = api.get(change.ref)
    status = change.condition(obj, ())
    if not status.remaining:
        return status
    return change.condition(
        obj, api.list(EVENT, change.ref.namespace, field_selector=f"involvedObject.uid={uid_of(obj)}")
    )


def _check_deleted(api: Api, change: Change, uids: set[str]) -> WaitStatus:
    """Check whether the object no longer exists, or another one has its name."""
    try:
        uid = uid_of(api.get(change.ref))
    except (NotFoundError, NotServedError):
        return WaitStatus()
    if not uids:
        uids.add(change.uid or uid_of(change.before or {}) or uid)
    return WaitStatus(str(change.ref) if uid in uids else "")


def _check_stopped(api: Api, change: Change, uids: set[str]) -> WaitStatus:
    """Check for the VM's instance, and for its launcher pods that have not ended (two during a migration)."""
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
    return WaitStatus(" and ".join(map(str, remaining)))


def wait_until_running(
    api: Api,
    find_pending_vms: Callable[[Snapshot], Sequence[str]],
    results: Mapping[str, str],
    timeout: float | None,
    step: Callable[[int, str], None],
) -> None:
    """Poll until no VM is pending.

    Args:
        api: the cluster.
        find_pending_vms: see plan/attach/wait.py; what it raises is raised too.
        results: "namespace/name" of each VM -> its address.
        timeout: in seconds; None for DEFAULT_WAIT_SECONDS.
        step: called with the number of VMs that are no longer pending, and a text about one that is; "" after the last.

    Raises:
        TimedOutError: some are still pending; the message names the first and its address.
    """
    count = len(results)

    def check(snapshot: Snapshot) -> TimedOutError | None:
        nonlocal count
        previous_count, pending = count, find_pending_vms(snapshot)
        count = len(pending)
        text = f"{pending[0]} does not run with {results[pending[0]]} yet" if pending else ""
        step(previous_count - count, text)
        if not pending:
            return None
        return TimedOutError(
            f"VM {pending[0]} does not run with {results[pending[0]]} yet ({count} in all)",
            "See `kubectl yoshi vm list`; --restart restarts VMs that run without their address.",
        )

    _poll(api, check, timeout)


def wait_until_rolled_out(
    api: Api,
    find_pending: Callable[[Snapshot], str],
    name: str,
    timeout: float | None,
    step: Callable[[int, str], None],
) -> None:
    """Poll until VMs can use a network.

    Args:
        api: the cluster.
        find_pending: see plan/network/wait.py; what it raises is raised too.
        name: "namespace/name" of the network.
        timeout: in seconds; None for DEFAULT_WAIT_SECONDS.
        step: called with 0 and what is pending; "" for nothing.

    Raises:
        TimedOutError: something is still pending; the message states it.
    """

    def check(snapshot: Snapshot) -> TimedOutError | None:
        pending = find_pending(snapshot)
        step(0, pending)
        if not pending:
            return None
        hint = "It exists, and the same command waits again. See `kubectl yoshi network describe`."
        return TimedOutError(f"network {name} is not rolled out yet: {pending}", hint)

    _poll(api, check, timeout)


def _poll(api: Api, check: Callable[[Snapshot], TimedOutError | None], timeout: float | None) -> None:
    """Call `check` with new snapshots until it returns None; raise what it returned last when the time is up."""
    deadline = api.clock.now() + (DEFAULT_WAIT_SECONDS if timeout is None else timeout)
    pause = MIN_PAUSE
    while True:
        error: YoshiError | None
        try:
            error = check(new_snapshot(api))
        except TRANSIENT_ERRORS as transient:  # a brief outage must not end a long wait
            error = transient
        if error is None:
            return
        if api.clock.now() + pause > deadline:
            raise error
        api.clock.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)
