"""The scenarios, by subject: a module each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.golden.scenario import Scenario
from tests.golden.scenarios import (
    addresses,
    calico,
    failures,
    installing,
    layer2,
    legacy,
    permissions,
    public,
    status,
    usage,
    watching,
)

SUBJECTS: Mapping[str, Sequence[Scenario]] = {
    "calico": calico.SCENARIOS,
    "public": public.SCENARIOS,
    "layer2": layer2.SCENARIOS,
    "addresses": addresses.SCENARIOS,
    "legacy": legacy.SCENARIOS,
    "failures": failures.SCENARIOS,
    "permissions": permissions.SCENARIOS,
    "installing": installing.SCENARIOS,
    "status": status.SCENARIOS,
    "usage": usage.SCENARIOS,
    "watching": watching.SCENARIOS,
}
