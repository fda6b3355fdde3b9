"""Which network an address is of, where somebody names only the address."""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.ledger import outside_records
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.plan.books import SEE_NETWORKS, known_networks


def network_having(address: Address, namespace: str, facts: Facts, plugin: str = "") -> Network:
    """The network that an address is of; see `candidates`.

    Args:
        address: which.
        namespace: whose networks come before those of others, where any may take it.
        facts: what was read.
        plugin: only networks of this one; "" for any.

    Raises:
        NeedMore: networks were not read yet.
        Refused: there is none, or several may have it.
    """
    networks = [n for n in known_networks(namespace, facts) if not plugin or n.plugin == plugin]
    having = candidates(address, networks, namespace)
    kind = f"{plugin} network" if plugin else "network"
    if not having:
        raise Refused(
            f"{address} is in no {kind} that you may see",
            "A public network takes any address of its family: `kubectl yoshi network create NAME --plugin public`."
            if plugin
            else f"{SEE_NETWORKS}.",
        )
    if len(having) > 1:
        names = ", ".join(network.full_name for network in having)
        raise Refused(f"{address} may be of several networks: {names}", "Name the network.")
    return having[0]


def candidates(address: Address, networks: Sequence[Network], namespace: str) -> list[Network]:
    """The networks that an address may be of: the one whose CIDR has it, else the one that holds it, else those that
    take any address, of which those without a CIDR come first, and then those of a namespace before others."""
    having = [network for network in networks if address in network]
    having = having or [network for network in networks if address in outside_records(network)]
    if having:
        return having
    able = [network for network in networks if network.takes_outside and network.may_hold(address)]
    able = [network for network in able if network.cidr is None] or able
    return [network for network in able if network.namespace == namespace] or able
