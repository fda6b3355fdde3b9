"""The tasks of `sync`: each has the planner of a command, and succeeds or fails on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.objects import NamespacedName, dig
from kubectl_yoshi.model.plan import Plan, parallel_plans
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.model.vm import VM, Vm, instance_queries
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.detach import DetachRequest, plan_detach
from kubectl_yoshi.plan.gc import plan_orphan_removal
from kubectl_yoshi.plan.legacy import LegacyConversionRequest, plan_legacy_conversion
from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network
from kubectl_yoshi.plan.network_lookup import list_networks, network_query, parse_networks
from kubectl_yoshi.plan.records import load_allocations
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION, plan_restart

NetworkErrors = Mapping[NamespacedName, YoshiError]


class SyncTask(Protocol):
    """A task of a pass."""

    @property
    def vms(self) -> tuple[NamespacedName, ...]:
        """Return the VMs that the task is for; () if it is for none."""

    @property
    def network(self) -> NamespacedName | None:
        """Return the network that the task reconciles; None if it reconciles none."""

    def plan(self, failed_networks: NetworkErrors, ctx: PlanContext) -> Plan:
        """Plan the changes of the task.

        Args:
            failed_networks: the networks that this pass could not reconcile, and why.

        Raises:
            YoshiError: nothing can be done.
        """


@dataclass(frozen=True)
class OrphanRemovalTask:
    """Deletes objects elsewhere of networks that were deleted with plain kubectl.

    Attributes:
        namespace: that of the networks; None for all.
    """

    namespace: str | None = None
    vms: tuple[NamespacedName, ...] = ()
    network: NamespacedName | None = None

    def plan(self, failed_networks: NetworkErrors, ctx: PlanContext) -> Plan:
        """Plan the changes of the task."""
        return plan_orphan_removal(self.namespace, ctx)


@dataclass(frozen=True)
class RepairTask:
    """Repairs the backends' own state that interrupted runs left inconsistent.

    Attributes:
        networks: those whose blocks are repaired.
        namespace: that of the VMs; None for all.
    """

    networks: tuple[NamespacedName, ...]
    namespace: str | None = None
    vms: tuple[NamespacedName, ...] = ()
    network: NamespacedName | None = None

    def plan(self, failed_networks: NetworkErrors, ctx: PlanContext) -> Plan:
        """Plan the changes of the task."""
        if ctx.run.failed:
            return Plan(errors=ctx.run.failed)
        found = parse_networks(ctx.snapshot.lookup(*(network_query(*name) for name in self.networks)))
        with_backend = [(network, ctx.backends[network.plugin]) for network in found if network.plugin in ctx.backends]
        plans = (partial(backend.repairs, network, self.namespace, ctx.snapshot) for network, backend in with_backend)
        return parallel_plans(ctx.snapshot.parallel(plans))


@dataclass(frozen=True)
class LegacyConversionTask:
    """Converts the records of Platform9 yoshi; `ips check` reports those that cannot be converted."""

    request: LegacyConversionRequest
    vms: tuple[NamespacedName, ...] = ()
    network: NamespacedName | None = None

    def plan(self, failed_networks: NetworkErrors, ctx: PlanContext) -> Plan:
        """Plan the changes of the task."""
        return replace(plan_legacy_conversion(self.request, ctx), notes=())


@dataclass(frozen=True)
class NetworkTask:
    """Reconciles a network and updates its status; a network that cannot be read completely stays as it is."""

    network: NamespacedName
    vms: tuple[NamespacedName, ...] = ()

    def plan(self, failed_networks: NetworkErrors, ctx: PlanContext) -> Plan:
        """Plan the changes of the task."""
        plan = plan_network(NetworkRequest(*self.network), ctx)
        if plan.errors and not plan and not ctx.run.failed and ctx.snapshot.unreadable_reasons():
            reason = next(iter(plan.errors.values())).message
            return Plan(notes=(f"network {'/'.join(self.network)} is skipped: {reason}",))
        return plan


@dataclass(frozen=True)
class AttachTask:
    """Assigns addresses of a network to VMs; if the network failed, existing VMs stay and no new ones are attached."""

    request: AttachRequest
    network: NamespacedName | None = None

    @property
    def vms(self) -> tuple[NamespacedName, ...]:
        """Return the VMs of the request."""
        return self.request.vms

    def plan(self, failed_networks: NetworkErrors, ctx: PlanContext) -> Plan:
        """Plan the changes of the task."""
        reason = "" if ctx.run.done else self._not_ready_reason(failed_networks, ctx)
        name = "/".join(self.request.network)
        error = PreconditionFailed(
            f"network {name} is not ready: {reason}", f"See `kubectl yoshi network describe {name}`."
        )
        try:
            plan = plan_attach(replace(self.request, skip_repeated_notes=True), ctx)
        except PreconditionFailed:
            if reason:
                raise error from None
            raise
        if not reason:
            return plan
        new_vms = {change.owner for change in plan if change.ref.resource == VM}
        return Plan(errors={**plan.errors, **dict.fromkeys(new_vms, error)})

    def _not_ready_reason(self, failed_networks: NetworkErrors, ctx: PlanContext) -> str:
        if error := failed_networks.get(self.request.network):
            return error.message
        for obj in ctx.snapshot.lookup(network_query(*self.request.network)):
            created = dig(obj, "status", "created")
            if created is False or (created is None and not ctx.run.preview):
                return str(dig(obj, "status", "reason", default="")) or "it is not initialized yet"
        return ""


@dataclass(frozen=True)
class ResumeTask:
    """Completes a detachment whose run was killed while the VM was stopped, and starts the VM again."""

    vm: NamespacedName
    network: NamespacedName | None = None

    @property
    def vms(self) -> tuple[NamespacedName, ...]:
        """Return the single VM."""
        return (self.vm,)

    def plan(self, failed_networks: NetworkErrors, ctx: PlanContext) -> Plan:
        """Plan the changes of the task."""
        found = ctx.snapshot.lookup(Query(VM, *self.vm))
        if not found or ctx.run.failed:
            return Plan(errors=ctx.run.failed)
        vm = Vm(found[0])
        if START_AGAIN_ANNOTATION not in vm.annotations:
            return Plan()
        for network in list_networks(vm.namespace, ctx.snapshot):
            backend = ctx.backends.get(network.plugin)
            records = load_allocations(network, ctx.snapshot).records().values()
            held = [record for record in records if record.uid == vm.uid]
            if backend is not None and held and not backend.detach_patch(vm, network, ctx.snapshot):
                reserve_for = held[0].reserved_for
                name = (network.namespace, network.name)
                request = DetachRequest(name, (self.vm,), keep=bool(reserve_for), reserve_for=reserve_for)
                return plan_detach(request, ctx)
        ctx.snapshot.lookup(*instance_queries([vm]))
        return plan_restart(vm, None, (), ctx, must_stop=False).plan
