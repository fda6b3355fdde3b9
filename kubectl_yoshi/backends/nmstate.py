"""Read NodeNetworkConfigurationPolicies of Kubernetes NMState, with which administrators may create bridges on nodes.

Fields: https://github.com/nmstate/kubernetes-nmstate/tree/main/api/shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubectl_yoshi.model.objects import Json, Resource, dig

NNCP = Resource(
    "nmstate.io", "v1", "nodenetworkconfigurationpolicies", "NodeNetworkConfigurationPolicy", namespaced=False
)


def list_interfaces(policy: Json) -> set[str]:
    """Return the names of the interfaces, bridges and ports that a policy configures."""
    return set(_names(dig(policy, "spec", "desiredState", "interfaces", default=[])))


def _names(value: Any) -> Iterator[str]:
    """Yield the values of all keys "name" in nested objects and lists."""
    if isinstance(value, dict):
        if isinstance(value.get("name"), str):
            yield value["name"]
        for item in value.values():
            yield from _names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)


def degraded_reason(policy: Json) -> str:
    """Return why a policy could not be applied on a node; "" if it was, or is being applied."""
    for condition in dig(policy, "status", "conditions", default=[]):
        if condition.get("type") == "Degraded" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason") or "no reason is reported")
    return ""
