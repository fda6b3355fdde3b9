"""The BGP sessions of Calico's nodes, as far as an administrator has created a CalicoNodeStatus for a node.

Fields: https://docs.tigera.io/calico/latest/reference/resources/caliconodestatus.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubectl_yoshi.backends.calico.api import V1, V3
from kubectl_yoshi.model.objects import Json, Resource, dig
from kubectl_yoshi.model.snapshot import ServedApis

V3_NODE_STATUS = Resource(V3, "v3", "caliconodestatuses", "CalicoNodeStatus", namespaced=False)
V1_NODE_STATUS = Resource(V1, "v1", "caliconodestatuses", "CalicoNodeStatus", namespaced=False)


def node_status_resource(served: ServedApis) -> Resource | None:
    """Return the resource through which CalicoNodeStatus is served; None if it is not."""
    return next((one for one in (V3_NODE_STATUS, V1_NODE_STATUS) if one.full_name in served.resources), None)


def iter_peers(status: Json) -> Iterator[tuple[str, str]]:
    """Yield the address and the session state of each BGP peer of a node."""
    for field in ("peersV4", "peersV6"):
        for peer in dig(status, "status", "bgp", field, default=[]):
            yield str(peer.get("peerIP", "")), str(peer.get("state", ""))
