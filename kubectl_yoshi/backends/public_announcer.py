"""What a way to announce public addresses is to the public back-end: MetalLB on the LAN or by BGP, Calico by BGP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import Obstacle
from kubectl_yoshi.model.change import Change, Plan
from kubectl_yoshi.model.facts import Facts, Served
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef


@dataclass(frozen=True)
class Shape:
    """How the Service of an address looks so that it is announced.

    Attributes:
        annotations: what the announcer reads.
        spec: fields of the Service's spec.
        if_refused: see Change.if_refused.
    """

    annotations: dict[str, str] = field(default_factory=dict)
    spec: Json = field(default_factory=dict)
    if_refused: str = ""


class Announcer(Protocol):
    """A way to announce. All functions are pure; those that take facts may raise facts.NeedMore."""

    @property
    def name(self) -> str:
        """spec.public.announce"""

    def missing(self, served: Served) -> str:
        """What would have to be served and is not; "" where it is there."""

    def obstacles(self, network: Network, facts: Facts) -> tuple[Obstacle, ...]:
        """See Backend.obstacles."""

    def build(self, network: Network, facts: Facts) -> Plan:
        """See Backend.build."""

    def problem(self, network: Network, facts: Facts) -> str:
        """See Backend.problem."""

    def describe(self, network: Network, facts: Facts) -> tuple[tuple[str, str], ...]:
        """See Backend.describe."""

    def demolish(self, network: Network, facts: Facts) -> Plan:
        """See Backend.demolish; nothing has an address of the network any more."""

    def shape(self, network: Network, address: Address) -> Shape:
        """How the Service of an address looks."""

    def permit(self, network: Network, address: Address, facts: Facts, subject: str) -> Plan:
        """What must be there before the Service."""

    def announce(
        self, network: Network, address: Address, ref: ObjectRef, service: Json | None, facts: Facts, subject: str
    ) -> Plan:
        """What must come after the Service, which is not made yet where it is None."""

    def withdraw(self, network: Network, address: Address, facts: Facts, subject: str) -> Plan:
        """What takes away all that was made for the address besides its Service."""

    def awaited(self, address: Address, ref: ObjectRef, service: Json | None, subject: str) -> tuple[Change, ...]:
        """What is to be waited for until the address is announced."""

    def concerns(self, network: Network, address: Address, facts: Facts) -> tuple[str, ...]:
        """See Backend.concerns."""

    def announced(self, service: Json, vmi: Json | None, facts: Facts) -> tuple[str, str]:
        """What announces the Service's address, or why nothing does, and from which nodes."""
