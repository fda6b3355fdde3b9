"""What the private back-ends have in common: an address is on the VM's own interface, with no Service before it."""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_yoshi.model.backend import Trouble, Use
from kubectl_yoshi.model.change import Change, Plan
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import Vm


class Private:
    """The part of a Backend that is about ports and what announces them: there is none."""

    def taken_unasked(self, network: Network, facts: Facts) -> tuple[str, ...]:
        """See Backend. Nobody outside the cluster is concerned."""
        return ()

    def establish(self, vm: Vm, network: Network, number: int, ports: Sequence[Port], facts: Facts) -> Plan:
        """See Backend. What is beside the VM is there before it wants the address."""
        if ports:
            raise Refused(
                f"network {network.full_name} is private: ports are opened on public addresses only",
                "Leave --port out, or name a public network with --public-network.",
            )
        return Plan()

    def carried(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Use, ...]:
        """See Backend."""
        return ()

    def open_on(self, vm: Vm, network: Network, facts: Facts) -> tuple[Port, ...]:
        """See Backend."""
        return ()

    def immobile(self, vm: Vm, network: Network, facts: Facts) -> tuple[str, ...]:
        """See Backend. KubeVirt's own rules aside, nothing hinders it."""
        return ()

    def awaited(self, vm: Vm, network: Network, number: int, facts: Facts) -> tuple[Change, ...]:
        """See Backend."""
        return ()

    def troubles(self, network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Trouble, ...]:
        """See Backend."""
        return ()

    def repairs(self, network: Network, namespace: str | None, facts: Facts) -> Plan:
        """See Backend."""
        return Plan()
