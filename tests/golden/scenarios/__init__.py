"""The scenarios, by subject: a module each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.golden.scenario import Scenario
from tests.golden.scenarios import (
    addresses,
    calico,
)

SUBJECTS: Mapping[str, Sequence[Scenario]] = {
    "calico": calico.SCENARIOS,
    "addresses": addresses.SCENARIOS,
}
