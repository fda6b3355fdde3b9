"""Waiting until VMs run with the addresses that were given to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import TimedOut
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.cluster.running import PASSING
from kubectl_yoshi.cluster.waiting import LIMIT_SECONDS, LONGEST_PAUSE, SHORTEST_PAUSE
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.facts import Facts


def wait_until_running(
    api: Api,
    still_to_come: Callable[[Facts], Sequence[str]],
    answers: Mapping[str, str],
    timeout: float | None,
    step: Callable[[int, str], None],
) -> None:
    """Looks again and again until no VM is still to come.

    Args:
        api: the cluster.
        still_to_come: see plan/arrivals.py, which says what may be raised besides.
        answers: "namespace/name" of each VM -> its address.
        timeout: seconds; None for the usual limit.
        step: told how many more have come, and of one that has not; "" after the last.

    Raises:
        TimedOut: some have not; the message names the first and its address.
    """
    end = api.clock.now() + (LIMIT_SECONDS if timeout is None else timeout)
    pause = SHORTEST_PAUSE
    left: Sequence[str] = tuple(answers)
    while True:
        problem: YoshiError | None = None
        try:
            before, (left, _) = len(left), observe_value(still_to_come, api)
        except PASSING as error:  # a moment without an answer ends no long wait
            problem = error
        else:
            step(before - len(left), f"{left[0]} does not run with {answers[left[0]]} yet" if left else "")
            if not left:
                return
        if api.clock.now() + pause > end:
            raise problem or TimedOut(
                f"VM {left[0]} does not run with {answers[left[0]]} yet ({len(left)} in all)",
                "See `kubectl yoshi vm list`; --restart restarts VMs that run without their address.",
            )
        api.clock.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
