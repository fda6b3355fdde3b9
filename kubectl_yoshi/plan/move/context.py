"""The request of a move, and the state from which its steps are planned."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.allocations import Allocations
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.context import PlanContext, RunContext


@dataclass(frozen=True)
class MoveRequest:
    """Request to move an address to another VM.

    Attributes:
        to: namespace and name of the VM that is to have the address.
        network: its namespace and name; None for the network that has the address.
        ports: the ports to open; () for those that the VM requests, else those that are open now.
        wait: wait until the address is reachable.
    """

    address: Address
    to: tuple[str, str]
    network: tuple[str, str] | None = None
    ports: tuple[Port, ...] = ()
    wait: bool = False


@dataclass(frozen=True)
class MoveState:
    """The state from which a move is planned.

    Attributes:
        request, network, backend, ctx: the move, and the network of the address.
        allocations: includes the shard of the address.
        target: the VM that is to have the address.
    """

    request: MoveRequest
    network: Network
    backend: Backend
    allocations: Allocations
    target: Vm
    ctx: PlanContext

    @property
    def number(self) -> int:
        """Return the address as a number."""
        return int(self.request.address)

    @property
    def snapshot(self) -> Snapshot:
        """Return the snapshot of the PlanContext."""
        return self.ctx.snapshot

    @property
    def run(self) -> RunContext:
        """Return the run of the PlanContext."""
        return self.ctx.run
