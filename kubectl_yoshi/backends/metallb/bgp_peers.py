"""Define the spec and the comparison of MetalLB's BGPPeers.

Fields: https://metallb.io/apis/#bgppeer (v1beta2). Only MetalLB's webhook checks that a peering has an address and an
ASN, so both are always written.
"""

from __future__ import annotations

from ipaddress import ip_address

from kubectl_yoshi.backends.bgp_peers import BgpPeers
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.matching import Fields
from kubectl_yoshi.model.network import Network, Peer
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.snapshot import Snapshot

COMPARED_FIELDS = (
    "myASN",
    "peerASN",
    "dynamicASN",
    "ebgpMultiHop",
    "passwordSecret",
    "password",
    "nodeSelectors",
    "vrf",
)
FIELD_RULES = Fields(unordered=frozenset({"nodeSelectors"}), whole=frozenset({"nodeSelectors"}))


def metallb_bgp_peers(snapshot: Snapshot) -> BgpPeers:
    """Return the definition of MetalLB's BGPPeers, which are in MetalLB's namespace."""
    return BgpPeers(
        "MetalLB", metallb.PEER, metallb.own_namespace(snapshot), _spec, _get_peer_address, COMPARED_FIELDS, FIELD_RULES
    )


def _spec(network: Network, peer: Peer) -> Json:
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


def _get_peer_address(obj: Json) -> Address | None:
    try:
        return ip_address(str(dig(obj, "spec", "peerAddress")))
    except ValueError:
        return None
