"""What a way to announce public addresses is to the public back-end: MetalLB on the LAN or by BGP, Calico by BGP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import NetworkConflict
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.snapshot import ServedApis, Snapshot
from kubectl_yoshi.model.vm import Vm


@dataclass(frozen=True)
class ServiceTemplate:
    """How the Service of an address looks so that it is announced.

    Attributes:
        annotations: what the announcer reads.
        spec: fields of the Service's spec.
        rejection_hint: see Change.rejection_hint.
    """

    annotations: dict[str, str] = field(default_factory=dict)
    spec: Json = field(default_factory=dict)
    rejection_hint: str = ""


class Announcer(Protocol):
    """A way to announce. All functions are pure but for what they read from the snapshot."""

    @property
    def name(self) -> str:
        """spec.public.announce"""

    def missing_apis(self, served: ServedApis) -> str:
        """What would have to be served and is not; "" where it is there."""

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        """See Backend.conflicts."""

    def ensure(self, network: Network, snapshot: Snapshot) -> Plan:
        """See Backend.ensure."""

    def health(self, network: Network, snapshot: Snapshot) -> str:
        """See Backend.health."""

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        """See Backend.describe."""

    def teardown(self, network: Network, snapshot: Snapshot) -> Plan:
        """See Backend.teardown; nothing has an address of the network any more."""

    def service_template(self, network: Network, address: Address) -> ServiceTemplate:
        """How the Service of an address looks."""

    def ensure_prerequisites(self, network: Network, address: Address, snapshot: Snapshot, owner: str) -> Plan:
        """What must be there before the Service."""

    def announce(
        self, network: Network, address: Address, ref: ObjectRef, service: Json | None, snapshot: Snapshot, vm: Vm
    ) -> Plan:
        """What must come after the Service, which is not made yet where it is None."""

    def withdraw(self, network: Network, address: Address, record: Allocation, snapshot: Snapshot) -> Plan:
        """What takes away all that was made for a VM's address besides its Service; see Backend.release_hold."""

    def wait_conditions(self, address: Address, ref: ObjectRef, service: Json | None, owner: str) -> tuple[Change, ...]:
        """What is to be waited for until the address is announced."""

    def warnings(self, network: Network, address: Address, snapshot: Snapshot) -> tuple[str, ...]:
        """See Backend.warnings."""

    def get_announcement(self, service: Json, vmi: Json | None, snapshot: Snapshot) -> tuple[str, str]:
        """What announces the Service's address, or why nothing does, and from which nodes."""
