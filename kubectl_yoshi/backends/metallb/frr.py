"""What FRR-K8s, the BGP daemon of MetalLB's "frr-k8s" mode, reports about its sessions and configuration.

Fields: https://github.com/metallb/frr-k8s/tree/main/api/v1beta1. With its other BGP modes MetalLB reports neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.objects import Json, Resource, dig

FRR_K8S = "frrk8s.metallb.io"
SESSION_STATE = Resource(FRR_K8S, "v1beta1", "bgpsessionstates", "BGPSessionState")
NODE_STATE = Resource(FRR_K8S, "v1beta1", "frrnodestates", "FRRNodeState", namespaced=False)

SUCCESS = "success"
"""The result of a conversion or a reload without errors."""


def get_peer(session: Json) -> Address | None:
    """Return the router's address in a BGPSessionState; None if it has none.

    The colons of an IPv6 address are written as dashes.
    """
    text = str(dig(session, "status", "peer", default=""))
    try:
        return ip_address(text if "." in text else text.replace("-", ":"))
    except ValueError:
        return None


def list_rejections(state: Json) -> Iterator[str]:
    """Yield why FRR did not accept its configuration, according to a FRRNodeState."""
    for field, meaning in (
        ("lastConversionResult", "the FRRConfigurations cannot be converted"),
        ("lastReloadResult", "FRR rejects the configuration"),
    ):
        result = str(dig(state, "status", field, default=""))
        if result and result != SUCCESS:
            yield f"{meaning}: {result}"


def has_config(state: Json) -> bool:
    """Return whether a FRRNodeState reports the running configuration, which a new one does not yet."""
    return bool(dig(state, "status", "runningConfig"))


def has_prefix(state: Json, address: Address) -> bool:
    """Return whether FRR's running configuration announces an address as a route of its own."""
    config = str(dig(state, "status", "runningConfig", default=""))
    prefix = re.escape(f"{address}/{address.max_prefixlen}")
    return re.search(rf"^\s*network {prefix}(\s|$)", config, re.MULTILINE) is not None
