"""Which network an address is of, where somebody names only the address."""

from __future__ import annotations

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.plan.books import SEE_NETWORKS, known_networks, open_whole


def network_having(address: Address, namespace: str, facts: Facts, plugin: str = "") -> Network:
    """The network whose CIDR has an address, else the one that holds it, else the only one without a CIDR.

    Args:
        address: which.
        namespace: whose networks without a CIDR come before those of others.
        facts: what was read.
        plugin: only networks of this one; "" for any.

    Raises:
        NeedMore: networks were not read yet.
        Refused: there is none, or several may have it.
    """
    networks = [n for n in known_networks(namespace, facts) if not plugin or n.plugin == plugin]
    having = [network for network in networks if address in network]
    open_ended = [network for network in networks if network.cidr is None]
    having = having or [n for n in open_ended if int(address) in open_whole(n, facts).records()]
    having = having or [n for n in open_ended if n.namespace == namespace] or open_ended
    kind = f"{plugin} network" if plugin else "network"
    if not having:
        raise Refused(
            f"{address} is in no {kind} that you may see",
            "A network without a cidr takes any address: `kubectl yoshi network create NAME --plugin public`."
            if plugin
            else f"{SEE_NETWORKS}.",
        )
    if len(having) > 1:
        names = ", ".join(network.full_name for network in having)
        raise Refused(f"{address} may be of several networks: {names}", "Name the network.")
    return having[0]
