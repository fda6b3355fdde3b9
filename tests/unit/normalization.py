"""Objects as an API server may normalize them.

Like Go's omitempty it leaves out what is false or empty; it adds defaults, orders lists in its own way, and writes IPv6
addresses in a form of its own (the longest, in capitals). To show what is shown once more changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv6Interface, ip_interface
from typing import Any

Json = dict[str, Any]

UNORDERED = frozenset(
    {"allowedUses", "interfaces", "ipAddressPoolSelectors", "ipAddressPools", "nodeSelectors", "peers"}
    | {"serviceExternalIPs", "serviceLoadBalancerIPs"}
)
"""Lists in which the order carries no meaning."""

DEFAULTS: dict[str, Json] = {
    "ippools": {"namespaceSelector": "all()", "deletionPolicy": "Retain"},
    "bgppeers": {"peerPort": 179, "sourceAddress": "UseNodeIP", "holdTime": "90s"},
    "bgpconfigurations": {"logSeverityScreen": "Info", "serviceLoadBalancerAggregation": "Enabled"},
    "ipaddresspools": {"serviceAllocation": {"priority": 50}},
    "l2advertisements": {"interfaceSelection": "Any"},
    "bgpadvertisements": {"localPref": 100},
    "network-attachment-definitions": {"revision": 1},
    "hostnetworktemplates": {"ovsConfig": [{"failMode": "standalone", "params": {"fastPath": "auto"}}]},
    "dhcpservers": {"networks": [{"leaseFile": "/var/lib/leases", "cidr": {"dns": "none"}}], "replicas": 1},
}
"""The kinds that are shown in this way, by plural, and what is added to each one's spec. Core objects, and those of
this program's own kinds, a real server shows as they were written."""


def normalized(obj: Json, plural: str) -> Json:
    """Return an object as the server shows it; the input is not changed."""
    if plural not in DEFAULTS or not isinstance(obj.get("spec"), dict):
        return obj
    return {**obj, "spec": _with(DEFAULTS[plural], _shown(obj["spec"], ""))}


def denormalized(obj: Json) -> Json:
    """Return a shown object as it can be stored, with IPv6 addresses in the usual form."""
    return {**obj, "spec": _with_ipv6(obj["spec"], lambda value: value.compressed)} if "spec" in obj else obj


def without_empty(value: Any) -> Any:
    """Return a value as Go's omitempty leaves it."""
    if isinstance(value, dict):
        kept = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in ("", [], {}, None) and item is not False}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


def _shown(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return without_empty({key: _shown(item, key) for key, item in value.items()})
    if isinstance(value, list):
        items = [_shown(item, name) for item in value]
        if name in UNORDERED:
            items.sort(key=lambda item: json.dumps(item, sort_keys=True), reverse=True)
        return items
    return _with_ipv6(value, lambda interface: interface.exploded.upper())


def _with(defaults: Any, value: Any) -> Any:
    """Return a value with defaults for missing fields; of a list, for each of its entries."""
    if isinstance(defaults, dict) and isinstance(value, dict):
        return {
            **defaults,
            **value,
            **{key: _with(defaults[key], value[key]) for key in defaults.keys() & value.keys()},
        }
    if isinstance(defaults, list) and isinstance(value, list):
        return [_with(defaults[0], item) for item in value]
    return value


def _with_ipv6(value: Any, written: Callable[[IPv6Interface], str]) -> Any:
    """Return a value with each IPv6 address, CIDR or range end formatted by `written`."""
    if isinstance(value, dict):
        return {key: _with_ipv6(item, written) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_ipv6(item, written) for item in value]
    if not isinstance(value, str) or ":" not in value:
        return value
    parts = []
    for part in value.split("-"):
        try:
            interface = ip_interface(part)
        except ValueError:
            return value
        if not isinstance(interface, IPv6Interface):
            return value
        text = written(interface)
        parts.append(text if "/" in part else text.partition("/")[0])
    return "-".join(parts)
