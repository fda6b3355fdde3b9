"""Members of a Backend for which most back-ends, or the private ones, have nothing to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import AddressUse, HoldRelease, VmProblem
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm


class BackendDefaults:
    """A back-end that keeps no addresses of its own: there is nothing to reserve, to release or to repair."""

    def conflicting_address(self, vm: Vm, network: Network, snapshot: Snapshot) -> str:
        """See Backend. A VM may be on several networks."""
        return ""

    def release_previous(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> HoldRelease:
        """See Backend."""
        return HoldRelease()

    def reserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        """See Backend."""
        return Plan()

    def unreserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> HoldRelease:
        """See Backend."""
        return HoldRelease()

    def migration_blockers(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """See Backend. KubeVirt's own rules aside, nothing hinders it."""
        return ()

    def vm_problems(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[VmProblem, ...]:
        """See Backend."""
        return ()

    def repairs(self, network: Network, namespace: str | None, snapshot: Snapshot) -> Plan:
        """See Backend."""
        return Plan()


class PrivateDefaults(BackendDefaults):
    """A private back-end: an address is on the VM's own interface, with no ports and no Service before it."""

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

    def wait_conditions(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> tuple[Change, ...]:
        """See Backend."""
        return ()
