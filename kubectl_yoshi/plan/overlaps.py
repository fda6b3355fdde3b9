"""What a network must not share addresses with, whatever its back-end (invariant I1)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from ipaddress import ip_address, ip_network

from kubectl_yoshi.model.addresses import Address, Cidr
from kubectl_yoshi.model.errors import Refused
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import outside_records
from kubectl_yoshi.model.network import Network, comes_first
from kubectl_yoshi.model.objects import Json, Resource, dig, name_of
from kubectl_yoshi.plan.books import known_networks

NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
SERVICECIDR = "servicecidrs.networking.k8s.io"

NEVER_A_VMS = {
    ip_network(text): why
    for text, why in {
        "0.0.0.0/8": "which means this host",  # RFC 1122 3.2.1.3
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",  # RFC 3927
        "224.0.0.0/4": "multicast",
        "255.255.255.255/32": "the broadcast address",
        "::/128": "which means no address",  # RFC 4291
        "::1/128": "loopback",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
    }.items()
}
"""Addresses that no VM can have on any network, and why."""


def rivals(network: Network, facts: Facts) -> list[Network]:
    """The other networks, of any namespace that may be read, whose CIDR shares an address with this one's."""
    return [other for other in _others(network, facts) if _overlap(network.cidr, other.cidr)]


def must_give_way_to_none(network: Network, facts: Facts, just_made: bool = False) -> None:
    """Raises Refused where a network that shares an address with this one is there first, and keeps it.

    Of two of which neither is made the older one is there first, and one that is made before one that is not
    (`comes_first`). A run that has made a network looks once more when its status says so: with `just_made` it then
    gives way to any other that is made. So of two runs that both say so, at least the one that said it later sees the
    other, whatever their clocks and uids are.

    Raises:
        NeedMore: the networks were not read yet.
    """
    for other in rivals(network, facts):
        if comes_first(other, network) or (just_made and network.is_made and other.is_made):
            raise Refused(f"{network.cidr} overlaps network {other.full_name} ({other.cidr})", "Choose another CIDR.")


def overlaps(network: Network, facts: Facts, foreseen: Iterable[Network] = ()) -> list[str]:
    """Everything that overlaps the network's CIDR: a sentence each that names the object.

    Args:
        foreseen: other networks, which are to be there by then.

    Raises:
        NeedMore: something was not read yet.
    """
    if network.cidr is None:
        return []
    others = [*rivals(network, facts), *(other for other in foreseen if _overlap(network.cidr, other.cidr))]
    found = [f"{network.cidr} overlaps network {o.full_name} ({o.cidr})" for o in others]
    return found + overlaps_beside(network, facts)


def overlaps_beside(network: Network, facts: Facts) -> list[str]:
    """The same without other networks' CIDRs: the addresses that others hold outside theirs, what the cluster itself
    uses, and what no VM can ever have.

    Raises:
        NeedMore: something was not read yet.
    """
    found = [
        f"{network.cidr} overlaps network {other.full_name}, which has {address} ({record.holder})"
        for other in _others(network, facts)
        for address, record in sorted(outside_records(other).items(), key=lambda item: int(item[0]))
        if address in network
    ]
    found += [
        f"{network.cidr} overlaps {cidr}, {why}" for cidr, why in NEVER_A_VMS.items() if _overlap(network.cidr, cidr)
    ]
    nodes = facts.ask(Read(NODE))
    others = [*_service_cidrs(facts), *(pair for node in nodes for pair in _of_node(node))]
    return found + [f"{network.cidr} overlaps {o} ({cidr})" for o, cidr in others if _overlap(network.cidr, cidr)]


class Neighbours:
    """The other networks, for asking of many addresses outside a network's CIDR whose they are.

    A record that was just written is asked about too: of two networks that record one address outside their CIDRs at
    the same time, the one that has written last sees the other.
    """

    def __init__(self, network: Network, facts: Facts) -> None:
        self._network = network
        self._facts = facts

    def must_not_have(self, address: Address) -> None:
        """Raises Refused where an address is another network's.

        Raises:
            NeedMore: the networks were not read yet; not for an address of the CIDR, which is the network's own.
        """
        if address in self._network:
            return
        for other, outside in self._others:
            if address in other or address in outside:
                raise Refused(
                    f"{address} is of network {other.full_name}, not of {self._network.full_name}",
                    f"Name network {other.full_name}, or choose another address.",
                )

    @cached_property
    def _others(self) -> list[tuple[Network, Collection[Address]]]:
        return [(other, outside_records(other)) for other in _others(self._network, self._facts)]


def _others(network: Network, facts: Facts) -> list[Network]:
    """The other networks that may be read, whatever their spec says."""
    networks = known_networks(network.namespace, facts, even_broken=True)
    return [other for other in networks if (other.namespace, other.name) != (network.namespace, network.name)]


def _service_cidrs(facts: Facts) -> Iterator[tuple[str, Cidr]]:
    resource = facts.served.resources.get(SERVICECIDR)
    if resource is None:
        return
    for obj in facts.ask(Read(resource)):
        for text in dig(obj, "spec", "cidrs", default=[]):
            yield f"servicecidr/{name_of(obj)}", ip_network(text, strict=False)


def _of_node(node: Json) -> Iterator[tuple[str, Cidr]]:
    for text in dig(node, "spec", "podCIDRs", default=[]) or [dig(node, "spec", "podCIDR")]:
        if text:
            yield f"the pod CIDR of node/{name_of(node)}", ip_network(text, strict=False)
    for address in dig(node, "status", "addresses", default=[]):
        if address.get("type") in ("InternalIP", "ExternalIP"):
            try:
                yield f"the address of node/{name_of(node)}", ip_network(ip_address(address["address"]))
            except ValueError:
                continue


def _overlap(one: Cidr | None, other: Cidr | None) -> bool:
    return one is not None and other is not None and one.version == other.version and one.overlaps(other)
