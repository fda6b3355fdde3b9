"""The request of a move, and the state from which its steps are planned."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.context import PlanState


@dataclass(frozen=True)
class MoveRequest:
    """Request to move an address to another VM.

    Attributes:
        to: namespace and name of the VM that is to have the address.
        take_reservation: see AttachRequest.
        network: its namespace and name; None for the network that has the address.
        ports: the ports to open; () for those that the VM requests, else those that are open now.
        wait: wait until the address is reachable.
    """

    address: Address
    to: tuple[str, str]
    network: tuple[str, str] | None = None
    ports: tuple[Port, ...] = ()
    wait: bool = False
    take_reservation: bool = False


@dataclass(frozen=True)
class MoveToReservationRequest:
    """Request to reserve an address that a VM has, or that is reserved for others.

    Attributes:
        reserve_for: see Allocation.reserved_for.
        namespace: that of the user, to find the network.
        network: its namespace and name; None for the network that has the address.
        take_reservation: see AttachRequest.
    """

    address: Address
    reserve_for: str
    namespace: str
    network: tuple[str, str] | None = None
    take_reservation: bool = False


@dataclass(frozen=True)
class MoveState(PlanState):
    """The state from which a move is planned; its allocations include the shard of the address.

    Attributes:
        request: the request.
        target: the VM that is to have the address.
    """

    request: MoveRequest
    target: Vm

    @property
    def number(self) -> int:
        """Return the address as a number."""
        return int(self.request.address)
