"""Waiting until VMs run with the addresses that were given to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kubectl_yoshi.engine.loop import TRANSIENT_ERRORS
from kubectl_yoshi.engine.observing import read_and_compute
from kubectl_yoshi.engine.wait import DEFAULT_WAIT_SECONDS, MAX_PAUSE, MIN_PAUSE
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import TimedOutError
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.snapshot import Snapshot


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
        find_pending_vms: see plan/attach/wait.py, which says what may be raised besides.
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
            previous_count, (pending, _) = len(pending), read_and_compute(find_pending_vms, api)
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
