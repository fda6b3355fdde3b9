"""The mode of admission policies, according to their bindings."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from kubectl_yoshi.model.objects import Json, dig


class PolicyMode(enum.Enum):
    """What the API server does with a request that violates a policy."""

    ENFORCE = "enforce"
    AUDIT = "audit"
    OFF = "off"


ACTIONS = {PolicyMode.ENFORCE: ["Deny"], PolicyMode.AUDIT: ["Warn", "Audit"]}
"""The validationActions of the bindings."""


def mode_of(bindings: Iterable[Json]) -> PolicyMode:
    """Return the mode of the existing bindings of a policy, or of all policies: the stricter one if they differ."""
    actions = [action for binding in bindings for action in dig(binding, "spec", "validationActions", default=[])]
    if not actions:
        return PolicyMode.OFF
    return PolicyMode.ENFORCE if "Deny" in actions else PolicyMode.AUDIT
