"""Restarting a VM so that what its template says comes true, and starting again what a killed run had stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.backend import HotPlug, How, Use
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order, side_by_side
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import GROUP
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, metadata
from kubectl_yoshi.model.vm import VM_CALLS, Vm, instance_of
from kubectl_yoshi.plan.attempt import Attempt

START_AGAIN = f"{GROUP}/startAgain"
"""Annotation on a VM that this program has stopped: what to put back so that it starts, for whoever finishes the run.

"Always", "RerunOnFailure", "Manual": its spec.runStrategy; "running": its spec.running was true.
"""

STAYS_STOPPED = ("Manual", "RerunOnFailure")
"""KubeVirt's stop turns Always into Halted, but leaves these run strategies as they are, and the VM stopped."""


@dataclass(frozen=True)
class Restart:
    """How a VM comes to run with what its template says.

    Attributes:
        plan: the changes.
        resumes: a run that stopped the VM was cut off; it is started whether or not a restart was asked for.
    """

    plan: Plan = field(default_factory=Plan)
    resumes: bool = False

    def __bool__(self) -> bool:
        return bool(self.plan)


def plan_restart(
    vm: Vm, number: int | None, uses: Iterable[Use], facts: Facts, attempt: Attempt, must_stop: bool
) -> Restart:
    """What makes the VM run with an address (None: with none of the network).

    Args:
        vm: the VM as read.
        number: the address that it is to run with.
        uses: what was seen of the network's addresses.
        facts: what was read.
        attempt: a VM that this run has restarted already is not restarted again while its old instance goes.
        must_stop: something can only be done while it does not run; the plan then ends when it has stopped.
    """
    running = instance_of(vm, facts)
    if must_stop:
        again = start_again(vm, vm.annotations.get(START_AGAIN) or _to_remember(vm))
        return Restart(replace(stop(vm, runs=running is not None), foreseen=tuple(again)))
    if running is None:
        remembered = vm.annotations.get(START_AGAIN) or _stopped_by(attempt, vm)
        return Restart(start_again(vm, remembered), resumes=True) if remembered else Restart()
    runs_with = {u.number for u in uses if u.how is How.RUNNING and u.is_of(vm.namespace, vm.name, vm.uid)}
    if START_AGAIN in vm.annotations:
        # While it stops, whoever stops it needs the mark.
        return Restart() if is_stopping(vm, running) else Restart(forget_start(vm), resumes=True)
    restarted = any(change.subresource == "restart" for change in attempt.done_for(vm.subject))
    if restarted or runs_with == ({number} if number is not None else set()):
        return Restart()
    call = Change(
        Verb.CALL, VM_CALLS.ref(vm.name, vm.namespace), f"restart virtualmachine/{vm.name}",
        body={}, subresource="restart", before=vm.raw, subject=vm.subject,
    )  # fmt: skip
    return Restart(in_order(call))


def resumed(vms: Iterable[Vm], facts: Facts, attempt: Attempt) -> Plan:
    """What starts VMs again that were stopped for something that does not come about.

    Args:
        vms: who gets nothing more. Of those that failed, also one is started that a killed run had stopped; of others
            only what this very run has stopped, since another one may be at work on them.
        facts, attempt: as every planner gets them.
    """

    def plans() -> Iterator[Plan]:
        for vm in vms:
            if vm.subject in attempt.failed or _stopped_by(attempt, vm):
                restart = plan_restart(vm, None, (), facts, attempt, must_stop=False)
                if restart.resumes:
                    starts = any(brings_up(change) for change in restart.plan)
                    yield replace(restart.plan, notes=(f"{vm.ref} is started again as it was",) if starts else ())

    return side_by_side([*plans()])


def restart_needed(why: str, plugged: HotPlug | None = None) -> str:
    """The note that tells what brings a running VM to what its template says.

    Args:
        why: what it runs with or without.
        plugged: whether its interface can be plugged while it runs; None where that was not asked for.
    """
    if plugged is not None and not plugged.obstacle:
        return plugged.next_step
    return f"restart needed: {why}{f': {plugged.obstacle}' if plugged else ''} (`--restart`)"


def stop(vm: Vm, runs: bool) -> Plan:
    """Stops a VM and waits until nothing of it runs; remembers on the VM how to start it again.

    Args:
        vm: the VM as read.
        runs: it has an instance. Where only a pod is left of it, KubeVirt stops only what would start by itself.
    """
    remembered = _to_remember(vm)
    changes = []
    if vm.run_strategy != "Halted" and (runs or vm.run_strategy not in STAYS_STOPPED):
        mark = PatchBuilder.of_uid(vm.uid)
        mark.set_in(vm.raw, (*ANNOTATIONS, START_AGAIN), remembered)
        if START_AGAIN not in vm.annotations:
            changes.append(
                Change(
                    Verb.PATCH, vm.ref, f"remember that {vm.ref} is to be started again", mark.ops,
                    before=vm.raw, subject=vm.subject,
                )
            )  # fmt: skip
        changes.append(
            Change(
                Verb.CALL, VM_CALLS.ref(vm.name, vm.namespace), f"stop virtualmachine/{vm.name}",
                body={}, subresource="stop", before=vm.raw, subject=vm.subject,
            )
        )  # fmt: skip
    changes.append(
        Change(Verb.WAIT, vm.ref, f"wait until {vm.ref} has stopped", subject=vm.subject, wait_for="stopped")
    )
    return in_order(*changes)


def is_stopping(vm: Vm, instance: Json) -> bool:
    """Whether a VM that still runs is on its way to stop."""
    return vm.run_strategy == "Halted" or bool(metadata(instance).get("deletionTimestamp"))


def _stopped_by(attempt: Attempt, vm: Vm) -> str:
    """How this very run is to start the VM again that it has stopped, should another one have taken the mark off."""
    remembered = ""
    for change in attempt.done_for(vm.subject):
        if change.subresource == "stop":
            remembered = _to_remember(Vm(change.before or {}))
        elif brings_up(change):
            remembered = ""
    return remembered


def brings_up(change: Change) -> bool:
    """Whether a change of this room makes KubeVirt start a VM, or start it anew."""
    if change.subresource in ("start", "restart"):
        return True
    ops = change.body if change.verb is Verb.PATCH and isinstance(change.body, list) else ()
    return any(op["op"] != "test" and op["path"] in ("/spec/running", "/spec/runStrategy") for op in ops)


def _to_remember(vm: Vm) -> str:
    return vm.run_strategy if dig(vm.raw, "spec", "runStrategy") else "running"


def start_again(vm: Vm, remembered: str) -> Plan:
    """Starts a VM that this program had stopped, as it was before.

    Args:
        vm: the VM as read.
        remembered: see START_AGAIN.
    """
    patch = PatchBuilder.of_uid(vm.uid)
    if remembered == "running":
        patch.set_in(vm.raw, ("spec", "running"), True)
    elif dig(vm.raw, "spec", "runStrategy") == "Halted":
        patch.set_in(vm.raw, ("spec", "runStrategy"), remembered)
    patch.unset_in(vm.raw, (*ANNOTATIONS, START_AGAIN))
    changes = [Change(Verb.PATCH, vm.ref, f"start {vm.ref} again", patch.ops, before=vm.raw, subject=vm.subject)]
    if remembered in STAYS_STOPPED and vm.run_strategy == remembered:
        changes.insert(
            0,
            Change(
                Verb.CALL, VM_CALLS.ref(vm.name, vm.namespace), f"start virtualmachine/{vm.name}",
                body={}, subresource="start", before=vm.raw, subject=vm.subject,
            ),
        )  # fmt: skip
    return in_order(*changes)


def forget_start(vm: Vm) -> Plan:
    """Takes the mark off a VM that somebody else has started meanwhile."""
    patch = PatchBuilder.of_uid(vm.uid)
    patch.unset_in(vm.raw, (*ANNOTATIONS, START_AGAIN))
    says = f"note that {vm.ref} runs again"
    return in_order(Change(Verb.PATCH, vm.ref, says, patch.ops, before=vm.raw, subject=vm.subject))
