"""Which network an address is of, where somebody names only the address."""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.allocations import allocations_outside_cidr
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.records import LIST_NETWORKS_HINT, list_networks


def find_network_of(address: Address, namespace: str, snapshot: Snapshot, plugin: str = "") -> Network:
    """The network that an address is of; see `find_candidate_networks`.

    Args:
        address: which.
        namespace: whose networks come before those of others, where any may take it.
        snapshot: what was read.
        plugin: only networks of this one; "" for any.

    Raises:
        MissingQueriesError: networks were not read yet.
        PreconditionFailed: there is none, or several may have it.
    """
    networks = [n for n in list_networks(namespace, snapshot) if not plugin or n.plugin == plugin]
    matches = find_candidate_networks(address, networks, namespace)
    kind = f"{plugin} network" if plugin else "network"
    if not matches:
        raise PreconditionFailed(
            f"{address} is in no {kind} that you may see",
            "A public network takes any address of its family: `kubectl yoshi network create NAME --plugin public`."
            if plugin
            else f"{LIST_NETWORKS_HINT}.",
        )
    if len(matches) > 1:
        names = ", ".join(network.full_name for network in matches)
        raise PreconditionFailed(f"{address} may be of several networks: {names}", "Name the network.")
    return matches[0]


def find_candidate_networks(address: Address, networks: Sequence[Network], namespace: str) -> list[Network]:
    """The networks that an address may be of: the one whose CIDR has it, else the one that holds it, else those that
    take any address, of which those without a CIDR come first, and then those of a namespace before others."""
    matches = [network for network in networks if address in network]
    matches = matches or [network for network in networks if address in allocations_outside_cidr(network)]
    if matches:
        return matches
    eligible = [network for network in networks if network.accepts_outside_cidr and network.can_hold(address)]
    eligible = [network for network in eligible if network.cidr is None] or eligible
    return [network for network in eligible if network.namespace == namespace] or eligible
