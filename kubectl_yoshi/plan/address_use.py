"""Which VM may use an address, as the admission policies for the use of addresses decide it."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation, is_large, shard_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.records import load_allocations


@dataclass(frozen=True)
class AddressUse:
    """What the policies compare the use of an address with.

    Attributes:
        network: the network that the address belongs to.
        address: the address.
        record: its allocation; None if it has none.
        has_block: whether the object exists that would record it. In a large network the policies cannot know that
            nobody holds an address whose AddressBlock does not exist.
    """

    network: Network
    address: Address
    record: Allocation | None
    has_block: bool

    @property
    def holder(self) -> str:
        """Return the holder, as printed."""
        return self.record.holder if self.record is not None else "none"

    @property
    def users(self) -> tuple[str, ...]:
        """Return what may use the address, as printed; besides users who can change the network."""
        record = self.record
        if record is None:
            return () if self.has_block else ("VMs, by users who can allocate addresses of the network",)
        if record.kind == VIRTUALMACHINE:
            return (f"VM {record.namespace}/{record.name}", f"Services in namespace {record.namespace}")
        if record.kind == RESERVATION and record.reserved_namespace:
            return (f"Services in namespace {record.reserved_namespace}",)
        return ()

    def refusal(self, vm: Vm) -> str:
        """Return why the policies refuse to write the address on a VM; "" if they admit it."""
        record = self.record
        if record is None:
            return "it is not allocated" if self.has_block else ""
        if record.kind != VIRTUALMACHINE or (record.namespace, record.name) != (vm.namespace, vm.name):
            return f"it is {record.holder}" if record.kind != VIRTUALMACHINE else f"{record.holder} holds it"
        return f"an earlier VM of the name {vm.full_name} holds it" if record.uid not in ("", vm.uid) else ""


def find_address_use(network: Network, address: Address, snapshot: Snapshot) -> AddressUse | None:
    """Return what the policies compare the use of an address with; None if the network does not have the address."""
    allocations = load_allocations(network, snapshot)
    record = allocations.records().get(int(address))
    if record is None and address not in network:
        return None
    has_block = not is_large(network) or shard_of(network, int(address)) in allocations.objects
    return AddressUse(network, address, record, has_block)
