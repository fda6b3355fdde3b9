"""Waiting until VMs can use a network, for `network create` and `network update`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kubectl_yoshi.cli.apply import raise_errors
from kubectl_yoshi.cli.session import Session

if TYPE_CHECKING:
    from kubectl_yoshi.model.objects import NamespacedName

ROLLED_OUT = "VMs can use the network: its objects are accepted, bridges are on the nodes, and its DHCP server runs"
"""The condition, for the help of --wait."""


def wait_for_rollout(session: Session, name: NamespacedName, timeout: float | None) -> None:
    """Wait until VMs can use a network, then record that it is ready.

    Raises:
        TimedOutError: they cannot within the timeout.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.loop import run
    from kubectl_yoshi.engine.wait import wait_until_rolled_out
    from kubectl_yoshi.output.progress import progress
    from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network
    from kubectl_yoshi.plan.network.wait import find_pending_rollout

    find_pending = partial(find_pending_rollout, name, BACKENDS)
    with progress("waiting", 0, session.err) as line:
        wait_until_rolled_out(session.api, find_pending, "/".join(name), timeout, line.step)
    raise_errors(session, run(partial(plan_network, NetworkRequest(*name)), session.api, BACKENDS))
