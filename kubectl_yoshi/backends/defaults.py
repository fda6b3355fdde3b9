"""Define default implementations of Backend members for which most backends, or the private ones, do nothing."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import AddressUse, Attachment, HoldRelease, MigrationBlocker, VmProblem
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm


class BackendDefaults:
    """A backend that keeps no addresses itself, so that it has nothing to reserve, release or repair."""

    def conflicting_address(self, vm: Vm, network: Network, snapshot: Snapshot) -> str:
        """Return "": a VM may be on several networks."""
        return ""

    def release_previous(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> HoldRelease:
        return HoldRelease()

    def reserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        return Plan()

    def unreserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> HoldRelease:
        return HoldRelease()

    def interface_of(self, vm: Vm, network: Network) -> Json | None:
        """Return None: the address is on no interface of the VM."""
        return None

    def migration_blockers(
        self, vm: Vm, network: Network, snapshot: Snapshot, *, is_planned: bool = False
    ) -> tuple[MigrationBlocker, ...]:
        """Return (): apart from KubeVirt's own rules, nothing prevents a migration."""
        return ()

    def vm_problems(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[VmProblem, ...]:
        return ()

    def repairs(self, network: Network, namespace: str | None, snapshot: Snapshot) -> Plan:
        return Plan()


class PrivateDefaults(BackendDefaults):
    """A private backend: addresses are on the VM's own interfaces, without ports and Services."""

    def implicit_choices(self, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """Return (): defaults affect nothing outside the cluster."""
        return ()

    def ensure_service(self, attachment: Attachment, snapshot: Snapshot) -> Plan:
        """Return no changes: no separate objects follow the VM's patch. Ports are rejected."""
        if attachment.ports:
            raise PreconditionFailed(
                f"network {attachment.network.full_name} is private: ports are opened on public addresses only",
                "Leave --port out, or name a public network with --public-network.",
            )
        return Plan()

    def service_addresses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        return ()

    def configured_ports(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[Port, ...]:
        return ()

    def wait_conditions(self, attachment: Attachment, snapshot: Snapshot) -> tuple[Change, ...]:
        return ()
