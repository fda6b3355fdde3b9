"""Restarting a VM so that what its template says takes effect, and starting again what a killed run had stopped.

Where a VM must be stopped for a while (Calico holds another address for it), its run strategy is first written on the
VM (START_AGAIN_ANNOTATION). The next run, of this command or another, starts it again; so does the run that stopped it,
where what it was stopped for is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.backend import AddressUse, HotPlug, UsageKind
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import GROUP
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, metadata
from kubectl_yoshi.model.plan import Change, Plan, Verb, parallel_plans, sequential
from kubectl_yoshi.model.vm import VM_SUBRESOURCES, Vm, find_instance
from kubectl_yoshi.plan.context import PlanContext, RunContext

START_AGAIN_ANNOTATION = f"{GROUP}/startAgain"
"""Annotation on a VM that this program has stopped: the value to restore so that it starts, for any run that continues.

"Always", "RerunOnFailure", "Manual": its spec.runStrategy; "running": its spec.running was true.
"""

NOT_RESTARTED_STRATEGIES = ("Manual", "RerunOnFailure")
"""KubeVirt's stop turns Always into Halted, but leaves these run strategies unchanged, and the VM stopped."""


@dataclass(frozen=True)
class Restart:
    """The changes that make a VM run with its template.

    Attributes:
        resumes: a run that stopped the VM was interrupted; the VM is started whether or not a restart was requested.
    """

    plan: Plan = field(default_factory=Plan)
    resumes: bool = False

    def __bool__(self) -> bool:
        return bool(self.plan)


def plan_restart(
    vm: Vm, number: int | None, address_uses: Iterable[AddressUse], ctx: PlanContext, must_stop: bool
) -> Restart:
    """Plan the changes that make the VM run with an address (None: with no address of the network).

    A VM that this run has already restarted is not restarted again while its old instance terminates.

    Args:
        number: the address that it should run with.
        address_uses: uses of the network's addresses.
        must_stop: a change requires that the VM is stopped; the plan then ends when it has stopped.
    """
    running = find_instance(vm, ctx.snapshot)
    if must_stop:
        start_plan = start_vm(vm, vm.annotations.get(START_AGAIN_ANNOTATION) or _start_value(vm))
        return Restart(replace(stop_vm(vm, runs=running is not None), future_changes=tuple(start_plan)))
    if running is None:
        start_value = vm.annotations.get(START_AGAIN_ANNOTATION) or _stopped_by_run(ctx.run, vm)
        return Restart(start_vm(vm, start_value), resumes=True) if start_value else Restart()
    runs_with = {
        u.number for u in address_uses if u.kind is UsageKind.RUNNING and u.is_for_vm(vm.namespace, vm.name, vm.uid)
    }
    if START_AGAIN_ANNOTATION in vm.annotations:
        # While the VM stops, the run that stops it needs the mark.
        return Restart() if is_stopping(vm, running) else Restart(remove_start_mark(vm), resumes=True)
    restarted = any(change.subresource == "restart" for change in ctx.run.done_for(vm.full_name))
    if restarted or runs_with == ({number} if number is not None else set()):
        return Restart()
    call = Change(
        Verb.CALL, VM_SUBRESOURCES.ref(vm.name, vm.namespace), f"restart virtualmachine/{vm.name}",
        body={}, subresource="restart", before=vm.raw, owner=vm.full_name,
    )  # fmt: skip
    return Restart(sequential(call))


def resume_stopped_vms(vms: Iterable[Vm], ctx: PlanContext) -> Plan:
    """Plan the start of VMs that were stopped for a change that is not made.

    Args:
        vms: VMs without further changes. A failed one is also started if a killed run had stopped it; others only if
            this run has stopped them, since another run may be working on them.
    """

    def plans() -> Iterator[Plan]:
        for vm in vms:
            if vm.full_name in ctx.run.failed or _stopped_by_run(ctx.run, vm):
                restart = plan_restart(vm, None, (), ctx, must_stop=False)
                if restart.resumes:
                    starts = any(starts_vm(change) for change in restart.plan)
                    yield replace(restart.plan, notes=(f"{vm.ref} is started again unchanged",) if starts else ())

    return parallel_plans([*plans()])


def restart_note(reason: str, hot_plug: HotPlug | None = None) -> str:
    """Return the note that names how a running VM gets what its template says.

    Args:
        reason: what it runs with or without.
        hot_plug: whether its interface can be hot-plugged; None if that was not requested.
    """
    if hot_plug is not None and not hot_plug.blocker:
        return hot_plug.next_step
    return f"restart needed: {reason}{f': {hot_plug.blocker}' if hot_plug else ''} (`--restart`)"


def stop_vm(vm: Vm, runs: bool) -> Plan:
    """Plan to stop a VM and to wait until nothing of it runs; the VM is marked with how to start it again.

    Args:
        runs: it has an instance. If only a pod of it is left, KubeVirt stops only VMs that would start by themselves.
    """
    start_value = _start_value(vm)
    changes = []
    if vm.run_strategy != "Halted" and (runs or vm.run_strategy not in NOT_RESTARTED_STRATEGIES):
        mark = PatchBuilder.for_uid(vm.uid)
        mark.set_in(vm.raw, (*ANNOTATIONS, START_AGAIN_ANNOTATION), start_value)
        if START_AGAIN_ANNOTATION not in vm.annotations:
            changes.append(
                Change(
                    Verb.PATCH, vm.ref, f"record that {vm.ref} must be started again", mark.ops,
                    before=vm.raw, owner=vm.full_name,
                )
            )  # fmt: skip
        changes.append(
            Change(
                Verb.CALL, VM_SUBRESOURCES.ref(vm.name, vm.namespace), f"stop virtualmachine/{vm.name}",
                body={}, subresource="stop", before=vm.raw, owner=vm.full_name,
            )
        )  # fmt: skip
    changes.append(
        Change(Verb.WAIT, vm.ref, f"wait until {vm.ref} has stopped", owner=vm.full_name, wait_for="stopped")
    )
    return sequential(*changes)


def is_stopping(vm: Vm, instance: Json) -> bool:
    """Return whether a VM that still runs is stopping."""
    return vm.run_strategy == "Halted" or bool(metadata(instance).get("deletionTimestamp"))


def _stopped_by_run(run: RunContext, vm: Vm) -> str:
    """Return how to start a VM that this run has stopped, even if another run has removed the mark; else ""."""
    start_value = ""
    for change in run.done_for(vm.full_name):
        if change.subresource == "stop":
            start_value = _start_value(Vm(change.before or {}))
        elif starts_vm(change):
            start_value = ""
    return start_value


def starts_vm(change: Change) -> bool:
    """Return whether a change of this module makes KubeVirt start or restart a VM."""
    if change.subresource in ("start", "restart"):
        return True
    ops = change.body if change.verb is Verb.PATCH and isinstance(change.body, list) else ()
    return any(op["op"] != "test" and op["path"] in ("/spec/running", "/spec/runStrategy") for op in ops)


def _start_value(vm: Vm) -> str:
    return vm.run_strategy if dig(vm.raw, "spec", "runStrategy") else "running"


def start_vm(vm: Vm, start_value: str) -> Plan:
    """Plan to start a VM that this program had stopped, as it was before.

    Args:
        start_value: see START_AGAIN_ANNOTATION.
    """
    patch = PatchBuilder.for_uid(vm.uid)
    if start_value == "running":
        patch.set_in(vm.raw, ("spec", "running"), True)
    elif dig(vm.raw, "spec", "runStrategy") == "Halted":
        patch.set_in(vm.raw, ("spec", "runStrategy"), start_value)
    patch.unset_in(vm.raw, (*ANNOTATIONS, START_AGAIN_ANNOTATION))
    changes = [Change(Verb.PATCH, vm.ref, f"start {vm.ref} again", patch.ops, before=vm.raw, owner=vm.full_name)]
    if start_value in NOT_RESTARTED_STRATEGIES and vm.run_strategy == start_value:
        changes.insert(
            0,
            Change(
                Verb.CALL, VM_SUBRESOURCES.ref(vm.name, vm.namespace), f"start virtualmachine/{vm.name}",
                body={}, subresource="start", before=vm.raw, owner=vm.full_name,
            ),
        )  # fmt: skip
    return sequential(*changes)


def remove_start_mark(vm: Vm) -> Plan:
    """Plan to remove the mark of a VM that another client has started."""
    patch = PatchBuilder.for_uid(vm.uid)
    patch.unset_in(vm.raw, (*ANNOTATIONS, START_AGAIN_ANNOTATION))
    summary = f"record that {vm.ref} runs again"
    return sequential(Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=vm.full_name))
