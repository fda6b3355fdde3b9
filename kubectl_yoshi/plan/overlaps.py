"""What a network's CIDR must not share addresses with, whatever its back-end (invariant I1)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from kubectl_yoshi.model.addresses import Cidr
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import Network
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
    """The other networks, of any namespace that may be read, that share an address with this one."""
    return [
        other
        for other in known_networks(network.namespace, facts)
        if (other.namespace, other.name) != (network.namespace, network.name) and _overlap(network.cidr, other.cidr)
    ]


def is_older(network: Network, other: Network) -> bool:
    """Whether a network came before another: by its creation time, then by its uid, so that both agree on it."""
    return _birth(network) < _birth(other)


def overlaps(network: Network, facts: Facts) -> list[str]:
    """Everything that overlaps the network's CIDR: a sentence each that names the object.

    Raises:
        NeedMore: something was not read yet.
    """
    if network.cidr is None:
        return []
    found = [f"{network.cidr} overlaps network {o.full_name} ({o.cidr})" for o in rivals(network, facts)]
    return found + overlaps_cluster(network, facts)


def overlaps_cluster(network: Network, facts: Facts) -> list[str]:
    """The same without other networks: what the cluster itself uses, and what no VM can ever have.

    Raises:
        NeedMore: something was not read yet.
    """
    found = [
        f"{network.cidr} overlaps {cidr}, {why}" for cidr, why in NEVER_A_VMS.items() if _overlap(network.cidr, cidr)
    ]
    nodes = facts.ask(Read(NODE))
    others = [*_service_cidrs(facts), *(pair for node in nodes for pair in _of_node(node))]
    return found + [f"{network.cidr} overlaps {o} ({cidr})" for o, cidr in others if _overlap(network.cidr, cidr)]


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


def _birth(network: Network) -> tuple[str, str]:
    return str(dig(network.raw, "metadata", "creationTimestamp", default="9999")), network.uid
