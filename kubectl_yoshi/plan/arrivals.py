"""Which VMs do not run yet with the addresses that were given to them, for whoever waits for that."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.backend import Backend, How
from kubectl_yoshi.model.errors import ASK_FOR_IT, Refused
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.objects import dig, metadata
from kubectl_yoshi.model.vm import VM, VMI, Vm, instance_of, why_unseen
from kubectl_yoshi.plan.books import open_network
from kubectl_yoshi.plan.restarts import STAYS_STOPPED
from kubectl_yoshi.plan.serving import backend_of


def still_to_come(
    network_name: tuple[str, str],
    answers: Mapping[str, str],
    begun: Collection[str],
    backends: Mapping[str, Backend],
    facts: Facts,
) -> tuple[str, ...]:
    """The VMs that are to run with their addresses, and do not.

    A VM that is halted, or stopped where its run strategy leaves that to people, is not waited for. Of a network whose
    addresses are beside the VMs none is: they have them whether they run or not.

    Args:
        network_name: the network's namespace and name.
        answers: "namespace/name" of each VM -> its address.
        begun: those of them that were started, or started anew: they are to run in any case.
        backends: by plugin.
        facts: what was read.

    Returns:
        "namespace/name" of each, as in `answers`.

    Raises:
        NeedMore: more must be read first.
        Refused: a VM is gone, or what runs of it may not be read.
    """
    network = open_network(*network_name, facts)
    backend = backend_of(network, backends)
    if not backend.on_template:
        return ()
    reads = {subject: _read(subject) for subject in answers}
    facts.ask(*reads.values())
    vms: dict[str, Vm] = {}
    for subject, read in reads.items():
        if why := facts.why_unknown(read):
            raise Refused(f"whether VM {subject} runs cannot be told: {why}", ASK_FOR_IT)
        found = facts.ask(read)
        if not found or Vm(found[0]).is_going:
            raise Refused(
                f"VM {subject} was deleted before it ran with {answers[subject]}",
                "Its address goes back with `kubectl yoshi ips gc`.",
            )
        vms[subject] = Vm(found[0])
    runs_with = {
        (use.namespace, use.name, use.number)
        for use in backend.uses(network, [*vms.values()], Intervals(), facts)
        if use.how is How.RUNNING and use.ref.resource == VMI
    }
    left = []
    for subject, vm in vms.items():
        if why := why_unseen(vm.namespace, facts):
            raise Refused(f"whether VM {subject} runs cannot be told: {why}", ASK_FOR_IT)
        instance = instance_of(vm, facts)
        if instance is None:
            comes = subject in begun or vm.run_strategy not in ("Halted", *STAYS_STOPPED)
        else:
            runs = dig(instance, "status", "phase") == "Running" and not metadata(instance).get("deletionTimestamp")
            has = (vm.namespace, vm.name, int(parse_address(answers[subject]))) in runs_with
            comes = vm.run_strategy != "Halted" and not (runs and has)
        if comes:
            left.append(subject)
    return tuple(left)


def _read(subject: str) -> Read:
    namespace, _, name = subject.partition("/")
    return Read(VM, namespace, name)
