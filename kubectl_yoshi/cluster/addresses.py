"""Waiting until VMs run with the addresses that were given to them."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import NotFound, TimedOut
from kubectl_yoshi.cluster.waiting import LIMIT_SECONDS, LONGEST_PAUSE, SHORTEST_PAUSE
from kubectl_yoshi.model.objects import dig
from kubectl_yoshi.model.vm import VM, VMI, Vm


def wait_until_running(api: Api, answers: Mapping[str, str], timeout: float | None) -> None:
    """Waits until every VM that is not to be halted runs with its address.

    Args:
        api: the cluster.
        answers: "namespace/name" -> address.
        timeout: seconds; None for the usual limit.

    Raises:
        TimedOut: some do not; the message names the first and what it has.
    """
    end = api.clock.now() + (LIMIT_SECONDS if timeout is None else timeout)
    left = dict(answers)
    pause = SHORTEST_PAUSE
    while True:
        left = {subject: address for subject, address in left.items() if not _runs(api, subject, address)}
        if not left:
            return
        if api.clock.now() >= end:
            subject, address = next(iter(left.items()))
            raise TimedOut(
                f"VM {subject} does not run with {address} yet ({len(left)} in all)",
                "See `kubectl yoshi vm list`; --restart restarts VMs that run without their address.",
            )
        api.clock.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _runs(api: Api, subject: str, address: str) -> bool:
    namespace, _, name = subject.partition("/")
    vm = Vm(api.get(VM.ref(name, namespace)))
    if vm.run_strategy == "Halted":
        return True
    try:
        vmi = api.get(VMI.ref(name, namespace))
    except NotFound:
        return vm.run_strategy == "Manual"  # nobody asked for it to run
    seen = [i.get("ipAddress") for i in dig(vmi, "status", "interfaces", default=[])]
    return dig(vmi, "status", "phase") == "Running" and address in seen
