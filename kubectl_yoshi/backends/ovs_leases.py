"""What luigi's DHCP server has lent to machines: an IPAllocation each, named after the address.

All are in namespace "default", whatever the server's own, as the server's source has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubectl_yoshi.backends.ovs_spec import LEASE
from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.backend import How, Use
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import dig, name_of, namespace_of
from kubectl_yoshi.model.vm import Vm

NAMESPACE = "default"
MANY = 20
"""From this many addresses on, leases are listed at once instead of asked for one by one."""


def reads(network: Network, numbers: Intervals, facts: Facts) -> tuple[Read, ...]:
    """What to read to know who has been lent these addresses."""
    if LEASE not in facts.served or not numbers:
        return ()
    all_of_them = Read(LEASE, NAMESPACE)
    if numbers.size > MANY or all_of_them in facts.answers:
        return (all_of_them,)
    return tuple(Read(LEASE, NAMESPACE, str(network.address(number))) for number in numbers)


def lent(network: Network, wanted: Iterable[Read], by_mac: Mapping[str, Vm], facts: Facts) -> list[Use]:
    """The network's addresses that are lent, each to the VM that has the MAC address, if one of these has."""
    found = []
    for lease in facts.ask(*wanted):
        try:
            address = parse_address(name_of(lease))
        except UsageMistake:
            continue
        if address not in network:
            continue
        vm = by_mac.get(str(dig(lease, "spec", "macAddr", default="")).lower())
        whose = (vm.namespace, vm.name, vm.uid) if vm else ("", "", "")
        found.append(Use(int(address), How.LENT, LEASE.ref(name_of(lease), namespace_of(lease)), *whose))
    return found
