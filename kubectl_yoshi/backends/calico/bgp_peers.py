"""Define the spec and the comparison of Calico's BGPPeers.

Fields: https://docs.tigera.io/calico/latest/reference/resources/bgppeer.
"""

from __future__ import annotations

from ipaddress import ip_address

from kubectl_yoshi.backends.bgp_peers import BgpPeers
from kubectl_yoshi.backends.calico.api import CalicoApi
from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.matching import Fields
from kubectl_yoshi.model.network import Network, Peer
from kubectl_yoshi.model.objects import Json, dig

COMPARED_FIELDS = ("asNumber", "reachableBy", "password", "node", "nodeSelector")
FIELD_RULES = Fields(defaults={"asNumber": 0, "nodeSelector": "all()"})


def calico_bgp_peers(api: CalicoApi) -> BgpPeers:
    """Return the definition of Calico's BGPPeers, which are cluster-scoped."""
    return BgpPeers("Calico", api.bgp_peer, None, _spec, _get_peer_address, COMPARED_FIELDS, FIELD_RULES)


def _spec(network: Network, peer: Peer) -> Json:
    assert network.bgp is not None
    spec: Json = {"peerIP": str(peer.address), "asNumber": network.bgp.remote_asn}
    if peer.reachable_by is not None:
        spec["reachableBy"] = str(peer.reachable_by)
    if peer.password_secret:
        spec["password"] = {"secretKeyRef": {"name": peer.password_secret, "key": "password"}}
    if labels := network.options.get("nodeSelector"):
        spec["nodeSelector"] = " && ".join(f"{key} == '{value}'" for key, value in sorted(labels.items()))
    return spec


def _get_peer_address(obj: Json) -> Address | None:
    """Return the address of peerIP, which may contain a port: 10.240.0.5:179, [2001:db8::5]:179."""
    text = str(dig(obj, "spec", "peerIP", default=""))
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ip_address(text)
    except ValueError:
        return None
