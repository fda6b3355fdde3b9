"""MetalLB's BGPPeers: one for each router, shared by the networks that announce to it.

Fields: https://metallb.io/apis/#bgppeer (v1beta2). That a peering needs an address and an ASN is checked by MetalLB's
webhook only, so nothing is left out here.
"""

from __future__ import annotations

from ipaddress import ip_address

from kubectl_yoshi.backends import metallb
from kubectl_yoshi.backends.marks import first_marks, is_made_here, join
from kubectl_yoshi.model.change import Change, Verb
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import Network, Peer
from kubectl_yoshi.model.objects import Json, dig, name_of

COMPARED = ("myASN", "peerASN", "dynamicASN", "ebgpMultiHop", "passwordSecret", "password", "nodeSelectors", "vrf")


def peer_name(peer: Peer) -> str:
    """ "yoshi-10.240.0.5", "yoshi-2001-0db8-…-0005": a valid name for both families."""
    address = peer.address
    return f"yoshi-{address if address.version == 4 else address.exploded.replace(':', '-')}"


def peer_spec(network: Network, peer: Peer) -> Json:
    """A BGPPeer's spec."""
    assert network.bgp is not None
    spec: Json = {
        "myASN": network.bgp.my_asn,
        "peerASN": network.bgp.remote_asn,
        "peerAddress": str(peer.address),
    }
    if peer.multihop:
        spec["ebgpMultiHop"] = True
    if peer.password_secret:
        spec["passwordSecret"] = {"name": peer.password_secret}
    if labels := network.options.get("nodeSelector"):
        spec["nodeSelectors"] = [{"matchLabels": dict(labels)}]
    return spec


def find_peer(network: Network, peer: Peer, facts: Facts) -> tuple[Json | None, str]:
    """The BGPPeer that serves for a router, and what stands in the way ("" where nothing does)."""
    read = Read(metallb.PEER, metallb.home(facts))
    found = facts.ask(read)
    if why := facts.why_unknown(read):
        return None, f"whether MetalLB speaks to {peer.address} already cannot be told: {why}"
    wanted = peer_spec(network, peer)
    in_the_way = ""
    for obj in found:
        if not _is_to(obj, peer):
            if name_of(obj) == peer_name(peer) and not is_made_here(obj):
                in_the_way = f"bgppeer/{peer_name(peer)} exists and is another router's"
            continue
        differing = [key for key in COMPARED if _plain(dig(obj, "spec", key)) != _plain(wanted.get(key))]
        if not differing:
            return obj, ""
        key = differing[0]
        in_the_way = (
            f"bgppeer/{name_of(obj)} speaks to {peer.address} with {key} {_shown(dig(obj, 'spec', key))}, "
            f"and this network wants {_shown(wanted.get(key))}"
        )
    return None, in_the_way


def _is_to(obj: Json, peer: Peer) -> bool:
    try:
        return ip_address(str(dig(obj, "spec", "peerAddress"))) == peer.address
    except ValueError:
        return False


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if item} or None
    return value or None


def _shown(value: object) -> str:
    return "none" if value in (None, "", [], {}) else str(value)


def build_peers(network: Network, facts: Facts) -> tuple[tuple[Change, ...], list[str]]:
    """What makes the BGPPeers, and the names of all that serve."""
    changes: list[Change] = []
    names: list[str] = []
    for peer in network.bgp.peers if network.bgp else ():
        obj, _ = find_peer(network, peer, facts)
        if obj is None:
            ref = metallb.PEER.ref(peer_name(peer), metallb.home(facts))
            body = {
                "apiVersion": metallb.PEER.api_version,
                "kind": metallb.PEER.kind,
                "metadata": {"name": ref.name, "namespace": ref.namespace, "annotations": first_marks(network)},
                "spec": peer_spec(network, peer),
            }
            changes.append(Change(Verb.CREATE, ref, f"have MetalLB speak BGP with {peer.address}", body=body))
            names.append(ref.name)
            continue
        names.append(name_of(obj))
        if change := join(metallb.PEER.ref(name_of(obj), metallb.home(facts)), obj, network):
            changes.append(change)
    return tuple(changes), names
