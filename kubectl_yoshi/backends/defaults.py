"""What the private back-ends have in common: an address is on the VM's own interface, with no Service before it."""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_yoshi.model.backend import AddressUse, VmProblem
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm


class PrivateDefaults:
    """The part of a Backend that is about ports and what announces them: there is none."""

    def implicit_choices(self, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """See Backend. Nobody outside the cluster is concerned."""
        return ()

    def ensure_service(self, vm: Vm, network: Network, number: int, ports: Sequence[Port], snapshot: Snapshot) -> Plan:
        """See Backend. What is beside the VM is there before it wants the address."""
        if ports:
            raise PreconditionFailed(
                f"network {network.full_name} is private: ports are opened on public addresses only",
                "Leave --port out, or name a public network with --public-network.",
            )
        return Plan()

    def service_addresses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        """See Backend."""
        return ()

    def configured_ports(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[Port, ...]:
        """See Backend."""
        return ()

    def migration_blockers(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """See Backend. KubeVirt's own rules aside, nothing hinders it."""
        return ()

    def wait_conditions(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> tuple[Change, ...]:
        """See Backend."""
        return ()

    def vm_problems(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[VmProblem, ...]:
        """See Backend."""
        return ()

    def repairs(self, network: Network, namespace: str | None, snapshot: Snapshot) -> Plan:
        """See Backend."""
        return Plan()
