"""The jobs that `sync` consists of: each succeeds or fails by itself, and has the planner of a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Plan, side_by_side
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.facts import Facts, Read, together
from kubectl_yoshi.model.objects import Name, dig
from kubectl_yoshi.model.vm import VM, Vm, instance_reads
from kubectl_yoshi.plan.attachments import AttachRequest, plan_attachments
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import known_networks, network_read, open_whole, sound_networks
from kubectl_yoshi.plan.collection import plan_leftovers
from kubectl_yoshi.plan.detachments import DetachRequest, plan_detachments
from kubectl_yoshi.plan.networks import NetworkRequest, plan_network
from kubectl_yoshi.plan.restarts import START_AGAIN, plan_restart
from kubectl_yoshi.plan.takeovers import TakeoverRequest, plan_takeover

Backends = Mapping[str, Backend]
Refusals = Mapping[Name, YoshiError]


class Job(Protocol):
    """A part of the work."""

    @property
    def vms(self) -> tuple[Name, ...]:
        """The VMs that it is for; () where it is for none."""

    @property
    def network(self) -> Name | None:
        """The network that it makes; None where it makes none."""

    def plan(self, backends: Backends, refused: Refusals, facts: Facts, attempt: Attempt) -> Plan:
        """What is to be done.

        Args:
            backends: by plugin.
            refused: the networks that this pass could not make, and why.
            facts: what was read.
            attempt: see Attempt.

        Raises:
            NeedMore: more must be read first.
            YoshiError: nothing can be done.
        """


@dataclass(frozen=True)
class LeftoversJob:
    """Takes away what networks left in other places that somebody deleted with plain kubectl.

    Attributes:
        namespace: of networks that were in this one; None for all.
    """

    namespace: str | None = None
    vms: tuple[Name, ...] = ()
    network: Name | None = None

    def plan(self, backends: Backends, refused: Refusals, facts: Facts, attempt: Attempt) -> Plan:
        """See Job."""
        return plan_leftovers(self.namespace, backends, facts, attempt)


@dataclass(frozen=True)
class RepairJob:
    """Makes the back-ends' own bookkeeping consistent again that interrupted runs have left.

    Attributes:
        networks: in whose blocks.
        namespace: of VMs of this one; None for all.
    """

    networks: tuple[Name, ...]
    namespace: str | None = None
    vms: tuple[Name, ...] = ()
    network: Name | None = None

    def plan(self, backends: Backends, refused: Refusals, facts: Facts, attempt: Attempt) -> Plan:
        """See Job."""
        if attempt.failed:
            return Plan(refusals=attempt.failed)
        found = sound_networks(facts.ask(*(network_read(*name) for name in self.networks)))
        made = [(network, backends[network.plugin]) for network in found if network.plugin in backends]
        plans = (partial(one.repairs, network, self.namespace, facts) for network, one in made)
        return side_by_side(together(plans))


@dataclass(frozen=True)
class TakeoverJob:
    """Rewrites what the original yoshi recorded; what must stay as it is, `ips check` tells."""

    request: TakeoverRequest
    vms: tuple[Name, ...] = ()
    network: Name | None = None

    def plan(self, backends: Backends, refused: Refusals, facts: Facts, attempt: Attempt) -> Plan:
        """See Job."""
        return replace(plan_takeover(self.request, backends, facts, attempt), notes=())


@dataclass(frozen=True)
class NetworkJob:
    """Makes a network and brings its status up to date; one that cannot be judged for want of rights stays as it is."""

    network: Name
    vms: tuple[Name, ...] = ()

    def plan(self, backends: Backends, refused: Refusals, facts: Facts, attempt: Attempt) -> Plan:
        """See Job."""
        plan = plan_network(NetworkRequest(*self.network), backends, facts, attempt)
        if plan.refusals and not plan and not attempt.failed and facts.unknowns():
            reason = next(iter(plan.refusals.values())).message
            return Plan(notes=(f"network {'/'.join(self.network)} is left as it is: {reason}",))
        return plan


@dataclass(frozen=True)
class AttachJob:
    """Gives VMs the addresses of a network; nobody new where the network could not be made, and who is on it stays."""

    request: AttachRequest
    network: Name | None = None

    @property
    def vms(self) -> tuple[Name, ...]:
        """See Job."""
        return self.request.vms

    def plan(self, backends: Backends, refused: Refusals, facts: Facts, attempt: Attempt) -> Plan:
        """See Job."""
        why = "" if attempt.done else self._why_not_made(refused, facts, attempt)
        name = "/".join(self.request.network)
        error = Refused(f"network {name} is not ready: {why}", f"See `kubectl yoshi network describe {name}`.")
        try:
            plan = plan_attachments(replace(self.request, only_news=True), backends, facts, attempt)
        except Refused:
            if why:
                raise error from None
            raise
        if not why:
            return plan
        newcomers = {change.subject for change in plan if change.ref.resource == VM}
        return Plan(refusals={**plan.refusals, **dict.fromkeys(newcomers, error)})

    def _why_not_made(self, refused: Refusals, facts: Facts, attempt: Attempt) -> str:
        if error := refused.get(self.request.network):
            return error.message
        for obj in facts.ask(network_read(*self.request.network)):
            created = dig(obj, "status", "created")
            if created is False or (created is None and not attempt.preview):
                return str(dig(obj, "status", "reason", default="")) or "it was not made yet"
        return ""


@dataclass(frozen=True)
class ResumeJob:
    """Finishes what a run had begun that was killed while it took a VM off a network, and starts the VM again."""

    vm: Name
    network: Name | None = None

    @property
    def vms(self) -> tuple[Name, ...]:
        """See Job."""
        return (self.vm,)

    def plan(self, backends: Backends, refused: Refusals, facts: Facts, attempt: Attempt) -> Plan:
        """See Job."""
        found = facts.ask(Read(VM, *self.vm))
        if not found or attempt.failed:
            return Plan(refusals=attempt.failed)
        vm = Vm(found[0])
        if START_AGAIN not in vm.annotations:
            return Plan()
        for network in known_networks(vm.namespace, facts):
            backend = backends.get(network.plugin)
            held = any(record.uid == vm.uid for record in open_whole(network, facts).records().values())
            if backend is not None and held and not backend.loosen(vm, network, facts):
                request = DetachRequest((network.namespace, network.name), (self.vm,))
                return plan_detachments(request, backends, facts, attempt)
        facts.ask(*instance_reads([vm]))
        return plan_restart(vm, None, (), facts, attempt, must_stop=False).plan
