"""Define the protocol of announcers for the public backend: MetalLB on the LAN or by BGP, Calico by BGP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import Attachment, NetworkConflict
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.model.plan import Change, Plan
from kubectl_yoshi.model.snapshot import ServedApis, Snapshot


@dataclass(frozen=True)
class ServiceTemplate:
    """The fields that the Service of an address needs to be announced.

    Attributes:
        annotations: annotations for the announcer.
        spec: fields of the Service's spec.
        rejection_hint: see Change.rejection_hint.
    """

    annotations: dict[str, str] = field(default_factory=dict)
    spec: Json = field(default_factory=dict)
    rejection_hint: str = ""


class Announcer(Protocol):
    """A way to announce addresses. All functions are pure, except for what they read from the snapshot."""

    @property
    def name(self) -> str:
        """Return the value of spec.public.announce."""

    def missing_apis(self, served: ServedApis) -> str:
        """Return the APIs that the announcer needs and the API server does not serve, as printed; "" for none."""

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        """Return why the network cannot be created (see Backend.conflicts)."""

    def ensure(self, network: Network, snapshot: Snapshot) -> Plan:
        """Return the changes that reconcile the network's objects (see Backend.ensure)."""

    def health(self, network: Network, snapshot: Snapshot) -> str:
        """Return why the network does not work; "" if it works (see Backend.health)."""

    def pending_rollout(self, network: Network, snapshot: Snapshot) -> str:
        """Return what the announcer has not completed yet; "" for nothing (see Backend.pending_rollout)."""

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        """Return the label and value pairs that `network describe` adds (see Backend.describe)."""

    def teardown(self, network: Network, snapshot: Snapshot) -> Plan:
        """Return the changes that delete the network's objects; no address of the network is in use."""

    def service_template(self, network: Network, address: Address) -> ServiceTemplate:
        """Return the fields that the Service of an address needs."""

    def ensure_prerequisites(self, network: Network, address: Address, snapshot: Snapshot, owner: str) -> Plan:
        """Return the changes that must precede the Service."""

    def announce(self, attachment: Attachment, service: Json | None, snapshot: Snapshot) -> Plan:
        """Return the changes that must follow the Service; `service` is None if it does not exist yet."""

    def withdraw(self, network: Network, address: Address, record: Allocation, snapshot: Snapshot) -> Plan:
        """Return the changes that remove everything created for a VM's address, except its Service.

        See Backend.release_hold.
        """

    def wait_conditions(self, address: Address, ref: ObjectRef, service: Json | None, owner: str) -> tuple[Change, ...]:
        """Return the changes that wait until the address is announced."""

    def warnings(self, network: Network, address: Address, snapshot: Snapshot) -> tuple[str, ...]:
        """Return a line for each thing that will not work (see Backend.warnings)."""

    def get_announcement(self, service: Json, vmi: Json | None, snapshot: Snapshot) -> tuple[str, str]:
        """Return what announces the Service's address, or why nothing does, and the nodes that announce it."""
