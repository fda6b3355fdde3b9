"""What luigi's DHCP server has lent to machines: an IPAllocation each, named after the address.

All are in namespace "default", whatever the server's own, as the server's source has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubectl_yoshi.backends.ovs.spec import LEASE
from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.backend import AddressUse, UsageKind
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import dig, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import Vm

NAMESPACE = "default"
LIST_THRESHOLD = 20
"""From this many addresses on, leases are listed at once instead of asked for one by one."""


def lease_queries(network: Network, numbers: Intervals, snapshot: Snapshot) -> tuple[Query, ...]:
    """What to read to know who has been lent these addresses."""
    if LEASE not in snapshot.served or not numbers:
        return ()
    all_leases = Query(LEASE, NAMESPACE)
    if numbers.size > LIST_THRESHOLD or all_leases in snapshot.results:
        return (all_leases,)
    return tuple(Query(LEASE, NAMESPACE, str(network.address(number))) for number in numbers)


def list_lease_uses(
    network: Network, queries: Iterable[Query], by_mac: Mapping[str, Vm], snapshot: Snapshot
) -> list[AddressUse]:
    """The network's addresses that are lent, each to the VM that has the MAC address, if one of these has."""
    found = []
    for lease in snapshot.lookup(*queries):
        try:
            address = parse_address(name_of(lease))
        except UsageError:
            continue
        if address not in network:
            continue
        vm = by_mac.get(str(dig(lease, "spec", "macAddr", default="")).lower())
        vm_fields = (vm.namespace, vm.name, vm.uid) if vm else ("", "", "")
        found.append(
            AddressUse(int(address), UsageKind.LEASED, LEASE.ref(name_of(lease), namespace_of(lease)), *vm_fields)
        )
    return found
