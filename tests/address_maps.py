"""Networks and inventories for tests and measurements of maps, without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.backend import AddressUse
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.plan.inventory import InventoryRow

WITHOUT_RECORD = (AddressState.UNRECORDED, AddressState.LEASED, AddressState.RELEASED)
SINCE = "2026-01-01T00:00:00Z"


def network_of(cidr: str, plugin: str = "calico", **spec: Any) -> Network:
    """Return network prod/blue; cidr "" for none."""
    spec = {"plugin": plugin, **({"cidr": cidr} if cidr else {}), **spec}
    return parse_network({"metadata": {"namespace": "prod", "name": "blue", "uid": "u"}, "spec": spec})


def row_of(
    network: Network,
    address: str | int,
    state: AddressState = AddressState.BOUND,
    *,
    running: bool = True,
    holder: str = "web-1",
    note: str = "",
    uses: Sequence[AddressUse] = (),
) -> InventoryRow:
    """Return an address of an inventory, with a record if its state has one."""
    number = int(parse_address(address)) if isinstance(address, str) else address
    kind = RESERVATION if state is AddressState.RESERVED else VIRTUALMACHINE
    record = None if state in WITHOUT_RECORD else Allocation(kind, "prod", holder, since=SINCE, note=note)
    return InventoryRow(network, str(network.address(number)), number, state, record, tuple(uses), None, running)
