"""What a move is asked for, and what its steps know."""

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
    """What is wanted.

    Attributes:
        address: which.
        to: namespace and name of the VM that is to have it.
        network: its namespace and name; None for the one that has the address.
        ports: what it is to be open on; () for what the VM asks for, else what it was open on.
        wait: wait until it can be reached.
    """

    address: Address
    to: tuple[str, str]
    network: tuple[str, str] | None = None
    ports: tuple[Port, ...] = ()
    wait: bool = False


@dataclass(frozen=True)
class MoveState:
    """What the plan of a move is made from.

    Attributes:
        request, network, backend, ctx: the move, and of which network the address is.
        allocations: with the address's shard.
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
        """The address, as a number."""
        return int(self.request.address)

    @property
    def snapshot(self) -> Snapshot:
        """See PlanContext."""
        return self.ctx.snapshot

    @property
    def run(self) -> RunContext:
        """See PlanContext."""
        return self.ctx.run
