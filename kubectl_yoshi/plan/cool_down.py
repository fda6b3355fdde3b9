"""Released addresses that are not assigned to another VM yet: `spec.coolDown`.

Others on the network may still associate the address with its last holder: neighbour tables, name caches, firewalls. So
its last holder, by namespace and name, may have it again at once, with or without `coolDown`. In a large network its
address is found in the block where the search begins, and in each block of which the backend still holds an address for
a VM of that name; other blocks are not searched. VMs of one command get their own addresses back before any VM gets a
new one.

Nothing but the history is stored for this. A VM that requests such an address by `--ip` is refused, with the time left;
a reservation, which assigns it to no VM, is not. This module is not part of `attach`, since lists and `ips check` use
it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from kubectl_yoshi.model.allocations import Allocations
from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.history import PastAllocation
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.plan.context import age_in_seconds


def cooling_down(allocations: Allocations, now: datetime) -> Mapping[int, float]:
    """Return the free addresses of the loaded shards that cool down, with the remaining seconds."""
    network = allocations.network
    if not network.cool_down:
        return {}
    records = allocations.records()
    remaining = {number: remaining_cooldown(network, last, now) for number, last in allocations.last_holders.items()}
    return {number: seconds for number, seconds in remaining.items() if seconds > 0 and number not in records}


def cooldown_reasons(allocations: Allocations, now: datetime) -> Mapping[int, str]:
    """Return the free addresses of the loaded shards that cool down, with the end of that and who had them."""
    reasons = {}
    for number, seconds in cooling_down(allocations, now).items():
        until = now + timedelta(seconds=seconds + 0.5)  # rounded to the seconds of the history
        reasons[number] = (
            f"it cools down until {until:%Y-%m-%dT%H:%M:%SZ}: {allocations.last_holders[number].holder} had it"
        )
    return reasons


def remaining_cooldown(network: Network, last: PastAllocation, now: datetime) -> float:
    """Return the remaining seconds of an address's cool-down; 0 or less if it does not cool down."""
    return network.cool_down - age_in_seconds(last.until, now)


def check_cooled_down(allocations: Allocations, number: int, namespace: str, name: str, now: datetime) -> None:
    """Raise PreconditionFailed if a free address cools down and its last holder is not the VM of this name."""
    last = allocations.last_holders.get(number)
    if last is None or last.was_held_by(namespace, name):
        return
    seconds = cooling_down(allocations, now).get(number)
    if seconds:
        network = allocations.network
        raise PreconditionFailed(
            f"{allocations.address(number)} cools down for another {format_duration(seconds)}: {last.holder} had it "
            "until "
            f"{last.until}",
            "Choose another address, wait, or shorten the time (spec.coolDown): "
            f"kubectl edit networkwizard {network.name} -n {network.namespace}",
        )
