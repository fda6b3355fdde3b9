"""What a network must not share addresses with, whatever its backend (invariant I1).

Two networks with overlapping CIDRs that are created at the same moment both pass the check. Each run then looks again,
and once more when its network's status says that it is created. A network that is not created yields to one that is; of
two that are not, the younger one yields (creation time, then uid); of two that are, the one whose run is still looking:
so at most one stays, whatever their clocks and uids say. A network that is not created assigns no address to a new VM,
and `ips rebuild` initializes no network that another one overlaps.

Outside its CIDR, or without one, a public network takes any address that no other network has: in no CIDR, and recorded
by no other network outside its own. Such an allocation is written alone; then all networks are read again, and a run
that finds its address with another network rolls its allocation back before any VM has it. `network create` checks the
allocations outside all CIDRs in the same way. So of two simultaneous writers, the last one sees the other. A network
whose spec is invalid keeps what its CIDR and its allocations say.

A new network's CIDR is compared with nodes and ServiceCIDRs as far as these may be read, with a note of what was not: a
tenant who creates a network may read neither.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from ipaddress import ip_address, ip_network

from kubectl_yoshi.model.addresses import Address, Cidr, overlap
from kubectl_yoshi.model.allocations import allocations_outside_cidr
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network, has_precedence
from kubectl_yoshi.model.objects import NODE, Json, dig, name_of
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.plan.network_lookup import list_networks

SERVICECIDR = "servicecidrs.networking.k8s.io"

RESERVED_RANGES = {
    ip_network(text): reason
    for text, reason in {
        "0.0.0.0/8": "reserved for this host",  # RFC 1122 3.2.1.3
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",  # RFC 3927
        "224.0.0.0/4": "multicast",
        "255.255.255.255/32": "the broadcast address",
        "::/128": "the unspecified address",  # RFC 4291
        "::1/128": "loopback",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
    }.items()
}
"""Addresses that no VM can have on any network, and why."""


def find_overlapping_networks(network: Network, snapshot: Snapshot) -> list[Network]:
    """Return the other networks whose CIDR shares an address with this one's, in all namespaces that can be read."""
    return [other for other in _other_networks(network, snapshot) if overlap(network.cidr, other.cidr)]


def check_no_earlier_overlap(network: Network, snapshot: Snapshot, just_created: bool = False) -> None:
    """Check that no network with precedence shares an address with this one.

    Of two networks that are not created yet, the older one has precedence; a created one has precedence over one that
    is not (`has_precedence`). A run that has created a network checks again once the status says so: with
    `just_created`, it yields to any other created network. Of two runs that both write this status, at least the later
    one sees the other network, independent of their clocks and uids.

    Raises:
        PreconditionFailed: there is such a network.
    """
    for other in find_overlapping_networks(network, snapshot):
        if has_precedence(other, network) or (just_created and network.is_created and other.is_created):
            raise PreconditionFailed(
                f"{network.cidr} overlaps network {other.full_name} ({other.cidr})", "Choose another CIDR."
            )


def find_overlaps(network: Network, snapshot: Snapshot, planned: Iterable[Network] = ()) -> list[str]:
    """Return everything that overlaps the network's CIDR: a sentence each that names the object.

    Args:
        planned: other networks that will exist by then.
    """
    if network.cidr is None:
        return []
    others = [
        *find_overlapping_networks(network, snapshot),
        *(other for other in planned if overlap(network.cidr, other.cidr)),
    ]
    found = [f"{network.cidr} overlaps network {o.full_name} ({o.cidr})" for o in others]
    return found + find_other_overlaps(network, snapshot)


def find_other_overlaps(network: Network, snapshot: Snapshot) -> list[str]:
    """Return all overlaps except those with CIDRs of other networks.

    These are addresses that other networks hold outside their CIDRs, addresses that the cluster itself uses, and those
    that no VM can have.
    """
    found = [
        f"{network.cidr} overlaps network {other.full_name}, which has {address} ({record.holder})"
        for other in _other_networks(network, snapshot)
        for address, record in sorted(allocations_outside_cidr(other).items(), key=lambda item: int(item[0]))
        if address in network
    ]
    found += [
        f"{network.cidr} overlaps {cidr}, {reason}"
        for cidr, reason in RESERVED_RANGES.items()
        if overlap(network.cidr, cidr)
    ]
    snapshot.prefetch(Query(NODE), *_service_cidr_queries(snapshot))
    nodes = snapshot.lookup(Query(NODE))
    others = [*_service_cidrs(snapshot), *(pair for node in nodes for pair in _node_cidrs(node))]
    return found + [f"{network.cidr} overlaps {o} ({cidr})" for o, cidr in others if overlap(network.cidr, cidr)]


class OtherNetworks:
    """The other networks, to check many addresses outside a network's CIDR.

    Records that were just written are checked too: of two networks that record one address outside their CIDRs at the
    same time, the later writer sees the other one.
    """

    def __init__(self, network: Network, snapshot: Snapshot) -> None:
        self._network = network
        self._snapshot = snapshot

    def check_not_theirs(self, address: Address) -> None:
        """Raise PreconditionFailed if an address belongs to another network."""
        if address in self._network:
            return
        for other, outside in self._other_networks:
            if address in other or address in outside:
                raise PreconditionFailed(
                    f"{address} belongs to network {other.full_name}, not to {self._network.full_name}",
                    f"Name network {other.full_name}, or choose another address.",
                )

    @cached_property
    def _other_networks(self) -> list[tuple[Network, Collection[Address]]]:
        return [(other, allocations_outside_cidr(other)) for other in _other_networks(self._network, self._snapshot)]


def _other_networks(network: Network, snapshot: Snapshot) -> list[Network]:
    """Return the other networks that can be read, including those with an invalid spec."""
    networks = list_networks(network.namespace, snapshot, include_invalid=True)
    return [other for other in networks if (other.namespace, other.name) != (network.namespace, network.name)]


def _service_cidr_queries(snapshot: Snapshot) -> list[Query]:
    resource = snapshot.served.resources.get(SERVICECIDR)
    return [] if resource is None else [Query(resource)]


def _service_cidrs(snapshot: Snapshot) -> Iterator[tuple[str, Cidr]]:
    for obj in snapshot.lookup(*_service_cidr_queries(snapshot)):
        for text in dig(obj, "spec", "cidrs", default=[]):
            yield f"servicecidr/{name_of(obj)}", ip_network(text, strict=False)


def _node_cidrs(node: Json) -> Iterator[tuple[str, Cidr]]:
    for text in dig(node, "spec", "podCIDRs", default=[]) or [dig(node, "spec", "podCIDR")]:
        if text:
            yield f"the pod CIDR of node/{name_of(node)}", ip_network(text, strict=False)
    for address in dig(node, "status", "addresses", default=[]):
        if address.get("type") in ("InternalIP", "ExternalIP"):
            try:
                yield f"the address of node/{name_of(node)}", ip_network(ip_address(address["address"]))
            except ValueError:
                continue
